//! Copies of downloaded lists on disk: the last good one of each, and a note about its origin.
//!
//! A copy is written to a file of another name, synchronised, and renamed, so that a crash leaves the
//! old copy or the new one. The note is written after its copy: between the two, it describes the old
//! copy, which its digest tells. No symbolic link in the directory is followed.

use super::transfer::ZoneSoa;
use ring::digest::{Context, SHA256};
use ringdns_common::printable::Printable;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fsync, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
};

/// Permissions of the directory if it is created.
const DIR_MODE: u32 = 0o750;
/// Permissions of copies.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// End of the names of copies.
const COPY: &str = "list";
/// End of the names of notes.
const NOTE: &str = "json";
/// End of the names of unfinished files.
const PART: &str = "part";
/// Largest note that is read, in bytes.
const NOTE_MAX: u64 = 64 << 10;

/// Reason why the directory of copies cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("lists.dir: {}: {reason}. {remedy}", Printable(path.display()))]
pub struct CopyError {
    path: PathBuf,
    reason: io::Error,
    remedy: &'static str,
}

/// Directory of copies.
#[derive(Clone, Debug)]
pub struct Copies(PathBuf);

/// Origin of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyNote {
    /// URL of the download.
    pub url: String,
    /// Entity tag of the copy (RFC 9110 section 8.8.3).
    #[serde(default)]
    pub etag: Option<String>,
    /// Time of its last modification, as the server wrote it.
    #[serde(default)]
    pub last_modified: Option<String>,
    /// Unix time at which the server last sent or confirmed the copy.
    pub confirmed: u64,
    /// SHA-256 of the copy, in hexadecimal digits.
    pub sha256: String,
    /// SOA record of the copy, if it is that of a transferred zone.
    #[serde(default)]
    pub zone: Option<ZoneSoa>,
}

impl Copies {
    /// Returns the copies in a directory, which need not exist.
    pub fn new(dir: &Path) -> Self {
        Copies(dir.to_owned())
    }

    /// Returns the path of a list's copy.
    pub fn path(&self, list: &str) -> PathBuf {
        self.0.join(format!("{list}.{COPY}"))
    }

    /// Opens a list's copy.
    pub fn open(&self, list: &str) -> io::Result<File> {
        open_at(&self.dir()?, &format!("{list}.{COPY}"))
    }

    /// Returns the note about a list's copy, if there is one that can be read.
    pub fn note(&self, list: &str) -> Option<CopyNote> {
        let mut text = String::new();
        let file = open_at(&self.dir().ok()?, &format!("{list}.{NOTE}")).ok()?;
        file.take(NOTE_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Whether a note is about the copy that is there.
    pub fn is_about(&self, note: &CopyNote, list: &str) -> bool {
        let mut digest = Digest::default();
        let mut copied = |mut file: File| io::copy(&mut file, &mut digest);
        self.open(list).is_ok_and(|file| copied(file).is_ok()) && digest.finish() == note.sha256
    }

    /// Begins a new copy of a list.
    pub fn begin(&self, list: &str) -> Result<Part, CopyError> {
        let begin = || -> io::Result<Part> {
            if let Err(error) = DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.0)
                && !self.0.is_dir()
            {
                return Err(error);
            }
            Part::create(self.dir()?, list)
        };
        begin().map_err(|error| self.failed(error))
    }

    /// Replaces a list's copy by a new one.
    pub fn keep(&self, list: &str, part: Part, note: &CopyNote) -> Result<(), CopyError> {
        part.become_file(&format!("{list}.{COPY}")).map_err(|error| self.failed(error))?;
        self.confirm(list, note)
    }

    /// Replaces the note about a list's copy.
    pub fn confirm(&self, list: &str, note: &CopyNote) -> Result<(), CopyError> {
        let confirm = || -> io::Result<()> {
            let mut part = Part::create(self.dir()?, list)?;
            part.file.write_all(&serde_json::to_vec(note)?)?;
            part.become_file(&format!("{list}.{NOTE}"))
        };
        confirm().map_err(|error| self.failed(error))
    }

    /// Removes unfinished files of an earlier process.
    pub fn clean(&self) {
        let Ok(dir) = self.dir() else { return };
        let Ok(entries) = Dir::read_from(&dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy();
            if name.ends_with(&format!(".{PART}")) && entry.file_type() == FileType::RegularFile {
                let _ = unlinkat(&dir, entry.file_name(), AtFlags::empty());
            }
        }
    }

    fn dir(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.0, flags, Mode::empty())?)
    }

    fn failed(&self, reason: io::Error) -> CopyError {
        let remedy = match Errno::from_io_error(&reason) {
            Some(Errno::NOSPC | Errno::DQUOT) => "Make room on the disk",
            _ => "Give a directory that ringdnsd may write to",
        };
        CopyError { path: self.0.clone(), reason, remedy }
    }
}

