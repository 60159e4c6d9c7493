//! The files that do not pass, with the reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Path of the table.
pub const PATH: &str = "tests/tests/rpl/table.txt";
const TEXT: &str = include_str!("table.txt");

/// Result for a file: it passed, or the first difference.
pub type Verdict = Result<(), String>;

/// Kind of reason for a file that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The file tests a recursor's work, which a forwarder does not do.
    Recursor,
    /// The file tests a feature that ringdns does not have.
    Feature,
    /// The file tests an algorithm that no validator supports any more.
    Algorithm,
    /// ringdns differs, and is as correct.
    Choice,
    /// The client gets SERVFAIL as expected, with another extended error.
    Ede,
    /// The player cannot play the file.
    Player,
    /// ringdns is wrong.
    Wrong,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Recursor, "recursor"),
    (Kind::Feature, "feature"),
    (Kind::Algorithm, "algorithm"),
    (Kind::Choice, "choice"),
    (Kind::Ede, "ede"),
    (Kind::Player, "player"),
    (Kind::Wrong, "wrong"),
];

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        KINDS.iter().find(|kind| kind.1 == text).map(|kind| kind.0).ok_or(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|kind| kind.0 == *self).map_or("", |kind| kind.1);
        f.pad(name)
    }
}

/// The files that do not pass: one `name kind reason` per line.
pub struct Table(BTreeMap<String, (Kind, String)>);

impl Table {
    pub fn read() -> Table {
        Table::parse(TEXT).unwrap_or_else(|error| panic!("{PATH}: {error}"))
    }

    fn parse(text: &str) -> Result<Table, String> {
        let mut table = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let wrong = || format!("{line:?} is not a file, a kind and a reason");
            let (name, rest) = line.split_once(' ').ok_or_else(wrong)?;
            let (kind, reason) = rest.trim_start().split_once(' ').ok_or_else(wrong)?;
            let kind = kind.parse().map_err(|()| wrong())?;
            if table.insert(name.to_owned(), (kind, reason.trim().to_owned())).is_some() {
                return Err(format!("{name} is listed twice"));
            }
        }
        Ok(Table(table))
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Returns the objection to a verdict: the file is listed and passes, or is not listed and
    /// fails.
    pub fn objection(&self, name: &str, verdict: &Verdict) -> Option<String> {
        match (self.0.get(name), verdict) {
            (Some((kind, reason)), Ok(())) => Some(format!("{name} passes, and is listed: {kind}, {reason}")),
            (None, Err(error)) => Some(format!("{name} fails, and is not listed: {error}")),
            _ => None,
        }
    }

    /// Returns the numbers of files that pass, by prefix, and of the others by kind.
    pub fn summary(&self, verdicts: &[(String, Verdict)]) -> String {
        let mut counts: BTreeMap<&str, (usize, BTreeMap<Kind, usize>, usize)> = BTreeMap::new();
        for (name, verdict) in verdicts {
            let prefix = if name.starts_with("serve_expired") {
                "serve_expired"
            } else {
                name.split('_').next().unwrap_or_default()
            };
            for key in [prefix, "(all)"] {
                let (passed, kinds, unlisted) = counts.entry(key).or_default();
                match (verdict, self.0.get(name)) {
                    (Ok(()), _) => *passed += 1,
                    (Err(_), Some((kind, _))) => *kinds.entry(*kind).or_default() += 1,
                    (Err(_), None) => *unlisted += 1,
                }
            }
        }
        let line = |(prefix, (passed, kinds, unlisted)): (&str, (usize, BTreeMap<Kind, usize>, usize))| {
            let kinds: String = kinds.iter().map(|(kind, count)| format!(", {kind} {count}")).collect();
            let unlisted = if unlisted == 0 { String::new() } else { format!(", not listed {unlisted}") };
            format!("{prefix:14} {passed:3} pass{kinds}{unlisted}\n")
        };
        counts.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_held_to() {
        let table = Table::parse("# words\na_b recursor asks for the root's servers\n").unwrap();
        let failed = || Err("no reply".to_owned());
        assert_eq!(table.objection("a_b", &failed()), None);
        assert!(table.objection("a_b", &Ok(())).unwrap().contains("passes, and is listed"));
        assert!(table.objection("a_c", &failed()).unwrap().contains("not listed"));
        assert_eq!(table.objection("a_c", &Ok(())), None);
        assert!(Table::parse("a_b odd reason\n").is_err());
        assert!(Table::parse("a wrong x\na wrong y\n").is_err());
        let summary = table.summary(&[("a_b".to_owned(), failed()), ("a_c".to_owned(), Ok(()))]);
        assert!(summary.contains("a                1 pass, recursor 1"), "{summary}");
    }
}
