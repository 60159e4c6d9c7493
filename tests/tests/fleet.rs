//! Appliances that share what they find out through a real Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ringdns_tests::{
    Client, Host, Query, Redis, RedisCluster, Ringdnsd, Say, Seen, Settings, TXT, Upstream, a_record,
    free_port, until, url_in,
};
use rustix::process::Signal;

const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
/// What only an answer from memory keeps to, however busy the machine is.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Waiting for Redis on a busy machine. What a deadline is worth is another test's affair.
const PATIENT: &str = "deadline = \"500ms\"";

/// One of a fleet.
struct Appliance {
    ringdnsd: Ringdnsd,
    client: Client,
}

impl Appliance {
    #[track_caller]
    fn start(upstream: &Upstream, url: &str, redis: &str, more: &str) -> Self {
        Self::start_behind(upstream, url, redis, more, &[])
    }

    #[track_caller]
    fn start_behind(upstream: &Upstream, url: &str, redis: &str, more: &str, wrapper: &[&str]) -> Self {
        let host = Host::local();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(&host)));
        let settings = Settings {
            listen: vec![address.to_string()],
            server: "workers = 1".to_owned(),
            tables: format!(
                "{more}\n[cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"4MiB\"\n[redis]\nurl = {url:?}\n{redis}\n"
            ),
            ..Settings::sockets(upstream.address())
        };
        Self {
            ringdnsd: Ringdnsd::start_behind(&host, &settings, wrapper),
            client: Client::of(&host, address),
        }
    }

    /// One that has found Redis.
    #[track_caller]
    fn joined(upstream: &Upstream, redis: &Redis) -> Self {
        let appliance = Self::start(upstream, &redis.url(), PATIENT, "");
        appliance.joins();
        appliance
    }

    #[track_caller]
    fn joins(&self) {
        until("the fleet's tier is there", || self.is_up().then_some(()));
    }

    fn is_up(&self) -> bool {
        self.ringdnsd.stats()["fleet"]["up"] == true
    }

    #[track_caller]
    fn count(&self, counter: &str) -> u64 {
        self.ringdnsd.stat(&format!("/fleet/counters/{counter}"))
    }

    #[track_caller]
    fn asks(&self, name: &str) -> Ipv4Addr {
        let reply = self.client.ask(&Query::a(name));
        assert_eq!(reply.rcode(), 0, "{name}");
        reply.addresses()[0]
    }

    /// Asks, and waits until Redis has the answer.
    #[track_caller]
    fn teaches(&self, name: &str) -> Ipv4Addr {
        let before = self.count("stored");
        let address = self.asks(name);
        until("the answer is stored", || (self.count("stored") > before).then_some(()));
        address
    }

    /// Every lookup and every answer has one end.
    #[track_caller]
    fn sums_close(&self) {
        until("nothing waits to be stored", || (self.ringdnsd.stat("/fleet/queued") == 0).then_some(()));
        let stats = self.ringdnsd.stats();
        let count = |name: &str| stats["fleet"]["counters"][name].as_u64().unwrap();
        let sum = |names: &[&str]| names.iter().map(|name| count(name)).sum::<u64>();
        let ends = ["hit", "stale", "due", "missing", "purged", "foreign", "damaged", "timed_out", "failed"];
        assert_eq!(count("lookups"), sum(&ends), "{stats:#}");
        let ends = ["stored", "store_failed", "store_dropped", "store_skipped", "store_outdated"];
        assert_eq!(count("offered"), sum(&ends), "{stats:#}");
    }
}

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
    // From memory, and not from Redis.
    names.iter().for_each(|name| {
        second.asks(name);
    });
    assert_eq!((second.count("lookups"), upstream.asked()), (50, 50));
    assert_eq!(second.count("offered"), 0, "what came from Redis went back there");

    let keys = redis.keys();
    assert!(keys.len() == 50 && keys.contains(&"ringdns:1:a:-:1:1:n7.example.".to_owned()), "{keys:?}");
    for key in keys {
        let left: u32 = redis.cli(&["TTL", &key]).parse().expect("a time to live");
        assert!((86_400..=86_700).contains(&left), "{key}: {left}");
    }
    first.sums_close();
    second.sums_close();
}

