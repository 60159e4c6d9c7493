//! Record of changes, from which they are undone.

use crate::{
    access::Access,
    nic,
    steps::{self, StepError},
};
use ringdns_api::{Change, Finding, Step};
use ringdns_common::files;
use rustix::{fs::OFlags, process::geteuid};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
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
    /// The file belongs to another user.
    #[error(
        "{path} belongs to another user, whose commands would be run as this one. Move it away, or give another with --undo-file"
    )]
    Foreign {
        /// Path.
        path: PathBuf,
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
    /// A change resets the NIC, which ringdnsd uses.
    #[error("it resets the NIC: stop ringdnsd first")]
    Running,
    /// A change resets the NIC by which the operator may have come.
    #[error("it resets the NIC, and {0}: give --reset-link if you have another way, such as a console")]
    Access(String),
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
    /// Whether the change resets the NIC.
    pub resets_link: bool,
    /// ID of the boot of this host in which the change was made.
    pub boot: String,
}

impl Applied {
    /// Returns the interface of a change by `ethtool`.
    pub fn interface(&self) -> Option<&str> {
        match &self.change.undo {
            Step::Run(words) if words.first()? == "ethtool" => words.get(2).map(String::as_str),
            _ => None,
        }
    }
}

/// Returns the reason why a NIC is not reset, if there is one. `access`: ways that are not to be lost.
pub fn reset_refused(is_running: bool, access: Option<&Access>) -> Option<UndoError> {
    if is_running {
        return Some(UndoError::Running);
    }
    access?.risk().map(UndoError::Access)
}

