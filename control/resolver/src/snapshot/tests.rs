//! Snapshots written by one resolver and read by another, whose clocks are set by the test.

use super::{
    file::{ENTRY, HEAD, SnapshotWriter, TRAILER},
    *,
};
use crate::host::{HostTier, Purge, StoredKey};
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    clock::{Clock, Nanos},
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
        rcode,
    },
};
use std::{cell::Cell, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

thread_local! {
    /// The Unix time, too.
    static NOW: Cell<Nanos> = const { Cell::new(0) };
}

fn at(secs: u64) {
    NOW.set(secs * 1_000_000_000);
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

/// Returns a response with an address of `name`, and the record `more` if it is not empty.
fn message(name: &str, ttl: u32, more: &[u8]) -> Vec<u8> {
    let mut message = names::query_message(&names::name(name).unwrap(), [1, 1], 0, 0x8180, None);
    message[7] = if more.is_empty() { 1 } else { 2 };
    message.extend([0xc0, 12, 0, 1, 0, 1]);
    message.extend(ttl.to_be_bytes());
    message.extend([0, 4, 192, 0, 2, 1]);
    message.extend(more);
    message
}

fn answer(name: &str, ttl: u32, more: &[u8]) -> Arc<Answer> {
    let rules = TtlRules { min: 0, max: 86_400, negative_max: 3600, stale: 1000, ahead: 10 };
    let now = (NOW.get() / 1_000_000_000) as Secs;
    Arc::new(Answer::from_response(&message(name, ttl, more), &key(name), &rules, now, false).unwrap())
}

/// Process whose snapshot is the file of its folder.
struct Process {
    snapshot: Arc<Snapshot>,
    resolver: Arc<Resolver>,
}

impl Process {
    fn start(folder: &TempDir, more: &str) -> Self {
        Self::start_at(&folder.path().join("cache.snapshot"), more)
    }

    fn start_at(file: &Path, more: &str) -> Self {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
             [cache]\nsnapshot_file = {file:?}\nmin_ttl = \"1s\"\n{more}"
        );
        let config = Config::parse(&text, Path::new("")).unwrap();
        let host = Arc::new(HostTier::new(1 << 24, Arc::default()));
        let clock = Clock::simulated(|| NOW.get());
        let resolver = Resolver::new(host, &config, clock, crate::FlightLimits::default(), None);
        let backroom = Backroom::open("test", Vec::new()).unwrap();
        let snapshot = Snapshot::new(config.snapshot.unwrap(), resolver.clone(), backroom);
        Process { snapshot, resolver }
    }

    fn host(&self) -> &HostTier {
        self.resolver.host()
    }

    /// Keeps an answer that was asked for so often.
    fn put(&self, name: &str, ttl: u32, demand: u16) {
        self.put_answer(name, answer(name, ttl, &[]), demand);
    }

    fn put_answer(&self, name: &str, answer: Arc<Answer>, demand: u16) {
        let now = answer.received;
        assert!(self.host().insert(&key(name), answer, self.host().generation()));
        assert!(self.host().note(key(name).asked(), demand, now));
    }

    fn write(&self) -> io::Result<bool> {
        self.snapshot.replace()
    }

    /// Reads the file. False if there is none that can be used.
    fn read(&self) -> bool {
        let Some(mut reader) = self.snapshot.open() else { return false };
        let began = self.resolver.clock().secs();
        let entries = reader.entries;
        while self.snapshot.take(&mut reader, began) {}
        let counters = &self.snapshot.counters;
        let ends = [&counters.loaded, &counters.too_old, &counters.known, &counters.unfit, &counters.purged];
        assert_eq!(ends.map(|counter| counter.get()).iter().sum::<u64>(), entries);
        true
    }

    fn loaded(&self) -> u64 {
        self.snapshot.counters.loaded.get()
    }

    fn held(&self, name: &str) -> Option<Arc<Answer>> {
        self.host().peek(&key(name)).map(|entry| entry.answer.clone())
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("cache.snapshot")
}

#[test]
fn answers_outlive_a_restart_and_grow_older_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    first.put("www.example.net", 300, 40);
    first.put("expired.example.net", 50, 40);
    first.put_answer(
        "dead.example.net",
        Arc::new(Answer { stale: 10, ..(*answer("dead.example.net", 50, &[])).clone() }),
        9,
    );
    first.put_answer("failed.example.net", Arc::new(Answer::error(rcode::SERVFAIL, None, 1_000_000, 300)), 9);
    first.put("local.invalid", 300, 9);
    at(1_000_020);
    assert!(first.write().unwrap());
    assert_eq!(fs::metadata(file(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    // It is a hundred seconds until the next one is there.
    at(1_000_120);
    let second = Process::start(&folder, "");
    assert!(second.read());
    assert_eq!((second.snapshot.counters.too_old.get(), second.loaded(), second.host().len()), (1, 2, 2));
    let held = second.held("www.example.net").unwrap();
    assert_eq!((held.received, held.ttl, held.expires()), (1_000_120, 180, 1_000_300));
    assert_eq!(held.wire[6..10], 180u32.to_be_bytes(), "its records say so, too");
    let stale = second.held("expired.example.net").unwrap();
    assert!(stale.expires() == 1_000_120 && stale.dead() == 1_001_050, "{stale:?}");
    let demand = |name| second.host().peek(&key(name)).unwrap().demand.get(1_000_120);
    assert_eq!(demand("www.example.net"), 40);
    // Another hour, and nothing of it can be used.
    at(1_004_000);
    let third = Process::start(&folder, "");
    assert!(third.read());
    assert_eq!((third.host().len(), third.snapshot.counters.too_old.get()), (0, 3));
}

#[test]
fn a_file_from_the_future_or_of_another_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    first.put("www.example.net", 300, 1);
    first.write().unwrap();
    at(999_999);
    let back = Process::start(&folder, "");
    assert!(!back.read());
    at(1_000_001);
    let other = Process::start(&folder, "[[upstream]]\naddress = \"192.0.2.2\"\nzones = [\"example.net\"]");
    assert!(!other.read());
    for refused in [back, other] {
        assert_eq!((refused.host().len(), refused.snapshot.counters.refused.get()), (0, 1));
    }
    assert!(Process::start(&folder, "").read());
}

#[test]
fn no_byte_can_be_changed_and_none_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    first.put("www.example.net", 300, 1);
    first.write().unwrap();
    let bytes = fs::read(file(&folder)).unwrap();
    let open =
        |bytes: &[u8]| SnapshotReader::open(bytes.to_vec(), 1_000_000, first.resolver.fingerprint()).err();
    assert_eq!(open(&bytes), None);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(open(&changed).is_some(), "byte {at}");
        assert!(open(&bytes[..at]).is_some(), "cut at {at}");
    }
    let damaged = |bytes: &[u8]| match open(bytes) {
        Some(SnapshotRefused::Damaged { at, .. }) => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(damaged(&[&bytes[..], &[0]].concat()), bytes.len() - TRAILER);
    assert_eq!(damaged(&bytes[..40]), 40, "it is cut");
    assert_eq!(damaged(&bytes[..bytes.len() - 1]), HEAD, "the entry is longer than the rest");
    // A letter of the name: only the checksum tells.
    let mut changed = bytes.clone();
    changed[HEAD + ENTRY + 14] ^= 1;
    assert_eq!(damaged(&changed), bytes.len() - 8);
    assert_eq!(open(b"PNG"), Some(SnapshotRefused::Foreign));

    fs::write(file(&folder), &bytes[..bytes.len() - 1]).unwrap();
    let second = Process::start(&folder, "");
    assert!(!second.read());
    assert_eq!((second.host().len(), second.snapshot.counters.refused.get()), (0, 1), "all of it or nothing");
}

#[test]
fn what_was_purged_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let purge = Purge::Name(names::name("www.example.net").unwrap());
    let first = Process::start(&folder, "");
    first.put("www.example.net", 300, 1);
    first.write().unwrap();
    // The file is gone before the purge is said to be done: a crash after that begins with nothing.
    first.host().purge(&purge);
    first.snapshot.forget().unwrap();
    assert!(!file(&folder).exists() && first.snapshot.counters.removed.get() == 1);
    first.snapshot.forget().unwrap();

    // One that comes while the file is being written, after the walk.
    first.put("www.example.net", 300, 1);
    let generation = first.host().generation();
    let beside = File::create(first.snapshot.beside()).unwrap();
    let (_, entries) = first.snapshot.write_to(beside).unwrap();
    first.host().purge(&purge);
    assert!(entries == 1 && !first.snapshot.put_in_place(generation, entries).unwrap());
    assert!(!file(&folder).exists());

    // One that comes while the file is being read.
    let second = Process::start(&folder, "");
    (0..2 * CHUNK).for_each(|i| first.put(&format!("{i}.example.net"), 300, 1));
    assert!(first.write().unwrap());
    let mut reader = second.snapshot.open().unwrap();
    assert!(second.snapshot.take(&mut reader, 1_000_000));
    second.host().purge(&Purge::All);
    while second.snapshot.take(&mut reader, 1_000_000) {}
    let counters = &second.snapshot.counters;
    assert_eq!((counters.loaded.get(), counters.purged.get()), (CHUNK as u64, CHUNK as u64));
    assert_eq!(second.host().len(), 0);
}

/// A purge of one name must not cost the others their place on disk until the next interval.
#[tokio::test]
async fn what_was_not_purged_is_on_disk_again_soon() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "snapshot_every = \"1h\"");
    first.put("www.example.net", 300, 1);
    let running = tokio::spawn(first.snapshot.clone().run());
    while !first.snapshot.loaded.load(Ordering::Acquire) {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(first.write().unwrap());
    first.host().purge(&Purge::Name(names::name("never.asked").unwrap()));
    first.snapshot.forget().unwrap();
    assert!(!file(&folder).exists());
    let written = async {
        while first.snapshot.counters.written.get() == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), written).await.expect("written long before an hour");
    running.abort();
    assert!(file(&folder).exists() && first.snapshot.entries() == 1);
}

