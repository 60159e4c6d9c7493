//! Pacing: bounds how much one client is sent at a moment, and after how long.
//!
//! An attacker who forges a victim's address can ask slowly for names whose answers an upstream
//! holds back, and have all of them sent to the victim in one pulse (DNSBomb, CVE-2024-33655). So
//! an answer that a client over UDP has waited for takes its bytes from the client's allowance. The
//! allowance grows with time. Beside it, each query earns as much as its answer can take, half of
//! which is gone soon: a client is never paced whose answers leave as fast as its queries come. An
//! answer with records does not leave at all when clients wait no more. A client that did ask will ask again, and finds the
//! answer in the cache.
//!
//! Errors may leave late: they are no larger than the query, and a client that is told need not ask
//! again. Over TCP, the connection proves the address.

use super::shares::Cells;
use ringdns_dataplane::{
    clock::Nanos,
    dns::answer::Answer,
    punt::{Punt, Purpose},
    stats::Counter,
};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Time after which clients are taken to wait no more.
const LATE: Duration = Duration::from_millis(1900);
/// Time by which an expired answer for which clients wait (`cache.stale_client_timeout`) is late.
const GRACE: Duration = Duration::from_millis(100);
/// Time in which the allowance grows by a byte, in nanoseconds: 8 KiB in 10 ms.
const BYTE: Nanos = 1220;
/// Largest allowance, as the time in which it grows: 48 KiB.
const ALLOWANCE: Nanos = (48 << 10) * BYTE;
/// Number of bytes that each byte of a query and its headers earns: the longest answer to a query of
/// usual length fits.
const QUERY_TIMES: usize = 20;
/// Binary logarithm of the time, in nanoseconds, in which half of what was earned is gone: 17 ms.
const HALF_LIFE_BITS: u32 = 24;
/// Longest answer that is sent over UDP; a longer one is cut.
const ANSWER_MAX: usize = 1232;

/// Allowances of clients, in a table of fixed size. Clients may share a counter of a row, but hardly
/// ever those of both; the larger allowance counts.
pub struct Allowances {
    /// Time at which the allowance is whole again.
    whole_at: [Box<[AtomicU64]>; 2],
    /// Bytes earned by recent queries, and above them, in 32 bits each, the half-life in which that
    /// was so.
    earned: [Box<[AtomicU64]>; 2],
    late: Nanos,
}

fn counters(number: usize) -> [Box<[AtomicU64]>; 2] {
    std::array::from_fn(|_| (0..number).map(|_| AtomicU64::new(0)).collect())
}

/// Returns the number of half-lives until `now`.
fn half_lives(now: Nanos) -> u32 {
    (now >> HALF_LIFE_BITS) as u32
}

/// Returns what is left of a word of [`Allowances::earned`].
fn left(word: u64, half_lives: u32) -> u32 {
    (word as u32).checked_shr(half_lives.wrapping_sub((word >> 32) as u32)).unwrap_or(0)
}

fn word(half_lives: u32, bytes: u32) -> u64 {
    u64::from(half_lives) << 32 | u64::from(bytes)
}

impl Allowances {
    /// Returns whole allowances, `counters` in a row, for clients that get an expired answer after
    /// `stale_client_timeout`.
    pub fn new(counters: usize, stale_client_timeout: Duration) -> Self {
        Allowances {
            whole_at: self::counters(counters),
            earned: self::counters(counters),
            late: LATE.max(stale_client_timeout.saturating_add(GRACE)).as_nanos() as Nanos,
        }
    }

    /// Adds to what a client has earned, for a query of `bytes`.
    pub fn earn(&self, client: Cells, bytes: usize, now: Nanos) {
        let (now, more) = (half_lives(now), (bytes * QUERY_TIMES) as u32);
        change(&self.earned, client, |earned| word(now, left(earned, now).saturating_add(more)));
    }

    /// Takes bytes from what a client has earned, or from its allowance. Returns false if both are
    /// used up.
    pub fn spend(&self, client: Cells, bytes: usize, now: Nanos) -> bool {
        let half_lives = half_lives(now);
        // A counter that clients share has more than each of them earned.
        let [one, other] = values(&self.earned, client).map(|earned| left(earned, half_lives));
        if one.min(other) as usize >= bytes {
            let less = |earned| left(earned, half_lives).saturating_sub(bytes as u32);
            change(&self.earned, client, |earned| word(half_lives, less(earned)));
            return true;
        }
        let [one, other] = values(&self.whole_at, client);
        if one.min(other) >= now.saturating_add(ALLOWANCE) {
            return false;
        }
        change(&self.whole_at, client, |whole_at| whole_at.max(now) + bytes as Nanos * BYTE);
        true
    }

