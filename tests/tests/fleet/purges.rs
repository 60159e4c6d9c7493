//! Tests of purges in the whole fleet.

use std::time::Duration;

use ringdns_testkit::{Host, Redis, Upstream, until};
use rustix::process::Signal;

use super::{Appliance, answers};

#[test]
fn a_purge_on_one_is_gone_on_all_within_a_second() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let [first, second] = [Appliance::joined(&upstream, &redis), Appliance::joined(&upstream, &redis)];
    first.teaches("www.example");
    first.teaches("www.other");
    second.asks("www.example");
    second.asks("www.other");
    assert_eq!(upstream.asked(), 2);

    let told = first.ringdnsd.told(&["cache", "purge", "--suffix", "example"]);
    assert!(told.contains("the other appliances of the fleet have been told"), "{told}");
    std::thread::sleep(Duration::from_secs(1));
    // Redis still has the answer, which is void.
    assert!(answers(&redis).contains(&"ringdns:2:a:-:1:1:www.example.".to_owned()));
    second.asks("www.example");
    assert_eq!((upstream.asked(), second.count("purges_heard")), (3, 1), "the second did not hear of it");
    until("it is stored", || (second.count("stored") == 1).then_some(()));
    first.asks("www.example");
    assert_eq!((upstream.asked(), first.count("hit")), (3, 1), "answers stored after the purge are used");
    first.asks("www.other");
    second.asks("www.other");
    assert_eq!(upstream.asked(), 3, "other answers stay");
    let left: u32 = redis.cli(&["TTL", "ringdns:1:purges"]).parse().expect("a time to live");
    assert!(left > 14 * 86_400, "{left}");
}

#[test]
fn a_purge_reaches_who_was_away_and_waits_for_redis_to_be_back() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let [first, second] = [Appliance::joined(&upstream, &redis), Appliance::joined(&upstream, &redis)];
    first.teaches("www.example");
    second.asks("www.example");
    redis.process().freeze();
    for appliance in [&first, &second] {
        until("it is seen to be gone", || (!appliance.is_up()).then_some(()));
    }
    let told = first.ringdnsd.told(&["cache", "purge", "www.example"]);
    assert!(told.contains("will be told when Redis can be reached"), "{told}");
    second.asks("www.example");
    assert_eq!(upstream.asked(), 1, "it is not gone there yet");

    redis.process().signal(Signal::CONT);
    first.joins();
    second.joins();
    until("the second has heard of it", || (second.count("purges_heard") == 1).then_some(()));
    second.asks("www.example");
    first.asks("www.example");
    assert!((2..=3).contains(&upstream.asked()), "{}", upstream.asked());
    // An appliance that starts now does not use answers stored before the purge.
    let third = Appliance::joined(&upstream, &redis);
    third.asks("www.example");
    assert_eq!(third.count("hit") + third.count("purged"), 1);
}
