//! `bench/lists.py`: the same names in every form, and the table that is kept beside its results.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runs/2026-11-29-lists");

/// Runs the script, and returns what it prints.
fn script(arguments: &[&str]) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lists.py"));
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the names of a list between `before` and `after` in its lines, and the number of other lines.
fn names(path: &Path, before: &str, after: &str) -> (Vec<String>, usize) {
    let text = fs::read_to_string(path).unwrap();
    let (mut names, mut others) = (Vec::new(), 0);
    for line in text.lines() {
        match line.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) {
            Some(name) if !name.starts_with(['*', '@', '$']) => names.push(name.to_owned()),
            _ => others += 1,
        }
    }
    (names, others)
}

#[test]
fn every_server_gets_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    script(&["--write", "3000", "--out", folder.path().to_str().unwrap()]);
    let of = |form: &str, before: &str, after: &str| names(&folder.path().join(form), before, after);
    let (adblock, others) = of("adblock", "||", "^");
    assert_eq!((adblock.iter().collect::<BTreeSet<_>>().len(), others), (3000, 0));
    assert_eq!(of("unbound", "local-zone: \"", ".\" always_nxdomain"), (adblock.clone(), 1));
    assert_eq!(of("dnsmasq", "server=/", "/"), (adblock.clone(), 0));
    // A rule for each name, another for all names below it, and four lines of the zone itself.
    assert_eq!(of("rpz", "", " CNAME ."), (adblock.clone(), 3004));
    let (below, _) = of("rpz", "*.", " CNAME .");
    assert_eq!(below, adblock);
    assert!(adblock.iter().all(|name| name.contains('.') && name.len() < 100));
}

#[test]
fn kept_results_give_the_table_that_is_kept() {
    let printed = script(&["--print", &format!("{RUN}/results.json")]);
    assert_eq!(printed, fs::read_to_string(format!("{RUN}/README.md")).unwrap());
    for row in ["| ringdnsd |", "| Unbound, local-zone |", "| PowerDNS Recursor, RPZ |", "| hit |"] {
        assert!(printed.contains(row), "{row}: {printed}");
    }
}

#[test]
fn rounds_that_failed_are_told_and_have_no_part_in_medians() {
    let round = |seconds: f64| {
        format!(r#"{{"start_s": {seconds}, "rss": 3145728, "answers_per_second": {seconds}e3}}"#)
    };
    let rounds = [round(1.0), r#"{"failed": "no answer"}"#.into(), round(4.0), round(9.0)].join(",");
    let results = format!(
        r#"{{"machine": {{"processor": "P", "cores": 2, "memory_gib": 4, "kernel": "6.1", "begun": "now"}},
             "commit": "c", "versions": {{"unbound": "1.0"}}, "missing": ["dnsmasq"], "nice": 0, "load": [0.0, 1.0],
             "lists": {{"1": {{"unbound": [{{"rss": 1048576}}]}}, "2048": {{"unbound": [{rounds}]}}}}}}"#
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), results).unwrap();
    let printed = script(&["--print", file.path().to_str().unwrap()]);
    assert!(
        printed.contains("| Unbound, local-zone | 4.00 | 3 | 1024 | - | - | - | 4,000 | - |"),
        "{printed}"
    );
    assert!(printed.contains("- Unbound, local-zone: no answer"), "{printed}");
    assert!(printed.contains("- Not measured: dnsmasq, servers-file: not installed."), "{printed}");
}