/// Copy that is being written. It is removed if it is dropped.
pub struct Part {
    dir: OwnedFd,
    name: Option<String>,
    /// Open file.
    pub file: File,
}

impl Part {
    fn create(dir: OwnedFd, list: &str) -> io::Result<Part> {
        let name = format!("{list}.{:016x}.{PART}", rand::random::<u64>());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, &name, flags, FILE_MODE)?;
        let part = Part { dir, name: Some(name), file: File::from(file) };
        // Whatever the umask is.
        fchmod(&part.file, FILE_MODE)?;
        Ok(part)
    }

    /// Gives the file, once it is on disk, the name `to`.
    fn become_file(mut self, to: &str) -> io::Result<()> {
        fsync(&self.file)?;
        if let Some(name) = &self.name {
            renameat(&self.dir, name, &self.dir, to)?;
            self.name = None;
        }
        Ok(fsync(&self.dir)?)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The file is of no use, and the next start removes it.
            let _ = unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

/// SHA-256 of written bytes.
pub struct Digest(Context);

impl Default for Digest {
    fn default() -> Self {
        Digest(Context::new(&SHA256))
    }
}

impl Digest {
    /// Returns the digest in hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a regular file of a directory. Others could block, or lead elsewhere.
fn open_at(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(match openat(dir, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
        opened => opened?,
    });
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn note() -> CopyNote {
        CopyNote { url: "https://a/".into(), confirmed: 7, ..CopyNote::default() }
    }

    fn kept(copies: &Copies, text: &str) -> CopyNote {
        let mut part = copies.begin("ads").unwrap();
        let mut digest = Digest::default();
        for to in [&mut part.file as &mut dyn Write, &mut digest] {
            to.write_all(text.as_bytes()).unwrap();
        }
        let note = CopyNote { sha256: digest.finish(), ..note() };
        copies.keep("ads", part, &note).unwrap();
        note
    }

    #[test]
    fn a_copy_and_its_note_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let copies = Copies::new(&folder.path().join("deep/lists"));
        assert!(copies.open("ads").is_err() && copies.note("ads").is_none());
        let first = kept(&copies, "ads.example\n");
        let second = kept(&copies, "shop.example\n");
        assert_eq!(copies.note("ads"), Some(second.clone()));
        assert!(copies.is_about(&second, "ads") && !copies.is_about(&first, "ads"));
        assert_eq!(fs::read_to_string(copies.path("ads")).unwrap(), "shop.example\n");
        let mode = fs::metadata(copies.path("ads")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(fs::read_dir(folder.path().join("deep/lists")).unwrap().count(), 2);
    }

    #[test]
    fn an_unfinished_copy_goes_and_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let copies = Copies::new(folder.path());
        kept(&copies, "ads.example\n");
        let count = || fs::read_dir(folder.path()).unwrap().count();
        let part = copies.begin("ads").unwrap();
        assert_eq!(count(), 3);
        drop(part);
        assert_eq!(count(), 2);
        // A crash.
        fs::write(folder.path().join("ads.0123.part"), "x").unwrap();
        copies.clean();
        assert_eq!(count(), 2);
        assert_eq!(fs::read_to_string(copies.path("ads")).unwrap(), "ads.example\n");
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (copies, target) = (Copies::new(&folder.path().join("lists")), folder.path().join("target"));
        fs::write(&target, "precious\n").unwrap();
        drop(copies.begin("ads").unwrap());
        for name in ["ads.list", "ads.json"] {
            symlink(&target, folder.path().join("lists").join(name)).unwrap();
        }
        let error = copies.open("ads").unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(copies.note("ads").is_none());
        kept(&copies, "ads.example\n");
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious\n");
        assert_eq!(fs::read_to_string(copies.path("ads")).unwrap(), "ads.example\n");
    }

    #[test]
    fn a_broken_note_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let copies = Copies::new(folder.path());
        for text in ["", "{}", "[1]", "{\"url\": 3}", "\0"] {
            fs::write(folder.path().join("ads.json"), text).unwrap();
            assert_eq!(copies.note("ads"), None, "{text}");
        }
        fs::write(folder.path().join("ads.json"), vec![b' '; 1 << 20]).unwrap();
        assert_eq!(copies.note("ads"), None);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Copies::new(&file.join("lists")).begin("ads").err().unwrap().to_string();
        assert!(error.contains("lists.dir: ") && error.contains("may write"), "{error}");
    }
}
