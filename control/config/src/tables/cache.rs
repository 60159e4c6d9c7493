//! `[cache]`: sizes of the caches, the time that they keep answers, and the snapshot on disk.

use super::refresh::RefreshConfig;
use crate::{
    bounds::{secs, within},
    error::Problem,
    table::table,
    values::{AdjustableBytes, choice},
};
use ringdns_common::units::{Bytes, TimeSpan};
use ringdns_dataplane::{cache::BYTES_MAX, clock::Secs, dns::answer::TtlRules};
use std::{path::PathBuf, time::Duration};

/// Longest time that negative answers are kept. RFC 2308 section 5: values above three hours have
/// been found to be problematic.
const NEGATIVE_MAX: TimeSpan = TimeSpan::secs(3 * 3_600);
/// Shortest and longest time that failures are cached. RFC 9520 section 3.2: at least one second,
/// at most five minutes.
const FAILURE_TTL: [TimeSpan; 2] = [TimeSpan::secs(1), TimeSpan::secs(300)];
/// Smallest size of a cache: less cannot be laid out.
const CACHE_MIN: Bytes = Bytes(1 << 20);
/// Longest time that stale answers are served. RFC 8767 section 4 suggests one to three days; a
/// week is generous.
const STALE_MAX: TimeSpan = TimeSpan::secs(7 * 86_400);
/// Smallest and largest size of a snapshot. A smaller one holds nothing worth reading.
const SNAPSHOT: [Bytes; 2] = [Bytes(64 << 10), Bytes(16 << 30)];

table! {
    /// Sizes of the caches, and the time that they keep answers.
    "[cache]" RawCache {
        /// Whether answers are cached at all.
        enabled: bool = true,
        /// Memory of each worker cache, at most 16 GiB. If the key is absent, less where the machine has less
        /// memory, or a control group (a container, a systemd unit) allows less.
        bytes_per_worker: AdjustableBytes = AdjustableBytes::of(Bytes(64 << 20)),
        /// Memory of the host cache, which all workers share. If the key is absent, less as above.
        host_bytes: AdjustableBytes = AdjustableBytes::of(Bytes(256 << 20)),
        /// Shortest time that answers are kept, whatever their TTL.
        min_ttl: TimeSpan = TimeSpan::secs(0),
        /// Longest time that answers are kept, whatever their TTL.
        max_ttl: TimeSpan = TimeSpan::secs(86_400),
        /// Longest time that negative answers (no such name, no such type) are kept (RFC 2308:
        /// 3 hours at most).
        negative_max_ttl: TimeSpan = TimeSpan::secs(3_600),
        /// Whether expired answers are served while new ones are fetched, and for as long as
        /// fetching fails (RFC 8767).
        serve_stale: bool = true,
        /// Time that a client waits for a new answer before it gets an expired one. `"0s"`: it does
        /// not wait, and the answer is renewed in the background; RFC 8767 advises `"1800ms"`.
        stale_client_timeout: TimeSpan = TimeSpan::secs(0),
        /// Time after its expiry for which an answer may still be served.
        stale_max: TimeSpan = TimeSpan::secs(86_400),
        /// TTL in expired answers.
        stale_ttl: TimeSpan = TimeSpan::secs(30),
        /// Time that a resolution failure is cached, from 1 s to 5 m (RFC 9520).
        failure_ttl: TimeSpan = TimeSpan::secs(5),
        /// NXDOMAIN answers that also answer questions about names below their name, without asking
        /// upstreams (RFC 8020). `"secure"`: those that were validated here, or by an upstream with
        /// `trusted = true`. `"all"`: those of all upstreams, for operators who trust them: some name
        /// servers deny names that have others below them. `"off"`: none. Clients that set CD get
        /// answers of upstreams in any case.
        nxdomain_cut: NxdomainCut = NxdomainCut::Secure,
        /// File in which the most requested answers survive a restart:
        /// `"/var/lib/ringdns/cache.snapshot"`. Their TTLs run on by the wall clock meanwhile; a
        /// purge removes the file. Absent: no file is written. Cannot be combined with `[redis]`,
        /// where the fleet holds the answers.
        snapshot_file: Option<String> = None,
        /// Interval at which the snapshot file is written, give or take a quarter, from 1 s to 1 d.
        /// The file is also written when ringdnsd stops.
        snapshot_every: TimeSpan = TimeSpan::secs(300),
        /// Largest size of the snapshot file.
        snapshot_bytes: Bytes = Bytes(64 << 20),
    }
}

