//! Tests of `ringbench nic` on the two ends of a cable within one host.

use ringdns_testkit::{Lab, Process, ringbench, until};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(120);
const THREADED: &str = "/sys/class/net/vs/threaded";

/// Returns a lab whose cable has both ends in the server's namespace: `vs` is the NIC, and `vc` the
/// switch port.
fn wired() -> Option<Lab> {
    let lab = Lab::up()?;
    let namespace = lab.server().run("ip", ["netns", "identify"]).trim().to_owned();
    lab.client().run("ip", ["link", "set", "vc", "netns", &namespace]);
    lab.server().run("ip", ["link", "set", "vc", "up"]);
    until("vc has a link", || link(&lab).contains(" UP ").then_some(()));
    Some(lab)
}

fn nic(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = ringbench(lab.server());
    command.args(["nic", "--interface=vs", "--any-build"]).args(arguments);
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the state of `vc`, or nothing while it is elsewhere.
fn link(lab: &Lab) -> String {
    lab.server().run("sh", ["-c", "ip -brief link show dev vc 2>&1 || true"])
}

/// Returns the current values of the settings that trials change.
fn state(lab: &Lab) -> [String; 5] {
    let server = lab.server();
    [
        server.run("ip", ["-brief", "address", "show", "dev", "vs"]),
        link(lab),
        server.run("cat", [THREADED]),
        server.run("cat", ["/sys/class/net/vs/napi_defer_hard_irqs"]),
        server.run("sh", ["-c", "ip -details link show dev vs | grep -c prog/xdp || true"]),
    ]
}

/// Waits until all settings are as before: the kernel reports the state of a link a moment late.
fn wait_for(before: &[String; 5], lab: &Lab) {
    until("all settings are put back", || (state(lab) == *before).then_some(()));
}

#[test]
fn both_servers_are_measured_and_everything_is_put_back() {
    let Some(lab) = wired() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let before = state(&lab);
    let load =
        ["--mode=copy", "--tuning=threaded-napi", "--seconds=0.5", "--names=500", "--peer-interface=vc"];
    let output = nic(&lab, &load).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    wait_for(&before, &lab);

    let results: Value = serde_json::from_str(&read(&out, "results.json")).unwrap();
    let trials = results["trials"].as_array().unwrap();
    assert_eq!(trials.len(), 4, "two servers, plain and threaded: {results:#}");
    for trial in trials {
        assert_eq!(trial["failure"], Value::Null, "{trial:#}");
        for load in ["saturation", "paced"] {
            let rate = trial["rounds"][0][load]["answers_per_second"].as_f64().unwrap();
            assert!(rate > 100.0, "{trial:#}");
        }
        assert!(trial["reached"].as_str().unwrap().starts_with("program: driver, socket"), "{trial:#}");
    }
    let page = read(&out, "README.md");
    assert!(page.contains("| copy | threaded NAPI | ringdnsd |"), "{page}");
    let log = read(&out, "ringdnsd-copy-plain.log");
    assert!(log.contains(" ready "), "{log}");
    for text in [page, log, read(&out, "results.json")] {
        assert!(!text.contains("10.53.0.") && !text.contains("02:00:00:00:53"), "an address is left: {text}");
    }
}

#[test]
fn a_signal_ends_it_and_everything_is_put_back() {
    let Some(lab) = wired() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let before = state(&lab);
    let mut command = nic(
        &lab,
        &["--mode=copy", "--tuning=threaded-napi", "--seconds=0.2", "--rounds=20", "--peer-interface=vc"],
    );
    let mut process = Process::spawn("ringbench nic", {
        command.arg("--out").arg(&out);
        command
    });
    process.wait_for_line("threaded NAPI, responder", PATIENCE);
    assert_ne!(state(&lab), before, "nothing was changed");
    let status = process.stop().unwrap();
    assert!(!status.success() && process.output().contains("interrupted"), "{}", process.output());
    wait_for(&before, &lab);
    assert!(read(&out, "README.md").contains("interrupted"));
}

#[test]
fn an_interface_that_the_host_needs_is_left_alone() {
    let Some(lab) = wired() else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    lab.server().run("ip", ["route", "add", "default", "via", "10.53.0.1"]);
    let output = nic(&lab, &["--peer-interface=vc"]).arg("--out").arg(&out).output().unwrap();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains("default route") && said.contains("--yes-this-interface"),
        "{said}"
    );
    lab.server().run("ip", ["route", "delete", "default"]);
    lab.server().run("ip", ["address", "add", "10.53.9.1/24", "dev", "vc"]);
    let output = nic(&lab, &["--peer-interface=vc"]).arg("--out").arg(&out).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success() && said.contains("ip address flush dev vc"), "{said}");
    assert!(!out.exists(), "a folder was made for nothing");
    let output = nic(&lab, &["--dry-run"]).output().unwrap();
    assert!(output.status.success() && text(&output).contains("| driver | veth"), "{}", text(&output));
}
