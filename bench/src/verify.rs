//! Verifies a server's answers record by record against its upstream's.

use crate::{
    check::Wrong,
    options,
    upstream::{AnswerArgs, Answerer, Answering, Over, datagram_limit},
};
use anyhow::{Context, Result};
use hickory_proto::{op::Message, rr::Record};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// Verifier that knows the answer of `ringbench upstream` to each query, which a cache before it
/// must give too.
#[derive(Debug)]
pub struct Verifier {
    upstream: Answerer,
    /// Transport: datagrams must be no longer than their client takes.
    over: Over,
    /// Number of wrong replies printed so far.
    shown: AtomicU32,
}

/// Most wrong replies that are printed: they tend to be alike.
const SHOWN_MAX: u32 = 3;

impl Verifier {
    /// Returns a verifier for an upstream with these options of `ringbench upstream`, and a server
    /// that is asked over `over`.
    pub fn new(options: &str, over: Over) -> Result<Self> {
        let words: Vec<&str> = options.split_whitespace().collect();
        let answers: AnswerArgs =
            options::parse(&words).context("--verify-answers needs options of `ringbench upstream`")?;
        Ok(Verifier { upstream: Answerer::new(&answers, Arc::default())?, over, shown: AtomicU32::new(0) })
    }

    /// Compares a reply whose ID and question are right with the upstream's answer to `query`: its
    /// RCODE and all records, in any order, with TTLs that are no longer. A truncated reply may
    /// lack some records, and a failure says nothing about them.
    pub fn verify(&self, reply: &[u8], query: &[u8]) -> Result<(), Wrong> {
        if self.over == Over::Udp && reply.len() > datagram_limit(query) {
            return Err(Wrong::Malformed);
        }
        let mut said = Vec::new();
        if !self.upstream.answer(query, Over::Tcp, &mut said) {
            return Err(Wrong::Data);
        }
        let read = |message: &[u8]| Message::from_vec(message).map_err(|_| Wrong::Malformed);
        let (reply, said) = (read(reply)?, read(&said)?);
        self.compare(&reply, &said).inspect_err(|wrong| {
            if self.shown.fetch_add(1, Relaxed) < SHOWN_MAX {
                eprintln!("wrong ({wrong:?}): {reply:?}; the upstream says {said:?}");
            }
        })
    }

    fn compare(&self, reply: &Message, said: &Message) -> Result<(), Wrong> {
        let cut = reply.metadata.truncation;
        let (rcode, right) = (reply.metadata.response_code, said.metadata.response_code);
        if rcode != right {
            return if matches!(u16::from(rcode), 0 | 3) { Err(Wrong::Data) } else { Ok(()) };
        }
        if cut && self.over == Over::Tcp {
            return Err(Wrong::Data);
        }
        agree(&reply.answers, &said.answers, cut)?;
        agree(&reply.authorities, &said.authorities, cut)?;
        agree(&reply.additionals, &said.additionals, cut)
    }
}

