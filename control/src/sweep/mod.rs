//! Sweeps: every now and then all entries of the host tier are looked at. Those that are of no use any more leave it, and those that
//! will soon expire and are asked for are renewed before they do.
//!
//! ```text
//!  walk (a thread of its own, behind the others) ─► due, the most asked for first ─► renewals: so many a second, so many at once
//! ```
//!
//! A renewal that fails changes nothing: the old answer stays as long as it would have. What is renewed because a client has
//! just asked for it ([`Resolver`]) is renewed beside this, out of the same budget.

mod backroom;
mod history;
mod walk;

pub use backroom::Backroom;
pub use history::{Removed, Report, Skipped, Told};
pub use walk::{Due, Gate, Walk};

use crate::{
    config::Refresh,
    counters::counters,
    names,
    resolver::{Resolved, Resolver, Turn},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use history::History;
use parking_lot::Mutex;
use ringdns_dataplane::{clock::Secs, dns::key::Key};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// Renewals are begun in small groups, so often.
const TICK: Duration = Duration::from_millis(20);

counters! {
    /// What sweeps have done since the start.
    SweepCounters {
        /// Times that all entries have been looked at.
        sweeps,
        /// Entries that sweeps have looked at.
        seen,
        /// Entries that were about to expire.
        near,
        /// Entries about to expire that were renewed.
        renewed,
        /// Entries about to expire whose new answer expires no later.
        unchanged,
        /// Entries about to expire that could not be renewed, and stay as they are.
        failed,
        /// Entries about to expire left alone because they are not asked for.
        skipped_unasked,
        /// Entries about to expire left alone because lately they could not be renewed.
        skipped_put_off,
        /// Entries about to expire left alone because others are asked for more.
        skipped_over_budget,
        /// Entries about to expire that somebody else had renewed or removed when their turn came.
        skipped_settled,
        /// Entries removed because they could not be given out any more.
        removed_dead,
    }
}

/// Who sweeps.
pub struct Sweeper {
    resolver: Arc<Resolver>,
    refresh: Refresh,
    backroom: Backroom,
    history: Mutex<History>,
    /// What was done so far.
    pub counters: SweepCounters,
}

/// A renewal that has begun.
struct Renewal {
    /// When the old answer expires.
    expires: Secs,
    receiver: oneshot::Receiver<Resolved>,
}

/// What became of an entry whose turn it was.
enum Turned {
    Begun(Renewal),
    Settled,
    TooLate,
    NoBudget,
}

impl Sweeper {
    /// One for the host tier of `resolver`, whose walks are done in `backroom`.
    pub fn new(resolver: Arc<Resolver>, refresh: Refresh, backroom: Backroom) -> Arc<Self> {
        Arc::new(Sweeper {
            resolver,
            refresh,
            backroom,
            history: Mutex::default(),
            counters: SweepCounters::default(),
        })
    }

    /// Sweeps until the task is dropped.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        sleep(self.pause()).await;
        loop {
            let next = Instant::now() + self.pause();
            self.sweep(next).await?;
            sleep_until(next).await;
        }
    }

    /// How long from one sweep to the next: not the same for all, so that hosts that were started together do not sweep together.
    fn pause(&self) -> Duration {
        self.refresh.sweep_every.mul_f64(rand::random_range(0.75..=1.25))
    }

    /// One sweep. Begins no more renewals after `until`.
    pub async fn sweep(&self, until: Instant) -> io::Result<()> {
        let (clock, host) = (self.resolver.clock(), self.resolver.host().clone());
        let (began, now) = (Instant::now(), clock.secs());
        let mut report = Report { at: clock.unix(), ..Report::default() };
        let Refresh { sweep_window: window, sweep_demand: demand, .. } = self.refresh;
        let walking = self.backroom.have(move || {
            let began = Instant::now();
            (Walk::over(&host, now, Gate { window, demand }), began.elapsed())
        });
        let (walk, took) = walking.await.ok_or_else(|| io::Error::other("a walk ended in a panic"))?;
        report.walk_us = took.as_micros() as u64;
        (report.seen, report.stale, report.near) = (walk.seen, walk.stale, walk.near);
        (report.skipped.unasked, report.skipped.put_off) = (walk.unasked, walk.put_off);
        report.skipped.over_budget = walk.too_many;
        report.removed.dead = walk.dead;
        self.renew(walk.due, until, &mut report).await;
        report.took_ms = began.elapsed().as_millis() as u64;
        self.count(&report);
        self.history.lock().add(report);
        Ok(())
    }

    /// Renews what is due, in order.
    async fn renew(&self, due: Vec<Due>, until: Instant, report: &mut Report) {
        let mut due = due.into_iter().peekable();
        let mut under_way = FuturesUnordered::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut allowance = 0.0;
        while due.peek().is_some() || !under_way.is_empty() {
            tokio::select! {
                _ = tick.tick(), if due.peek().is_some() => {
                    if Instant::now() >= until {
                        report.skipped.over_budget += due.by_ref().count() as u64;
                        continue;
                    }
                    allowance = self.allowance(allowance);
                    let mut turn = Turn::default();
                    while allowance >= 1.0 && under_way.len() < self.refresh.sweep_in_flight
                        && let Some(next) = due.peek()
                    {
                        match self.begin(next, &mut turn) {
                            Turned::NoBudget => break,
                            Turned::Settled => report.skipped.settled += 1,
                            Turned::TooLate => report.skipped.over_budget += 1,
                            Turned::Begun(renewal) => {
                                allowance -= 1.0;
                                under_way.push(renewal.ended());
                            }
                        }
                        due.next();
                    }
                }
                Some((expires, resolved)) = under_way.next() => match resolved {
                    Some(resolved) if resolved.answer.expires() > expires => report.renewed += 1,
                    Some(_) => report.unchanged += 1,
                    None => report.failed += 1,
                },
            }
        }
    }

    /// How many renewals may begin now, if there were so many left before: in a second three quarters of the budget. The rest is
    /// for those whose clients are asking.
    fn allowance(&self, left: f64) -> f64 {
        let Some(per_second) = self.refresh.per_second else { return f64::INFINITY };
        let more = f64::from(per_second) * 0.75 * TICK.as_secs_f64();
        (left + more).min(more.max(1.0))
    }

    /// Begins a renewal, if it is still due.
    fn begin(&self, due: &Due, turn: &mut Turn) -> Turned {
        if self.resolver.clock().secs() >= due.expires {
            return Turned::TooLate;
        }
        let Some(key) = key_of(due) else { return Turned::Settled };
        let entry = self.resolver.host().peek(&key);
        let Some(entry) = entry.filter(|entry| entry.answer.expires() == due.expires) else {
            return Turned::Settled;
        };
        let renewing = self.resolver.renew(&key, entry.answer.received, turn);
        renewing
            .map_or(Turned::NoBudget, |receiver| Turned::Begun(Renewal { expires: due.expires, receiver }))
    }

    fn count(&self, report: &Report) {
        let counters = &self.counters;
        let Skipped { unasked, put_off, over_budget, settled } = report.skipped;
        counters.sweeps.inc();
        for (counter, n) in [
            (&counters.seen, report.seen),
            (&counters.near, report.near),
            (&counters.renewed, report.renewed),
            (&counters.unchanged, report.unchanged),
            (&counters.failed, report.failed),
            (&counters.skipped_unasked, unasked),
            (&counters.skipped_put_off, put_off),
            (&counters.skipped_over_budget, over_budget),
            (&counters.skipped_settled, settled),
            (&counters.removed_dead, report.removed.dead),
        ] {
            counter.add(n);
        }
    }

    /// What was done in the last day, and in each of the last sweeps.
    pub fn told(&self, last: usize) -> Told {
        self.history.lock().told(last)
    }
}

impl Renewal {
    /// When the old answer expires, and the new one if there is any.
    async fn ended(self) -> (Secs, Option<Resolved>) {
        (self.expires, self.receiver.await.ok())
    }
}

fn key_of(due: &Due) -> Option<Key> {
    let asked = due.key.asked();
    names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled())
}

#[cfg(test)]
mod tests;