/// An answer's age is what Redis says of it, whatever the clock did that it was stored by.
#[test]
fn answers_are_as_old_as_they_are() {
    let redis = Redis::start();
    let upstream = Upstream::answering(&Host::local());
    let first = Appliance::joined(&upstream, &redis);
    first.teaches("www.example");
    let key = "ringdns:1:a:-:1:1:www.example.";
    // As if it had been stored 100 seconds ago.
    redis.cli(&["EXPIRE", key, "86600"]);
    let second = Appliance::joined(&upstream, &redis);
    let ttl = second.client.ask(&Query::a("www.example")).ttl();
    assert!((195..=200).contains(&ttl), "{ttl}");
    assert_eq!((second.count("clocks_differ"), upstream.asked()), (1, 1));
    // As if it had been 400: it may only do where upstreams do not.
    redis.cli(&["EXPIRE", key, "86300"]);
    let third = Appliance::joined(&upstream, &redis);
    assert_eq!(third.client.ask(&Query::a("www.example")).ttl(), 300);
    assert_eq!((third.count("stale"), upstream.asked()), (1, 2));
    // As if it never ended.
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
    redis.cli(&["EXPIRE", "ringdns:1:a:-:1:1:www.example.", "86300"]);
    let failing = Upstream::start(&Host::local(), |seen: &Seen| vec![Say::Send(seen.query.response(2, &[]))]);
    let second = Appliance::joined(&failing, &redis);
    // A clock that starts with the process has no time before that.
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
    let flags: Vec<_> = redis.keys().iter().map(|key| key.split(':').nth(3).unwrap().to_owned()).collect();
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
            // Without a SOA, so that nobody may keep it.
            "none.example" => (NXDOMAIN, vec![]),
            "now.example" => (0, vec![a_record(0, [192, 0, 2, 1])]),
            _ => (0, vec![a_record(300, [192, 0, 2, 1])]),
        };
        vec![Say::Send(seen.query.response(flags, &records))]
    };
    let upstream = Upstream::start(&Host::local(), answer);
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
    assert_eq!(redis.keys(), ["ringdns:1:a:-:1:1:www.example."]);

    // Nor is it taken from there: an appliance without the zone may have put it there.
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
    let names = ["text", "list", "later", "cut", "bent", "swapped"];
    names.iter().for_each(|name| {
        first.teaches(&format!("{name}.example"));
    });
    let key = |name: &str| format!("ringdns:1:a:-:1:1:{name}.example.");
    redis.cli(&["SET", &key("text"), "192.0.2.66", "EX", "300"]);
    redis.cli(&["DEL", &key("list")]);
    redis.cli(&["RPUSH", &key("list"), "192.0.2.66"]);
    // The version, the length, the address at the end.
    redis.cli(&["SETRANGE", &key("later"), "4", "\u{2}"]);
    redis.cli(&["APPEND", &key("cut"), "x"]);
    redis.cli(&["SETRANGE", &key("bent"), "90", "B"]);
    redis.cli(&["COPY", &key("cut"), &key("swapped"), "REPLACE"]);

    let second = Appliance::joined(&upstream, &redis);
    for name in names {
        assert_eq!(second.asks(&format!("{name}.example")), Ipv4Addr::new(192, 0, 2, 1), "{name}");
    }
    assert_eq!((second.count("foreign"), second.count("damaged"), second.count("hit")), (3, 3, 0));
    assert_eq!(upstream.asked(), 12);
    second.sums_close();
}

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
    assert_eq!(redis.keys(), ["ringdns:1:a:-:1:1:again.example."]);
    first.sums_close();
}

