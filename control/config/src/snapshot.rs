//! Checks of `cache.snapshot_file` and the keys that belong to it.

use super::{bounds::within, error::Problem, raw::RawCache};
use ringdns_common::units::{Bytes, TimeSpan};
use std::{path::PathBuf, time::Duration};

/// Smallest and largest size of a snapshot, in bytes. A smaller one holds nothing worth reading.
const BYTES: [u64; 2] = [64 << 10, 16 << 30];

/// Snapshot of the host tier on disk.
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// Path of the file.
    pub file: PathBuf,
    /// Interval at which the file is written.
    pub every: Duration,
    /// Largest size of the file, in bytes.
    pub bytes: u64,
}

/// Checks the snapshot's keys. `fleet`: whether the appliance belongs to a fleet.
pub fn snapshot(raw: &RawCache, fleet: bool) -> Result<Option<SnapshotConfig>, Problem> {
    let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
    let remedy = "Give \"1s\" to \"1d\"; \"5m\" is usual";
    let every = within("cache.snapshot_every", raw.snapshot_every, limits, remedy)?;
    if !(BYTES[0]..=BYTES[1]).contains(&raw.snapshot_bytes.0) {
        let reason = format!("{} is not possible", raw.snapshot_bytes);
        let remedy = format!(
            "Give {} to {}; to write none, remove cache.snapshot_file",
            Bytes(BYTES[0]),
            Bytes(BYTES[1])
        );
        return Err(Problem::new("cache.snapshot_bytes", reason, remedy));
    }
    let Some(file) = &raw.snapshot_file else { return Ok(None) };
    let refused = |reason: &str, remedy: &str| Err(Problem::new("cache.snapshot_file", reason, remedy));
    if file.is_empty() || file.ends_with('/') {
        return refused("this is not the path of a file", "Write \"/var/lib/ringdns/cache.snapshot\"");
    }
    if !raw.enabled {
        return refused(
            "cache.enabled = false keeps no answers, so there are none to write",
            "Remove the key, or cache.enabled = false",
        );
    }
    if fleet {
        let reason = "an appliance of a fleet loads answers from Redis, which also applies the purges made while it was down";
        return refused(reason, "Remove the key, or redis.url");
    }
    Ok(Some(SnapshotConfig { file: file.into(), every, bytes: raw.snapshot_bytes.0 }))
}
