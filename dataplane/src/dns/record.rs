//! Resource records in a message, read without decoding their data.

use super::NAME_MAX;

/// Fixed part of a record, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Type of the record.
    pub rtype: u16,
    /// Class; for OPT, the sender's UDP size.
    pub class: u16,
    /// Time to live in seconds, as sent; for OPT, extended RCODE, version and flags.
    pub ttl: u32,
    /// Offset of the TTL in the message.
    pub ttl_at: usize,
    /// Offset of the data in the message.
    pub rdata: usize,
    /// Offset past the data.
    pub end: usize,
}

impl RecordHead {
    /// Returns the record at `at`; `None` if it does not fit in the message.
    #[inline]
    pub fn parse(message: &[u8], at: usize) -> Option<RecordHead> {
        Self::parse_named(message, at, NAME_MAX)
    }

    /// Returns the record at `at`, whose name takes at most `name_max` bytes; `None` if it does not fit in the
    /// message.
    #[inline]
    pub fn parse_named(message: &[u8], at: usize, name_max: usize) -> Option<RecordHead> {
        let fixed = skip_short_name(message, at, name_max)?;
        let [t1, t0, c1, c0, l3, l2, l1, l0, d1, d0] = *message.get(fixed..)?.first_chunk::<10>()?;
        let rdata = fixed + 10;
        let end = rdata + usize::from(u16::from_be_bytes([d1, d0]));
        (end <= message.len()).then_some(RecordHead {
            rtype: u16::from_be_bytes([t1, t0]),
            class: u16::from_be_bytes([c1, c0]),
            ttl: u32::from_be_bytes([l3, l2, l1, l0]),
            ttl_at: fixed + 4,
            rdata,
            end,
        })
    }

    /// Returns the length in bytes of the name of the record, which begins at `at`.
    #[inline]
    pub fn name_len(&self, at: usize) -> usize {
        self.ttl_at.saturating_sub(at + 4)
    }
}

/// Returns the offset past the name at `start`, which takes at most [`NAME_MAX`] bytes. A compression pointer
/// must point back, and not into the header, whose bytes differ in the reply to a client. It ends the name here;
/// it is not followed.
#[inline]
pub fn skip_name(message: &[u8], start: usize) -> Option<usize> {
    skip_short_name(message, start, NAME_MAX)
}

/// Returns the offset past the name at `start`, which takes at most `name_max` bytes, with a compression pointer
/// as [`skip_name`] takes it.
#[inline]
fn skip_short_name(message: &[u8], start: usize, name_max: usize) -> Option<usize> {
    // Cut where the longest name ends, so that each label takes one check of a bound.
    let name = message.get(start..)?;
    let name = &name[..name.len().min(name_max).min(NAME_MAX)];
    let mut at = 0;
    let (end, last) = loop {
        let len = *name.get(at)?;
        // One comparison for labels, which are most.
        if len.wrapping_sub(1) >= 63 {
            break (start + at, len);
        }
        at += 1 + usize::from(len);
    };
    match last {
        0 => Some(end + 1),
        0xc0.. => {
            let target = usize::from(last & 0x3f) << 8 | usize::from(*message.get(end + 1)?);
            (super::header::LEN..start).contains(&target).then_some(end + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::header::LEN;

    /// Returns a header and a name of `len` bytes in labels of one byte, but for the first, which may have two.
    fn message(len: usize) -> Vec<u8> {
        let mut message = vec![0; LEN];
        if len.is_multiple_of(2) {
            message.extend(b"\x02ab");
        }
        while message.len() < LEN + len - 1 {
            message.extend(b"\x01a");
        }
        message.push(0);
        message
    }

    /// RFC 1035 section 2.3.4.
    #[test]
    fn a_name_has_at_most_255_bytes() {
        for len in [3, 4, 254, NAME_MAX] {
            assert_eq!(skip_name(&message(len), LEN), Some(LEN + len), "{len}");
        }
        for len in [NAME_MAX + 1, NAME_MAX + 2, 600] {
            assert_eq!(skip_name(&message(len), LEN), None, "{len}");
        }
        assert_eq!(skip_name(&message(9)[..LEN + 8], LEN), None, "no end");
        assert_eq!(skip_name(&[0; LEN], LEN + 1), None, "beyond the message");
    }

    #[test]
    fn a_name_ends_at_a_pointer_back() {
        let mut message = message(5);
        let start = message.len();
        message.extend(b"\x01a\xc0\x0c");
        assert_eq!(skip_name(&message, start), Some(start + 4));
        for (pointer, what) in
            [([0xc0, 11], "into the header"), ([0xc0, start as u8], "to itself"), ([0xc1, 0], "on")]
        {
            message[start + 2..].copy_from_slice(&pointer);
            assert_eq!(skip_name(&message, start), None, "{what}");
        }
        message[start + 2..].copy_from_slice(&[64, 0]);
        assert_eq!(skip_name(&message, start), None, "a label that there is not");
        message.truncate(start + 3);
        message[start + 2] = 0xc0;
        assert_eq!(skip_name(&message, start), None, "half a pointer");
    }
}
