//! What is said to an upstream and what it says: the query, and the judgement of a response.

use super::upstream::{Upstream, is_answer};
use crate::names;
use hickory_proto::op::Message;
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, ResponseError, TtlRules},
        header::{self, Header},
        key::Key,
    },
};
use zerocopy::FromBytes;

/// What we say that we take over UDP (RFC 9715).
const UDP_SIZE: u16 = 1232;

/// What is judged by besides the response itself.
#[derive(Clone, Copy)]
pub struct Rules {
    /// How long answers are kept.
    pub ttl: TtlRules,
    /// The time now.
    pub clock: Clock,
}

/// Appends a query for `key`.
pub fn write_query(upstream: &Upstream, key: &Key, id: u16, to: &mut Vec<u8>) {
    let asked = key.asked();
    let checking_disabled = if asked.checking_disabled() { header::CD } else { 0 };
    // RFC 6840 section 5.7: AD in a query asks for AD in the answer.
    let authentic = if upstream.trusted { header::AD } else { 0 };
    let flags = header::RD | checking_disabled | authentic;
    let question = [asked.qtype(), asked.qclass()];
    names::write_query(to, asked.name(), question, id, flags, Some((UDP_SIZE, asked.dnssec_ok())));
}

/// What a response says.
pub enum Judged {
    /// The answer.
    Answer(Answer),
    /// That the upstream failed, with this response code.
    Failure(u8),
    /// That the answer does not fit.
    Truncated,
}

/// What a response to a query for `key` says, if it is one. Its ID is the caller's affair.
pub fn judge(upstream: &Upstream, key: &Key, rules: &Rules, message: &[u8]) -> Result<Judged, ResponseError> {
    let (header, _) = Header::ref_from_prefix(message).map_err(|_| ResponseError::Short)?;
    let answer = Answer::from_response(message, key, &rules.ttl, rules.clock.secs(), upstream.trusted);
    // A cut response may end within a record, so this comes before the records are looked at.
    if header.flags.get() & header::TC != 0 && !matches!(answer, Err(ref e) if *e != ResponseError::Malformed)
    {
        return Ok(Judged::Truncated);
    }
    let answer = answer?;
    let records = header::LEN + key.question().len();
    if has_only_addresses(&answer.wire) && is_plain_opt(&message[records + answer.wire.len()..]) {
        let rcode = answer.status.rcode();
        return Ok(if is_answer(rcode) { Judged::Answer(answer) } else { Judged::Failure(rcode) });
    }
    // The scan knows where records are, this knows what is in them: nothing else is kept or handed on.
    let decoded = Message::from_vec(message).map_err(|_| ResponseError::Malformed)?;
    // With the upper bits from the OPT record (RFC 6891 section 6.1.3), without which BADVERS looks like success.
    let rcode = u16::from(decoded.metadata.response_code);
    Ok(match u8::try_from(rcode) {
        Ok(rcode) if is_answer(rcode) => Judged::Answer(answer),
        Ok(rcode @ 0..=15) => Judged::Failure(rcode),
        _ => Judged::Failure(ringdns_dataplane::dns::rcode::SERVFAIL),
    })
}

/// Whether all records are addresses of the name that was asked for, or there is none. Such have nothing to be decoded, and are
/// what most responses have.
fn has_only_addresses(mut records: &[u8]) -> bool {
    while let Some((head, rest)) = records.split_first_chunk() {
        let length = match head {
            [0xc0, 12, 0, 1, 0, 1, _, _, _, _, 0, 4] => 4,
            [0xc0, 12, 0, 28, 0, 1, _, _, _, _, 0, 16] => 16,
            _ => return false,
        };
        let Some(rest) = rest.get(length..) else { return false };
        records = rest;
    }
    records.is_empty()
}

/// Whether what follows the records is no OPT record, or one of version 0 that adds nothing to the response code.
fn is_plain_opt(opt: &[u8]) -> bool {
    matches!(opt, [] | [0, 0, 41, _, _, 0, 0, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    const AAAA: &[u8] =
        &[0xc0, 12, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

    #[test]
    fn only_what_cannot_be_wrong_is_not_decoded() {
        assert!(has_only_addresses(&[]) && has_only_addresses(&[A, AAAA, A].concat()));
        let changed = |at: usize, byte: u8| {
            let mut record = A.to_vec();
            record[at] = byte;
            record
        };
        // Another owner, type, class or length of data; and data that ends early.
        for (at, byte) in [(0, 0), (1, 16), (3, 5), (5, 3), (11, 3), (11, 16)] {
            assert!(!has_only_addresses(&[A, &changed(at, byte)].concat()), "{at}: {byte}");
        }
        assert!(!has_only_addresses(&A[..15]) && !has_only_addresses(&A[..3]));

        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        assert!(is_plain_opt(&[]) && is_plain_opt(&opt));
        // BADVERS, and a version that we do not know.
        for at in [5, 6] {
            let mut opt = opt;
            opt[at] = 1;
            assert!(!is_plain_opt(&opt));
        }
    }
}
