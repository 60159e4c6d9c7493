//! What a comparison found, and under which conditions.

use super::{Args, Contestant, Figures};
use crate::report::group;
use anyhow::{Context, Result};
use rustix::system::{sysinfo, uname};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fmt, fs, path::Path, time::SystemTime};

/// Everything that figures depend on.
#[derive(Clone, Debug)]
pub struct Conditions {
    rounds: u16,
    seconds: f64,
    names: u32,
    nice: i8,
    kernel: String,
    processor: String,
    /// Programs that wanted a core when the run began: 0 on a machine with nothing else to do.
    load: f64,
    when: u64,
}

impl Conditions {
    /// Of a comparison that is about to begin.
    pub fn of(args: &Args) -> Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Conditions {
            rounds: args.rounds,
            seconds: args.seconds,
            names: args.names,
            nice: args.nice,
            kernel: uname().release().to_string_lossy().into_owned(),
            processor: processor(),
            // In units of 1/65536.
            load: sysinfo().loads[0] as f64 / 65536.0,
            when: since.as_secs(),
        })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "veth, copy mode, two cores: server on one, live-frame generator beyond saturation on the other. \
             {} rounds of {} s in turns, {} names cached, 100 % hits. Linux {}, {}, load {:.1} before",
            self.rounds,
            self.seconds,
            group(self.names.into()),
            self.kernel,
            self.processor,
            self.load
        )?;
        if self.nice != 0 {
            write!(f, ", nice {}", self.nice)?;
        }
        if self.load > 0.5 {
            f.write_str(". The machine had other work: believe ratios, and those with caution")?;
        }
        f.write_str(".")
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown processor".into(), |(_, name)| name.trim().into())
}

/// The figures of all rounds.
#[derive(Clone, Debug)]
pub struct Table {
    conditions: Conditions,
    figures: BTreeMap<Contestant, Vec<Figures>>,
}

/// A contestant's rounds in short.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

impl Table {
    /// Without figures yet.
    pub fn new(conditions: Conditions) -> Self {
        Table { conditions, figures: BTreeMap::new() }
    }

    /// Adds what came of one turn.
    pub fn add(&mut self, contestant: Contestant, figures: Figures) {
        self.figures.entry(contestant).or_default().push(figures);
    }

    fn rate(&self, contestant: Contestant) -> Option<Summary> {
        self.summary(contestant, |figures| figures.answers_per_second)
    }

    fn cpu(&self, contestant: Contestant) -> Option<Summary> {
        self.summary(contestant, |figures| figures.cpu_nanos)
    }

    fn summary(&self, contestant: Contestant, figure: impl Fn(&Figures) -> f64) -> Option<Summary> {
        Summary::of(self.figures.get(&contestant)?.iter().map(figure).collect())
    }

    /// Median over median: of answers a second, and of answers a processor second.
    fn ratios(&self, contestant: Contestant, to: Contestant) -> Option<[f64; 2]> {
        let rate = self.rate(contestant)?.median / self.rate(to)?.median;
        let cpu = self.cpu(to)?.median / self.cpu(contestant)?.median;
        Some([rate, cpu])
    }

