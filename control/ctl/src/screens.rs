//! Screens of 80 columns, made of recorded answers and of answers with the longest names: no line is longer,
//! and nothing that is shown changes by accident.

use crate::{
    cache::{
        list::{head, show_row},
        transfer::show_loaded,
    },
    explain,
    monitor::Check,
    overrides,
    print::{
        screen, show_bans, show_counters, show_entry, show_floods, show_lists, show_names, show_policy_test,
        show_status, show_sweeps, show_upstreams,
    },
    table::{WIDTH, folded},
    testing,
    tokens::show_audit,
    upkeep::show_purged,
};
use ringdns_api::{DaemonStatus, EntryView};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{self, Write};

const STATUS: &str = include_str!("top/testdata/status2.json");
const STATS: &str = include_str!("top/testdata/stats2.json");

/// Returns a name of nearly the greatest length.
fn long(last: &str) -> String {
    format!("{}.{last}", ["abcdefghij".repeat(6), "0123456789".repeat(6), "klmnopqrst".repeat(6)].join("."))
}

/// Compares the screen of an answer with a recorded one.
#[track_caller]
fn assert_screen<T: DeserializeOwned>(
    name: &str,
    body: &Value,
    show: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) {
    assert_text(name, &folded(&screen(body.to_string().as_bytes(), show).unwrap(), WIDTH));
}

#[track_caller]
fn assert_text(name: &str, shown: &str) {
    let wide: Vec<_> = shown.lines().filter(|line| line.chars().count() > WIDTH).collect();
    assert!(wide.is_empty(), "{name}: {wide:#?}");
    testing::assert_screen(shown, &format!("src/testdata/{name}"));
}

/// Returns a status with a problem, a long address and managed trust anchors.
fn status() -> Value {
    let mut status: Value = serde_json::from_str(STATUS).unwrap();
    let address = format!("https://{}:8443/dns-query", long("example.net"));
    status["upstreams"][0]["address"] = json!(address);
    status["upstreams"][0]["zones"] = json!(["corp.example", long("lab.example"), "10.in-addr.arpa"]);
    status["upstreams"][1]["back_off_ms"] = json!(1_500);
    status["upstreams"][1]["put_back"] = json!(true);
    status["listen"] =
        json!(["192.0.2.53:53", "[2001:db8:1234:5678:9abc:def0:1234:5678]:53", "127.0.0.1:53"]);
    status["problems"] = json!([{
        "kind": "upstream_silent", "severity": "warning", "subject": address,
        "text": format!("{address} does not answer"), "since": 1_795_999_562
    }]);
    status["trust_points"] = json!([{
        "zone": ".", "refreshed": 1_795_999_000,
        "keys": [{ "tag": 20326, "state": "valid", "since": 1_795_000_000, "until": null },
                 { "tag": 38696, "state": "pending", "since": 1_795_000_000, "until": 1_797_592_000 }]
    }]);
    status
}

fn entry(name: &str) -> Value {
    json!({
        "name": name, "rtype": "A", "dnssec_ok": true, "checking_disabled": true, "rcode": "NOERROR",
        "state": "fresh", "age_secs": 12, "fresh_secs": 288, "left_secs": 86_688, "bytes": 345, "demand": 7,
        "records": [
            "www.example. 300 IN CNAME a.example.", format!("{name} 300 IN A 192.0.2.1"),
            format!("www.example. 300 IN TXT \"{}\"", "v=spf1 ip4:192.0.2.0/24 include:example.net ".repeat(5)),
        ]
    })
}

#[test]
fn status_upstreams_and_counters() {
    assert_screen("status.txt", &status(), show_status);
    assert_screen("upstreams.txt", &status(), |status: DaemonStatus, out| {
        write!(out, "{}", show_upstreams(&status.upstreams, WIDTH))
    });
    let mut stats: Value = serde_json::from_str(STATS).unwrap();
    stats["lists"] =
        json!({ long("list"): { "rules": 1, "source": format!("https://{}/ads", long("example")) } });
    assert_screen("stats.txt", &stats, |stats: Value, out| show_counters(&stats, "", false, out));
}

#[test]
fn sweeps() {
    let report = json!({
        "at": 1_795_999_562, "walk_us": 123_456, "took_ms": 98_765, "seen": 1_234_567, "stale": 123_456,
        "near": 98_765, "renewed": 90_000, "unchanged": 1_234, "failed": 567,
        "skipped": { "unasked": 12_345, "put_off": 6, "over_budget": 7, "settled": 8 }, "removed": { "dead": 9_876 }
    });
    let redis = json!({
        "at": 1_795_999_562, "took_ms": 98_765, "kept": 1_000_000, "seen": 12_345, "ended": 678, "least": 9,
        "idle": 10, "orphans": 11, "cut_short": 0
    });
    let told = |report: &Value| json!({ "sweeps": 1_440, "sum": report, "last": [report, report] });
    let body = json!({ "host": told(&report), "fleet": told(&redis) });
    assert_screen("sweeps.txt", &body, |sweeps, out| show_sweeps(sweeps, WIDTH, out));
}

fn verdict(name: &str) -> Value {
    json!({
        "name": name, "rtype": "A", "group": "kids", "action": "block", "list": long("list"),
        "answer": "nxdomain", "dry_run": ["trial"],
        "rule": { "file": format!("/etc/ringdns/{}.txt", "directory/".repeat(9)), "line": 2, "text": long("||ads.example^") }
    })
}

