//! Pacing: bounds how much one client is sent at a moment, and after how long.
//!
//! An attacker who forges a victim's address can ask slowly for names whose answers an upstream
//! holds back, and have all of them sent to the victim in one pulse (DNSBomb, CVE-2024-33655). So
//! an answer that a client over UDP has waited for takes its bytes from the client's allowance. The
//! allowance grows with time, and with each query by as much as its answer can take: a client
//! is never paced whose answers leave as fast as its queries come. An answer with records does not
//! leave at all when clients wait no more. A client that did ask will ask again, and finds the
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
/// Number of bytes by which each byte of a query and its headers lets the allowance grow: the
/// longest answer to the shortest query fits, so that a steady client is never paced.
const QUERY_TIMES: usize = 32;
/// Longest answer that is sent over UDP; a longer one is cut.
const ANSWER_MAX: usize = 1232;

/// Allowances of clients, in a table of fixed size. Clients may share a counter of a row, but hardly
/// ever those of both; the larger allowance counts.
pub struct Allowances {
    /// Time at which the allowance is whole again.
    whole_at: [Box<[AtomicU64]>; 2],
    late: Nanos,
}

impl Allowances {
    /// Returns whole allowances, `counters` in a row, for clients that get an expired answer after
    /// `stale_client_timeout`.
    pub fn new(counters: usize, stale_client_timeout: Duration) -> Self {
        Allowances {
            whole_at: std::array::from_fn(|_| (0..counters).map(|_| AtomicU64::new(0)).collect()),
            late: LATE.max(stale_client_timeout.saturating_add(GRACE)).as_nanos() as Nanos,
        }
    }

    /// Adds to a client's allowance for a query of `bytes`.
    pub fn earn(&self, client: Cells, bytes: usize) {
        let earned = (bytes * QUERY_TIMES) as Nanos * BYTE;
        self.change(client, |whole_at| whole_at.saturating_sub(earned));
    }

    /// Takes bytes from a client's allowance. Returns false if it is used up.
    pub fn spend(&self, client: Cells, bytes: usize, now: Nanos) -> bool {
        let [one, other] = std::array::from_fn(|row| self.cell(row, client).load(Relaxed));
        if one.min(other) >= now.saturating_add(ALLOWANCE) {
            return false;
        }
        self.change(client, |whole_at| whole_at.max(now) + bytes as Nanos * BYTE);
        true
    }

    /// Withholds the answer to a record from its client if it is late, or if the client has been
    /// sent too much. The worker caches it all the same.
    pub fn pace(&self, client: Cells, record: &mut Punt, answer: &Answer, now: Nanos) {
        if !matches!(record.purpose, Purpose::Answer(_)) {
            return;
        }
        let bytes = record.head().len() + answer.wire.len().min(ANSWER_MAX);
        if !answer.wire.is_empty() && now.saturating_sub(record.received) > self.late {
            record.purpose = Purpose::Withheld(Counter::PuntLate);
        } else if !self.spend(client, bytes, now) {
            record.purpose = Purpose::Withheld(Counter::PuntPaced);
        }
    }

    fn cell(&self, row: usize, client: Cells) -> &AtomicU64 {
        &self.whole_at[row][usize::from(client[row])]
    }

    fn change(&self, client: Cells, to: impl Fn(Nanos) -> Nanos) {
        for row in 0..2 {
            // The closure always returns a value.
            let _ = self.cell(row, client).fetch_update(Relaxed, Relaxed, |whole_at| Some(to(whole_at)));
        }
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
                    allowances.earn(CLIENT, 80);
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
                let queries = asked.iter().filter(|at| span.contains(at)).count();
                // Beside the largest allowance, one answer goes beyond it, and time rounds up.
                let most = ((48 + 8) << 10) + queries * 80 * QUERY_TIMES + 1300 + 60 * 60;
                prop_assert!(total <= most, "{} bytes in 10 ms, {} queries", total, queries);
            }
        }
    }

    /// The attack as measured: 3,374 queries in three seconds, answered all at once.
    #[test]
    fn a_pulse_is_less_than_a_hundred_times_what_came_in() {
        let (allowances, query, answer) = (allowances(), 108, 1274);
        (0..3374).for_each(|_| allowances.earn(CLIENT, query));
        let sent = (0..3374).filter(|_| allowances.spend(CLIENT, answer, 3000 * MILLISECOND)).count();
        let ratio = sent * answer / (3374 * query / 300);
        assert!((10..100).contains(&ratio), "{ratio}: {sent} answers");
    }

    #[test]
    fn a_client_whose_answers_leave_as_fast_as_it_asks_is_never_paced() {
        let allowances = allowances();
        // A million large answers a second, in bursts of 64.
        for n in 0..100_000 {
            let now = n / 64 * 64_000;
            allowances.earn(CLIENT, 80);
            assert!(allowances.spend(CLIENT, 1274, now), "{n}");
        }
    }
}
