//! Tests of answers validated by ringdnsd, against signed zones with a root of their own, and
//! compared with Unbound.

mod cost;
mod denials;
mod rollover;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use ringdns_testkit::{
    A, Client, DNS_V4, Knot, Lab, Process, Query, Reply, Ringdnsd, Settings, Signed, TXT, Unbound, Zone,
    free_address, sign, until,
};
use serde_json::Value;
use tempfile::NamedTempFile;

const NOERROR: u16 = 0;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

const NS: u16 = 2;
const SOA: u16 = 6;
const DS: u16 = 43;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const DNSKEY: u16 = 48;
const NSEC3: u16 = 50;
const ANY: u16 = 255;

/// Extended errors (RFC 8914).
const UNSUPPORTED_KEY: u16 = 1;
const UNSUPPORTED_DIGEST: u16 = 2;
const BOGUS: u16 = 6;
const EXPIRED: u16 = 7;
const NOT_YET_VALID: u16 = 8;
const DNSKEY_MISSING: u16 = 9;
const RRSIGS_MISSING: u16 = 10;
const NSEC_MISSING: u16 = 12;
const ITERATIONS: u16 = 27;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Name and type of a question, and its expected answer: RCODE, AD and extended errors.
type Case = (&'static str, u16, u16, bool, &'static [u16]);

/// Answers proven by signatures from the root on.
const SECURE: &[Case] = &[
    ("www.signed", A, NOERROR, true, &[]),
    ("www.nsec3", A, NOERROR, true, &[]),
    ("www.optout", A, NOERROR, true, &[]),
    ("a.wild.signed", A, NOERROR, true, &[]),
    ("a.b.wild.signed", A, NOERROR, true, &[]),
    ("a.wild.nsec3", A, NOERROR, true, &[]),
    ("alias.signed", A, NOERROR, true, &[]),
    ("away.signed", A, NOERROR, true, &[]),
    ("astray.signed", A, NOERROR, true, &[]),
    ("www.moved.signed", A, NOERROR, true, &[]),
    ("alias.signed", 5, NOERROR, true, &[]),
    ("signed", SOA, NOERROR, true, &[]),
    ("signed", NS, NOERROR, true, &[]),
    ("signed", DS, NOERROR, true, &[]),
    ("signed", DNSKEY, NOERROR, true, &[]),
    ("", DNSKEY, NOERROR, true, &[]),
    // Proofs that there is no such type, or no such name.
    ("www.signed", TXT, NOERROR, true, &[]),
    ("www.nsec3", TXT, NOERROR, true, &[]),
    ("wild.signed", A, NOERROR, true, &[]),
    ("wild.nsec3", A, NOERROR, true, &[]),
    ("a.wild.signed", TXT, NOERROR, true, &[]),
    ("a.wild.nsec3", TXT, NOERROR, true, &[]),
    ("alias.signed", TXT, NOERROR, true, &[]),
    ("unsigned", DS, NOERROR, true, &[]),
    ("nothing.signed", A, NXDOMAIN, true, &[]),
    ("nothing.nsec3", A, NXDOMAIN, true, &[]),
    ("nowhere.signed", A, NXDOMAIN, true, &[]),
    ("nothing", A, NXDOMAIN, true, &[]),
    ("www.optout", TXT, NOERROR, true, &[]),
    ("www.many", A, NOERROR, true, &[]),
];

