//! Tests of lying upstreams, and of forgers who are faster: nothing false is cached, clients get
//! the truth or SERVFAIL in bounded time, memory and sockets are bounded, and counters record each
//! lie.
//!
//!     cargo test -p ringdns-tests --test liars
//!
//! The lies are in `lies.rs`, one entry each.

mod lies;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lies::{End, FALSE, LIES, Lie, TRUE, honest, lie, question, victim_of};
use ringdns_testkit::{
    Client, DNS_V4, Lab, Over, Query, Reply, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, until,
};

const NOERROR: u16 = 0;
const SERVFAIL: u16 = 2;

/// Longest time for any reply, less than clients wait before they give up: three seconds for the
/// question, and a reserve for a busy machine.
const BOUNDED: Duration = Duration::from_secs(5);
/// Most upstream queries for one question: three attempts over UDP and TCP each, or the hops along
/// aliases.
const ASKED_MAX: usize = 9;
/// Most growth of resident memory from one storm of lies to the last: the host tier's share, and
/// memory that the allocator retains. A round of lies is some 500 KB, none of which may stay.
const GROWTH_MAX: u64 = 12 << 20;

struct Scene {
    client: Client,
    ringdnsd: Ringdnsd,
    upstream: Upstream,
    lab: Lab,
}

impl Scene {
    fn set(upstream: impl Fn(&Lab) -> Upstream, resolver: &str) -> Option<Self> {
        let lab = Lab::up()?;
        let upstream = upstream(&lab);
        // Shorter than the default, to speed up the test.
        let tables = format!(
            "[[upstream]]\naddress = \"{}\"\ntimeout = \"400ms\"\n[resolver]\n{resolver}\n{}",
            upstream.address(),
            "[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"4MiB\"",
        );
        let settings = Settings { upstreams: Vec::new(), tables, ..Settings::xdp(upstream.address()) };
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        Some(Self { client: Client::of(lab.client(), DNS_V4), ringdnsd, upstream, lab })
    }

    /// Returns the number of upstream queries for this lie in this round.
    fn asked(&self, lie: &Lie, round: u32) -> usize {
        let (begin, end) = (format!("{}.", lie.name), format!(".{round}.liar.example"));
        let told = |name: String| name.starts_with(&begin) && name.ends_with(&end);
        self.upstream.seen().iter().filter(|seen| told(seen.query.name())).count()
    }

    /// Checks that the victim has its true address, which comes from an upstream query for it.
    #[track_caller]
    fn victim_is_unharmed(&self, victim: &str) {
        let asks = |scene: &Self| {
            let seen = scene.upstream.seen();
            seen.iter().filter(|seen| seen.query.name() == victim).count()
        };
        assert_eq!(asks(self), 0, "{victim} was asked for before");
        for (nth, ask) in [Query::a(victim), Query::a(victim).dnssec(true, false)].into_iter().enumerate() {
            let reply = self.client.ask(&ask);
            assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)], "{victim}");
            assert_eq!(asks(self), nth + 1, "{victim} was not asked for: it was in the cache");
        }
        let over_tcp = ask_over_tcp(self.lab.client(), DNS_V4, &[Query::a(victim)]);
        assert_eq!(over_tcp[0].addresses(), [Ipv4Addr::from(TRUE)], "{victim} over TCP");
    }
}

/// Whether a reply contains the false address anywhere.
fn repeats_the_lie(reply: &Reply) -> bool {
    reply.0.windows(FALSE.len()).any(|bytes| bytes == FALSE)
}

#[track_caller]
fn check(lie: &Lie, reply: &Reply) {
    assert!(!repeats_the_lie(reply), "{}: the lie is passed on: {reply:02x?}", lie.name);
    let (rcode, addresses) = match lie.end {
        End::Truth => (NOERROR, vec![Ipv4Addr::from(TRUE)]),
        End::ServFail => (SERVFAIL, vec![]),
    };
    assert_eq!((reply.rcode(), reply.addresses()), (rcode, addresses), "{}", lie.name);
}

#[test]
fn no_lie_is_believed_and_each_is_counted() {
    let Some(scene) = Scene::set(|lab| Upstream::start(lab.server(), lies::answer), "") else { return };
    for lie in LIES {
        let before = scene.ringdnsd.stats();
        let query = Query::a(&question(lie, 0));
        let asked = Instant::now();
        let reply = scene.client.ask(&query);
        let took = asked.elapsed();
        check(lie, &reply);
        assert!(took < BOUNDED, "{}: {took:?}", lie.name);
        let often = scene.asked(lie, 0);
        assert!(often <= ASKED_MAX, "{}: the upstream was asked {often} times", lie.name);
        // From the cache: the truth, or the failure (RFC 9520).
        check(lie, &scene.client.ask(&query));
        check(lie, &ask_over_tcp(scene.lab.client(), DNS_V4, std::slice::from_ref(&query))[0]);
        assert_eq!(scene.asked(lie, 0), often, "{}: asked again", lie.name);
        scene.victim_is_unharmed(&victim_of(lie, 0));
        for (counter, count) in lie.counters {
            let read = |stats: &serde_json::Value| stats.pointer(counter).and_then(serde_json::Value::as_u64);
            let before = read(&before).unwrap_or_else(|| panic!("no counter {counter}"));
            // The victim's answers are counted, too. For answers after the truth, the counter may
            // rise later.
            let honest = if counter.ends_with("/answers") { 2 } else { 0 };
            until(&format!("{}: {counter} rises by {count}", lie.name), || {
                (read(&scene.ringdnsd.stats())? >= before + count + honest).then_some(())
            });
        }
    }
    scene.ringdnsd.settled();
}

