//! Page that shows all results in reading order.

use super::setup::Setup;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};

/// Part of a report, whether it ran or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Name of the part.
    pub name: String,
    /// Heading of the part.
    pub title: String,
    /// Description of the part.
    pub tells: String,
    /// Command that ran.
    pub command: String,
    /// Time that the part took, in seconds.
    pub seconds: f64,
    /// Reason why there is no result, or why the result is a failure.
    pub failure: Option<String>,
    /// Output: Markdown, or text as printed.
    pub text: Text,
    /// Files in the folder of plots.
    pub plots: Vec<String>,
}

/// Output of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Text {
    /// Text to show as it is.
    Plain(String),
    /// Markdown to render.
    Markdown(String),
}

/// Contents of a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Index {
    /// Setup of the run.
    pub setup: Setup,
    /// Planned time, in seconds.
    pub budget: f64,
    /// Parts in reading order.
    pub parts: Vec<Done>,
}

impl Index {
    /// Returns names and reasons of the failures.
    pub fn failures(&self) -> Vec<String> {
        let failed =
            self.parts.iter().filter_map(|part| Some(format!("{}: {}", part.name, part.failure.as_ref()?)));
        failed.collect()
    }

    /// Returns the time that all parts took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.parts.iter().map(|part| part.seconds).sum()
    }
}

/// Formats the report as Markdown.
impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# ringdns: measurements\n\n{}\n", self.setup)?;
        writeln!(
            f,
            "Read docs/performance.md for what these figures show and what they do not: **veth, copy mode, two cores**.\n"
        )?;
        let failures = self.failures();
        if !failures.is_empty() {
            writeln!(f, "**Some parts failed.**\n")?;
            for failure in &failures {
                writeln!(f, "- {failure}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "| part | content | took | |\n| --- | --- | ---: | --- |")?;
        for part in &self.parts {
            let Done { title, tells, seconds, failure, .. } = part;
            let result = if failure.is_some() { "failed" } else { "" };
            writeln!(f, "| [{title}](#{}) | {tells} | {seconds:.0} s | {result} |", anchor(title))?;
        }
        writeln!(f, "\nAll parts took {:.0} s of {:.0} planned.", self.seconds(), self.budget)?;
        self.parts.iter().try_for_each(|part| write!(f, "{part}"))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { title, tells, command, seconds, failure, text, plots, .. } = self;
        writeln!(f, "\n## {title}\n\nContent: {tells}. Took {seconds:.0} s.\n\n```\n{command}\n```\n")?;
        if let Some(failure) = failure {
            writeln!(f, "**Failed**: {failure}\n")?;
        }
        match text {
            Text::Plain(text) if text.trim().is_empty() => {}
            Text::Plain(text) => writeln!(f, "```\n{}\n```", text.trim_end())?,
            Text::Markdown(text) => writeln!(f, "{}", demoted(text).trim())?,
        }
        plots.iter().try_for_each(|plot| {
            let name = plot.strip_suffix(".svg").unwrap_or(plot);
            writeln!(f, "\n![{name}](plots/{plot})")
        })
    }
}

/// Returns Markdown with headings a level lower, and without the title.
fn demoted(markdown: &str) -> String {
    let mut text = String::new();
    for line in markdown.lines() {
        match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(' ') => {}
            // A string takes whatever is written to it.
            Some(_) => drop(writeln!(text, "#{line}")),
            None => drop(writeln!(text, "{line}")),
        }
    }
    text
}

/// Returns the anchor that web sites derive from a heading.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn done(name: &str, failure: Option<&str>, text: Text) -> Done {
        Done {
            name: name.into(),
            title: format!("Part {name}, that"),
            tells: "something".into(),
            command: format!("ringbench {name}"),
            seconds: 10.0,
            failure: failure.map(str::to_owned),
            text,
            plots: vec![format!("{name}.svg")],
        }
    }

    #[test]
    fn parts_stand_in_order_with_their_tables_plots_and_failures() {
        let parts = vec![
            done("one", None, Text::Plain("a table\n".into())),
            done("two", Some("no root"), Text::Markdown("# Title\n\n## Section\n\n| x |\n".into())),
        ];
        let text = Index { setup: Setup::default(), budget: 60.0, parts }.to_string();
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is missing: {text}"));
        assert!(at("## Part one, that") < at("a table") && at("a table") < at("![one](plots/one.svg)"));
        assert!(at("![one](plots/one.svg)") < at("## Part two, that"));
        assert!(at("### Section") > at("**Failed**: no root"));
        assert!(!text.contains("# Title"));
        assert!(at("- two: no root") < at("## Part one, that"), "failures come first");
        at("[Part one, that](#part-one-that)");
        at("All parts took 20 s of 60 planned");
    }
}
