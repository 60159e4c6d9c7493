//! Tests of ringctl as an operator uses it on a running ringdnsd.

use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, Settings, Upstream, ask_over_tcp};
use serde_json::Value;

struct Scene {
    client: Client,
    ringdnsd: Ringdnsd,
    upstream: Upstream,
    lab: Lab,
}

impl Scene {
    fn set() -> Option<Self> {
        let lab = Lab::up()?;
        let upstream = Upstream::answering(lab.server());
        let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
        Some(Self { client: Client::of(lab.client(), DNS_V4), ringdnsd, upstream, lab })
    }

    fn ask(&self, name: &str) {
        assert_eq!(self.client.ask(&Query::a(name)).rcode(), 0);
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.ringdnsd.told(&[&["--json"], arguments].concat());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
    }

    /// Returns the error of a ringctl command that failed with exit status 1.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.ringdnsd.ctl(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn status_says_what_runs_and_how() {
    let Some(scene) = Scene::set() else { return };
    scene.ask("www.example");
    let (told, json) = (scene.ringdnsd.told(&["status"]), scene.json(&["status"]));
    let upstream = format!("udp://{}", scene.upstream.address());
    for word in ["answering queries", "AF_XDP on vs", "10.53.0.2:53", "[fd53::2]:53", &upstream, "in use"] {
        assert!(told.contains(word), "no {word} in {told}");
    }
    assert_eq!((&json["ready"], &json["pid"]), (&true.into(), &scene.ringdnsd.process().pid().into()));
    assert_eq!(json["upstreams"][0]["address"], upstream);
    assert!(json["upstreams"][0]["round_trip_us"].as_u64().unwrap() > 0, "{json:#}");
}

#[test]
fn stats_show_people_what_is_not_zero_and_machines_everything() {
    let Some(scene) = Scene::set() else { return };
    (0..3).for_each(|_| scene.ask("www.example"));
    scene.ringdnsd.settled();
    let told = scene.ringdnsd.told(&["stats"]);
    let shown = |name: &str| {
        let line = told.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned)
    };
    assert_eq!((shown("total.hit").as_deref(), shown("total.stale")), (Some("2"), None), "{told}");
    let all = scene.ringdnsd.told(&["stats", "--all"]);
    assert!(all.lines().any(|line| line.starts_with("total.stale ") && line.ends_with(" 0")), "{all}");
    let json = scene.json(&["stats"]);
    assert_eq!((&json["total"]["hit"], &json["total"]["stale"]), (&2.into(), &0.into()));
}

#[test]
fn the_cache_shows_what_it_holds() {
    let Some(scene) = Scene::set() else { return };
    scene.ask("wWw.Example");
    let told = scene.ringdnsd.told(&["cache", "get", "WWW.example", "A"]);
    for word in ["www.example. A: NOERROR, fresh", "www.example. 300 IN A 192.0.2.1"] {
        assert!(told.contains(word), "no {word} in {told}");
    }
    let json = scene.json(&["cache", "get", "www.example."]);
    assert_eq!((json.as_array().map(Vec::len), &json[0]["rtype"]), (Some(1), &"A".into()), "{json:#}");
    assert!((299..=300).contains(&json[0]["fresh_secs"].as_u64().unwrap()), "{json:#}");
    assert!(scene.refused(&["cache", "get", "www.example", "TXT"]).contains("not in the cache"));
    assert!(scene.refused(&["cache", "get", "never.asked"]).contains("not in the cache"));
    assert!(!scene.refused(&["cache", "get", "www.example", "NOTYPE"]).is_empty());
}

#[test]
fn what_is_purged_is_asked_for_again() {
    let Some(scene) = Scene::set() else { return };
    let names = ["www.example", "deep.www.example", "www.other", "notwww.example"];
    let ask_all = || {
        names.iter().for_each(|name| scene.ask(name));
        scene.upstream.asked()
    };
    let removed =
        |arguments: &[&str]| scene.json(&[&["cache", "purge"], arguments].concat())["removed"].clone();
    assert_eq!((ask_all(), ask_all()), (4, 4));
    assert_eq!(removed(&["www.example"]), 1);
    assert_eq!((ask_all(), ask_all()), (5, 5));
    assert_eq!(removed(&["--suffix", "www.example"]), 2);
    assert_eq!((ask_all(), ask_all()), (7, 7));
    assert_eq!(removed(&["--all"]), 4);
    assert_eq!((ask_all(), ask_all()), (11, 11));
    assert_eq!(removed(&["never.asked"]), 0);
    // A purged answer is not given over TCP either.
    removed(&["--all"]);
    assert_eq!(ask_over_tcp(scene.lab.client(), DNS_V4, &[Query::a("www.example")])[0].rcode(), 0);
    assert_eq!(scene.upstream.asked(), 12);
    assert_eq!(scene.ringdnsd.ctl(&["cache", "purge"]).status.code(), Some(2), "a purge needs an argument");
}

