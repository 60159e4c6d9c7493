//! Settings of a configuration as written: with defaults, without secrets, and compared with others.

use crate::{table::TableDoc, tables::RawConfig};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};
use toml::{Table, Value};

/// Text in place of a secret.
const HIDDEN: &str = "***";

/// Tables whose changes need a restart, and why.
const RESTART: [(&str, &str); 13] = [
    ("server", "sockets, rings and workers are made at the start"),
    ("cache", "the memory of the caches is divided at the start"),
    ("refresh", "sweeps and the budget of renewals begin with the start"),
    ("redis", "the connection to Redis is made for the time until a restart"),
    ("tcp", "the TCP listeners get their limits at the start"),
    ("names", "addresses are recorded from the start on"),
    ("nftset", "the sets are checked and opened at the start"),
    ("query_log", "workers get the memory of their rows at the start"),
    ("clickhouse", "the tables and the connection are made at the start"),
    ("dnstap", "workers get the memory of their packets at the start"),
    ("client_names", "clients had no names at the start, so the rows of the log have no room for them"),
    ("control", "the sockets of the API are opened at the start"),
    ("sandbox", "ringdnsd limits itself once, at its start"),
];

/// A key whose values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the key. Repeated tables have their names or addresses: `upstream[192.0.2.1:53].timeout`.
    pub key: String,
    /// Value before, as in a file, or the default. `None`: it is absent.
    pub before: Option<String>,
    /// Value after.
    pub after: Option<String>,
}

impl Difference {
    /// Returns the table that the key is in.
    pub fn table(&self) -> &str {
        self.key.split(['.', '[']).next().unwrap_or_default()
    }
}

/// Returns the reason why a change of a table needs a restart. `None`: a reload applies it.
pub fn restart_reason(table: &str) -> Option<&'static str> {
    RESTART.iter().find(|(name, _)| *name == table).map(|(_, reason)| *reason)
}

/// Returns the names of all tables.
pub fn table_names() -> Vec<&'static str> {
    RawConfig::tables().iter().map(name_of).collect()
}

/// Whether a table may be repeated.
pub fn is_repeated(table: &str) -> bool {
    RawConfig::tables().iter().any(|doc| doc.header == format!("[[{table}]]"))
}

/// Returns tables as written with the defaults of absent keys.
pub fn with_defaults(written: &Table) -> Table {
    let mut complete = Table::new();
    for doc in RawConfig::tables() {
        let value = written.get(name_of(&doc));
        let value = match value {
            Some(Value::Array(list)) => {
                list.iter().map(|one| completed(&doc, one.as_table())).collect::<Vec<_>>().into()
            }
            _ if is_repeated(name_of(&doc)) => continue,
            value => completed(&doc, value.and_then(Value::as_table)),
        };
        complete.insert(name_of(&doc).to_owned(), value);
    }
    complete
}

/// Returns tables without users, passwords and parameters in URLs.
pub fn masked(tables: &Table) -> Table {
    tables.iter().map(|(key, value)| (key.clone(), masked_value(value))).collect()
}

/// Returns complete tables as the text of a file, in the order of the reference. Keys that are not in
/// `written` are marked as defaults.
pub fn text(complete: &Table, written: &Table) -> String {
    let mut text = String::new();
    for doc in RawConfig::tables() {
        let (complete, written) = (complete.get(name_of(&doc)), written.get(name_of(&doc)));
        match complete {
            Some(Value::Array(list)) => {
                for (i, one) in list.iter().enumerate() {
                    let written = written.and_then(|list| list.get(i));
                    table_text(&doc, one.as_table(), written.and_then(Value::as_table), &mut text);
                }
            }
            one => {
                let written = written.and_then(Value::as_table);
                table_text(&doc, one.and_then(Value::as_table), written, &mut text);
            }
        }
    }
    text
}

/// Returns the keys whose values differ between two configurations as written, without secrets.
pub fn differences(before: &Table, after: &Table) -> Vec<Difference> {
    let mut differences = Vec::new();
    for doc in RawConfig::tables() {
        let name = name_of(&doc);
        let (before, after) = (before.get(name), after.get(name));
        if before == after {
            continue;
        }
        if is_repeated(name) {
            list_differences(&doc, before, after, &mut differences);
        } else {
            let [before, after] = [before, after].map(|value| value.and_then(Value::as_table));
            key_differences(&doc, name, before, after, &mut differences);
        }
    }
    differences
}

