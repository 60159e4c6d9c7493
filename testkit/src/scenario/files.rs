//! Files of a scenario that is being played: lists, to which its configuration refers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fs, io};

use tempfile::TempDir;
use toml::{Table, Value};

use super::{Scenario, parse};

/// File that a scenario brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileText {
    /// Name in the scenario. The configuration refers to the file by the name in braces.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Folder with the files of a scenario, and the addresses of its upstreams.
pub struct Files {
    folder: TempDir,
    upstreams: Vec<SocketAddr>,
}

impl Files {
    /// Creates the folder, with the files that the scenario begins with.
    pub fn create(scenario: &Scenario, upstreams: &[SocketAddr]) -> io::Result<Files> {
        let folder = tempfile::Builder::new().prefix("ringdns-scenario-").tempdir()?;
        let files = Files { folder, upstreams: upstreams.to_vec() };
        scenario.files.iter().try_for_each(|file| files.write(file))?;
        Ok(files)
    }

    /// Returns the path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(super) fn write(&self, file: &FileText) -> io::Result<()> {
        fs::write(self.path(&file.name), &file.bytes)
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    /// Returns a whole configuration: `base`, the changes of a scenario, the upstreams' addresses in
    /// place of their letters, and the files' paths in place of their names.
    pub fn configuration(&self, base: &str, changes: &Table) -> String {
        let base: Table = base.parse().expect("the base is TOML");
        let mut changes = Value::Table(changes.clone());
        self.fill(&mut changes);
        match changes {
            Value::Table(changes) => parse::merged(base, changes, &self.upstreams),
            _ => base.to_string(),
        }
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(|value| self.fill(value)),
            Value::Table(table) => table.iter_mut().for_each(|(_, value)| self.fill(value)),
            Value::String(text) => {
                if let Some(name) = placeholder(text) {
                    *text = self.path(name).display().to_string();
                }
            }
            _ => {}
        }
    }
}

/// Returns the name of the file that a value stands for.
pub(super) fn placeholder(text: &str) -> Option<&str> {
    text.strip_prefix('{')?.strip_suffix('}')
}
