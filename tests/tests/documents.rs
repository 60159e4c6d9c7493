//! What documents say of code and tests: each that they name is there, so that tables cannot rot.
//!
//! In `docs/rfc.md` and `docs/lessons.md`, code is named as `dns/answer.rs::lifetime`: the end of a path that no other file
//! has, and something that the file defines. A row's last cell names what tests it: test functions, or scenarios.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// RFCs that `docs/rfc.md` must speak of.
const RFCS: [u16; 36] = [
    1034, 1035, 2181, 2308, 3225, 3597, 4035, 4343, 5358, 5452, 5625, 6303, 6672, 6761, 6840, 6891, 7766,
    7828, 7830, 7858, 7871, 7873, 8020, 8467, 8482, 8484, 8767, 8906, 8914, 9018, 9210, 9476, 9520, 9619,
    9715, 9715,
];

/// How a row says that there is nothing to be tested.
const NOTHING: &str = "none:";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of the workspace, by their paths from its root.
struct Files(Vec<String>);

impl Files {
    fn of(root: &Path) -> Self {
        let mut files = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = entry.file_name().into_string().unwrap();
                if name.starts_with('.') || name == "target" {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        Self(files)
    }

    /// The text of the one file whose path ends so.
    fn read(&self, end: &str) -> Result<String, String> {
        let is_it = |path: &&String| **path == end || path.ends_with(&format!("/{end}"));
        let found: Vec<_> = self.0.iter().filter(is_it).collect();
        match found[..] {
            [path] => std::fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}")),
            [] => Err(format!("there is no file {end}")),
            _ => Err(format!("{end} may be any of {found:?}")),
        }
    }
}

/// What is wrong with one cell's mention of code; whether it is a test.
fn mention(files: &Files, text: &str) -> Result<bool, String> {
    let (file, item) = text.split_once("::").map_or((text, None), |(file, item)| (file, Some(item)));
    let source = files.read(file)?;
    let Some(item) = item else { return Ok(file.ends_with(".scn")) };
    let lines: Vec<&str> = source.lines().collect();
    let defined = lines.iter().position(|line| defines(line, item));
    let at = defined.ok_or_else(|| format!("{file} does not define {item}"))?;
    let attributes = lines[..at].iter().rev().map(|line| line.trim());
    let mut attributes = attributes.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    Ok(attributes.any(|line| line == "#[test]" || line.starts_with("#[tokio::test")))
}

/// Whether a line begins the definition of `item`, or names it as a key or a variant.
fn defines(line: &str, item: &str) -> bool {
    const KINDS: [&str; 8] = ["fn", "struct", "enum", "const", "static", "trait", "type", "mod"];
    let words: Vec<&str> =
        line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    let first = words.iter().find(|word| !matches!(**word, "pub" | "crate" | "super"));
    words.windows(2).any(|pair| KINDS.contains(&pair[0]) && pair[1] == item)
        || first == Some(&item)
            && [':', ',', '=', '(']
                .iter()
                .any(|end| line.contains(&format!("{item}{end}")) || line.contains(&format!("{item} {end}")))
}

/// The text between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a quotation is meant to be of this workspace's code.
fn is_mention(quoted: &str) -> bool {
    let file = quoted.split("::").next().unwrap_or_default();
    [".rs", ".scn", ".toml", ".sh", ".md"].iter().any(|end| file.ends_with(end)) && !file.contains(' ')
}

/// All that is wrong with a document.
fn faults(files: &Files, document: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let mut fault = |what: String| faults.push(format!("line {}: {what}", number + 1));
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let tests = cells.last().filter(|_| line.starts_with("| ") && cells.len() > 2);
        for quotation in quoted(line).filter(|quotation| is_mention(quotation)) {
            if let Err(what) = mention(files, quotation) {
                fault(what);
            }
        }
        let Some(tests) = tests.filter(|cell| **cell != "test" && !cell.starts_with("--")) else { continue };
        let named: Vec<_> = quoted(tests).filter(|quotation| is_mention(quotation)).collect();
        for quotation in &named {
            if let Ok(false) = mention(files, quotation) {
                fault(format!("{quotation} is no test"));
            }
        }
        if named.is_empty() && !tests.starts_with(NOTHING) {
            fault(format!("no test is named; begin the cell with \"{NOTHING}\" and say why"));
        }
    }
    faults
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

#[test]
fn what_the_documents_name_is_there() {
    let files = Files::of(&root());
    for name in ["rfc.md", "lessons.md"] {
        let faults = faults(&files, &document(name));
        assert!(faults.is_empty(), "docs/{name}:\n{}", faults.join("\n"));
    }
}

#[test]
fn no_rfc_is_left_out() {
    let document = document("rfc.md");
    let first_cells = document.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let numbers = first_cells.flat_map(|cell| cell.split(|c: char| !c.is_ascii_digit()));
    let spoken_of: BTreeSet<u16> = numbers.filter_map(|digits| digits.parse().ok()).collect();
    let missing: Vec<_> = RFCS.iter().filter(|rfc| !spoken_of.contains(rfc)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn faults_are_found() {
    let files = Files::of(&root());
    let good = "| RFC | duty | where | test |\n| --- | --- | --- | --- |\n\
                | 1 | it is | `tests/documents.rs::faults` | `tests/documents.rs::faults_are_found` |\n\
                | 2 | it is not | nowhere | none: nobody asks for it |";
    assert_eq!(faults(&files, good), [""; 0]);
    for (cell, fault) in [
        ("`tests/documents.rs::faults`", "is no test"),
        ("`tests/documents.rs::faults_are_lost`", "does not define"),
        ("`tests/document.rs::faults_are_found`", "no file"),
        ("`Cargo.toml`", "may be any of"),
        ("everywhere", "no test is named"),
    ] {
        let bad = format!("| 1 | it is | `tests/documents.rs` | {cell} |");
        let faults = faults(&files, &bad);
        assert!(faults.iter().any(|found| found.contains(fault)), "{cell}: {faults:?}");
    }
}

/// RFC 1035 reckons in seconds that pass, not in those of a wall clock, which may be set.
#[test]
fn no_age_is_reckoned_by_the_wall_clock() {
    // What is told to other hosts, and what a log of measurements begins with.
    const MAY: [&str; 2] = ["dataplane/src/clock.rs", "control/daemon/src/latency.rs"];
    let files = Files::of(&root());
    let serves = |path: &str| path.starts_with("dataplane/src/") || path.starts_with("control/");
    let sources =
        files.0.iter().filter(|path| path.ends_with(".rs") && serves(path) && path.contains("/src/"));
    let mut readers = BTreeSet::new();
    for path in sources {
        let source = std::fs::read_to_string(root().join(path)).unwrap();
        if ["SystemTime", "Realtime", "gettimeofday"].iter().any(|clock| source.contains(clock)) {
            readers.insert(path.as_str());
        }
    }
    assert_eq!(readers, BTreeSet::from(MAY), "a step of the wall clock would change something here");
}
