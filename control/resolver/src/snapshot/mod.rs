//! Snapshot: the part of the host tier in most demand, on disk, so that an appliance does not begin
//! with an empty cache after a restart.
//!
//! Nothing depends on the snapshot. A file that is missing, damaged, of another configuration or
//! from the future is not used; a file that cannot be written causes a warning. Its entries are
//! trusted no more than answers from upstreams, and their age follows the wall clock.
//!
//! A purge is final. It removes the file before it reports success, and a file that was begun
//! before the purge does not take its place afterwards. A second later, the file is written anew.
//! Entries that are still being read and that the purge covers are dropped, since their generation
//! is that of the start.

mod dump;
mod file;

pub use dump::{Load, LoadOutcomes, write};
pub use file::SnapshotRefused;

use crate::flight::{Resolver, RestoreOutcome};
use file::SnapshotReader;
use parking_lot::Mutex;
use ringdns_common::{backroom::Backroom, counters, fault::Fault, files};
use ringdns_config as config;
use ringdns_dataplane::clock::Secs;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

/// Most entries taken from the file at once.
const CHUNK: usize = 200;
/// Pause after [`CHUNK`] entries: at most 20,000 a second.
pub const PAUSE: Duration = Duration::from_millis(10);

/// Time from a purge, which removes the file, until the file is written anew.
const AFTER_PURGE: Duration = Duration::from_secs(1);

counters! {
    /// Counters of the snapshot.
    SnapshotCounters {
        /// Times that the snapshot was written.
        written,
        /// Times that the snapshot could not be written.
        write_failed,
        /// Times that writing the snapshot was given up because of a purge.
        given_up,
        /// Times that a purge removed the snapshot.
        removed,
        /// Snapshots found at the start that could not be used.
        refused,
        /// Entries loaded from the snapshot at the start.
        loaded,
        /// Entries of the snapshot not loaded because they were too old.
        too_old,
        /// Entries of the snapshot not loaded because an answer was in the host cache already.
        known,
        /// Entries of the snapshot not loaded because they do not answer their question, or are not
        /// kept under this configuration.
        unfit,
        /// Entries of the snapshot not loaded because of a purge.
        purged,
    }
}

/// Snapshot, which is written at intervals.
pub struct Snapshot {
    settings: config::SnapshotConfig,
    resolver: Arc<Resolver>,
    backroom: Backroom,
    /// Generation of the host tier at the start.
    generation: u64,
    /// Held while the file is put in place or removed.
    at_file: Mutex<()>,
    /// Whether the file of the start has been read: from then on it may be replaced.
    loaded: AtomicBool,
    /// Wakes the writer after a purge.
    removed: Notify,
    /// Number of entries in the file.
    entries: AtomicU64,
    /// Counters of the snapshot.
    pub counters: SnapshotCounters,
    /// Fault of the file when it was last written.
    pub fault: Fault,
}

impl Snapshot {
    /// Returns the snapshot of `resolver`. Call this before a purge can come. Files are read and
    /// written in `backroom`.
    pub fn new(settings: config::SnapshotConfig, resolver: Arc<Resolver>, backroom: Backroom) -> Arc<Self> {
        Arc::new(Snapshot {
            settings,
            generation: resolver.host().generation(),
            resolver,
            backroom,
            at_file: Mutex::new(()),
            loaded: AtomicBool::new(false),
            removed: Notify::new(),
            entries: AtomicU64::new(0),
            counters: SnapshotCounters::default(),
            fault: Fault::default(),
        })
    }

