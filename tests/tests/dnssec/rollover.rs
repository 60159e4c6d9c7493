//! Changes of a zone's keys (RFC 5011), by a real signer and a real server: ringdnsd is started anew
//! at each date, with the trust anchors that it has written before.

use super::{A, NOERROR, SERVFAIL};
use ringdns_testkit::{
    Client, Host, KeyRing, KeySigningKey, Knot, Query, Ringdnsd, Settings, Zone, free_address, from_time,
    until,
};
use serde_json::Value;
use std::{net::SocketAddr, path::PathBuf};
use tempfile::TempDir;

/// Seconds in a day.
const DAY: f64 = 86_400.0;
/// RootDay 0, as `dnssec-signzone` reads it.
const BEGIN: &str = "20270115";
/// Unix time at the beginning of day 0.
const BEGIN_UNIX: u64 = 1_799_971_200;
/// An hour in days.
const HOUR: f64 = 1.0 / 24.0;

/// Whether a zone's answer is proven, or refused.
#[derive(Debug, PartialEq)]
enum Belief {
    Secure,
    Refused,
}
use Belief::{Refused, Secure};

/// Key-signing key, and the name that the test gives it.
struct NamedKey {
    name: &'static str,
    tag: u16,
    /// Public key in Base64.
    public: String,
}

/// Root whose keys change, and the files of an appliance that follows them.
struct ChangingRoot {
    host: Host,
    ring: KeyRing,
    keys: Vec<NamedKey>,
    folder: TempDir,
}

impl ChangingRoot {
    /// Returns a root with one key, `old`, which is the only trust anchor.
    fn begin() -> (Self, KeySigningKey) {
        let (host, ring) = (Host::local(), KeyRing::new("."));
        let folder = tempfile::tempdir().unwrap();
        let mut root = ChangingRoot { host, ring, keys: Vec::new(), folder };
        let old = root.key("old");
        std::fs::write(root.path("first"), root.ring.record(&old)).unwrap();
        (root, old)
    }