/// Returns the ID of this boot of the host.
fn boot() -> String {
    nic::text(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default()
}

/// File with the changes in force, in the order in which they were made.
#[derive(Debug)]
pub struct UndoFile {
    path: PathBuf,
    applied: Vec<Applied>,
}

impl UndoFile {
    /// Reads the file. No file: no change is in force. A restart of the host undoes all changes; a number of an
    /// interrupt, for example, may be that of another device then.
    pub fn open(path: &Path) -> Result<Self, UndoError> {
        let failed = |source| UndoError::Read { path: path.to_owned(), source };
        // Commands are read from it, so neither a link nor a file of another user will do.
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut applied: Vec<Applied> = Vec::new();
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(mut file) => {
                if file.metadata().map_err(failed)?.uid() != geteuid().as_raw() {
                    return Err(UndoError::Foreign { path: path.to_owned() });
                }
                let mut text = Vec::new();
                file.read_to_end(&mut text).map_err(failed)?;
                applied = serde_json::from_slice(&text)
                    .map_err(|source| UndoError::Broken { path: path.to_owned(), source })?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
        let boot = boot();
        applied.retain(|change| change.boot == boot);
        Ok(UndoFile { path: path.to_owned(), applied })
    }

    /// Makes the changes of a finding, each after its undoing was written down. Returns those that were made;
    /// the rest is left when one fails.
    pub fn apply(&mut self, finding: &Finding) -> (Vec<Change>, Result<(), UndoError>) {
        let mut made = Vec::new();
        let Some(fix) = &finding.fix else { return (made, Ok(())) };
        for change in &fix.changes {
            let applied = Applied {
                check: finding.check.clone(),
                change: change.clone(),
                resets_link: fix.resets_link,
                boot: boot(),
            };
            // Something else has undone it, such as a driver that was loaded again.
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

    /// Undoes all changes, the last one first, but for those that reset a NIC and are refused. Goes on after a
    /// failure; those that were not undone stay in the file.
    pub fn undo(
        &mut self,
        refused: impl Fn(&Applied) -> Option<UndoError>,
    ) -> Vec<(Applied, Result<(), UndoError>)> {
        let mut results = Vec::new();
        let mut left = Vec::new();
        while let Some(applied) = self.applied.pop() {
            let result = match applied.resets_link.then(|| refused(&applied)).flatten() {
                Some(reason) => Err(reason),
                None => steps::perform(&applied.change.undo).map_err(UndoError::from),
            };
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
        assert!(file.undo(|_| None).iter().all(|(_, result)| result.is_ok()));
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
        assert!(!record.exists(), "nothing is in force");
        assert!(file.undo(|_| None).is_empty());
    }

    #[test]
    fn a_change_that_something_else_has_undone_is_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "undo.json"].map(|name| folder.path().join(name));
        let mut file = UndoFile::open(&record).unwrap();
        for _ in 0..2 {
            fs::write(&value, "1").unwrap();
            assert!(file.apply(&finding(vec![changes::value(&value, "1", "2")])).1.is_ok());
        }
        assert_eq!(file.undo(|_| None).len(), 1);
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
    }

    #[test]
    fn a_restart_of_the_host_undoes_all() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "undo.json"].map(|name| folder.path().join(name));
        fs::write(&value, "1").unwrap();
        let mut file = UndoFile::open(&record).unwrap();
        assert!(file.apply(&finding(vec![changes::value(&value, "1", "2")])).1.is_ok());
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace(&boot(), "another")).unwrap();
        let mut file = UndoFile::open(&record).unwrap();
        assert!(file.undo(|_| None).is_empty() && !record.exists());
        assert_eq!(fs::read_to_string(&value).unwrap(), "2");
    }

    #[test]
    fn a_reset_of_the_nic_waits_for_the_end_of_ringdnsd() {
        let folder = tempfile::tempdir().unwrap();
        let [value, record] = ["value", "undo.json"].map(|name| folder.path().join(name));
        fs::write(&value, "1").unwrap();
        let mut file = UndoFile::open(&record).unwrap();
        let fix = Some(Fix { changes: vec![changes::value(&value, "1", "2")], resets_link: true });
        assert!(file.apply(&Finding { fix, ..finding(Vec::new()) }).1.is_ok());
        assert!(matches!(file.undo(|_| Some(UndoError::Running))[0].1, Err(UndoError::Running)));
        assert_eq!(fs::read_to_string(&value).unwrap(), "2");
        assert!(UndoFile::open(&record).unwrap().undo(|_| None)[0].1.is_ok());
        assert_eq!(fs::read_to_string(&value).unwrap(), "1");
    }

    #[test]
    fn a_reset_of_the_operators_nic_is_refused() {
        let access = |interface: &str| Access {
            interfaces: vec!["eth1".into()],
            default_routes: vec![interface.into()],
            ..Access::default()
        };
        assert!(matches!(reset_refused(true, None), Some(UndoError::Running)));
        assert!(
            reset_refused(false, None).is_none() && reset_refused(false, Some(&access("eth0"))).is_none()
        );
        let reason = reset_refused(false, Some(&access("eth1"))).unwrap().to_string();
        assert!(reason.contains("eth1 has the default route") && reason.contains("--reset-link"), "{reason}");
        let applied = |change| Applied { check: "rings".into(), change, resets_link: true, boot: boot() };
        let rings = changes::command("ethtool -G eth1 rx 2048", "ethtool -G eth1 rx 512");
        assert_eq!(applied(rings).interface(), Some("eth1"));
        assert_eq!(applied(changes::value("/proc/irq/1", "1", "2")).interface(), None);
    }

    #[test]
    fn a_link_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "undo.json"].map(|name| folder.path().join(name));
        fs::write(&file, "[]").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(UndoFile::open(&file).is_ok());
        assert!(matches!(UndoFile::open(&link), Err(UndoError::Read { .. })));
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
        let undone = file.undo(|_| None);
        assert_eq!(undone.iter().map(|(_, result)| result.is_ok()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(UndoFile::open(&record).unwrap().applied.len(), 1);
        fs::write(&record, "{").unwrap();
        assert!(UndoFile::open(&record).unwrap_err().to_string().contains("--undo-file"));
    }
}