    /// Withholds the answer to a record from its client if it is late, or if the client has been
    /// sent too much. The worker caches it all the same. Returns the number of bytes that the client
    /// is sent.
    pub fn pace(&self, client: Cells, record: &mut Punt, answer: &Answer, now: Nanos) -> usize {
        let bytes = bytes(record, answer);
        if bytes == 0 {
            return 0;
        }
        if !answer.wire.is_empty() && now.saturating_sub(record.received) > self.late {
            record.purpose = Purpose::Withheld(Counter::PuntLate);
        } else if !self.spend(client, bytes, now) {
            record.purpose = Purpose::Withheld(Counter::PuntPaced);
        }
        if matches!(record.purpose, Purpose::Withheld(_)) { 0 } else { bytes }
    }
}

/// Returns the number of bytes that the client of a record is sent with an answer: none if no
/// client waits.
pub fn bytes(record: &Punt, answer: &Answer) -> usize {
    match record.purpose {
        Purpose::Answer(_) => record.head().len() + answer.wire.len().min(ANSWER_MAX),
        Purpose::Notify(_) | Purpose::Withheld(_) | Purpose::Refresh | Purpose::Renewed => 0,
    }
}

fn values(rows: &[Box<[AtomicU64]>; 2], client: Cells) -> [u64; 2] {
    std::array::from_fn(|row| rows[row][usize::from(client[row])].load(Relaxed))
}

fn change(rows: &[Box<[AtomicU64]>; 2], client: Cells, to: impl Fn(u64) -> u64) {
    for (row, cell) in rows.iter().zip(client) {
        // The closure always returns a value.
        let _ = row[usize::from(cell)].fetch_update(Relaxed, Relaxed, |value| Some(to(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLISECOND: Nanos = 1_000_000;
    const CLIENT: Cells = [1, 2];

    fn allowances() -> Allowances {
        Allowances::new(8, Duration::ZERO)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_a_client_is_sent_in_ten_milliseconds_is_bounded_by_what_it_asks(
            steps in prop::collection::vec((0..3 * MILLISECOND, 60..1300usize, 0..50usize, 0..120usize), 1..16),
        ) {
            let allowances = allowances();
            let (mut now, mut sent, mut asked) = (0, Vec::new(), Vec::new());
            for (pause, bytes, queries, answers) in steps {
                now += pause;
                for _ in 0..queries {
                    allowances.earn(CLIENT, 80, now);
                    asked.push(now);
                }
                let within = (0..answers).filter(|_| allowances.spend(CLIENT, bytes, now));
                sent.extend(within.map(|_| (now, bytes)));
                // A client that shares one counter with it is not affected.
                prop_assert!(now > 50 * MILLISECOND || allowances.spend([1, 3], 60, now));
            }
            for (from, _) in &sent {
                let span = *from..from + 10 * MILLISECOND;
                let total = sent.iter().filter(|(at, _)| span.contains(at)).map(|(_, bytes)| bytes).sum::<usize>();
                // Half of what was earned is gone after 17 to 34 ms.
                let lives = |at: Nanos| half_lives(*from).saturating_sub(half_lives(at));
                let earned = asked.iter().filter(|at| **at < span.end);
                let earned = earned.map(|at| (80 * QUERY_TIMES) >> lives(*at).min(16)).sum::<usize>();
                // Beside the largest allowance, one answer goes beyond it, and time rounds up.
                let most = ((48 + 8) << 10) + earned + 1300 + 60 * 60;
                prop_assert!(total <= most, "{} bytes in 10 ms, {} earned", total, earned);
            }
        }
    }

    /// The attack as measured: 3,374 queries in three seconds, answered all at once.
    #[test]
    fn a_pulse_is_smaller_than_unbounds() {
        let (allowances, query, answer) = (allowances(), 108, 1274);
        for n in 0..3374 {
            allowances.earn(CLIENT, query, n * 3000 * MILLISECOND / 3374);
        }
        let sent = (0..3374).filter(|_| allowances.spend(CLIENT, answer, 3000 * MILLISECOND)).count();
        let ratio = sent * answer / (3374 * query / 300);
        // Unbound 1.17 sends 146 times as much.
        assert!((10..146).contains(&ratio), "{ratio}: {sent} answers");
    }

    #[test]
    fn a_client_whose_answers_leave_as_fast_as_it_asks_is_never_paced() {
        let allowances = allowances();
        // A million large answers a second, in bursts of 64.
        for n in 0..100_000 {
            let now = n / 64 * 64_000;
            allowances.earn(CLIENT, 80, now);
            assert!(allowances.spend(CLIENT, 1274, now), "{n}");
        }
    }
}
