//! What an answer is filed under: lowercased name, type, class, DO and CD.
//!
//! Never the ID, a cookie, padding or the EDNS size: those belong to the client, not to the answer.

use super::NAME_MAX;

const WORDS: usize = NAME_MAX.div_ceil(8);

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
    /// Fills in the name and question of `message`, whose checked name is `message[12..end]` and which goes on for
    /// at least four bytes.
    #[inline(always)]
    pub(super) fn set(&mut self, message: &[u8], end: usize, qtype: u16, qclass: u16) {
        let name = &message[super::header::LEN..end];
        let (whole, rest) = name.as_chunks::<8>();
        for (to, from) in self.words.iter_mut().zip(whole) {
            *to = lowercase(u64::from_le_bytes(*from));
        }
        if !rest.is_empty() {
            // The eight bytes that end with the name; those before it are shifted out. The header is longer than
            // eight bytes, so they exist.
            let last = message[..end].last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
            self.words[whole.len()] = lowercase(last >> (64 - 8 * rest.len()));
        }
        self.meta = Meta::new(qtype, qclass, name.len());
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

/// Lowers the ASCII letters among eight bytes at once (RFC 4343: only they have case). Label lengths, at most
/// 63, lie below the letters and stay.
#[inline(always)]
pub(super) fn lowercase(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * ONES);
    let past_z = low + (0x7f - b'Z' as u64) * ONES;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let upper = !word & (from_a ^ past_z) & (0x80 * ONES);
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowercase_lowers_letters_and_nothing_else() {
        for byte in 0..=255u8 {
            let word = u64::from_le_bytes([byte; 8]);
            assert_eq!(lowercase(word).to_le_bytes(), [byte.to_ascii_lowercase(); 8], "byte {byte}");
        }
        assert_eq!(&lowercase(u64::from_le_bytes(*b"\x03WwW\x02aZ\0")).to_le_bytes(), b"\x03www\x02az\0");
    }
}