    /// Loads the file, then writes it at intervals until the task is dropped.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        self.load().await?;
        loop {
            let pause = sleep(self.settings.every.mul_f64(rand::random_range(0.75..=1.25)));
            tokio::select! {
                () = pause => {}
                // The file is gone, but most of what it held is still in the host tier.
                () = self.removed.notified() => sleep(AFTER_PURGE).await,
            }
            self.write().await?;
        }
    }

    /// Returns the number of entries in the file when it was last written or read.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Removes the file because of a purge. Call this after the purge and before its success is
    /// reported. Blocks.
    pub fn forget(&self) -> io::Result<()> {
        let _at_file = self.at_file.lock();
        match fs::remove_file(&self.settings.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed?;
                self.counters.removed.inc();
                self.entries.store(0, Ordering::Relaxed);
                self.removed.notify_one();
                self.sync_folder()
            }
        }
    }

    //------- Writing ---------------------------------------------------------

    /// Writes the file, if the one of the start has been read. Errors on disk are logged and not
    /// returned.
    pub async fn write(self: &Arc<Self>) -> io::Result<()> {
        if !self.loaded.load(Ordering::Acquire) {
            return Ok(());
        }
        let snapshot = self.clone();
        let written = self.backroom.have(move || snapshot.replace()).await;
        match written.ok_or_else(|| io::Error::other("the snapshot's thread panicked"))? {
            Ok(true) => {
                self.counters.written.inc();
                if self.fault.clear() {
                    let file = self.settings.file.display();
                    tracing::info!("cache.snapshot_file: {file} can be written again");
                }
            }
            Ok(false) => self.counters.given_up.inc(),
            Err(error) => {
                self.counters.write_failed.inc();
                let file = self.settings.file.display();
                if self.fault.set(format!("{file} cannot be written: {error}")) {
                    tracing::warn!(%error, "cache.snapshot_file: {file} cannot be written. Check its folder, its owner, and the free space on the disk");
                }
            }
        }
        Ok(())
    }

    /// Writes a file beside the old one and puts it in its place. Returns false if a purge came
    /// meanwhile.
    fn replace(&self) -> io::Result<bool> {
        let generation = self.resolver.host().generation();
        let beside = self.beside();
        let file = files::create_anew(&beside, 0o600)?;
        let written = self.write_to(file).and_then(|(file, entries)| file.sync_all().map(|()| entries));
        let entries = match written {
            Ok(entries) => entries,
            Err(error) => {
                drop(fs::remove_file(&beside));
                return Err(error);
            }
        };
        self.put_in_place(generation, entries)
    }

    /// Puts the file that was begun at `generation` in its place. Returns false if a purge came
    /// since.
    fn put_in_place(&self, generation: u64, entries: u64) -> io::Result<bool> {
        let beside = self.beside();
        let _at_file = self.at_file.lock();
        // The generation rises before a purge removes anything: entries seen since may be the
        // purged ones.
        if self.resolver.host().generation() != generation {
            fs::remove_file(&beside)?;
            return Ok(false);
        }
        fs::rename(&beside, &self.settings.file)?;
        self.entries.store(entries, Ordering::Relaxed);
        self.sync_folder().map(|()| true)
    }

    /// Writes the entries in most demand that fit.
    fn write_to(&self, file: File) -> io::Result<(File, u64)> {
        let (buffer, entries) = dump::write(&self.resolver, self.settings.bytes, BufWriter::new(file))?;
        Ok((buffer.into_inner().map_err(io::IntoInnerError::into_error)?, entries))
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.settings.file.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }

    /// Syncs the folder, so that the rename or the removal survives a crash.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.settings.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(".".as_ref()))?.sync_all()
    }

    //------- Reading ---------------------------------------------------------

    /// Loads the entries of the file into the host tier, at a bounded rate.
    pub async fn load(self: &Arc<Self>) -> io::Result<()> {
        let ended = || io::Error::other("the snapshot's thread panicked");
        let (snapshot, began) = (self.clone(), self.resolver.clock().secs());
        if let Some(mut reader) = self.backroom.have(move || snapshot.open()).await.ok_or_else(ended)? {
            // Some entries have expired already, which the clock cannot express in its first
            // second.
            while self.resolver.clock().secs() == 0 {
                sleep(Duration::from_millis(20)).await;
            }
            self.entries.store(reader.entries, Ordering::Relaxed);
            loop {
                let snapshot = self.clone();
                let taking = self.backroom.have(move || (snapshot.take(&mut reader, began), reader));
                let (more, back) = taking.await.ok_or_else(ended)?;
                if !more {
                    break;
                }
                reader = back;
                sleep(PAUSE).await;
            }
            let counters = &self.counters;
            let [loaded, too_old] = [&counters.loaded, &counters.too_old].map(|counter| counter.get());
            tracing::info!(loaded, too_old, "cache snapshot loaded");
        }
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns the file, if there is one and it can be used.
    fn open(&self) -> Option<SnapshotReader> {
        let path = self.settings.file.display();
        let mut bytes = Vec::new();
        // Twice the limit, in case the file was written under a higher one.
        let most = self.settings.bytes.saturating_mul(2);
        let read = File::open(&self.settings.file).and_then(|file| file.take(most).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.counters.refused.inc();
                tracing::warn!(%error, "cache.snapshot_file: {path} cannot be read; the cache begins empty");
                return None;
            }
        }
        match SnapshotReader::open(bytes, self.resolver.clock().unix(), self.resolver.fingerprint()) {
            Ok(reader) => Some(reader),
            Err(refused) => {
                self.counters.refused.inc();
                tracing::warn!("cache.snapshot_file: {path} is not used: {refused}; the cache begins empty");
                None
            }
        }
    }

    /// Loads some entries; `began` is the time at which the file was opened. Returns false when
    /// none is left.
    fn take(&self, reader: &mut SnapshotReader, began: Secs) -> bool {
        let since = reader.age + u64::from(self.resolver.clock().secs().saturating_sub(began));
        let since = Secs::try_from(since).unwrap_or(Secs::MAX);
        for _ in 0..CHUNK {
            let Some((_, outcome)) = dump::restore(&self.resolver, reader, since, self.generation) else {
                return false;
            };
            let counters = &self.counters;
            match outcome {
                RestoreOutcome::Taken => &counters.loaded,
                RestoreOutcome::TooOld => &counters.too_old,
                RestoreOutcome::Known => &counters.known,
                RestoreOutcome::Unfit => &counters.unfit,
                RestoreOutcome::Purged => &counters.purged,
            }
            .inc();
        }
        true
    }
}

#[cfg(test)]
mod tests;
