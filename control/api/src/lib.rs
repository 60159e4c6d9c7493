//! Types of ringdnsd's HTTP API: the JSON that `ringdnsd` writes and `ringctl` reads.
//!
//! Plain data: no type here has behaviour beyond sums of its own fields.

#![forbid(unsafe_code)]

mod access;
mod busiest;
mod config;
mod doctor;
mod explain;
mod history;
mod policy;
mod problem;
mod status;
mod sweeps;

pub use access::{AuditRecord, CallerView, Refused, Role};
pub use busiest::{Ranking, RankingKind, RankingRow};
pub use config::{ConfigDifference, ConfigView};
pub use doctor::{Change, Finding, Fix, Step, Verdict, quoted};
pub use explain::{Explained, ExplainedMiss, ExplainedUpstream, ExplainedWorker};
pub use history::{History, HistoryPoint};
pub use policy::{
    BanView, FloodView, ListChanges, ListDifference, ListRefresh, ListState, ListStatus, NameView, Override,
    OverrideAction, Overrides, Pause, PolicyTest, RulePlace,
};
pub use problem::{Problem, ProblemKind, Severity};
pub use status::{
    CaptureEnd, DaemonStatus, EntryView, Loaded, LogFilter, Purged, Reloaded, ResourceUsage, Times,
    TrustKeyStatus, TrustPointStatus, UpstreamStatus,
};
pub use sweeps::{RedisSweep, Removed, Report, Skipped, Sweeps, Swept, Told};
