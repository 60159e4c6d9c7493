//! Floods of made-up names in signed zones: the upstream is asked little, because validated denials
//! answer for each other (RFC 8198), and a client that validates accepts what was made of them.

use super::{NOERROR, NXDOMAIN, Scene, cost::relay, tree};
use ringdns_testkit::{A, Client, DNS_V4, Query, Ringdnsd, TXT, Unbound, Upstream, free_address};
use std::{fs, net::SocketAddr, path::Path};
use tempfile::NamedTempFile;

/// Number of made-up names.
const NAMES: usize = 10_000;
/// Extended error: Synthesized.
const SYNTHESISED: u16 = 29;

/// Returns a name that nobody has, each time another: half of them have two labels of their own.
fn made_up(number: usize, zone: &str) -> String {
    // The golden ratio spreads the names over the zone.
    let random = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let front = if number.is_multiple_of(2) { "" } else { "w." };
    format!("{front}{random:016x}.{zone}").trim_end_matches('.').to_owned()
}

/// Asks for made-up names of a zone. Returns the number of questions to the upstream.
fn flood(client: &Client, upstream: &Upstream, zone: &str, secure: bool) -> usize {
    let before = upstream.asked();
    for number in 0..NAMES {
        let reply = client.ask(&Query::a(&made_up(number, zone)).dnssec(number % 3 == 0, false));
        assert_eq!(reply.rcode(), NXDOMAIN, "{number}: {reply:?}");
        assert_eq!(reply.is_authentic(), secure && number % 3 == 0, "{number}: {reply:?}");
    }
    upstream.asked() - before
}

#[test]
fn a_flood_of_made_up_names_in_a_signed_zone_stays_here() {
    let Some(scene) = Scene::set() else { return };
    let (host, knot) = (scene.lab.server(), scene.knot.address());
    let (ours, theirs) = (relay(host, knot), relay(host, knot));
    let ringdnsd = Ringdnsd::start(host, &scene.settings(ours.address(), ""));
    let unbound = Unbound::validating(host, free_address(host), theirs.address(), scene.anchor.path());
    let (client, at_unbound) = (scene.client(), Client::of(host, unbound.address()));
    println!("{NAMES} made-up names of each zone, a third with DO=1; questions to the upstream");
    println!("| zone | ringdns | Unbound |");
    for (zone, secure, most) in [("signed", true, 20), ("nsec3", true, 40)] {
        let own = flood(&client, &ours, zone, secure);
        println!("| {zone} | {own} | {} |", flood(&at_unbound, &theirs, zone, secure));
        assert!(own <= most, "{zone}: {own}");
        // Names that exist are still found, and so are types.
        let www = client.ask(&Query::a(&format!("www.{zone}")).dnssec(true, false));
        assert_eq!((www.rcode(), www.is_authentic(), www.addresses().len()), (NOERROR, true, 1));
    }
    let synthesised = ringdnsd.stat("/resolver/counters/synthesised");
    assert!(synthesised >= 2 * NAMES as u64 - 100, "{synthesised}");
    // Opt-out leaves room for unsigned delegations, so each name is asked for.
    let opt_out = client.ask(&Query::a(&made_up(0, "optout")));
    let asked = ours.asked();
    let another = client.ask(&Query::a(&made_up(2, "optout")));
    assert_eq!((opt_out.rcode(), another.rcode(), ours.asked()), (NXDOMAIN, NXDOMAIN, asked + 1));
}

/// Asks for made-up names below a wildcard, which all have its address. Returns the number of questions
/// to the upstream.
fn flood_wildcard(client: &Client, upstream: &Upstream, zone: &str) -> usize {
    let before = upstream.asked();
    for number in 0..NAMES {
        let reply = client.ask(&Query::a(&made_up(number, zone)).dnssec(number % 3 == 0, false));
        assert_eq!((reply.rcode(), reply.addresses().len()), (NOERROR, 1), "{number}: {reply:?}");
        assert_eq!(reply.is_authentic(), number % 3 == 0, "{number}: {reply:?}");
    }
    upstream.asked() - before
}