/// Checks that a purge by name or suffix leaves the workers' caches as they are, but for these names.
#[test]
fn a_purge_of_names_costs_other_names_nothing() {
    let Some(scene) = Scene::set() else { return };
    let names: Vec<String> = (0..500).map(|nth| format!("n{nth}.zone{}.example", nth % 10)).collect();
    let ask_all = || {
        let before = scene.ringdnsd.settled()["total"]["punted"].as_u64().unwrap();
        names.iter().for_each(|name| scene.ask(name));
        scene.ringdnsd.settled()["total"]["punted"].as_u64().unwrap() - before
    };
    assert_eq!((ask_all(), ask_all()), (500, 0));
    for (purge, punts) in [
        (&["never.asked.example"][..], 0),
        (&["n7.zone7.example"], 1),
        (&["--suffix", "never.example"], 0),
        (&["--suffix", "zone3.example"], 50),
    ] {
        scene.ringdnsd.told(&[&["cache", "purge"], purge].concat());
        assert_eq!((ask_all(), ask_all()), (punts, 0), "{purge:?}");
    }
}

#[test]
fn service_times_are_exported_for_plotters() {
    let Some(scene) = Scene::set() else { return };
    (0..5).for_each(|_| scene.ask("www.example"));
    scene.ringdnsd.settled();

    let text = scene.ringdnsd.told(&["histogram", "export", "--outcome", "hit"]);
    // Value, percentile and count rise from row to row; there is a legend above and a summary
    // below.
    let rows: Vec<Vec<f64>> = text
        .lines()
        .skip_while(|line| line.is_empty() || line.contains("Value"))
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
        .collect();
    assert!(rows.windows(2).all(|pair| (0..3).all(|column| pair[0][column] <= pair[1][column])), "{text}");
    let last = rows.last().unwrap();
    assert_eq!((last[1], last[2]), (1.0, 4.0), "{text}");
    assert!(last[0] > 0.0 && last[0] < 1e6, "microseconds: {text}");
    let everything = scene.ringdnsd.told(&["histogram", "export"]);
    assert_eq!(everything.matches("Total count").count(), 3, "{everything}");

    // Interval log: header lines, then tag, start, length, maximum and the compressed histogram.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("service.hlog");
    scene.ringdnsd.told(&["histogram", "export", "--format", "log", "--output", file.to_str().unwrap()]);
    let log = std::fs::read_to_string(&file).unwrap();
    let mut tags = Vec::new();
    for line in log.lines().filter(|line| !line.starts_with('#') && !line.starts_with('"')) {
        let fields: Vec<&str> = line.split(',').collect();
        let [tag, start, length, maximum, histogram] = fields[..] else { panic!("{line}") };
        tags.push(tag);
        assert!([start, length, maximum].iter().all(|number| number.parse::<f64>().is_ok()), "{line}");
        // The cookie of a compressed V2 histogram, in base64.
        assert!(histogram.starts_with("HISTFAAAA"), "{line}");
    }
    assert_eq!(tags, ["Tag=hit", "Tag=stale", "Tag=miss"], "{log}");
    assert!(scene.refused(&["histogram", "export", "--outcome", "other"]).contains("hit, stale or miss"));
}

/// Tables and help texts fit a terminal of 80 columns, and break between words.
#[test]
fn tables_and_help_fit_80_columns() {
    let Some(lab) = Lab::up() else { return };
    let long = "https://a-rather-long-name.of-a-resolver.example.net:8443/dns-query";
    let tables = format!(
        "[[upstream]]\naddress = {long:?}\nbootstrap = [\"192.0.2.1\"]\n\
         zones = [\"corp.example\", \"very-long-zone.lab.example\", \"10.in-addr.arpa\"]\n\
         [redis]\nurl = \"redis://127.0.0.1:1\"\n"
    );
    let upstream = Upstream::answering(lab.server());
    let settings = Settings { tables, ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
    let fits = |text: &str| {
        let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    };
    let tables = [&["upstreams"][..], &["sweeps"]].map(|arguments| ringdnsd.told(arguments));
    tables.iter().for_each(|table| fits(table));
    for head in ["ADDRESS", "PROTOCOL", "ZONES", "STATE", "QUERIES", "ERRORS", "P50", "P99"] {
        assert!(tables[0].contains(head), "no {head} in {}", tables[0]);
    }
    for head in ["BEGAN", "SETTLED", "TOOK", "ORPHANS", "CUT-SHORT"] {
        assert!(tables[1].contains(head), "no {head} in {}", tables[1]);
    }
    for command in [
        &[][..],
        &["upstreams"],
        &["stats"],
        &["sweeps"],
        &["cache"],
        &["cache", "get"],
        &["cache", "list"],
        &["cache", "dump"],
        &["cache", "load"],
        &["cache", "purge"],
        &["explain"],
        &["top"],
        &["log"],
        &["doctor"],
        &["report"],
        &["history"],
        &["capture"],
        &["histogram", "export"],
        &["histogram", "merge"],
        &["histogram", "plot"],
        &["profile", "heap"],
        &["profile", "cpu"],
        &["reload"],
        &["audit"],
        &["token", "new"],
        &["tap"],
    ] {
        fits(&ringdnsd.told(&[command, &["--help"]].concat()));
    }
    let help = ringdnsd.told(&["sweeps", "--help"]);
    assert!(help.contains("but may still\nbe served (STALE)"), "not wrapped between words: {help}");
}

#[test]
fn without_a_ringdnsd_it_says_where_it_looked() {
    let Some(mut scene) = Scene::set() else { return };
    scene.ringdnsd.terminate();
    let said = scene.refused(&["status"]);
    let socket = scene.ringdnsd.socket();
    assert!(said.contains(&format!("no ringdnsd at {}", socket.display())), "{said}");
}
