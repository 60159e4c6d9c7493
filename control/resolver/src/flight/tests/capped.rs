//! Floods of random names: their zone is capped, and all other names are resolved.

use super::{
    punts::{punted, punted_from, returned},
    *,
};
use ringdns_dataplane::stats::Counter;
use std::{net::Ipv4Addr, sync::atomic::AtomicU64};

/// Returns a resolver that caps zones at 20 questions a second, and its upstream: names below
/// `victim.example` do not exist, but for `www`.
fn victim() -> (Arc<Resolver>, Upstream) {
    let fake = playing(move |seen| {
        let name = seen.query.name();
        let missing = name.contains("victim.example") && !name.starts_with("www.");
        Some(if missing { seen.query.response(3, &[]) } else { seen.query.answer(60) })
    });
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[resolver]\nzone_misses = 20\n");
    (resolver, fake)
}

/// Asks as many forged addresses would, and returns the purposes that the records come back with.
async fn flood(resolver: &Arc<Resolver>, names: std::ops::Range<u16>) -> Vec<(Purpose, Option<u8>)> {
    let (link, _) = punted("unused.example", false);
    let mut ended = Vec::new();
    for nth in names {
        let [high, low] = nth.to_be_bytes();
        let record = punted_from(Ipv4Addr::new(192, 0, high, low), &format!("r{nth}.victim.example"), nth);
        resolver.serve(&link, record, &mut Turn::default());
        let record = returned(&link).await;
        ended.push((record.purpose, record.answer.as_ref().map(|answer| answer.status.rcode())));
    }
    ended
}

#[tokio::test]
async fn a_flood_is_capped_and_other_names_are_resolved() {
    let (resolver, fake) = victim();
    assert_eq!(
        rcode_of(&resolver.resolve_for(Some(client("192.0.2.1")), &key("www.victim.example")).await),
        0
    );
    flood(&resolver, 0..200).await;
    assert_eq!(resolver.capped_zones().len(), 1, "{:?}", resolver.capped_zones());
    let (asked, before) = (fake.asked(), resolver.counters.zone_over_cap.get());
    let ended = flood(&resolver, 300..600).await;
    let withheld = ended.iter().filter(|(purpose, _)| *purpose == Purpose::Withheld(Counter::PuntCapped));
    let refused = ended.iter().filter(|(_, rcode)| *rcode == Some(rcode::SERVFAIL));
    let (withheld, refused) = (withheld.count(), refused.count());
    assert!(withheld > 100 && withheld.abs_diff(refused) <= 1, "{withheld} withheld, {refused} refused");
    let over = resolver.counters.zone_over_cap.get();
    assert_eq!(over - before, (withheld + refused) as u64);
    assert_eq!(fake.asked() - asked, 300 - withheld - refused);
    // What is cached goes on, as do other zones.
    for name in ["www.victim.example", "www.other.example"] {
        let resolved = resolver.resolve_for(Some(client("192.0.2.9")), &key(name)).await;
        assert_eq!(rcode_of(&resolved), rcode::NOERROR, "{name}");
    }
    assert_eq!(resolver.counters.zone_caps.get(), 1);
    assert_eq!(resolver.capped_zones()[0].refused, over);
}

/// Names below a wildcard exist and have the same records; elsewhere, each name has others.
#[tokio::test]
async fn a_flood_below_a_wildcard_is_capped_and_a_zone_with_many_names_is_not() {
    for (is_wild, expected) in [(true, 1), (false, 0)] {
        let asked = AtomicU64::new(0);
        let fake = playing(move |seen| {
            let nth = asked.fetch_add(1, Ordering::Relaxed) as u32;
            let own = if is_wild { 7 } else { nth };
            Some(seen.query.response(0, &[record(1, 60, &own.to_be_bytes()), record(1, 60, &[192, 0, 2, 1])]))
        });
        let resolver = resolver_for(&[upstream(fake.address(), LONG)], "[resolver]\nzone_misses = 20\n");
        flood(&resolver, 0..300).await;
        assert_eq!(resolver.capped_zones().len(), expected, "{is_wild}: {:?}", resolver.capped_zones());
        assert_eq!(resolver.counters.zone_over_cap.get() > 0, is_wild);
    }
}

#[tokio::test]
async fn an_expired_answer_of_a_capped_zone_is_renewed() {
    let (resolver, fake) = victim();
    flood(&resolver, 0..400).await;
    assert_eq!(resolver.capped_zones().len(), 1);
    let now = resolver.clock().secs();
    let expired = Answer { stale: 1000, ..Answer::error(rcode::NOERROR, None, now, 0) };
    resolver.host().insert_expired(&key("www.victim.example"), Arc::new(expired));
    let asked = fake.asked();
    let (link, record) = punted("www.victim.example", false);
    resolver.serve(&link, record, &mut Turn::default());
    assert!(matches!(returned(&link).await.purpose, Purpose::Answer(_)), "it was not withheld");
    for _ in 0..1000 {
        if fake.asked() > asked {
            return;
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    panic!("the upstream was not asked");
}

#[tokio::test]
async fn a_reload_turns_caps_off() {
    let (resolver, fake) = victim();
    flood(&resolver, 0..200).await;
    assert!(resolver.counters.zone_over_cap.get() > 0);
    resolver.set_up(&config(&[upstream(fake.address(), LONG)], "[resolver]\nzone_misses = 0\n"));
    let before = resolver.counters.zone_over_cap.get();
    flood(&resolver, 300..400).await;
    assert_eq!((resolver.counters.zone_over_cap.get(), resolver.capped_zones().len()), (before, 0));
}