/// Names that a wildcard has are answered from its records and the denial of others (RFC 8198 section
/// 5.3).
#[test]
fn a_flood_of_made_up_names_below_a_signed_wildcard_stays_here() {
    let Some(scene) = Scene::set() else { return };
    let (host, knot) = (scene.lab.server(), scene.knot.address());
    let (ours, theirs) = (relay(host, knot), relay(host, knot));
    let ringdnsd = Ringdnsd::start(host, &scene.settings(ours.address(), ""));
    let unbound = Unbound::validating(host, free_address(host), theirs.address(), scene.anchor.path());
    let (client, at_unbound) = (scene.client(), Client::of(host, unbound.address()));
    println!("{NAMES} made-up names below a wildcard, a third with DO=1; questions to the upstream");
    println!("| zone | ringdns | Unbound |");
    for (zone, most) in [("wild.signed", 12), ("wild.nsec3", 20)] {
        let own = flood_wildcard(&client, &ours, zone);
        println!("| {zone} | {own} | {} |", flood_wildcard(&at_unbound, &theirs, zone));
        assert!(own <= most, "{zone}: {own}");
    }
    let expanded = ringdnsd.stat("/resolver/counters/expanded");
    assert!(expanded >= 2 * NAMES as u64 - 100, "{expanded}");
    // Opt-out proves nothing, and what one type has says nothing of another.
    for (name, qtype) in [("b.wild.optout", A), ("c.wild.optout", A), ("d.wild.signed", TXT)] {
        let asked = ours.asked();
        assert_eq!(client.ask(&Query::of(name, qtype)).rcode(), NOERROR, "{name}");
        assert!(ours.asked() > asked, "{name}");
    }
    // The name beside the wildcard has its own records.
    let www = client.ask(&Query::a("www.signed").dnssec(true, false));
    assert_eq!((www.rcode(), www.is_authentic(), www.addresses().len()), (NOERROR, true, 1));
    // A client that validates accepts them.
    let anchor = for_delv();
    for zone in ["wild.signed", "wild.nsec3"] {
        let before = ringdnsd.stat("/resolver/counters/expanded");
        let answer = delv(&scene, anchor.path(), DNS_V4, &format!("delv.{zone}"), "A");
        assert!(answer.contains("; fully validated") && answer.contains("192.0.2.1"), "{zone}: {answer}");
        assert!(ringdnsd.stat("/resolver/counters/expanded") > before, "{zone} was not made: {answer}");
    }
}

/// Writes the anchor in the form that delv reads.
fn for_delv() -> NamedTempFile {
    let words: Vec<_> = tree().anchor.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "DNSKEY").unwrap();
    let (numbers, key) = (words[at + 1..at + 4].join(" "), words[at + 4..].concat());
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("trust-anchors {{ . static-key {numbers} \"{key}\"; }};\n")).unwrap();
    file
}

/// Returns what delv, which validates, says of a question that it asks `server`.
fn delv(scene: &Scene, anchor: &Path, server: SocketAddr, name: &str, rtype: &str) -> String {
    let mut command = scene.lab.client().command("delv");
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "-a"]).arg(anchor);
    command.args(["+root=.", "+nocdflag", name, rtype]);
    let output = command.output().expect("delv; deploy/setup.sh installs what tests need");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_client_that_validates_accepts_made_answers() {
    let Some(scene) = Scene::set() else { return };
    let (ringdnsd, client) = scene.start("");
    for zone in ["signed", "nsec3", ""] {
        for number in 0..200 {
            client.ask(&Query::a(&made_up(number, zone)).dnssec(true, false));
        }
    }
    for name in ["www.signed", "www.nsec3", "a.wild.signed", "a.wild.nsec3"] {
        client.ask(&Query::of(name, TXT).dnssec(true, false));
    }
    let anchor = for_delv();
    let questions = ["signed", "nsec3", ""].map(|zone| (made_up(1_000, zone), "A", "ncache nxdomain"));
    let no_data =
        [("www.signed", "AAAA"), ("www.nsec3", "MX"), ("b.wild.signed", "AAAA"), ("b.wild.nsec3", "AAAA")];
    let no_data = no_data.map(|(name, rtype)| (name.to_owned(), rtype, "ncache nxrrset"));
    for (name, rtype, said) in questions.into_iter().chain(no_data) {
        let before = ringdnsd.stat("/resolver/counters/synthesised");
        let answer = delv(&scene, anchor.path(), DNS_V4, &name, rtype);
        assert!(
            answer.contains(said) && answer.contains("; negative response, fully validated"),
            "{name}: {answer}"
        );
        let after = ringdnsd.stat("/resolver/counters/synthesised");
        assert!(after > before, "{name} was not made: {answer}");
    }
    let reply = client.ask(&Query::of(&made_up(2_000, "signed"), A).dnssec(true, false));
    assert_eq!(reply.extended_errors(), [SYNTHESISED]);
}
