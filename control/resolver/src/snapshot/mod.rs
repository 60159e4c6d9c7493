//! The snapshot: what is asked for most of the host tier, on disk, so that an appliance that is started again need not begin with nothing.
//!
//! It is a convenience, and nothing depends on it: a file that is missing, damaged, of another configuration or from the future is not used, and
//! one that cannot be written is a warning. What is in it is believed no more than what an upstream says, and is as old as the wall clock says.
//!
//! A purge is for good. It removes the file before it is said to be done, and a file that was begun before it does not take its place
//! afterwards; what is still being read is kept no more, since the generation is that of the start.

mod file;

pub use file::Refused;

use crate::{
    flight::{Kept, Resolver},
    host::HALF_LIFE,
};
use file::{HEAD, Reader, TRAILER, Writer};
use parking_lot::Mutex;
use ringdns_common::{backroom::Backroom, counters, names};
use ringdns_config as config;
use ringdns_dataplane::clock::Secs;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Entries that are taken from the file at once, and the pause after that: 20,000 a second at most.
const CHUNK: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);

counters! {
    /// What happened to the snapshot.
    SnapshotCounters {
        /// Times that it was written.
        written,
        /// Times that it could not be written.
        write_failed,
        /// Times that it was begun and given up because of a purge.
        given_up,
        /// Times that a purge removed it.
        removed,
        /// Files found at the start that could not be used.
        refused,
        /// Entries taken from the file of the start.
        loaded,
        /// Entries of that file that were too old.
        too_old,
        /// Entries of that file that were known already when their turn came.
        known,
        /// Entries of that file that are no answers to their questions, or that are not kept.
        unfit,
        /// Entries of that file that a purge came before.
        purged,
    }
}

/// The snapshot, written now and then.
pub struct Snapshot {
    settings: config::Snapshot,
    resolver: Arc<Resolver>,
    backroom: Backroom,
    /// The generation at the start.
    generation: u64,
    /// Held while the file comes or goes.
    at_file: Mutex<()>,
    /// Whether what was there at the start has been read: from then on it may be replaced.
    loaded: AtomicBool,
    /// Entries of the file.
    entries: AtomicU64,
    /// What happened so far.
    pub counters: SnapshotCounters,
}

impl Snapshot {
    /// To be made before anybody can purge. Files are read and written in `backroom`.
    pub fn new(settings: config::Snapshot, resolver: Arc<Resolver>, backroom: Backroom) -> Arc<Self> {
        Arc::new(Snapshot {
            settings,
            generation: resolver.host().generation(),
            resolver,
            backroom,
            at_file: Mutex::new(()),
            loaded: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            counters: SnapshotCounters::default(),
        })
    }