fn agree(got: &[Record], said: &[Record], cut: bool) -> Result<(), Wrong> {
    if got.len() > said.len() || !cut && got.len() < said.len() {
        return Err(Wrong::Data);
    }
    let mut left: Vec<&Record> = said.iter().collect();
    for record in got {
        // Usually the first one left, unless the server has changed the order.
        let at = left.iter().position(|other| {
            (&other.name, other.dns_class, &other.data) == (&record.name, record.dns_class, &record.data)
        });
        let same = left.remove(at.ok_or(Wrong::Data)?);
        if record.ttl > same.ttl {
            return Err(Wrong::Ttl);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        query::QUERY_MAX,
        question::{HEADER, wire_question},
    };

    const OPTIONS: &str = "--records=3 --signed --nxdomain-suffix=none.test --alias-suffix=alias.test";

    fn query(name: &str, qtype: u16, options: &[&str]) -> Vec<u8> {
        let mut query = [0; QUERY_MAX];
        let template = crate::stage::template(options).unwrap();
        let len = template.write(&mut query, 7, &wire_question(name, qtype).unwrap(), 0);
        query[..len].to_vec()
    }

    fn said(query: &[u8], over: Over) -> Vec<u8> {
        let mut said = Vec::new();
        assert!(Verifier::new(OPTIONS, over).unwrap().upstream.answer(query, over, &mut said));
        said
    }

    fn verify(reply: &[u8], query: &[u8]) -> Result<(), Wrong> {
        Verifier::new(OPTIONS, Over::Udp).unwrap().verify(reply, query)
    }

    #[test]
    fn what_the_upstream_says_is_right_and_in_any_order() {
        for name in ["www.test", "www.none.test", "www.alias.test"] {
            for qtype in [1, 2, 5, 6, 12, 15, 16, 28, 33, 65, 255, 257, 65280, 99] {
                for options in [&[][..], &["--edns"], &["--do"]] {
                    let query = query(name, qtype, options);
                    let right = said(&query, Over::Udp);
                    assert_eq!(verify(&right, &query), Ok(()), "{name} {qtype} {options:?}");
                }
            }
        }
        let query = query("www.test", 1, &[]);
        let mut turned = Message::from_vec(&said(&query, Over::Udp)).unwrap();
        turned.answers.reverse();
        turned.answers[0].ttl -= 1;
        assert_eq!(verify(&turned.to_vec().unwrap(), &query), Ok(()));
    }

    #[test]
    fn anything_else_is_wrong() {
        let asked = query("www.test", 1, &["--do"]);
        let right = said(&asked, Over::Udp);
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = Message::from_vec(&right).unwrap();
            change(&mut message);
            verify(&message.to_vec().unwrap(), &asked)
        };
        assert_eq!(changed(&|_| ()), Ok(()));
        assert_eq!(
            changed(&|message| drop(message.answers.pop())),
            Err(Wrong::Data),
            "without the signature"
        );
        assert_eq!(changed(&|message| drop(message.answers.remove(0))), Err(Wrong::Data));
        assert_eq!(changed(&|message| message.answers.push(message.answers[0].clone())), Err(Wrong::Data));
        assert_eq!(changed(&|message| message.answers[1] = message.answers[0].clone()), Err(Wrong::Data));
        assert_eq!(changed(&|message| message.answers.clear()), Err(Wrong::Data));
        assert_eq!(changed(&|message| message.answers[0].ttl += 1), Err(Wrong::Ttl));
        // The answer for another name, for another type, and for a query without DO.
        for other in [query("www2.test", 1, &["--do"]), query("www.test", 28, &["--do"])] {
            let mut mixed_up = right[..HEADER].to_vec();
            mixed_up.extend(&asked[HEADER..HEADER + 14]);
            mixed_up.extend(&said(&other, Over::Udp)[other.len() - 11..]);
            assert_eq!(verify(&mixed_up, &asked), Err(Wrong::Data));
        }
        let plain = said(&query("www.test", 1, &["--edns"]), Over::Udp);
        assert_eq!(verify(&plain, &asked), Err(Wrong::Data));
        // NXDOMAIN is wrong; a failure says nothing about the name.
        let mut status = right[..HEADER + 14].to_vec();
        status[6..12].fill(0);
        status[3] = 0x83;
        assert_eq!(verify(&status, &asked), Err(Wrong::Data));
        status[3] = 0x82;
        assert_eq!(verify(&status, &asked), Ok(()));
    }

    #[test]
    fn a_datagram_fits_its_client_and_what_is_cut_may_lack_records() {
        let asked = query("www.test", 65280, &[]);
        let mut cut = said(&asked, Over::Udp);
        let whole = cut.len();
        cut.truncate(HEADER + 14);
        cut[6..12].fill(0);
        assert_eq!(verify(&cut, &asked), Err(Wrong::Data));
        cut[2] |= 2;
        assert_eq!(verify(&cut, &asked), Ok(()));
        let over_tcp = Verifier::new(OPTIONS, Over::Tcp).unwrap();
        assert_eq!(over_tcp.verify(&cut, &asked), Err(Wrong::Data), "over TCP there is room");
        assert!(whole < 512);
        let long = [said(&asked, Over::Udp), vec![0; 512]].concat();
        assert_eq!(verify(&long, &asked), Err(Wrong::Malformed));
    }
}
