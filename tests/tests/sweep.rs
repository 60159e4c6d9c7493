//! Tests of sweeps and the snapshot in a running ringdnsd.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, until};
use serde_json::Value;
use tempfile::TempDir;

const SERVFAIL: u16 = 2;
/// Time to wait for a line of the log, which a thread of its own writes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts an upstream with this TTL.
fn upstream(lab: &Lab, ttl: u32) -> Upstream {
    Upstream::start(lab.server(), move |seen| vec![Say::Send(seen.query.answer(ttl))])
}

fn asked_for(upstream: &Upstream, name: &str) -> usize {
    upstream.seen().iter().filter(|seen| seen.query.is_for(name)).count()
}

/// Checks that an answer in demand never expires, even if no client asks in the last tenth of its
/// lifetime.
#[test]
fn what_is_asked_for_is_renewed_by_a_sweep() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab, 6);
    let mut settings = Settings::xdp(upstream.address());
    settings.tables += "\n[refresh]\nahead = 0\nsweep_every = \"1s\"\nsweep_window = \"3s\"";
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let ask = |name: &str, times| {
        let replies = ask_over_tcp(lab.server(), DNS_V4, &vec![Query::a(name); times]);
        assert!(replies.len() == times && replies.iter().all(|reply| reply.rcode() == 0));
    };
    // Queries that come before the answer share one miss.
    ask("wanted.example.net", 1);
    ask("wanted.example.net", 8);
    ask("unwanted.example.net", 1);
    let sweeps = until("there was a renewal", || {
        let sweeps = ringdnsd.stats()["sweeps"].clone();
        (sweeps["renewed"].as_u64()? > 0).then_some(sweeps)
    });
    assert!(sweeps["failed"] == 0 && sweeps["seen"].as_u64().unwrap() >= 2, "{sweeps:#}");
    assert_eq!(
        [1, 2],
        ["unwanted", "wanted"].map(|name| asked_for(&upstream, &format!("{name}.example.net")))
    );

    let told: Value = serde_json::from_str(&ringdnsd.told(&["--json", "sweeps", "-n", "100"])).unwrap();
    let told = &told["host"];
    let last = told["last"].as_array().unwrap();
    let sum: u64 = last.iter().map(|report| report["renewed"].as_u64().unwrap()).sum();
    assert!(sum >= 1 && told["sum"]["renewed"] == sum && told["sweeps"] == last.len(), "{told:#}");
    let table = ringdnsd.told(&["sweeps"]);
    assert!(table.starts_with("BEGAN ") && table.lines().any(|line| line.starts_with("all ")), "{table}");
    assert!(table.lines().count() >= 3, "{table}");
}

/// A directory with the snapshot file, and the settings to write it.
struct Kept {
    folder: TempDir,
    settings: Settings,
}

impl Kept {
    fn new(upstream: &Upstream, every: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::xdp(upstream.address());
        let file = folder.path().join("cache.snapshot");
        settings.tables += &format!("\nsnapshot_file = {file:?}\nsnapshot_every = {every:?}");
        Kept { folder, settings }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("cache.snapshot")
    }

    fn start(&self, lab: &Lab) -> Ringdnsd {
        Ringdnsd::start(lab.server(), &self.settings)
    }
}

fn entries(ringdnsd: &Ringdnsd, counter: &str) -> u64 {
    ringdnsd.stat(&format!("/snapshot/counters/{counter}"))
}

fn read(ringdnsd: &Ringdnsd, loaded: u64) {
    until("the snapshot has been read", || (entries(ringdnsd, "loaded") == loaded).then_some(()));
}

fn ask(lab: &Lab, name: &str) -> u16 {
    Client::of(lab.client(), DNS_V4).ask(&Query::a(name)).rcode()
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

#[test]
fn what_was_known_is_known_after_a_restart_and_after_a_crash() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab, 300);
    let kept = Kept::new(&upstream, "1s");
    let mut first = kept.start(&lab);
    assert_eq!(ask(&lab, "www.example.net"), 0);
    until("it has been written by itself", || (entries(&first, "written") > 0).then_some(()));
    assert_eq!(ask(&lab, "last.example.net"), 0);
    assert!(first.terminate().success());
    let written = size(&kept.file());
    assert!(written > 0);

    // From here on there is no upstream.
    drop(upstream);
    let mut second = kept.start(&lab);
    read(&second, 2);
    assert_eq!(["www", "last"].map(|name| ask(&lab, &format!("{name}.example.net"))), [0, 0]);
    assert_eq!(ask(&lab, "other.example.net"), SERVFAIL);
    second.kill9();

    let third = kept.start(&lab);
    read(&third, 2);
    assert_eq!(["www", "last"].map(|name| ask(&lab, &format!("{name}.example.net"))), [0, 0]);
}

#[test]
fn a_purge_holds_over_a_crash() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab, 300);
    let kept = Kept::new(&upstream, "1d");
    let mut first = kept.start(&lab);
    assert_eq!(["purged", "other"].map(|name| ask(&lab, &format!("{name}.example.net"))), [0, 0]);
    assert!(first.terminate().success());
    let mut second = kept.start(&lab);
    read(&second, 2);
    second.told(&["cache", "purge", "purged.example.net"]);
    assert!(!kept.file().exists(), "the purge must remove the file before it reports success");
    second.kill9();
    drop(upstream);
    let mut third = kept.start(&lab);
    assert_eq!(ask(&lab, "purged.example.net"), SERVFAIL);
    assert!(third.terminate().success());

    // A purged answer is not written when ringdnsd stops either.
    let upstream = self::upstream(&lab, 300);
    let kept = Kept::new(&upstream, "1d");
    let mut fourth = kept.start(&lab);
    assert_eq!(["purged", "other"].map(|name| ask(&lab, &format!("{name}.example.net"))), [0, 0]);
    fourth.told(&["cache", "purge", "purged.example.net"]);
    assert!(fourth.terminate().success());
    let fifth = kept.start(&lab);
    read(&fifth, 1);
    assert_eq!(fifth.ctl(&["cache", "get", "purged.example.net"]).status.code(), Some(1));
}

#[test]
fn a_damaged_file_is_told_and_the_cache_begins_empty() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab, 300);
    let kept = Kept::new(&upstream, "1d");
    std::fs::write(kept.file(), vec![b'x'; 100_000]).unwrap();
    let ringdnsd = kept.start(&lab);
    until("it was refused", || (entries(&ringdnsd, "refused") == 1).then_some(()));
    assert_eq!((ask(&lab, "www.example.net"), upstream.asked()), (0, 1));
    let said = ringdnsd.process().wait_for_line("it is no snapshot", PATIENCE);
    assert!(said.contains("cache.snapshot_file"), "{said}");
}
