//! Problems: conditions that an operator should know of while they last.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Weight of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Clients notice nothing, and need not.
    Info,
    /// Clients are served, with less than there should be: without a reserve, or with older data.
    Warning,
    /// Clients get no answers, or no right ones.
    Critical,
}

impl Severity {
    /// Name of it, as in JSON and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident, $label:literal, $severity:ident;)*) => {
        /// Kind of a problem. Its name is the same in status, metrics and alerts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ProblemKind {
            $($(#[doc = $doc])+ #[serde(rename = $label)] $kind,)*
        }

        impl ProblemKind {
            /// All kinds.
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind),*];

            /// Name of it.
            pub fn label(self) -> &'static str {
                match self { $(ProblemKind::$kind => $label),* }
            }

            /// Weight of it.
            pub fn severity(self) -> Severity {
                match self { $(ProblemKind::$kind => Severity::$severity),* }
            }

            /// Meaning of it, one sentence.
            pub fn doc(self) -> &'static str {
                match self { $(ProblemKind::$kind => concat!($($doc),+).trim_ascii()),* }
            }
        }
    };
}

kinds! {
    /// The interface is gone, its link is down, or AF_XDP was lost and kernel sockets may not replace it.
    NoReception, "no_reception", Critical;
    /// A worker does nothing: the queries of its queue are not answered.
    WorkerStuck, "worker_stuck", Critical;
    /// No upstream answers: what is not in the cache gets SERVFAIL, or an expired answer.
    NoUpstream, "no_upstream", Critical;
    /// No upstream of a zone answers, while those of others do.
    ZoneSilent, "zone_silent", Warning;
    /// An upstream does not answer; others are asked in its place.
    UpstreamSilent, "upstream_silent", Warning;
    /// An upstream's certificate is not accepted, so it is not asked.
    UpstreamNotTrusted, "upstream_not_trusted", Warning;
    /// AF_XDP was lost, or could not be had at the start: queries are answered over kernel sockets, more slowly.
    XdpLost, "xdp_lost", Warning;
    /// No interface has one of the addresses to listen on.
    AddressAbsent, "address_absent", Warning;
    /// Many packets arrive with wrong checksums and are dropped.
    WrongChecksums, "wrong_checksums", Warning;
    /// Redis cannot be used: upstreams are asked in its place, and purges reach no other appliance.
    RedisLost, "redis_lost", Warning;
    /// ClickHouse does not take the query log, which is kept on disk meanwhile.
    ClickhouseFailing, "clickhouse_failing", Warning;
    /// The query log cannot be written to disk, or loses rows because its spool is full.
    QueryLogLost, "query_log_lost", Warning;
    /// The reader of dnstap cannot be reached or takes nothing: messages are lost.
    DnstapLost, "dnstap_lost", Warning;
    /// The snapshot of the cache cannot be written: a restart would begin with an old one.
    SnapshotFailing, "snapshot_failing", Warning;
    /// A list cannot be renewed.
    ListDegraded, "list_degraded", Warning;
    /// The file of overrides cannot be used, so none is in effect.
    OverridesBroken, "overrides_broken", Warning;
    /// The system clock jumped, by which certificates and signatures are judged.
    ClockJumped, "clock_jumped", Warning;
    /// The configuration was not accepted when it was read again; the one before stays in effect.
    ConfigRefused, "config_refused", Warning;
    /// The program met a defect of its own.
    Panicked, "panicked", Warning;
    /// The configuration has changes that a restart will put into effect.
    RestartPending, "restart_pending", Info;
    /// The interface has settings that cost speed or answers.
    InterfaceSettings, "interface_settings", Info;
    /// Packets arrive with partial checksums, which is normal between virtual machines of a host.
    PartialChecksums, "partial_checksums", Info;
    /// A zone is capped because it is flooded with random names.
    ZoneFlooded, "zone_flooded", Info;
}

/// Condition that an operator should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Kind.
    pub kind: ProblemKind,
    /// Weight, which is that of the kind.
    pub severity: Severity,
    /// Upstream, zone, list, interface or file that it is about; empty: the whole process.
    pub subject: String,
    /// Meaning for clients, reason and remedy, in words.
    pub text: String,
    /// Unix time at which it was first seen.
    pub since: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_kind_is_that_of_its_json() {
        for kind in ProblemKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.label());
            assert!(kind.doc().ends_with('.') && !kind.doc().contains('\n'), "{}", kind.doc());
        }
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.label());
        }
    }
}
