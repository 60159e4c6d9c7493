//! Answers about lists, overrides, bans and floods.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Verdict of the lists on a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyTest {
    /// Name in the question.
    pub name: String,
    /// Type in the question.
    pub rtype: String,
    /// Group of the client.
    #[serde(default)]
    pub group: String,
    /// `local`: local data answers; `safe_search`: the name of a search engine is answered with an
    /// alias; `resolve`: no list has a rule; `allow`: a rule allows the name; `block`: a list answers.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RulePlace {
    /// File of the list.
    pub file: String,
    /// Number of the line, from 1 on.
    pub line: u32,
    /// The line.
    pub text: String,
}

/// Freshness of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListState {
    /// The list is a file, or its server confirmed it within the time between two downloads.
    Fresh,
    /// The list is in service, but its server was not asked for longer than that.
    Stale,
    /// The last download failed, or the list has yet to be downloaded.
    Degraded,
}

impl ListState {
    /// States in their order.
    pub const ALL: [Self; 3] = [Self::Fresh, Self::Stale, Self::Degraded];

    /// Returns the state's word.
    pub fn label(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Degraded => "degraded",
        }
    }
}

/// List and its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListStatus {
    /// Name of the list.
    pub name: String,
    /// Path or URL; `configuration` for a list that has names there alone.
    pub source: String,
    /// Rules in effect.
    pub rules: u64,
    /// State.
    pub state: ListState,
    /// Unix time at which the list was read, or last sent or confirmed by its server.
    pub last_success: Option<u64>,
    /// Error of the last download, if it failed.
    pub last_error: Option<String>,
}

/// Numbers of rules by which a list differs from its earlier version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListChanges {
    /// New rules.
    pub added: u64,
    /// Rules that are no longer there.
    pub removed: u64,
}

/// List whose rules have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListDifference {
    /// Name of the list.
    pub name: String,
    /// Changes of its rules.
    pub changes: ListChanges,
}

/// Result of a download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListRefresh {
    /// Name of the list.
    pub name: String,
    /// Changes of its rules; `None`: there are none.
    pub changes: Option<ListChanges>,
    /// Reason why the list was not renewed.
    pub error: Option<String>,
}

/// Answer of `GET /v1/policy/overrides`: what operators have changed for a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Names that are blocked or allowed whatever lists say.
    #[serde(rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Groups and clients for which no list decides.
    #[serde(rename = "pause", skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
}

/// Name that is blocked or allowed, with all names below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Name.
    pub name: String,
    /// Whether it is blocked or allowed.
    pub action: OverrideAction,
    /// Group of clients; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Time at which it ends (RFC 3339); `None`: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Effect of an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverrideAction {
    /// The name does not exist.
    Block,
    /// No list blocks the name.
    Allow,
}

/// Time in which no list decides. Without a group and a client, it is for all clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Group of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Address of one client, without a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Time at which it ends (RFC 3339); `None`: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Name that resolved to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameView {
    /// Name.
    pub name: String,
    /// Seconds until it is forgotten.
    pub left_secs: u64,
}

/// Banned prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BanView {
    /// Prefix of clients whose queries over UDP are dropped.
    pub prefix: String,
    /// Seconds until the ban ends.
    pub left_secs: u64,
}

/// Zone that is capped because of a flood of random names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FloodView {
    /// Name of the zone.
    pub zone: String,
    /// Questions a second that no cache answers, in the last seconds.
    pub per_second: u64,
    /// Questions refused since the cap began.
    pub refused: u64,
    /// Seconds since the cap began.
    pub lasts_secs: u64,
}
