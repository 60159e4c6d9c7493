//! IPv6 addresses made of IPv4 ones.

use super::*;
use ringdns_policy::{
    data::{DataBuilder, LocalRecord},
    list::ListBuilder,
    names::NameKey,
    policy::{BlockList, Policy},
    rule::{Effect, Rule, RuleAnswer, Subject, Types},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const CLIENT: Option<Client> =
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: Group::DEFAULT });
const ON: &str = "[dns64]\nprefix = \"64:ff9b::/96\"\n";
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const AAAA: u16 = 28;

fn soa(minimum: u8) -> Vec<u8> {
    let data = [&[0, 0][..], &[0, 0, 0, 1].repeat(4), &[0, 0, 0, minimum]].concat();
    record_of(&names::name("example").unwrap(), SOA, 60, &data)
}

/// Returns an upstream for names with these addresses; without any of a type there are no data.
fn with(v4: Option<[u8; 4]>, v6: Option<&'static str>) -> Upstream {
    playing(move |seen| {
        let v6 = || v6.map(|v6| v6.parse::<Ipv6Addr>().unwrap().octets().to_vec());
        let data = if seen.query.qtype() == A { v4.map(|v4| v4.to_vec()) } else { v6() };
        let records: Vec<_> = data.iter().map(|data| record(seen.query.qtype(), 90, data)).collect();
        let mut message = seen.query.response(0, &records);
        if records.is_empty() {
            message[9] = 1;
            message.extend(soa(20));
        }
        Some(message)
    })
}

fn records(key: &Key, resolved: &Resolved) -> Vec<(u16, u32, Vec<u8>)> {
    let message = crate::message::Message::of(key, &resolved.answer, Age::Fresh(0)).unwrap();
    message.answers.iter().map(|record| (record.rtype, record.ttl, record.rdata.to_vec())).collect()
}

fn v6(text: &str) -> Vec<u8> {
    text.parse::<Ipv6Addr>().unwrap().octets().to_vec()
}

#[tokio::test]
async fn a_name_with_ipv4_alone_gets_ipv6_addresses_for_clients_alone() {
    let fake = with(Some([192, 0, 2, 1]), None);
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let key = key_of("www.example", AAAA, false);
    for _ in 0..2 {
        let made = resolver.resolve_for(CLIENT, &key).await;
        // No longer than it is known that there is no address.
        assert_eq!(records(&key, &made), [(AAAA, 20, v6("64:ff9b::192.0.2.1"))]);
        assert_eq!((made.answer.ttl, made.answer.counts), (20, [1, 0, 0]));
    }
    assert_eq!(fake.asked(), 2, "both types, once");
    assert_eq!(resolver.resolve(&key).await.answer.counts, [0, 1, 0], "as it came");
}

#[tokio::test]
async fn addresses_are_made_only_where_there_are_none() {
    for (v4, theirs, expected) in [
        (Some([192, 0, 2, 1]), Some("2001:db8::1"), Some("2001:db8::1")),
        (Some([192, 0, 2, 1]), Some("::ffff:192.0.2.9"), Some("64:ff9b::192.0.2.1")),
        (Some([10, 0, 0, 1]), None, None),
        (None, None, None),
    ] {
        let fake = with(v4, theirs);
        let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
        let key = key_of("www.example", AAAA, false);
        let resolved = resolver.resolve_for(CLIENT, &key).await;
        let found: Vec<_> = records(&key, &resolved).into_iter().map(|(.., data)| data).collect();
        assert_eq!(found, expected.map(v6).into_iter().collect::<Vec<_>>(), "{v4:?} {theirs:?}");
        assert_eq!(rcode_of(&resolved), 0);
    }
}

/// RFC 6147 sections 5.1.2 and 5.5.
#[tokio::test]
async fn a_missing_name_and_a_client_that_validates_get_what_there_is() {
    let fake = with(Some([192, 0, 2, 1]), None);
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    for (dnssec_ok, checking_disabled, made) in
        [(true, true, false), (true, false, true), (false, true, true)]
    {
        let name = names::name("www.example").unwrap();
        let key = names::key(&name, AAAA, dnssec_ok, checking_disabled).unwrap();
        let resolved = resolver.resolve_for(CLIENT, &key).await;
        assert_eq!(resolved.answer.counts[0] == 1, made, "{dnssec_ok} {checking_disabled}");
    }
    let nothing = playing(|seen| {
        let mut message = seen.query.response(u16::from(rcode::NXDOMAIN), &[]);
        message[9] = 1;
        message.extend(soa(20));
        Some(message)
    });
    let resolver = resolver_for(&[upstream(nothing.address(), LONG)], ON);
    let resolved = resolver.resolve_for(CLIENT, &key_of("www.example", AAAA, false)).await;
    assert_eq!((rcode_of(&resolved), nothing.asked()), (rcode::NXDOMAIN, 1));
}

