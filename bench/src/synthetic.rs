//! Data of the synthetic upstream: derived from the name alone, so that every instance, and every
//! generator that verifies an answer, has the same data.

use crate::question::HEADER;
use fnv::FnvHasher;
use hickory_proto::rr::RecordType;
use std::hash::Hasher;

/// Pointer to the question's name (RFC 1035 section 4.1.4).
pub const QNAME: [u8; 2] = [0xc0, HEADER as u8];

/// Returns the hash of a name's wire form in lower case.
pub fn fingerprint(name: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    for byte in name {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    // FNV's low bits are similar for similar names, so the high ones are folded in.
    let hash = hasher.finish();
    hash ^ hash >> 32
}

/// Appends the data of the `nth` record of type `qtype` that the name in `question` has. Returns
/// false if it has none of that type. Names inside are compressed against a question at offset 12,
/// where RFC 3597 section 4 permits.
pub fn rdata(name: &[u8], qtype: u16, nth: u8, data: &mut Vec<u8>) -> bool {
    let hash = fingerprint(name).wrapping_add(u64::from(nth));
    let bytes = hash.to_be_bytes();
    match RecordType::from(qtype) {
        RecordType::A => data.extend_from_slice(&[10, bytes[5], bytes[6], bytes[7]]),
        RecordType::AAAA => {
            data.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0]);
            data.extend_from_slice(&bytes);
        }
        RecordType::TXT => {
            let text = format!("ringbench {hash:016x}");
            data.push(text.len() as u8);
            data.extend_from_slice(text.as_bytes());
        }
        RecordType::MX => {
            data.extend_from_slice(&[0, 10 + nth]);
            below(b"mail", name, data);
        }
        RecordType::NS => below(if nth == 0 { b"ns1" } else { b"ns2" }, name, data),
        RecordType::CNAME => below(b"target", name, data),
        RecordType::PTR => below(b"host", name, data),
        RecordType::SRV => {
            data.extend_from_slice(&[0, nth, 0, 0, 0x13, 0xc4]);
            // RFC 2782: never compressed.
            data.extend_from_slice(b"\x03sip");
            data.extend_from_slice(name);
        }
        RecordType::SOA => soa(QNAME, 60, data),
        RecordType::CAA => data.extend_from_slice(b"\x00\x05issueca.test"),
        // RFC 9460: priority 1, the owner itself, no parameters.
        RecordType::HTTPS | RecordType::SVCB => data.extend_from_slice(&[0, 1, 0]),
        // RFC 8482 section 4.2.
        RecordType::ANY => data.extend_from_slice(b"\x07RFC8482\x00"),
        // Private use (RFC 6895): opaque, of a size that no known type has.
        RecordType::Unknown(65280..=65534) => {
            data.extend_from_slice(b"opaque-");
            data.extend_from_slice(&bytes);
        }
        _ => return false,
    }
    true
}

/// Returns the type that answers a question for `qtype`.
pub fn answered_with(qtype: u16) -> u16 {
    // ANY is answered with the one record that RFC 8482 advises.
    if RecordType::from(qtype) == RecordType::ANY { RecordType::HINFO.into() } else { qtype }
}

/// Appends the data of an RRSIG record over the records of a type that a name has: valid in form,
/// but not a signature.
pub fn rrsig(name: &[u8], covered: u16, ttl: u32, data: &mut Vec<u8>) {
    let covers = covered.to_be_bytes();
    // Algorithm 13, ECDSA P-256. Labels do not matter without validation.
    data.extend_from_slice(&[covers[0], covers[1], 13, 2]);
    data.extend_from_slice(&ttl.to_be_bytes());
    // Valid from 1970 to 2106, by key 4711.
    data.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x12, 0x67]);
    data.extend(name.iter().map(u8::to_ascii_lowercase));
    let word = fingerprint(name) ^ u64::from(covered);
    data.extend([word.to_be_bytes(); 8].as_flattened());
}

/// Appends the data of an SOA record whose zone is at the pointer `apex`.
pub fn soa(apex: [u8; 2], minimum: u32, data: &mut Vec<u8>) {
    data.extend_from_slice(b"\x02ns");
    data.extend_from_slice(&apex);
    data.extend_from_slice(b"\x0ahostmaster");
    data.extend_from_slice(&apex);
    for field in [1, 3600, 600, 86400, minimum] {
        data.extend_from_slice(&u32::to_be_bytes(field));
    }
}

/// Appends a name one label below the question's.
fn below(label: &[u8], name: &[u8], data: &mut Vec<u8>) {
    data.push(label.len() as u8);
    data.extend_from_slice(label);
    if name == [0] {
        data.push(0);
    } else {
        data.extend_from_slice(&QNAME);
    }
}
