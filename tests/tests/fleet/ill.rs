//! Tests with a Redis that is down, slow or hung.

use std::time::{Duration, Instant};

use ringdns_testkit::{Host, Query, Redis, Upstream, until, url_in};
use rustix::process::Signal;

use super::{Appliance, PATIENT, answers};

/// Longest time for a reply from memory, even on a busy machine. Any other reply takes longer.
const AT_ONCE: Duration = Duration::from_millis(500);

#[test]
fn redis_may_come_later_than_the_appliance_and_go_before_it() {
    let folder = tempfile::Builder::new().prefix("ringdns-redis-").tempdir().unwrap();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::start(&upstream, &url_in(&folder), PATIENT, "");
    assert!(!first.is_up());
    first.asks("early.example");
    assert_eq!((first.count("lookups"), first.count("skipped"), first.count("store_skipped")), (0, 1, 1));

    let redis = Redis::start_in(folder);
    first.joins();
    first.teaches("www.example");
    let folder = redis.kill9();
    until("it is seen to be gone", || (!first.is_up()).then_some(()));
    assert_eq!(first.asks("www.example"), first.asks("other.example"));
    let redis = Redis::start_in(folder);
    first.joins();
    first.teaches("again.example");
    assert_eq!(answers(&redis), ["ringdns:2:a:-:1:1:again.example."]);
    first.sums_close();
}

/// Checks that there is one connection, however many questions there are and however often Redis
/// was gone: buffers and connections cost Redis memory.
#[test]
fn each_appliance_has_one_connection() {
    let mut redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let appliances = [(), ()].map(|()| Appliance::joined(&upstream, &redis));
    for turn in 1..=2 {
        for n in 0..200 {
            let query = Query::a(&format!("n{n}.turn{turn}.example")).wire();
            appliances.iter().for_each(|appliance| appliance.client.send(&query));
        }
        for appliance in &appliances {
            until("all are answered", || (appliance.count("lookups") == turn * 200).then_some(()));
            appliance.sums_close();
        }
        // The command-line client counts, too.
        let clients = redis.cli(&["CLIENT", "LIST"]);
        assert_eq!(clients.lines().count(), appliances.len() + 1, "{clients}");
        redis = Redis::start_in(redis.kill9());
        until("both are back", || {
            appliances.iter().all(|appliance| appliance.count("joined") > turn).then_some(())
        });
    }
}

/// Checks a hung Redis with the deadline of the default configuration.
#[test]
fn a_hung_redis_costs_misses_little_and_hits_nothing() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let appliance = Appliance::start(&upstream, &redis.url(), "", "");
    appliance.joins();
    appliance.asks("hit.example");
    redis.process().freeze();
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        for name in ["hit.example".to_owned(), format!("n{n}.example")] {
            let asked = Instant::now();
            appliance.asks(&name);
            slowest = slowest.max(asked.elapsed());
        }
    }
    assert!(slowest < AT_ONCE, "{slowest:?}");
    let timed_out = appliance.count("timed_out");
    assert!(timed_out <= 3, "{timed_out} waited for a Redis that says nothing");
    until("it is seen to be gone", || (!appliance.is_up()).then_some(()));
    assert!(appliance.count("skipped") >= 17);
    redis.process().signal(Signal::CONT);
    appliance.joins();
    appliance.sums_close();
}

#[test]
fn a_redis_that_takes_nothing_still_answers() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    first.teaches("www.example");
    for (change, back) in [
        (["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"]),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ] {
        redis.cli(&change);
        let before = first.count("store_failed");
        let name = format!("{}.example", change[2]);
        first.asks(&name);
        until("it is refused", || (first.count("store_failed") > before).then_some(()));
        let second = Appliance::joined(&upstream, &redis);
        let asked = upstream.asked();
        second.asks("www.example");
        assert_eq!((second.count("hit"), upstream.asked()), (1, asked), "{change:?}");
        redis.cli(&back);
        first.teaches(&format!("after.{name}"));
        assert!(first.is_up(), "{change:?}");
    }
    first.sums_close();
}
