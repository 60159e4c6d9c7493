//! What an answer is filed under: lowercased name, type, class, DO and CD.
//!
//! Never the ID, a cookie, padding or the EDNS size: those belong to the client, not to the answer.

use super::{CLASS_IN, QUESTION_MAX};
use crate::simd::{BLOCK, Block};

const BLOCKS: usize = QUESTION_MAX.div_ceil(BLOCK);

/// What an answer depends on beside the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// DNSSEC records are wanted (RFC 3225).
    pub const DO: u8 = 0x01;
    /// Unvalidated data is wanted (RFC 4035); where it stands in a message's fourth byte.
    pub const CD: u8 = 0x10;
}

/// A key: the question as on the wire, but its name lowercased, in whole blocks with zeros at the end, so that hash and
/// comparison go by blocks. No question is the start of another: one ends with the four bytes after its name's zero.
#[derive(Clone, Debug)]
pub struct Key {
    blocks: [Block; BLOCKS],
    len: u16,
    flags: Flags,
}

impl Default for Key {
    /// The root's addresses.
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
    /// Fills in a checked question: a name, type and class. DO is not set.
    pub(super) fn set(&mut self, question: &[u8], checking_disabled: bool) {
        let len = question.len().min(QUESTION_MAX);
        let to = self.blocks.as_flattened_mut();
        to[..len].copy_from_slice(&question[..len]);
        to[..len.saturating_sub(4)].make_ascii_lowercase();
        to[len..len.next_multiple_of(BLOCK)].fill(0);
        self.len = len as u16;
        self.flags = Flags(if checking_disabled { Flags::CD } else { 0 });
    }

    /// Files the answer under what DO asks for.
    pub(super) fn set_dnssec_ok(&mut self, dnssec_ok: bool) {
        self.flags.0 |= if dnssec_ok { Flags::DO } else { 0 };
    }

    /// What is asked, in no more bytes than that takes.
    pub fn asked(&self) -> Asked<'_> {
        Asked { question: self.question(), flags: self.flags }
    }

    /// DO and CD.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// Name, type and class on the wire, the name lowercased.
    pub fn question(&self) -> &[u8] {
        &self.blocks.as_flattened()[..usize::from(self.len)]
    }

    /// The question in whole blocks, with zeros after its end.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks[..usize::from(self.len).div_ceil(BLOCK)]
    }
}

/// What is asked: a key borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked<'a> {
    /// Name, type and class on the wire, the name lowercased.
    pub question: &'a [u8],
    /// DO and CD.
    pub flags: Flags,
}

impl<'a> Asked<'a> {
    /// The lowercased name on the wire.
    pub fn name(&self) -> &'a [u8] {
        self.question.split_last_chunk::<4>().map_or(&[], |(name, _)| name)
    }

    /// The type asked for.
    pub fn qtype(&self) -> u16 {
        let [.., t1, t0, _, _] = *self.question else { return 0 };
        u16::from_be_bytes([t1, t0])
    }

    /// The class asked for.
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

impl std::fmt::Display for Key {
    /// The name as people write it, with what is not a letter, digit, `-` or `_` as `\DDD` (RFC 4343), then the
    /// type's number: `example.com. 1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        display_name(self.asked().name(), f)?;
        write!(f, " {}", self.asked().qtype())
    }
}

/// Whether a byte of a label stands for itself in presentation format; others are escaped.
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