    /// Makes a key of this name.
    fn key(&mut self, name: &'static str) -> KeySigningKey {
        loop {
            let key = self.ring.key_signing();
            let (tag, record) = (key.tag(), self.ring.record(&key));
            // States are told by tag.
            if self.keys.iter().all(|known| known.tag != tag) {
                // The zone, `IN DNSKEY`, flags, protocol and algorithm precede it.
                let public = record.split_whitespace().skip(6).collect();
                self.keys.push(NamedKey { name, tag, public });
                return key;
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts ringdnsd at a date, in days from the beginning.
    fn start(&self, day: f64, upstream: SocketAddr) -> (Ringdnsd, Client) {
        let listen = free_address(&self.host);
        let mut settings = Settings::loopback(listen, upstream);
        settings.tables += &format!(
            "\n[dnssec]\nvalidate = true\ntrust_anchor_file = {:?}\nmanaged_anchor_file = {:?}\n",
            self.path("first"),
            self.path("managed")
        );
        let wrapper = from_time(BEGIN_UNIX + (day * DAY) as u64);
        let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
        (Ringdnsd::start_behind(&self.host, &settings, &wrapper), Client::of(&self.host, listen))
    }

    /// Returns the root as it is on a day: with the keys `published`, whose set `signers` have signed.
    ///
    /// The zone is served by its owner, or by somebody who has the keys `signers`.
    fn root(&self, day: f64, published: &[&KeySigningKey], signers: &[&KeySigningKey]) -> Zone {
        let mut zone = Zone::empty(".", 60);
        zone.record("www.example. 300 A 192.0.2.1");
        let [from, to] = [day - 1.0, day + 10.0].map(date);
        self.ring.sign(&zone, published, signers, &["-s", &from, "-e", &to])
    }

    /// Serves the root of a day, and starts ringdnsd. Returns the states of the keys after ringdnsd
    /// has seen them, as `old valid, new pending`.
    fn open(
        &self,
        day: f64,
        published: &[&KeySigningKey],
        signers: &[&KeySigningKey],
    ) -> (String, RootDay<'_>) {
        let knot = Knot::upstream(&self.host, &[self.root(day, published, signers)]);
        let (ringdnsd, client) = self.start(day, knot.address());
        // Trusted keys change before the file does.
        let states = until("the keys were refreshed, and the file was written", || {
            let (states, is_refreshed) = self.told(&ringdnsd);
            (is_refreshed && self.in_file().as_ref() == Some(&states)).then_some(states)
        });
        (states, RootDay { root: self, day, address: knot.address(), knot: Some(knot), ringdnsd, client })
    }

    /// Returns the states of the keys on a day, and the verdict on an address.
    fn on(&self, day: f64, published: &[&KeySigningKey], signers: &[&KeySigningKey]) -> (String, Belief) {
        let (states, day) = self.open(day, published, signers);
        (states, day.verdict())
    }

    /// Returns the states that ringdnsd has from its file on a day when no server answers.
    fn remembered(&self, day: f64) -> String {
        let (ringdnsd, _) = self.start(day, free_address(&self.host));
        let (states, _) = self.told(&ringdnsd);
        assert_eq!(self.in_file().as_ref(), Some(&states), "day {day}");
        states
    }

    /// Returns the states that ringdnsd tells, and whether it has tried to refresh them.
    fn told(&self, ringdnsd: &Ringdnsd) -> (String, bool) {
        let tries =
            ["refreshed", "refresh_failed"].map(|name| ringdnsd.stat(&format!("/trust_anchors/{name}")));
        let status: Value = serde_json::from_str(&ringdnsd.told(&["--json", "status"])).unwrap();
        let [point] = &status["trust_points"].as_array().unwrap()[..] else { panic!("{status:#}") };
        let keys = point["keys"].as_array().unwrap().iter();
        let keys = keys.map(|key| {
            let name = self.name(|known| key["tag"] == known.tag);
            format!("{name} {}", key["state"].as_str().unwrap())
        });
        (keys.collect::<Vec<_>>().join(", "), tries != [0, 0])
    }

    fn name(&self, is_it: impl Fn(&NamedKey) -> bool) -> &'static str {
        self.keys.iter().find(|key| is_it(key)).map_or("unknown", |key| key.name)
    }

    /// Returns the states in the file, if there is one.
    fn in_file(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path("managed")).ok()?;
        let states = text.lines().filter_map(|line| {
            let state = line.strip_prefix(". ")?.split(' ').next()?;
            Some(format!("{} {state}", self.name(|key| line.ends_with(&key.public))))
        });
        Some(states.collect::<Vec<_>>().join(", "))
    }
}

/// ringdnsd on a day, and the server that it asks.
struct RootDay<'a> {
    root: &'a ChangingRoot,
    day: f64,
    address: SocketAddr,
    knot: Option<Knot>,
    ringdnsd: Ringdnsd,
    client: Client,
}

impl RootDay<'_> {
    fn verdict(&self) -> Belief {
        let reply = self.client.ask(&Query::of("www.example", A).dnssec(true, false));
        match (reply.rcode(), reply.is_authentic()) {
            (NOERROR, true) => Secure,
            (SERVFAIL, false) => Refused,
            _ => panic!("day {}: {reply:?}", self.day),
        }
    }

    /// Returns the verdict after the server has changed to another root. ringdnsd runs on, and does
    /// not look at the keys of its trust anchors again.
    fn then(&mut self, published: &[&KeySigningKey], signers: &[&KeySigningKey]) -> Belief {
        let root = self.root.root(self.day, published, signers);
        self.knot = None;
        self.knot = Some(Knot::serve(&self.root.host, self.address, &[root]));
        self.ringdnsd.told(&["cache", "purge", "--all"]);
        self.verdict()
    }
}

/// Returns a date in the form of `dnssec-signzone`.
fn date(day: f64) -> String {
    format!("{BEGIN}{:+}", (day * DAY) as i64)
}