    /// Writes the table where it was asked for.
    pub fn write(&self, markdown: Option<&Path>, json: Option<&Path>) -> Result<()> {
        let write = |path: &Path, text: String| {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        if let Some(path) = markdown {
            write(path, self.to_string())?;
        }
        if let Some(path) = json {
            write(path, serde_json::to_string_pretty(&self.json())? + "\n")?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let servers = self.figures.iter().map(|(contestant, rounds)| {
            let summary =
                |s: Option<Summary>| s.map(|s| json!({ "median": s.median, "min": s.least, "max": s.most }));
            let ratios =
                |to| self.ratios(*contestant, to).map(|[rate, cpu]| json!({ "rate": rate, "cpu": cpu }));
            let value = json!({
                "answers_per_second": summary(self.rate(*contestant)),
                "cpu_nanos_per_answer": summary(self.cpu(*contestant)),
                "ratio_to_unbound": ratios(Contestant::Unbound),
                "ratio_to_responder": ratios(Contestant::Responder),
                "rounds": rounds,
            });
            (contestant.to_string(), value)
        });
        json!({
            "when": self.conditions.when,
            "conditions": self.conditions.to_string(),
            "servers": servers.collect::<Map<_, _>>(),
        })
    }
}

impl Summary {
    fn of(mut rates: Vec<f64>) -> Option<Self> {
        rates.sort_by(f64::total_cmp);
        let (least, most) = (*rates.first()?, *rates.last()?);
        let middle = rates.len() / 2;
        let median = if rates.len().is_multiple_of(2) {
            rates[middle - 1].midpoint(rates[middle])
        } else {
            rates[middle]
        };
        Some(Summary { median, least, most })
    }
}

/// As Markdown, which is readable as it is.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.conditions)?;
        let mut row = |cells: [&str; 7]| {
            let [server, rate, spread, unbound, bare, cpu, answer] = cells;
            writeln!(
                f,
                "| {server:<24} | {rate:>9} | {spread:>17} | {unbound:>11} | {bare:>11} | {cpu:>10} | {answer:>6} |"
            )
        };
        row(["server", "answers/s", "min-max", "to Unbound", "to bare", "CPU/answer", "answer"])?;
        row(["---", "---:", "---:", "---:", "---:", "---:", "---:"])?;
        for (contestant, rounds) in &self.figures {
            let (Some(rate), Some(cpu)) = (self.rate(*contestant), self.cpu(*contestant)) else { continue };
            let ratios = |to| {
                let ratios = self.ratios(*contestant, to);
                ratios.map_or_else(|| "-".into(), |[rate, cpu]| format!("{rate:.2} / {cpu:.2}"))
            };
            let bytes = rounds.iter().map(|figures| figures.answer_bytes).sum::<f64>() / rounds.len() as f64;
            row([
                &contestant.to_string(),
                &group(rate.median as u64),
                &format!("{}-{}", group(rate.least as u64), group(rate.most as u64)),
                &ratios(Contestant::Unbound),
                &ratios(Contestant::Responder),
                &format!("{} ns", group(cpu.median as u64)),
                &format!("{bytes:.0} B"),
            ])?;
        }
        writeln!(
            f,
            "\nRatios: of answers a second / of answers a processor second. On a machine with other work believe the latter."
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let conditions = Conditions {
            rounds: 3,
            seconds: 1.0,
            names: 10_000,
            nice: 0,
            kernel: "6.1".into(),
            processor: "a processor".into(),
            load: 0.0,
            when: 0,
        };
        let mut table = Table::new(conditions);
        for (contestant, rates) in
            [(Contestant::Unbound, [200e3, 100e3, 300e3]), (Contestant::RingdnsXdp, [700e3, 690e3, 600e3])]
        {
            for answers_per_second in rates {
                let figures = Figures {
                    answers_per_second,
                    queries_per_second: 2e6,
                    answer_bytes: 94.0,
                    cpu_nanos: 1e3,
                };
                table.add(contestant, figures);
            }
        }
        table
    }

    #[test]
    fn medians_are_compared_and_the_spread_is_shown() {
        let text = table().to_string();
        let ours = text.lines().find(|line| line.contains("ringdnsd, AF_XDP")).unwrap();
        assert!(
            ours.contains("690,000") && ours.contains("600,000-700,000") && ours.contains("3.45 / 1.00"),
            "{ours}"
        );
        assert!(text.contains("veth, copy mode, two cores"), "every table says what it was measured on");
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_too() {
        assert_eq!(
            Summary::of(vec![4.0, 1.0, 2.0, 3.0]),
            Some(Summary { median: 2.5, least: 1.0, most: 4.0 })
        );
        assert_eq!(Summary::of(vec![]), None);
    }
}
