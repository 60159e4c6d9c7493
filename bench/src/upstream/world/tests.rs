use super::*;
use crate::question::record_type;
use ringdns_testkit::Query;

const APEXES: [&str; 12] = [
    "example.com",
    "example.org",
    "example.net",
    "one.test",
    "two.test",
    "three.test",
    "four.test",
    "five.test",
    "six.test",
    "a.co.uk",
    "b.co.uk",
    "c.co.uk",
];

fn ask(world: &World, name: &str, qtype: &str, dnssec_ok: bool, over: Over) -> Message {
    let query = Query::of(name, record_type(qtype).unwrap()).id(9);
    let query = if dnssec_ok { query.dnssec(true, false) } else { query };
    let mut reply = Vec::new();
    assert!(world.answer(&query.wire(), over, &mut reply), "{name} {qtype}");
    let message = Message::from_vec(&reply).unwrap();
    assert_eq!((message.metadata.id, message.queries.len()), (9, 1));
    assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    message
}

fn world() -> World {
    World::new(APEXES).unwrap()
}

#[test]
fn names_have_what_the_table_says() {
    let world = world();
    for apex in APEXES {
        let ask = |label: &str, qtype| ask(&world, &format!("{label}{apex}"), qtype, false, Over::Tcp);
        let rows = [
            ("", "SOA"),
            ("", "NS"),
            ("", "MX"),
            ("", "TXT"),
            ("www.", "A"),
            ("mail.", "A"),
            ("chain.", "A"),
            ("dname.", "DNAME"),
            ("host.dname.", "A"),
            ("text.", "TXT"),
            ("many.", "A"),
            ("sip.", "SRV"),
            ("svc.", "SVCB"),
            ("loc.", "TYPE29"),
            ("opaque.", "TYPE65534"),
            ("a.b.wild.", "A"),
            ("zero.", "A"),
        ];
        for (label, qtype) in rows {
            let answer = ask(label, qtype);
            let has_it = answer
                .answers
                .iter()
                .any(|record| u16::from(record.record_type()) == record_type(qtype).unwrap());
            assert!(
                has_it && answer.metadata.response_code == ResponseCode::NoError,
                "{label}{apex} {qtype}: {answer}"
            );
        }
        for (label, code, aliases) in
            [("missing.", 3, 0), ("dangling.", 3, 1), ("nodata.", 0, 0), ("hollow.", 0, 1)]
        {
            let answer = ask(label, "A");
            assert_eq!(u16::from(answer.metadata.response_code), code, "{label}{apex}");
            assert_eq!((answer.answers.len(), answer.authorities.len()), (aliases, 1), "{label}{apex}");
        }
        assert_eq!(ask("servfail.", "A").metadata.response_code, ResponseCode::ServFail);
        assert_eq!(ask("refused.", "A").metadata.response_code, ResponseCode::Refused);
    }
}

#[test]
fn the_end_of_a_chain_is_what_it_says_when_it_is_asked_itself() {
    let world = world();
    for apex in APEXES {
        let chain = ask(&world, &format!("chain.{apex}"), "A", false, Over::Tcp).answers;
        let end = ask(&world, apex, "A", false, Over::Tcp).answers;
        assert_eq!(chain[chain.len() - end.len()..], end);
        assert_eq!(chain.len() - end.len(), 7);
    }
}

#[test]
fn a_third_is_signed_and_only_who_asks_sees_it() {
    let world = world();
    let signed = |name: &str| {
        let answer = ask(&world, name, "A", true, Over::Tcp);
        let signatures =
            answer.answers.iter().filter(|record| record.record_type() == RecordType::RRSIG).count();
        assert_eq!(answer.metadata.authentic_data, signatures > 0, "{name}");
        signatures > 0
    };
    let count = APEXES.iter().filter(|apex| signed(apex)).count();
    assert!((1..APEXES.len()).contains(&count), "{count}");
    for apex in APEXES {
        let plain = ask(&world, apex, "A", false, Over::Tcp);
        assert!(
            plain.edns.is_none() && plain.answers.iter().all(|record| record.record_type() == RecordType::A)
        );
        // The parent zone holds a delegation's DS.
        let ds = ask(&world, apex, "DS", false, Over::Tcp);
        assert_eq!(ds.answers.is_empty(), !signed(apex), "{apex}");
        assert_ne!(ds.metadata.response_code, ResponseCode::NXDomain);
    }
}

#[test]
fn what_does_not_fit_is_cut() {
    let world = world();
    for (name, records) in [("text.example.com", 5), ("huge.example.com", 100)] {
        let cut = ask(&world, name, "TXT", false, Over::Udp);
        assert!(cut.metadata.truncation && cut.answers.is_empty(), "{name}");
        let whole = ask(&world, name, "TXT", false, Over::Tcp);
        assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, records), "{name}");
    }
    assert!(!ask(&world, "text.example.com", "TXT", true, Over::Udp).metadata.truncation);
}

#[test]
fn transfers_and_other_classes_are_refused() {
    assert_eq!(
        ask(&world(), "example.com", "AXFR", false, Over::Tcp).metadata.response_code,
        ResponseCode::Refused
    );
    assert!(World::new([]).is_err());
}
