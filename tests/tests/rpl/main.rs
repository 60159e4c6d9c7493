//! Plays Unbound's replay files with ringdns in Unbound's place, as an independent check of its
//! answers.
//!
//! The files are scripts of the queries of clients, the answers of servers, and the expected
//! replies. They were written for a recursor, so a small one stands between ringdns and the files'
//! servers ([`recursor`]). The files are not part of this project; an environment variable names
//! their directory:
//!
//!     RINGDNS_RPL=FOLDER cargo test -p ringdns-tests --test rpl -- --nocapture
//!
//! Each file passes, or is listed in `tests/tests/rpl/table.txt` with the reason. The test fails if
//! a listed file passes, or if a file fails that is not listed.

mod canon;
mod compare;
mod config;
mod legacy;
mod memory;
mod parse;
mod player;
mod record;
mod recursor;
mod resign;
mod response;
mod script;
#[path = "../simulator/mod.rs"]
mod simulator;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use config::Setup;
use ringdns_testkit::scenario::Record;
use script::Script;
use table::{Table, Verdict};

/// Environment variable with the directory of the files.
const FOLDER: &str = "RINGDNS_RPL";
/// Environment variable: plays only files whose name contains its value.
const ONLY: &str = "RINGDNS_RPL_ONLY";

#[test]
fn replay_files_pass_or_are_listed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        println!("{FOLDER} names no folder: no replay files are played");
        return;
    };
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{FOLDER}={}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "rpl") && name(path).contains(&only))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{FOLDER}={}: there are no such files in it", folder.display());
    let table = Table::read();
    let verdicts = judge(&files);
    let mut wrong = Vec::new();
    for (name, verdict) in &verdicts {
        wrong.extend(table.objection(name, verdict));
    }
    println!("{}", table.summary(&verdicts));
    if only.is_empty() {
        let missing = table.names().filter(|name| !verdicts.iter().any(|(played, _)| played == *name));
        wrong.extend(missing.map(|name| format!("{name} is listed and is not there")));
    }
    assert!(wrong.is_empty(), "{} files are other than {}:\n{}", wrong.len(), table::PATH, wrong.join("\n"));
}

/// Plays a file of this project, so that the player is tested even without Unbound's files.
#[test]
fn own_file_passes_and_fails_when_it_is_changed() {
    const MADE: &str = include_str!("made.rpl");
    assert_eq!(play_text(MADE), Ok(()));
    for (from, to, wrong) in [
        ("www.net. 40 IN A 198.51.100.1", "www.net. 41 IN A 198.51.100.1", "answer lacks www.net. 41 IN A"),
        ("REPLY QR RD RA SERVFAIL", "REPLY QR RD RA NOERROR", "SERVFAIL where NOERROR is wanted"),
        ("REPLY QR RD RA NOERROR", "REPLY QR AA RD RA NOERROR", "flags QR RD RA where QR AA RD RA"),
    ] {
        let changed = MADE.replacen(from, to, 1);
        assert_ne!(changed, MADE, "{from}");
        let error = play_text(&changed).expect_err(to);
        assert!(error.contains(wrong), "{error}");
    }
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Plays files, on as many threads as there are processors.
fn judge(files: &[PathBuf]) -> Vec<(String, Verdict)> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = play(path);
                    verdicts.lock().expect("nobody panics").push((name(path), verdict));
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("nobody panics");
    verdicts.sort_by(|a, b| a.0.cmp(&b.0));
    verdicts
}

fn play(path: &Path) -> Verdict {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    play_text(&String::from_utf8_lossy(&bytes))
}

fn play_text(text: &str) -> Verdict {
    let mut script = parse::script(text)?;
    let mut setup = Setup::read(&script)?;
    resign::resign(&mut script, &mut setup.anchors);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let anchors = folder.path().join("anchors");
    let text: String = setup.anchors.iter().map(anchor_text).collect();
    std::fs::write(&anchors, text).map_err(|error| error.to_string())?;
    let played = player::play(&script, &setup, epoch(&script, &setup), &anchors);
    played.map_err(|error| match &setup.ignored[..] {
        [] => error,
        ignored => format!("{error}\n  (ringdns has no {})", ignored.join(", ")),
    })
}

/// Returns the Unix time at which a file is played: the time that it sets, or the latest inception
/// of its signatures.
fn epoch(script: &Script, setup: &Setup) -> Duration {
    let began =
        |record: &Record| record.data.get(12..16)?.first_chunk().map(|time| u32::from_be_bytes(*time));
    let records = script
        .ranges
        .iter()
        .flat_map(|range| &range.entries)
        .flat_map(|entry| entry.sections.iter().flatten());
    let latest = records.filter(|record| record.rtype == response::RRSIG).filter_map(began).max();
    Duration::from_secs(setup.date.unwrap_or(u64::from(latest.unwrap_or_default())))
}

/// Formats a DNSKEY or DS record as a line of a zone file.
fn anchor_text(anchor: &Record) -> String {
    let Record { owner, rtype, data, .. } = anchor;
    let mut text = format!("{owner} 3600 IN ");
    match (*rtype, &data[..]) {
        (response::DS, [t1, t0, algorithm, kind, digest @ ..]) => {
            let digest: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
            text += &format!("DS {} {algorithm} {kind} {digest}\n", u16::from_be_bytes([*t1, *t0]));
        }
        (_, [f1, f0, protocol, algorithm, key @ ..]) => {
            let (flags, key) = (u16::from_be_bytes([*f1, *f0]), data_encoding::BASE64.encode(key));
            text += &format!("DNSKEY {flags} {protocol} {algorithm} {key}\n");
        }
        _ => {}
    }
    text
}
