//! Problems that need a watch: addresses that are absent, wrong checksums, workers that are stuck, and a
//! system clock that jumps. Each is logged once.

use super::{
    Found,
    addresses::ListenAddresses,
    clock::ClockWatch,
    stuck::{self, StuckChange, StuckWorkers},
};
use crate::service_manager;
use parking_lot::Mutex;
use ringdns_api::ProblemKind as Kind;
use ringdns_dataplane::{
    clock::Clock,
    punt::Link,
    stats::{Counter, DropReason, StatsSnapshot},
};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Time between two readings of the workers' counters.
const PERIOD: Duration = Duration::from_secs(1);
/// Number of periods over which the share of wrong checksums is computed.
const WINDOW: usize = 10;
/// Least number of wrong checksums in a window for a problem: fewer are noise, or a probe.
const BAD_MIN: u64 = 20;
/// Least share for a problem: one packet in this many with a wrong checksum.
const BAD_SHARE: u64 = 10;
/// Number of periods between two log lines about wrong checksums: anybody can send such packets.
const SILENCE: u64 = 600;

const PARTIAL: &str =
    "packets arrive with partial checksums, which a NIC on the way would have completed: accepted";

/// Current problems of this kind.
#[derive(Debug, Default)]
pub struct HostProblems(Mutex<Current>);

#[derive(Debug, Default)]
struct Current {
    addresses: ListenAddresses,
    interface: Vec<String>,
    partial: bool,
    bad: Option<Bad>,
    stuck: StuckWorkers,
    clock: ClockWatch,
}

/// Numbers of packets in a window, and of those with wrong checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bad {
    wrong: u64,
    received: u64,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Bad { wrong, received } = self;
        write!(
            f,
            "{wrong} of {received} packets of the last {WINDOW} s had wrong checksums and were dropped: if clients get no \
             answers, switch off checksum offload at the sender (`ethtool -K DEVICE tx off`), or set \
             server.trust_checksums = true if nothing on the way can corrupt packets"
        )
    }
}

impl HostProblems {
    /// Returns the problems of a host that may lack some of `addresses`. Logs those.
    pub fn on(addresses: &[SocketAddr]) -> Self {
        let mut addresses = ListenAddresses::new(addresses);
        addresses.look();
        HostProblems(Mutex::new(Current { addresses, ..Current::default() }))
    }

    /// Replaces what is known of the interface, and logs what is new.
    pub fn set_interface(&self, settings: Vec<String>) {
        let mut current = self.0.lock();
        for setting in settings.iter().filter(|setting| !current.interface.contains(setting)) {
            tracing::warn!("{setting}");
        }
        current.interface = settings;
    }

    /// Returns all of them.
    pub fn list(&self) -> Vec<Found> {
        let current = self.0.lock();
        let of_worker =
            |worker: usize| Found::new(Kind::WorkerStuck, worker.to_string(), stuck::problem(worker));
        let settings = current.interface.iter();
        let settings = settings.map(|setting| Found::whole(Kind::InterfaceSettings, setting));
        let jump = current.clock.jump().map(|jump| Found::whole(Kind::ClockJumped, jump.to_string()));
        let partial = current.partial.then(|| Found::whole(Kind::PartialChecksums, PARTIAL));
        let bad = current.bad.map(|bad| Found::whole(Kind::WrongChecksums, bad.to_string()));
        let stuck = current.stuck.all().map(of_worker);
        stuck
            .chain(current.addresses.absent())
            .chain(settings)
            .chain(jump)
            .chain(partial)
            .chain(bad)
            .collect()
    }

    /// Watches the addresses, the clock and the counters of the workers, until dropped. Tells the service manager
    /// each second that all is well, unless a worker is stuck.
    pub async fn watch(&self, links: Vec<Arc<Link>>, clock: Clock) {
        let mut watch = ChecksumWatch::default();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sum = StatsSnapshot::default();
            links.iter().for_each(|link| sum.merge(&link.stats.snapshot()));
            let seen = watch.look(&sum);
            if let Some(line) = seen.log {
                match line {
                    CounterLine::Partial => tracing::info!("{PARTIAL}"),
                    CounterLine::Bad(bad) => tracing::warn!("{bad}"),
                }
            }
            let mut current = self.0.lock();
            let kept = links.iter().map(|link| link.stats.snapshot().get(Counter::Seconds));
            for change in current.stuck.look(kept) {
                match change {
                    StuckChange::Stuck(worker) => tracing::error!("{}", stuck::problem(worker)),
                    StuckChange::Free(worker) => tracing::info!("worker {worker} is at work again"),
                }
            }
            if current.stuck.all().next().is_none() {
                service_manager::alive();
            }
            current.addresses.look();
            if let Some(jump) = current.clock.look(clock.epoch_millis(), (clock.nanos() / 1_000_000) as i64) {
                tracing::warn!("{jump}");
            }
            (current.partial, current.bad) = (seen.partial, seen.bad);
        }
    }
}

