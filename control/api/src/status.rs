//! Answers of `GET /v1/status`, `GET /v1/cache/…`, `POST /v1/cache/…` and `POST /v1/reload`.

use crate::{policy::ListDifference, problem::Problem};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// Status of a running ringdnsd.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DaemonStatus {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_secs: u32,
    /// Whether ringdnsd receives clients' queries and answers them.
    pub ready: bool,
    /// Reason why `ready` is false.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// Way in which packets are received.
    pub receiving: String,
    /// Conditions that an operator should know of, the gravest first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// Addresses that ringdnsd listens on.
    pub listen: Vec<String>,
    /// Number of worker threads.
    pub workers: usize,
    /// Resource usage of this process, if the kernel reports it.
    pub process: Option<ResourceUsage>,
    /// State of each upstream.
    pub upstreams: Vec<UpstreamStatus>,
    /// Zones whose trust anchors are managed (RFC 5011).
    #[serde(default)]
    pub trust_points: Vec<TrustPointStatus>,
}

/// Zone whose trust anchors are managed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustPointStatus {
    /// Zone.
    pub zone: String,
    /// Keys that are trusted, will be, or were.
    pub keys: Vec<TrustKeyStatus>,
    /// Unix time of the last successful refresh since the start.
    pub refreshed: Option<u64>,
}

/// Key of a zone whose trust anchors are managed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustKeyStatus {
    /// Key tag.
    pub tag: u16,
    /// State: `pending`, `valid`, `missing`, `revoked` or `removed`.
    pub state: String,
    /// Unix time at which the state began.
    pub since: u64,
    /// Unix time from which a pending key may be trusted.
    pub until: Option<u64>,
}

/// Resource usage of the daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceUsage {
    /// Resident set: pages in memory, as the kernel counts them, in bytes.
    pub resident_bytes: u64,
    /// Address space in bytes. Only a part of it is backed by memory.
    pub virtual_bytes: u64,
    /// Bytes allocated and not yet freed. The rest of `resident_bytes` is stacks, code, UMEM,
    /// caches, and memory that the allocator retains.
    pub allocated_bytes: u64,
    /// Number of open files and sockets.
    pub open_files: u64,
    /// Most files and sockets that may be open, if there is a limit.
    pub open_files_max: Option<u64>,
    /// Number of threads.
    pub threads: u64,
    /// CPU time since the start, in seconds.
    pub cpu_secs: f64,
}

/// State and counters of an upstream.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UpstreamStatus {
    /// Address in the configuration's form, with optional parts filled in: `udp://9.9.9.9:53`.
    pub address: String,
    /// Protocol: `udp` (and TCP after a truncated answer), `tcp`, `tls` or `https`.
    pub protocol: String,
    /// Zones that are forwarded to it; empty: all names outside the zones of other upstreams.
    pub zones: Vec<String>,
    /// Names of the groups of clients that it is asked for; empty: all without upstreams of their own.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether it is in back-off after failures.
    pub put_back: bool,
    /// Remaining back-off in milliseconds.
    pub back_off_ms: u64,
    /// Queries sent, retransmissions included.
    pub queries: u64,
    /// Answers used.
    pub answers: u64,
    /// Queries that it did not answer in time.
    pub timeouts: u64,
    /// Queries for which it could not be reached, or that it answered with a failure such as
    /// SERVFAIL or with a malformed response.
    pub errors: u64,
    /// Smoothed round-trip time in microseconds, unanswered queries included; 0 before the first.
    pub round_trip_us: u64,
    /// Response times.
    pub times: Times,
}

/// Percentiles of the times of answers and failures since the start, exact to 1 %.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Times {
    /// Number of answers and failures.
    pub count: u64,
    /// Median in microseconds.
    pub p50_us: u64,
    /// 90th percentile in microseconds.
    pub p90_us: u64,
    /// 99th percentile in microseconds.
    pub p99_us: u64,
    /// Maximum in microseconds.
    pub max_us: u64,
}

/// Entry of the host cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// Domain name.
    pub name: String,
    /// Record type.
    pub rtype: String,
    /// Whether this answer is for clients that set DO.
    pub dnssec_ok: bool,
    /// Whether this answer is for clients that set CD.
    pub checking_disabled: bool,
    /// Response code.
    pub rcode: String,
    /// State: `fresh`, `stale` or `expired`.
    pub state: String,
    /// Seconds since the answer was received.
    pub age_secs: u32,
    /// Seconds until the answer becomes stale; 0 if it is stale.
    pub fresh_secs: u32,
    /// Seconds until the answer may no longer be served, not even stale.
    pub left_secs: u32,
    /// Size of the records in bytes.
    pub bytes: usize,
    /// Number of recent questions for it: the count halves every two minutes.
    #[serde(default)]
    pub demand: u16,
    /// Records as text, with the TTLs as received.
    pub records: Vec<String>,
}

/// Result of an order to end the capture under way.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CaptureEnd {
    /// Whether there was one.
    pub ended: bool,
}

/// Result of a purge.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Purged {
    /// Number of entries removed from the host cache. The workers empty their caches and fill them
    /// again from the host cache.
    pub removed: u64,
    /// Whether the other appliances of the fleet have been told; `None`: there is no fleet. If
    /// false, they are told when Redis can be reached again.
    #[serde(default)]
    pub told: Option<bool>,
}

/// Progress of a load, or its result: the number of entries of the dump by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loaded {
    /// Whether all entries have been looked at. The last line alone says so.
    pub complete: bool,
    /// Entries in the dump.
    pub entries: u64,
    /// Entries that are in the host cache now.
    pub loaded: u64,
    /// Entries refused because they could no longer be served, not even as stale.
    pub too_old: u64,
    /// Entries refused because their question had an answer already, which stays.
    pub known: u64,
    /// Entries refused because they do not answer their question, or are not kept under this
    /// configuration.
    pub unfit: u64,
    /// Entries refused because of a purge that came meanwhile.
    pub purged: u64,
    /// Place in the dump, in bytes, of the first entry that is unfit.
    #[serde(default)]
    pub first_unfit: Option<u64>,
}

/// Filter of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogFilter {
    /// Levels, as in `RUST_LOG`.
    pub filter: String,
    /// Unix time at which the usual filter returns.
    pub until: Option<u64>,
}

/// Result of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Changed tables that are in effect now.
    pub applied: BTreeSet<String>,
    /// Changed tables that take effect only at a restart.
    pub needs_restart: BTreeSet<String>,
    /// Reasons why they do, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, String>,
    /// Changes of the rules of lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListDifference>,
}
