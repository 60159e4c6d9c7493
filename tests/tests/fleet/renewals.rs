//! Tests of renewals: one appliance renews for all.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ringdns_testkit::{Query, Redis, Say, Upstream, until};
use rustix::process::Signal;

use super::{Appliance, PATIENT};

const NAME: &str = "popular.example";
const LEASE: &str = "ringdns:2:l:-:1:1:popular.example.";
/// Longest time for a reply from memory, even on a busy machine. Any other reply takes longer.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Returns the time at which the fleet first had the answer, from its value in Redis.
#[track_caller]
fn first_seen(redis: &Redis) -> String {
    redis.cli(&["--no-raw", "GETRANGE", "ringdns:2:a:-:1:1:popular.example.", "40", "47"])
}

/// Starts an upstream with this TTL, which is slow for all but the first query.
fn slow(ttl: u32) -> Upstream {
    let nth = AtomicU32::new(0);
    Upstream::local(move |seen| {
        if nth.fetch_add(1, Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        vec![Say::Send(seen.query.answer(ttl))]
    })
}

/// Starts an appliance that renews popular answers in the second half of their lifetime.
#[track_caller]
fn renewing(upstream: &Upstream, redis: &Redis) -> Appliance {
    let appliance = Appliance::start(upstream, &redis.url(), PATIENT, "[refresh]\nahead = 50");
    appliance.joins();
    appliance
}

impl Appliance {
    /// Asks for the popular name, which must not take long, and returns the TTL.
    #[track_caller]
    fn wants(&self) -> u32 {
        let asked = Instant::now();
        let reply = self.client.ask(&Query::a(NAME));
        assert!(asked.elapsed() < AT_ONCE, "a client waited {:?}", asked.elapsed());
        assert_eq!((reply.rcode(), reply.addresses().len()), (0, 1));
        reply.ttl()
    }

    /// Returns the numbers of renewals that it led, was spared, and made alone.
    #[track_caller]
    fn renewals(&self) -> [u64; 3] {
        ["renewals_led", "renewals_spared", "renewals_alone"].map(|count| self.count(count))
    }
}

/// Keeps asking all appliances for the popular name until `done`.
#[track_caller]
fn wanted_until(what: &str, appliances: &[&Appliance], done: impl Fn() -> bool) {
    until(what, || {
        appliances.iter().for_each(|appliance| {
            appliance.wants();
        });
        done().then_some(())
    });
}

#[test]
fn one_of_three_renews_what_is_popular_on_all() {
    let redis = Redis::start();
    let upstream = slow(10);
    let fleet = [(), (), ()].map(|()| renewing(&upstream, &redis));
    let appliances = fleet.each_ref();
    fleet[0].teaches(NAME);
    let first = first_seen(&redis);
    let renewals = || fleet.each_ref().map(|appliance| appliance.renewals());
    let sum = || renewals().into_iter().fold([0; 3], |sum, one| [0, 1, 2].map(|n| sum[n] + one[n]));
    wanted_until("all have renewed it", &appliances, || sum()[..2].iter().sum::<u64>() == 3);
    assert_eq!((sum(), upstream.asked()), ([1, 2, 0], 2), "{:?}", renewals());
    // Long before the old answer expires, all appliances have the new one.
    wanted_until("all have the new one", &appliances, || fleet.iter().all(|appliance| appliance.wants() > 6));
    assert_eq!(upstream.asked(), 2);
    until("the lease is given back", || (redis.cli(&["EXISTS", LEASE]) == "0").then_some(()));
    let then = first_seen(&redis);
    assert_eq!(then, first, "the time at which the fleet first had the answer has changed");
    fleet.iter().for_each(Appliance::sums_close);
}

#[test]
fn who_dies_over_a_renewal_is_followed_by_another() {
    let redis = Redis::start();
    let nth = AtomicU32::new(0);
    let upstream = Upstream::local(move |seen| {
        let answer = Say::Send(seen.query.answer(4));
        // No answer to the appliance that will be killed.
        if nth.fetch_add(1, Ordering::Relaxed) == 1 { vec![] } else { vec![answer] }
    });
    let first = renewing(&upstream, &redis);
    first.teaches(NAME);
    wanted_until("it asks upstreams anew", &[&first], || upstream.asked() == 2);
    assert_eq!(redis.cli(&["EXISTS", LEASE]), "1");
    first.ringdnsd.process().signal(Signal::KILL);
    let second = renewing(&upstream, &redis);
    wanted_until("another renews it", &[&second], || second.count("renewals_led") == 1);
    until("it is stored", || (second.count("stored") == 1).then_some(()));
    assert_eq!(upstream.asked(), 3);
    assert_eq!(second.renewals(), [1, 0, 0]);
    until("the lease is given back", || (redis.cli(&["EXISTS", LEASE]) == "0").then_some(()));
}

#[test]
fn a_lease_is_removed_by_nobody_but_who_has_it() {
    let redis = Redis::start();
    let upstream = slow(4);
    let appliance = renewing(&upstream, &redis);
    appliance.teaches(NAME);
    wanted_until("it asks upstreams anew", &[&appliance], || appliance.count("renewals_led") == 1);
    // As if the renewal had taken so long that another one began.
    redis.cli(&["SET", LEASE, "another", "PX", "60000"]);
    until("it has given its own back", || (appliance.count("leases_lost") == 1).then_some(()));
    assert_eq!(redis.cli(&["GET", LEASE]), "another");
}

#[test]
fn without_redis_everybody_renews_for_himself() {
    let redis = Redis::start();
    // A renewal takes place in the last three seconds; a lease that is not given back would last
    // longer.
    const TTL: u32 = 6;
    let upstream = slow(TTL);
    let fleet = [(), ()].map(|()| renewing(&upstream, &redis));
    fleet[0].teaches(NAME);
    fleet.iter().for_each(|appliance| {
        appliance.wants();
    });
    redis.process().freeze();
    until("both ask upstreams anew", || {
        // A stale answer would have another TTL.
        assert!(fleet.iter().all(|appliance| appliance.wants() <= TTL), "one waited for others for too long");
        (upstream.asked() >= 3).then_some(())
    });
    fleet.iter().for_each(|appliance| {
        until("it was its own renewal", || (appliance.renewals()[2] >= 1).then_some(()));
    });
    redis.process().signal(Signal::CONT);
}
