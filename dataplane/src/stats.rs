//! Counters: one set a worker, written by it alone, read by anybody.
//!
//! Every received frame ends in exactly one [`Counter`] of the first group or one [`DropReason`], and every punt in
//! exactly one of the second, so that sums close: see [`Snapshot::unaccounted`].

use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $(#[doc = $doc:literal] $variant:ident => $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $doc] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in statistics.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// What it counts.
            pub fn doc(self) -> &'static str {
                match self { $($name::$variant => $doc.trim_ascii(),)* }
            }
        }
    };
}

counters! {
    /// What a worker counts.
    Counter {
        /// Frames received.
        Received => "received",

        /// Answered from a fresh entry.
        Hit => "hit",
        /// Answered from an expired entry; a refresh was asked for.
        Stale => "stale",
        /// Answered with a remembered failure (RFC 9520).
        CachedFailure => "cached_failure",
        /// Answered FORMERR.
        FormErr => "formerr",
        /// Answered NOTIMP.
        NotImp => "notimp",
        /// Answered REFUSED.
        Refused => "refused",
        /// Answered REFUSED because the access list does not let the client in.
        Denied => "denied",
        /// Answered BADVERS.
        BadVers => "badvers",
        /// Answered with who we are.
        Identity => "identity",
        /// Answered with nothing but a cookie: BADCOOKIE, or nothing else was asked for (RFC 7873).
        Cookie => "cookie",
        /// Sent to the control plane, to be answered when it has found out.
        Punted => "punted",

        /// Punts answered.
        PuntAnswered => "punt_answered",
        /// Punts whose answer found no free frame; the client will ask again.
        PuntNoFrame => "punt_no_frame",
        /// Punts whose answer came when the port that had received them was gone; the client will ask again.
        PuntPortGone => "punt_port_gone",

        /// Datagrams accepted with a partial checksum: the kernel left it to a NIC that was not on the way.
        PartialChecksum => "partial_checksum",
        /// Answers sent with TC=1 because they exceed what the client takes.
        Truncated => "truncated",
        /// Answers with NXDOMAIN or no data, among the hits.
        Negative => "negative",
        /// Refreshes asked of the control plane.
        RefreshSent => "refresh_sent",
        /// Refreshes not asked for because the punt queue or pool was exhausted.
        RefreshSkipped => "refresh_skipped",
        /// Refreshes that came back.
        RefreshDone => "refresh_done",
        /// Entries written to the cache.
        Inserted => "inserted",
        /// Entries pushed out by others before they expired.
        Evicted => "evicted",
        /// Entries removed because they expired or were purged.
        Expired => "expired",

        /// Answers recorded for the query log, those with no batch for them among these.
        LogRecorded => "log_recorded",
        /// Answers not recorded because their client or name is excluded.
        LogExcluded => "log_excluded",
        /// Answers recorded nowhere because all batches were on their way.
        LogNoBatch => "log_no_batch",

        /// Entries of which the control plane was told that they have been asked for.
        Noted => "noted",
        /// Entries of which it is to be told the next time, because all batches were on their way.
        NoteSkipped => "note_skipped",
        /// Entries replaced by an answer that the control plane had renewed unasked.
        Renewed => "renewed",
    }
}

counters! {
    /// Why a received frame was dropped.
    DropReason {
        /// Neither IPv4 nor IPv6.
        NotIp => "not_ip",
        /// IP, but options, a fragment, extension headers or another protocol.
        NotPlainUdp => "not_plain_udp",
        /// Lengths of frame, IP and UDP disagree.
        BadLength => "bad_length",
        /// The IP or UDP checksum is wrong.
        BadChecksum => "bad_checksum",
        /// A source that cannot be answered: port 0, multicast, unspecified.
        BadSource => "bad_source",
        /// Too short to be a DNS message.
        ShortMessage => "short_message",
        /// A response, not a query.
        Response => "response",
        /// The access list does not let the client in.
        Denied => "denied",
        /// The punt queue to the control plane is full.
        PuntQueueFull => "punt_queue_full",
        /// All punt records of this worker are in use.
        PuntPoolEmpty => "punt_pool_empty",
    }
}

/// The outcomes that a received frame can have besides a drop.
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
    Counter::Punted,
];

/// A worker's live counters. Only the worker writes, so an increment is a plain load and store.
#[derive(Debug, Default)]
pub struct WorkerStats(CachePadded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    counters: [AtomicU64; Counter::COUNT],
    drops: [AtomicU64; DropReason::COUNT],
}

impl WorkerStats {
    /// Counts `n` of `counter`. For the owning worker only: two writers would lose counts.
    #[inline(always)]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.0.counters[counter as usize], n);
    }

    /// Counts a dropped frame. For the owning worker only.
    #[inline(always)]
    pub fn drop(&self, reason: DropReason) {
        bump(&self.0.drops[reason as usize], 1);
    }

    /// A copy of all counters; each is exact, and as of slightly different instants while the worker runs.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: self.0.counters.each_ref().map(|c| c.load(Relaxed)),
            drops: self.0.drops.each_ref().map(|c| c.load(Relaxed)),
        }
    }
}

#[inline(always)]
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed) + n, Relaxed);
}

/// A copy of counters, of one worker or summed over several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    counters: [u64; Counter::COUNT],
    drops: [u64; DropReason::COUNT],
}

impl Snapshot {
    /// One counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Frames dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Snapshot) {
        for (to, from) in self.counters.iter_mut().zip(&other.counters) {
            *to += from;
        }
        for (to, from) in self.drops.iter_mut().zip(&other.drops) {
            *to += from;
        }
    }

    /// Received frames without an outcome: zero, but for the burst under way.
    pub fn unaccounted(&self) -> i64 {
        let outcomes: u64 = OUTCOMES.iter().map(|c| self.get(*c)).sum();
        self.get(Counter::Received) as i64 - (outcomes + self.dropped_total()) as i64
    }

    /// Punts that wait for the control plane.
    pub fn punts_waiting(&self) -> i64 {
        let ends = [Counter::PuntAnswered, Counter::PuntNoFrame, Counter::PuntPortGone];
        let ended: u64 = ends.iter().map(|end| self.get(*end)).sum();
        self.get(Counter::Punted) as i64 - ended as i64
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