/// Compares tables that may be repeated.
fn list_differences(
    doc: &TableDoc,
    before: Option<&Value>,
    after: Option<&Value>,
    differences: &mut Vec<Difference>,
) {
    let name = name_of(doc);
    let [(before, old_order), (after, new_order)] = [before, after].map(named);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for label in names {
        let key = format!("{name}[{label}]");
        match (before.get(label), after.get(label)) {
            (Some(before), Some(after)) => key_differences(doc, &key, Some(before), Some(after), differences),
            (before, after) => {
                let [before, after] = [before, after].map(|table| {
                    table.map(|table| masked_value(&Value::Table((*table).clone())).to_string())
                });
                differences.push(Difference { key, before, after });
            }
        }
    }
    let common = |order: &[String], other: &BTreeMap<String, &Table>| -> Vec<String> {
        order.iter().filter(|label| other.contains_key(*label)).cloned().collect()
    };
    let (old_order, new_order) = (common(&old_order, &after), common(&new_order, &before));
    if old_order != new_order {
        let [before, after] = [old_order, new_order].map(|order| Some(order.join(", ")));
        differences.push(Difference { key: name.to_owned(), before, after });
    }
}

/// Returns repeated tables by their names, addresses or numbers, and the order of these.
fn named(list: Option<&Value>) -> (BTreeMap<String, &Table>, Vec<String>) {
    let (mut tables, mut order) = (BTreeMap::new(), Vec::new());
    let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for table in list.iter().filter_map(Value::as_table) {
        let word = |key| table.get(key).and_then(Value::as_str);
        let words = [word("name").or_else(|| word("address")), word("type")];
        let label = words.into_iter().flatten().map(masked_text).collect::<Vec<_>>().join(" ");
        let is_free = |label: &String| !label.is_empty() && !tables.contains_key(label);
        let numbered = (0..).map(|n| format!("{label}#{n}")).find(|label| !tables.contains_key(label));
        let label = Some(label).filter(is_free).or(numbered).unwrap_or_default();
        order.push(label.clone());
        tables.insert(label, table);
    }
    (tables, order)
}

/// Compares the keys of a table. Keys that the reference does not have are not compared.
fn key_differences(
    doc: &TableDoc,
    path: &str,
    before: Option<&Table>,
    after: Option<&Table>,
    differences: &mut Vec<Difference>,
) {
    for key in &doc.keys {
        let [old, new] = [before, after].map(|table| table.and_then(|table| table.get(key.name)));
        if old != new {
            let default = || key.default.clone().filter(|default| default != "[]");
            let shown = |value: Option<&Value>| match value {
                Some(value) => Some(masked_value(value).to_string()),
                None => default().map(|default| format!("{default} (default)")),
            };
            let key = format!("{path}.{}", key.name);
            differences.push(Difference { key, before: shown(old), after: shown(new) });
        }
    }
}

/// Returns a table with the defaults of its keys.
fn completed(doc: &TableDoc, written: Option<&Table>) -> Value {
    let default = |text: &str| toml::from_str::<Table>(&format!("value = {text}")).ok()?.remove("value");
    let value = |key: &crate::table::KeyDoc| {
        let given = written.and_then(|table| table.get(key.name)).cloned();
        given.or_else(|| default(key.default.as_deref()?))
    };
    doc.keys.iter().filter_map(|key| Some((key.name.to_owned(), value(key)?))).collect::<Table>().into()
}

fn table_text(doc: &TableDoc, table: Option<&Table>, written: Option<&Table>, text: &mut String) {
    let Some(table) = table.filter(|table| !table.is_empty()) else { return };
    if !text.is_empty() {
        text.push('\n');
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", doc.header);
    for key in &doc.keys {
        if let Some(value) = table.get(key.name) {
            let is_written = written.is_some_and(|written| written.contains_key(key.name));
            let _ = writeln!(text, "{} = {value}{}", key.name, if is_written { "" } else { "  # default" });
        }
    }
}

fn name_of(doc: &TableDoc) -> &'static str {
    doc.header.trim_matches(['[', ']'])
}

fn masked_value(value: &Value) -> Value {
    match value {
        Value::String(text) => masked_text(text).into(),
        Value::Array(list) => list.iter().map(masked_value).collect::<Vec<_>>().into(),
        Value::Table(table) => masked(table).into(),
        other => other.clone(),
    }
}