choice! {
    /// NXDOMAIN answers that hold for all names below theirs (RFC 8020).
    NxdomainCut {
        /// None.
        Off = "off",
        /// Validated answers.
        #[default]
        Secure = "secure",
        /// All.
        All = "all",
    }
}

/// Sizes of the caches, and the time that they keep answers.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Whether answers are cached.
    pub enabled: bool,
    /// Bytes of each worker cache.
    pub bytes_per_worker: u64,
    /// Whether the file gives that size.
    pub worker_given: bool,
    /// Bytes of the host tier.
    pub host_bytes: u64,
    /// Whether the file gives that size.
    pub host_given: bool,
    /// Fewest seconds that answers are kept.
    pub min_ttl: Secs,
    /// Most seconds that answers are kept.
    pub max_ttl: Secs,
    /// Most seconds that negative answers are kept.
    pub negative_max_ttl: Secs,
    /// Seconds after its expiry for which an answer may still be served; 0: none.
    pub stale_max: Secs,
    /// Time that a client waits for a new answer before it gets an expired one.
    pub stale_client_timeout: Duration,
    /// TTL in stale answers.
    pub stale_ttl: Secs,
    /// Seconds that a resolution failure is cached.
    pub failure_ttl: Secs,
    /// NXDOMAIN answers that hold for all names below theirs.
    pub nxdomain_cut: NxdomainCut,
}

impl CacheConfig {
    /// Returns the rules for new answers. With the cache off, every answer is kept for zero
    /// seconds.
    pub fn ttl_rules(&self, refresh: &RefreshConfig) -> TtlRules {
        if !self.enabled {
            return TtlRules { min: 0, max: 0, negative_max: 0, stale: 0, ahead: 0 };
        }
        TtlRules {
            min: self.min_ttl,
            max: self.max_ttl,
            negative_max: self.negative_max_ttl,
            stale: self.stale_max,
            ahead: refresh.ahead,
        }
    }

    /// Returns the seconds that a resolution failure is cached; 0 with the cache off.
    pub fn failure_secs(&self) -> Secs {
        if self.enabled { self.failure_ttl } else { 0 }
    }
}

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

