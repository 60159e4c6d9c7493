//! Tests of the log: priorities for the journal, JSON, and levels that change while ringdnsd runs.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address, program, until};
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    process::Command,
};

/// Returns what ringdnsd writes to a file as its standard error, from its start to its end by SIGTERM, or
/// to a refusal if the configuration has `more` wrong lines.
fn said(arguments: &[&str], to_journal: bool, more: &str) -> String {
    let (folder, host) = (tempfile::tempdir().unwrap(), Host::local());
    let upstream = Upstream::answering(&host);
    let mut settings = Settings::loopback(free_address(&host), upstream.address());
    settings.tables += more;
    let file = folder.path().join("ringdns.toml");
    fs::write(&file, settings.text(&folder.path().join("control.sock"))).unwrap();
    let path = folder.path().join("log");
    let log = File::create(&path).unwrap();
    let mut command = Command::new(program("ringdnsd"));
    command
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .stderr(log.try_clone().unwrap())
        .env_remove("RUST_LOG");
    if to_journal {
        let of = log.metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", of.dev(), of.ino()));
    }
    let mut child = command.spawn().unwrap();
    let text = || fs::read_to_string(&path).unwrap();
    let ended = until("it is ready, or has ended", || match child.try_wait().unwrap() {
        Some(status) => Some(Some(status)),
        None => text().contains("listen=").then_some(None).or(text().contains("\"listen\"").then_some(None)),
    });
    let status = ended.unwrap_or_else(|| {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        child.wait().unwrap()
    });
    assert_eq!((status.signal(), status.success()), (None, more.is_empty()), "{}", text());
    text()
}

#[test]
fn lines_to_the_journal_have_a_priority_and_no_time() {
    let text = said(&[], true, "");
    let ready = text.lines().find(|line| line.contains("ready")).unwrap();
    assert!(ready.starts_with("<6>ringdns_daemon::daemon: ready listen=["), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<')), "{text}");
    let refused = said(&[], true, "\n[tcp]\nconnections = \"many\"\n");
    assert!(refused.starts_with("<3>ringdnsd: ") && refused.contains("tcp.connections"), "{refused}");
    // Elsewhere, the same lines have a time, and a refusal is a plain sentence.
    assert!(said(&[], false, "").lines().all(|line| line.starts_with("20")));
    assert!(said(&[], false, "\n[tcp]\nconnections = \"many\"\n").starts_with("ringdnsd: "));
}

#[test]
fn lines_may_be_json() {
    let text = said(&["--log-format", "json"], false, "");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ready = lines.iter().find(|line| line["message"] == "ready").unwrap();
    assert_eq!((&ready["level"], &ready["workers"]), (&"INFO".into(), &1.into()), "{ready}");
    assert!(ready["timestamp"].as_str().unwrap().ends_with('Z'), "{ready}");
    let text = said(&["--log-format", "json"], true, "");
    let ready = text.lines().find(|line| line.contains("\"ready\"")).unwrap();
    let ready: Value = serde_json::from_str(ready.strip_prefix("<6>").unwrap()).unwrap();
    assert!(ready["message"] == "ready" && ready["timestamp"].is_null(), "{ready}");
}

#[test]
fn levels_change_while_it_runs() {
    let host = Host::local();
    let (upstream, address) = (Upstream::answering(&host), free_address(&host));
    let ringdnsd = Ringdnsd::start(&host, &Settings::loopback(address, upstream.address()));
    let usual = ringdnsd.told(&["logging"]);
    assert_eq!(usual, "info,aya=error\n");
    let set = ringdnsd.told(&["logging", "debug", "--for", "3s"]);
    assert!(set.starts_with("info,aya=error,ringdns=debug, until 20"), "{set}");
    assert_eq!(Client::of(&host, address).ask(&Query::a("www.example")).rcode(), 0);
    until("the usual levels are back", || (ringdnsd.told(&["logging"]) == usual).then_some(()));
    let log = ringdnsd.process().output();
    assert!(log.contains("levels of the log have changed") && log.contains("the usual levels"), "{log}");
    let refused = ringdnsd.ctl(&["logging", "loud=very"]);
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && reason.contains("\"loud=very\" is no filter"), "{reason}");
    ringdnsd.told(&["logging", "ringdns_resolver=trace"]);
    assert_eq!(ringdnsd.told(&["logging"]), "ringdns_resolver=trace\n");
    assert_eq!(ringdnsd.told(&["logging", "--reset"]), usual);
}