/// Answers proven to be unsigned, or signed in ways that count as unsigned.
const INSECURE: &[Case] = &[
    ("www.unsigned", A, NOERROR, false, &[]),
    ("www.unsigned", TXT, NOERROR, false, &[]),
    ("alias.unsigned", A, NOERROR, false, &[]),
    ("nothing.unsigned", A, NXDOMAIN, false, &[]),
    ("unsafe.signed", A, NOERROR, false, &[]),
    ("back.unsigned", A, NOERROR, false, &[]),
    ("www.child.optout", A, NOERROR, false, &[]),
    ("nothing.child.optout", A, NXDOMAIN, false, &[]),
    // Opt-out: there may be a delegation without DS.
    ("nothing.optout", A, NXDOMAIN, false, &[]),
    ("child.optout", DS, NOERROR, false, &[]),
    ("a.wild.optout", A, NOERROR, false, &[]),
    ("a.wild.optout", TXT, NOERROR, false, &[]),
    ("child.nsec3", DS, NOERROR, true, &[]),
    ("www.child.nsec3", A, NOERROR, false, &[]),
    ("www.oddkey", A, NOERROR, false, &[UNSUPPORTED_KEY]),
    ("www.odddigest", A, NOERROR, false, &[UNSUPPORTED_DIGEST]),
    // Too many iterations: RFC 9276 section 3.2.
    ("nothing.many", A, NXDOMAIN, false, &[ITERATIONS]),
    ("www.many", TXT, NOERROR, false, &[ITERATIONS]),
    ("a.wild.many", A, NOERROR, false, &[ITERATIONS]),
    ("www.child.many", A, NOERROR, false, &[ITERATIONS]),
];

const FALSE: &[Case] = &[
    ("www.broken", A, SERVFAIL, false, &[BOGUS]),
    ("www.expired", A, SERVFAIL, false, &[EXPIRED]),
    ("nothing.expired", A, SERVFAIL, false, &[EXPIRED]),
    ("www.future", A, SERVFAIL, false, &[NOT_YET_VALID]),
    ("www.keyless", A, SERVFAIL, false, &[DNSKEY_MISSING]),
    ("www.wrongkey", A, SERVFAIL, false, &[DNSKEY_MISSING]),
    ("nothing.wrongkey", A, SERVFAIL, false, &[BOGUS]),
    ("www.bare", A, SERVFAIL, false, &[RRSIGS_MISSING]),
    ("www.open", TXT, SERVFAIL, false, &[NSEC_MISSING]),
    ("nothing.open", A, SERVFAIL, false, &[NSEC_MISSING]),
    ("a.wild.open", A, SERVFAIL, false, &[NSEC_MISSING]),
    ("lost.signed", A, SERVFAIL, false, &[EXPIRED]),
];

/// Returns a zone with a name of each kind.
fn zone(origin: &str) -> Zone {
    let mut zone = Zone::empty(origin, 60);
    zone.record("www 300 A 192.0.2.1");
    zone.record("*.wild 300 A 192.0.2.1");
    zone.record("alias 300 CNAME www");
    zone.record("away 300 CNAME www.nsec3.");
    zone.record("astray 300 CNAME a.wild.nsec3.");
    zone.record("nowhere 300 CNAME nothing.nsec3.");
    zone.record("unsafe 300 CNAME www.unsigned.");
    zone.record("back 300 CNAME www.signed.");
    zone.record("lost 300 CNAME www.expired.");
    zone.record("inside 300 CNAME www.corp.");
    zone.record("here 300 CNAME localhost.");
    zone.record(&format!("moved 300 DNAME {origin}"));
    zone
}

/// Returns a zone without the records of a type.
fn without(signed: &Zone, rtype: &str) -> Zone {
    // In the full format of dnssec-signzone each record is one line.
    let drop = |line: &&str| !line.split_whitespace().any(|word| word == rtype);
    let lines: Vec<_> = signed.text().lines().filter(drop).collect();
    Zone::written(signed.origin(), lines.join("\n") + "\n")
}

/// Changes the algorithm (field 3) or the digest type (field 4) in DS records to an unknown number.
fn odd(signed: &mut Signed, field: usize) {
    let line = |line: &str| {
        let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let ds = words.iter().position(|word| word == "DS").unwrap();
        words[ds + field - 1] = "200".to_owned();
        words.join(" ")
    };
    signed.ds = signed.ds.lines().map(line).collect::<Vec<_>>().join("\n");
}

/// A signed root and the zones below it.
struct Tree {
    zones: Vec<Zone>,
    anchor: String,
}

/// Returns the zones, which are signed only once, because that takes seconds.
fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(plant)
}

