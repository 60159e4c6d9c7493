//! Configuration that an import makes piece by piece, each piece with its line in the other file.

use crate::ImportError;
use ringdns_config::{Config, ConfigError, Problem, settings};
use std::{collections::BTreeSet, fmt::Write, path::Path};
use toml::Value;

/// Address that is listened on if the other file names none.
const LISTEN: &str = "127.0.0.1:53";

/// Most rounds in which refused values are taken out. Each takes out the problems that are found, up to a
/// hundred.
const ROUNDS_MAX: usize = 4;

/// Most values of a configuration that is imported: each round reads all of them.
const PIECES_MAX: usize = 20_000;

/// Result of an import.
#[derive(Debug)]
pub struct Imported {
    /// Configuration of ringdns, which is accepted by it.
    pub toml: String,
    /// Number of lines of the other file that became keys.
    pub mapped: usize,
    /// Lines that did not, in their order.
    pub unmapped: Vec<Unmapped>,
}

/// Line of the other file that has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmapped {
    /// Line, from 1.
    pub line: usize,
    /// Key in the other file.
    pub key: String,
    /// Reason, and what to do instead.
    pub reason: String,
}

/// Value with its line in the other file; line 0: it is from nowhere.
#[derive(Clone, Debug)]
struct Piece {
    value: Value,
    line: usize,
}

/// Key and its values. A list has one piece an element.
#[derive(Clone, Debug)]
struct Entry {
    key: &'static str,
    pieces: Vec<Piece>,
    is_list: bool,
}

/// Table of the configuration.
#[derive(Clone, Debug, Default)]
struct DraftTable {
    name: &'static str,
    entries: Vec<Entry>,
}

/// Table of a draft, by its place.
#[derive(Clone, Copy, Debug)]
pub struct TableId(usize);

/// Configuration in the making.
#[derive(Debug, Default)]
pub struct Draft {
    tables: Vec<DraftTable>,
    mapped: BTreeSet<usize>,
    unmapped: BTreeSet<Unmapped>,
}

impl Draft {
    /// Adds a table that may be repeated.
    pub fn add(&mut self, name: &'static str) -> TableId {
        self.tables.push(DraftTable { name, entries: Vec::new() });
        TableId(self.tables.len() - 1)
    }

    /// Sets a key of a table that is there once. A later line wins.
    pub fn set(&mut self, table: &'static str, key: &'static str, value: impl Into<Value>, line: usize) {
        let id = self.single(table);
        self.put(id, key, value, line);
    }

    /// Appends to the list of a table that is there once.
    pub fn push(&mut self, table: &'static str, key: &'static str, value: impl Into<Value>, line: usize) {
        let id = self.single(table);
        self.append(id, key, value, line);
    }

    /// Sets a key.
    pub fn put(&mut self, TableId(id): TableId, key: &'static str, value: impl Into<Value>, line: usize) {
        self.mapped.insert(line);
        let piece = Piece { value: value.into(), line };
        if let Some(table) = self.tables.get_mut(id) {
            table.entries.retain(|entry| entry.key != key);
            table.entries.push(Entry { key, pieces: vec![piece], is_list: false });
        }
    }

