//! Words for the errors of serde and of the TOML parser: what was expected, and what was found.

use crate::{
    error::{self, FilePlace, PlacedProblem, Problem},
    table::TableDoc,
    tables::RawConfig,
};
use toml::de::{DeTable, DeValue, Error};

/// Least likeness of two words for one to be suggested in place of the other.
const LIKENESS: f64 = 0.75;

/// Description of a table of the wrong form.
const REPEATED: &str = "a table that is repeated, [[…]]";

/// Returns the problem of a syntax error.
pub fn syntax(text: &str, error: &Error) -> PlacedProblem {
    let start = error.span().map_or(0, |span| span.start);
    let reason = error.message().trim_end_matches('.').replace('\n', ", ");
    let place = error::text_place(text, start);
    let written = text.lines().nth(place.line - 1).unwrap_or_default().trim();
    // The rest of a line may hold a password.
    let found = written.split('=').next().unwrap_or_default().trim_end();
    let reason = if found.is_empty() { reason } else { format!("{reason}, found at `{found}`") };
    let remedy = "Correct the TOML syntax, such as key = \"text\", key = 5, key = [\"a\", \"b\"] or [table]";
    PlacedProblem { place: FilePlace(Some(place)), problem: Problem::new("", reason, remedy) }
}

/// Returns the problem of a value that serde refuses in `root`.
pub fn value(root: &DeTable<'_>, error: &Error) -> Problem {
    let (mut key, value) = error.span().and_then(|span| error::key_at(root, &span)).unwrap_or_default();
    let message = error.message();
    // serde takes a list for a table, and refuses its first element.
    let repeated = key
        .split_once('[')
        .map(|(table, _)| table.to_owned())
        .filter(|table| RawConfig::tables().iter().any(|known| known.header == format!("[{table}]")));
    let is_repeated = repeated.is_some();
    key = repeated.unwrap_or(key);
    let (_, wanted) = message.rsplit_once(", expected ").unwrap_or(("", ""));
    let words: Vec<&str> = wanted.split('`').skip(1).step_by(2).collect();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let name = rest.split('`').next().unwrap_or_default();
        return unknown_key(&key, name, &words);
    }
    let found = match &value {
        Some(_) if is_repeated => REPEATED.to_owned(),
        Some(value) => found(value),
        None => "another value".to_owned(),
    };
    if message.starts_with("unknown variant") {
        let wrong = value.as_ref().and_then(DeValue::as_str).unwrap_or_default();
        let like = like(wrong, &words).map(|word| format!("Did you mean {word:?}? ")).unwrap_or_default();
        let reason = format!("expected {}, found {found}", either(&words));
        return Problem::new(key, reason, format!("{like}Correct the value"));
    }
    let expected = expected(&key, wanted);
    let remedy = remedy(&key, &expected, value.as_ref());
    Problem::new(key, format!("expected {expected}, found {found}"), remedy)
}

/// Returns the problem of a key that its table does not have; `keys` are those that it has.
fn unknown_key(path: &str, name: &str, keys: &[&str]) -> Problem {
    // The key of a table that is repeated covers its first element.
    let path = if path.ends_with(']') { path.rsplit_once('[').map_or(path, |(list, _)| list) } else { path };
    let table = path.strip_suffix(name).unwrap_or(path).trim_end_matches('.');
    let tables = RawConfig::tables();
    if table.is_empty() {
        let headers: Vec<_> = tables.iter().map(|table| table.header.to_owned()).collect();
        let home = tables.iter().find(|table| table.keys.iter().any(|key| key.name == name));
        let remedy = match (like(name, keys), home) {
            (_, Some(home)) => format!("{name} is a key of {}: move it there", home.header),
            (Some(like), None) => {
                let header = headers.iter().find(|header| header.trim_matches(['[', ']']) == like);
                format!(
                    "Did you mean {}? Correct the spelling or remove it",
                    header.map_or(like, |header| header)
                )
            }
            (None, None) => {
                format!("Correct the spelling or remove it; the tables are {}", headers.join(", "))
            }
        };
        return Problem::new(path, format!("unknown table or key {name:?}"), remedy);
    }
    let header = header(&tables, table).map_or_else(|| format!("[{table}]"), |table| table.header.to_owned());
    let home = || tables.iter().find(|table| table.keys.iter().any(|key| key.name == name));
    let remedy = if let Some(like) = like(name, keys) {
        format!("Did you mean {like:?}? Correct the spelling or remove the key")
    } else if let Some(home) = home() {
        format!("{name} is a key of {}: move it there, or remove it", home.header)
    } else {
        format!("Correct the spelling or remove the key; the keys are {}", keys.join(", "))
    };
    Problem::new(path, format!("unknown key {name:?} in {header}"), remedy)
}