impl RawCache {
    /// Returns the checked values, without those of the snapshot.
    pub fn check(self) -> Result<CacheConfig, Problem> {
        for (key, bytes) in [
            ("cache.bytes_per_worker", self.bytes_per_worker.bytes),
            ("cache.host_bytes", self.host_bytes.bytes),
        ] {
            if bytes < CACHE_MIN {
                let remedy = "Give at least \"1MiB\"; to keep nothing, set cache.enabled = false";
                return Err(Problem::new(key, format!("{bytes} is too little to hold a cache"), remedy));
            }
        }
        let bytes = self.bytes_per_worker.bytes;
        if bytes.0 > BYTES_MAX as u64 {
            let reason = format!("{bytes} is too much for one worker to address");
            return Err(Problem::new("cache.bytes_per_worker", reason, "Give at most \"16GiB\""));
        }
        let [min_ttl, max_ttl] = self.ttls()?;
        let limits = [TimeSpan::secs(0), NEGATIVE_MAX];
        let remedy = "Give at most \"3h\" (RFC 2308)";
        let negative_max = within("cache.negative_max_ttl", self.negative_max_ttl, limits, remedy)?;
        let limits = [TimeSpan::secs(1), STALE_MAX];
        let remedy = "Give \"1s\" to \"7d\"; to serve no stale answers, set cache.serve_stale = false";
        let stale_max = within("cache.stale_max", self.stale_max, limits, remedy)?;
        let limits = [TimeSpan::secs(0), TimeSpan::secs(5)];
        let remedy = "Give \"0s\" to \"5s\"; clients do not wait longer";
        let stale_client_timeout =
            within("cache.stale_client_timeout", self.stale_client_timeout, limits, remedy)?;
        let limits = [TimeSpan::secs(1), TimeSpan::secs(3_600)];
        let remedy = "Give \"1s\" to \"1h\"; RFC 8767 advises \"30s\"";
        let stale_ttl = within("cache.stale_ttl", self.stale_ttl, limits, remedy)?;
        let remedy = "Give \"1s\" to \"5m\" (RFC 9520)";
        let failure_ttl = within("cache.failure_ttl", self.failure_ttl, FAILURE_TTL, remedy)?;
        Ok(CacheConfig {
            enabled: self.enabled,
            bytes_per_worker: self.bytes_per_worker.bytes.0,
            worker_given: self.bytes_per_worker.is_given,
            host_bytes: self.host_bytes.bytes.0,
            host_given: self.host_bytes.is_given,
            min_ttl,
            max_ttl,
            negative_max_ttl: secs(negative_max),
            stale_max: if self.serve_stale { secs(stale_max) } else { 0 },
            stale_client_timeout,
            stale_ttl: secs(stale_ttl),
            failure_ttl: secs(failure_ttl),
            nxdomain_cut: self.nxdomain_cut,
        })
    }

    /// Returns the fewest and the most seconds that answers are kept.
    fn ttls(&self) -> Result<[Secs; 2], Problem> {
        let limits = [TimeSpan::secs(0), TimeSpan::secs(86_400)];
        let min = within("cache.min_ttl", self.min_ttl, limits, "Give \"0s\" to \"1d\"")?;
        let limits = [TimeSpan::secs(1), TimeSpan::secs(7 * 86_400)];
        let max = within("cache.max_ttl", self.max_ttl, limits, "Give \"1s\" to \"7d\"")?;
        if min > max {
            let reason = format!("{} is more than cache.max_ttl, {}", self.min_ttl, self.max_ttl);
            return Err(Problem::new("cache.min_ttl", reason, "Lower it, or raise cache.max_ttl"));
        }
        Ok([secs(min), secs(max)])
    }

