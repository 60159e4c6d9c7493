//! Tests of what is shared, and what is not.

use std::net::Ipv4Addr;

use ringdns_testkit::{Host, Query, Redis, Say, Seen, TXT, Upstream, a_record, until};

use super::{Appliance, PATIENT, answers};

const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

#[test]
fn a_second_appliance_answers_what_the_first_found_out() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    let names: Vec<_> = (0..50).map(|n| format!("n{n}.example")).collect();
    names.iter().for_each(|name| {
        first.asks(name);
    });
    until("all are stored", || (first.count("stored") == 50).then_some(()));
    assert_eq!(upstream.asked(), 50);

    let second = Appliance::joined(&upstream, &redis);
    for name in &names {
        let reply = second.client.ask(&Query::a(name));
        assert_eq!((reply.rcode(), reply.addresses()), (0, vec![Ipv4Addr::new(192, 0, 2, 1)]));
        assert!((250..=300).contains(&reply.ttl()), "{}", reply.ttl());
    }
    assert_eq!((second.count("hit"), upstream.asked()), (50, 50), "upstreams were asked again");
    // From the host tier, not from Redis.
    names.iter().for_each(|name| {
        second.asks(name);
    });
    assert_eq!((second.count("lookups"), upstream.asked()), (50, 50));
    assert_eq!(second.count("offered"), 0, "what came from Redis went back there");

    let keys = answers(&redis);
    assert!(keys.len() == 50 && keys.contains(&"ringdns:2:a:-:1:1:n7.example.".to_owned()), "{keys:?}");
    for key in keys {
        let left: u32 = redis.cli(&["TTL", &key]).parse().expect("a time to live");
        assert!((86_400..=86_700).contains(&left), "{key}: {left}");
    }
    first.sums_close();
    second.sums_close();
}

/// Checks that an answer's age comes from Redis, whatever happened to the clock of the appliance
/// that stored it.
#[test]
fn answers_are_as_old_as_they_are() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    first.teaches("www.example");
    let key = "ringdns:2:a:-:1:1:www.example.";
    // As if it had been stored 100 seconds ago.
    redis.cli(&["EXPIRE", key, "86600"]);
    let second = Appliance::joined(&upstream, &redis);
    let ttl = second.client.ask(&Query::a("www.example")).ttl();
    assert!((195..=200).contains(&ttl), "{ttl}");
    assert_eq!((second.count("clocks_differ"), upstream.asked()), (1, 1));
    // As if it had been stored 400 seconds ago: it is stale, and is only used if upstreams fail.
    redis.cli(&["EXPIRE", key, "86300"]);
    let third = Appliance::joined(&upstream, &redis);
    assert_eq!(third.client.ask(&Query::a("www.example")).ttl(), 300);
    assert_eq!((third.count("stale"), upstream.asked()), (1, 2));
    // As if it never expired.
    redis.cli(&["PERSIST", key]);
    until("it is as it was stored again", || (redis.cli(&["TTL", key]) == "-1").then_some(()));
    let fourth = Appliance::joined(&upstream, &redis);
    assert_eq!(fourth.client.ask(&Query::a("www.example")).ttl(), 300);
    assert_eq!((fourth.count("foreign"), upstream.asked()), (1, 3));
}

#[test]
fn an_expired_answer_of_the_fleet_is_better_than_none() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    first.teaches("www.example");
    redis.cli(&["EXPIRE", "ringdns:2:a:-:1:1:www.example.", "86300"]);
    let failing = Upstream::local(|seen| vec![Say::Send(seen.query.response(2, &[]))]);
    let second = Appliance::joined(&failing, &redis);
    // The clock of a process does not reach back before its start.
    second.ringdnsd.next_second();
    let reply = second.client.ask(&Query::a("www.example"));
    assert_eq!((reply.rcode(), reply.addresses().len(), reply.ttl()), (0, 1, 30));
    assert!(failing.asked() > 0 && second.count("stale") == 1);
}

#[test]
fn what_an_answer_depends_on_is_kept_apart() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    let second = Appliance::joined(&upstream, &redis);
    let ways = [(false, false), (true, false), (false, true), (true, true)];
    for (nth, (dnssec_ok, checking_disabled)) in (1..).zip(ways) {
        let query = Query::a("www.example").dnssec(dnssec_ok, checking_disabled);
        second.client.ask(&query);
        assert_eq!(upstream.asked(), nth, "taken from another's answer");
        until("it is stored", || (second.count("stored") == nth as u64).then_some(()));
        first.client.ask(&query);
        assert_eq!(upstream.asked(), nth);
    }
    let flags: Vec<_> = answers(&redis).iter().map(|key| key.split(':').nth(3).unwrap().to_owned()).collect();
    assert_eq!(flags, ["-", "c", "d", "dc"]);
    assert_eq!(second.client.ask(&Query::of("www.example", TXT)).rcode(), 0);
    assert_eq!(upstream.asked(), 5, "another type");
}

