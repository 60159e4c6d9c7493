//! Denials that follow from what is known of other names (RFC 8020, RFC 8198).

use super::validation::{Coded, NOW, Root, address, nsec, pass, soa, validating_coded};
use super::*;
use crate::{host::Purge, policy::testing::blocking};
use hickory_proto::{
    dnssec::rdata::{DNSSECRData, NSEC},
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType},
};
use std::str::FromStr;

const SYNTHESISED: Option<u16> = Some(29);

/// Returns a name on the wire.
fn wire(name: &str) -> Vec<u8> {
    names::name(name).unwrap()
}

/// The root zone of the tests of ranges: `b.` and `m.` have addresses.
fn zone(root: &Root, name: &str, qtype: RecordType) -> Coded {
    let types = [RecordType::A, RecordType::NSEC, RecordType::RRSIG];
    let denial = |owner: &str, next: &str| root.always(&[nsec(owner, next, types)]);
    let soa = || root.always(&[soa(".")]);
    match (name, qtype) {
        (".", RecordType::DNSKEY) => Some((ResponseCode::NoError, vec![], vec![])),
        ("b." | "m.", RecordType::A) => {
            Some((ResponseCode::NoError, root.always(&[address(name, 60)]), vec![]))
        }
        ("b.", _) => Some((ResponseCode::NoError, vec![], [soa(), denial("b.", "m.")].concat())),
        _ if ("b".."m").contains(&name.trim_end_matches('.').rsplit('.').next().unwrap()) => {
            let proof = [soa(), denial("b.", "m."), denial(".", "b.")].concat();
            Some((ResponseCode::NXDomain, vec![], proof))
        }
        _ => Some((ResponseCode::NXDomain, vec![], [soa(), denial("m.", "."), denial(".", "b.")].concat())),
    }
}

/// RCODE, whether it is authentic, extended error, and records of the authority section.
fn seen(resolved: &Resolved) -> (u8, bool, Option<u16>, u16) {
    let answer = &resolved.answer;
    (rcode_of(resolved), answer.status.flags() & header::AD != 0, answer.ede, answer.counts[1])
}

#[tokio::test]
async fn made_up_names_of_a_signed_zone_cost_few_questions() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating_coded(&root, "", zone);
    let mut asked = Vec::new();
    for number in 0..500 {
        let resolved = resolver.resolve(&key_of(&format!("made{number}.c"), 1, number % 2 == 0)).await;
        asked.push(fake.asked());
        let (rcode, authentic, _, records) = seen(&resolved);
        let expected = if number % 2 == 0 { 6 } else { 1 };
        assert_eq!((rcode, authentic, records), (rcode::NXDOMAIN, true, expected), "{number}");
        assert_eq!(resolved.answer.ede.is_some(), number > 0, "{number}");
    }
    // The root's keys, and the first name.
    assert_eq!((asked[0], asked[499]), (2, 2), "{:?}", fake.seen());
    assert_eq!(resolver.counters.synthesised.get(), 499);
    assert_eq!(resolver.host().len(), 3, "they displace nothing");
    let existing = resolver.resolve(&key_of("m", 1, true)).await;
    assert_eq!(seen(&existing), (rcode::NOERROR, true, None, 0));
    // A type that a name has not.
    assert_eq!(seen(&resolver.resolve(&key_of("b", 28, true)).await), (rcode::NOERROR, true, SYNTHESISED, 4));
    assert_eq!(fake.asked(), 3);
}

/// Returns records of the wildcard `*.fw.`, as they are expanded for a name.
fn expanded(root: &Root, name: &str) -> Vec<Record> {
    let mut records = root.always(&[address("*.fw.", 60)]);
    records.iter_mut().for_each(|record| record.name = Name::from_str(name).unwrap());
    records
}

/// The root zone with a wildcard: `*.fw.` has an address, and `b.fw.` another.
pub(super) fn with_wildcard(root: &Root, name: &str, qtype: RecordType) -> Coded {
    let types = [RecordType::A, RecordType::NSEC, RecordType::RRSIG];
    let denial = |owner: &str, next: &str| root.always(&[nsec(owner, next, types)]);
    match (name, qtype) {
        (".", RecordType::DNSKEY) => Some((ResponseCode::NoError, vec![], vec![])),
        ("b.fw.", RecordType::A) => Some((ResponseCode::NoError, root.always(&[address(name, 60)]), vec![])),
        (_, RecordType::A) if name < "b" => {
            Some((ResponseCode::NoError, expanded(root, name), denial("*.fw.", "b.fw.")))
        }
        (_, RecordType::A) => Some((ResponseCode::NoError, expanded(root, name), denial("b.fw.", "."))),
        _ => {
            let proof = [root.always(&[soa(".")]), denial("*.fw.", "b.fw."), denial("b.fw.", ".")].concat();
            Some((ResponseCode::NoError, vec![], proof))
        }
    }
}

