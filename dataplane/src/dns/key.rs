//! Keys that answers are filed under: lowercased name, type, class, DO and CD.
//!
//! A key never includes the ID, a cookie, padding or the EDNS size: they belong to the client, not
//! to the answer.

use super::{CLASS_IN, QUESTION_MAX};
use crate::simd::{BLOCK, Block};

const BLOCKS: usize = QUESTION_MAX.div_ceil(BLOCK);

/// Flags of a query that its answer depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// DNSSEC records are wanted (RFC 3225).
    pub const DO: u8 = 0x01;
    /// Unvalidated data is wanted (RFC 4035). The bit has the same position as in the fourth byte
    /// of a message.
    pub const CD: u8 = 0x10;
}

/// Key of an answer: the wire-format question with a lowercased name, in whole blocks with zeros at
/// the end, so that hash and comparison work on blocks. No question is the start of another: one
/// ends with the four bytes after its name's zero.
#[derive(Clone, Debug)]
pub struct Key {
    blocks: [Block; BLOCKS],
    len: u16,
    flags: Flags,
}

impl Default for Key {
    /// Returns the key of the root's addresses.
    fn default() -> Self {
        let mut key = Key { blocks: [[0; BLOCK]; BLOCKS], len: 0, flags: Flags::default() };
        key.set(&[0, 0, 1, 0, CLASS_IN as u8], false);
        key
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.asked() == other.asked()
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.asked().hash(state);
    }
}

impl Key {
    /// Sets the key to a checked question: a name, type and class. DO is not set.
    pub(super) fn set(&mut self, question: &[u8], checking_disabled: bool) {
        let len = question.len().min(QUESTION_MAX);
        // A store of fixed size: the bytes after the question alone would take a call.
        if let Some(last) = self.blocks.get_mut(len / BLOCK) {
            *last = [0; BLOCK];
        }
        self.blocks.as_flattened_mut()[..len].copy_from_slice(&question[..len]);
        // Whole blocks, which take vectors, and then type and class once more, which have no case.
        self.blocks.iter_mut().take(len.div_ceil(BLOCK)).for_each(lower);
        let name = len.saturating_sub(4);
        if let (Some(to), Some(end)) =
            (self.blocks.as_flattened_mut().get_mut(name..), question.get(name..len))
            && let (Some(to), Some(end)) = (to.first_chunk_mut::<4>(), end.first_chunk())
        {
            *to = *end;
        }
        self.len = len as u16;
        self.flags = Flags(if checking_disabled { Flags::CD } else { 0 });
    }

    /// Sets the key to a checked and lowercased question of one block. DO is not set.
    #[inline(always)]
    pub(super) fn set_block(&mut self, question: Block, len: usize, checking_disabled: bool) {
        self.blocks[0] = question;
        self.len = len.min(BLOCK) as u16;
        self.flags = Flags(if checking_disabled { Flags::CD } else { 0 });
    }

    /// Adds DO to the key.
    pub(crate) fn set_dnssec_ok(&mut self, dnssec_ok: bool) {
        self.flags.0 |= if dnssec_ok { Flags::DO } else { 0 };
    }

    /// Returns the key borrowed, without padding.
    pub fn asked(&self) -> Asked<'_> {
        Asked { question: self.question(), flags: self.flags }
    }

    /// Returns DO and CD.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Returns the wire-format name, lowercased, with type and class.
    pub fn question(&self) -> &[u8] {
        &self.blocks.as_flattened()[..usize::from(self.len)]
    }

    /// Returns the question in whole blocks, with zeros after its end.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks[..usize::from(self.len).div_ceil(BLOCK)]
    }
}

/// Borrowed key, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked<'a> {
    /// Wire-format name, lowercased, with type and class.
    pub question: &'a [u8],
    /// DO and CD.
    pub flags: Flags,
}

impl<'a> Asked<'a> {
    /// Returns the lowercased wire-format name.
    pub fn name(&self) -> &'a [u8] {
        self.question.split_last_chunk::<4>().map_or(&[], |(name, _)| name)
    }

    /// Returns the type asked for.
    pub fn qtype(&self) -> u16 {
        let [.., t1, t0, _, _] = *self.question else { return 0 };
        u16::from_be_bytes([t1, t0])
    }

    /// Returns the class asked for.
    pub fn qclass(&self) -> u16 {
        let [.., c1, c0] = *self.question else { return 0 };
        u16::from_be_bytes([c1, c0])
    }

    /// Whether DNSSEC records are wanted (RFC 3225).
    pub fn dnssec_ok(&self) -> bool {
        self.flags.0 & Flags::DO != 0
    }

    /// Whether unvalidated data is wanted (RFC 4035).
    pub fn checking_disabled(&self) -> bool {
        self.flags.0 & Flags::CD != 0
    }
}

/// Lowercases a block in a loop that the compiler turns into vectors.
#[inline(always)]
fn lower(block: &mut Block) {
    *block = block.map(|byte| byte.to_ascii_lowercase());
}

impl std::fmt::Display for Key {
    /// Writes the name in presentation format, with bytes other than letters, digits, `-`, `_` and
    /// `*` as `\DDD` (RFC 4343), then the type's number: `example.com. 1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        display_name(self.asked().name(), f)?;
        write!(f, " {}", self.asked().qtype())
    }
}

/// Whether a byte of a label stands for itself in presentation format; other bytes are escaped.
#[inline]
pub fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*')
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
            match is_plain(*byte) {
                true => f.write_char(char::from(*byte))?,
                false => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_char('.')?;
        rest = tail;
    }
    Ok(())
}