    /// Takes what the file has, and then writes it now and then, until the task is dropped.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        self.load().await?;
        loop {
            sleep(self.settings.every.mul_f64(rand::random_range(0.75..=1.25))).await;
            self.write().await?;
        }
    }

    /// Entries of the file as it was written or read last.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Removes the file: there was a purge. To be called when that is done, and before that is said. Blocks.
    pub fn forget(&self) -> io::Result<()> {
        let _at_file = self.at_file.lock();
        match fs::remove_file(&self.settings.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed?;
                self.counters.removed.inc();
                self.entries.store(0, Ordering::Relaxed);
                self.sync_folder()
            }
        }
    }

    //------- Writing ---------------------------------------------------------

    /// Writes the file, if the one that was there has been read. Whatever goes wrong on disk is told, and no error.
    pub async fn write(self: &Arc<Self>) -> io::Result<()> {
        if !self.loaded.load(Ordering::Acquire) {
            return Ok(());
        }
        let snapshot = self.clone();
        let written = self.backroom.have(move || snapshot.replace()).await;
        match written.ok_or_else(|| io::Error::other("the snapshot's thread ended in a panic"))? {
            Ok(true) => self.counters.written.inc(),
            Ok(false) => self.counters.given_up.inc(),
            Err(error) => {
                self.counters.write_failed.inc();
                let file = self.settings.file.display();
                tracing::warn!(%error, "cache.snapshot_file: {file} cannot be written. Check its folder, its owner, and room on the disk");
            }
        }
        Ok(())
    }

    /// Writes a file beside the old one, and puts it in its place; false if there was a purge meanwhile.
    fn replace(&self) -> io::Result<bool> {
        let generation = self.resolver.host().generation();
        let beside = self.beside();
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
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

    /// Puts the file that was begun at this generation in its place, unless there was a purge since.
    fn put_in_place(&self, generation: u64, entries: u64) -> io::Result<bool> {
        let beside = self.beside();
        let _at_file = self.at_file.lock();
        // It rises before a purge removes anything: what was seen since may be what that is for.
        if self.resolver.host().generation() != generation {
            fs::remove_file(&beside)?;
            return Ok(false);
        }
        fs::rename(&beside, &self.settings.file)?;
        self.entries.store(entries, Ordering::Relaxed);
        self.sync_folder().map(|()| true)
    }

    /// Two walks: the first finds out how much has to be asked for an entry for there to be room for it.
    fn write_to(&self, file: File) -> io::Result<(File, u64)> {
        let (clock, host) = (self.resolver.clock(), self.resolver.host());
        let (written, now) = (clock.unix(), clock.secs());
        let most = self.settings.bytes.saturating_sub((HEAD + TRAILER) as u64);
        let mut sizes = vec![0u64; usize::from(u16::MAX) + 1];
        for (key, entry) in host.iter() {
            sizes[usize::from(entry.demand.get(now))] += file::size(key.asked(), &entry.answer);
        }
        let mut room = most;
        let least = (0..=u16::MAX).rev().find(|demand| {
            let size = sizes[usize::from(*demand)];
            let fits = size <= room;
            room -= if fits { size } else { 0 };
            !fits
        });
        let mut writer = Writer::new(BufWriter::new(file), written, self.resolver.fingerprint())?;
        let mut left = most;
        for (key, entry) in host.iter() {
            let (asked, demand, answer) = (key.asked(), entry.demand.get(now), &entry.answer);
            let size = file::size(asked, answer);
            let wanted = match least {
                // Of those that are asked for this often, some.
                Some(least) if demand == least => size <= room,
                Some(least) => demand > least,
                None => true,
            };
            if !wanted || size > left || now >= answer.dead() || !self.resolver.may_keep(&key, answer) {
                continue;
            }
            if least == Some(demand) {
                room -= size;
            }
            left -= size;
            writer.entry(asked, answer, demand, now)?;
        }
        let (buffer, entries) = writer.finish()?;
        Ok((buffer.into_inner().map_err(io::IntoInnerError::into_error)?, entries))
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.settings.file.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }

    /// Makes it last that the file came or went.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.settings.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(".".as_ref()))?.sync_all()
    }

    //------- Reading ---------------------------------------------------------

    /// Takes the entries of the file into the host tier, at a bounded rate.
    pub async fn load(self: &Arc<Self>) -> io::Result<()> {
        let ended = || io::Error::other("the snapshot's thread ended in a panic");
        let (snapshot, began) = (self.clone(), self.resolver.clock().secs());
        if let Some(mut reader) = self.backroom.have(move || snapshot.open()).await.ok_or_else(ended)? {
            // In the first second nothing can have expired yet, and some of this has.
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
            tracing::info!(loaded, too_old, "the snapshot has been read");
        }
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// The file, if there is one and it can be used.
    fn open(&self) -> Option<Reader> {
        let path = self.settings.file.display();
        let mut bytes = Vec::new();
        // Twice as much as it can be now, should it have been written with another limit.
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
        match Reader::open(bytes, self.resolver.clock().unix(), self.resolver.fingerprint()) {
            Ok(reader) => Some(reader),
            Err(refused) => {
                self.counters.refused.inc();
                tracing::warn!("cache.snapshot_file: {path} is not used: {refused}; the cache begins empty");
                None
            }
        }
    }

    /// Takes some entries; `began` is when it was opened. False when there are no more.
    fn take(&self, reader: &mut Reader, began: Secs) -> bool {
        let since = reader.age + u64::from(self.resolver.clock().secs().saturating_sub(began));
        let since = Secs::try_from(since).unwrap_or(Secs::MAX);
        for _ in 0..CHUNK {
            let Some(kept) = reader.entry() else { return false };
            let asked = kept.asked;
            let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
            let counters = &self.counters;
            let Some(key) = key.filter(|key| key.asked() == asked) else {
                counters.unfit.inc();
                continue;
            };
            let age = kept.age.saturating_add(since);
            let demand = kept.demand.checked_shr(since / HALF_LIFE).unwrap_or(0);
            let file::Kept { ttl, stale, ede, message, .. } = kept;
            match self.resolver.restore(&key, message, (age, ttl, stale), ede, self.generation) {
                Kept::Taken => {
                    self.resolver.host().note(asked, demand, self.resolver.clock().secs());
                    &counters.loaded
                }
                Kept::TooOld => &counters.too_old,
                Kept::Known => &counters.known,
                Kept::Unfit => &counters.unfit,
                Kept::Purged => &counters.purged,
            }
            .inc();
        }
        true
    }
}

#[cfg(test)]
mod tests;
