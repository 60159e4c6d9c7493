//! Findings of `ringctl doctor`, and the changes that mend them.

use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, path::PathBuf};
use utoipa::ToSchema;

/// Verdict of a check, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is as it should be.
    Ok,
    /// The fact cannot be read, here or by this user.
    Unknown,
    /// Speed is lost under load.
    Advice,
    /// Clients are served with less than there should be, or will be.
    Warning,
    /// ringdnsd cannot start, or does not answer.
    Fault,
}

impl Verdict {
    /// Returns the name of the verdict.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Advice => "advice",
            Verdict::Warning => "warning",
            Verdict::Fault => "fault",
        }
    }
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// Name of the check, such as `queues`, or the kind of a problem of ringdnsd.
    pub check: String,
    /// Verdict.
    pub verdict: Verdict,
    /// Facts that the verdict is based on, and what they mean.
    pub evidence: String,
    /// Command or step that mends it.
    pub remedy: Option<String>,
    /// Changes that `ringctl doctor --apply` makes.
    pub fix: Option<Fix>,
}

/// Changes that mend a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fix {
    /// Changes, in order.
    pub changes: Vec<Change>,
    /// Whether the NIC is set up anew, so that packets are lost, and AF_XDP where it is in use.
    pub resets_link: bool,
}

/// Change of the host, and its undoing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Step that makes the change.
    pub make: Step,
    /// Step that restores the former value.
    pub undo: Step,
}

/// Step of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Writes a text into a file of the kernel.
    Write {
        /// Path of the file.
        #[schema(value_type = String)]
        path: PathBuf,
        /// Text.
        text: String,
    },
    /// Runs a command: the program and its arguments.
    Run(Vec<String>),
}

/// Formats the step as a shell command.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write { path, text } => {
                write!(f, "echo {} > {}", quoted(text), quoted(&path.to_string_lossy()))
            }
            Step::Run(words) => {
                let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

/// Returns a word as a POSIX shell takes it: the kernel allows names of interfaces that a shell would
/// interpret.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@:-/".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

impl Step {
    /// Returns a command of words that spaces separate.
    pub fn run(command: &str) -> Self {
        Step::Run(command.split(' ').map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_interpret_are_quoted() {
        for (name, shown) in [
            ("eth1.100@br-0:1_a", "eth1.100@br-0:1_a"),
            ("a;reboot", "'a;reboot'"),
            ("$(id)", "'$(id)'"),
            ("it's", r"'it'\''s'"),
            ("\u{e9}th", "'\u{e9}th'"),
        ] {
            let run = Step::run(&format!("ethtool -G {name} rx 2048"));
            assert_eq!(run.to_string(), format!("ethtool -G {shown} rx 2048"));
        }
        let write = Step::Write { path: "/sys/class/net/a&b/threaded".into(), text: "0-3".into() };
        assert_eq!(write.to_string(), "echo 0-3 > '/sys/class/net/a&b/threaded'");
        assert_eq!(quoted(""), "''");
    }
}
