//! Parser of the configuration and the files that a scenario brings.

use std::collections::BTreeSet;

use super::{Words, expanded, hex, indented, unindented};
use crate::scenario::files::{FileText, placeholder};

/// Configuration and files in front of the first step.
pub(super) struct Setting {
    pub config: toml::Table,
    pub files: Vec<FileText>,
}

impl Setting {
    /// Parses these lines. An error comes with the number of its line, from 0 on.
    pub(super) fn parse(lines: &[&str]) -> Result<Setting, (usize, String)> {
        let mut files: Vec<FileText> = Vec::new();
        let mut config = Vec::new();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            if !is_file(line) {
                config.push(*line);
                at += 1;
                continue;
            }
            let body = &lines[at + 1..];
            let body = &body[..indented(body.iter().copied())];
            let mut words = Words::of(line).map_err(|error| (at, error))?;
            words.next();
            let file = file(&mut words, body).map_err(|error| (at, error))?;
            files.push(file);
            // Lines of the configuration keep their numbers.
            config.extend(std::iter::repeat_n("", 1 + body.len()));
            at += 1 + body.len();
        }
        let config = configuration(&config)?;
        Ok(Setting { config, files })
    }
}

/// Whether a line begins a file.
fn is_file(line: &str) -> bool {
    line.split_whitespace().next() == Some("file") && !line.starts_with([' ', '\t'])
}

/// Parses lines of ringdnsd's configuration. An error comes with the number of its line, from 0 on.
pub(super) fn configuration(lines: &[&str]) -> Result<toml::Table, (usize, String)> {
    let text = lines.join("\n");
    text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        (before.matches('\n').count(), error.message().to_owned())
    })
}

/// Parses the words after `file`, and the lines below.
pub(super) fn file(words: &mut Words, body: &[&str]) -> Result<FileText, String> {
    let name = words.need("the file's name")?;
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Err(format!("{name:?} is no name of a file: a-z, 0-9 and - only"));
    }
    let is_hex = words.take("hex");
    words.end()?;
    let end = body.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let body = &body[..end];
    if is_hex {
        return Ok(FileText { name, bytes: hex(&body.concat())? });
    }
    let mut text = String::new();
    for line in body {
        let line = unindented(line);
        // Rules may have braces of their own.
        for line in expanded(line).unwrap_or_else(|_| vec![line.to_owned()]) {
            text += &line;
            text.push('\n');
        }
    }
    Ok(FileText { name, bytes: text.into_bytes() })
}

/// Returns the name of a file that a configuration refers to and that is none of these.
pub(super) fn unknown_file<'a>(config: &'a toml::Table, files: &BTreeSet<&str>) -> Option<&'a str> {
    let mut left: Vec<&toml::Value> = config.values().collect();
    while let Some(value) = left.pop() {
        match value {
            toml::Value::Array(values) => left.extend(values),
            toml::Value::Table(table) => left.extend(table.values()),
            toml::Value::String(text) => {
                if let Some(name) = placeholder(text).filter(|name| !files.contains(name)) {
                    return Some(name);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Action, Scenario};
    use std::path::Path;

    fn scenario(text: &str) -> Result<Scenario, String> {
        Scenario::parse("name", Path::new("file"), text)
    }

    #[test]
    fn files_are_written_as_they_stand() {
        let text = "# about\nfile ads\n    a.example ; no comment here\n\n     CNAME .\n    /x{2,3}/\n    n{1..2}\n\
                    file raw hex\n    00 ff\n    0a\n[[blocklist]]\nsource = \"{ads}\"\n\
                    client asks a A\nfile ads\noperator removes raw\n";
        let scenario = scenario(text).unwrap();
        let [ads, raw] = &scenario.files[..] else { panic!("{:?}", scenario.files) };
        assert_eq!(
            (&ads.name[..], &ads.bytes[..]),
            ("ads", &b"a.example ; no comment here\n\n CNAME .\n/x{2,3}/\nn1\nn2\n"[..])
        );
        assert_eq!((&raw.name[..], &raw.bytes[..]), ("raw", &[0, 255, 10][..]));
        let Action::Write(emptied) = &scenario.steps[1].action else { panic!("{:?}", scenario.steps[1]) };
        assert_eq!((&emptied.name[..], emptied.bytes.len(), scenario.steps[1].line), ("ads", 0, 14));
        assert!(matches!(&scenario.steps[2].action, Action::Remove(name) if name == "raw"));
    }

    #[test]
    fn errors_name_their_line() {
        for (text, said) in [
            ("file\n    a\n", "file:2: the file's name is missing"),
            ("file Ads\n", "file:2: \"Ads\" is no name of a file"),
            ("file ads loudly\n", "file:2: \"loudly\""),
            // What follows a change of a file is a step.
            ("file a\nfile b\nfile a\n[tcp]\n", "file:5: what happens is missing"),
            ("file a hex\n    0x\n", "file:2: "),
            ("file a\n    x\n[server]\ncookies = \n", "file:5: "),
            ("[[blocklist]]\nsource = \"{ads}\"\n", "file:3: there is no file ads"),
        ] {
            let error = scenario(&format!("# about\n{text}client asks a A\n")).unwrap_err();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
        for (steps, said) in [
            ("configuration\n    [[blocklist]]\n    source = \"{ads}\"\n", "file:5: there is no file ads"),
            ("configuration\n    [tcp]\n    idle = \n", "file:5: "),
            ("operator reloads refused ads\n", "file:3: \"ads\" is not in quotation marks"),
            ("operator reloads\n", "file:3: the tables in effect"),
            ("operator removes\n", "file:3: the file is missing"),
        ] {
            let error = scenario(&format!("# about\nclient asks a A\n{steps}")).unwrap_err();
            assert!(error.starts_with(said), "{steps:?}: {error}");
        }
    }
}
