//! Arbitrary bytes as a snapshot: a file is refused, or each of its entries has one outcome, and an
//! answer that is loaded is well-formed and lives no longer than its entry says. What is loaded can
//! be written and loaded again.
//!
//! The first byte says whether head and checksum are made to fit.
#![no_main]

mod walk;

use libfuzzer_sys::fuzz_target;
use ringdns_common::{backroom::Backroom, message::of, names};
use ringdns_config::{Config, SnapshotConfig};
use ringdns_dataplane::clock::Clock;
use ringdns_resolver::{
    FlightLimits, Resolver,
    host::{HostTier, Purge},
    snapshot::Snapshot,
};
use siphasher::sip::SipHasher13;
use std::{
    fs,
    hash::Hasher,
    path::Path,
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};

/// Unix time in seconds at which snapshots are read, which is also the time since the start.
const NOW: u64 = 1_000_000;
const HEAD: usize = 32;

/// Process whose snapshot is the file of its folder.
struct Process {
    settings: SnapshotConfig,
    resolver: Arc<Resolver>,
    /// Head of an empty snapshot.
    head: Vec<u8>,
    runtime: Runtime,
    _folder: TempDir,
}

thread_local! {
    static PROCESS: LazyLock<Process> = LazyLock::new(Process::start);
}

impl Process {
    fn start() -> Self {
        // In memory: a snapshot is synced to the disk.
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let file = folder.path().join("cache.snapshot");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
             [cache]\nsnapshot_file = {file:?}\n"
        );
        let config = Config::parse(&text, Path::new("")).expect("a valid configuration");
        let host = Arc::new(HostTier::new(1 << 20, Arc::default()));
        let clock = Clock::simulated(|| NOW * 1_000_000_000);
        let resolver = Resolver::new(host, &config, clock, FlightLimits::default(), None);
        let settings = config.snapshot.expect("a snapshot is configured");
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let mut process = Process {
            settings,
            resolver,
            head: Vec::new(),
            runtime: runtime.expect("a runtime"),
            _folder: folder,
        };
        process.head = process.write(&process.load(None));
        process.head.truncate(HEAD);
        process
    }

    /// Loads a file into the store, which is emptied first.
    fn load(&self, file: Option<&[u8]>) -> Arc<Snapshot> {
        self.resolver.host().purge(&Purge::All);
        if let Some(bytes) = file {
            fs::write(&self.settings.file, bytes).expect("a file");
        }
        let backroom = Backroom::open("snapshot", Vec::new()).expect("a thread");
        let snapshot = Snapshot::new(self.settings.clone(), self.resolver.clone(), backroom);
        self.runtime.block_on(snapshot.load()).expect("no panic");
        snapshot
    }

    /// Writes the store into a file, and returns its bytes.
    fn write(&self, snapshot: &Arc<Snapshot>) -> Vec<u8> {
        self.runtime.block_on(snapshot.write()).expect("no panic");
        fs::read(&self.settings.file).expect("it was written")
    }

    /// Makes head and checksum fit.
    fn seal(&self, bytes: &[u8]) -> Vec<u8> {
        let written = bytes.first_chunk().map_or(0, |word: &[u8; 2]| u16::from_le_bytes(*word));
        let mut file = self.head.clone();
        file[16..24].copy_from_slice(&(NOW - u64::from(written)).to_le_bytes());
        file.extend(bytes.get(2..).unwrap_or_default());
        let mut hasher = SipHasher13::new();
        hasher.write(&file);
        file.extend(hasher.finish().to_le_bytes());
        file
    }

    fn check(&self, file: &[u8]) {
        let snapshot = self.load(Some(file));
        let counters = &snapshot.counters;
        let outcomes =
            [&counters.loaded, &counters.too_old, &counters.known, &counters.unfit, &counters.purged];
        let [loaded, ..] = outcomes.map(|counter| counter.get());
        let entries: u64 = outcomes.iter().map(|counter| counter.get()).sum();
        assert!(counters.refused.get() == 0 || entries == 0, "a file that is refused is not used");
        assert!(entries as usize <= file.len() / 28, "{entries} entries of {} bytes", file.len());
        let host = self.resolver.host();
        assert!(host.len() as u64 <= loaded);
        for (key, entry) in host.iter() {
            let answer = &entry.answer;
            walk::walk(&of(key.asked(), answer)).expect("a well-formed message");
            let asked = key.asked();
            let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
            assert!(key.is_some_and(|key| key.asked() == asked), "a question that nobody can ask");
            assert!(u64::from(answer.received) <= NOW, "received in the future");
            assert!(u64::from(answer.dead()) > NOW, "dead when it was loaded");
        }
        let held = host.len();
        if held == 0 {
            return;
        }
        let again = self.write(&snapshot);
        let snapshot = self.load(Some(&again));
        assert_eq!(snapshot.counters.refused.get(), 0);
        assert_eq!((host.len(), snapshot.counters.unfit.get()), (held, 0), "it was written and is unfit");
    }
}

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    PROCESS.with(|process| match how & 1 {
        0 => process.check(bytes),
        _ => process.check(&process.seal(bytes)),
    });
});
