//! Answer of `GET /v1/explain`.

use crate::{policy::PolicyTest, status::EntryView};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Way of a query, from the access list to upstreams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// Sentence that says who answers.
    pub verdict: String,
    /// Client that asks, if it is given.
    pub client: Option<String>,
    /// Treatment by `[access]`: `allowed`, `refused` or `dropped`.
    pub access: String,
    /// Prefix of the client that is banned because it is far above the rate limit.
    pub banned: Option<String>,
    /// Verdict of local data and lists.
    pub policy: PolicyTest,
    /// Cache of each worker.
    pub workers: Vec<ExplainedWorker>,
    /// Entries of the host cache.
    pub host: Vec<EntryView>,
    /// Last lookups in the host cache that found no fresh answer, of all variants of the question.
    #[serde(default)]
    pub misses: Vec<ExplainedMiss>,
    /// Whether the name is answered by this host alone (RFC 6761, RFC 6303).
    pub special: bool,
    /// Zone of the configuration that decides which upstreams are asked; `.`: the rest.
    pub zone: String,
    /// Upstreams that would be asked.
    pub upstreams: Vec<ExplainedUpstream>,
    /// Zone that is capped because of a flood of random names, if the name is in one.
    pub capped: Option<String>,
}

/// Cache of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedWorker {
    /// Number of the worker.
    pub worker: usize,
    /// State of the entry: `fresh`, `stale`, `purged`, `absent`; `unknown`: the worker did not tell in
    /// time.
    pub state: String,
    /// Seconds since the answer was received.
    pub age_secs: u32,
    /// Seconds until the answer expires; 0 if it has.
    pub fresh_secs: u32,
    /// Response code.
    pub rcode: Option<String>,
    /// Whether the answer is of a list.
    pub by_list: bool,
}

/// Upstream that would be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedUpstream {
    /// Address of the upstream.
    pub address: String,
    /// Milliseconds of back-off that are left; 0: it is in use.
    pub back_off_ms: u64,
    /// Smoothed round-trip time in microseconds.
    pub round_trip_us: u64,
}

/// Last lookup of a variant of a question in the host cache that found no fresh answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedMiss {
    /// Whether the client had set DO.
    pub dnssec_ok: bool,
    /// Whether the client had set CD.
    pub checking_disabled: bool,
    /// Unix time of the lookup.
    pub at: u64,
    /// Cause: `expired`, `evicted`, `purged`, `not_kept`; `variant`: only other variants had been asked for;
    /// `group`: only clients with other upstreams had asked; `unknown`: never asked, or too long ago.
    pub cause: String,
    /// Unix time at which the answer expired or left, if it is remembered.
    pub since: Option<u64>,
    /// Caller who purged the answer, if it is remembered.
    pub by: Option<String>,
    /// Cause in words.
    pub text: String,
}
