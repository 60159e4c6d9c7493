//! Answers of `GET /policy/test` and `GET /policy/bans`.

use serde::{Deserialize, Serialize};

/// Verdict of the lists on a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyTest {
    /// Name in the question.
    pub name: String,
    /// Type in the question.
    pub rtype: String,
    /// `resolve`: no list has a rule; `allow`: a rule allows the name; `block`: a list answers.
    pub action: String,
    /// List that decides.
    pub list: Option<String>,
    /// Answer of the list.
    pub answer: Option<String>,
    /// Rule of the list.
    pub rule: Option<RulePlace>,
    /// Lists with `dry_run` that would answer.
    #[serde(default)]
    pub dry_run: Vec<String>,
}

/// Place of a rule in its list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulePlace {
    /// File of the list.
    pub file: String,
    /// Number of the line, from 1 on.
    pub line: u32,
    /// The line.
    pub text: String,
}

/// Banned prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BanView {
    /// Prefix of clients whose queries over UDP are dropped.
    pub prefix: String,
    /// Seconds until the ban ends.
    pub left_secs: u64,
}
