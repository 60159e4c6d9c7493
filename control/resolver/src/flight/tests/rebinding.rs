//! Private addresses in answers for public names.

use super::*;
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: Option<Client> =
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: Group::DEFAULT });
const PRIVATE: [u8; 4] = [192, 168, 1, 1];
const PUBLIC: [u8; 4] = [192, 0, 2, 1];
const ON: &str = "[rebinding]\nenabled = true\nallow = [\"corp.example\"]\n";

/// Returns an upstream that answers with these addresses.
fn with(addresses: &'static [[u8; 4]]) -> Upstream {
    playing(|seen| {
        let records: Vec<_> = addresses.iter().map(|address| record(1, 60, address)).collect();
        Some(seen.query.response(0, &records))
    })
}

fn told(resolved: &Resolved) -> (u8, [u16; 3], Option<u16>, u32) {
    let Answer { status, counts, ede, ttl, .. } = &*resolved.answer;
    (status.rcode(), *counts, *ede, *ttl)
}

#[tokio::test]
async fn private_addresses_are_removed_for_clients_alone() {
    let fake = with(&[PRIVATE, PUBLIC]);
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let key = key("evil.example");
    for _ in 0..2 {
        let rest = resolver.resolve_for(CLIENT, &key).await;
        assert_eq!(told(&rest), (0, [1, 0, 0], Some(15), 60));
        assert!(rest.answer.wire.ends_with(&PUBLIC));
    }
    assert_eq!((fake.asked(), resolver.counters.rebinding.get()), (1, 2));
    assert_eq!(told(&resolver.resolve(&key).await), (0, [2, 0, 0], None, 60), "as it came");
    assert_eq!(resolver.host().peek(&key).unwrap().answer.counts, [2, 0, 0]);
}

#[tokio::test]
async fn an_answer_without_public_addresses_is_no_data_or_refused() {
    let fake = with(&[PRIVATE]);
    let one = [upstream(fake.address(), LONG)];
    let resolver = resolver_for(&one, ON);
    let nothing = resolver.resolve_for(CLIENT, &key("evil.example")).await;
    assert_eq!(told(&nothing), (0, [0, 1, 0], Some(15), 60));
    let refusing = resolver_for(&one, &format!("{ON}action = \"refuse\"\n"));
    let refused = refusing.resolve_for(CLIENT, &key("evil.example")).await;
    assert_eq!(told(&refused), (rcode::REFUSED, [0, 0, 0], Some(15), 60));
    for (resolver, name, count) in [(&resolver, "nas.corp.example", 1), (&refusing, "corp.example", 1)] {
        assert_eq!(told(&resolver.resolve_for(CLIENT, &key(name)).await), (0, [count, 0, 0], None, 60));
    }
    let off = resolver_for(&one, "");
    assert_eq!(told(&off.resolve_for(CLIENT, &key("evil.example")).await), (0, [1, 0, 0], None, 60));
}

#[tokio::test]
async fn names_with_upstreams_of_their_own_and_special_names_may_be_private() {
    let fake = with(&[PRIVATE]);
    let zones = vec![names::name("lab.example").unwrap()];
    let upstreams =
        [upstream(fake.address(), LONG), UpstreamConfig { zones, ..upstream(fake.address(), LONG) }];
    let resolver = resolver_for(&upstreams, ON);
    for (name, count) in [("nas.lab.example", 1), ("localhost", 1), ("evil.example", 0)] {
        for _ in 0..2 {
            let resolved = resolver.resolve_for(CLIENT, &key(name)).await;
            assert_eq!(resolved.answer.counts[0], count, "{name}");
        }
    }
}

/// A public name that leads to a private one reaches the private host.
#[tokio::test]
async fn an_alias_to_an_allowed_name_is_no_exception() {
    let fake = playing(|seen| {
        let target = names::name("nas.corp.example").unwrap();
        let alias = record(5, 60, &target);
        Some(seen.query.response(0, &[alias, record_of(&target, 1, 60, &PRIVATE)]))
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let cut = resolver.resolve_for(CLIENT, &key("evil.example")).await;
    assert_eq!(told(&cut), (0, [1, 1, 0], Some(15), 60));
    let message = crate::message::Message::of(&key("evil.example"), &cut.answer, Age::Fresh(0)).unwrap();
    assert_eq!(names::display(message.authorities[0].owner.as_wire()), "nas.corp.example.");
}

#[tokio::test]
async fn services_with_private_hints_are_removed() {
    let fake = playing(|seen| {
        let hint = |address: [u8; 4]| record(65, 60, &[&[0, 1, 0, 0, 4, 0, 4][..], &address].concat());
        Some(seen.query.response(0, &[hint(PRIVATE), hint(PUBLIC)]))
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], ON);
    let rest = resolver.resolve_for(CLIENT, &key_of("evil.example", 65, false)).await;
    assert_eq!(told(&rest), (0, [1, 0, 0], Some(15), 60));
    assert!(rest.answer.wire.ends_with(&PUBLIC));
}

#[tokio::test]
async fn a_change_makes_void_what_workers_have() {
    let fake = with(&[PRIVATE]);
    let upstreams = [upstream(fake.address(), LONG)];
    let resolver = resolver_for(&upstreams, "");
    let key = key("evil.example");
    let before = resolver.resolve_for(CLIENT, &key).await;
    let generations = resolver.host().generations();
    resolver.set_up(&config(&upstreams, ""));
    assert!(!generations.is_void(key.asked(), before.generation), "nothing has changed");
    resolver.set_up(&config(&upstreams, ON));
    assert!(generations.is_void(key.asked(), before.generation));
    assert_eq!(resolver.resolve_for(CLIENT, &key).await.answer.counts[0], 0);
}