fn plant() -> Tree {
    let full = ["-O", "full"];
    let past = ["-s", "20200101000000", "-e", "20200201000000"];
    let future = ["-s", "20370101000000", "-e", "20370201000000"];
    let signed_zone = |zone: &Zone, more: &[&str]| sign(zone, &[&full[..], more].concat());
    let made = |origin: &str, more: &[&str]| signed_zone(&zone(origin), more);
    let mut root = Zone::empty(".", 60);
    let mut zones = Vec::new();
    let mut delegate = |signed: Signed, served: Zone| {
        let origin = signed.zone.origin();
        root.record(&format!("{origin} 300 NS ns.invalid."));
        signed.ds.lines().for_each(|ds| root.record(ds));
        zones.push(served);
    };
    for (origin, options) in [
        ("signed.", &[][..]),
        ("nsec3.", &["-3", "-", "-H", "0"]),
        ("optout.", &["-3", "-", "-H", "0", "-A"]),
        ("many.", &["-3", "-", "-H", "120"]),
        ("expired.", &past),
        ("future.", &future),
    ] {
        let mut zone = zone(origin);
        zone.record("child 300 NS ns.invalid.");
        let signed = signed_zone(&zone, options);
        let served = signed.zone.clone();
        delegate(signed, served);
    }
    let broken = made("broken.", &[]);
    let text = broken.zone.text().replace("192.0.2.1", "192.0.2.66");
    delegate(broken, Zone::written("broken.", text));
    // The parent's DS records are those of other keys.
    let wrong = made("wrongkey.", &[]);
    delegate(made("wrongkey.", &[]), wrong.zone);
    let bare = made("bare.", &[]);
    delegate(bare, zone("bare."));
    for (origin, rtype) in [("keyless.", "DNSKEY"), ("open.", "NSEC")] {
        let signed = made(origin, &[]);
        let served = without(&signed.zone, rtype);
        delegate(signed, served);
    }
    for (origin, field) in [("oddkey.", 3), ("odddigest.", 4)] {
        let mut signed = made(origin, &[]);
        odd(&mut signed, field);
        let served = signed.zone.clone();
        delegate(signed, served);
    }
    root.record("unsigned. 300 NS ns.invalid.");
    let root = signed_zone(&root, &[]);
    let unsigned = ["unsigned.", "child.nsec3.", "child.optout.", "child.many."];
    zones.extend(unsigned.map(zone));
    zones.push(root.zone);
    Tree { zones, anchor: root.anchor }
}

struct Scene {
    lab: Lab,
    knot: Knot,
    anchor: NamedTempFile,
}

impl Scene {
    fn set() -> Option<Self> {
        let lab = Lab::up()?;
        let tree = tree();
        let mut anchor = NamedTempFile::new().unwrap();
        writeln!(anchor, "{}", tree.anchor).unwrap();
        let knot = Knot::upstream(lab.server(), &tree.zones);
        Some(Scene { lab, knot, anchor })
    }

    fn settings(&self, upstream: SocketAddr, more: &str) -> Settings {
        let mut settings = Settings::sockets(upstream);
        settings.tables +=
            &format!("\n[dnssec]\nvalidate = true\ntrust_anchor_file = {:?}\n{more}", self.anchor.path());
        settings
    }

    fn start(&self, more: &str) -> (Ringdnsd, Client) {
        let ringdnsd = Ringdnsd::start(self.lab.server(), &self.settings(self.knot.address(), more));
        (ringdnsd, self.client())
    }

