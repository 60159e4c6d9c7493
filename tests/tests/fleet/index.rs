//! Tests of the number of answers in Redis, and of which are removed.

use std::time::{Duration, Instant};

use ringdns_testkit::{Host, Redis, Say, Upstream, sums, until};

use super::{Appliance, PATIENT, answers};

const ENDS: &str = "ringdns:2:{ringdns}:ends";
const DEMAND: &str = "ringdns:2:{ringdns}:demand";
const SWEEPER: &str = "ringdns:2:{ringdns}:sweeper";

#[track_caller]
fn appliance(upstream: &Upstream, redis: &Redis, settings: &str) -> Appliance {
    let appliance = Appliance::start(upstream, &redis.url(), &format!("{PATIENT}\n{settings}"), "");
    appliance.joins();
    appliance
}

fn names(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!("n{n}.example")).collect()
}

impl Appliance {
    /// Asks for all names, and waits until each answer has been stored, or was refused or failed.
    #[track_caller]
    fn teaches_all(&self, names: &[String]) {
        let ended = || {
            ["stored", "store_unwanted", "store_failed"].iter().map(|count| self.count(count)).sum::<u64>()
        };
        let before = ended();
        names.iter().for_each(|name| {
            self.asks(name);
        });
        until("all are stored", || (ended() == before + names.len() as u64).then_some(()));
    }

    /// Takes all names from Redis, and waits until the fleet knows of the demand.
    #[track_caller]
    fn takes_all(&self, names: &[String]) {
        let (hits, told) = (self.count("hit"), self.count("demand_told"));
        names.iter().for_each(|name| {
            self.asks(name);
        });
        assert_eq!(self.count("hit"), hits + names.len() as u64);
        until("the fleet is told", || (self.count("demand_told") == told + names.len() as u64).then_some(()));
    }
}

/// Checks that the index has an entry for each answer, and no others.
#[track_caller]
fn index_is_right(redis: &Redis) {
    let members = |key: &str| {
        let mut members: Vec<_> = redis.cli(&["ZRANGE", key, "0", "-1"]).lines().map(str::to_owned).collect();
        members.sort();
        members
    };
    let there: Vec<_> = answers(redis).iter().map(|key| key["ringdns:2:a:".len()..].to_owned()).collect();
    assert_eq!((members(ENDS), members(DEMAND)), (there.clone(), there));
}

#[test]
fn the_least_wanted_leave_when_there_are_too_many() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let [first, second] = [(), ()].map(|()| appliance(&upstream, &redis, "max_keys = 20"));
    first.teaches_all(&names(0..5));
    second.takes_all(&names(0..5));
    first.teaches_all(&names(5..50));
    assert_eq!(answers(&redis).len(), 20);
    index_is_right(&redis);
    // The names requested twice, and of the others those requested last.
    for name in names(0..5).iter().chain(&names(35..50)) {
        assert_eq!(redis.cli(&["EXISTS", &format!("ringdns:2:a:-:1:1:{name}.")]), "1", "{name}");
    }
    assert_eq!((first.count("evicted"), first.ringdnsd.stat("/fleet/keys")), (30, 20));
    // Number of requests so far, in bytes 36 to 39.
    let hits = |n: u32| {
        redis.cli(&["--no-raw", "GETRANGE", &format!("ringdns:2:a:-:1:1:n{n}.example."), "39", "39"])
    };
    assert_eq!(hits(40), "\"\\x01\"");
    // An answer that Redis refuses leaves nothing in the index.
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    first.asks("refused.example");
    until("it is refused", || (first.count("store_failed") == 1).then_some(()));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    index_is_right(&redis);
    [first, second].iter().for_each(Appliance::sums_close);
}

#[test]
fn what_has_ended_or_is_gone_leaves_the_index() {
    let redis = Redis::start();
    let upstream = Upstream::local(|seen| {
        let ttl = if seen.query.name().starts_with("short") { 2 } else { 300 };
        vec![Say::Send(seen.query.answer(ttl))]
    });
    let settings = format!("{PATIENT}\nsweep_every = \"1s\"");
    // Without stale answers, nothing is kept beyond its TTL.
    let appliance = Appliance::start(&upstream, &redis.url(), &settings, "serve_stale = false");
    appliance.joins();
    appliance.teaches_all(&names(0..10));
    appliance.teaches_all(&["short1.example".into(), "short2.example".into()]);
    until("two have ended", || (appliance.count("swept_ended") == 2).then_some(()));
    index_is_right(&redis);
    // Deletes answers as an eviction by Redis would.
    redis.cli(&["DEL", "ringdns:2:a:-:1:1:n3.example.", "ringdns:2:a:-:1:1:n4.example."]);
    until("two are missed", || (appliance.count("swept_orphans") == 2).then_some(()));
    index_is_right(&redis);
    redis.cli(&["FLUSHALL"]);
    appliance.teaches_all(&names(10..15));
    assert_eq!(answers(&redis).len(), 5);
    index_is_right(&redis);
    for key in redis.keys() {
        assert_ne!(redis.cli(&["TTL", &key]), "-1", "{key} has no end");
    }
    appliance.sums_close();
}

#[test]
fn what_nobody_wants_leaves_and_one_sweeps_for_all() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let settings = "sweep_every = \"1s\"\nidle = \"1s\"";
    redis.cli(&["SET", SWEEPER, "another", "PX", "60000"]);
    let [first, second] = [(), ()].map(|()| appliance(&upstream, &redis, settings));
    first.teaches_all(&names(0..10));
    second.takes_all(&names(0..3));
    let swept = || first.count("swept") + second.count("swept");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!((swept(), answers(&redis).len()), (0, 10), "another sweeps");
    redis.cli(&["DEL", SWEEPER]);
    let began = Instant::now();
    until("seven are gone", || (first.count("swept_idle") + second.count("swept_idle") == 7).then_some(()));
    assert_eq!(
        answers(&redis),
        names(0..3).iter().map(|name| format!("ringdns:2:a:-:1:1:{name}.")).collect::<Vec<_>>()
    );
    index_is_right(&redis);
    // The lock is held for two seconds from the beginning of each sweep.
    let most = began.elapsed().as_secs() / 2 + 1;
    assert!((1..=most).contains(&swept()), "{} sweeps, {most} at most", swept());
    assert!(redis.cli(&["PTTL", SWEEPER]).parse::<i64>().unwrap() <= 2000);

    let told = [&first, &second].map(|appliance| {
        let told = appliance.ringdnsd.told(&["--json", "sweeps"]);
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["fleet"].take()
    });
    let sum = |counter: &str| told.iter().map(|told| sums::count(&told["sum"][counter])).sum::<u64>();
    assert_eq!(["idle", "ended", "orphans", "cut_short"].map(sum), [7, 0, 0, 0], "{told:?}");
    assert!(sum("seen") >= 3 && told.iter().any(|told| told["sum"]["kept"] == 3), "{told:?}");
    let table = first.ringdnsd.told(&["sweeps"]);
    assert!(table.contains("of Redis, by this appliance\nBEGAN  "), "{table}");
}
