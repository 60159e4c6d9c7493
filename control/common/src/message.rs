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