#[test]
fn a_file_has_a_bound_and_what_is_asked_for_most() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "snapshot_bytes = \"64KiB\"");
    for i in 0..3000u16 {
        first.put(&format!("host-{i:04}.example.net"), 300, i / 10);
    }
    assert!(first.write().unwrap());
    let size = fs::metadata(file(&folder)).unwrap().len();
    assert!((60 << 10..=64 << 10).contains(&size), "{size}");
    let second = Process::start(&folder, "");
    assert!(second.read());
    let loaded = second.loaded();
    assert!((500..2000).contains(&loaded));
    let all = second.host().iter().map(|(key, _)| demand_of(&key)).collect::<Vec<_>>();
    let least = all.iter().min().unwrap();
    let more = (0..3000u16).filter(|i| i / 10 > *least).count() as u64;
    assert!((loaded - 10..=loaded).contains(&more), "{more} are asked for more than the least of {loaded}");
}

fn demand_of(key: &StoredKey) -> u16 {
    let name = names::display(key.asked().name());
    name[5..9].parse::<u16>().unwrap() / 10
}

/// The file has a sound checksum, and says what it should not.
#[test]
fn what_is_in_it_is_judged_as_an_upstreams_answer() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    // An address of a name that nobody asked for.
    let foreign = b"\x04evil\0\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x42";
    let mut writer = SnapshotWriter::new(Vec::new(), 1_000_000, first.resolver.fingerprint()).unwrap();
    let bad = answer("www.example.net", 300, foreign);
    writer.entry(key("www.example.net").asked(), &bad, 1, 1_000_000).unwrap();
    // The wrong question.
    let good = answer("www.example.net", 300, &[]);
    let mut broken = (*good).clone();
    broken.counts = [3, 0, 0];
    writer.entry(key("broken.example.net").asked(), &broken, 1, 1_000_000).unwrap();
    let (bytes, _) = writer.finish().unwrap();
    fs::write(file(&folder), bytes).unwrap();
    assert!(first.read());
    assert_eq!((first.loaded(), first.snapshot.counters.unfit.get()), (1, 1));
    let held = first.held("www.example.net").unwrap();
    assert_eq!((held.counts, held.wire.len()), ([1, 0, 0], 16), "{held:?}");
}

