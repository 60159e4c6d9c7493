//! Scripts over kept results: the model prints the errors and cores that are kept beside them, and the
//! plots are those that are kept.

use std::{collections::BTreeSet, fs, process::Command};

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

#[test]
fn kept_results_give_the_plots_that_are_kept() {
    let mut plot = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/plot.py"));
    let parts = ["saturation", "hits", "latency", "memory", "flood", "micro", "fleet", "gate"];
    plot.args(["--print", "--out", "plots"]).args(parts.map(|part| format!("{RUN}/{part}.json")));
    plot.arg(format!("{RUN}/../2026-11-28-nic-dry-run/igb/results.json"));
    let output = plot.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let drawn: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("set output \"plots/")?.strip_suffix(".svg\""))
        .collect();
    let kept = "answers cpu fleet-appliances fleet-budget fleet-workers flood hits latency memory micro-hits micro-loads \
                saturation";
    assert_eq!(drawn, kept.split_ascii_whitespace().collect());
    // The figures of the README.
    for bar in [r#""ringdnsd, AF_XDP" 865894."#, r#""BIND" 172458."#, r#""copy, none, responder" "#] {
        assert!(printed.contains(bar), "{bar}: {printed}");
    }
}

/// Returns what gnuplot is told for the plots of a kept result, by plot.
fn commands(result: &str) -> Vec<String> {
    let mut plot = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/plot.py"));
    let output = plot.args(["--print", "--out", "plots"]).arg(result).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.split("set output ").skip(1).map(str::to_owned).collect()
}

#[test]
fn plots_name_their_conditions_and_every_bar_and_line() {
    for part in ["saturation", "hits", "latency", "memory", "flood", "micro"] {
        for plot in commands(&format!("{RUN}/{part}.json")) {
            let title = plot.lines().find(|line| line.starts_with("set label 2 ")).unwrap();
            assert!(title.contains("2 cores of AMD EPYC, Linux 6.18.44"), "{part}: {title}");
            if part != "micro" {
                assert!(title.contains("veth, copy mode") && title.contains("2026-11-21"), "{part}: {title}");
            }
        }
    }
    for result in [format!("{RUN}/latency.json"), format!("{RUN}/../2026-11-28-nic-dry-run/igb/results.json")]
    {
        for plot in commands(&result) {
            let bars = plot.lines().skip_while(|line| *line != "$d << end").skip(1);
            let names: Vec<_> =
                bars.take_while(|line| *line != "end").map(|bar| bar.split('"').nth(1)).collect();
            let different: BTreeSet<_> = names.iter().collect();
            assert_eq!(names.len(), different.len(), "{names:?}");
        }
    }
    // Two of the lines are one on the other.
    for plot in commands(&format!("{RUN}/fleet.json")) {
        let drawn = plot.lines().find(|line| line.starts_with("plot ")).unwrap();
        let styles: Vec<_> = drawn
            .split(", $d")
            .filter_map(|line| Some(line.split_once("linewidth ")?.1.split_once(" title")?.0))
            .collect();
        let different: BTreeSet<_> = styles.iter().collect();
        assert!(styles.len() == 3 && different.len() == 3, "{drawn}");
    }
}