#[test]
fn a_zone_changes_its_key_and_ringdnsd_follows() {
    let (mut root, old) = ChangingRoot::begin();
    let new = root.key("new");
    let says = |states: &str, verdict| (states.to_owned(), verdict);
    assert_eq!(root.on(0.0, &[&old], &[&old]), says("old valid", Secure));
    let pending = "old valid, new pending";
    assert_eq!(root.on(1.0, &[&old, &new], &[&old]), says(pending, Secure));
    assert_eq!(root.on(1.5, &[&old, &new], &[&new]), says(pending, Refused), "new is not trusted");
    assert_eq!(root.remembered(2.0), pending);
    // 30 days in the zone are over on day 31.
    let both = [&old, &new];
    assert_eq!(root.on(31.0 - HOUR, &both, &[&old]), says(pending, Secure));
    assert_eq!(root.on(31.0 - HOUR, &both, &[&new]), says(pending, Refused));
    let (states, mut day) = root.open(32.0, &both, &[&old]);
    assert_eq!((&*states, day.verdict()), ("old valid, new valid", Secure));
    assert_eq!(day.then(&both, &[&new]), Secure, "new is trusted at once");
    drop(day);
    assert_eq!(root.on(32.0, &both, &[&new]), says("old valid, new valid", Secure));
    assert_eq!(root.on(32.5, &[&new], &[&new]), says("old missing, new valid", Secure));
    let revoked = root.ring.revoked(&old);
    let states = "old revoked, new valid";
    let (seen, mut day) = root.open(33.0, &[&revoked, &new], &[&revoked, &new]);
    assert_eq!((&*seen, day.verdict()), (states, Secure));
    assert_eq!(day.then(&[&old], &[&old]), Refused, "old is not trusted from then on");
    drop(day);
    assert_eq!(root.remembered(33.2), states);
    // Whoever has the revoked key cannot serve the zone as it was before.
    assert_eq!(root.on(33.5, &[&old], &[&old]), says(states, Refused));
    assert_eq!(root.on(34.0, &both, &[&old]), says(states, Refused));
    assert_eq!(root.on(34.0, &both, &[&new]), says(states, Secure));
    let states = "old removed, new valid";
    assert_eq!(root.on(65.0, &[&new], &[&new]), says(states, Secure));
    assert_eq!(root.on(66.0, &[&old], &[&old]), says(states, Refused));
}

#[test]
fn a_key_that_is_not_in_the_zone_for_thirty_days_is_not_trusted() {
    let (mut root, old) = ChangingRoot::begin();
    let new = root.key("new");
    let both = [&old, &new];
    let says = |states: &str, verdict| (states.to_owned(), verdict);
    let (alone, pending) = ("old valid", "old valid, new pending");
    assert_eq!(root.on(0.0, &both, &[&old]), says(pending, Secure));
    assert_eq!(root.on(20.0, &both, &[&old]), says(pending, Secure));
    // It leaves the zone, and the time begins anew when it is back.
    assert_eq!(root.on(25.0, &[&old], &[&old]), says(alone, Secure));
    assert_eq!(root.on(26.0, &[&new], &[&new]), says(alone, Refused));
    assert_eq!(root.on(27.0, &both, &[&old]), says(pending, Secure));
    for day in [31.0, 57.0 - HOUR] {
        assert_eq!(root.on(day, &both, &[&old]), says(pending, Secure), "day {day}");
        assert_eq!(root.on(day, &both, &[&new]), says(pending, Refused), "day {day}");
    }
    // It has left just before, and a set that it signs itself does not make it trusted.
    assert_eq!(root.on(57.0 - HOUR / 2.0, &[&old], &[&old]), says(alone, Secure));
    for day in [58.0, 90.0] {
        assert_eq!(root.on(day, &both, &[&new]), says(alone, Refused), "day {day}");
    }
    assert_eq!(root.on(91.0, &[&old], &[&old]), says(alone, Secure));
}
