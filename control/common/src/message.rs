//! Whole DNS messages: builds them from cached answers, and ages their TTLs.

use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        header::{self, Header},
        key::Asked,
        record, rtype,
    },
};
use zerocopy::FromBytes;

/// Length of a header in bytes.
pub const HEADER: usize = header::LEN;

/// Returns the name and the type of the question of a message; `None` if it has none, or a broken one.
pub fn question(message: &[u8]) -> Option<(&[u8], u16)> {
    let (header, _) = Header::ref_from_prefix(message).ok()?;
    let end = record::skip_name(message, HEADER).filter(|_| header.qdcount.get() > 0)?;
    let qtype = message.get(end..)?.first_chunk()?;
    Some((message.get(HEADER..end)?, u16::from_be_bytes(*qtype)))
}

/// Returns the response code of a message, with the upper bits of its OPT record (RFC 6891 section
/// 6.1.3); `None` if it has no header.
pub fn response_code(message: &[u8]) -> Option<u16> {
    let (header, _) = Header::ref_from_prefix(message).ok()?;
    let low = header.flags.get() & header::RCODE;
    let records = [&header.ancount, &header.nscount, &header.arcount].map(|count| count.get());
    // Type and class follow the name.
    let mut at = question(message).map_or(HEADER, |(name, _)| HEADER + name.len() + 4);
    for _ in 0..records.into_iter().map(usize::from).sum::<usize>() {
        let Some(record) = record::RecordHead::parse(message, at) else { break };
        if record.rtype == rtype::OPT {
            return Some(low | (record.ttl >> 24 << 4) as u16);
        }
        at = record.end;
    }
    Some(low)
}

/// Returns the response that a cached answer came from, without OPT and with the original TTLs.
pub fn of(asked: Asked<'_>, answer: &Answer) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + asked.question.len() + answer.wire.len());
    let [answers, authorities, additionals] = answer.counts;
    for word in [0, header::QR | header::RD | answer.status.flags(), 1, answers, authorities, additionals] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(asked.question);
    message.extend_from_slice(&answer.wire);
    message
}

/// Lowers each TTL in a response by `age` seconds. Returns `None` if the records do not fill the
/// message exactly, or if there is an OPT: its TTL field holds no TTL.
pub fn grow_older(message: &mut [u8], asked: Asked<'_>, age: Secs) -> Option<()> {
    let (header, _) = Header::ref_from_prefix(message).ok()?;
    let records = [&header.ancount, &header.nscount, &header.arcount].map(|count| count.get());
    let mut at = HEADER + asked.question.len();
    for _ in 0..records.into_iter().map(usize::from).sum::<usize>() {
        let record = record::RecordHead::parse(message, at)?;
        if record.rtype == rtype::OPT {
            return None;
        }
        // A TTL with its top bit set counts as zero (RFC 2181 section 8).
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
        let field = message.get_mut(record.ttl_at..)?.first_chunk_mut::<4>()?;
        *field = ttl.saturating_sub(age).to_be_bytes();
        at = record.end;
    }
    (at == message.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_codes_are_read_from_whole_and_broken_messages() {
        let with = |counts: [u8; 4], rest: &[u8]| {
            let [questions, answers, authorities, additionals] = counts;
            let head = [0, 1, 0x81, 0x83, 0, questions, 0, answers, 0, authorities, 0, additionals];
            [&head[..], rest].concat()
        };
        let asked = b"\x03www\x04test\0\0\x1c\0\x01";
        // OPT with an extended code of 1: 16 and more.
        let opt = b"\0\0\x29\x04\xd0\x01\0\0\0\0\0";
        let plain = with([1, 0, 0, 0], asked);
        assert_eq!(question(&plain), Some((&b"\x03www\x04test\0"[..], 28)));
        assert_eq!(response_code(&plain), Some(3));
        let extended = with([1, 0, 0, 1], &[&asked[..], opt].concat());
        assert_eq!(response_code(&extended), Some(16 + 3));
        assert_eq!(response_code(&extended[..extended.len() - 1]), Some(3), "a record that is cut");
        let bare = with([0, 0, 0, 1], opt);
        assert_eq!((question(&bare), response_code(&bare)), (None, Some(16 + 3)));
        for broken in [with([1, 0, 0, 0], b"\x03ww"), with([1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01")] {
            assert_eq!((question(&broken), response_code(&broken)), (None, Some(3)));
        }
        assert_eq!((question(&[0; 11]), response_code(&[0; 11])), (None, None));
    }
}
