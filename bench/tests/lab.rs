//! The generator in the kernel and the bare responder, against each other and against kernel sockets.

use ringdns_testkit::{Host, Lab, Process};
use serde_json::Value;
use std::{process::Command, time::Duration};

const SERVER_V4: &str = "10.53.0.2:53";
const SERVER_V6: &str = "[fd53::2]:53";
const START: Duration = Duration::from_secs(20);

fn ringbench(host: &Host, arguments: &[&str]) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_ringbench"));
    command.args(arguments);
    command
}

fn server(lab: &Lab, arguments: &[&str], ready: &str) -> Process {
    let process = Process::spawn("ringbench", ringbench(lab.server(), arguments));
    process.wait_for_line(ready, START);
    process
}

fn responder(lab: &Lab) -> Process {
    let arguments = ["responder", "--interface=vs", "--listen", SERVER_V4, "--listen", SERVER_V6];
    server(lab, &arguments, "answering")
}

fn upstream(lab: &Lab) -> Process {
    let arguments =
        ["upstream", "--nxdomain-suffix=random.example", "--listen", SERVER_V4, "--listen", SERVER_V6];
    server(lab, &arguments, "serving")
}

/// Runs a load at the server and gives its report.
fn report(lab: &Lab, arguments: &[&str]) -> Value {
    let mut command = ringbench(lab.client(), &["run", "--json", "--count=500"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

#[test]
fn the_responder_answers_kernel_sockets_over_both_families() {
    let Some(lab) = Lab::up() else { return };
    let _responder = responder(&lab);
    for target in [SERVER_V4, SERVER_V6] {
        let report = report(&lab, &["--target", target, "--qps=2000", "--duration=0.5", "--mixed-case"]);
        let sent = count(&report, "/queries");
        assert_eq!(count(&report, "/response_rcodes/NOERROR"), sent, "{report}");
        assert_eq!(count(&report, "/discarded"), 0, "{report}");
    }
}

#[test]
fn the_generator_in_the_kernel_gets_its_answers_back() {
    let Some(lab) = Lab::up() else { return };
    let _responder = responder(&lab);
    for target in [SERVER_V4, SERVER_V6] {
        let load = ["--target", target, "--backend=xdp", "--interface=vc", "--qps=5000", "--duration=0.5"];
        let report = report(&lab, &load);
        let (sent, answered) = (count(&report, "/queries"), count(&report, "/responses"));
        assert!(sent > 100, "{report}");
        // Queries that wait while the responder is off its core may find the link's queue full.
        assert!(answered * 10 > sent * 9, "{report}");
        assert_eq!(count(&report, "/response_rcodes/NOERROR"), answered, "{report}");
        assert_eq!(count(&report, "/unexpected"), 0, "{report}");
    }
}

#[test]
fn the_generator_over_rings_verifies_its_answers_from_many_clients() {
    let Some(lab) = Lab::up() else { return };
    const VERIFIED: &str = "--verify-answers=--nxdomain-suffix=random.example";
    let _upstream = upstream(&lab);
    // Kernel servers answer by their routing table; the clients' prefix is behind the client.
    for (target, prefix, via) in
        [(SERVER_V4, "10.53.1.0/24", "10.53.0.1"), (SERVER_V6, "fd53:1::/120", "fd53::1")]
    {
        lab.server().run("ip", ["route", "add", prefix, "via", via]);
        let load = ["--backend=rings", "--interface=vc", "--duration=0.5", "--mixed-case"];
        for pace in ["--qps=5000", "--window=20"] {
            let options = ["--target", target, "--clients", prefix, "--random-share=30", VERIFIED, pace];
            let report = report(&lab, &[&load[..], &options].concat());
            let (sent, answered) = (count(&report, "/queries"), count(&report, "/responses"));
            assert!(sent > 1000 && answered * 10 > sent * 9, "{report}");
            assert_eq!((count(&report, "/discarded"), count(&report, "/unexpected")), (0, 0), "{report}");
            assert_eq!(
                count(&report, "/random/answered"),
                count(&report, "/response_rcodes/NXDOMAIN"),
                "{report}"
            );
        }
    }
}

#[test]
fn an_upstream_on_any_port_finds_one_that_is_free_for_both_protocols() {
    let Some(lab) = Lab::up() else { return };
    let _taken = lab.server().take_half_of_udp();
    for _ in 0..10 {
        drop(server(&lab, &["upstream", "--listen=127.0.0.1:0"], "serving"));
    }
}

#[test]
fn the_generator_in_the_kernel_mixes_random_names_in() {
    let Some(lab) = Lab::up() else { return };
    let _upstream = upstream(&lab);
    let load = ["--backend=xdp", "--interface=vc", "--qps=3000", "--duration=1", "--random-share=50", "--do"];
    let report = report(&lab, &[&["--target", SERVER_V4], load.as_slice()].concat());
    let answered = count(&report, "/responses");
    let random = count(&report, "/response_rcodes/NXDOMAIN");
    assert!(answered > 100 && (4 * random > answered && 4 * random < 3 * answered), "{report}");
}

#[test]
fn an_interrupted_run_reports_what_it_has_and_leaves_no_program_behind() {
    let Some(lab) = Lab::up() else { return };
    let _responder = responder(&lab);
    let load =
        ["run", "--target", SERVER_V4, "--backend=xdp", "--interface=vc", "--duration=600", "--count=500"];
    let mut run = Process::spawn("ringbench run", ringbench(lab.client(), &load));
    std::thread::sleep(Duration::from_secs(1));
    assert!(run.stop().unwrap().success(), "{}", run.output());
    assert!(run.output().contains("answered"), "{}", run.output());
    let link = lab.client().run("ip", ["-details", "link", "show", "dev", "vc"]);
    assert!(!link.contains("prog/xdp"), "{link}");
}
