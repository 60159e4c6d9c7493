//! Rules of the source tree that no compiler keeps: modules of different folders do not import each
//! other in a circle, files stay short, doc comments begin with a noun or a verb, and tests use the crates of
//! the other builds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Folders with the sources of a crate.
const ROOTS: [&str; 4] = ["control", "dataplane", "bench", "testkit"];

/// Most lines of a source file.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Rust files below `folder`, except those of builds.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" && name != "runs" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the `src` folder of every crate.
fn crates() -> Vec<PathBuf> {
    let all: BTreeSet<PathBuf> = ROOTS
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter_map(|path| path.ancestors().find(|above| above.ends_with("src")).map(Path::to_owned))
        .collect();
    assert!(all.len() > 12, "{all:?}");
    all.into_iter().collect()
}

/// Returns the source without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the first names in a path or a tree of paths, as they come after `crate::`.
fn first_names(tree: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let Some(list) = tree.strip_prefix('{') else {
        return vec![tree.chars().take_while(|c| is_name(*c)).collect()];
    };
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    let mut complete = false;
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                complete = false;
            }
            c if depth == 0 && is_name(c) && !complete => name.push(c),
            c if depth == 0 && !c.is_whitespace() => complete = true,
            _ => {}
        }
    }
    names.push(name);
    names.retain(|name| !name.is_empty());
    names
}

/// Imports between the top modules of a crate, each a file or a folder of `src`.
struct Graph {
    folders: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(src: &Path) -> Self {
        let top = |path: &Path| {
            let first = path.strip_prefix(src).unwrap().components().next().unwrap();
            Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
        };
        let files = sources(src);
        let modules: BTreeSet<String> = files.iter().map(|path| top(path)).collect();
        let folders = modules.iter().filter(|name| src.join(name).is_dir()).cloned().collect();
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of_tests = |path: &Path| {
            path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("test"))
        };
        for path in files.iter().filter(|path| !of_tests(path.strip_prefix(src).unwrap())) {
            let text = code(&std::fs::read_to_string(path).unwrap());
            let from = top(path);
            // `super` is the crate itself in files at the top and in the `mod.rs` of folders there.
            let inside = path.strip_prefix(src).unwrap().components().count();
            let level = if path.ends_with("mod.rs") { inside - 1 } else { inside };
            let above = "super::".repeat(level);
            let prefixes = ["crate::".to_owned(), above];
            for prefix in prefixes.iter().filter(|prefix| !prefix.is_empty()) {
                let begins = |at: usize| {
                    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$')
                };
                for (at, _) in text.match_indices(prefix.as_str()).filter(|(at, _)| begins(*at)) {
                    for name in first_names(&text[at + prefix.len()..]) {
                        if name != from && modules.contains(&name) {
                            uses.entry(from.clone()).or_default().insert(name);
                        }
                    }
                }
            }
        }
        Graph { folders, uses }
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            for name in self.uses.get(at).into_iter().flatten() {
                if name == to {
                    return true;
                }
                if seen.insert(name) {
                    next.push(name);
                }
            }
        }
        false
    }

    /// Returns the imports that are part of a circle through a folder.
    fn circles(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (from, uses) in &self.uses {
            for to in uses {
                let folder = self.folders.contains(from) || self.folders.contains(to);
                if folder && self.reaches(to, from) {
                    found.push(format!("{from} -> {to}"));
                }
            }
        }
        found
    }
}

#[test]
fn folders_do_not_import_each_other_in_a_circle() {
    let mut circles = BTreeMap::new();
    for src in crates() {
        let found = Graph::of(&src).circles();
        if !found.is_empty() {
            circles.insert(src, found);
        }
    }
    assert!(circles.is_empty(), "modules import each other in a circle: {circles:#?}");
}

/// A crate of three modules, two of which import each other.
#[test]
fn a_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    std::fs::create_dir_all(src.join("far")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(src.join(name), text).unwrap();
    write("lib.rs", "mod far;\nmod leaf;\nmod near;\n");
    write("far/mod.rs", "use crate::{\n    leaf::{self, Leaf},\n    near::Near, // crate::other\n};\n");
    write("near.rs", "fn near() -> super::far::Far { todo!() }\n");
    write("leaf.rs", "#[cfg(test)]\nmod tests {\n    use crate::far::Far;\n}\n");
    assert_eq!(Graph::of(&src).circles(), ["far -> near", "near -> far"]);
    write("near.rs", "fn near() {}\n");
    assert_eq!(Graph::of(&src).circles(), [""; 0]);
}

#[test]
fn files_are_short() {
    let mut long = BTreeSet::new();
    for folder in ROOTS.iter().chain(&["tests", "ebpf", "fuzz"]) {
        for path in sources(&root().join(folder)) {
            if std::fs::read_to_string(&path).unwrap().lines().count() > LINES_MAX {
                let path = path.strip_prefix(root()).unwrap();
                long.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(long, BTreeSet::new(), "split what is longer than {LINES_MAX} lines");
}

/// Words that a doc comment does not begin with: a reader has to find out what they stand for.
const RIDDLES: [&str; 6] = ["What ", "Who ", "Whom ", "Whose ", "The same", "Those "];

#[test]
fn doc_comments_begin_with_a_noun_or_a_verb() {
    let mut found = Vec::new();
    for folder in ROOTS.iter().chain(&["tests", "ebpf", "fuzz"]) {
        for path in sources(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut before = "";
            for (number, line) in text.lines().enumerate() {
                let line = line.trim_start();
                let doc = |line: &'_ str| {
                    line.strip_prefix("/// ").or(line.strip_prefix("//! ")).map(str::to_owned)
                };
                let continues = before.starts_with("///") || before.starts_with("//!");
                if let Some(text) = doc(line).filter(|_| !continues)
                    && RIDDLES.iter().any(|word| text.starts_with(word))
                {
                    let path = path.strip_prefix(root()).unwrap();
                    found.push(format!("{}:{}: {text}", path.display(), number + 1));
                }
                before = line;
            }
        }
    }
    assert!(found.is_empty(), "{} doc comments:\n{}", found.len(), found.join("\n"));
}

/// Returns the crates that `cargo tree` lists for these options, with their features.
fn features(options: &[&str]) -> BTreeSet<String> {
    let mut command = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["tree", "--locked", "--prefix", "none", "--format", "{p} {f}"]).args(options);
    let output = command.current_dir(root()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", said(&output.stderr));
    said(&output.stdout).lines().map(|line| line.trim_end_matches(" (*)").trim_end().to_owned()).collect()
}

/// Otherwise `deploy/test.sh lab` builds many crates a second time.
#[test]
fn the_tests_use_the_crates_of_the_whole_workspace() {
    let built = features(&["--workspace", "--edges", "normal,build"]);
    let used = features(&["--package", "ringdns-tests", "--edges", "normal,build,dev"]);
    let others: Vec<&String> = used.difference(&built).collect();
    assert!(
        used.len() > 200 && others.is_empty(),
        "only `cargo test --package ringdns-tests` has {others:#?}"
    );
}

#[test]
fn shipped_programs_have_no_features_for_tests() {
    let programs = ["ringdns-daemon", "ringdns-ctl", "ringdns-bench"].map(|name| ["--package", name]);
    let shipped = features(&[programs.as_flattened(), &["--edges", "normal,build"]].concat());
    let tokio = shipped.iter().find(|name| name.starts_with("tokio v")).unwrap();
    assert!(!tokio.contains("test-util"), "{tokio}");
}