/// Returns the word that is most like a wrong one, if any is.
fn like<'a>(wrong: &str, words: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let likeness = |word: &str| {
        let word = word.replace('-', "_");
        let is_part = wrong.len() > 2 && (word.contains(&wrong) || wrong.contains(&word));
        let likeness = strsim::normalized_damerau_levenshtein(&wrong, &word)
            .max(strsim::jaro_winkler(&wrong, &word) - 0.1);
        if is_part { likeness.max(LIKENESS) } else { likeness }
    };
    let best = words.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKENESS).then_some(best)
}

/// Describes a value that was found. Strings stand where none belongs, or are no secrets.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(list) if list.first().is_some_and(|first| first.get_ref().is_table()) => {
            REPEATED.into()
        }
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// Describes the values that a key can have. `wanted`: serde's words for them.
fn expected(key: &str, wanted: &str) -> String {
    let tables = RawConfig::tables();
    let (table, name) = key.rsplit_once('.').unwrap_or((key, ""));
    let Some(table) = header(&tables, table) else { return wanted.trim_matches('`').to_owned() };
    let (name, is_element) = name.split_once('[').map_or((name, false), |(name, _)| (name, true));
    let known = table.keys.iter().find(|known| known.name == name);
    let (kind, words) = known.map_or(("", &[][..]), |known| (known.kind, known.words));
    if !words.is_empty() {
        return either(words);
    }
    let number = match wanted {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        _ => "a whole number of 0 or more",
    };
    match (kind, is_element) {
        _ if wanted.contains("such as") => wanted.to_owned(),
        ("boolean", _) => "true or false".into(),
        ("integer", _) | ("list of integers", true) => number.into(),
        ("list of integers", false) => "a list of whole numbers".into(),
        ("list of strings", false) => "a list of strings".into(),
        ("string", _) | ("list of strings", true) => "a string".into(),
        _ if name.is_empty() && table.header.starts_with("[[") => {
            format!("a table that may be repeated, {}", table.header)
        }
        _ if name.is_empty() => format!("the table {}", table.header),
        _ => wanted.trim_matches('`').to_owned(),
    }
}

/// Returns the documentation of a table, given its path without a key.
fn header<'a>(tables: &'a [TableDoc], path: &str) -> Option<&'a TableDoc> {
    let name = path.split('[').next().unwrap_or_default();
    tables.iter().find(|table| table.header.trim_matches(['[', ']']) == name)
}

/// Returns what to write in place of a value of another type.
fn remedy(key: &str, expected: &str, found: Option<&DeValue<'_>>) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    let better = match found {
        Some(DeValue::String(text)) if expected.starts_with("a list of strings") => {
            format!("{name} = [{text:?}]")
        }
        Some(DeValue::String(text)) if expected.starts_with("a list") => format!("{name} = [{text}]"),
        Some(DeValue::Integer(number)) if expected.starts_with("a list of whole") => {
            format!("{name} = [{number}]")
        }
        Some(DeValue::String(text))
            if expected.starts_with("a whole number") && text.parse::<u16>().is_ok() =>
        {
            format!("{name} = {text}, without quotes")
        }
        Some(DeValue::String(_)) if expected == "true or false" => format!("{name} = true, without quotes"),
        Some(DeValue::Integer(number)) if expected.starts_with("a length of time") => {
            format!("{name} = \"{number}s\", with a unit")
        }
        Some(DeValue::Integer(number)) if expected == "a string" => format!("{name} = \"{number}\""),
        _ => return "Correct the value".into(),
    };
    format!("Correct the value: {better}")
}

/// Lists words as alternatives.
fn either(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    match &words[..] {
        [] => "nothing".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
