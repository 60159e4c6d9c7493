//! Tests that the code and the tests named in documents exist, so that tables do not become
//! outdated.
//!
//! In `docs/rfc.md` and `docs/lessons.md`, code is named as `dns/answer.rs::lifetime`: a unique end
//! of a file's path, and an item that the file defines. A row's last cell names its tests: test
//! functions, or scenarios.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// RFCs that `docs/rfc.md` must mention.
const RFCS: [u16; 36] = [
    1034, 1035, 2181, 2308, 3225, 3597, 4035, 4343, 5358, 5452, 5625, 6303, 6672, 6761, 6840, 6891, 7766,
    7828, 7830, 7858, 7871, 7873, 8020, 8467, 8482, 8484, 8767, 8906, 8914, 9018, 9210, 9476, 9520, 9619,
    9715, 9715,
];

/// Beginning of a row's last cell if there is nothing to test.
const NOTHING: &str = "none:";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Paths of the workspace's files, from its root.
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

    /// Returns the text of the only file whose path ends with `end`.
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

/// Checks one mention of code, and returns whether it names a test.
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

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a quotation refers to code of this workspace.
fn is_mention(quoted: &str) -> bool {
    let file = quoted.split("::").next().unwrap_or_default();
    [".rs", ".scn", ".toml", ".sh", ".md"].iter().any(|end| file.ends_with(end)) && !file.contains(' ')
}

/// Returns all faults of a document.
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

/// Checks that ages use a monotonic clock: RFC 1035 counts elapsed seconds, and the wall clock may
/// be set.
#[test]
fn no_age_is_reckoned_by_the_wall_clock() {
    // Times told to other hosts, and the beginnings of logs of measurements.
    const MAY: [&str; 3] =
        ["dataplane/src/clock.rs", "control/daemon/src/latency.rs", "control/ctl/src/histogram/logs.rs"];
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

#[test]
fn each_kind_of_problem_is_in_the_page_on_operation() {
    let page = std::fs::read_to_string(root().join("docs/operation.md")).unwrap();
    for kind in ringdns_api::ProblemKind::ALL {
        let row = format!("| `{}` | {} | {} |", kind.label(), kind.severity().label(), kind.doc());
        assert!(page.contains(&row), "{row}");
    }
}
