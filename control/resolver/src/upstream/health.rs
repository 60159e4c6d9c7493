//! Health of an upstream: whether it answers, and how soon.

use hdrhistogram::Histogram;
use ringdns_dataplane::clock::Nanos;
use ringdns_dnssec::Name;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Failures in a row after which an upstream is in back-off.
const PATIENCE: u32 = 3;
/// Number of domains that must have failed for that. With fewer, a probe decides: whoever has a
/// domain can let its servers be silent.
const DOMAINS_MIN: usize = 3;
/// Least time in nanoseconds between two probes.
const PROBE_PAUSE: Nanos = 1_000_000_000;
/// First back-off; doubled with each further failure.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest back-off.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Time in nanoseconds in which an estimate halves that no answer has confirmed, so that an
/// upstream that was slow once is tried again.
const HALF_LIFE: Nanos = 10_000_000_000;

/// Health of an upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Number of failures since the last answer, not counting those during back-off.
    pub failures: u32,
    /// Time at which the back-off ends.
    pub until: Nanos,
    /// Smoothed time until an answer (RFC 6298: an eighth of each new one).
    pub round_trip: Duration,
    /// Time at which the choice of upstreams last selected it.
    chosen: Nanos,
    /// Hashes of the domains that failed since the last answer; 0: none.
    domains: [u64; DOMAINS_MIN],
    /// Whether a probe is in flight.
    probing: bool,
    /// Time from which a probe may be sent.
    probe_from: Nanos,
}

impl Health {
    /// Whether the upstream is in back-off at `now`.
    pub fn is_put_back(&self, now: Nanos) -> bool {
        now < self.until
    }

    /// Whether the upstream was put in back-off and has not answered since.
    pub fn is_silent(&self) -> bool {
        self.until > 0
    }

    fn put_back(&mut self, now: Nanos) {
        let doublings = self.failures.saturating_sub(PATIENCE).min(8);
        self.until = now + (BACK_OFF * (1 << doublings)).min(BACK_OFF_MAX).as_nanos() as Nanos;
    }

    /// Notes that the upstream is about to be asked. Returns true if its back-off has just ended
    /// and this question is to try it: other questions keep treating it as in back-off until the
    /// trial has an answer.
    pub fn asked(&mut self, now: Nanos) -> bool {
        self.chosen = now;
        let trial = self.until > 0 && !self.is_put_back(now);
        if trial {
            self.put_back(now);
        }
        trial
    }