#[test]
fn what_is_not_for_others_is_not_shared() {
    let redis = Redis::start();
    let answer = |seen: &Seen| {
        let (flags, records) = match seen.query.name().as_str() {
            "fails.example" => (SERVFAIL, vec![]),
            // Without an SOA record, so that it may not be cached.
            "none.example" => (NXDOMAIN, vec![]),
            "now.example" => (0, vec![a_record(0, [192, 0, 2, 1])]),
            _ => (0, vec![a_record(300, [192, 0, 2, 1])]),
        };
        vec![Say::Send(seen.query.response(flags, &records))]
    };
    let upstream = Upstream::local(answer);
    let corp = Upstream::answering(&Host::local());
    let zone = format!("[[upstream]]\naddress = \"{}\"\nzones = [\"corp.example\"]", corp.address());
    let appliance = Appliance::start(&upstream, &redis.url(), PATIENT, &zone);
    appliance.joins();
    for (name, rcode) in [
        ("fails.example", SERVFAIL),
        ("none.example", NXDOMAIN),
        ("now.example", 0),
        ("localhost", 0),
        ("1.0.0.10.in-addr.arpa", NXDOMAIN),
        ("www.corp.example", 0),
    ] {
        assert_eq!(appliance.client.ask(&Query::a(name)).rcode(), rcode, "{name}");
    }
    assert_eq!((corp.asked(), appliance.count("offered")), (1, 0));
    appliance.teaches("www.example");
    assert_eq!(answers(&redis), ["ringdns:2:a:-:1:1:www.example."]);

    // Answers of such a zone are not taken from Redis: an appliance without the zone may have
    // stored them.
    let stranger = Appliance::joined(&upstream, &redis);
    stranger.teaches("mail.corp.example");
    let before = appliance.count("lookups");
    appliance.asks("mail.corp.example");
    assert_eq!((corp.asked(), appliance.count("lookups")), (2, before));
}

#[test]
fn foreign_and_damaged_values_are_no_answers() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    let names = ["text", "list", "later", "older", "cut", "bent", "swapped"];
    names.iter().for_each(|name| {
        first.teaches(&format!("{name}.example"));
    });
    let key = |name: &str| format!("ringdns:2:a:-:1:1:{name}.example.");
    redis.cli(&["SET", &key("text"), "192.0.2.66", "EX", "300"]);
    redis.cli(&["DEL", &key("list")]);
    redis.cli(&["RPUSH", &key("list"), "192.0.2.66"]);
    // Damages the version, the length, and the address at the end.
    redis.cli(&["SETRANGE", &key("later"), "4", "\u{3}"]);
    redis.cli(&["SETRANGE", &key("older"), "4", "\u{1}"]);
    redis.cli(&["APPEND", &key("cut"), "x"]);
    redis.cli(&["SETRANGE", &key("bent"), "106", "B"]);
    redis.cli(&["COPY", &key("cut"), &key("swapped"), "REPLACE"]);

    let second = Appliance::joined(&upstream, &redis);
    for name in names {
        assert_eq!(second.asks(&format!("{name}.example")), Ipv4Addr::new(192, 0, 2, 1), "{name}");
    }
    assert_eq!((second.count("foreign"), second.count("damaged"), second.count("hit")), (4, 3, 0));
    assert_eq!(upstream.asked(), 14);
    second.sums_close();
}

/// Checks that versions can be mixed: while a fleet is upgraded, some appliances use version 1.
#[test]
fn appliances_of_two_versions_share_purges_and_no_answers() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    redis.cli(&["SET", "ringdns:1:a:-:1:1:www.example.", "rdns\u{1}", "EX", "300"]);
    let appliance = Appliance::joined(&upstream, &redis);
    appliance.teaches("www.example");
    assert_eq!((appliance.count("missing"), appliance.count("foreign")), (1, 0));
    redis.cli(&["XADD", "ringdns:1:purges", "*", "by", "older", "kind", "all", "name", ""]);
    until("it has heard of the purge", || (appliance.count("purges_heard") == 1).then_some(()));
    appliance.asks("www.example");
    assert_eq!((appliance.count("purged"), upstream.asked()), (1, 2));
    appliance.sums_close();
}
