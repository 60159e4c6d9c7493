//! Removal of secrets, names and addresses.

use percent_encoding::percent_decode_str;
use ringdns_common::mask::mask;
use ringdns_config::settings;
use std::{collections::BTreeSet, fs, path::Path};
use toml::{Table, Value};

/// Text in place of a secret.
const HIDDEN: &str = "[secret]";
/// Text in place of a name.
const NAME: &str = "[name]";

/// Shortest secret that is looked for: shorter words are everywhere.
const SECRET_MIN: usize = 6;

/// Keys that name files with secrets.
const SECRET_FILES: [&str; 6] =
    ["password_file", "tsig_file", "secret_file", "key_file", "tokens_file", "tls_key_file"];

/// Keys of secrets that no configuration has: a file that is refused for one of them may be collected.
const SECRET_KEYS: [&str; 4] = ["password", "passphrase", "secret", "token"];

/// Names of files that are no names of DNS, by their ends. None is a top-level domain, as rs and so are.
const FILES: [&str; 6] = [".toml", ".sock", ".txt", ".conf", ".json", ".service"];

/// Secrets that a configuration names or has.
#[derive(Debug, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Adds the secrets of a configuration, which may have been refused, as far as this user may read them.
    pub fn add_file(&mut self, path: &Path) {
        let Ok(text) = fs::read_to_string(path) else { return };
        self.add_urls(&text);
        if let Ok(tables) = toml::from_str(&text) {
            self.add_files(&Value::Table(tables));
        }
    }

    /// Adds the secrets that keys have, and those in files that keys name.
    pub fn add_files(&mut self, value: &Value) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    match value {
                        Value::String(path) if SECRET_FILES.contains(&key.as_str()) => {
                            self.add_words(&fs::read_to_string(path).unwrap_or_default());
                        }
                        Value::String(text) if SECRET_KEYS.contains(&key.as_str()) => self.add_words(text),
                        value => self.add_files(value),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.add_files(value)),
            _ => {}
        }
    }

    /// Adds the users, passwords and parameters in URLs, as they are and decoded. A user alone may be a token.
    fn add_urls(&mut self, text: &str) {
        for rest in text.split("://").skip(1) {
            let url = rest.split(['"', '\'', '\n']).next().unwrap_or_default();
            let both = settings::user_info(url).unwrap_or_default();
            let (user, password) = both.split_once(':').unwrap_or((both, ""));
            // The last @ may be one of the path.
            let first = password.split('@').next().unwrap_or_default();
            let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
            for secret in [both, user, password, first, parameters] {
                self.add_words(secret);
                self.add_words(&percent_decode_str(secret).decode_utf8_lossy());
            }
        }
    }

    fn add_words(&mut self, text: &str) {
        let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '{' | '}'));
        self.0.extend(words.filter(|word| word.len() >= SECRET_MIN && !is_word(word)).map(str::to_owned));
    }

    /// Returns a text without them.
    pub fn remove(&self, text: &str) -> String {
        // The longest first: one may be a part of another.
        let mut all: Vec<&String> = self.0.iter().collect();
        all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        all.into_iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

/// Whether a word is no secret: algorithms, roles, words of formats, usual names of users.
fn is_word(word: &str) -> bool {
    ["algorithm", "secret", "operate", "default", "ringdns"].contains(&word)
        || word.starts_with("hmac-")
        || word.starts_with("-----")
}

/// Returns a configuration without addresses of clients and names of this network.
pub fn without_clients(tables: &Table) -> Table {
    let mut tables = tables.clone();
    for (table, keys) in [
        ("access", &["allow", "deny"][..]),
        ("rate_limit", &["exempt"]),
        ("client_names", &["ptr_clients"]),
        ("client_group", &["clients"]),
        ("blocklist", &["names"]),
        ("allowlist", &["names"]),
        ("names", &["suffixes"]),
        ("nftset", &["suffixes"]),
        ("query_log", &["exclude_clients", "exclude_names"]),
        ("dnssec", &["insecure"]),
        ("rebinding", &["allow"]),
    ] {
        for one in tables.get_mut(table).into_iter().flat_map(of_table) {
            for key in keys {
                if let Some(Value::Array(list)) = one.get(*key) {
                    let text = left_out(list.len());
                    one.insert((*key).to_owned(), text);
                }
            }
        }
    }
    for table in ["local", "local_record", "local_zone"] {
        if let Some(Value::Array(list)) = tables.get(table) {
            let text = left_out(list.len());
            tables.insert(table.to_owned(), text);
        }
    }
    tables
}

/// Returns a value in place of a list that was removed.
fn left_out(count: usize) -> Value {
    Value::String(format!("{count} left out"))
}

/// Returns a table, or those of a list.
fn of_table(value: &mut Value) -> Vec<&mut Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(list) => list.iter_mut().filter_map(Value::as_table_mut).collect(),
        _ => Vec::new(),
    }
}

/// Returns a log without addresses, names with a dot, and quoted texts. It removes too much rather than too
/// little.
pub fn anonymous(log: &str) -> String {
    let masked = mask(log);
    let mut text = String::with_capacity(masked.len());
    for line in masked.lines() {
        // Every second piece is quoted.
        for (at, piece) in line.split('"').enumerate() {
            match at % 2 {
                0 => text += &piece.split_inclusive(' ').map(without_name).collect::<String>(),
                _ => text += &format!("\"{NAME}\""),
            }
        }
        text.push('\n');
    }
    text
}

/// Returns a word without a name of DNS in it.
fn without_name(word: &str) -> String {
    let is_of_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '*' | '\\');
    let mut text = String::new();
    for piece in word.split_inclusive(|c| !is_of_name(c)) {
        let name = piece.trim_end_matches(|c| !is_of_name(c));
        let is_name = name.trim_end_matches('.').contains('.')
            && name.contains(|c: char| c.is_alphabetic())
            && !FILES.iter().any(|end| name.trim_end_matches('.').ends_with(end));
        text += if is_name { NAME } else { name };
        text += piece.strip_prefix(name).unwrap_or_default();
    }
    text
}