/// Some servers fail for types that they do not know.
#[tokio::test]
async fn a_failure_counts_as_no_address() {
    let fake = playing(|seen| match seen.query.qtype() {
        A => Some(seen.query.answer(60)),
        _ => Some(seen.query.response(2, &[])),
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let key = key_of("www.example", AAAA, false);
    let made = resolver.resolve_for(CLIENT, &key).await;
    assert_eq!(records(&key, &made), [(AAAA, 60, v6("64:ff9b::192.0.2.1"))]);
}

#[tokio::test]
async fn local_data_lists_and_aliases_are_obeyed() {
    let fake = with(Some([192, 0, 2, 1]), None);
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let mut builder = DataBuilder::default();
    for (owner, rtype, data) in
        [("nas.example", A, "192.0.2.7"), ("out.example", CNAME, "www.elsewhere.example")]
    {
        builder.record(LocalRecord::parse(owner, rtype, 77, data).unwrap()).unwrap();
    }
    resolver.set_local_data(builder.finish(None));
    resolver.set_policy(crate::policy::testing::blocking("ads.example"));
    let ask = async |name: &str| {
        let key = key_of(name, AAAA, false);
        let resolved = resolver.resolve_for(CLIENT, &key).await;
        (rcode_of(&resolved), records(&key, &resolved))
    };
    assert_eq!(ask("nas.example").await, (0, vec![(AAAA, 77, v6("64:ff9b::192.0.2.7"))]));
    let target = names::name("www.elsewhere.example").unwrap();
    let out = vec![(CNAME, 77, target), (AAAA, 20, v6("64:ff9b::192.0.2.1"))];
    assert_eq!(ask("out.example").await, (0, out));
    assert_eq!(ask("ads.example").await, (rcode::NXDOMAIN, vec![]));
}

#[tokio::test]
async fn reverse_names_lead_to_those_of_the_ipv4_addresses() {
    let fake = playing(|seen| {
        let target = names::name("www.example").unwrap();
        Some(seen.query.response(0, &[record(PTR, 60, &target)]))
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let name = format!("1.0.3.6.8.5.0.c.{}b.9.f.f.4.6.0.0.ip6.arpa", "0.".repeat(16));
    let key = key_of(&name, PTR, false);
    let resolved = resolver.resolve_for(CLIENT, &key).await;
    let [alias, pointer] = &records(&key, &resolved)[..] else { panic!() };
    assert_eq!(*alias, (CNAME, 600, names::name("1.99.88.192.in-addr.arpa").unwrap()));
    assert_eq!((pointer.0, pointer.1), (PTR, 60));
    assert!(fake.seen()[0].query.is_for("1.99.88.192.in-addr.arpa"));
}

/// A list that takes IPv6 addresses away means it.
#[tokio::test]
async fn what_a_list_says_of_ipv6_alone_stays() {
    let fake = with(Some([192, 0, 2, 1]), Some("2001:db8::1"));
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let key = NameKey::new(&[7; 16]);
    let mut builder = ListBuilder::new(key);
    let subject = Subject::Suffix(names::name("www.example").unwrap().into());
    builder.push(1, Rule { types: Types::Only(vec![AAAA]), ..Rule::new(subject, Effect::Block) });
    let list = Arc::new(builder.finish().0);
    let list = BlockList {
        name: "v4".into(),
        list,
        answer: RuleAnswer::NoData,
        ttl: 60,
        dry_run: false,
        client: None,
        action: None,
        ede: Some(15),
    };
    resolver.set_policy(Policy::new(key, Vec::new(), vec![list]).into());
    let resolved = resolver.resolve_for(CLIENT, &key_of("www.example", AAAA, false)).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.counts[0], fake.asked()), (0, 0, 0));
}