/// Returns the user and the password of a URL, from what follows its `://`.
pub fn user_info(rest: &str) -> Option<&str> {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let last = rest.rfind('@')?;
    // A password may have an unescaped slash.
    let is_whole = last < authority || rest[..last].contains(':');
    Some(&rest[..if is_whole { last } else { rest[..authority].rfind('@')? }])
}

/// Returns a text without what is between `://` and `@`, and without what follows `?`, if it is a URL.
fn masked_text(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = match user_info(rest) {
        // The user alone may be a token.
        Some(secret) => format!("{HIDDEN}{}", &rest[secret.len()..]),
        None => rest.to_owned(),
    };
    let rest = match rest.split_once('?') {
        Some((before, _)) => format!("{before}?{HIDDEN}"),
        None => rest,
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, project_file};

    fn tables(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_text_with_defaults_is_a_configuration_of_the_same_meaning() {
        for file in [MINIMAL.to_owned(), project_file("deploy/ringdns.toml")] {
            let written = tables(&file);
            let text = text(&with_defaults(&written), &written);
            let [mut one, mut other] = [&file, &text].map(|text| crate::testing::parse(text).unwrap());
            // That the file gives the sizes is the only difference.
            for config in [&mut one, &mut other] {
                (config.cache.worker_given, config.cache.host_given) = (false, false);
            }
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "{text}");
            assert!(text.contains("max_ttl = \"1d\"  # default\n"), "{text}");
            assert!(!text.lines().any(|line| line.starts_with("listen =") && line.contains('#')), "{text}");
        }
    }

    #[test]
    fn secrets_are_hidden() {
        for (text, shown) in [
            ("redis://user:hush@h:6379/0", "redis://***@h:6379/0"),
            ("redis://:hush@h", "redis://***@h"),
            ("redis://:hu/sh@h", "redis://***@h"),
            ("https://hush@lists.example/a", "https://***@lists.example/a"),
            ("https://hush%40sh:@lists.example", "https://***@lists.example"),
            ("https://hush@lists.example/@a", "https://***@lists.example/@a"),
            ("https://lists.example/@a", "https://lists.example/@a"),
            ("https://lists.example/a?token=hush", "https://lists.example/a?***"),
            ("https://lists.example/a", "https://lists.example/a"),
            ("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
            ("user@corp", "user@corp"),
        ] {
            assert_eq!(masked_text(text), shown);
        }
        let written = tables("[redis]\nurl = \"redis://:hush@h\"\ncluster = [\"redis://:hush@i\"]\n");
        let other = tables("[redis]\nurl = \"redis://:other@h\"\n");
        assert!(!masked(&written).to_string().contains("hush"));
        let differences = differences(&written, &other);
        assert_eq!(differences.len(), 2, "a changed password is a difference: {differences:?}");
        assert!(!format!("{differences:?}").contains("hush"), "{differences:?}");
    }

    #[test]
    fn differences_are_told_key_by_key_and_by_name() {
        let before = tables(
            "[cache]\nmax_ttl = \"1h\"\n[[upstream]]\naddress = \"a\"\n[[upstream]]\naddress = \"b\"\ntimeout = \"1s\"\n",
        );
        let after = tables(
            "[cache]\nmin_ttl = \"5s\"\n[[upstream]]\naddress = \"c\"\n[[upstream]]\naddress = \"b\"\n[[upstream]]\naddress = \"a\"\n",
        );
        let found = differences(&before, &after);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.key.as_str(), one.before.as_deref(), one.after.as_deref(), one.table()))
            .collect();
        assert_eq!(
            found,
            [
                ("upstream[b].timeout", Some("\"1s\""), Some("\"800ms\" (default)"), "upstream"),
                ("upstream[c]", None, Some("{ address = \"c\" }"), "upstream"),
                ("upstream", Some("a, b"), Some("b, a"), "upstream"),
                ("cache.min_ttl", Some("\"0s\" (default)"), Some("\"5s\""), "cache"),
                ("cache.max_ttl", Some("\"1h\""), Some("\"1d\" (default)"), "cache"),
            ]
        );
        assert_eq!(differences(&before, &before), []);
        assert!(RESTART.iter().all(|(table, _)| table_names().contains(table)));
    }
}
