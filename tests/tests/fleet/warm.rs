//! Tests of the warm start: a new appliance loads the answers that the fleet requests most.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ringdns_testkit::{Host, Redis, Upstream, until};

use super::{Appliance, PATIENT};

#[test]
fn a_new_appliance_takes_what_the_fleet_wants_most_and_no_faster_than_it_may() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::start(&upstream, &redis.url(), PATIENT, "[local]\nspecial_names = false");
    first.joins();
    let second = Appliance::start(&upstream, &redis.url(), PATIENT, "[local]\nspecial_names = false");
    second.joins();
    let wanted: Vec<String> = (0..8).map(|n| format!("n{n}.example")).collect();
    let others = ["www.corp.example", "localhost"].map(str::to_owned);
    let unwanted: Vec<String> = (8..30).map(|n| format!("n{n}.example")).collect();
    for name in wanted.iter().chain(&others).chain(&unwanted) {
        first.asks(name);
    }
    until("all are stored", || (first.count("stored") == 32).then_some(()));
    for name in wanted.iter().chain(&others) {
        second.asks(name);
    }
    until("the fleet is told", || (second.count("demand_told") == 10).then_some(()));

    // One name has an upstream of its own, and one is answered locally.
    let corp = Upstream::answering(&Host::local());
    let zone = format!("[[upstream]]\naddress = \"{}\"\nzones = [\"corp.example\"]", corp.address());
    let settings = format!("{PATIENT}\nwarm_keys = 10\nwarm_per_second = 4");
    let began = Instant::now();
    let third = Appliance::start(&upstream, &redis.url(), &settings, &zone);
    third.ringdnsd.process().wait_for_line("warm start complete", Duration::from_secs(30));
    assert!(began.elapsed() >= Duration::from_secs(2), "10 at 4 a second took {:?}", began.elapsed());
    assert_eq!((third.count("warmed"), third.count("lookups")), (8, 8));
    let asked = upstream.asked();
    for name in &wanted {
        assert_eq!(third.asks(name), Ipv4Addr::new(192, 0, 2, 1));
    }
    assert_eq!((third.count("lookups"), upstream.asked()), (8, asked), "it was not there already");
    assert_eq!(third.asks("localhost"), Ipv4Addr::LOCALHOST);
    third.asks("www.corp.example");
    assert_eq!(corp.asked(), 1);
    // The rest is looked up on demand.
    third.asks(&unwanted[0]);
    assert_eq!((third.count("hit"), upstream.asked()), (1, asked));
    third.sums_close();
}

#[test]
fn what_was_purged_does_not_come_back_by_a_warm_start() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    first.teaches("www.example");
    first.teaches("other.example");
    first.ringdnsd.told(&["cache", "purge", "www.example"]);
    let second = Appliance::start(&upstream, &redis.url(), &format!("{PATIENT}\nwarm_keys = 10"), "");
    second.ringdnsd.process().wait_for_line("warm start complete", Duration::from_secs(30));
    assert_eq!((second.count("warmed"), second.count("purged")), (1, 1));
    second.asks("www.example");
    assert_eq!(upstream.asked(), 3);
    second.sums_close();
}
