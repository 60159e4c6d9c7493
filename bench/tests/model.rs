//! The model over kept results: it prints the errors and cores that are kept beside them.

use std::{fs, process::Command};

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runs/2026-11-21-epyc-vm");

/// Returns the errors in percent, line by line.
fn errors(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.contains(" predicted "));
    lines.filter_map(|line| line.strip_suffix(" %")?.split_ascii_whitespace().next_back()).collect()
}

#[test]
fn the_model_fits_kept_results_as_it_did() {
    let mut model = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/model.py"));
    model.arg(format!("--gate={RUN}/gate.json")).arg(format!("--micro={RUN}/micro.json"));
    model.arg(format!("--compare=10000={RUN}/saturation.json"));
    let output = model.arg(format!("--compare=130000={RUN}/more-names.json")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let kept = fs::read_to_string(format!("{RUN}/model.txt")).unwrap();
    assert_eq!(errors(&printed), errors(&kept));
    assert_eq!(errors(&kept).len(), 26);
    for cores in ["26.1", "9.4", "1.0-2.4", "1.0-6.3", "260.7", "94.0", "10.0-24.1", "9.5-62.8"] {
        let is_there = |text: &str| text.split_ascii_whitespace().any(|word| word == cores);
        assert!(is_there(&printed) && is_there(&kept), "{cores}: {printed}");
    }
}
