//! All problems of a file at once.
//!
//! Reading a file and checking it stop at the first problem. So that an operator sees all of them,
//! each refused value is taken out of the file, or replaced by one that lets the checks of other
//! keys go on, and the rest is read and checked again.

use crate::{
    Config,
    error::{self, PlacedProblem, Problem},
    tables::RawConfig,
    wording,
};
use serde::Deserialize;
use std::{cmp::Ordering, collections::HashMap};
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// Values that replace refused ones of keys that others depend on, as TOML.
const STAND_INS: [(&str, &str); 11] = [
    ("server.listen", "[\"192.0.2.1:1\"]"),
    ("server.interface", "\"eth0\""),
    ("control.http", "\"127.0.0.1:1\""),
    ("clickhouse.url", "\"https://192.0.2.1\""),
    ("query_log.enabled", "true"),
    ("query_log.privacy", "\"hash\""),
    ("query_log.spool_dir", "\"/\""),
    ("rate_limit.per_second", "1000"),
    ("redis.url", "\"rediss://192.0.2.1\""),
    ("redis.master", "\"master\""),
    ("redis.sentinel", "[\"redis://192.0.2.1\"]"),
];

/// Upstream that replaces refused ones.
const UPSTREAM: &str = "{ address = \"tls://192.0.2.254:1\" }";
const UPSTREAMS: &str = "[{ address = \"tls://192.0.2.254:1\" }]";

/// Most problems that are reported at once.
const PROBLEMS_MAX: usize = 100;

/// Returns the checked configuration, or all problems in the order of the file.
pub fn check(text: &str) -> Result<Config, Vec<PlacedProblem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // Behind a syntax error, keys may be read as those of another table.
        let mut problems = sorted(errors.iter().map(|error| wording::syntax(text, error)).collect());
        // What follows on a line is no problem of its own.
        problems.dedup_by_key(|problem| problem.place.0.map(|place| place.line));
        return Err(problems);
    }
    let mut draft = Draft { root, removed: HashMap::new(), refused: HashMap::new() };
    let mut problems = Vec::new();
    loop {
        let problem = match draft.check() {
            Ok(config) if problems.is_empty() => return Ok(config),
            Ok(_) => break,
            Err(problem) => problem,
        };
        let key = draft.original(&problem.key);
        let times = draft.refused.entry(key.clone()).or_default();
        *times += 1;
        let times = *times;
        if times == 1 && !draft.has_refused_above(&key) && !draft.has_refused_below(&key) {
            let place = error::place_of(text, &key);
            problems.push(PlacedProblem { place, problem: Problem { key, ..problem.clone() } });
        }
        if problems.len() >= PROBLEMS_MAX || !draft.take_out(&problem.key, times) {
            break;
        }
    }
    Err(sorted(problems))
}

fn sorted(mut problems: Vec<PlacedProblem>) -> Vec<PlacedProblem> {
    problems.sort_by_key(|problem| problem.place);
    problems.dedup();
    problems
}

/// A file without the values that were refused.
struct Draft<'a> {
    root: Spanned<DeTable<'a>>,
    /// For each list from which elements were taken out, the original numbers of those left.
    removed: HashMap<String, Vec<usize>>,
    /// Number of times that each key was refused.
    refused: HashMap<String, u32>,
}

impl<'a> Draft<'a> {
    /// Reads and checks what is left of the file.
    fn check(&self) -> Result<Config, Problem> {
        let raw = RawConfig::deserialize(toml::de::Deserializer::from(self.root.clone()))
            .map_err(|error| wording::value(self.root.get_ref(), &error))?;
        Config::try_from(raw)
    }

    /// Returns the key as the file has it, where lists still have all their elements.
    fn original(&self, key: &str) -> String {
        let mut original = String::new();
        let mut path = String::new();
        for part in parts(key) {
            match part.strip_prefix('[').and_then(|part| part.strip_suffix(']')?.parse::<usize>().ok()) {
                Some(i) => {
                    let numbers = self.removed.get(&path);
                    let number = numbers.and_then(|numbers| numbers.get(i)).copied().unwrap_or(i);
                    original += &format!("[{number}]");
                }
                None => original += part,
            }
            path += part;
        }
        original
    }

