//! What an answer is filed under: lowercased name, type, class, DO and CD.
//!
//! Never the ID, a cookie, padding or the EDNS size: those belong to the client, not to the answer.

use super::{NAME_MAX, header};
use crate::simd::{self, BLOCK};

const WORDS: usize = NAME_MAX.div_ceil(BLOCK) * 2;

/// Type, class, DO, CD and the name's length, packed to be compared at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meta(pub u64);

impl Meta {
    const DO: u64 = 1 << 32;
    const CD: u64 = 1 << 33;

    #[inline(always)]
    fn new(qtype: u16, qclass: u16, name_len: usize) -> Self {
        Meta(u64::from(qtype) | u64::from(qclass) << 16 | (name_len as u64) << 40)
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

    /// Length of the name on the wire.
    #[inline(always)]
    pub fn name_len(self) -> usize {
        (self.0 >> 40) as usize & 0xff
    }
}

/// A key: the name lowercased in whole words, zero-padded, so that hash and comparison go eight bytes at a time.
#[derive(Clone, Debug)]
pub struct Key {
    meta: Meta,
    words: [u64; WORDS],
}

impl Default for Key {
    fn default() -> Self {
        Key { meta: Meta::default(), words: [0; WORDS] }
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
    /// Fills in name, type and class. The name is the checked one at `buffer[12..end]`; what follows it in `buffer` is
    /// read where there is any, and ignored.
    #[inline(always)]
    pub(super) fn set(&mut self, buffer: &[u8], end: usize, qtype: u16, qclass: u16) {
        let len = end - header::LEN;
        let mut name = &buffer[header::LEN..];
        let mut left = len;
        for to in self.words.as_chunks_mut::<2>().0 {
            match name.split_first_chunk::<BLOCK>() {
                Some((block, rest)) => {
                    *to = simd::lowercase(block, left);
                    name = rest;
                }
                None => *to = simd::lowercase(&last_block(name), left),
            }
            if left <= BLOCK {
                break;
            }
            left -= BLOCK;
        }
        self.meta = Meta::new(qtype, qclass, len);
    }

    /// Files the answer under what the client's flags ask for.
    #[inline(always)]
    pub(super) fn set_flags(&mut self, dnssec_ok: bool, checking_disabled: bool) {
        self.meta.0 |= u64::from(dnssec_ok) << 32 | u64::from(checking_disabled) << 33;
    }

    /// Everything but the name.
    #[inline(always)]
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The lowercased name's bytes in little-endian words, zero-padded.
    #[inline(always)]
    pub fn words(&self) -> &[u64] {
        &self.words[..self.meta.name_len().div_ceil(8)]
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
fn last_block(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}