#[tokio::test]
async fn names_of_a_signed_wildcard_cost_few_questions() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating_coded(&root, "", with_wildcard);
    let ask = async |name: &str, dnssec_ok: bool| {
        let before = fake.asked();
        let resolved = resolver.resolve(&key_of(name, 1, dnssec_ok)).await;
        let (rcode, authentic, ede, _) = seen(&resolved);
        assert_eq!((rcode, authentic), (rcode::NOERROR, true), "{name}");
        (fake.asked() - before, resolved.answer.counts, ede, resolved.answer.ttl)
    };
    assert_eq!(ask("c.fw", false).await.0, 2, "with the keys");
    // Records with their signature, and the denial with its own.
    assert_eq!(ask("d.fw", true).await, (0, [2, 2, 0], SYNTHESISED, 60));
    assert_eq!(ask("e.d.fw", false).await, (0, [1, 0, 0], SYNTHESISED, 60));
    assert_eq!(ask("a.fw", true).await.0, 1, "in another span");
    assert_eq!(ask("a.a.fw", true).await.0, 0);
    assert_eq!(ask("b.fw", true).await.0, 1, "it has records of its own");
    assert_eq!((resolver.counters.expanded.get(), resolver.counters.synthesised.get()), (3, 0));
    assert_eq!(resolver.host().peek(&key_of("d.fw", 1, true)).map(|_| ()), None, "they displace nothing");
    pass(40);
    assert_eq!(ask("f.fw", true).await, (0, [2, 2, 0], SYNTHESISED, 20));
    resolver.host().purge(&Purge::Name(wire("g.fw")));
    assert_eq!([ask("h.fw", true).await.0, ask("g.fw", true).await.0], [0, 1], "a name was purged");
    pass(60);
    assert!(ask("i.fw", true).await.0 >= 1, "it has expired");
    let (fake, resolver) = validating_coded(&root, "aggressive = false\n", with_wildcard);
    for name in ["c.fw", "d.fw"] {
        resolver.resolve(&key_of(name, 1, true)).await;
    }
    assert_eq!(fake.asked(), 3);
}

#[tokio::test]
async fn a_denial_from_ranges_ends_with_its_ttl_and_with_purges() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating_coded(&root, "", zone);
    let ask = async |name: &str| {
        let before = fake.asked();
        let resolved = resolver.resolve(&key_of(name, 1, true)).await;
        assert_eq!(rcode_of(&resolved), rcode::NXDOMAIN);
        (fake.asked() - before, resolved.answer.ttl)
    };
    ask("c").await;
    pass(20);
    assert_eq!(ask("d.c").await, (0, 40));
    pass(39);
    assert_eq!(ask("e.c").await, (0, 1));
    pass(1);
    assert_eq!(ask("f.c").await, (1, 60), "it has expired");
    resolver.host().purge(&Purge::Name(wire("g.h")));
    assert_eq!(ask("x.h").await, (0, 60), "another name was purged");
    assert_eq!(ask("x.g.h").await.0, 1, "a name above was purged");
    resolver.host().purge(&Purge::Suffix(wire("j")));
    assert_eq!([ask("i").await.0, ask("j").await.0, ask("j.j").await.0], [0, 1, 0]);
    resolver.host().purge(&Purge::All);
    assert_eq!(ask("k").await.0, 2, "with the keys");
    // Records that were known before a purge teach nothing again.
    resolver.host().purge(&Purge::Name(wire("l")));
    pass(1);
    let cd = names::key(&wire("k"), 1, true, true).unwrap();
    assert!(resolver.host().peek(&cd).is_some());
    resolver.host().forget(&key_of("k", 1, true));
    assert_eq!(ask("k").await.0, 0);
    assert_eq!(ask("l").await.0, 1);
}