    /// Returns the snapshot's checked values; `None` for no snapshot. `is_in_fleet`: whether the
    /// appliance belongs to a fleet.
    pub fn snapshot(&self, is_in_fleet: bool) -> Result<Option<SnapshotConfig>, Problem> {
        let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
        let remedy = "Give \"1s\" to \"1d\"; \"5m\" is usual";
        let every = within("cache.snapshot_every", self.snapshot_every, limits, remedy)?;
        let [least, most] = SNAPSHOT;
        if !(least..=most).contains(&self.snapshot_bytes) {
            let reason = format!("{} is not possible", self.snapshot_bytes);
            let remedy = format!("Give {least} to {most}; to write none, remove cache.snapshot_file");
            return Err(Problem::new("cache.snapshot_bytes", reason, remedy));
        }
        let Some(file) = &self.snapshot_file else { return Ok(None) };
        let refused = |reason: &str, remedy: &str| Err(Problem::new("cache.snapshot_file", reason, remedy));
        if file.is_empty() || file.ends_with('/') {
            return refused("this is not the path of a file", "Write \"/var/lib/ringdns/cache.snapshot\"");
        }
        if !self.enabled {
            return refused(
                "cache.enabled = false keeps no answers, so there are none to write",
                "Remove the key, or cache.enabled = false",
            );
        }
        if is_in_fleet {
            let reason = "an appliance of a fleet loads answers from Redis, which also applies the purges made while it was down";
            return refused(reason, "Remove the key, or [redis]");
        }
        Ok(Some(SnapshotConfig { file: file.into(), every, bytes: self.snapshot_bytes.0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn nxdomain_cuts_where_it_was_validated_unless_the_file_says_otherwise() {
        let cut = |text: &str| minimal_with(text).cache.nxdomain_cut;
        assert_eq!(cut(""), NxdomainCut::Secure);
        let words = ["off", "secure", "all"].map(|word| cut(&format!("[cache]\nnxdomain_cut = \"{word}\"")));
        assert_eq!(words, [NxdomainCut::Off, NxdomainCut::Secure, NxdomainCut::All]);
        let wrong = ["nxdomain_cut = \"some\"", "6", "cache.nxdomain_cut", "some", "Correct"];
        refused(&format!("{MINIMAL}[cache]\n"), &[wrong]);
    }

    #[test]
    fn serve_stale_and_enabled_switch_rules_off() {
        let config = minimal_with("[cache]\nserve_stale = false");
        assert_eq!(config.cache.ttl_rules(&config.refresh).stale, 0);
        let config = minimal_with("[cache]\nenabled = false\nmin_ttl = \"5m\"");
        let rules = config.cache.ttl_rules(&config.refresh);
        assert_eq!((rules.min, rules.max, rules.negative_max, rules.stale), (0, 0, 0, 0));
        assert_eq!(config.cache.failure_secs(), 0);
    }

    #[test]
    fn wrong_sizes_and_times_are_refused() {
        let min = "min_ttl = \"2h\"\nmax_ttl = \"1h\"";
        refused(
            &format!("{MINIMAL}[cache]\n"),
            &[
                ["bytes_per_worker = \"64\"", "6", "cache.bytes_per_worker", "64", "Correct the value"],
                ["bytes_per_worker = \"17GiB\"", "6", "cache.bytes_per_worker", "too much", "16GiB"],
                ["host_bytes = 1000", "6", "cache.host_bytes", "too little", "enabled = false"],
                [min, "6", "cache.min_ttl", "more than cache.max_ttl", "Lower"],
                ["negative_max_ttl = \"4h\"", "6", "cache.negative_max_ttl", "too long", "RFC 2308"],
                ["failure_ttl = \"6m\"", "6", "cache.failure_ttl", "too long", "RFC 9520"],
                ["failure_ttl = \"0s\"", "6", "cache.failure_ttl", "too short", "RFC 9520"],
                ["stale_ttl = \"0s\"", "6", "cache.stale_ttl", "too short", "RFC 8767"],
                ["stale_max = \"30d\"", "6", "cache.stale_max", "too long", "serve_stale"],
            ],
        );
    }

    #[test]
    fn a_snapshot_has_a_file_an_interval_and_a_size() {
        assert!(minimal_with("[cache]\nsnapshot_bytes = \"1MiB\"").snapshot.is_none());
        let snapshot = minimal_with("[cache]\nsnapshot_file = \"/a/b\"").snapshot.unwrap();
        assert_eq!((snapshot.every, snapshot.bytes), (Duration::from_secs(300), 64 << 20));
        let file = "snapshot_file = \"/a/b\"";
        let url = format!("{file}\n[redis]\nurl = \"redis://h\"");
        let sentinel = format!("{file}\n[redis]\nsentinel = [\"redis://h\"]\nmaster = \"m\"");
        refused(
            &format!("{MINIMAL}[cache]\n"),
            &[
                ["snapshot_every = \"2d\"", "6", "cache.snapshot_every", "too long", "1d"],
                ["snapshot_bytes = 1000", "6", "cache.snapshot_bytes", "1kB is not", "64KiB"],
                ["snapshot_file = \"/a/\"", "6", "cache.snapshot_file", "not the path", "Write"],
                [&format!("{file}\nenabled = false"), "6", "cache.snapshot_file", "none to write", "Remove"],
                [&url, "6", "cache.snapshot_file", "a fleet", "[redis]"],
                [&sentinel, "6", "cache.snapshot_file", "a fleet", "[redis]"],
            ],
        );
    }
}
