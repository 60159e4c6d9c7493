//! Checks of `[query_log]`.

use super::{
    QueryLogConfig, asking::zones, check::prefixes, choices::Privacy, error::Problem, raw::RawQueryLog,
};
use ringdns_common::units::Bytes;
use ringdns_dataplane::log::Batch;

/// Smallest memory of a worker, in bytes: two batches, one that fills while the other is sent.
const BYTES_MIN: u64 = 2 * Batch::BYTES as u64;
/// Largest memory of a worker, in bytes. More would never be written to.
const BYTES_MAX: u64 = 1 << 30;

pub fn query_log(raw: RawQueryLog) -> Result<QueryLogConfig, Problem> {
    if raw.sample == 0 {
        let remedy =
            "Give 1 to log every answer, 100 for one in a hundred; to log none, query_log.enabled = false";
        return Err(Problem::new("query_log.sample", "one answer in 0 is none", remedy));
    }
    if !(BYTES_MIN..=BYTES_MAX).contains(&raw.bytes_per_worker.0) {
        let reason = format!("{} is not possible", raw.bytes_per_worker);
        let remedy = format!("Give {} to {}; \"8MiB\" is usual", Bytes(BYTES_MIN), Bytes(BYTES_MAX));
        return Err(Problem::new("query_log.bytes_per_worker", reason, remedy));
    }
    if raw.key_file.is_some() && raw.privacy != Privacy::Hash {
        let reason = "no addresses are hashed, so the key is not used";
        return Err(Problem::new(
            "query_log.key_file",
            reason,
            "Set query_log.privacy = \"hash\", or remove the key",
        ));
    }
    Ok(QueryLogConfig {
        enabled: raw.enabled,
        sample: raw.sample,
        exclude_clients: prefixes("query_log.exclude_clients", &raw.exclude_clients)?,
        exclude_names: zones("query_log.exclude_names", &raw.exclude_names)?,
        privacy: raw.privacy,
        key_file: raw.key_file.map(Into::into),
        bytes_per_worker: raw.bytes_per_worker.0,
    })
}