    /// Whether a table or list that has this key was refused: what it lacks now is no problem of its
    /// own.
    fn has_refused_above(&self, key: &str) -> bool {
        let is_above = |above: &String| {
            key.strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        self.refused.keys().any(is_above)
    }

    /// Whether an element of this list, or a value in this element of a list, was refused: that it is
    /// absent now is no problem of its own.
    fn has_refused_below(&self, key: &str) -> bool {
        let is_below = |below: &String| {
            let rest = below.strip_prefix(key).unwrap_or_default();
            let is_element = rest.starts_with('[') && !rest.contains('.');
            is_element || key.contains('[') && rest.starts_with(['.', '['])
        };
        self.refused.keys().any(is_below)
    }

    /// Takes a value that was refused for the nth time out of the file, or replaces it; the second
    /// time, takes out its table. Returns whether that changed anything.
    fn take_out(&mut self, key: &str, times: u32) -> bool {
        if key.is_empty() || times > 2 {
            return false;
        }
        if key == "upstream" {
            return self.add_upstream();
        }
        let parts: Vec<_> = parts(key).collect();
        if times == 2 {
            let of_upstream = parts[0] == "upstream" && parts.len() > 2;
            return self.remove(&parts[..if of_upstream { 2 } else { 1 }]);
        }
        if let ["upstream", number, ".address"] = parts[..] {
            self.remove(&["upstream", number, ".bootstrap"]);
            return self.set(&parts, "\"tls://192.0.2.254:1\"");
        }
        let stand_in = STAND_INS.iter().find(|(name, _)| *name == key);
        let absent = self.find(&parts).is_none();
        match stand_in {
            Some((_, value)) => self.set(&parts, value),
            None if absent => self.remove(&parts[..1]),
            None => self.remove(&parts) || self.remove(&parts[..1]),
        }
    }

    /// Adds an upstream for all names.
    fn add_upstream(&mut self) -> bool {
        let Some(upstream) = parse(UPSTREAM) else { return false };
        if let Some(DeValue::Array(list)) = self.find(&["upstream"]) {
            list.push(upstream);
            return true;
        }
        self.set(&["upstream"], UPSTREAMS)
    }

    /// Returns the value of a key.
    fn find(&mut self, parts: &[&str]) -> Option<&mut DeValue<'a>> {
        let (first, rest) = parts.split_first()?;
        let mut value = self.root.get_mut().get_mut(*first)?.get_mut();
        for part in rest {
            value = match (value, part.strip_prefix('.'), part.strip_prefix('[')) {
                (DeValue::Table(table), Some(name), _) => table.get_mut(name)?.get_mut(),
                (DeValue::Array(list), _, Some(number)) => {
                    list.get_mut(number.strip_suffix(']')?.parse::<usize>().ok()?)?.get_mut()
                }
                _ => return None,
            };
        }
        Some(value)
    }

    fn remove(&mut self, parts: &[&str]) -> bool {
        let Some((last, above)) = parts.split_last() else { return false };
        if above.is_empty() {
            return self.root.get_mut().remove(*last).is_some();
        }
        let path: String = above.concat();
        let (list, number) = match self.find(above) {
            Some(DeValue::Table(table)) => return table.remove(last.trim_start_matches('.')).is_some(),
            Some(DeValue::Array(list)) => (list, last.trim_matches(['[', ']']).parse::<usize>()),
            _ => return false,
        };
        let Some(number) = number.ok().filter(|number| *number < list.len()) else { return false };
        let before = list.len();
        // DeArray has no method to remove one element.
        let left =
            std::mem::replace(list, DeArray::new()).into_iter().enumerate().filter(|(i, _)| *i != number);
        left.for_each(|(_, value)| list.push(value));
        let is_empty = list.is_empty();
        if is_empty {
            self.refill(above, &path);
        }
        self.renumber(&path, number);
        let numbers = self.removed.entry(path).or_insert_with(|| (0..before).collect());
        if number < numbers.len() {
            numbers.remove(number);
        }
        true
    }

    /// Moves what is known of the elements of a list behind one that was taken out to their new numbers.
    fn renumber(&mut self, list: &str, number: usize) {
        let moved = |(path, numbers): (String, Vec<usize>)| {
            let below = path.strip_prefix(list).and_then(|rest| rest.strip_prefix('[')?.split_once(']'));
            let Some((n, below)) = below.and_then(|(n, below)| Some((n.parse::<usize>().ok()?, below)))
            else {
                return Some((path, numbers));
            };
            match n.cmp(&number) {
                Ordering::Less => Some((path, numbers)),
                Ordering::Equal => None,
                Ordering::Greater => Some((format!("{list}[{}]{below}", n - 1), numbers)),
            }
        };
        self.removed = std::mem::take(&mut self.removed).into_iter().filter_map(moved).collect();
    }

    /// Fills a list of which no element is left, if others depend on it.
    fn refill(&mut self, parts: &[&str], path: &str) {
        if let Some((_, value)) = STAND_INS.iter().find(|(name, _)| *name == path) {
            self.set(parts, value);
        } else if path.ends_with(".bootstrap") {
            self.set(parts, "[\"192.0.2.1\"]");
        }
    }

    fn set(&mut self, parts: &[&str], value: &'static str) -> bool {
        let (Some((last, above)), Some(value)) = (parts.split_last(), parse(value)) else { return false };
        let name = Spanned::new(0..0, last.trim_start_matches('.').to_owned().into());
        if let [table] = above
            && self.find(above).is_none()
        {
            let table = Spanned::new(0..0, (*table).to_owned().into());
            self.root.get_mut().insert(table, Spanned::new(0..0, DeValue::Table(DeTable::new())));
        }
        let table = if above.is_empty() {
            Some(self.root.get_mut())
        } else {
            match self.find(above) {
                Some(DeValue::Table(table)) => Some(table),
                _ => None,
            }
        };
        table.map(|table| table.insert(name, value)).is_some()
    }
}

/// Parses a value that replaces another one.
fn parse(value: &'static str) -> Option<Spanned<DeValue<'static>>> {
    DeValue::parse(value).ok()
}

/// Splits `upstream[1].zones[0]` into `upstream`, `[1]`, `.zones` and `[0]`.
fn parts(key: &str) -> impl Iterator<Item = &str> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| matches!(c, '.' | '['))
            .map_or(rest.len(), |(at, _)| at);
        let (part, after) = rest.split_at(end);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}
