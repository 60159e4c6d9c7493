//! Files for tests: the smallest one, and ones that are refused.

use crate::{Config, ConfigError};
use std::path::Path;

/// Smallest complete file.
pub const MINIMAL: &str =
    "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:5301\"\n";

/// Parses and checks a file.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("ringdns.toml"))
}

/// Parses the smallest file with further `lines` at its end.
pub fn minimal_with(lines: &str) -> Config {
    parse(&format!("{MINIMAL}{lines}\n")).expect(lines)
}

/// Checks that files of `head` and further lines are refused. Each case: the lines, the line and the
/// key that the message names, a part of its reason and of its remedy.
pub fn refused(head: &str, cases: &[[&str; 5]]) {
    for [lines, line, key, reason, remedy] in cases {
        let text = format!("{head}{lines}\n");
        let problems = parse(&text).expect_err(&text).lines();
        let is_here = |message: &&String| {
            let rest = message.strip_prefix("ringdns.toml:").and_then(|rest| rest.strip_prefix(line));
            let rest = rest.and_then(|rest| rest.strip_prefix(':')?.split_once(": "));
            rest.is_some_and(|(_, rest)| rest.starts_with(key))
        };
        let message = problems.iter().find(is_here);
        let Some(message) = message else { panic!("none of {problems:#?} is about line {line} and {key}") };
        for part in [reason, remedy] {
            assert!(message.contains(part), "{message:?} should contain {part:?}");
        }
    }
}

/// Returns the text of a file of the project.
pub fn project_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
