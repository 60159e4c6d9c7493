//! Answers of `GET /status`, `GET /cache/entry`, `POST /cache/purge` and `POST /reload`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Number of the process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_secs: u32,
    /// Whether clients' queries come, and are answered.
    pub ready: bool,
    /// Why not, if not.
    #[serde(default)]
    pub obstacle: Option<String>,
    /// How packets are received.
    pub receiving: String,
    /// Conditions that an operator should know of, a sentence each.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Addresses that are listened on.
    pub listen: Vec<String>,
    /// Worker threads.
    pub workers: usize,
    /// What the process takes, if the kernel tells.
    pub process: Option<ResourceUsage>,
    /// Upstreams, and how they do.
    pub upstreams: Vec<UpstreamStatus>,
}

/// Resource usage of the daemon at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceUsage {
    /// Its pages that are in memory, as the kernel counts them.
    pub resident_bytes: u64,
    /// Addresses that it has. There is memory behind a part of them only.
    pub virtual_bytes: u64,
    /// Memory that was allocated and not freed. What `resident_bytes` is above this is stacks, code, UMEM, caches, and what the allocator keeps.
    pub allocated_bytes: u64,
    /// Files and sockets that are open.
    pub open_files: u64,
    /// How many may be, if there is a limit.
    pub open_files_max: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// Processor time since the start.
    pub cpu_secs: f64,
}

/// How an upstream does.
#[derive(Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its address as in the configuration, with what may be left out there: `udp://9.9.9.9:53`.
    pub address: String,
    /// `udp` (and TCP for what does not fit), `tcp`, `tls` or `https`.
    pub protocol: String,
    /// The zones that it is asked for; none: all names that are in no other's.
    pub zones: Vec<String>,
    /// Whether it is left alone for a while because it failed.
    pub put_back: bool,
    /// For how long yet, in milliseconds.
    pub back_off_ms: u64,
    /// Queries sent, those sent again among them.
    pub queries: u64,
    /// Answers used.
    pub answers: u64,
    /// Queries that it did not answer in time.
    pub timeouts: u64,
    /// Queries that it could not be reached for, answered with a failure such as SERVFAIL, or with what cannot be read.
    pub errors: u64,
    /// Its smoothed round trip in microseconds, those that it did not answer among them; 0 before the first.
    pub round_trip_us: u64,
    /// How long it takes to answer.
    pub times: Times,
}

/// How long answers and failures took since the start, exact to 1 %.
#[derive(Debug, Serialize, Deserialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Half of them took at most so many microseconds.
    pub p50_us: u64,
    /// 90 % of them.
    pub p90_us: u64,
    /// 99 % of them.
    pub p99_us: u64,
    /// All of them.
    pub max_us: u64,
}

/// What the host tier holds under a key.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryView {
    /// The name.
    pub name: String,
    /// The type.
    pub rtype: String,
    /// Whether it is the answer for clients that set DO.
    pub dnssec_ok: bool,
    /// Whether it is the answer for clients that set CD.
    pub checking_disabled: bool,
    /// The response code.
    pub rcode: String,
    /// `fresh`, `stale` or `expired`.
    pub state: String,
    /// Seconds since it was received.
    pub age_secs: u32,
    /// Seconds until it is stale; 0 if it is.
    pub fresh_secs: u32,
    /// Seconds until it may no longer be given out.
    pub left_secs: u32,
    /// Bytes of its records.
    pub bytes: usize,
    /// Its records as text, with the TTLs that were received.
    pub records: Vec<String>,
}

/// What a purge removed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Purged {
    /// Entries of the host tier. The workers forget everything that they hold, and learn it again from the host tier.
    pub removed: u64,
    /// Whether the other appliances of the fleet have been told; `None`: there is no fleet. Those that have not been yet are told
    /// when Redis can be reached again.
    #[serde(default)]
    pub told: Option<bool>,
}

/// What became of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Its tables that hold from now on.
    pub applied: BTreeSet<String>,
    /// Those that have changed, and will not hold before a restart.
    pub needs_restart: BTreeSet<String>,
}
