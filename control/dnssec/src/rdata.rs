//! Names within RDATA: which are decompressed, and which are lowercased.

use crate::name::{expand_where, wire_len};
use std::ops::Range;

/// Types with special rules here (IANA).
pub mod rtype {
    #![allow(missing_docs)]
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const DNAME: u16 = 39;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    /// A name that does not exist, in the bitmap of an NSEC record alone (RFC 9824 section 3).
    pub const NXNAME: u16 = 128;
    pub const ANY: u16 = 255;
}

/// A field of RDATA. Bytes follow the last one.
enum Field {
    Name,
    Bytes(usize),
    /// Length and bytes.
    String,
    /// Prefix length and the rest of an IPv6 address; a name if the prefix is not empty (RFC 2874).
    A6,
}

/// Returns the fields up to the last name, of types whose names are lowercased in canonical form
/// (RFC 4034 section 6.2 as updated by RFC 6840 section 5.1). No other types may be compressed.
/// Types among these that must not be compressed are decompressed nevertheless (RFC 3597 section
/// 4).
fn fields(rtype: u16) -> &'static [Field] {
    use Field::{A6, Bytes, Name, String};
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NXT, DNAME.
        2..=5 | 7..=9 | 12 | 30 | 39 => &[Name],
        // SOA, MINFO, RP.
        6 | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX.
        15 | 18 | 21 | 36 => &[Bytes(2), Name],
        // SIG.
        24 => &[Bytes(18), Name],
        // PX.
        26 => &[Bytes(2), Name, Name],
        // SRV.
        33 => &[Bytes(6), Name],
        // NAPTR.
        35 => &[Bytes(4), String, String, String, Name],
        38 => &[A6],
        _ => &[],
    }
}

/// Appends the RDATA at `at..end` of a message, with its names decompressed; `None` if one of them
/// is malformed.
pub fn copy(rtype: u16, message: &[u8], at: usize, end: usize, to: &mut Vec<u8>) -> Option<()> {
    copy_where(rtype, message, at..end, to, |_| true)
}

/// Copies RDATA as [`copy`] does, if `permits` holds for each part of a name that a pointer leads
/// to.
pub fn copy_where(
    rtype: u16,
    message: &[u8],
    range: Range<usize>,
    to: &mut Vec<u8>,
    permits: impl Fn(Range<usize>) -> bool,
) -> Option<()> {
    let Range { start: mut at, end } = range;
    // Empty RDATA is valid in a few types only, and carries no meaning in the others.
    let fields = if at == end { &[] } else { fields(rtype) };
    for field in fields {
        let len = match field {
            Field::Name => {
                at = expand_where(message, at, to, &permits).filter(|at| *at <= end)?;
                continue;
            }
            Field::Bytes(len) => *len,
            Field::String => 1 + usize::from(*message.get(at)?),
            Field::A6 => {
                let (len, has_name) = a6(*message.get(at)?)?;
                to.extend_from_slice(message.get(at..at + len)?);
                at += len;
                if has_name {
                    at = expand_where(message, at, to, &permits).filter(|at| *at <= end)?;
                }
                continue;
            }
        };
        to.extend_from_slice(message.get(at..at + len)?);
        at += len;
    }
    (at <= end).then_some(())?;
    to.extend_from_slice(message.get(at..end)?);
    Some(())
}

/// Converts uncompressed RDATA to canonical form. Malformed RDATA stays unchanged.
pub fn lowercase(rtype: u16, rdata: &mut [u8]) {
    let mut at = 0;
    for field in fields(rtype) {
        let Some(rest) = rdata.get_mut(at..) else { return };
        let lower = |name: &mut [u8]| {
            let len = wire_len(name)?;
            name[..len].make_ascii_lowercase();
            Some(len)
        };
        let len = match field {
            Field::Name => lower(rest),
            Field::Bytes(len) => Some(*len),
            Field::String => rest.first().map(|len| 1 + usize::from(*len)),
            Field::A6 => rest.first().and_then(|prefix| a6(*prefix)).and_then(|(len, has_name)| {
                if has_name { lower(rest.get_mut(len..)?).map(|name| len + name) } else { Some(len) }
            }),
        };
        let Some(len) = len else { return };
        at += len;
    }
}

/// Returns the length of an A6 record up to its name, and whether it has a name.
fn a6(prefix: u8) -> Option<(usize, bool)> {
    (prefix <= 128).then(|| (1 + 16 - usize::from(prefix) / 8, prefix > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::HEADER;

    /// Returns RDATA of `rtype` after `head`, with the names `Www.Example` and `Example`, the
    /// latter compressed: decompressed, and in canonical form.
    fn canonical(rtype: u16, head: &[u8], names: usize, tail: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut message = [&[0; HEADER], &b"\x07Example\x00"[..]].concat();
        message.extend(head);
        let begin = HEADER + 9;
        for name in [&b"\x03Www\xc0\x0c"[..], b"\xc0\x0c"].iter().take(names) {
            message.extend(*name);
        }
        message.extend(tail);
        let mut copied = Vec::new();
        copy(rtype, &message, begin, message.len(), &mut copied).unwrap();
        let mut lowered = copied.clone();
        lowercase(rtype, &mut lowered);
        (copied, lowered)
    }

    #[test]
    fn names_are_expanded_and_lowercased_where_they_may_be() {
        for (rtype, head, names, tail) in [
            (2, &b""[..], 1, &b""[..]),
            (6, b"", 2, b"\x00\x00\x00\x01ABCDABCDABCDABCD"),
            (17, b"", 2, b""),
            (18, b"AB", 1, b""),
            (21, b"AB", 1, b""),
            (26, b"AB", 2, b""),
            (30, b"", 1, b"ABC"),
            (33, b"ABCDEF", 1, b""),
            (35, b"ABCD\x01U\x03E2U\x00", 1, b""),
            (36, b"AB", 1, b""),
            (38, &[&[64][..], &[b'A'; 8]].concat(), 1, b""),
            (39, b"", 1, b""),
        ] {
            let (copied, lowered) = canonical(rtype, head, names, tail);
            let spelled = [&b"\x03Www\x07Example\x00"[..], b"\x07Example\x00"];
            let names = spelled[..names].concat();
            assert_eq!(copied, [head, &names, tail].concat(), "{rtype}");
            assert_eq!(lowered, [head, &names.to_ascii_lowercase(), tail].concat(), "{rtype}");
        }
    }

    #[test]
    fn other_bytes_stay() {
        // NSEC (RFC 6840 section 5.1), TXT, SVCB, and an unassigned type.
        for rtype in [47, 16, 64, 65280] {
            let rdata = b"\x03Www\x00\xc0\x00".to_vec();
            let mut copied = Vec::new();
            copy(rtype, &rdata, 0, rdata.len(), &mut copied).unwrap();
            lowercase(rtype, &mut copied);
            assert_eq!(copied, rdata, "{rtype}");
        }
    }

    #[test]
    fn names_that_leave_their_record_are_none() {
        let mut to = Vec::new();
        assert_eq!(copy(2, b"\x03www\x00", 0, 3, &mut to), None);
        assert_eq!(copy(15, b"\x00\x01\x03ww", 0, 5, &mut to), None);
        assert_eq!(copy(38, b"\x81", 0, 1, &mut to), None);
        assert_eq!(copy(6, b"", 0, 0, &mut to), Some(()));
    }
}
