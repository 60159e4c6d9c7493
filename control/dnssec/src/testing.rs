//! Names, records and messages for tests.

use crate::name::Name;
use data_encoding::{BASE32_DNSSEC, BASE64};

/// Parses a name in which bytes may be written as `\DDD`.
pub fn name(text: &str) -> Name {
    let mut wire = Vec::new();
    for label in text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        let mut bytes = Vec::new();
        let mut rest = label.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            rest = tail;
            let (true, Some((digits, tail))) = (*byte == b'\\', tail.split_at_checked(3)) else {
                bytes.push(*byte);
                continue;
            };
            bytes.push(std::str::from_utf8(digits).unwrap().parse().unwrap());
            rest = tail;
        }
        wire.push(bytes.len() as u8);
        wire.extend(bytes);
    }
    wire.push(0);
    Name::from_wire(&wire).unwrap()
}

/// Decodes a hash in base32.
pub fn base32(text: &str) -> Vec<u8> {
    BASE32_DNSSEC.decode(text.as_bytes()).unwrap()
}

/// Decodes base64 and ignores white space.
pub fn base64(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    BASE64.decode(text.as_bytes()).unwrap()
}

/// Returns a bitmap of types (RFC 4034 section 4.1.2), all below 256.
pub fn bitmap(types: &[u16]) -> Vec<u8> {
    let Some(last) = types.iter().max() else { return Vec::new() };
    let mut bits = vec![0; usize::from(last / 8) + 1];
    for rtype in types {
        bits[usize::from(rtype / 8)] |= 0x80 >> (rtype % 8);
    }
    [&[0, bits.len() as u8], &bits[..]].concat()
}

/// Returns a record on the wire.
pub fn record(owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let length = (rdata.len() as u16).to_be_bytes();
    [owner, &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, rdata].concat()
}

/// Returns a message without a question, with these records in its answer and authority sections.
pub fn message(rcode: u8, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let mut message = vec![0, 0, 0x80, rcode, 0, 0];
    message.extend((answers.len() as u16).to_be_bytes());
    message.extend((authorities.len() as u16).to_be_bytes());
    message.extend([0, 0]);
    message.extend(answers.concat());
    message.extend(authorities.concat());
    message
}
