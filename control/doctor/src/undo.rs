//! Record of changes, from which they are undone.

use crate::steps::{self, StepError};
use ringdns_api::{Change, Finding};
use ringdns_common::files;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Error about the record or about a change.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The file of the record cannot be read.
    #[error("{path} cannot be read: {source}. Give another with --undo-file")]
    Read {
        /// Path.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The file is no record.
    #[error("{path} is no record of changes: {source}. Move it away, or give another with --undo-file")]
    Broken {
        /// Path.
        path: PathBuf,
        /// Place of the damage.
        source: serde_json::Error,
    },
    /// The file cannot be written, so that nothing is changed.
    #[error("{path} cannot be written: {source}. Run this as root, or give another file with --undo-file")]
    Write {
        /// Path.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A change was not made, or was not undone.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Change in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Name of the check that asked for it.
    pub check: String,
    /// Change.
    pub change: Change,
}

/// File with the changes in force, in the order in which they were made.
#[derive(Debug)]
pub struct UndoFile {
    path: PathBuf,
    applied: Vec<Applied>,
}

impl UndoFile {
    /// Reads the file. None is none in force.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let applied = match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| UndoError::Broken { path: path.to_owned(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(UndoError::Read { path: path.to_owned(), source }),
        };
        Ok(UndoFile { path: path.to_owned(), applied })
    }

    /// Makes the changes of a finding, each after its undoing was written down. Returns those that were made;
    /// the rest is left when one fails.
    pub fn apply(&mut self, finding: &Finding) -> (Vec<Change>, Result<(), UndoError>) {
        let mut made = Vec::new();
        for change in finding.fix.iter().flat_map(|fix| &fix.changes) {
            let applied = Applied { check: finding.check.clone(), change: change.clone() };
            // A restart of the host has undone it.
            self.applied.retain(|before| *before != applied);
            self.applied.push(applied);
            let result = self.store().and_then(|()| Ok(steps::perform(&change.make)?));
            if let Err(error) = result {
                self.applied.pop();
                return (made, self.store().and(Err(error)));
            }
            made.push(change.clone());
        }
        (made, Ok(()))
    }

    /// Undoes all changes, the last one first. Goes on after a failure; those that were not undone stay in
    /// the file.
    pub fn undo(&mut self) -> Vec<(Applied, Result<(), UndoError>)> {
        let mut results = Vec::new();
        let mut left = Vec::new();
        while let Some(applied) = self.applied.pop() {
            let result = steps::perform(&applied.change.undo).map_err(UndoError::from);
            if result.is_err() {
                left.insert(0, applied.clone());
            }
            results.push((applied, result));
        }
        self.applied = left;
        if let Err(error) = self.store()
            && let Some((_, result)) = results.last_mut()
        {
            *result = Err(error);
        }
        results
    }

    /// Replaces the file, whole at any time. A file without changes is removed.
    fn store(&self) -> Result<(), UndoError> {
        self.write().map_err(|source| UndoError::Write { path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        if self.applied.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(folder) = self.path.parent() {
            files::create_private_folder(folder)?;
        }
        let new = self.path.with_extension("new");
        let mut file = files::create_anew(&new, 0o600)?;
        file.write_all(&serde_json::to_vec_pretty(&self.applied)?)?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes;
    use ringdns_api::{Fix, Verdict};

    fn finding(changes: Vec<Change>) -> Finding {
        Finding {
            check: "test".into(),
            verdict: Verdict::Advice,
            evidence: String::new(),
            remedy: None,
            fix: Some(Fix { changes, resets_link: false }),
        }
    }

    #[test]
    fn changes_are_written_down_first_and_undone_in_reverse_order() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "state/undo.json"].map(|name| folder.path().join(name));
        fs::write(&value, "1").unwrap();
        let mut file = UndoFile::open(&record).unwrap();
        let two = finding(vec![changes::value(&value, "1", "2"), changes::value(&value, "2", "3")]);
        let (made, result) = file.apply(&two);
        assert!(result.is_ok() && made.len() == 2, "{result:?}");
        assert_eq!(fs::read_to_string(&value).unwrap(), "3");
        let mut file = UndoFile::open(&record).unwrap();
        assert!(file.undo().iter().all(|(_, result)| result.is_ok()));
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
        assert!(!record.exists(), "nothing is in force");
        assert!(file.undo().is_empty());
    }

    #[test]
    fn a_change_that_a_restart_has_undone_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "undo.json"].map(|name| folder.path().join(name));
        let mut file = UndoFile::open(&record).unwrap();
        for _ in 0..2 {
            fs::write(&value, "1").unwrap();
            assert!(file.apply(&finding(vec![changes::value(&value, "1", "2")])).1.is_ok());
        }
        assert_eq!(file.undo().len(), 1);
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
    }

    #[test]
    fn a_change_that_failed_is_not_undone() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "undo.json"].map(|name| folder.path().join(name));
        fs::write(&value, "1").unwrap();
        let mut file = UndoFile::open(&record).unwrap();
        let failing = changes::command("false", "touch /proc/never");
        let (made, result) = file.apply(&finding(vec![changes::value(&value, "1", "2"), failing]));
        assert!(made.len() == 1 && result.unwrap_err().to_string().contains("`false` failed"));
        assert_eq!(UndoFile::open(&record).unwrap().applied.len(), 1);
    }

    #[test]
    fn without_a_record_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let value = folder.path().join("value");
        fs::write(&value, "1").unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut file = UndoFile { path: folder.path().join("file/undo.json"), applied: Vec::new() };
        let (made, result) = file.apply(&finding(vec![changes::value(&value, "1", "2")]));
        assert!(made.is_empty() && matches!(result, Err(UndoError::Write { .. })), "{result:?}");
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
    }

    #[test]
    fn what_cannot_be_undone_stays_in_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("undo.json");
        let mut file = UndoFile::open(&record).unwrap();
        let changes = vec![changes::command("true", "false"), changes::command("true", "true")];
        assert!(file.apply(&finding(changes)).1.is_ok());
        let undone = file.undo();
        assert_eq!(undone.iter().map(|(_, result)| result.is_ok()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(UndoFile::open(&record).unwrap().applied.len(), 1);
        fs::write(&record, "{").unwrap();
        assert!(UndoFile::open(&record).unwrap_err().to_string().contains("--undo-file"));
    }
}
