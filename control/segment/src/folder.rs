//! Segments as files in a directory: their names, and reading them.

use crate::segment::{Damage, HEAD, Head, Segment};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Suffix of segments' file names.
pub const SUFFIX: &str = ".zst";

/// Reason for a segment that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The file's content is damaged.
    #[error("{0}")]
    Damaged(#[from] Damage),
}

/// Reads and checks the segment in a file.
pub fn read(path: &Path) -> Result<Segment, ReadError> {
    Ok(Segment::parse(fs::read(path)?)?)
}

/// Returns the segments in a directory, the oldest first.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if id_of(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Returns the head of a file's segment, and the file's length.
pub fn head(path: &Path) -> Result<(Head, u64), ReadError> {
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(HEAD);
    Read::by_ref(&mut file).take(HEAD as u64).read_to_end(&mut head)?;
    Ok((Head::parse(&head)?, file.metadata()?.len()))
}

/// Returns the id in a file's name.
pub fn id_of(path: &Path) -> Option<u64> {
    let id = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    (id.len() == 20).then(|| id.parse().ok()).flatten()
}
