//! What an answer is filed under: lowercased name, type, class, DO and CD.
//!
//! Never the ID, a cookie, padding or the EDNS size: those belong to the client, not to the answer.

use super::NAME_MAX;
use crate::simd::{self, BLOCK, Block};

const BLOCKS: usize = NAME_MAX.div_ceil(BLOCK);

/// Type, class, DO, CD and the name's length in bytes and in blocks, packed to be compared at once. The upper byte is unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta(pub u64);

impl Meta {
    const DO: u64 = 1 << 32;
    const CD: u64 = 1 << 33;

    #[inline(always)]
    fn new(question: u32, NameLen { bytes: name_len, last_block: last }: NameLen) -> Self {
        // The type first, as it stands in a question.
        Meta(u64::from(question.rotate_left(16)) | (name_len as u64) << 40 | (last as u64) << 48)
    }

    /// The type asked for.
    #[inline(always)]
    pub fn qtype(self) -> u16 {
        self.0 as u16
    }

    /// The class asked for.
    #[inline(always)]
    pub fn qclass(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether DNSSEC records are wanted (RFC 3225).
    #[inline(always)]
    pub fn dnssec_ok(self) -> bool {
        self.0 & Self::DO != 0
    }

    /// Whether unvalidated data is wanted (RFC 4035).
    #[inline(always)]
    pub fn checking_disabled(self) -> bool {
        self.0 & Self::CD != 0
    }

    /// The last of the blocks that a name is stored in, counted from 0.
    #[inline(always)]
    pub fn last_block(self) -> usize {
        (self.0 >> 48) as usize % BLOCKS
    }

    /// Length of the name on the wire.
    #[inline(always)]
    pub fn name_len(self) -> usize {
        (self.0 >> 40) as usize & 0xff
    }
}

/// Length of a name.
#[derive(Clone, Copy)]
pub(super) struct NameLen {
    pub bytes: usize,
    last_block: usize,
}

/// A key: the name lowercased in whole blocks, zero-padded, so that hash and comparison go by blocks.
#[derive(Clone, Debug)]
pub struct Key {
    meta: Meta,
    words: [[u64; 2]; BLOCKS],
}

impl Default for Key {
    fn default() -> Self {
        Key { meta: Meta::default(), words: [[0; 2]; BLOCKS] }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.meta == other.meta && self.words() == other.words()
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.meta.0);
        for word in self.words() {
            state.write_u64(*word);
        }
    }
}

impl Key {
    /// Fills in the checked name at the start of `name`, which is `len` bytes long. What follows it is read where there
    /// is any, and ignored.
    pub(super) fn set_name(&mut self, name: &[u8], len: usize) -> NameLen {
        let last_block = (len.max(1) - 1) / BLOCK;
        for (at, to) in self.words[..=last_block].iter_mut().enumerate() {
            let rest = &name[(at * BLOCK).min(name.len())..];
            let block = rest.first_chunk::<BLOCK>().copied().unwrap_or_else(|| end_of(rest));
            let last = if at == last_block { (len.max(1) - 1) % BLOCK } else { BLOCK - 1 };
            *to = words(simd::up_to(simd::lowercase(block), last));
        }
        NameLen { bytes: len, last_block }
    }

    /// Fills in the name at the start of `name`, if one it is: what reaches to the first zero. Returns its length; `None`
    /// where there is no zero, or too little after it to be read in whole blocks. `visit` sees the [blocks](Self::blocks)
    /// as they come by.
    #[inline(always)]
    pub(super) fn set_name_to_zero(
        &mut self,
        name: &[u8],
        mut visit: impl FnMut([u64; 2]),
    ) -> Option<NameLen> {
        for ((at, to), block) in self.words.iter_mut().enumerate().zip(name.as_chunks::<BLOCK>().0) {
            let lowered = simd::lowercase(*block);
            let zeros = simd::zeros(*block);
            if zeros != 0 {
                let last = zeros.trailing_zeros() as usize;
                *to = words(simd::up_to(lowered, last));
                visit(*to);
                return Some(NameLen { bytes: at * BLOCK + last + 1, last_block: at });
            }
            *to = words(lowered);
            visit(*to);
        }
        None
    }

    /// Fills in all but the name, which is `name` long, and DO. `question` is the type, and the class below it.
    #[inline(always)]
    pub(super) fn set_meta(&mut self, question: u32, checking_disabled: bool, name: NameLen) {
        self.meta = Meta::new(question, name);
        self.meta.0 |= u64::from(checking_disabled) * Meta::CD;
    }

    /// Files the answer under what DO asks for.
    #[inline(always)]
    pub(super) fn set_dnssec_ok(&mut self, dnssec_ok: bool) {
        self.meta.0 |= u64::from(dnssec_ok) * Meta::DO;
    }

    /// Everything but the name.
    #[inline(always)]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The lowercased name's bytes in little-endian words, zero-padded to whole blocks.
    #[inline(always)]
    pub fn words(&self) -> &[u64] {
        self.blocks().as_flattened()
    }

    /// The same by blocks.
    #[inline(always)]
    pub fn blocks(&self) -> &[[u64; 2]] {
        &self.words[..=self.meta.last_block()]
    }

    /// One of the name's [blocks](Self::blocks); zeros after the last.
    #[inline(always)]
    pub fn block(&self, at: usize) -> [u64; 2] {
        self.words[at % BLOCKS]
    }

    /// The lowercased name on the wire.
    pub fn name(&self) -> impl Iterator<Item = u8> + '_ {
        self.words().iter().flat_map(|w| w.to_le_bytes()).take(self.meta.name_len())
    }
}

impl std::fmt::Display for Key {
    /// The name as people write it, with what is not a letter, digit, `-` or `_` as `\DDD` (RFC 4343), then the
    /// type's number: `example.com. 1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name: Vec<u8> = self.name().collect();
        display_name(&name, f)?;
        write!(f, " {}", self.meta.qtype())
    }
}

/// Writes an uncompressed name in presentation format.
pub fn display_name(name: &[u8], f: &mut impl std::fmt::Write) -> std::fmt::Result {
    let mut rest = name;
    if rest.first() == Some(&0) {
        return f.write_char('.');
    }
    while let Some((len, tail)) = rest.split_first() {
        if *len == 0 {
            break;
        }
        let (label, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        for byte in label {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => {
                    f.write_char(char::from(*byte))?
                }
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_char('.')?;
        rest = tail;
    }
    Ok(())
}

/// What is left of a buffer that ends within a block.
#[cold]
fn end_of(rest: &[u8]) -> Block {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[inline(always)]
fn words(block: Block) -> [u64; 2] {
    let words: [[u8; 8]; 2] = zerocopy::transmute!(block);
    words.map(u64::from_le_bytes)
}
