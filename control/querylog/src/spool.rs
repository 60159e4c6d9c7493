//! The spool: segments as files in a directory, bounded in bytes, shipped and removed in order, and
//! readable by other programs.
//!
//! A segment is written to a temporary file and renamed when it is complete. Its name is its id, so
//! names sort by time. When the directory is full, the oldest segments are removed. Damaged
//! segments are removed, too. All of this is counted.

use super::ledger::{Ledger, Loss, RowPlace};
use ringdns_common::files;
use ringdns_segment::{
    folder::{ReadError, SUFFIX, head, id_of, list, read},
    segment::{Damage, Head, Segment},
};
use rustix::fs::{FlockOperation, OFlags};
use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Name of the lock file, which keeps other processes out of the directory.
const LOCK: &str = "lock";
/// Number of ids that a segment and the parts it is split into may have, in microseconds; a power of
/// two. The id of a whole segment is a multiple of it.
pub const SPLIT_IDS: u64 = 1 << 10;
/// Greatest id of a segment: no clock reaches it, and ids behind it have room.
const ID_MAX: u64 = 1 << 62;
/// Folder of segments that ClickHouse does not take.
const REFUSED: &str = "refused";
/// Most segments in that folder. The oldest ones make room.
const REFUSED_MAX: usize = 64;
/// Bytes of a disk block: a file occupies whole blocks.
const DISK_BLOCK: u64 = 4096;

/// A directory of segments that only this process writes to.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// Most bytes on disk.
    limit: u64,
    ledger: Arc<Ledger>,
    /// Segments by id, the oldest first.
    files: VecDeque<SpooledSegment>,
    bytes: u64,
    /// File that is locked as long as it is open; `None` until the directory could be opened.
    lock: Option<File>,
}

/// A segment on disk.
#[derive(Clone, Copy, Debug)]
struct SpooledSegment {
    id: u64,
    rows: u32,
    bytes: u64,
}

impl Spool {
    /// Opens the directory and lists its segments. If that fails, each later write tries again:
    /// without a directory the process cannot log, but it can still answer.
    pub fn open(folder: &Path, limit: u64, ledger: Arc<Ledger>) -> Spool {
        let mut spool =
            Spool { folder: folder.to_owned(), limit, ledger, files: VecDeque::new(), bytes: 0, lock: None };
        if let Err(error) = spool.take_stock() {
            spool.complain("cannot be opened", &error);
        }
        spool
    }

    /// Returns the oldest segment's id.
    pub fn first(&self) -> Option<u64> {
        self.files.front().map(|file| file.id)
    }

    /// Returns the oldest id behind `id`.
    pub fn after(&self, id: u64) -> Option<u64> {
        self.files.get(self.files.partition_point(|file| file.id <= id)).map(|file| file.id)
    }

    /// Returns the newest segment's id.
    pub fn last(&self) -> Option<u64> {
        self.files.back().map(|file| file.id)
    }

    /// Whether the spool is empty.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes a segment from memory. A segment that finds no room, or cannot be written, is dropped
    /// and counted.
    pub fn put(&mut self, segment: &Segment, in_flight: Option<u64>) {
        let (head, dropped) = (segment.head(), self.ledger.sums().dropped_spool_full);
        if let Err(error) = self.write(segment, in_flight) {
            self.ledger.lose(head.rows, RowPlace::Hand, Loss::Disk);
            self.complain("cannot be written, and rows are lost", &error);
        } else if self.ledger.sums().dropped_spool_full > dropped {
            self.ledger.spool.set(format!(
                "query_log.spool_dir {} has its {} bytes full, and the oldest rows are dropped",
                self.folder.display(),
                self.limit
            ));
        } else if self.ledger.spool.clear() {
            tracing::info!("query_log.spool_dir {} can be written again", self.folder.display());
        }
    }

