//! Record of the changes to the machine, and their undoing.

use anyhow::{Context, Result, ensure};
use ringdns_api::{Change, Step};
use ringdns_doctor::steps::{self, perform};
use std::{fs, path::Path};

/// Changes in force. Dropping this undoes them, the last one first.
#[derive(Debug, Default)]
pub struct PutBack {
    undos: Vec<Step>,
}

impl PutBack {
    /// Writes `value` into a kernel file, and records its former value: the last word of its text,
    /// as in "/autogroup-135 nice 0". Does nothing if the file has that value already.
    pub fn write(&mut self, path: &Path, value: &str) -> Result<()> {
        let before = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let before = before.trim().rsplit(' ').next().unwrap_or_default();
        if before == value {
            return Ok(());
        }
        fs::write(path, value).with_context(|| format!("cannot write {value} to {}", path.display()))?;
        self.undos.push(Step::Write { path: path.into(), text: before.into() });
        Ok(())
    }

    /// Makes a change, and records its undoing. A change that failed is not undone.
    pub fn make(&mut self, change: &Change) -> Result<()> {
        perform(&change.make)?;
        self.undos.push(change.undo.clone());
        Ok(())
    }

    /// Runs `change`, and records `undo` as its undoing. A change that failed is not undone.
    pub fn run(&mut self, change: &[&str], undo: &[&str]) -> Result<()> {
        run(change)?;
        self.undo_later(undo);
        Ok(())
    }

    /// Records `undo` as the undoing of a change that something else makes.
    pub fn undo_later(&mut self, undo: &[&str]) {
        self.undos.push(Step::Run(undo.iter().map(|word| (*word).to_owned()).collect()));
    }

    /// Undoes all changes, the last one first. Continues after a failure, and returns all failures.
    pub fn put_back(&mut self) -> Result<()> {
        let mut failed = Vec::new();
        while let Some(undo) = self.undos.pop() {
            if let Err(error) = perform(&undo) {
                failed.push(format!("{undo}   ({error})"));
            }
        }
        ensure!(
            failed.is_empty(),
            "some changes could not be undone; undo them by hand:\n  {}",
            failed.join("\n  ")
        );
        Ok(())
    }
}

impl Drop for PutBack {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            eprintln!("{error:#}");
        }
    }
}

/// Runs a command that prints nothing when it succeeds.
pub fn run(words: &[&str]) -> Result<()> {
    Ok(steps::run(words)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a script that writes a word into a log.
    fn say(word: &str, log: &Path) -> String {
        format!("echo {word} >> {}", log.display())
    }

    #[test]
    fn changes_are_undone_in_reverse_order_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (setting, log) = (folder.path().join("threaded"), folder.path().join("log"));
        fs::write(&setting, "/autogroup-135 nice 0\n").unwrap();
        {
            let mut put_back = PutBack::default();
            put_back.run(&["sh", "-c", &say("up", &log)], &["sh", "-c", &say("down", &log)]).unwrap();
            put_back.write(&setting, "1").unwrap();
            put_back.run(&["sh", "-c", &say("on", &log)], &["sh", "-c", &say("off", &log)]).unwrap();
            assert_eq!(fs::read_to_string(&setting).unwrap(), "1");
        }
        assert_eq!(fs::read_to_string(&log).unwrap(), "up\non\noff\ndown\n");
        assert_eq!(fs::read_to_string(&setting).unwrap(), "0");
    }

    #[test]
    fn what_is_as_it_shall_be_and_what_failed_is_not_undone() {
        let folder = tempfile::tempdir().unwrap();
        let (setting, log) = (folder.path().join("defer"), folder.path().join("log"));
        fs::write(&setting, "2\n").unwrap();
        let mut put_back = PutBack::default();
        put_back.write(&setting, "2").unwrap();
        assert_eq!(fs::read_to_string(&setting).unwrap(), "2\n", "it was not written");
        assert!(put_back.run(&["false"], &["sh", "-c", &say("undone", &log)]).is_err());
        assert!(put_back.write(&folder.path().join("none"), "1").is_err());
        drop(put_back);
        assert!(!log.exists());
    }

    #[test]
    fn one_failure_leaves_the_others_to_be_undone_and_is_told_as_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let (setting, gone) = (folder.path().join("mtu"), folder.path().join("gone"));
        fs::write(&setting, "1500").unwrap();
        fs::write(&gone, "7").unwrap();
        let mut put_back = PutBack::default();
        put_back.write(&setting, "3000").unwrap();
        put_back.write(&gone, "8").unwrap();
        fs::remove_file(&gone).unwrap();
        fs::create_dir(&gone).unwrap();
        let error = put_back.put_back().unwrap_err().to_string();
        assert!(error.contains(&format!("echo 7 > {}", gone.display())), "{error}");
        assert_eq!(fs::read_to_string(&setting).unwrap(), "1500");
        put_back.put_back().unwrap();
    }
}
