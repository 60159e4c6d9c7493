//! Folder of results: a page with conditions and tables, the same data as JSON, and logs.

use super::{
    load::Outcome,
    prepare,
    subject::Subject,
    trial::{Round, Sample, Trial, Trials},
};
use crate::{compare::stats::Summary, output, report::group, setup::Setup};
use anyhow::Result;
use ringdns_common::mask::mask;
use ringdns_doctor::{host::Host, nic::Nic};
use serde::Serialize;
use std::{fmt, path::Path};

/// Conditions of the trials.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Program, commit, machine, and time.
    pub setup: Setup,
    /// Versions of the programs that took part.
    pub versions: Vec<String>,
    /// NIC, as it was measured.
    pub nic: Nic,
    /// Host of the NIC.
    pub host: Host,
    /// Number of queues that were served.
    pub queues: u32,
    /// Cores of the servers.
    pub cores: Vec<usize>,
    /// Number of names that were asked.
    pub names: u32,
    /// Length of a measurement, in seconds.
    pub seconds: f64,
    /// Generator and its place.
    pub peer: String,
    /// Remarks for the readers.
    pub notes: Vec<String>,
}

/// Contents of the JSON file.
#[derive(Serialize)]
struct Results<'a> {
    conditions: &'a Conditions,
    trials: &'a [Trial],
}

/// Writes all files of the folder.
pub fn write(folder: &Path, conditions: &Conditions, trials: &Trials) -> Result<()> {
    let results = serde_json::to_string_pretty(&Results { conditions, trials: &trials.all })? + "\n";
    write_masked(&folder.join("results.json"), &results)?;
    for (setting, log) in &trials.logs {
        let name = format!("ringdnsd-{}.log", setting.replace(", ", "-").replace(' ', "-"));
        write_masked(&folder.join(name), log)?;
    }
    let page = Page { conditions, trials: &trials.all };
    write_masked(&folder.join("README.md"), &page.to_string())
}

fn write_masked(path: &Path, text: &str) -> Result<()> {
    output::text(Some(path), &mask(text))
}

struct Page<'a> {
    conditions: &'a Conditions,
    trials: &'a [Trial],
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { setup, versions, nic, host, queues, cores, names, seconds, peer, notes } =
            self.conditions;
        writeln!(f, "# ringdns on a NIC: {}\n\n{setup}", nic.driver.name)?;
        versions.iter().try_for_each(|version| writeln!(f, "- {version}."))?;
        writeln!(
            f,
            "- Queues served: {queues}; cores of the servers: {cores:?}; {} names, all of them cached; {seconds:.1} s a \
             measurement.\n- Load: {peer}.",
            group((*names).into()),
        )?;
        notes.iter().try_for_each(|note| writeln!(f, "- {note}"))?;
        writeln!(f, "\n## Results\n\n{}\n", self.caption())?;
        writeln!(
            f,
            "| mode | tuning | server | answers/s | to the responder | queries/s | unanswered | server ns/answer | host ns/answer | \
             at half: unanswered | p50 µs | p99 µs | p99.9 µs |\n\
             | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        )?;
        let measured = || self.trials.iter().filter(|trial| !trial.rounds.is_empty());
        measured().try_for_each(|trial| writeln!(f, "{}", self.row(trial)))?;
        writeln!(f, "\n{COLUMNS}")?;
        if self.trials.iter().any(|trial| trial.failure.is_some()) {
            writeln!(f, "\n## Not measured\n\n| mode | tuning | server | why |\n| --- | --- | --- | --- |")?;
            for Trial { setting, subject, failure, .. } in self.trials {
                let Some(failure) = failure else { continue };
                let why = failure.replace('\n', " ").replace('|', "/");
                writeln!(f, "| {} | {} | {subject} | {why} |", setting.mode.label(), setting.tuning)?;
            }
        }
        writeln!(f, "\n## Modes that servers reported, and other counters\n")?;
        for trial in measured() {
            let reached = trial.reached.as_deref().unwrap_or("nothing");
            writeln!(f, "- {}, {}: `{reached}`{}", trial.setting, trial.subject, others(&trial.rounds))?;
        }
        writeln!(f, "\n## The NIC and its host\n\n| {} | |\n| --- | --- |\n{nic}{host}", nic.interface)?;
        prepare::advice(nic, host).iter().try_for_each(|advice| writeln!(f, "- {advice}"))
    }
}