    fn write(&mut self, segment: &Segment, in_flight: Option<u64>) -> io::Result<()> {
        if self.lock.is_none() {
            self.take_stock()?;
        }
        let head = segment.head();
        let bytes = on_disk(segment.bytes().len() as u64);
        self.make_room(bytes, in_flight);
        if self.bytes + bytes > self.limit {
            self.ledger.lose(head.rows, RowPlace::Hand, Loss::Full);
            return Ok(());
        }
        self.write_file(segment)?;
        self.ledger.spool(head.rows);
        self.list_segment(segment);
        Ok(())
    }

    fn write_file(&self, segment: &Segment) -> io::Result<()> {
        let id = segment.head().id;
        let beside = self.folder.join(format!("{id:020}.tmp"));
        let written = files::create_anew(&beside, 0o600).and_then(|mut file| file.write_all(segment.bytes()));
        written.and_then(|()| fs::rename(&beside, self.path(id))).inspect_err(|_| {
            drop(fs::remove_file(&beside));
        })
    }

    /// Adds a segment whose file has been written.
    fn list_segment(&mut self, segment: &Segment) {
        let Head { id, rows, .. } = segment.head();
        let bytes = on_disk(segment.bytes().len() as u64);
        // Nearly always at the end: only a segment that was in flight while others were written
        // goes before them.
        let at = self.files.partition_point(|file| file.id < id);
        self.files.insert(at, SpooledSegment { id, rows, bytes });
        self.count(|total| total + bytes);
    }

    /// Removes the oldest segments until there is room, except the one in flight to ClickHouse.
    fn make_room(&mut self, bytes: u64, in_flight: Option<u64>) {
        while self.bytes + bytes > self.limit {
            let Some(at) = self.files.iter().position(|file| Some(file.id) != in_flight) else { return };
            let id = self.files[at].id;
            self.forget(id, |ledger, rows| ledger.lose(rows, RowPlace::Spool, Loss::Full));
        }
    }

    /// Reads a segment; `None` if it is missing or damaged, in which case it is removed and
    /// counted.
    pub fn read(&mut self, id: u64) -> Option<Segment> {
        let path = self.path(id);
        let segment = read(&path).and_then(|segment| match segment.head().id == id {
            true => Ok(segment),
            false => Err(ReadError::Damaged(Damage::Magic)),
        });
        match segment {
            Ok(segment) => Some(segment),
            Err(error) => {
                tracing::error!(segment = %path.display(), "a segment cannot be read, and is lost from the query log: {error}");
                let loss = match error {
                    ReadError::Damaged(_) => Loss::Damaged,
                    ReadError::Disk(_) => Loss::Disk,
                };
                self.ledger.change(|sums| sums.segments_damaged += u64::from(loss == Loss::Damaged));
                self.forget(id, |ledger, rows| ledger.lose(rows, RowPlace::Spool, loss));
                None
            }
        }
    }

