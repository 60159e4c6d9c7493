//! Tests of `ringctl cache list`, `dump` and `load`: what is dumped is answered after a restart without a
//! question to an upstream, and a long walk holds up no client.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address};
use serde_json::Value;
use siphasher::sip::SipHasher13;
use std::{
    collections::BTreeSet,
    fs,
    hash::Hasher,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

/// Bytes of a dump before the entries, before the message of one, and behind them.
const HEAD: usize = 32;
const ENTRY: usize = 28;
const TRAILER: usize = 16;

struct Scene {
    host: Host,
    upstream: Upstream,
    address: SocketAddr,
    settings: Settings,
    ringdnsd: Ringdnsd,
}

impl Scene {
    fn set(host_bytes: &str) -> Self {
        let host = Host::local();
        let upstream = Upstream::with_ttl(3_000);
        let address = free_address(&host);
        let mut settings = Settings::loopback(address, upstream.address());
        settings.tables = format!("[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = {host_bytes:?}");
        let ringdnsd = Ringdnsd::start(&host, &settings);
        Scene { host, upstream, address, settings, ringdnsd }
    }

    /// Starts ringdnsd again, with nothing in its cache.
    fn restart(&mut self) {
        self.ringdnsd.terminate();
        self.ringdnsd = Ringdnsd::start(&self.host, &self.settings);
    }

    fn client(&self) -> Client {
        Client::of(&self.host, self.address)
    }

    fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let told = self.ringdnsd.told(&[&["cache", "list", "--json"], arguments].concat());
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn load(&self, file: &Path) -> Value {
        serde_json::from_str(&self.ringdnsd.told(&["--json", "cache", "load", file.to_str().unwrap()]))
            .unwrap()
    }
}

fn name(nth: usize) -> String {
    format!("host-{nth}.zone-{}.example", nth % 10)
}

#[test]
fn ten_thousand_names_outlive_a_restart_in_a_dump() {
    let (mut scene, folder) = (Scene::set("32MiB"), tempfile::tempdir().unwrap());
    let client = scene.client();
    let ask_all = || (0..10_000).for_each(|nth| assert_eq!(client.ask(&Query::a(&name(nth))).rcode(), 0));
    ask_all();
    (0..5).for_each(|_| assert_eq!(client.ask(&Query::a("popular.example")).rcode(), 0));
    let names: BTreeSet<_> = scene.list(&[]).iter().map(|entry| entry["name"].to_string()).collect();
    assert_eq!(names.len(), 10_001);
    assert_eq!(scene.list(&["--suffix", "zone-3.example"]).len(), 1_000);
    assert_eq!(scene.list(&["--type", "AAAA"]).len(), 0);
    assert_eq!(
        (scene.list(&["--state", "fresh"]).len(), scene.list(&["--state", "stale"]).len()),
        (10_001, 0)
    );
    assert_eq!(scene.list(&["--limit", "7"]).len(), 7);
    let one = &scene.list(&["--name", "HOST-7.zone-7.example."])[0];
    assert_eq!((&one["name"], &one["rtype"]), (&"host-7.zone-7.example.".into(), &"A".into()));
    assert!(one["records"][0].as_str().unwrap().ends_with(" IN A 192.0.2.1"), "{one}");
    let first: Vec<_> =
        scene.list(&["--sort", "name", "-n", "2"]).iter().map(|it| it["name"].clone()).collect();
    assert_eq!(first, ["popular.example.", "host-0.zone-0.example."]);
    let refused = scene.ringdnsd.ctl(&["cache", "list", "--sort", "name", "-n", "10001"]);
    assert_eq!(refused.status.code(), Some(1));

    let file = folder.path().join("dump");
    let said = scene.ringdnsd.told(&["cache", "dump", file.to_str().unwrap()]);
    assert!(said.contains(": 10001 entries, "), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let asked = scene.upstream.asked();
    scene.restart();
    assert_eq!(scene.list(&[]).len(), 0);
    let loaded = scene.load(&file);
    assert_eq!((&loaded["loaded"], &loaded["entries"]), (&10_001.into(), &10_001.into()), "{loaded}");
    ask_all();
    assert_eq!(scene.upstream.asked(), asked, "an upstream was asked for what was loaded");
    // What is there is not replaced, and the way through pipes is the same.
    let again = scene.load(&file);
    assert_eq!((&again["loaded"], &again["known"]), (&0.into(), &10_001.into()), "{again}");
    let piped = scene.ringdnsd.ctl_command().args(["cache", "dump", "-"]).output().unwrap();
    assert_eq!(&piped.stdout[..8], b"rdnssnap");
}

#[test]
fn hostile_dumps_change_nothing() {
    let (scene, folder) = (Scene::set("16MiB"), tempfile::tempdir().unwrap());
    let client = scene.client();
    (0..20).for_each(|nth| assert_eq!(client.ask(&Query::a(&name(nth))).rcode(), 0));
    let file = folder.path().join("dump");
    let path = file.to_str().unwrap();
    scene.ringdnsd.told(&["cache", "dump", path]);
    let whole = fs::read(&file).unwrap();
    scene.ringdnsd.told(&["cache", "purge", "--all"]);
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (bytes, reason) in [
        (Vec::new(), "it is no snapshot"),
        (b"PNG".to_vec(), "it is no snapshot"),
        (changed(8), "it is of version 0"),
        (whole[..whole.len() / 2].to_vec(), "it is damaged at byte"),
        (whole[..whole.len() - 1].to_vec(), "it is damaged at byte"),
        (changed(HEAD + ENTRY + 14), "the checksum is not that of"),
        (signed(changed(24)), "it was written with other upstreams"),
        (signed([&whole[..16], &[0xff; 8], &whole[24..]].concat()), "s in the future"),
        (vec![0; 17 << 20], "a dump may have"),
    ] {
        fs::write(&file, bytes).unwrap();
        let refused = scene.ringdnsd.ctl(&["cache", "load", path]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!((refused.status.code(), said.contains(reason)), (Some(1), true), "{reason}: {said}");
        assert_eq!(scene.list(&[]).len(), 0, "{reason}");
    }
    // An entry with fewer records than its message says is counted, and others are taken.
    let mut bytes = whole.clone();
    bytes[HEAD + ENTRY + 7] = 3;
    fs::write(&file, signed(bytes)).unwrap();
    let loaded = scene.load(&file);
    assert_eq!((&loaded["loaded"], &loaded["unfit"]), (&19.into(), &1.into()), "{loaded}");
    assert_eq!(loaded["first_unfit"], HEAD, "{loaded}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let scene = Scene::set("16MiB");
    let client = scene.client();
    (0..3_000).for_each(|nth| assert_eq!(client.ask(&Query::a(&name(nth))).rcode(), 0));
    for arguments in [&["cache", "list"][..], &["--json", "cache", "list"], &["cache", "dump", "-"]] {
        let mut command = scene.ringdnsd.ctl_command();
        let spawned = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut ringctl = spawned.unwrap();
        drop(ringctl.stdout.take());
        let output = ringctl.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// Lists, dumps and loads many entries while a client misses. RINGDNS_DUMP_ENTRIES sets their number.
#[test]
fn long_walks_hold_up_no_client() {
    let entries = std::env::var("RINGDNS_DUMP_ENTRIES").map_or(50_000, |text| text.parse().unwrap());
    let (scene, folder) = (Scene::set("1GiB"), tempfile::tempdir().unwrap());
    let (client, file) = (scene.client(), folder.path().join("dump"));
    assert_eq!(client.ask(&Query::a("host-00000000.example")).rcode(), 0);
    scene.ringdnsd.told(&["cache", "dump", file.to_str().unwrap()]);
    fs::write(&file, multiplied(&fs::read(&file).unwrap(), entries)).unwrap();

    let mut asked = 0;
    let mut misses_during = |what: &str, arguments: &[&str]| {
        let mut command = scene.ringdnsd.ctl_command();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let work = std::thread::spawn(move || command.output().unwrap());
        let mut times = Vec::new();
        while !work.is_finished() || times.len() < 500 {
            asked += 1;
            let asked_at = Instant::now();
            assert_eq!(client.ask(&Query::a(&format!("miss-{asked}.example"))).rcode(), 0);
            times.push(asked_at.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
        let output = work.join().unwrap();
        assert!(output.status.success(), "{what}: {output:?}");
        times.sort();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        let (median, high, most) = (at(0.5), at(0.99), at(1.0));
        println!(
            "{what}: {:?}, {} misses: median {median:?}, 99 % {high:?}, most {most:?}",
            begun.elapsed(),
            times.len()
        );
        (high, String::from_utf8(output.stdout).unwrap())
    };
    let path = file.to_str().unwrap();
    let results = [
        misses_during("nothing", &["status"]),
        misses_during("load", &["--json", "cache", "load", path]),
        misses_during("list", &["cache", "list", "--suffix", "nobody.example"]),
        misses_during("list of all", &["cache", "list", "--sort", "demand"]),
        misses_during("dump", &["--json", "cache", "dump", path]),
    ];
    let loaded: Value = serde_json::from_str(&results[1].1).unwrap();
    assert_eq!((&loaded["loaded"], &loaded["known"]), (&(entries - 1).into(), &1.into()), "{loaded}");
    let dumped: Value = serde_json::from_str(&results[4].1).unwrap();
    assert!(dumped["entries"].as_u64().unwrap() >= entries as u64, "{dumped}");
    // The threads share cores with whatever else runs here: what "nothing" measures.
    let bound = Duration::from_millis(50) + 2 * results[0].0;
    assert!(results.iter().all(|(high, _)| *high < bound), "{bound:?}");
}

/// Returns a dump with the checksum that its bytes have.
fn signed(mut dump: Vec<u8>) -> Vec<u8> {
    dump.truncate(dump.len() - 8);
    let mut hasher = SipHasher13::new();
    hasher.write(&dump);
    dump.extend(hasher.finish().to_le_bytes());
    dump
}

/// Returns a dump that has the only entry of another one for many names.
fn multiplied(dump: &[u8], entries: usize) -> Vec<u8> {
    let (head, rest) = dump.split_at(HEAD);
    let entry = &rest[..rest.len() - TRAILER];
    let at = entry.windows(8).position(|bytes| bytes == b"00000000").unwrap();
    let mut all = head.to_vec();
    for nth in 0..entries {
        let begin = all.len();
        all.extend_from_slice(entry);
        all[begin + at..begin + at + 8].copy_from_slice(format!("{nth:08}").as_bytes());
    }
    all.extend((entries as u64).to_le_bytes());
    all.extend([0; 8]);
    signed(all)
}
