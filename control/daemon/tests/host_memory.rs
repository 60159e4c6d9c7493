//! Bytes that the host tier reports, against those that it takes of the allocator.

use ringdns_common::names;
use ringdns_dataplane::dns::{answer::Answer, key::Key, rcode};
use ringdns_resolver::host::{HostTier, Purge};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Returns the bytes that are allocated, by jemalloc's statistics, which it refreshes first.
fn allocated() -> u64 {
    tikv_jemalloc_ctl::epoch::advance().unwrap();
    tikv_jemalloc_ctl::stats::allocated::read().unwrap() as u64
}

fn key(number: u32) -> Key {
    names::key(&names::name(&format!("host-{number}.example.net")).unwrap(), 1, false, false).unwrap()
}

/// Returns an answer with records of different sizes: most are small, and some take kilobytes.
fn answer(number: u32) -> Arc<Answer> {
    let size = match number % 100 {
        0 => 5000 + number as usize % 9000,
        1..=9 => 200 + number as usize % 1500,
        small => small as usize,
    };
    Arc::new(Answer { wire: vec![7; size].into(), ..Answer::error(rcode::NOERROR, None, number, 3600) })
}

/// Segments to which entries are added: two of 14 KiB in each of 16 shards.
const SLACK: u64 = 512 << 10;

/// Holds the tier to what it says within five percent: while it fills, when it is full and entries
/// make room for others, and after most have been removed.
#[test]
fn the_host_tier_takes_the_memory_that_it_reports() {
    let tier = HostTier::new(64 << 20, Arc::default());
    let before = allocated();
    let check = |stage: &str| {
        let (taken, told) = (allocated() - before, tier.bytes().0);
        assert!(taken * 20 <= told * 21 + SLACK, "{stage}: {told} bytes are told, and {taken} taken");
        assert!(told * 20 <= taken * 21 + SLACK, "{stage}: {told} bytes are told, and {taken} taken");
    };
    for number in 0..100_000 {
        tier.insert(&key(number), answer(number), 0);
    }
    assert_eq!(tier.len(), 100_000);
    check("filling");
    for number in 100_000..500_000 {
        tier.insert(&key(number), answer(number), 0);
        tier.get(&key(number / 2), number);
    }
    assert!(tier.counters.evicted.get() > 100_000 && tier.bytes().0 <= 64 << 20);
    assert!(tier.bytes().0 > 60 << 20, "it is full");
    check("full");
    // Entries of the first hours have expired.
    let mut walked = 0;
    tier.walk(|seen| {
        walked += 1;
        tier.remove_dead(&seen.key(), 450_000);
    });
    assert!(walked >= tier.len() && tier.bytes().0 < 50 << 20, "{} entries", tier.len());
    check("after a sweep");
    tier.purge(&Purge::All);
    assert_eq!((tier.len(), tier.bytes().0), (0, 0));
    assert!(allocated() - before < 1 << 20, "{} bytes stay", allocated() - before);
}
