//! Parts of a report: commands, their order, and their time.

use std::path::{Path, PathBuf};

/// Command of this program, and the handling of its output.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the part and of its files.
    pub name: &'static str,
    /// Heading of the part.
    pub title: &'static str,
    /// Description of the part.
    pub tells: &'static str,
    /// Command line, after the program.
    pub arguments: Vec<String>,
    /// Time on a machine of two cores, in seconds.
    pub budget: u64,
    /// Whether it writes Markdown, which replaces its output.
    pub markdown: bool,
}

/// Options that the parts depend on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Folder of the results.
    pub out: PathBuf,
    /// Whether less of everything runs.
    pub short: bool,
    /// Whether the build may have another profile than the release builds.
    pub any_build: bool,
    /// File of real names, for the simulation of fleets.
    pub names: Option<PathBuf>,
    /// Priority of servers and generator.
    pub nice: i8,
}

/// Number of names of the comparison that only the model needs: nearly as many as the generator can
/// ask for.
const MORE_NAMES: &str = "130000";

impl Plan {
    fn file(&self, part: &str, suffix: &str) -> String {
        self.out.join(format!("{part}.{suffix}")).display().to_string()
    }

    /// Returns the parts in reading order.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = self.without_kernel();
        for (name, title, tells, budget) in [
            (
                "saturation",
                "Answers a second",
                "rate of answers of each server when asked for more than it can answer",
                240,
            ),
            ("hits", "Misses among the hits", "the highest rate with little loss, by share of hits", 420),
            ("latency", "Latency", "at half of each server's own maximum, open loop", 180),
            ("memory", "Memory", "with 100 thousand and a million names", 150),
            ("flood", "Flood", "hits before, during and after a flood of random names", 150),
        ] {
            if !self.short || name == "saturation" {
                parts.push(self.compare(name, title, tells, budget));
            }
        }
        parts.push(self.more_names());
        parts.push(self.model());
        parts
    }

    fn without_kernel(&self) -> Vec<Part> {
        let plots = self.out.join("plots").display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let mut gate =
            words(&["gate", "--baseline", "bench/instructions.json", "--json", &self.file("gate", "json")]);
        let mut micro = words(&["micro", "--json", &self.file("micro", "json"), "--plots", &plots]);
        let mut flood = words(&["flood-sim", "--json", &self.file("flood-sim", "json")]);
        let mut fleet = words(&["fleet", "--json", &self.file("fleet", "json"), "--plots", &plots]);
        if self.any_build {
            gate.push("--any-build".into());
        }
        if let Some(names) = &self.names {
            fleet.extend(["--names".into(), names.display().to_string()]);
        }
        if self.short {
            micro.extend(words(&["--names=10000,30000,100000,1000000", "--queries=500000", "--rounds=3"]));
            flood.extend(words(&[
                "--names=50000",
                "--cache-bytes=2621440",
                "--rate=5000",
                "--settle=100",
                "--seconds=30",
            ]));
            fleet.extend(words(&[
                "--made-up=100000",
                "--queries=300000",
                "--workers=1,4,16",
                "--budgets=8,32,128",
            ]));
        }
        let part = |name, title, tells, arguments, (long, short)| Part {
            name,
            title,
            tells,
            arguments,
            budget: if self.short { short } else { long },
            markdown: false,
        };
        vec![
            part(
                "gate",
                "Instructions and allocations",
                "cost of each piece of work, without noise",
                gate,
                (45, 45),
            ),
            part(
                "micro",
                "Hits without a kernel",
                "effect of the processor's caches with 10 thousand to 10 million names",
                micro,
                (90, 25),
            ),
            part(
                "flood-sim",
                "Hit ratio under a flood, simulated",
                "effect of random names on popular ones",
                flood,
                (60, 10),
            ),
            part(
                "fleet",
                "Fleets, simulated",
                "copies against shards, memory, and upstream queries",
                fleet,
                (120, 20),
            ),
        ]
    }

    fn compare(&self, name: &'static str, title: &'static str, tells: &'static str, budget: u64) -> Part {
        let plots = self.out.join("plots").display().to_string();
        let mut arguments: Vec<String> = ["compare", "--measure", name].map(String::from).to_vec();
        arguments.extend([
            "--json".into(),
            self.file(name, "json"),
            "--markdown".into(),
            self.file(name, "md"),
        ]);
        arguments.extend(["--plots".into(), plots, format!("--nice={}", self.nice)]);
        if self.short {
            arguments.extend(["--rounds=2", "--seconds=1"].map(String::from));
            arguments.extend(
                ["responder", "ringdnsd", "ringdnsd-kernel", "unbound"].map(|only| format!("--only={only}")),
            );
        }
        Part { name, title, tells, arguments, budget: if self.short { 45 } else { budget }, markdown: true }
    }

    fn more_names(&self) -> Part {
        let mut part = self.compare(
            "more-names",
            "More names",
            "answers a second with more names, to check the model against",
            90,
        );
        part.arguments =
            ["compare", "--measure=saturation", "--names", MORE_NAMES].map(String::from).to_vec();
        part.arguments
            .extend(["responder", "ringdnsd", "ringdnsd-kernel"].map(|only| format!("--only={only}")));
        part.arguments.extend(["--json".into(), self.file("more-names", "json")]);
        part.arguments.extend([
            "--markdown".into(),
            self.file("more-names", "md"),
            format!("--nice={}", self.nice),
        ]);
        if self.short {
            part.arguments.push("--rounds=1".into());
        }
        part
    }

    fn model(&self) -> Part {
        let mut arguments: Vec<String> = vec!["model".into()];
        for input in ["gate", "micro"] {
            arguments.extend([format!("--{input}"), self.file(input, "json")]);
        }
        for (names, file) in [("10000", "saturation"), (MORE_NAMES, "more-names")] {
            arguments.extend(["--compare".into(), format!("{names}={}", self.file(file, "json"))]);
        }
        arguments.extend(["--json".into(), self.file("model", "json")]);
        arguments.extend(["--plots".into(), self.out.join("plots").display().to_string()]);
        Part {
            name: "model",
            title: "The model",
            tells: "a model of the cost of an answer, its error, and the cores that links need",
            arguments,
            budget: 10,
            markdown: false,
        }
    }
}

