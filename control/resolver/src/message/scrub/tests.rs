use super::*;
use ringdns_common::names;
use ringdns_dataplane::dns::{header, rtype::*};

const HINFO: u16 = 13;

/// Returns a name on the wire in its letters.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

fn name(text: &str) -> Name {
    Name::from_wire(&names::name(text).unwrap()).unwrap()
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record { owner: name(owner), spelled: wire(owner).into(), rtype, class: 1, ttl: 60, rdata: rdata.into() }
}

fn address(owner: &str) -> Record {
    record(owner, A, &[192, 0, 2, 1])
}

fn alias(owner: &str, target: &str) -> Record {
    record(owner, CNAME, &wire(target))
}

fn dname(owner: &str, target: &str) -> Record {
    record(owner, DNAME, &wire(target))
}

fn signature(owner: &str, covered: u16) -> Record {
    record(owner, RRSIG, &covered.to_be_bytes())
}

fn response_about(asked: &str, qtype: u16, answers: Vec<Record>) -> Message {
    let key = names::key(&names::name(asked).unwrap(), qtype, true, false).unwrap();
    let mut message = Vec::new();
    for word in [0, header::QR, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    message.extend_from_slice(key.question());
    Message { answers, ..Message::parse(&message, &key).unwrap() }
}

fn response(qtype: u16, answers: Vec<Record>) -> Message {
    response_about("www.example", qtype, answers)
}

fn changed(message: &mut Message) -> Result<bool, Endless> {
    scrub(message, true).map(|scrubbed| scrubbed.changed)
}

fn owners(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| names::display(&record.spelled)).collect()
}

#[test]
fn records_that_belong_to_the_answer_stay() {
    let chain = vec![alias("WWW.example", "a.example"), alias("a.example", "b.test"), address("b.test")];
    let mut message = response(A, chain);
    message.authorities = vec![record("test", NS, &wire("ns.test"))];
    message.additionals = vec![address("NS.test")];
    assert_eq!(changed(&mut message), Ok(false));

    let mx = record("www.example", MX, &[&[0, 1], wire("mail.test").as_slice()].concat());
    let mut message = response(MX, vec![mx]);
    message.additionals = vec![address("mail.test")];
    assert_eq!(changed(&mut message), Ok(false));

    for target in ["svc.test", "."] {
        let service = record("www.example", HTTPS, &[&[0, 1], wire(target).as_slice(), &[0, 3, 9]].concat());
        let mut message = response(HTTPS, vec![service]);
        message.additionals = vec![address(if target == "." { "www.example" } else { target })];
        assert_eq!(changed(&mut message), Ok(false), "{target}");
    }
}

#[test]
fn other_records_go() {
    let mut message = response(A, vec![address("bank.test"), address("www.example")]);
    let ns = |zone: &str| record(zone, NS, &wire("ns.evil.test"));
    message.authorities = vec![ns("example"), ns("bank.test"), address("example")];
    message.additionals = vec![address("bank.test"), address("ns.evil.test")];
    assert_eq!(changed(&mut message), Ok(true));
    assert_eq!(owners(&message.answers), ["www.example."]);
    assert_eq!(owners(&message.authorities), ["example."]);
    assert_eq!(owners(&message.additionals), ["ns.evil.test."]);

    let mx = record("www.example", MX, &[&[0, 1], wire("mail.test").as_slice()].concat());
    let mut message = response(A, vec![address("www.example"), mx]);
    assert_eq!(changed(&mut message), Ok(true), "of another type than was asked for");
    assert_eq!(message.answers.len(), 1);
}

#[test]
fn circles_and_endless_aliases_are_no_answers() {
    let circle = vec![alias("www.example", "a.example"), alias("a.example", "www.example")];
    assert_eq!(changed(&mut response(A, circle)), Err(Endless));
    let itself = vec![alias("www.example", "www.example")];
    assert_eq!(changed(&mut response(A, itself.clone())), Err(Endless));
    assert_eq!(changed(&mut response(CNAME, itself)), Ok(false), "it is what was asked for");
    let mut long = vec![alias("www.example", "0.example")];
    long.extend((0..ALIASES_MAX).map(|i| alias(&format!("{i}.example"), &format!("{}.example", i + 1))));
    assert_eq!(changed(&mut response(A, long.clone())), Err(Endless));
    long.pop();
    assert_eq!(changed(&mut response(A, long)), Ok(false));
}

#[test]
fn aliases_stand_in_the_order_in_which_they_are_followed() {
    let answers = vec![
        address("c.test"),
        signature("b.example", CNAME),
        alias("b.example", "c.test"),
        alias("www.example", "b.example"),
        signature("www.example", CNAME),
        record("c.test", A, &[192, 0, 2, 2]),
    ];
    let mut message = response(A, answers.clone());
    assert_eq!(changed(&mut message), Ok(true));
    let order = [3, 4, 1, 2, 0, 5].map(|at: usize| answers[at].clone());
    assert_eq!(message.answers, order);
    assert_eq!(changed(&mut message), Ok(false));
}

#[test]
fn the_dname_that_makes_an_alias_stays_before_it() {
    let dname = dname("sub.example", "example");
    for (qtype, end) in [(A, true), (CNAME, false)] {
        // The alias leads to the owner of the DNAME, and that is no circle.
        let mut answers =
            vec![dname.clone(), signature("sub.example", DNAME), alias("sub.sub.example", "sub.example")];
        answers.extend(end.then(|| address("sub.example")));
        let mut message = response_about("sub.sub.example", qtype, answers.clone());
        assert_eq!(changed(&mut message), Ok(false), "{qtype}");
        message.answers.reverse();
        assert_eq!(changed(&mut message), Ok(true), "{qtype}");
        assert_eq!(message.answers[2..], answers[2..], "{qtype}");
    }
}