/// Checks forgers and liars of all kinds at once, beside honest names. They share connections, so
/// one lie may break the connection of another's truth, which gives SERVFAIL.
#[test]
fn a_storm_of_lies_leaves_nothing_behind() {
    const ROUNDS: u32 = 12;
    let Some(scene) = Scene::set(|lab| Upstream::start(lab.server(), lies::answer), "") else { return };
    let process = scene.ringdnsd.process();
    let sockets = process.sockets();
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        let mut queries = Vec::new();
        for (lie, id) in LIES.iter().zip((0..).step_by(2)) {
            queries.push((Query::a(&question(lie, round)).id(id), false));
            queries.push((Query::a(&format!("{id}.{round}.honest.example")).id(id + 1), true));
        }
        let client = Client::of(scene.lab.client(), DNS_V4);
        let began = Instant::now();
        queries.iter().for_each(|(query, _)| client.send(&query.wire()));
        for _ in &queries {
            let left = BOUNDED.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
            let reply = client.receive(left).expect("all are answered in bounded time");
            let (query, honest) = &queries[usize::from(reply.id())];
            assert!(reply.repeats(query) && !repeats_the_lie(&reply), "{query:?}: {reply:02x?}");
            match reply.rcode() {
                NOERROR => assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)], "{query:?}"),
                rcode => assert!(rcode == SERVFAIL && !honest, "{query:?}: RCODE {rcode}"),
            }
        }
        for lie in LIES {
            let reply = scene.client.ask(&Query::a(&victim_of(lie, round)));
            assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)], "{}", lie.name);
        }
        resident.push(process.resident());
    }
    let growth = resident[resident.len() - 1].saturating_sub(resident[1]);
    assert!(growth < GROWTH_MAX, "resident memory grew by {growth} bytes: {resident:?}");
    until("all sockets are closed", || (process.sockets() == sockets).then_some(()));
    let stats = scene.ringdnsd.settled();
    let (resolver, upstream) = (&stats["resolver"], &stats["upstreams"][0]["counters"]);
    let count = |name: &str| resolver["counters"][name].as_u64().unwrap();
    assert_eq!(resolver["under_way"], 0, "{resolver:#}");
    assert_eq!(
        count("flights"),
        count("resolved") + count("failed"),
        "the sums of questions do not close: {resolver:#}"
    );
    assert_eq!(upstream["connections"], upstream["connections_closed"], "{upstream:#}");
}

/// Checks RFC 5452: the forger sends all IDs but the right one before the truth. The truth arrives,
/// or there is no answer.
#[test]
fn a_burst_of_forged_ids_brings_nothing_in() {
    let burst = |lab: &Lab| {
        Upstream::start(lab.server(), |seen| {
            let mut said = Vec::new();
            if seen.over == Over::Udp && seen.query.name().starts_with("burst") {
                let forged = (0..=u16::MAX).filter(|id| *id != seen.query.id()).map(|id| {
                    let mut lie = lie(seen);
                    lie[..2].copy_from_slice(&id.to_be_bytes());
                    Say::Send(lie)
                });
                said.extend(forged);
            }
            said.push(honest(seen));
            said
        })
    };
    let Some(scene) = Scene::set(burst, "") else { return };
    for number in 0..3 {
        let query = Query::a(&format!("burst{number}.example"));
        let asked = Instant::now();
        let reply = scene.client.ask(&query);
        assert!(asked.elapsed() < BOUNDED, "{:?}", asked.elapsed());
        assert!(!repeats_the_lie(&reply), "{reply:02x?}");
        match reply.rcode() {
            NOERROR => assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)]),
            rcode => assert_eq!(rcode, SERVFAIL),
        }
    }
    // The last burst may still be in flight.
    until("other names have their addresses", || {
        let reply = scene.client.ask(&Query::a("www.example"));
        assert!(!repeats_the_lie(&reply), "{reply:02x?}");
        (reply.addresses() == [Ipv4Addr::from(TRUE)]).then_some(())
    });
    let stats = scene.ringdnsd.settled();
    let counters = &stats["upstreams"][0]["counters"];
    let count = |name: &str| counters[name].as_u64().unwrap();
    assert!(count("ignored_wrong_id") >= 9, "{counters:#}");
    // Each query that met a burst was given up, and sent again over TCP. On a slow machine the burst takes longer
    // than the time-out of an attempt, and a name meets one for each of its three attempts.
    let over_tcp = count("queries_tcp");
    assert!((3..=9).contains(&over_tcp), "{counters:#}");
    assert_eq!([count("sockets_abandoned"), count("exposed")], [over_tcp; 2], "{counters:#}");
}

/// Checks randomised letter case: a forger who did not see the query does not know it, and the
/// truth comes over TCP.
#[test]
fn the_wrong_letters_are_not_believed() {
    let respelling = |lab: &Lab| {
        Upstream::start(lab.server(), |seen| match seen.over {
            Over::Udp => {
                let mut lie = lie(seen);
                let end = 12 + seen.query.name().len();
                lie[12..=end].make_ascii_lowercase();
                vec![Say::Send(lie)]
            }
            Over::Tcp => vec![honest(seen)],
        })
    };
    let Some(scene) = Scene::set(respelling, "randomize_case = true") else { return };
    let query = Query::a("a-name-of-so-many-letters-that-they-are-not-all-small.example");
    for _ in 0..2 {
        let reply = scene.client.ask(&query);
        assert!(reply.repeats(&query), "{reply:02x?}");
        assert_eq!(reply.addresses(), [Ipv4Addr::from(TRUE)]);
    }
    let over: Vec<Over> = scene.upstream.seen().iter().map(|seen| seen.over).collect();
    assert_eq!(over, [Over::Udp, Over::Tcp]);
    assert_eq!(scene.ringdnsd.stat("/upstreams/0/counters/respelled"), 1);
}
