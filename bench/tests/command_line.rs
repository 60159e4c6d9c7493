//! Errors of the command line, as a user of ringbench meets them.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::{Command, Output},
};

fn ringbench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringbench"));
    command.args(arguments).env("RUST_BACKTRACE", "1").output().unwrap()
}

/// Checks that ringbench fails with one line that has `words`, and no backtrace.
#[track_caller]
fn fails(arguments: &[&str], words: &[&str]) {
    let output = ringbench(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("ringbench: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    words.iter().for_each(|word| assert!(lines[0].contains(word), "{word}: {said}"));
    assert!(!said.contains("backtrace") && !said.contains("panicked"), "{said}");
}

#[test]
fn errors_of_the_user_have_no_backtrace() {
    let target = "--target=127.0.0.1";
    fails(&["run", target, "--names=/no/such"], &["/no/such", "No such file"]);
    fails(&["run", target, "--type=NOTYPE"], &["NOTYPE"]);
    fails(&["run", target, "--replay=/no/such.pcap"], &["/no/such.pcap"]);
    fails(&["differential", "--rules=/no/such"], &["/no/such"]);
}

#[test]
fn a_run_without_an_answer_fails_and_still_reports() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = format!("--target={}", silent.local_addr().unwrap());
    let arguments = ["run", &target, "--queries=20", "--timeout-ms=50", "--duration=0.2", "--quiet"];
    fails(&arguments, &["no answer came from 127.0.0.1:", "does a DNS server listen there"]);
    let report = String::from_utf8(ringbench(&arguments).stdout).unwrap();
    assert!(report.contains("answered") && report.contains("0.000 %"), "{report}");
    let json = ringbench(&[&arguments[..], &["--json"]].concat()).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["responses"], 0, "{json}");
}

/// `ringbench … | head`: the reader has what it wants.
#[test]
fn a_reader_that_is_gone_is_no_error() {
    let line = format!(
        "{} run --target 127.0.0.1:9 --queries=1 --timeout-ms=20 --quiet | true",
        env!("CARGO_BIN_EXE_ringbench")
    );
    let output = Command::new("sh").args(["-c", &line]).env("RUST_BACKTRACE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
}

#[test]
fn a_target_needs_no_port() {
    // Nothing answers at these documentation addresses; the message names the port.
    for (target, address) in
        [("127.0.0.127", "127.0.0.127:53"), ("::ffff:127.0.0.127", "[::ffff:127.0.0.127]:53")]
    {
        let output = ringbench(&["run", "--target", target, "--queries=1", "--timeout-ms=20", "--quiet"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(address), "{said}");
    }
    let wrong = ringbench(&["run", "--target", "dns.example"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(2) && said.contains("192.0.2.53:5300"), "{said}");
}

#[test]
fn help_fits_80_columns() {
    let commands = ringbench(&["--help"]);
    let help = String::from_utf8(commands.stdout).unwrap();
    let names: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let names = names.into_iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    let mut seen = 0;
    for name in names {
        let text = String::from_utf8(ringbench(&[name, "--help"]).stdout).unwrap();
        let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{name}: {wide:#?}");
        seen += 1;
    }
    assert!(seen > 10, "{help}");
}