/// RFC 6672 section 3.1: a server that sends a DNAME alone leaves the alias to the resolver.
#[test]
fn an_alias_that_a_dname_makes_is_added() {
    let mut message = response_about("a.sub.example", A, vec![dname("sub.example", "Test")]);
    let scrubbed = scrub(&mut message, true).unwrap();
    assert_eq!(scrubbed, Scrubbed { changed: true, leads_to: Some(name("a.test")) });
    assert_eq!(message.answers, [dname("sub.example", "Test"), alias("a.sub.example", "a.Test")]);

    let answers = vec![address("a.test"), dname("sub.example", "test"), dname("example", "wrong")];
    let mut message = response_about("a.sub.example", A, answers);
    assert_eq!(scrub(&mut message, true).unwrap().leads_to, None);
    assert_eq!(
        owners(&message.answers),
        ["sub.example.", "example.", "a.sub.example.", "a.test."],
        "the closest one makes the alias"
    );
    assert_eq!(message.answers[2], alias("a.sub.example", "a.test"));

    let mut message = response_about("a.sub.example", CNAME, vec![dname("sub.example", "test")]);
    assert_eq!(scrub(&mut message, true).unwrap().leads_to, None, "the alias is what was asked for");
    assert_eq!(message.answers.len(), 2);

    let mut message = response_about("sub.example", A, vec![dname("sub.example", "test")]);
    assert_eq!(changed(&mut message), Ok(false), "it makes aliases of names below it only");

    let long = format!("{}.example", ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
    let made_too_long = dname("example", &format!("{}.test", "d".repeat(63)));
    let mut message = response_about(&long, A, vec![made_too_long]);
    assert_eq!(changed(&mut message), Ok(false), "the target is too long");
    assert_eq!(message.answers.len(), 1);

    let circle = vec![dname("example", "sub.example")];
    assert_eq!(changed(&mut response_about("a.example", A, circle)), Err(Endless));
}

#[test]
fn any_takes_records_of_every_type_of_the_name_and_of_no_other() {
    let note = record("www.example", HINFO, b"\x00\x00");
    let answers = vec![address("www.example"), note, address("other.example")];
    let mut message = response(ANY, answers);
    assert_eq!(changed(&mut message), Ok(true));
    assert_eq!(owners(&message.answers), ["www.example."; 2]);
}

#[test]
fn the_records_of_a_set_have_one_ttl_wherever_they_stand() {
    let with_ttl = |ttl, record: Record| Record { ttl, ..record };
    let mut message = response(
        A,
        vec![
            with_ttl(300, alias("www.example", "host.example")),
            with_ttl(200, alias("HOST.example", "b.example")),
            with_ttl(60, address("b.example")),
            with_ttl(1 << 31, record("other.example", A, &[0; 4])),
            with_ttl(20, address("B.example")),
        ],
    );
    assert_eq!(changed(&mut message), Ok(true));
    let ttls: Vec<_> = message.answers.iter().map(|record| record.ttl).collect();
    assert_eq!(ttls, [300, 200, 20, 20]);
    assert_eq!(changed(&mut message), Ok(false), "they have it now");
    let mut message = response(A, vec![with_ttl(1 << 31, address("www.example")), address("www.example")]);
    assert_eq!(changed(&mut message), Ok(true));
    assert_eq!(message.answers[1].ttl, 0);
}

#[test]
fn records_of_another_class_go() {
    let chaos = Record { class: 3, ..address("www.example") };
    let mut message = response(A, vec![chaos, address("www.example")]);
    assert_eq!((changed(&mut message), message.answers.len()), (Ok(true), 1));
}

#[test]
fn proofs_are_for_clients_that_asked_for_them() {
    let all = [A, RRSIG, NSEC, NSEC3].map(|rtype| record("www.example", rtype, &[0, 1, 0, 0])).to_vec();
    for (qtype, dnssec_ok, count) in [(A, true, 2), (A, false, 1), (ANY, false, 4), (NSEC, false, 1)] {
        let mut message = response(qtype, all.clone());
        scrub(&mut message, dnssec_ok).unwrap();
        assert_eq!(message.answers.len(), count, "{qtype} {dnssec_ok}");
    }
}

#[test]
fn an_alias_leads_out_where_nothing_is_said_of_its_target() {
    let leads_to = |qtype, answers: Vec<Record>, zone: Option<&str>| {
        let mut message = response(qtype, answers);
        let soa = |zone| record(zone, SOA, &[&wire(zone)[..], &wire(zone), &[0; 20]].concat());
        message.authorities.extend(zone.map(soa));
        scrub(&mut message, true).unwrap().leads_to
    };
    let bare = || vec![alias("www.example", "Www.Test")];
    let whole = || vec![alias("www.example", "www.test"), address("www.test")];
    assert_eq!(leads_to(A, bare(), None), Some(name("www.test")));
    assert_eq!(leads_to(A, bare(), Some("example")), Some(name("www.test")));
    assert_eq!(leads_to(A, bare(), Some("test")), None, "there is no such record");
    assert_eq!(leads_to(A, whole(), None), None);
    assert_eq!(leads_to(AAAA, whole(), None), Some(name("www.test")));
    assert_eq!(leads_to(CNAME, bare(), None), None);
    assert_eq!(leads_to(A, vec![], None), None);
}