#[tokio::test]
async fn ranges_are_not_for_clients_that_set_cd_nor_where_nothing_is_validated() {
    let root = Arc::new(Root::new());
    let more = "[cache]\nnxdomain_cut = \"off\"\n";
    let (fake, resolver) = validating_coded(&root, more, zone);
    resolver.resolve(&key_of("c", 1, true)).await;
    let asked = fake.asked();
    let cd = names::key(&wire("d"), 1, true, true).unwrap();
    assert_eq!(seen(&resolver.resolve(&cd).await), (rcode::NXDOMAIN, false, None, 6));
    assert_eq!(fake.asked(), asked + 1);

    let insecure = "insecure = [\"corp\", \"e\"]\naggressive = true\n";
    let (other, exempt) = validating_coded(&root, &format!("{insecure}{more}"), zone);
    for (fake, resolver, name, expected) in [
        (&fake, &resolver, "f", 0),
        (&other, &exempt, "f", 0),
        (&other, &exempt, "x.e", 1),
        (&other, &exempt, "corp", 1),
    ] {
        resolver.resolve(&key_of("c", 1, true)).await;
        let asked = fake.asked();
        assert_eq!(rcode_of(&resolver.resolve(&key_of(name, 1, true)).await), rcode::NXDOMAIN);
        assert_eq!(fake.asked(), asked + expected, "{name}");
    }
    let off = "aggressive = false\n";
    let (fake, resolver) = validating_coded(&root, &format!("{off}{more}"), zone);
    for (name, asked) in [("c", 2), ("d", 3), ("d.d", 4)] {
        resolver.resolve(&key_of(name, 1, true)).await;
        assert_eq!(fake.asked(), asked, "{name}");
    }
    assert_eq!(resolver.counters.synthesised.get(), 0);
}

/// Returns the NXDOMAIN of a forwarder for all names.
fn nothing(seen: &Seen, flags: u16, before: &[Vec<u8>]) -> Vec<u8> {
    let names = [&b"\x02ns\x07invalid\0\x02ns\x07invalid\0"[..], &[0; 16], &60_u32.to_be_bytes()].concat();
    let soa = record_of(b"\x07example\0", 6, 60, &names);
    let mut message = seen.query.response(flags | u16::from(rcode::NXDOMAIN), &[before, &[soa]].concat());
    message[6..10].copy_from_slice(&[0, before.len() as u8, 0, 1]);
    message
}

fn cutting(upstreams: &[UpstreamConfig], cut: &str) -> Arc<Resolver> {
    resolver_of(&config(upstreams, &format!("[cache]\nnxdomain_cut = \"{cut}\"\n")), FlightLimits::default())
}

#[tokio::test]
async fn nothing_is_below_a_name_that_does_not_exist_if_upstreams_are_trusted() {
    let trusted = [("all", false, 0, true), ("secure", true, header::AD, true)];
    let others =
        [("secure", false, header::AD, false), ("secure", true, 0, false), ("off", true, header::AD, false)];
    for (cut, trusted, flags, expected) in trusted.into_iter().chain(others) {
        let fake = playing(move |seen| Some(nothing(seen, flags, &[])));
        let resolver = cutting(&[UpstreamConfig { trusted, ..upstream(fake.address(), LONG) }], cut);
        let ask = async |name: &str| {
            let before = fake.asked();
            let resolved = resolver.resolve(&key(name)).await;
            assert_eq!(rcode_of(&resolved), rcode::NXDOMAIN);
            (fake.asked() - before, resolved)
        };
        ask("a.example").await;
        let below = ["x.a.example", "y.x.a.example"];
        let mut known = [false; 2];
        for (name, known) in below.iter().zip(&mut known) {
            let (asked, resolved) = ask(name).await;
            *known = asked == 0;
            let (_, authentic, ede, records) = seen(&resolved);
            assert_eq!((authentic, records), (flags != 0 && trusted, 1), "{cut} {name}");
            assert_eq!(ede, SYNTHESISED.filter(|_| expected), "{cut} {name}");
        }
        assert_eq!(known, [expected; 2], "{cut} {trusted} {flags}");
        for other in ["ba.example", "b.example", "example"] {
            assert_eq!(ask(other).await.0, 1, "{other}");
        }
        assert_eq!(resolver.counters.below_nxdomain.get(), if expected { 2 } else { 0 });
        assert_eq!(resolver.host().len(), if expected { 4 } else { 6 });
    }
}

#[tokio::test]
async fn a_cut_ends_with_its_ttl_and_with_purges() {
    let fake = playing(|seen| Some(nothing(seen, 0, &[])));
    let config =
        config(&[upstream(fake.address(), LONG)], "[cache]\nnxdomain_cut = \"all\"\nmin_ttl = \"5s\"\n");
    let host = Arc::new(HostTier::new(1 << 22, Arc::default()));
    let clock = Clock::simulated(|| u64::from(NOW.get()) * 1_000_000_000);
    let resolver = Resolver::new(host, &config, clock, FlightLimits::default(), None);
    let ask = async |name: &str| {
        let before = fake.asked();
        let resolved = resolver.resolve(&key(name)).await;
        (fake.asked() - before, resolved.answer.ttl)
    };
    assert_eq!(ask("a.example").await, (1, 60));
    pass(58);
    assert_eq!(ask("x.a.example").await, (0, 2), "no longer, though answers are kept for 5 s");
    pass(2);
    // The expired answer is renewed in the background.
    assert_eq!(ask("y.a.example").await, (1, 60));
    for (purge, expected) in [
        (Purge::Name(wire("y.a.example")), 1),
        (Purge::Name(wire("x.y.a.example")), 1),
        (Purge::Suffix(wire("example")), 1),
        (Purge::Name(wire("b.example")), 0),
        (Purge::Name(wire("example")), 0),
    ] {
        ask("y.a.example").await;
        assert_eq!(ask("z.y.a.example").await.0, 0);
        resolver.host().purge(&purge);
        assert_eq!(ask("x.y.a.example").await.0, expected, "{purge:?}");
        resolver.host().purge(&Purge::All);
    }
}