    /// Notes a failure of a question about `name` after the time `took`. Returns whether a probe is
    /// to be sent.
    pub fn failed(&mut self, trial: bool, now: Nanos, took: Duration, name: &[u8]) -> bool {
        self.smooth(took.max(self.round_trip));
        // Many questions fail together; during back-off, only the trial brings news.
        if self.is_put_back(now) && !trial {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let domain = hash_of_domain(name);
        let place = self.domains.iter().position(|known| [0, domain].contains(known));
        if let Some(place) = place {
            self.domains[place] = domain;
        }
        if self.failures < PATIENCE {
            return false;
        }
        if trial || !self.domains.contains(&0) {
            self.put_back(now);
        }
        // A trial may be about one silent domain, again and again.
        if self.is_put_back(now) && !trial {
            return false;
        }
        let probe = !self.probing && now >= self.probe_from;
        if probe {
            (self.probing, self.probe_from) = (true, now + PROBE_PAUSE);
        }
        probe
    }

    /// Whether a probe is to be sent because the upstream is silent and no question tries it.
    pub fn probe_again(&mut self, now: Nanos) -> bool {
        let probe = self.is_silent() && !self.is_put_back(now) && !self.probing;
        if probe {
            self.probing = true;
            self.failures = self.failures.saturating_add(1);
            self.put_back(now);
        }
        probe
    }

    /// Notes the result of a probe: whether the upstream works; `None`: it is not known.
    pub fn probed(&mut self, works: Option<bool>, now: Nanos) {
        self.probing = false;
        match works {
            Some(true) => self.forgive(),
            // During back-off, it was a trial that failed, which counts already.
            Some(false) if self.failures >= PATIENCE && !self.is_put_back(now) => self.put_back(now),
            Some(false) | None => {}
        }
    }

    fn forgive(&mut self) {
        (self.failures, self.until, self.domains) = (0, 0, [0; DOMAINS_MIN]);
    }

    /// Notes an answer after the time `took`.
    pub fn answered(&mut self, took: Duration) {
        self.smooth(took);
        self.forgive();
    }

    fn smooth(&mut self, took: Duration) {
        self.round_trip = if self.round_trip.is_zero() { took } else { (self.round_trip * 7 + took) / 8 };
    }

    /// Returns the expected time until an answer; zero for an upstream that was never asked. It
    /// halves every ten seconds in which the upstream is not asked.
    pub fn estimate(&self, now: Nanos) -> Duration {
        let since = now.saturating_sub(self.chosen);
        if self.round_trip.is_zero() && self.chosen > 0 {
            // Asked, and no answer yet: it takes at least the time since. So not all questions wait
            // for an upstream that may be down.
            return Duration::from_nanos(since.max(1));
        }
        self.round_trip / (1 << (since / HALF_LIFE).min(16))
    }
}

/// Returns a hash of the last two labels of a name. It is not 0.
fn hash_of_domain(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    Name::from_wire(name).map(|name| name.suffix(2)).hash(&mut hasher);
    hasher.finish() | 1
}

/// Number of recent answers that a percentile is taken of, and of new ones after which it is
/// updated.
const RECENT: u64 = 512;
const STEP: u64 = 64;
/// Shortest and longest time that is distinguished, in nanoseconds.
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 60_000_000_000;
/// Least time before a second upstream is asked: the clock of timers ticks in milliseconds.
const HEDGE_MIN: Duration = Duration::from_millis(1);

/// Response times of an upstream.
pub struct AnswerTimes {
    /// Times since the start, in nanoseconds.
    all: Histogram<u64>,
    recent: Histogram<u64>,
    percentile: Option<f64>,
    hedge_after: Option<Duration>,
}

impl AnswerTimes {
    /// Returns a record without times. A second upstream is asked after this `percentile`.
    pub fn new(percentile: Option<f64>) -> Self {
        let empty = || {
            let histogram = Histogram::new_with_bounds(SHORTEST, LONGEST, 2);
            histogram.unwrap_or_else(|_| unreachable!("the bounds are far apart, and two digits are few"))
        };
        AnswerTimes { all: empty(), recent: empty(), percentile, hedge_after: None }
    }

    /// Records the time of an answer.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(LONGEST);
        self.all.saturating_record(nanos);
        let Some(percentile) = self.percentile else { return };
        self.recent.saturating_record(nanos);
        let count = self.recent.len();
        if count.is_multiple_of(STEP) {
            let after = Duration::from_nanos(self.recent.value_at_percentile(percentile));
            self.hedge_after = Some(after.max(HEDGE_MIN));
        }
        if count >= RECENT {
            self.recent.reset();
        }
    }

    /// Returns the time after which a second upstream is asked too; `None`: never, or not known
    /// yet.
    pub fn hedge_after(&self) -> Option<Duration> {
        self.hedge_after
    }