#[test]
fn explanations() {
    let name = long("www.example.");
    let mut body = json!({
        "verdict": format!("list {:?} answers: nxdomain", long("list")), "client": "2001:db8:1234:5678:9abc:def0:1234:5678",
        "access": "allowed", "banned": "2001:db8:1234:5678::/64", "policy": verdict(&name),
        "workers": [
            { "worker": 0, "state": "fresh", "age_secs": 12, "fresh_secs": 48, "rcode": "NXDOMAIN", "by_list": true },
            { "worker": 1, "state": "absent", "age_secs": 0, "fresh_secs": 0, "rcode": null, "by_list": false },
            { "worker": 10, "state": "purged", "age_secs": 0, "fresh_secs": 0, "rcode": null, "by_list": false }
        ],
        "host": [entry(&name)],
        "misses": [{
            "dnssec_ok": true, "checking_disabled": false, "at": 1_795_999_562, "cause": "purged",
            "since": 1_795_999_000, "by": "token:ops@lab",
            "text": "the answer was purged at 2026-11-30T00:36:40Z by token:ops@lab (suffix example.)"
        }],
        "special": false, "zone": long("corp.example."),
        "upstreams": [{ "address": format!("https://{}", long("example.net")), "back_off_ms": 1_500, "round_trip_us": 12_345 }],
        "capped": long("corp.example.")
    });
    assert_screen("explain.txt", &body, explain::show);
    for list in ["host", "misses", "workers"] {
        body[list] = json!([]);
    }
    assert_screen("explain-nothing.txt", &body, explain::show);
}

#[test]
fn policy() {
    assert_screen("policy-test.txt", &verdict(&long("www.example.")), show_policy_test);
    let lists = json!([
        { "name": "ads", "source": "/etc/ringdns/ads.txt", "rules": 123_456, "state": "fresh",
          "last_success": 1_795_999_562, "last_error": null },
        { "name": long("list"), "source": format!("https://{}/ads.txt", long("example.net")), "rules": 1,
          "state": "degraded", "last_success": null, "last_error": format!("{} is not found", long("example.net")) }
    ]);
    assert_screen("policy-lists.txt", &lists, show_lists);
    let bans = json!([{ "prefix": "192.0.2.0/24", "left_secs": 60 },
        { "prefix": "2001:db8:1234:5678:9abc:def0:1234:5678/128", "left_secs": 86_400 }]);
    assert_screen("policy-bans.txt", &bans, show_bans);
    let floods = json!([{ "zone": "example.", "per_second": 10, "refused": 12_345_678, "lasts_secs": 600 },
        { "zone": long("example."), "per_second": 1_000, "refused": 1, "lasts_secs": 1 }]);
    assert_screen("policy-floods.txt", &floods, show_floods);
    let names =
        json!([{ "name": "www.example.", "left_secs": 10 }, { "name": long("example."), "left_secs": 9 }]);
    assert_screen("policy-names.txt", &names, show_names);
    let overrides = json!({
        "override": [{ "name": "ads.example.", "action": "block" },
            { "name": long("example."), "action": "allow", "group": "kids", "until": "2026-11-30T00:36:40Z" }],
        "pause": [{ "client": "2001:db8:1234:5678:9abc:def0:1234:5678", "until": "2026-11-30T00:36:40Z" }]
    });
    assert_screen("policy-overrides.txt", &overrides, overrides::show_all);
}

#[test]
fn cache() {
    let entries = json!([entry("www.example."), entry(&long("www.example."))]);
    assert_screen("cache-get.txt", &entries, |entries: Vec<EntryView>, out| {
        entries.iter().try_for_each(|entry| show_entry(entry, out))
    });
    let mut all: Vec<EntryView> = serde_json::from_value(entries).unwrap();
    let stale = EntryView { state: "stale".into(), fresh_secs: 0, records: Vec::new(), ..all[0].clone() };
    let other = EntryView { rtype: "TYPE65280".into(), bytes: 65_000, demand: u16::MAX, ..stale.clone() };
    all.extend([stale, other]);
    let mut shown = format!("{}\n", head(WIDTH)).into_bytes();
    all.iter().try_for_each(|entry| show_row(entry, Some(WIDTH), &mut shown)).unwrap();
    assert_text("cache-list.txt", &String::from_utf8(shown).unwrap());
    let loaded = json!({
        "complete": true, "entries": 1_000_000, "loaded": 900_000, "too_old": 90_000, "known": 9_000, "unfit": 900,
        "purged": 100, "first_unfit": 123_456_789
    });
    assert_screen("cache-load.txt", &loaded, |loaded, out| show_loaded(&loaded, out));
    assert_screen("cache-purge.txt", &json!({ "removed": 12_345, "told": false }), show_purged);
}

#[test]
fn audit_and_check() {
    let records = json!([
        { "time": "2026-11-30T00:36:40.123456789Z", "who": "user:root", "peer": null, "what": "/v1/reload",
          "parameters": "", "status": 200, "error": null },
        { "time": "2026-11-30T00:36:41.123456789Z", "who": "token:ops@lab",
          "peer": "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535", "what": "/v1/cache/purge",
          "parameters": format!("suffix={}", long("example")), "status": 400, "error": long("is no name") }
    ]);
    assert_screen("audit.txt", &records, show_audit);
    let check = Check { ignore: Vec::new() };
    assert_screen("check.txt", &status(), |status, out| writeln!(out, "{}", check.text(&status, false).1));
}
