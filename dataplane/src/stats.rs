//! Counters: one set per worker, written only by that worker, read by anybody.
//!
//! Every received frame ends in exactly one [`Counter`] of the first group or one [`DropReason`],
//! and every punt in exactly one of the second group, so the sums close: see
//! [`StatsSnapshot::unaccounted`].

use crate::group::{GROUPS, Group};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $(#[doc = $doc:literal] $variant:ident => $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $doc] $variant,)* }

        impl $name {
            /// All values, in order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// Number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// Returns the name in statistics and metrics.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// Returns the help text of the metric.
            pub fn doc(self) -> &'static str {
                match self { $($name::$variant => $doc.trim_ascii(),)* }
            }
        }
    };
}

counters! {
    /// Counters of a worker. Each doc line is the help text of a metric.
    Counter {
        /// Frames received by the worker.
        Received => "received",

        /// Queries answered from a fresh entry of the worker cache.
        Hit => "hit",
        /// Queries answered from an expired entry of the worker cache (serve-stale, RFC 8767).
        Stale => "stale",
        /// Queries answered with a cached failure (RFC 9520).
        CachedFailure => "cached_failure",
        /// Queries answered FORMERR.
        FormErr => "formerr",
        /// Queries answered NOTIMP.
        NotImp => "notimp",
        /// Queries answered REFUSED for another reason than the access list.
        Refused => "refused",
        /// Queries answered REFUSED because the access list does not allow the client.
        Denied => "denied",
        /// Queries answered BADVERS.
        BadVers => "badvers",
        /// Queries for the name of this server (id.server, hostname.bind) answered with it (RFC 4892).
        Identity => "identity",
        /// Queries answered with a server cookie only: BADCOOKIE, or the query had no question (RFC 7873).
        Cookie => "cookie",
        /// Queries over the rate limit answered with TC=1 and no records, so that the client can ask over TCP.
        Slipped => "slipped",
        /// Queries punted to the control plane because the worker cache had no answer to give.
        Punted => "punted",

        /// Punted queries answered.
        PuntAnswered => "punt_answered",
        /// Punted queries left unanswered because no frame was free for the reply; the client will retry.
        PuntNoFrame => "punt_no_frame",
        /// Punted queries left unanswered because their port had been replaced; the client will retry.
        PuntPortGone => "punt_port_gone",
        /// Punted queries left unanswered because their answer came after clients stop to wait; the client will retry.
        PuntLate => "punt_late",
        /// Punted queries left unanswered because their client was being sent too much at that moment; the client will retry.
        PuntPaced => "punt_paced",
        /// Punted queries left unanswered because a list says so.
        PuntBlocked => "punt_blocked",
        /// Punted queries left unanswered because their zone is capped (resolver.zone_misses).
        PuntCapped => "punt_capped",

        /// Datagrams accepted with a partial checksum, which the kernel had left to a NIC that was not on the path.
        PartialChecksum => "partial_checksum",
        /// Answers sent with TC=1 because they exceed what the client accepts.
        Truncated => "truncated",
        /// Answers from the worker cache with NXDOMAIN or no data.
        Negative => "negative",
        /// Queries answered though they are over the rate limit, since it is a dry run.
        LimitDryRun => "limit_dry_run",
        /// Refreshes of cache entries requested from the control plane.
        RefreshSent => "refresh_sent",
        /// Refreshes not requested because the punt queue was full or all punt records were in use.
        RefreshSkipped => "refresh_skipped",
        /// Refreshes that the control plane has finished.
        RefreshDone => "refresh_done",
        /// Seconds in which the worker has kept house; one that is asleep does too.
        Seconds => "seconds",
        /// Entries written to the worker cache.
        Inserted => "inserted",
        /// Entries evicted from the worker cache before they expired.
        Evicted => "evicted",
        /// Entries removed from the worker cache because they expired or were purged.
        Expired => "expired",

        /// Answers recorded for the query log, including those lost because no batch was free.
        LogRecorded => "log_recorded",
        /// Answers not recorded in the query log because their client or name is excluded.
        LogExcluded => "log_excluded",
        /// Answers lost to the query log because no batch was free.
        LogNoBatch => "log_no_batch",

        /// Cache entries in demand that were reported to the control plane, for prefetch.
        Noted => "noted",
        /// Cache entries in demand not reported to the control plane until the next sweep because no batch was free.
        NoteSkipped => "note_skipped",
        /// Cache entries replaced by an answer that the control plane had prefetched.
        Renewed => "renewed",
    }
}

counters! {
    /// Reasons to drop a received frame.
    DropReason {
        /// Frames that are neither IPv4 nor IPv6.
        NotIp => "not_ip",
        /// IP packets with options, fragments, extension headers or another protocol than UDP.
        NotPlainUdp => "not_plain_udp",
        /// Packets whose frame, IP and UDP lengths disagree.
        BadLength => "bad_length",
        /// Packets with a wrong IP or UDP checksum.
        BadChecksum => "bad_checksum",
        /// Packets from a source that no client on a link has: port 0, multicast, loopback, unspecified.
        BadSource => "bad_source",
        /// Datagrams too short for a DNS header.
        ShortMessage => "short_message",
        /// Messages that are responses, not queries.
        Response => "response",
        /// Queries from a client that the access list does not allow.
        Denied => "denied",
        /// Queries dropped because their client is over the rate limit.
        Limited => "limited",
        /// Queries dropped because the punt queue to the control plane is full.
        PuntQueueFull => "punt_queue_full",
        /// Queries dropped because their client holds its share of this worker's punt records.
        PuntClientShare => "punt_client_share",
        /// Queries dropped because all punt records of this worker are in use.
        PuntPoolEmpty => "punt_pool_empty",
    }
}