/// With the deadline of the default configuration.
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
    // Redis still has what is void now.
    assert!(redis.keys().contains(&"ringdns:1:a:-:1:1:www.example.".to_owned()));
    second.asks("www.example");
    assert_eq!((upstream.asked(), second.count("purges_heard")), (3, 1), "the second did not hear of it");
    until("it is stored", || (second.count("stored") == 1).then_some(()));
    first.asks("www.example");
    assert_eq!((upstream.asked(), first.count("hit")), (3, 1), "what came after the purge is good");
    first.asks("www.other");
    second.asks("www.other");
    assert_eq!(upstream.asked(), 3, "what it was not of is left");
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
    // One that starts now does not take what was stored before the purge.
    let third = Appliance::joined(&upstream, &redis);
    third.asks("www.example");
    assert_eq!(third.count("hit") + third.count("purged"), 1);
}

#[test]
fn a_cluster_is_as_good_as_one() {
    let cluster = RedisCluster::start();
    let upstream = Upstream::answering(&Host::local());
    let [url, other] = cluster.urls();
    let more = format!("cluster = [{other:?}]\n{PATIENT}");
    let [first, second] = [(), ()].map(|()| Appliance::start(&upstream, &url, &more, ""));
    first.joins();
    second.joins();
    let names: Vec<_> = (0..50).map(|n| format!("n{n}.example")).collect();
    for name in &names {
        first.asks(name);
    }
    until("all are stored", || (first.count("stored") == 50).then_some(()));
    for name in &names {
        second.asks(name);
    }
    assert_eq!((second.count("hit"), upstream.asked()), (50, 50), "upstreams were asked again");
    for nth in 0..3 {
        let keys: u32 = cluster.cli(nth, &["DBSIZE"]).parse().expect("a number");
        assert!((5..=30).contains(&keys), "{keys} of 50 keys are on one of three nodes");
    }
    second.ringdnsd.told(&["cache", "purge", "--all"]);
    until("the first has heard of it", || (first.count("purges_heard") == 1).then_some(()));
    first.asks("n7.example");
    assert_eq!((first.count("purged"), upstream.asked()), (1, 51));
    first.sums_close();
    second.sums_close();
}

#[test]
fn a_password_is_given_where_one_is_asked_for() {
    let redis = Redis::start();
    redis.cli(&[
        "ACL",
        "SETUSER",
        "ringdns",
        "on",
        ">hush",
        "~ringdns:*",
        "resetchannels",
        "-@all",
        "+ping",
        "+get",
        "+pttl",
        "+set",
        "+xadd",
        "+xrange",
        "+xrevrange",
        "+expire",
    ]);
    redis.cli(&["ACL", "SETUSER", "default", "off"]);
    let upstream = Upstream::answering(&Host::local());
    let stranger = Appliance::start(&upstream, &redis.url(), PATIENT, "");
    let appliance =
        Appliance::start(&upstream, &format!("{}?user=ringdns&pass=hush", redis.url()), PATIENT, "");
    appliance.joins();
    appliance.teaches("www.example");
    let told = appliance.ringdnsd.told(&["cache", "purge", "--all"]);
    assert!(told.contains("have been told"), "{told}");
    assert!(stranger.count("connect_failed") > 0 && !stranger.is_up());
    assert!(!appliance.ringdnsd.process().output().contains("hush"));
    appliance.sums_close();
}

#[test]
fn redis_over_tls_must_be_who_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_file = file("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let port = free_port(&Host::local());
    let _redis =
        Redis::start_tls(port, &file("redis.pem", certificate.pem()), &file("key.pem", key.serialize_pem()));
    let upstream = Upstream::answering(&Host::local());
    let url = format!("rediss://127.0.0.1:{port}");
    let stranger = Appliance::start(&upstream, &url, PATIENT, "");
    // The CA as one that the system knows.
    let known = format!("SSL_CERT_FILE={}", ca_file.display());
    let appliance = Appliance::start_behind(&upstream, &url, PATIENT, "", &["env", &known]);
    appliance.joins();
    appliance.teaches("www.example");
    until("it was tried", || (stranger.count("connect_failed") > 1).then_some(()));
    assert!(!stranger.is_up());
}