    /// Removes a segment. `account` records where its rows went.
    pub fn forget(&mut self, id: u64, account: impl FnOnce(&Ledger, u32)) {
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return };
        if let Err(error) = fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            self.complain("cannot be cleared", &error);
        }
        if let Some(file) = self.files.remove(at) {
            account(&self.ledger, file.rows);
            self.count(|total| total - file.bytes);
        }
    }

    /// Replaces a segment that is too large for ClickHouse by two with half of its rows each.
    /// Returns false if it cannot be split. A crash between the writing of the two sends the rows
    /// of the second twice.
    pub fn split(&mut self, segment: &Segment) -> bool {
        let id = segment.head().id;
        let Some(at) = self.files.iter().position(|file| file.id == id) else { return false };
        // Parts are sent in the order of their ids, so a higher one was not used for stored rows.
        let end = (id / SPLIT_IDS + 1) * SPLIT_IDS;
        let taken = |id| self.files.iter().any(|file| file.id == id);
        let Some(second_id) = (id + 1..end).find(|id| !taken(*id)) else { return false };
        let Ok(Some([first, second])) = segment.split(second_id) else { return false };
        let written = self.write_file(&second).and_then(|()| self.write_file(&first));
        if let Err(error) = written {
            drop(fs::remove_file(self.path(second_id)));
            self.complain("cannot be written, so that a segment cannot be split", &error);
            return false;
        }
        if let Some(whole) = self.files.remove(at) {
            self.count(|total| total - whole.bytes);
        }
        self.list_segment(&first);
        self.list_segment(&second);
        true
    }

    /// Moves a segment to the folder of refused ones, and counts its rows as dropped. Returns false
    /// if the spool does not hold the segment.
    pub fn set_aside(&mut self, id: u64) -> bool {
        if !self.files.iter().any(|file| file.id == id) {
            return false;
        }
        if let Err(error) = self.keep_refused(id) {
            self.complain("has no room for a segment that ClickHouse refuses, which is removed", &error);
        }
        self.forget(id, |ledger, rows| ledger.lose(rows, RowPlace::Spool, Loss::Refused));
        true
    }

    fn keep_refused(&self, id: u64) -> io::Result<()> {
        let folder = self.folder.join(REFUSED);
        files::create_private_folder(&folder)?;
        let kept = list(&folder)?;
        for oldest in kept.iter().take((kept.len() + 1).saturating_sub(REFUSED_MAX)) {
            fs::remove_file(oldest)?;
        }
        let path = self.path(id);
        fs::rename(&path, folder.join(path.file_name().unwrap_or_default()))
    }

    fn take_stock(&mut self) -> io::Result<()> {
        files::create_private_folder(&self.folder)?;
        let lock = open_lock(&self.folder.join(LOCK))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::new(
                io::ErrorKind::AddrInUse,
                "another process uses it; give each ringdnsd a directory of its own",
            )
        })?;
        let mut names: Vec<_> =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort_unstable();
        let mut found = VecDeque::new();
        for name in names {
            let path = self.folder.join(&name);
            // A temporary file is left by a process that died while writing.
            if path.extension().is_some_and(|extension| extension == "tmp") {
                drop(fs::remove_file(&path));
            }
            let Some(id) = id_of(&path) else { continue };
            match head(&path) {
                Ok((head, len)) if head.id == id && id <= ID_MAX => {
                    found.push_back(SpooledSegment { id, rows: head.rows, bytes: on_disk(len) });
                }
                Ok(_) | Err(ReadError::Damaged(_)) => {
                    tracing::error!(segment = %path.display(), "a damaged segment was removed from the query log");
                    self.ledger.change(|sums| sums.segments_damaged += 1);
                    drop(fs::remove_file(&path));
                }
                Err(ReadError::Disk(error)) => return Err(error),
            }
        }
        found.iter().for_each(|file| self.ledger.find(file.rows));
        self.files = found;
        let bytes = self.files.iter().map(|file| file.bytes).sum();
        self.count(|_| bytes);
        self.make_room(0, None);
        self.lock = Some(lock);
        Ok(())
    }

    fn count(&mut self, change: impl FnOnce(u64) -> u64) {
        self.bytes = change(self.bytes);
        self.ledger.change(|sums| sums.spool_bytes = self.bytes);
    }

    fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id:020}{SUFFIX}"))
    }

    fn complain(&self, what: &str, error: &io::Error) {
        let folder = self.folder.display();
        let reason =
            format!("query_log.spool_dir {folder} {what}: {error}. Check its permissions and free space");
        tracing::error!("{reason}");
        self.ledger.spool.set(reason);
    }
}

/// Opens the lock file, which another process may hold. A symbolic link is an error.
fn open_lock(path: &Path) -> io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    File::options().write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link).open(path)
}

fn on_disk(len: u64) -> u64 {
    len.next_multiple_of(DISK_BLOCK)
}

#[cfg(test)]
mod tests;
