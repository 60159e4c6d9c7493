//! Checks that a response answers its query.

use crate::{question::HEADER, synthetic};
use hickory_proto::rr::RecordType;

/// A reply that answers its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Response code.
    pub rcode: u8,
    /// Whether the TC bit is set.
    pub truncated: bool,
}

impl Reply {
    /// Whether a cache keeps this reply: NOERROR or NXDOMAIN.
    pub fn is_usable(self) -> bool {
        matches!(self.rcode, 0 | 3)
    }
}

/// Reason why a reply does not answer its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The reply does not repeat the question as it was asked, letter case included.
    Question,
    /// The records do not match the counts of the header.
    Malformed,
    /// The records differ from those of the synthetic upstream for the name.
    Data,
    /// A TTL is longer than the upstream's.
    Ttl,
}

/// Returns the ID of a response, or `None` if the message is no response.
#[inline]
pub fn response_id(message: &[u8]) -> Option<u16> {
    let header = message.first_chunk::<HEADER>()?;
    (header[2] & 0x80 != 0).then(|| u16::from_be_bytes([header[0], header[1]]))
}

/// Checks a response to `question` (name, type and class, spelled as asked); with `data`, also its
/// records against those of the synthetic upstream.
#[inline]
pub fn check(message: &[u8], question: &[u8], data: bool) -> Result<Reply, Wrong> {
    let header = message.first_chunk::<HEADER>().ok_or(Wrong::Malformed)?;
    let reply = Reply { rcode: header[3] & 0x0f, truncated: header[2] & 0x02 != 0 };
    let same = header[4..6] == [0, 1] && message[HEADER..].starts_with(question);
    // An error from before the question was parsed (FORMERR, NOTIMP) has no question; only its ID
    // tells which query it belongs to.
    let none = header[4..6] == [0, 0] && matches!(reply.rcode, 1 | 4);
    if !same && !none {
        return Err(Wrong::Question);
    }
    if data && reply.rcode == 0 && !reply.truncated {
        check_data(message, question)?;
    }
    Ok(reply)
}

/// Compares A, AAAA and TXT records with those of the synthetic upstream. Types whose data holds
/// names are not compared: they may be compressed in more than one right way.
fn check_data(message: &[u8], question: &[u8]) -> Result<(), Wrong> {
    let (name, rest) = question.split_at(question.len() - 4);
    let qtype = u16::from_be_bytes([rest[0], rest[1]]);
    if !matches!(RecordType::from(qtype), RecordType::A | RecordType::AAAA | RecordType::TXT) {
        return Ok(());
    }
    let answers = u16::from_be_bytes([message[6], message[7]]);
    let mut rest = &message[HEADER + question.len()..];
    let mut expected = Vec::new();
    for _ in 0..answers {
        let record = Record::split(&mut rest).ok_or(Wrong::Malformed)?;
        if record.rtype != qtype {
            return Ok(()); // An alias comes first: not compared.
        }
        // Servers may put the records of a set in any order.
        let known = (0..answers).any(|nth| {
            expected.clear();
            synthetic::rdata(name, qtype, nth as u8, &mut expected);
            record.data == expected
        });
        if !known {
            return Err(Wrong::Data);
        }
    }
    Ok(())
}

struct Record<'m> {
    rtype: u16,
    data: &'m [u8],
}

impl<'m> Record<'m> {
    /// Takes the first record off `rest`.
    fn split(rest: &mut &'m [u8]) -> Option<Self> {
        let name = compressed_end(rest)?;
        let (fixed, tail) = rest.get(name..)?.split_first_chunk::<10>()?;
        let (data, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
        *rest = tail;
        Some(Record { rtype: u16::from_be_bytes([fixed[0], fixed[1]]), data })
    }
}

/// Returns the offset past a name that may end in a compression pointer.
fn compressed_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            len @ 1..=63 => at += 1 + usize::from(len),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        question::wire_question,
        stage::answerer,
        upstream::{Answering, Over},
    };

    fn answered(question: &[u8], arguments: &[&str]) -> Vec<u8> {
        let mut query = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(question);
        let mut reply = Vec::new();
        assert!(answerer(arguments).unwrap().answer(&query, Over::Udp, &mut reply));
        reply
    }

    #[test]
    fn the_upstream_answers_right() {
        for qtype in [1, 28, 16] {
            let question = wire_question("wWw.example.test", qtype).unwrap();
            let reply = answered(&question, &["--records=3"]);
            assert_eq!(response_id(&reply), Some(9));
            assert_eq!(check(&reply, &question, true), Ok(Reply { rcode: 0, truncated: false }));
        }
    }

    #[test]
    fn another_spelling_other_data_and_a_cut_record_are_wrong() {
        let question = wire_question("www.example.test", 1).unwrap();
        let good = answered(&question, &[]);
        let mut spelled = good.clone();
        spelled[HEADER + 1] = b'W';
        assert_eq!(check(&spelled, &question, false), Err(Wrong::Question));
        let mut changed = good.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(check(&changed, &question, true), Err(Wrong::Data));
        assert!(check(&changed, &question, false).is_ok(), "data is compared only when asked");
        assert_eq!(check(&good[..good.len() - 1], &question, true), Err(Wrong::Malformed));
    }

    #[test]
    fn an_error_may_lack_the_question() {
        let question = wire_question("www.example.test", 1).unwrap();
        let mut formerr = answered(&question, &[])[..HEADER].to_vec();
        formerr[3] = 0x81;
        formerr[4..].fill(0);
        assert_eq!(check(&formerr, &question, true), Ok(Reply { rcode: 1, truncated: false }));
        assert_eq!(response_id(&formerr[..11]), None);
    }
}