    /// Returns all times since the start, in nanoseconds.
    pub fn all(&self) -> &Histogram<u64> {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const LATE: Duration = Duration::from_millis(800);

    fn fail(health: &mut Health, trial: bool, now: Nanos, text: &str) -> bool {
        health.failed(trial, now, LATE, &ringdns_common::names::name(text).unwrap())
    }

    #[test]
    fn an_upstream_is_put_back_longer_and_longer_until_it_answers() {
        let mut health = Health::default();
        fail(&mut health, false, 0, "a.example");
        fail(&mut health, false, 0, "b.example");
        assert!(!health.is_put_back(0), "two lost packets are no outage");
        fail(&mut health, false, 0, "c.example");
        assert!(health.is_put_back(SECOND - 1) && !health.is_put_back(SECOND));
        // A thousand questions that fail together count as one outage.
        (0..1000).for_each(|_| assert!(!fail(&mut health, false, SECOND / 2, "a.example")));
        assert!(!health.is_put_back(SECOND));

        // The back-off is over: one question tries the upstream, not all.
        assert!(health.asked(SECOND) && !health.asked(SECOND));
        fail(&mut health, false, SECOND + 1, "a.example");
        assert!(fail(&mut health, true, SECOND + 2, "a.example"), "the name may be the reason");
        health.probed(Some(false), SECOND + 2);
        assert!(health.is_put_back(3 * SECOND + 1) && !health.is_put_back(3 * SECOND + 2), "{health:?}");

        (0..40).for_each(|_| _ = fail(&mut health, true, 100 * SECOND, "a.example"));
        assert!(!health.is_put_back(130 * SECOND), "half a minute at most");
        health.answered(Duration::from_millis(8));
        assert!(!health.is_put_back(100 * SECOND) && !health.asked(100 * SECOND));
    }

    #[test]
    fn a_silent_upstream_is_probed_when_no_question_tries_it() {
        let mut health = Health::default();
        assert!(!health.probe_again(0) && !health.is_silent());
        for name in ["a.example", "b.example", "c.example"] {
            fail(&mut health, false, 0, name);
        }
        assert!(health.is_silent() && !health.probe_again(SECOND - 1), "it is in back-off");
        assert!(health.probe_again(SECOND) && !health.probe_again(9 * SECOND), "one at a time");
        health.probed(Some(false), 2 * SECOND);
        assert!(
            !health.probe_again(3 * SECOND - 1) && health.probe_again(3 * SECOND),
            "after twice the time"
        );
        assert!(!health.asked(3 * SECOND), "the probe is the trial");
        health.probed(Some(true), 5 * SECOND);
        assert!(!health.is_silent() && !health.is_put_back(5 * SECOND));
    }

    /// Whoever has a domain can let its servers be silent.
    #[test]
    fn one_domain_puts_no_upstream_back_that_answers_a_probe() {
        let mut health = Health::default();
        let one = |health: &mut Health, now| fail(health, false, now, "a.silent.example");
        assert!(!one(&mut health, 0) && !one(&mut health, 0) && one(&mut health, 0));
        assert!(!one(&mut health, 0) && !health.is_put_back(0), "one probe is enough");
        health.probed(Some(true), 0);
        assert_eq!(health.failures, 0);
        // The next ones are probed for after a while.
        assert!((0..9).all(|_| !one(&mut health, SECOND - 1)) && one(&mut health, SECOND));
        health.probed(None, SECOND);
        assert!(!health.is_put_back(SECOND), "nothing is known");
        assert!(one(&mut health, 3 * SECOND));
        health.probed(Some(false), 3 * SECOND);
        assert!(health.is_put_back(3 * SECOND));
        // Two domains are no more than one.
        let mut health = Health::default();
        for name in ["a.example", "b.example", "a.example"] {
            fail(&mut health, false, 0, name);
        }
        assert!(!health.is_put_back(0) && !fail(&mut health, false, 0, "c.example") && health.is_put_back(0));
    }

    #[test]
    fn an_estimate_follows_answers_and_is_forgotten_without_them() {
        let mut health = Health::default();
        assert_eq!(health.estimate(SECOND), Duration::ZERO, "who was never asked is tried first");
        health.asked(1);
        assert_eq!(health.estimate(SECOND + 1), Duration::from_secs(1), "and no longer than others take");
        health.chosen = 0;
        health.answered(Duration::from_millis(8));
        assert_eq!(health.estimate(SECOND), Duration::from_millis(8));
        fail(&mut health, false, 0, "a.example");
        assert_eq!(health.round_trip, Duration::from_millis(107), "no answer counts as a late one");
        assert_eq!(health.estimate(25 * SECOND), Duration::from_millis(107) / 4);
        health.asked(25 * SECOND);
        assert_eq!(health.estimate(26 * SECOND), Duration::from_millis(107));
    }

    #[test]
    fn the_percentile_is_of_late() {
        let mut times = AnswerTimes::new(Some(95.0));
        (0..STEP - 1).for_each(|_| times.record(Duration::from_millis(20)));
        assert_eq!(times.hedge_after(), None, "too few to tell");
        times.record(Duration::from_millis(20));
        let near = |after: Option<Duration>, millis: u64| {
            after
                .is_some_and(|after| after.abs_diff(Duration::from_millis(millis)) < Duration::from_millis(1))
        };
        assert!(near(times.hedge_after(), 20), "{:?}", times.hedge_after());
        (0..2 * RECENT).for_each(|_| times.record(Duration::from_millis(40)));
        assert!(near(times.hedge_after(), 40), "{:?}", times.hedge_after());
        assert_eq!(times.all().len(), STEP + 2 * RECENT);
        assert_eq!(AnswerTimes::new(None).hedge_after(), None);
    }
}
