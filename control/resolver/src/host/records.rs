//! Compact form of an answer's records: without what the question or the answer says already.
//!
//! A record is a byte that tells what is left out, and what is not: owner, type, class, TTL, length
//! of the data, and the data. Records of which all leave out everything but the data need no such
//! byte.

use super::packed::{Reader, put_number, put_time};
use ringdns_dataplane::{
    checksum,
    clock::Secs,
    dns::{answer::Answer, header, rtype},
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
/// The data has the length that its type has.
const SIZED: u8 = 0x20;

/// Mark of an address of the question's name.
const ADDRESS: u8 = OWNER | TYPE | CLASS | TTL | SIZED;

/// Pointer to the name of the question (RFC 1035 section 4.1.4).
const POINTER: [u8; 2] = [0xc0, header::LEN as u8];

/// Records of an answer.
pub(super) struct Records {
    pub ttls: Box<[[u8; 2]]>,
    pub wire: Box<[u8]>,
    pub sum: u16,
}

/// Form of records.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Each record has its mark.
    Marked,
    /// All records have the mark of an address, which is left out.
    Addresses,
}

/// Returns the length that data of this type has, as far as records leave it out.
fn size_of(rtype: &[u8]) -> Option<u16> {
    match u16::from_be_bytes(*rtype.first_chunk()?) {
        rtype::A => Some(4),
        rtype::AAAA => Some(16),
        _ => None,
    }
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

/// Packs the records of an answer. `None`: they cannot have this form, or they are not what its counts
/// and offsets say, and must be kept as they are.
pub(super) fn pack(to: &mut Vec<u8>, form: Form, question: &[u8], answer: &Answer) -> Option<()> {
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
        let ttl = Secs::from_be_bytes(*ttl.first_chunk()?);
        let len = u16::from_be_bytes(*rest.take(2)?.first_chunk()?);
        let data = rest.take(usize::from(len))?;
        let marks = [
            (OWNER, owner == POINTER),
            (TYPE, rtype == qtype),
            (CLASS, class == qclass),
            (TTL, ttl == answer.ttl),
            (SAME_TTL, before == Some(ttl) && ttl != answer.ttl),
            (SIZED, size_of(rtype) == Some(len)),
        ];
        let mark = marks.iter().filter(|(_, is)| *is).fold(0, |all, (mark, _)| all | mark);
        match form {
            Form::Marked => to.push(mark),
            Form::Addresses => (mark == ADDRESS).then_some(())?,
        }
        if mark & OWNER == 0 {
            to.extend_from_slice(owner);
        }
        if mark & TYPE == 0 {
            put_number(to, u16::from_be_bytes(*rtype.first_chunk()?).into());
        }
        if mark & CLASS == 0 {
            to.extend_from_slice(class);
        }
        if mark & (TTL | SAME_TTL) == 0 {
            put_time(to, ttl);
        }
        if mark & SIZED == 0 {
            put_number(to, len.into());
        }
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
    form: Form,
    question: &[u8],
    counts: [u16; 3],
    answer_ttl: Secs,
) -> Option<Records> {
    let (qtype, qclass) = type_and_class(question)?;
    let start = header::LEN + question.len();
    let number: usize = counts.iter().map(|count| usize::from(*count)).sum();
    // Most records leave out 10 bytes. A damaged entry may tell any number of them.
    let mut wire = Vec::with_capacity(rest.0.len() + 10 * number.min(rest.0.len()));
    let mut ttls = Vec::with_capacity(number.min(rest.0.len()));
    let mut before = answer_ttl;
    for _ in 0..number {
        let mark = match form {
            Form::Marked => rest.byte()?,
            Form::Addresses => ADDRESS,
        };
        let owner = if mark & OWNER == 0 { owner(rest)? } else { &POINTER };
        let rtype = if mark & TYPE == 0 { rest.number::<u16>()?.to_be_bytes() } else { qtype };
        let class = if mark & CLASS == 0 { rest.take(2)? } else { &qclass };
        [owner, &rtype, class].iter().for_each(|part| wire.extend_from_slice(part));
        ttls.push(u16::try_from(start + wire.len()).ok()?.to_le_bytes());
        before = match mark & (TTL | SAME_TTL) {
            0 => rest.time()?,
            SAME_TTL => before,
            _ => answer_ttl,
        };
        wire.extend_from_slice(&before.to_be_bytes());
        let len = if mark & SIZED == 0 { rest.number()? } else { size_of(&rtype)? };
        wire.extend_from_slice(&len.to_be_bytes());
        wire.extend_from_slice(rest.take(usize::from(len))?);
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

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::rcode;

    const QUESTION: &[u8] = b"\x03www\0\0\x01\0\x01";
    const ADDRESS_RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

    /// Returns an answer of these records, whose TTL is at the offset that follows each.
    fn answer(records: &[(&[u8], usize)]) -> Answer {
        let (mut wire, mut ttls) = (Vec::new(), Vec::new());
        for (record, ttl_at) in records {
            ttls.push(((header::LEN + QUESTION.len() + wire.len() + ttl_at) as u16).to_le_bytes());
            wire.extend_from_slice(record);
        }
        let (counts, sum) = ([records.len() as u16, 0, 0], sum_of(&wire, QUESTION));
        Answer {
            counts,
            ttls: ttls.into(),
            wire: wire.into(),
            sum,
            ..Answer::error(rcode::NOERROR, None, 0, 60)
        }
    }

    fn packed(answer: &Answer, form: Form) -> Option<Vec<u8>> {
        let mut to = Vec::new();
        pack(&mut to, form, QUESTION, answer)?;
        let mut rest = Reader(&to);
        let records = unpack(&mut rest, form, QUESTION, answer.counts, answer.ttl).unwrap();
        assert_eq!((records.wire, records.ttls), (answer.wire.clone(), answer.ttls.clone()));
        assert_eq!((records.sum, rest.0.len()), (answer.sum, 0));
        Some(to)
    }

    #[test]
    fn addresses_need_no_marks() {
        for n in 0..3 {
            let answer = answer(&vec![(ADDRESS_RECORD, 6); n]);
            assert_eq!(packed(&answer, Form::Addresses).map(|bytes| bytes.len()), Some(4 * n));
            assert_eq!(packed(&answer, Form::Marked).map(|bytes| bytes.len()), Some(5 * n));
        }
    }

    #[test]
    fn records_that_differ_from_an_address_have_marks() {
        let cases: [(&[u8], usize); 7] = [
            (b"\xc0\x0d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01", 6),
            (b"\x03www\0\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01", 9),
            (b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01", 6),
            (b"\xc0\x0c\0\x01\0\x03\0\0\0\x3c\0\x04\xc0\0\x02\x01", 6),
            (b"\xc0\x0c\0\x01\0\x01\0\0\0\x3d\0\x04\xc0\0\x02\x01", 6),
            (b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x03\xc0\0\x02", 6),
            (b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\0", 6),
        ];
        for case in cases {
            for records in [&[case][..], &[(ADDRESS_RECORD, 6), case], &[case, case, (ADDRESS_RECORD, 6)]] {
                let answer = answer(records);
                assert_eq!(packed(&answer, Form::Addresses), None, "{case:?}");
                assert!(packed(&answer, Form::Marked).is_some(), "{case:?}");
            }
        }
    }
}