    /// Appends to a list, unless the value is in it.
    pub fn append(&mut self, TableId(id): TableId, key: &'static str, value: impl Into<Value>, line: usize) {
        self.mapped.insert(line);
        let piece = Piece { value: value.into(), line };
        let Some(table) = self.tables.get_mut(id) else { return };
        match table.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) if entry.pieces.iter().any(|other| other.value == piece.value) => {}
            Some(entry) => entry.pieces.push(piece),
            None => table.entries.push(Entry { key, pieces: vec![piece], is_list: true }),
        }
    }

    /// Reports a line that has no counterpart.
    pub fn skip(&mut self, line: usize, key: impl Into<String>, reason: impl Into<String>) {
        self.unmapped.insert(Unmapped { line, key: key.into(), reason: reason.into() });
    }

    /// Notes that a line needs no key: ringdns does what it says by default.
    pub fn is_default(&mut self, line: usize) {
        self.mapped.insert(line);
    }

    /// Whether a table has a key.
    pub fn has(&self, name: &str, key: &str) -> bool {
        self.with(name, key).is_some()
    }

    /// Returns the first table of a name that has a key.
    pub fn with(&self, name: &str, key: &str) -> Option<TableId> {
        let has =
            |table: &DraftTable| table.name == name && table.entries.iter().any(|entry| entry.key == key);
        self.tables.iter().position(has).map(TableId)
    }

    fn single(&mut self, name: &'static str) -> TableId {
        match self.tables.iter().position(|table| table.name == name) {
            Some(at) => TableId(at),
            None => self.add(name),
        }
    }

    /// Returns the configuration, without what ringdns refuses of it.
    pub fn finish(mut self, name: &str) -> Result<Imported, ImportError> {
        let entries = self.tables.iter().flat_map(|table| &table.entries);
        let pieces: usize = entries.map(|entry| entry.pieces.len()).sum();
        if pieces > PIECES_MAX {
            return Err(ImportError::Values(pieces));
        }
        if !self.has("server", "listen") {
            self.push("server", "listen", LISTEN, 0);
        }
        let mut rounds = 0;
        while let Err(refusal) = Config::parse(&self.text(name), Path::new(name)) {
            rounds += 1;
            let ConfigError::Refused { problems, .. } = refusal else { break };
            if rounds > ROUNDS_MAX {
                let first = problems.into_iter().next().map(|placed| placed.problem);
                return Err(ImportError::Refused(
                    first.map(|problem| problem.to_string()).unwrap_or_default(),
                ));
            }
            // From the end, so that the numbers before stay as they are.
            for placed in problems.into_iter().rev() {
                self.remove(placed.problem);
            }
        }
        self.mapped.remove(&0);
        for unmapped in &self.unmapped {
            self.mapped.remove(&unmapped.line);
        }
        let (toml, mapped) = (self.text(name), self.mapped.len());
        Ok(Imported { toml, mapped, unmapped: self.unmapped.into_iter().collect() })
    }

    /// Takes out what a problem is about.
    fn remove(&mut self, problem: Problem) {
        if problem.key == "upstream" {
            // An upstream for all other names: the one that asks for the least change.
            let upstream = self.add("upstream");
            return self.put(upstream, "address", "127.0.0.1:5335", 0);
        }
        let (path, key) = problem.key.split_once('.').unwrap_or((&problem.key, ""));
        let (name, number) = match path.split_once('[') {
            Some((name, number)) => (name, number.trim_end_matches(']').parse().unwrap_or(0)),
            None => (path, 0),
        };
        let (key, element) = match key.split_once('[') {
            Some((key, element)) => (key, element.trim_end_matches(']').parse::<usize>().ok()),
            None => (key, None),
        };
        let reason = format!("{}. {}", problem.reason, problem.remedy);
        let Some(at) = self.nth(name, number) else { return };
        let table = &mut self.tables[at];
        let Some(entry) = table.entries.iter_mut().find(|entry| entry.key == key) else {
            // The table lacks something: all of it goes.
            let table = self.tables.remove(at);
            for entry in table.entries {
                self.drop_pieces(name, entry.key, &entry.pieces, &reason);
            }
            return;
        };
        let gone: Vec<Piece> = match element.filter(|element| *element < entry.pieces.len()) {
            Some(element) => vec![entry.pieces.remove(element)],
            None => std::mem::take(&mut entry.pieces),
        };
        if entry.pieces.is_empty() {
            let key = entry.key;
            table.entries.retain(|entry| entry.key != key);
        }
        self.drop_pieces(name, key, &gone, &reason);
        if name == "server" && key == "listen" && !self.has("server", "listen") {
            self.push("server", "listen", LISTEN, 0);
        }
    }

    fn drop_pieces(&mut self, table: &str, key: &str, pieces: &[Piece], reason: &str) {
        for piece in pieces.iter().filter(|piece| piece.line > 0) {
            self.skip(
                piece.line,
                format!("{table}.{key}"),
                format!("ringdns refuses {}: {reason}", piece.value),
            );
        }
    }

    /// Returns the place of the nth table of a name.
    fn nth(&self, name: &str, number: usize) -> Option<usize> {
        let of = self.tables.iter().enumerate().filter(|(_, table)| table.name == name);
        of.map(|(at, _)| at).nth(number)
    }

    /// Returns the text, in the order of the reference, with the origin of each key.
    fn text(&self, name: &str) -> String {
        // A line of its own: a name may have line feeds.
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let mut text = format!("# Imported from {name}\n");
        for table in settings::table_names() {
            for draft in self.tables.iter().filter(|draft| draft.name == table) {
                if draft.entries.is_empty() && !settings::is_repeated(table) {
                    continue;
                }
                let header =
                    if settings::is_repeated(table) { format!("[[{table}]]") } else { format!("[{table}]") };
                // Writing to a string cannot fail.
                let _ = writeln!(text, "\n{header}");
                draft.entries.iter().for_each(|entry| write_entry(entry, &mut text));
            }
        }
        text
    }
}

fn origin(line: usize) -> String {
    if line == 0 { "not in the file: check it".to_owned() } else { format!("line {line}") }
}

fn write_entry(entry: &Entry, text: &mut String) {
    let Entry { key, pieces, is_list } = entry;
    // Writing to a string cannot fail.
    let _ = match &pieces[..] {
        [] => Ok(()),
        [one] if *is_list => writeln!(text, "{key} = [{}]  # {}", one.value, origin(one.line)),
        [one] if !is_list => writeln!(text, "{key} = {}  # {}", one.value, origin(one.line)),
        many => {
            let _ = writeln!(text, "{key} = [");
            for piece in many {
                let _ = writeln!(text, "    {},  # {}", piece.value, origin(piece.line));
            }
            writeln!(text, "]")
        }
    };
}