/// Outcomes of a received frame, apart from a drop.
const OUTCOMES: &[Counter] = &[
    Counter::Hit,
    Counter::Stale,
    Counter::CachedFailure,
    Counter::FormErr,
    Counter::NotImp,
    Counter::Refused,
    Counter::Denied,
    Counter::BadVers,
    Counter::Identity,
    Counter::Cookie,
    Counter::Slipped,
    Counter::Punted,
];

/// Outcomes of punted queries that get no answer.
pub const UNANSWERED: [Counter; 6] = [
    Counter::PuntNoFrame,
    Counter::PuntPortGone,
    Counter::PuntLate,
    Counter::PuntPaced,
    Counter::PuntBlocked,
    Counter::PuntCapped,
];

/// Live counters of a worker. Only the worker writes, so an increment is a plain load and store.
#[derive(Debug, Default)]
pub struct WorkerStats {
    cells: CachePadded<Cells>,
    /// Answers of lists from the worker cache.
    pub lists: ListStats,
}

/// Live counters of the answers of lists, by list and group of clients. Only the worker writes.
#[derive(Debug)]
pub struct ListStats(Box<[[AtomicU64; GROUPS]]>);

impl Default for ListStats {
    fn default() -> Self {
        ListStats((0..=usize::from(u8::MAX)).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect())
    }
}

impl ListStats {
    /// Counts an answer of the list with this number to a client of `group`. For the owning worker
    /// only.
    pub fn add(&self, list: u8, group: Group) {
        if let Some(cell) = self.0.get(usize::from(list)).and_then(|of| of.get(group.number())) {
            bump(cell, 1);
        }
    }

    /// Returns the number of answers of a list to clients of `group`.
    pub fn get(&self, list: u8, group: Group) -> u64 {
        let cell = self.0.get(usize::from(list)).and_then(|of| of.get(group.number()));
        cell.map_or(0, |cell| cell.load(Relaxed))
    }
}

#[derive(Debug)]
struct Cells {
    counters: [AtomicU64; Counter::COUNT],
    drops: [AtomicU64; DropReason::COUNT],
}

impl Default for Cells {
    fn default() -> Self {
        let zero = |_| AtomicU64::new(0);
        Cells { counters: std::array::from_fn(zero), drops: std::array::from_fn(zero) }
    }
}

impl WorkerStats {
    /// Adds `n` to `counter`. For the owning worker only: two writers would lose counts.
    #[inline(always)]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.cells.counters[counter as usize], n);
    }

    /// Counts a dropped frame. For the owning worker only.
    #[inline(always)]
    pub fn drop(&self, reason: DropReason) {
        bump(&self.cells.drops[reason as usize], 1);
    }

    /// Returns a copy of all counters. Each is exact, but while the worker runs they are read at
    /// slightly different instants.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            counters: self.cells.counters.each_ref().map(|c| c.load(Relaxed)),
            drops: self.cells.drops.each_ref().map(|c| c.load(Relaxed)),
        }
    }
}

#[inline(always)]
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed) + n, Relaxed);
}

/// Copy of the counters of one worker, or their sum over several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSnapshot {
    counters: [u64; Counter::COUNT],
    drops: [u64; DropReason::COUNT],
}

impl Default for StatsSnapshot {
    fn default() -> Self {
        StatsSnapshot { counters: [0; Counter::COUNT], drops: [0; DropReason::COUNT] }
    }
}

impl StatsSnapshot {
    /// Returns the value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Returns the number of frames dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Returns the number of frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Adds the counters of another worker.
    pub fn merge(&mut self, other: &StatsSnapshot) {
        for (to, from) in self.counters.iter_mut().zip(&other.counters) {
            *to += from;
        }
        for (to, from) in self.drops.iter_mut().zip(&other.drops) {
            *to += from;
        }
    }

    /// Returns the number of received frames without an outcome: zero, except for the burst in
    /// progress.
    pub fn unaccounted(&self) -> i64 {
        let outcomes: u64 = OUTCOMES.iter().map(|c| self.get(*c)).sum();
        self.get(Counter::Received) as i64 - (outcomes + self.dropped_total()) as i64
    }

    /// Returns the number of punts that wait for the control plane.
    pub fn punts_waiting(&self) -> i64 {
        let ended = self.get(Counter::PuntAnswered) + self.punts_unanswered();
        self.get(Counter::Punted) as i64 - ended as i64
    }

    /// Returns the number of punts that got no answer.
    pub fn punts_unanswered(&self) -> u64 {
        UNANSWERED.iter().map(|end| self.get(*end)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_workers_write_to_one_cache_line() {
        // Two lines of 64 bytes: x86-64 fetches them in pairs.
        let (size, align) = (size_of::<WorkerStats>(), align_of::<WorkerStats>());
        assert!(align >= 128 && size.is_multiple_of(align), "{size} bytes, aligned to {align}");
    }
}
