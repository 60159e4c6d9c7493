//! History: one point for each of the last minutes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Points of the last minutes, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Points. A process that was stopped or asleep has none of that time.
    pub points: Vec<HistoryPoint>,
}

/// State of a minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HistoryPoint {
    /// End of the minute, in Unix seconds.
    pub at: u64,
    /// Seconds that the point covers.
    pub seconds: f64,
    /// Queries per second: packets to the workers, and queries over TCP.
    pub queries: f64,
    /// Answers per second from the workers' caches.
    pub worker_answers: f64,
    /// Part of the workers' queries that their caches answered, from 0 to 1; `None`: there were none.
    #[serde(default)]
    pub worker_hit_ratio: Option<f64>,
    /// Part of the lookups in the host cache that found an answer; `None`: there were none.
    #[serde(default)]
    pub host_hit_ratio: Option<f64>,
    /// Part of the lookups in Redis that found an answer; `None`: there were none.
    #[serde(default)]
    pub redis_hit_ratio: Option<f64>,
    /// Questions per second that upstreams answered.
    pub upstream_answers: f64,
    /// Questions per second that ended without an answer.
    pub failures: f64,
    /// Median and 99th percentile of the service times of hits in microseconds; `None`: there were none.
    #[serde(default)]
    pub hit_us: Option<[f64; 2]>,
    /// Median and 99th percentile of the service times of misses in microseconds; `None`: there were none.
    #[serde(default)]
    pub miss_us: Option<[f64; 2]>,
    /// Packets per second that were dropped.
    pub drops: f64,
    /// Resident memory in bytes at the end of the minute.
    pub resident_bytes: u64,
    /// Number of problems at the end of the minute.
    pub problems: usize,
    /// Number of critical problems at the end of the minute.
    pub critical: usize,
}