/// Recent readings of the counters, and the state of logging about them.
#[derive(Default)]
struct ChecksumWatch {
    /// Packets received, and packets with wrong checksums, at the end of each of the last periods.
    totals: VecDeque<(u64, u64)>,
    partial: bool,
    /// Periods until wrong checksums may be logged again.
    silence: u64,
}

/// Findings from the counters.
#[derive(Debug, PartialEq, Eq)]
struct SeenCounters {
    partial: bool,
    bad: Option<Bad>,
    log: Option<CounterLine>,
}

#[derive(Debug, PartialEq, Eq)]
enum CounterLine {
    Partial,
    Bad(Bad),
}

impl ChecksumWatch {
    /// Evaluates the counters at the end of a period.
    fn look(&mut self, sum: &StatsSnapshot) -> SeenCounters {
        let now = (sum.get(Counter::Received), sum.dropped(DropReason::BadChecksum));
        let then = self.totals.front().copied().unwrap_or(now);
        self.totals.push_back(now);
        if self.totals.len() > WINDOW {
            self.totals.pop_front();
        }
        let (received, wrong) = (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
        let bad = (wrong >= BAD_MIN && wrong * BAD_SHARE >= received).then_some(Bad { wrong, received });
        let is_first_partial = !self.partial && sum.get(Counter::PartialChecksum) > 0;
        self.partial |= is_first_partial;
        self.silence = self.silence.saturating_sub(1);
        let log = match bad {
            _ if is_first_partial => Some(CounterLine::Partial),
            Some(bad) if self.silence == 0 => {
                self.silence = SILENCE;
                Some(CounterLine::Bad(bad))
            }
            _ => None,
        };
        SeenCounters { partial: self.partial, bad, log }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::stats::WorkerStats;

    /// Adds the counts of a period and evaluates them.
    fn period(
        watch: &mut ChecksumWatch,
        stats: &WorkerStats,
        received: u64,
        wrong: u64,
        partial: u64,
    ) -> SeenCounters {
        stats.add(Counter::Received, received);
        stats.add(Counter::PartialChecksum, partial);
        (0..wrong).for_each(|_| stats.drop(DropReason::BadChecksum));
        watch.look(&stats.snapshot())
    }

    #[test]
    fn a_high_share_of_wrong_checksums_is_shown_while_it_lasts_and_logged_seldom() {
        let (mut watch, stats) = (ChecksumWatch::default(), WorkerStats::default());
        let quiet = SeenCounters { partial: false, bad: None, log: None };
        assert_eq!(period(&mut watch, &stats, 1000, 1000, 0), quiet, "nothing to compare with yet");
        assert_eq!(period(&mut watch, &stats, 1000, 99, 0), quiet, "less than a tenth");
        let bad = Bad { wrong: 301, received: 2002 };
        let seen = period(&mut watch, &stats, 1002, 202, 0);
        assert_eq!(seen, SeenCounters { partial: false, bad: Some(bad), log: Some(CounterLine::Bad(bad)) });
        assert!(bad.to_string().starts_with("301 of 2002 packets of the last 10 s"), "{bad}");
        for _ in 0..WINDOW - 1 {
            let seen = period(&mut watch, &stats, 0, 0, 0);
            assert_eq!(
                (seen.bad.is_some(), seen.log),
                (true, None),
                "it is in the window still, and was logged"
            );
        }
        assert_eq!(period(&mut watch, &stats, 0, 0, 0), quiet);
        for _ in WINDOW as u64..SILENCE - 2 {
            period(&mut watch, &stats, 1, 1, 0);
        }
        let logged: Vec<bool> =
            (0..3).map(|_| period(&mut watch, &stats, 100, 100, 0).log.is_some()).collect();
        assert_eq!(logged.iter().filter(|logged| **logged).count(), 1, "{logged:?}");
    }

    #[test]
    fn a_few_wrong_checksums_are_no_news() {
        let (mut watch, stats) = (ChecksumWatch::default(), WorkerStats::default());
        for _ in 0..100 {
            let seen = period(&mut watch, &stats, 1, 1, 0);
            assert_eq!(seen.bad, None);
        }
    }

    #[test]
    fn partial_checksums_are_logged_once_and_shown_from_then_on() {
        let (mut watch, stats) = (ChecksumWatch::default(), WorkerStats::default());
        assert!(!period(&mut watch, &stats, 1, 0, 0).partial);
        let seen = period(&mut watch, &stats, 1, 0, 1);
        assert_eq!(seen, SeenCounters { partial: true, bad: None, log: Some(CounterLine::Partial) });
        let seen = period(&mut watch, &stats, 1, 0, 1);
        assert_eq!(seen, SeenCounters { partial: true, bad: None, log: None });
    }

    #[test]
    fn settings_of_the_interface_are_replaced() {
        let host = HostProblems::default();
        let texts = || host.list().into_iter().map(|found| found.text).collect::<Vec<_>>();
        assert!(texts().is_empty());
        host.set_interface(vec!["one".into(), "two".into()]);
        host.0.lock().partial = true;
        assert_eq!(texts(), ["one", "two", PARTIAL]);
        host.set_interface(vec!["two".into()]);
        assert_eq!(texts(), ["two", PARTIAL]);
    }
}
