//! Lists on the way to clients.

use super::*;
use crate::policy::testing::blocking;
use std::net::{IpAddr, Ipv4Addr};

const CLIENT: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

#[tokio::test]
async fn lists_are_for_clients_alone() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    resolver.set_policy(blocking("ads.example"));
    let key = key("www.ads.example");
    let blocked = resolver.resolve_for(CLIENT, &key).await;
    assert_eq!((rcode_of(&blocked), blocked.answer.ede, blocked.answer.ttl), (rcode::NXDOMAIN, Some(15), 60));
    assert!(fake.seen().is_empty() && resolver.host().is_empty());
    // As validation asks, for a name above one that is allowed.
    let own = resolver.resolve(&key).await;
    assert_eq!((rcode_of(&own), own.answer.ede), (rcode::NOERROR, None));
    assert_eq!(resolver.host().peek(&key).unwrap().answer.status.rcode(), rcode::NOERROR);
    assert_eq!(rcode_of(&resolver.resolve_for(CLIENT, &key).await), rcode::NXDOMAIN, "though it is known");
    let [(_, counters)] = &resolver.list_counts().all()[..] else { panic!() };
    assert_eq!(counters.blocked.get(), 2);
}

#[tokio::test]
async fn new_lists_begin_a_generation_and_keep_the_host_tier() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let key = key("ads.example");
    let before = resolver.resolve_for(CLIENT, &key).await;
    resolver.set_policy(blocking("ads.example"));
    let generations = resolver.host().generations();
    assert!(generations.is_void(key.asked(), before.generation), "for workers");
    assert!(!generations.is_source_void(key.asked(), before.generation), "for the host tier");
    let after = resolver.resolve_for(CLIENT, &key).await;
    assert!(rcode_of(&after) == rcode::NXDOMAIN && !generations.is_void(key.asked(), after.generation));
    assert_eq!((resolver.host().len(), fake.seen().len()), (1, 1));
}

/// A target that does not exist is judged too: NXDOMAIN is no answer of a list.
#[tokio::test]
async fn aliases_are_judged_for_clients_alone() {
    for code in [rcode::NOERROR, rcode::NXDOMAIN] {
        let fake = playing(move |seen| {
            let alias = [&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 13][..], b"\x03AdS\x07example\0"].concat();
            let owner = b"\x03ads\x07example\0";
            let address = record_of(owner, 1, 60, &[192, 0, 2, 1]);
            let records = if code == rcode::NOERROR { vec![alias, address] } else { vec![alias] };
            Some(seen.query.response(code.into(), &records))
        });
        let resolver = resolver(&[upstream(fake.address(), LONG)]);
        resolver.set_policy(blocking("ads.example"));
        let key = key("www.example.net");
        let blocked = resolver.resolve_for(CLIENT, &key).await;
        assert_eq!((rcode_of(&blocked), blocked.answer.ede), (rcode::NXDOMAIN, Some(15)), "{code}");
        let own = resolver.resolve(&key).await;
        assert_eq!((rcode_of(&own), own.answer.ede, own.answer.counts[0] > 0), (code, None, true), "{code}");
    }
}