impl Part {
    /// Returns the command to show, with a variable in place of the results' folder.
    pub fn command(&self, out: &Path) -> String {
        let out = out.display().to_string();
        let words = self
            .arguments
            .iter()
            .map(|word| if out.is_empty() { word.clone() } else { word.replace(&out, "DIR") });
        format!("ringbench {}", words.collect::<Vec<_>>().join(" "))
    }

    /// Leaves out inputs from parts that have no results.
    pub fn with_inputs_that_exist(mut self) -> Self {
        let mut kept = Vec::new();
        let mut words = std::mem::take(&mut self.arguments).into_iter();
        while let Some(word) = words.next() {
            if word == "--compare" {
                let Some(input) = words.next() else { break };
                if input.split_once('=').is_some_and(|(_, path)| Path::new(path).exists()) {
                    kept.extend([word, input]);
                }
            } else {
                kept.push(word);
            }
        }
        self.arguments = kept;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(short: bool) -> Plan {
        Plan { out: "/nowhere/x".into(), short, any_build: false, names: None, nice: 0 }
    }

    #[test]
    fn all_parts_fit_into_half_an_hour_and_the_short_ones_into_five_minutes() {
        for (short, limit) in [(false, 1800), (true, 300)] {
            let budget: u64 = plan(short).parts().iter().map(|part| part.budget).sum();
            assert!(budget <= limit, "{budget} s of {limit}");
        }
    }

    #[test]
    fn the_model_comes_last_and_takes_what_there_is() {
        let parts = plan(false).parts();
        let model = parts.last().unwrap().clone();
        assert_eq!(model.name, "model");
        assert!(model.command(Path::new("/nowhere/x")).contains("--compare 10000=DIR/saturation.json"));
        let model = model.with_inputs_that_exist();
        assert!(
            !model.arguments.iter().any(|word| word.contains("compare") || word.contains("saturation")),
            "{model:?}"
        );
        assert!(model.arguments.contains(&"--micro".to_owned()));
    }
}