#[test]
fn what_is_known_already_stays() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    first.put("www.example.net", 300, 1);
    first.write().unwrap();
    at(1_000_100);
    let second = Process::start(&folder, "");
    second.put("www.example.net", 300, 1);
    assert!(second.read());
    assert_eq!((second.loaded(), second.snapshot.counters.known.get()), (0, 1));
    assert_eq!(second.held("www.example.net").unwrap().expires(), 1_000_400);
}

#[test]
fn what_will_be_validated_anew_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let validating = "[dnssec]\nvalidate = true\ninsecure = [\"insecure.example.net\"]";
    let first = Process::start(&folder, validating);
    first.put("www.example.net", 300, 1);
    first.put("www.insecure.example.net", 300, 1);
    first.write().unwrap();
    let second = Process::start(&folder, validating);
    assert!(second.read());
    assert!(second.held("www.example.net").is_none() && second.held("www.insecure.example.net").is_some());
}

/// A task writes the snapshot, but not before it was read: a process that is stopped at once must
/// not leave a smaller snapshot than it found.
#[tokio::test]
async fn nothing_is_written_before_the_old_one_was_read() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let process = Process::start(&folder, "");
    process.snapshot.write().await.unwrap();
    assert!(!file(&folder).exists());
    process.snapshot.loaded.store(true, Ordering::Release);
    process.snapshot.write().await.unwrap();
    assert!(file(&folder).exists() && process.snapshot.counters.written.get() == 1);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let process = Process::start_at(&folder.path().join("none/cache.snapshot"), "");
    process.snapshot.loaded.store(true, Ordering::Release);
    process.snapshot.write().await.unwrap();
    assert_eq!(process.snapshot.counters.write_failed.get(), 1);
    assert!(process.snapshot.forget().is_ok(), "there is nothing to be forgotten");
}