#[tokio::test]
async fn an_nxdomain_behind_an_alias_or_for_clients_that_set_cd_cuts_nothing() {
    let fake = playing(|seen| {
        let alias = record(5, 60, b"\x04gone\x07example\0");
        let is_alias = seen.query.is_for("alias.example");
        Some(nothing(seen, 0, if is_alias { std::slice::from_ref(&alias) } else { &[] }))
    });
    let resolver = cutting(&[upstream(fake.address(), LONG)], "all");
    let resolved = resolver.resolve(&key("alias.example")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.counts), (rcode::NXDOMAIN, [1, 1, 0]));
    let asked = fake.asked();
    resolver.resolve(&key("x.alias.example")).await;
    assert_eq!(fake.asked(), asked + 1);
    let cd = |name| names::key(&wire(name), 1, false, true).unwrap();
    for name in ["a.example", "x.a.example"] {
        resolver.resolve(&cd(name)).await;
    }
    assert_eq!((fake.asked(), resolver.counters.below_nxdomain.get()), (asked + 3, 0));
}

#[tokio::test]
async fn a_zone_with_upstreams_of_its_own_and_lists_come_before_a_cut() {
    let corp = playing(|seen| Some(seen.query.answer(60)));
    let others = playing(|seen| Some(nothing(seen, 0, &[])));
    let zones = vec![wire("corp.example")];
    let upstreams =
        [upstream(others.address(), LONG), UpstreamConfig { zones, ..upstream(corp.address(), LONG) }];
    let resolver = cutting(&upstreams, "all");
    let client = Some(client("192.0.2.1"));
    assert_eq!(rcode_of(&resolver.resolve_for(client, &key("example")).await), rcode::NXDOMAIN);
    assert_eq!(rcode_of(&resolver.resolve_for(client, &key("www.corp.example")).await), rcode::NOERROR);
    resolver.set_policy(blocking("ads.example"));
    let blocked = resolver.resolve_for(client, &key("x.ads.example")).await;
    assert_eq!((rcode_of(&blocked), blocked.answer.ede), (rcode::NXDOMAIN, Some(15)));
    let below = resolver.resolve_for(client, &key("x.example")).await;
    assert_eq!((rcode_of(&below), below.answer.ede), (rcode::NXDOMAIN, SYNTHESISED));
    assert_eq!([corp.asked(), others.asked()], [1, 1]);
}

/// Clients that validate get no NXDOMAIN without a proof for the very name.
#[tokio::test]
async fn a_secure_cut_comes_with_its_proof_or_not_at_all() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating_coded(&root, "aggressive = false\n", |root, name, qtype| {
        // Compact denial (RFC 9824) says of one name alone that it does not exist.
        let types = [RecordType::Unknown(128), RecordType::NSEC, RecordType::RRSIG];
        let mut compact = nsec("compact.", "compact.", types);
        let next = Name::from_labels([&b"\0"[..], b"compact"]).unwrap();
        compact.data = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, types)));
        let proof = || root.always(std::slice::from_ref(&compact));
        match name {
            "compact." => {
                Some((ResponseCode::NXDomain, vec![], [root.always(&[soa(".")]), proof()].concat()))
            }
            _ => zone(root, name, qtype),
        }
    });
    for (name, dnssec_ok, expected) in [
        ("c", true, 1),
        ("c", false, 0),
        ("x.c", true, 0),
        ("x.c", false, 0),
        ("compact", true, 1),
        ("compact", false, 0),
        ("x.compact", true, 1),
        ("x.compact", false, 0),
    ] {
        let asked = fake.asked();
        let resolved = resolver.resolve(&key_of(name, 1, dnssec_ok)).await;
        let (rcode, authentic, ..) = seen(&resolved);
        assert_eq!((rcode, authentic), (rcode::NXDOMAIN, true), "{name} {dnssec_ok}");
        let keys = usize::from(asked == 0);
        assert_eq!(fake.asked() - asked, expected + keys, "{name} {dnssec_ok}");
    }
    assert_eq!(resolver.counters.below_nxdomain.get(), 3);
}
