//! Parts of an answer that reach clients, and what clients are told if there is none.

use super::*;
use hickory_proto::{op::Message, rr::RecordType};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const DNAME: u16 = 39;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const ADDRESS: [u8; 4] = [192, 0, 2, 1];

fn name(text: &str) -> Vec<u8> {
    names::name(text).unwrap()
}

/// A response with these records in answer, authority and additional.
fn whole(query: &Asked, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut message = query.response(0, &[]);
    for (at, section) in sections.into_iter().enumerate() {
        message[7 + 2 * at] = section.len() as u8;
        section.iter().for_each(|record| message.extend(record));
    }
    message
}

/// Returns the records kept of such a response to a question for www.example, as owners and types
/// by section.
async fn kept(qtype: u16, sections: [Vec<Vec<u8>>; 3]) -> Result<[Vec<String>; 3], u8> {
    let fake = playing(move |seen| Some(whole(&seen.query, sections.each_ref().map(|section| &section[..]))));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let key = key_of("www.example", qtype, true);
    let resolved = resolver.resolve(&key).await;
    if rcode_of(&resolved) != rcode::NOERROR {
        return Err(rcode_of(&resolved));
    }
    let [answers, authorities, additionals] = resolved.answer.counts;
    let mut message = Vec::new();
    for word in [0, 0x8180, 1, answers, authorities, additionals] {
        message.extend(word.to_be_bytes());
    }
    message.extend(key.question());
    message.extend_from_slice(&resolved.answer.wire);
    let message = Message::from_vec(&message).unwrap();
    let shown = |records: &[hickory_proto::rr::Record]| {
        records.iter().map(|record| format!("{} {}", record.name, type_of(record.record_type()))).collect()
    };
    Ok([shown(&message.answers), shown(&message.authorities), shown(&message.additionals)])
}

fn type_of(rtype: RecordType) -> String {
    names::type_name(rtype.into())
}

#[tokio::test]
async fn names_that_were_not_asked_for_do_not_reach_clients() {
    let other = |rtype: u16, data: &[u8]| record_of(&name("bank.test"), rtype, 60, data);
    let sections = [
        vec![record(A, 60, &ADDRESS), other(A, &ADDRESS)],
        vec![record_of(&name("example"), NS, 60, &name("ns.example")), other(NS, &name("ns.evil.test"))],
        vec![
            record_of(&name("ns.example"), A, 60, &ADDRESS),
            record_of(&name("ns.evil.test"), A, 60, &ADDRESS),
            other(A, &ADDRESS),
        ],
    ];
    let kept = kept(A, sections).await.unwrap();
    assert_eq!(kept, [vec!["www.example. A"], vec!["example. NS"], vec!["ns.example. A"]]);
}

#[tokio::test]
async fn aliases_and_proofs_are_kept() {
    let chain = vec![
        record(CNAME, 60, &name("a.example")),
        record_of(&name("a.example"), CNAME, 60, &name("b.test")),
        record_of(&name("b.test"), A, 60, &ADDRESS),
    ];
    let [answers, ..] = kept(A, [chain, vec![], vec![]]).await.unwrap();
    assert_eq!(answers, ["www.example. CNAME", "a.example. CNAME", "b.test. A"]);

    let dname = vec![
        record_of(&name("example"), DNAME, 60, &name("test")),
        record(CNAME, 0, &name("www.test")),
        record_of(&name("www.test"), A, 60, &ADDRESS),
    ];
    let [answers, ..] = kept(A, [dname.clone(), vec![], vec![]]).await.unwrap();
    assert_eq!(answers, ["example. DNAME", "www.example. CNAME", "www.test. A"]);
    let [answers, ..] = kept(CNAME, [dname[..2].to_vec(), vec![], vec![]]).await.unwrap();
    assert_eq!(answers, ["example. DNAME", "www.example. CNAME"]);

    // A signature over A with algorithm 13, two labels, and 64 bytes by example.
    let signature =
        [&[0, 1, 13, 2, 0, 0, 0, 60, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1][..], &name("example"), &[5; 64]];
    let signature = signature.concat();
    let nsec = [&name("example")[..], &[0, 1, 0x40]].concat();
    let sections = [
        vec![record(A, 60, &ADDRESS), record(RRSIG, 60, &signature)],
        vec![
            record_of(&name("v.example"), NSEC, 60, &nsec),
            record_of(&name("v.example"), RRSIG, 60, &signature),
        ],
        vec![],
    ];
    let kept = kept(A, sections).await.unwrap();
    let expected =
        [vec!["www.example. A", "www.example. RRSIG"], vec!["v.example. NSEC", "v.example. RRSIG"], vec![]];
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn aliases_that_go_round_in_a_circle_are_a_failure() {
    let circle = vec![
        record(CNAME, 60, &name("a.example")),
        record_of(&name("a.example"), CNAME, 60, &name("www.example")),
    ];
    assert_eq!(kept(A, [circle, vec![], vec![]]).await, Err(rcode::SERVFAIL));
    assert_eq!(
        kept(A, [vec![record(CNAME, 60, &name("www.example"))], vec![], vec![]]).await,
        Err(rcode::SERVFAIL)
    );
}

/// Returns RCODE and extended error of a question for which the upstreams fail.
async fn failure_of(resolver: &Arc<Resolver>) -> (u8, Option<u16>) {
    let resolved = resolver.resolve(&key("www.example")).await;
    (rcode_of(&resolved), resolved.answer.ede)
}

#[tokio::test]
async fn response_codes_of_failures_are_servfail() {
    for code in [1, 2, 4, 5, 7, 8, 9, 11] {
        let fake = failing(code);
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        assert_eq!(failure_of(&resolver).await, (2, Some(23)), "{code}");
    }
}

#[tokio::test]
async fn clients_are_told_why_there_is_no_answer() {
    // The upstream's own extended error: 9, DNSKEY missing.
    let fake =
        playing(|seen| Some(with_opt(seen.query.response(2, &[]), 0, &[0, 15, 0, 4, 0, 9, b'n', b'o'])));
    assert_eq!(failure_of(&resolver(&[upstream(fake.address(), LONG)])).await, (2, Some(9)));
    let (_closed, unreachable) = nowhere();
    assert_eq!(failure_of(&resolver(&[upstream(unreachable, LONG)])).await, (2, Some(23)));
    let junk = playing(|seen| Some(broken(&seen.query)));
    assert_eq!(failure_of(&resolver(&[upstream(junk.address(), LONG)])).await, (2, Some(23)));
    // An upstream's error counts for more than a timeout.
    let silent = Upstream::silent(&Host::local());
    let short = Duration::from_millis(50);
    let both = [upstream(fake.address(), LONG), upstream(silent.address(), short)];
    assert_eq!(failure_of(&resolver(&both)).await, (2, Some(9)));
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_that_nobody_answers() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = resolver(&[upstream(silent.local_addr().unwrap(), Duration::from_millis(800))]);
    assert_eq!(failure_of(&resolver).await, (2, Some(22)));
}

/// The extended error of an upstream is passed on with its answer.
#[tokio::test]
async fn the_extended_error_of_an_answer_stays_with_it() {
    let fake = playing(|seen| Some(with_opt(seen.query.answer(60), 0, &[0, 15, 0, 2, 0, 4])));
    assert_eq!(failure_of(&resolver(&[upstream(fake.address(), LONG)])).await, (0, Some(4)));
}