/// Explanation of the table's columns.
const COLUMNS: &str = "Answers and queries a second are at saturation: the generator asks for more than is answered, so \
    most of the difference is intended; where another host asks, they are at the rate that it sends. \
    *Server* is the processor time of the server's own threads for an answer, including the kernel's \
    work on their behalf; *host* is that of all cores but the generator's, interrupts included, so that \
    work that a tuning moves elsewhere is seen. *At half* is an open loop at half of that server's own \
    answers a second: latency counts from when a query was due. A row holds only under the conditions \
    above it: NIC, driver, firmware, kernel, processor and number of queues change the figures.";

impl Page<'_> {
    /// Returns the conditions that belong beside every number.
    fn caption(&self) -> String {
        let Conditions { nic, host, queues, cores, .. } = self.conditions;
        let speed = nic.speed_mbits.map_or("link of unknown speed".into(), |speed| format!("{speed} Mbit/s"));
        format!(
            "**{}, firmware {}; {speed}; queues: {queues}; server cores: {}, {}; Linux {}.**",
            nic.driver.name,
            nic.driver.firmware.as_deref().unwrap_or("unknown"),
            cores.len(),
            host.machine.processor,
            host.machine.kernel
        )
    }

    fn row(&self, trial: &Trial) -> String {
        let rate = |round: &Round| round.saturation.outcome.answers_per_second;
        let same_setting =
            |other: &&Trial| other.setting == trial.setting && other.subject == Subject::Responder;
        let bare = self.trials.iter().find(same_setting);
        let ratio = bare.and_then(|bare| {
            let (own, bare) = (median(&trial.rounds, rate)?, median(&bare.rounds, rate)?);
            Some(format!("{:.2}", own / bare))
        });
        let at_saturation =
            |figure: fn(&Sample) -> f64| median(&trial.rounds, |round| figure(&round.saturation));
        let paced: Vec<&Sample> = trial.rounds.iter().filter_map(|round| round.paced.as_ref()).collect();
        let at_half = |figure: &dyn Fn(&Outcome) -> Option<f64>| {
            Summary::of(paced.iter().filter_map(|sample| figure(&sample.outcome)))
                .map(|summary| summary.median)
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
        let micros = |quantile: usize| {
            let micros = at_half(&|outcome| Some(outcome.latency_micros?[quantile]));
            or_dash(micros.map(|micros| format!("{micros:.0}")))
        };
        let cells = [
            trial.setting.mode.label().into(),
            trial.setting.tuning.to_string(),
            trial.subject.to_string(),
            or_dash(spread(&trial.rounds, rate)),
            or_dash(ratio),
            or_dash(at_saturation(|sample| sample.outcome.queries_per_second).map(|rate| group(rate as u64))),
            or_dash(
                at_saturation(|sample| sample.outcome.unanswered_percent)
                    .map(|share| format!("{share:.2} %")),
            ),
            or_dash(at_saturation(|sample| sample.server_cpu_nanos).map(|nanos| group(nanos as u64))),
            or_dash(at_saturation(|sample| sample.host_cpu_nanos).map(|nanos| group(nanos as u64))),
            or_dash(
                at_half(&|outcome| Some(outcome.unanswered_percent)).map(|share| format!("{share:.2} %")),
            ),
            micros(0),
            micros(1),
            micros(2),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

fn median(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Option<f64> {
    Summary::of(rounds.iter().map(figure)).map(|summary| summary.median)
}

/// Formats the median and, for several rounds, the least and the greatest figure.
fn spread(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Option<String> {
    let Summary { median, min, max } = Summary::of(rounds.iter().map(figure))?;
    let [median, min, max] = [median, min, max].map(|figure| group(figure as u64));
    Some(if rounds.len() > 1 { format!("{median} ({min}–{max})") } else { median })
}

fn others(rounds: &[Round]) -> String {
    let Some(round) = rounds.last().filter(|round| !round.others.is_empty()) else { return String::new() };
    let counted = round.others.iter().map(|(name, count)| format!("{name} {}", group(*count)));
    format!("; in the last round {}", counted.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nic::setting::{Mode, Setting, Tuning};
    use std::{collections::BTreeMap, fs};

    fn sample(rate: f64) -> Sample {
        let outcome = Outcome {
            queries_per_second: 2.0 * rate,
            answers_per_second: rate,
            unanswered_percent: 50.0,
            answers: rate,
            latency_micros: Some([10.0, 20.0, 30.0]),
        };
        Sample { outcome, server_cpu_nanos: 900.0, host_cpu_nanos: 1100.0 }
    }

    fn trial(subject: Subject, rates: &[f64]) -> Trial {
        let others = BTreeMap::from([("nic.rx_missed_errors".to_owned(), 1234)]);
        let round = |rate: &f64| Round {
            saturation: sample(*rate),
            paced: Some(sample(rate / 2.0)),
            others: others.clone(),
        };
        Trial {
            setting: Setting { mode: Mode::Copy, tuning: Tuning::None },
            subject,
            reached: Some("program: driver, socket: copy".into()),
            rounds: rates.iter().map(round).collect(),
            failure: None,
        }
    }

    fn conditions() -> Conditions {
        Conditions {
            setup: Setup::default(),
            versions: vec!["ringdnsd 0.1.0".into()],
            nic: Nic { interface: "eth1".into(), ..Nic::default() },
            host: Host::default(),
            queues: 2,
            cores: vec![1, 2],
            names: 10_000,
            seconds: 4.0,
            peer: "a port of this host".into(),
            notes: vec!["The address 192.0.2.1 must not be seen.".into()],
        }
    }

    #[test]
    fn a_row_has_the_median_its_spread_and_the_ratio_to_the_responder() {
        let trials =
            [trial(Subject::Responder, &[1000.0, 2000.0, 4000.0]), trial(Subject::Ringdnsd, &[1500.0])];
        let conditions = conditions();
        let page = Page { conditions: &conditions, trials: &trials };
        assert!(
            page.row(&trials[0]).contains("| 2,000 (1,000–4,000) | 1.00 | 4,000 | 50.00 % | 900 | 1,100 |")
        );
        assert!(page.row(&trials[1]).contains("| 1,500 | 0.75 |"), "{}", page.row(&trials[1]));
        assert!(page.row(&trials[1]).ends_with("| 50.00 % | 10 | 20 | 30 |"));
        let text = page.to_string();
        assert!(text.contains("; in the last round nic.rx_missed_errors 1,234"), "{text}");
        assert!(!text.contains("## Not measured"), "{text}");
    }

    #[test]
    fn the_folder_has_all_files_and_no_address() {
        let folder = tempfile::tempdir().unwrap();
        let mut trials = Trials { all: vec![trial(Subject::Ringdnsd, &[1500.0])], ..Trials::default() };
        trials.logs.insert("copy, busy polling".into(), "listen=[192.0.2.1:53]".into());
        let failed =
            Trial { rounds: Vec::new(), failure: Some("no\nroot".into()), ..trial(Subject::Responder, &[]) };
        trials.all.push(failed);
        write(folder.path(), &conditions(), &trials).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("ringdnsd-copy-busy-polling.log"), "listen=[IPV4:53]");
        let page = read("README.md");
        assert!(
            page.contains("The address IPV4 must") && page.contains("| copy | plain | responder | no root |"),
            "{page}"
        );
        let results: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
        assert_eq!(results["conditions"]["notes"][0], "The address IPV4 must not be seen.");
        assert_eq!(results["trials"][0]["rounds"][0]["saturation"]["answers_per_second"], 1500.0);
    }
}
