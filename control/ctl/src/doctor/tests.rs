//! Screens of findings at 80 columns.

use super::*;
use crate::testing::assert_screen;
use ringdns_api::{Change, Fix, Step};

fn finding(check: &str, verdict: Verdict, evidence: &str, remedy: Option<&str>) -> Finding {
    Finding {
        check: check.into(),
        verdict,
        evidence: evidence.into(),
        remedy: remedy.map(Into::into),
        fix: None,
    }
}

fn found() -> Vec<Finding> {
    let hash = |flow: &str| Change {
        make: Step::run(&format!("ethtool -N eth1 rx-flow-hash {flow} sdfn")),
        undo: Step::run(&format!("ethtool -N eth1 rx-flow-hash {flow} sd")),
    };
    let changes = vec![hash("udp4"), hash("udp6")];
    let commands: Vec<String> = changes.iter().map(|change| change.make.to_string()).collect();
    vec![
        finding("kernel", Verdict::Ok, "Linux 6.1.0-13-amd64", None),
        finding(
            "driver",
            Verdict::Ok,
            "i40e: XDP in the driver, with zero-copy if the kernel is recent",
            None,
        ),
        Finding {
            fix: Some(Fix { changes, resets_link: false }),
            ..finding(
                "rss",
                Verdict::Warning,
                "the hash of udp4 and udp6 leaves ports out, so all queries of one client go to one queue",
                Some(&commands.join("; ")),
            )
        },
        finding("mtu", Verdict::Advice, "9000: frames exceed a page", Some("ip link set eth1 mtu 1500")),
        finding(
            "clock",
            Verdict::Unknown,
            "unknown: no service for the time was found; nothing here depends on it",
            None,
        ),
        finding(
            "upstream",
            Verdict::Fault,
            "udp://192.0.2.1:53: no answer within 2 s",
            Some("see that it runs"),
        ),
    ]
}

fn shown(show: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut text = Vec::new();
    show(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn findings_fit_80_columns_the_worst_first() {
    let text = shown(|out| screen::findings(&found(), None, 80, out));
    assert_screen(&text, "src/doctor/testdata/findings.txt");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_change_that_could_cut_off_the_operator_is_marked() {
    let change =
        Change { make: Step::run("ethtool -G eth1 rx 2048"), undo: Step::run("ethtool -G eth1 rx 512") };
    let of = |resets_link| {
        let fix = Some(Fix { changes: vec![change.clone()], resets_link });
        let one = Finding { fix, ..finding("rings", Verdict::Advice, "rx 512", Some("ethtool")) };
        let text = shown(|out| screen::findings(&[one], Some("eth1 has the default route"), 80, out));
        text.lines().nth(2).unwrap().to_owned()
    };
    assert_eq!(of(true), "         left out without --reset-link: eth1 has the default route");
    assert!(of(false).starts_with("0 faults"), "{}", of(false));
}

#[test]
fn changes_say_what_was_left_and_why() {
    let deed = |error: Option<&str>| Deed {
        check: "queues".into(),
        command: "ethtool -L eth1 combined 4".into(),
        error: error.map(Into::into),
        failed: false,
    };
    let text = shown(|out| screen::deeds("changed", &[deed(None), deed(Some("no\u{1b}"))], 80, out));
    assert_eq!(
        text,
        "changed  queues: ethtool -L eth1 combined 4\nleft     queues: ethtool -L eth1 combined 4: no\\u{1b}\n"
    );
    let text = shown(|out| screen::deeds("changed", &[Deed { failed: true, ..deed(Some("no")) }], 80, out));
    assert_eq!(text, "failed   queues: ethtool -L eth1 combined 4: no\n");
    let long = [deed(Some(&UndoError::Running.to_string())), deed(Some(&"reason ".repeat(40)))];
    let text = shown(|out| screen::deeds("changed", &long, 80, out));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn exit_codes_are_those_of_check() {
    let code_of = |verdict| {
        let findings = [finding("a", Verdict::Ok, "", None), finding("b", verdict, "", None)];
        format!("{:?}", code(&findings, &[]))
    };
    let codes =
        [Verdict::Ok, Verdict::Unknown, Verdict::Advice, Verdict::Warning, Verdict::Fault].map(code_of);
    let expected = [0, 0, 0, 1, 2].map(|code| format!("{:?}", ExitCode::from(code)));
    assert_eq!(codes, expected);
}

#[test]
fn a_change_that_failed_is_no_success() {
    let code_of = |error: Option<&UndoError>, verdict| {
        let deeds = [Deed::new("queues", "ethtool".into(), error), Deed::new("rss", "ethtool".into(), None)];
        format!("{:?}", code(&[finding("a", verdict, "", None)], &deeds))
    };
    let failed =
        UndoError::Write { path: "/undo.json".into(), source: io::ErrorKind::PermissionDenied.into() };
    let codes = [
        code_of(None, Verdict::Advice),
        code_of(Some(&UndoError::Running), Verdict::Advice),
        code_of(Some(&failed), Verdict::Advice),
        code_of(Some(&failed), Verdict::Fault),
    ];
    assert_eq!(codes, [0, 0, 1, 2].map(|code| format!("{:?}", ExitCode::from(code))));
}

#[test]
fn users_are_found_by_name() {
    assert_eq!(user_of("root"), Some([0, 0]));
    assert_eq!(user_of("no-such-user"), None);
}