/// Loads a dump of one process into another.
fn load(process: &Process, bytes: Vec<u8>) -> Result<LoadOutcomes, SnapshotRefused> {
    let mut load = Load::begin(process.resolver.clone(), bytes)?;
    while load.advance() {}
    Ok(load.outcomes)
}

#[test]
fn a_dump_of_one_process_is_loaded_by_another_and_is_no_younger_there() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let first = Process::start(&folder, "");
    (0..1000).for_each(|i| first.put(&format!("{i}.example.net"), 300, 3));
    first.put("short.example.net", 20, 3);
    let short = Answer { stale: 0, ..(*answer("gone.example.net", 20, &[])).clone() };
    first.put_answer("gone.example.net", Arc::new(short), 3);
    let (bytes, entries) = super::write(&first.resolver, 1 << 20, Vec::new()).unwrap();
    assert_eq!(entries, 1002);

    at(1_000_100);
    let second = Process::start(&folder, "");
    second.put("7.example.net", 300, 1);
    let outcomes = load(&second, bytes.clone()).unwrap();
    let expected = LoadOutcomes { loaded: 1000, too_old: 1, known: 1, ..LoadOutcomes::default() };
    assert_eq!(outcomes, expected);
    assert_eq!(second.held("1.example.net").unwrap().expires(), 1_000_300);
    assert_eq!(second.held("7.example.net").unwrap().expires(), 1_000_400, "what is there stays");
    assert!(second.held("short.example.net").unwrap().expires() <= 1_000_100, "stale");

    // A smaller one has what fits; one of another configuration, and a damaged one, are refused.
    let (small, few) = super::write(&first.resolver, 10_000, Vec::new()).unwrap();
    assert!(small.len() <= 10_000 && (50..1000).contains(&few), "{few}");
    let other = Process::start(&folder, "[[upstream]]\naddress = \"192.0.2.2\"\nzones = [\"example.net\"]");
    assert_eq!(load(&other, bytes.clone()), Err(SnapshotRefused::Configuration));
    let refused = load(&second, bytes[..5000].to_vec()).unwrap_err().to_string();
    assert!(refused.starts_with("it is damaged at byte 49") && refused.contains("longer than"), "{refused}");
}

#[test]
fn the_place_of_an_unfit_entry_is_told() {
    let folder = tempfile::tempdir().unwrap();
    at(1_000_000);
    let process = Process::start(&folder, "");
    let mut writer = SnapshotWriter::new(Vec::new(), 1_000_000, process.resolver.fingerprint()).unwrap();
    let good = answer("www.example.net", 300, &[]);
    writer.entry(key("www.example.net").asked(), &good, 1, 1_000_000).unwrap();
    let mut broken = (*good).clone();
    broken.counts = [3, 0, 0];
    writer.entry(key("broken.example.net").asked(), &broken, 1, 1_000_000).unwrap();
    let (bytes, _) = writer.finish().unwrap();
    let outcomes = load(&process, bytes).unwrap();
    assert_eq!((outcomes.loaded, outcomes.unfit), (1, 1));
    let first = file::size(key("www.example.net").asked(), &good) as usize;
    assert_eq!(outcomes.first_unfit, Some(HEAD + first));
}