    fn client(&self) -> Client {
        Client::of(self.lab.client(), DNS_V4)
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    rcode: u16,
    secure: bool,
    reasons: Vec<u16>,
}

fn seen(reply: &Reply) -> Seen {
    Seen { rcode: reply.rcode(), secure: reply.is_authentic(), reasons: reply.extended_errors() }
}

fn has_proofs(reply: &Reply) -> bool {
    reply.types().iter().any(|rtype| matches!(*rtype, RRSIG | NSEC | NSEC3))
}

/// Returns the differences between the expected and the actual answers.
fn faults(client: &Client, &(name, qtype, rcode, secure, reasons): &Case) -> Vec<String> {
    let is = Seen { rcode, secure, reasons: reasons.to_vec() };
    let signed = client.ask(&Query::of(name, qtype).dnssec(true, false));
    // Without DO: no proofs, and AD only for clients that set AD.
    let plain = client.ask(&Query::of(name, qtype).edns(1232));
    let wants_ad = client.ask(&Query { flags: 0x0120, ..Query::of(name, qtype) });
    let fault = |right: bool, what: String| (!right).then(|| format!("{name} {qtype}: {what}"));
    let checks = [
        fault(seen(&signed) == is, format!("{:?}", seen(&signed))),
        fault(!secure || has_proofs(&signed), "no proofs".to_owned()),
        fault(seen(&plain) == Seen { secure: false, ..is }, format!("without DO: {:?}", seen(&plain))),
        fault(!has_proofs(&plain), "proofs without DO".to_owned()),
        fault(wants_ad.is_authentic() == secure, "AD in the query is ignored".to_owned()),
    ];
    checks.into_iter().flatten().collect()
}

#[test]
fn answers_are_what_their_signatures_say() {
    let Some(scene) = Scene::set() else { return };
    // Each question is to be judged, and none answered from the proof of another.
    let (ringdnsd, client) = scene.start("aggressive = false\n");
    let cases = [SECURE, INSECURE, FALSE].concat();
    let faults: Vec<_> = cases.iter().flat_map(|case| faults(&client, case)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for name in ["away.signed", "astray.signed", "www.moved.signed", "back.unsigned"] {
        assert_eq!(client.ask(&Query::a(name)).addresses(), [ADDRESS], "{name}");
    }
    // Queries with DO and without are two questions.
    let stats = ringdnsd.stats();
    let count = |name: &str| stats["resolver"]["counters"][name].as_u64().unwrap() as usize;
    let all = || SECURE.iter().chain(INSECURE);
    let (secure, insecure) = (all().filter(|case| case.3).count(), all().filter(|case| !case.3).count());
    let expected = [2 * secure, 2 * insecure, 2 * FALSE.len()];
    let counted = ["validated_secure", "validated_insecure", "validated_bogus"].map(count);
    assert_eq!(counted, expected, "{stats:#}");
    // A failure is cached together with its reason.
    let asked = ringdnsd.stat("/upstreams/0/counters/queries_udp");
    let reply = client.ask(&Query::a("www.expired").dnssec(true, false));
    assert!(reply.extended_errors().contains(&EXPIRED), "{reply:?}");
    assert_eq!(ringdnsd.stat("/upstreams/0/counters/queries_udp"), asked);
    // Signatures are not signed themselves; in an answer to ANY, each RRset is signed.
    for (qtype, secure) in [(RRSIG, false), (ANY, true)] {
        let reply = client.ask(&Query::of("www.signed", qtype).dnssec(true, false));
        assert_eq!(seen(&reply), Seen { rcode: NOERROR, secure, reasons: vec![] }, "{qtype}: {reply:?}");
    }
}

/// Checks that the log names the upstream that answered the question, not one that answered for the
/// keys.
#[test]
fn the_log_names_the_upstream_of_what_was_validated() {
    let Some(scene) = Scene::set() else { return };
    let (ringdnsd, client) = scene.start("[query_log]\nenabled = true\n");
    let mut command = ringdnsd.ctl_command();
    command.args(["tap", "--count", "2"]);
    let mut tap = Process::spawn("ringctl tap", command);
    until("somebody listens", || (ringdnsd.stat("/query_log/taps") > 0).then_some(()));
    for _ in 0..2 {
        assert!(client.ask(&Query::a("www.signed").dnssec(true, false)).is_authentic());
    }
    assert!(tap.wait_for_exit(Duration::from_secs(30)).success(), "{}", tap.output());
    let rows: Vec<Value> = tap.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |row: &Value| {
        ["outcome", "tier", "upstream"].map(|name| row[name].as_str().unwrap_or_default().to_owned())
    };
    let upstream = format!("udp://{}", scene.knot.address());
    assert_eq!(of(&rows[0]), ["miss", "upstream", &upstream]);
    assert!(rows[0]["upstream_us"].as_u64().unwrap() > 0, "{:#}", rows[0]);
    assert_eq!(of(&rows[1]), ["hit", "core", ""]);
}

#[test]
fn who_sets_cd_gets_answers_as_they_came() {
    let Some(scene) = Scene::set() else { return };
    let (_ringdnsd, client) = scene.start("");
    for &(name, qtype, ..) in FALSE {
        for dnssec_ok in [true, false] {
            // Both forms are cached, so ask in both orders.
            for checking_disabled in [true, false, true] {
                let reply = client.ask(&Query::of(name, qtype).dnssec(dnssec_ok, checking_disabled));
                assert_eq!(reply.rcode() != SERVFAIL, checking_disabled, "{name} {qtype}: {reply:?}");
                assert!(!reply.is_authentic(), "{name} {qtype}: {reply:?}");
            }
        }
    }
    let reply = client.ask(&Query::a("www.signed").dnssec(true, true));
    assert!(!reply.is_authentic() && has_proofs(&reply), "with CD, nothing is validated: {reply:?}");
}

/// Compares ringdnsd with a validating Unbound of the same upstream and trust anchor. ringdnsd asks
/// through an Unbound that does not validate.
#[test]
fn unbound_comes_to_the_same_conclusions() {
    let Some(scene) = Scene::set() else { return };
    let (host, knot) = (scene.lab.server(), scene.knot.address());
    let judge = Unbound::validating(host, free_address(host), knot, scene.anchor.path());
    let relay = Unbound::forward(host, free_address(host), knot);
    let _ringdnsd = Ringdnsd::start(host, &scene.settings(relay.address(), ""));
    let (client, judge) = (scene.client(), Client::of(host, judge.address()));
    let mut differences = Vec::new();
    for &(name, qtype, ..) in [SECURE, INSECURE, FALSE].concat().iter() {
        let query = Query::of(name, qtype).dnssec(true, false);
        let [ours, theirs] = [&client, &judge].map(|server| server.ask(&query));
        if (ours.rcode(), ours.is_authentic()) != (theirs.rcode(), theirs.is_authentic()) {
            differences.push(format!("{name} {qtype}: {:?}, Unbound: {:?}", seen(&ours), seen(&theirs)));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn names_that_are_said_to_be_insecure_are_not_validated() {
    let Some(scene) = Scene::set() else { return };
    let corp = Knot::upstream(scene.lab.server(), &[zone("corp.")]);
    // A zone with an upstream of its own, with and without an entry in `dnssec.insecure`.
    let own = format!("[[upstream]]\naddress = \"{}\"\nzones = [\"corp\"]\n", corp.address());
    let ask = |name: &str| {
        let reply = scene.client().ask(&Query::a(name).dnssec(true, false));
        (reply.rcode(), reply.is_authentic())
    };
    {
        let (_ringdnsd, _) = scene.start(&own);
        for name in ["www.corp", "inside.signed"] {
            assert_eq!(ask(name), (SERVFAIL, false), "{name}");
        }
        // Names answered locally are not validated.
        for name in ["localhost", "here.signed"] {
            assert_eq!(ask(name), (NOERROR, false), "{name}");
        }
    }
    let (_ringdnsd, _) = scene.start(&format!("insecure = [\"Corp\", \"Expired\", \"www.broken.\"]\n{own}"));
    for name in ["www.corp", "inside.signed", "www.expired", "lost.signed", "www.broken"] {
        assert_eq!(ask(name), (NOERROR, false), "{name}");
    }
    for name in ["a.wild.broken", "www.future"] {
        assert_eq!(ask(name), (SERVFAIL, false), "{name}");
    }
    assert_eq!(ask("www.signed"), (NOERROR, true));
}

#[test]
fn without_the_right_anchor_nothing_is_believed() {
    let Some(scene) = Scene::set() else { return };
    let other = sign(&Zone::empty(".", 60), &[]);
    std::fs::write(scene.anchor.path(), other.anchor).unwrap();
    let (ringdnsd, client) = scene.start("");
    for name in ["www.signed", "www.unsigned"] {
        assert_eq!(client.ask(&Query::a(name)).rcode(), SERVFAIL, "{name}");
    }
    drop(ringdnsd);
    std::fs::write(scene.anchor.path(), "junk").unwrap();
    let (status, said) =
        Ringdnsd::refused(scene.lab.server(), &scene.settings(scene.knot.address(), ""), &[]);
    assert_eq!(status, 3);
    assert!(said.contains("dnssec.trust_anchor_file"), "{said}");
}
