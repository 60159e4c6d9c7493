//! Tables of a configuration, by which a reload finds what has changed.

use crate::lists;
use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Read},
    path::Path,
};
use toml::{Table, Value};

/// Tables whose files ringdnsd writes itself, or reads again on each connection: a reload need not
/// compare their contents.
const KEPT_UP: [&str; 3] = ["cache", "redis", "clickhouse"];

/// Keys of files that ringdnsd writes itself, in tables whose other files matter.
const WRITTEN: [&str; 2] = ["managed_anchor_file", "overrides_file"];

/// Tables of a configuration as written, with hashes of the files that they name, where their
/// contents matter.
#[derive(Default)]
pub struct Tables {
    /// Tables with hashes.
    tables: Table,
    /// Tables without them.
    written: Table,
    pub hasher: RandomState,
}

impl Tables {
    /// Returns the tables of a text. For an invalid text there are none, so that it differs from
    /// any valid one.
    pub fn of(text: &str, hasher: &RandomState) -> Self {
        let written: Table = toml::from_str(text).unwrap_or_default();
        let mut tables = written.clone();
        let fixed = tables.iter_mut().filter(|(name, _)| !KEPT_UP.contains(&name.as_str()));
        fixed.for_each(|(_, value)| with_files(value, hasher));
        Tables { tables, written, hasher: hasher.clone() }
    }

    /// Returns the tables as written.
    pub fn written(&self) -> &Table {
        &self.written
    }

    /// Returns the names of the tables that differ.
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let names = self.tables.keys().chain(other.tables.keys());
        names.filter(|name| self.tables.get(*name) != other.tables.get(*name)).cloned().collect()
    }

    /// Returns the table `control` without its tokens, which are taken over while it runs.
    pub fn without_tokens(&self) -> Table {
        let mut control = self.tables.get("control").and_then(Value::as_table).cloned().unwrap_or_default();
        control.remove("tokens_file");
        control
    }

    /// Replaces some of the tables by those in `new`.
    pub fn take(&mut self, mut new: Self, names: &BTreeSet<String>) {
        for name in names {
            for (tables, new) in [(&mut self.tables, &mut new.tables), (&mut self.written, &mut new.written)]
            {
                match new.remove(name) {
                    Some(table) => drop(tables.insert(name.clone(), table)),
                    None => drop(tables.remove(name)),
                }
            }
        }
    }
}

/// Returns a hash of a file's contents, which it reads piece by piece: lists may be large.
fn hash_of_file(path: &Path, hasher: &RandomState) -> io::Result<u64> {
    let (mut file, mut hash) = (lists::open(path)?, hasher.build_hasher());
    let mut piece = [0; 8 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finish()),
            length => hash.write(&piece[..length]),
        }
    }
}

/// Appends a hash of its contents to the name of a file.
fn with_contents(path: &mut String, hasher: &RandomState) {
    let contents = hash_of_file(Path::new(path), hasher).ok();
    *path = format!("{path} {contents:?}");
}

/// Appends hashes of the contents to the names of files.
fn with_files(value: &mut Value, hasher: &RandomState) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| with_files(value, hasher)),
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| match value {
            Value::String(path)
                if (key.ends_with("_file") || key == "file" || key == "source")
                    && !WRITTEN.contains(&key.as_str()) =>
            {
                with_contents(path, hasher);
            }
            Value::Array(paths) if key == "hosts_files" => {
                for path in paths {
                    if let Value::String(path) = path {
                        with_contents(path, hasher);
                    }
                }
            }
            value => with_files(value, hasher),
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{DATA, LISTS, POLICY, RESOLVER, SAFE_SEARCH},
        *,
    };
    use ringdns_config::settings;
    use std::fs;

    #[test]
    fn a_file_that_ringdnsd_writes_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
        let text = format!("[dnssec]\nmanaged_anchor_file = {ours:?}\ntrust_anchor_file = {theirs:?}\n");
        let before = Tables::of(&text, &RandomState::new());
        fs::write(ours, "new").unwrap();
        assert!(Tables::of(&text, &before.hasher).differences(&before).is_empty());
        fs::write(theirs, "new").unwrap();
        assert!(Tables::of(&text, &before.hasher).differences(&before).contains("dnssec"));
    }
    #[test]
    fn a_table_is_applied_or_has_a_reason() {
        let applied = [&POLICY[..], &RESOLVER, &DATA, &SAFE_SEARCH, &LISTS].concat();
        for table in settings::table_names() {
            let waits = settings::restart_reason(table).is_some();
            assert!(applied.contains(&table) != waits, "{table}");
        }
    }
}
