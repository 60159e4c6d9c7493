//! Compact form of an answer's records: without what the question or the answer says already.
//!
//! A record is a byte that tells what is left out, and what is not: owner, type, class, TTL, length
//! of the data, and the data.

use super::packed::{Reader, put_number};
use ringdns_dataplane::{
    checksum,
    clock::Secs,
    dns::{answer::Answer, header},
};

/// The owner is the name of the question, as a pointer to it.
const OWNER: u8 = 0x01;
/// The type is that of the question.
const TYPE: u8 = 0x02;
/// The class is that of the question.
const CLASS: u8 = 0x04;
/// The TTL is that of the answer.
const TTL: u8 = 0x08;
/// The TTL is that of the record before.
const SAME_TTL: u8 = 0x10;
/// The length of the data takes two bytes, and not one.
const LONG: u8 = 0x20;

/// Pointer to the name of the question (RFC 1035 section 4.1.4).
const POINTER: [u8; 2] = [0xc0, header::LEN as u8];

/// Records of an answer.
pub(super) struct Records {
    pub ttls: Box<[[u8; 2]]>,
    pub wire: Box<[u8]>,
    pub sum: u16,
}

/// Type and class of a question.
fn type_and_class(question: &[u8]) -> Option<([u8; 2], [u8; 2])> {
    let [t1, t0, c1, c0] = *question.last_chunk()?;
    Some(([t1, t0], [c1, c0]))
}

/// Returns the sum of records behind a question.
fn sum_of(wire: &[u8], question: &[u8]) -> u16 {
    checksum::fold_native(checksum::placed(checksum::sum(wire, 0), header::LEN + question.len()))
}

/// Packs the records of an answer. `None`: they are not what its counts and offsets say, and must be
/// kept as they are.
pub(super) fn pack(to: &mut Vec<u8>, question: &[u8], answer: &Answer) -> Option<()> {
    let (qtype, qclass) = type_and_class(question)?;
    let start = header::LEN + question.len();
    let mut rest = Reader(&answer.wire);
    let mut before = None;
    let mut ttls = answer.ttls.iter();
    for _ in 0..answer.counts.iter().map(|count| usize::from(*count)).sum() {
        let owner = owner(&mut rest)?;
        let (rtype, class) = (rest.take(2)?, rest.take(2)?);
        let ttl_at = start + answer.wire.len() - rest.0.len();
        let ttl = rest.take(4)?;
        if *ttls.next()? != u16::try_from(ttl_at).ok()?.to_le_bytes() {
            return None;
        }
        let len = rest.take(2)?;
        let data = rest.take(usize::from(u16::from_be_bytes(*len.first_chunk()?)))?;
        let marks = [
            (OWNER, owner == POINTER),
            (TYPE, rtype == qtype),
            (CLASS, class == qclass),
            (TTL, ttl == answer.ttl.to_be_bytes()),
            (SAME_TTL, before == Some(ttl) && ttl != answer.ttl.to_be_bytes()),
            (LONG, data.len() > usize::from(u8::MAX)),
        ];
        let mark = marks.iter().filter(|(_, is)| *is).fold(0, |all, (mark, _)| all | mark);
        to.push(mark);
        let parts = [(OWNER, owner), (TYPE, rtype), (CLASS, class), (TTL | SAME_TTL, ttl)];
        parts
            .iter()
            .filter(|(left_out, _)| mark & left_out == 0)
            .for_each(|(_, part)| to.extend_from_slice(part));
        to.extend_from_slice(if mark & LONG == 0 { len.get(1..)? } else { len });
        to.extend_from_slice(data);
        before = Some(ttl);
    }
    let is_whole = rest.0.is_empty() && ttls.next().is_none();
    (is_whole && answer.sum == sum_of(&answer.wire, question)).then_some(())
}

/// Reads an owner, to its root or its first pointer.
fn owner<'a>(rest: &mut Reader<'a>) -> Option<&'a [u8]> {
    let all = rest.0;
    loop {
        let len = rest.byte()?;
        match len {
            0 => break,
            0xc0.. => {
                rest.byte()?;
                break;
            }
            // RFC 1035 section 4.1.4 reserves the other two combinations of the top bits.
            0x40.. => return None,
            _ => drop(rest.take(usize::from(len))?),
        }
    }
    all.get(..all.len() - rest.0.len())
}

/// Reads the records of an answer with these counts and this TTL.
pub(super) fn unpack(
    rest: &mut Reader<'_>,
    question: &[u8],
    counts: [u16; 3],
    answer_ttl: Secs,
) -> Option<Records> {
    let (qtype, qclass) = type_and_class(question)?;
    let start = header::LEN + question.len();
    let answer_ttl = answer_ttl.to_be_bytes();
    let number: usize = counts.iter().map(|count| usize::from(*count)).sum();
    // Most records leave out 10 bytes. A damaged entry may tell any number of them.
    let mut wire = Vec::with_capacity(rest.0.len() + 10 * number.min(rest.0.len()));
    let mut ttls = Vec::with_capacity(number.min(rest.0.len()));
    let mut before = answer_ttl;
    for _ in 0..number {
        let mark = rest.byte()?;
        let owner = if mark & OWNER == 0 { owner(rest)? } else { &POINTER };
        let rtype = if mark & TYPE == 0 { rest.take(2)? } else { &qtype };
        let class = if mark & CLASS == 0 { rest.take(2)? } else { &qclass };
        [owner, rtype, class].iter().for_each(|part| wire.extend_from_slice(part));
        ttls.push(u16::try_from(start + wire.len()).ok()?.to_le_bytes());
        before = if mark & TTL == 0 { before } else { answer_ttl };
        before = if mark & (TTL | SAME_TTL) == 0 { *rest.take(4)?.first_chunk()? } else { before };
        wire.extend_from_slice(&before);
        let len = if mark & LONG == 0 { [0, rest.byte()?] } else { *rest.take(2)?.first_chunk()? };
        wire.extend_from_slice(&len);
        wire.extend_from_slice(rest.take(usize::from(u16::from_be_bytes(len)))?);
    }
    let sum = sum_of(&wire, question);
    Some(Records { ttls: ttls.into(), wire: wire.into(), sum })
}

/// Writes records as they are.
pub(super) fn put_plain(to: &mut Vec<u8>, answer: &Answer) {
    put_number(to, answer.ttls.len() as u64);
    put_number(to, answer.wire.len() as u64);
    to.extend_from_slice(&answer.sum.to_le_bytes());
    to.extend_from_slice(answer.ttls.as_flattened());
    to.extend_from_slice(&answer.wire);
}

/// Reads records that are given as they are.
pub(super) fn read_plain(rest: &mut Reader<'_>) -> Option<Records> {
    let (ttls, wire): (usize, usize) = (rest.number()?, rest.number()?);
    let sum = u16::from_le_bytes(*rest.take(2)?.first_chunk()?);
    let ttls = rest.take(2 * ttls)?.as_chunks().0.into();
    Some(Records { ttls, wire: rest.take(wire)?.into(), sum })
}
