//! Sweeps: at intervals, all entries of the host tier are looked at. Entries that can no longer be
//! served are removed; entries that are in demand and will soon expire are renewed before they do.
//!
//! ```text
//!  walk (low-priority thread) ─► due entries by demand ─► renewals (bounded per second and at once)
//! ```
//!
//! Answers from worker caches are not seen here. Workers report once a minute which entries were
//! asked for ([`DemandLine`]); a report counts as several lookups. Renewed answers are sent to the
//! workers.
//!
//! A renewal that fails changes nothing: the old answer stays as long as it would have. Renewals
//! begun because a client has just asked ([`Resolver`]) run beside sweeps, out of the same budget.

mod walk;

pub use walk::{Due, RenewalGate, Walk};

use crate::{Resolved, Resolver, Turn, resolved::Transport};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use ringdns_api::{Report, Skipped, Told};
use ringdns_common::{backroom::Backroom, counters, history::History, names};
use ringdns_config::RefreshConfig;
use ringdns_dataplane::{
    cache::Scope, clock::Secs, demand::DemandLine, dns::key::Key, group::Group, punt::Link,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// Interval at which small groups of renewals are begun.
const TICK: Duration = Duration::from_millis(20);
/// Interval at which the workers' reports are read.
const READING: Duration = Duration::from_millis(500);
/// Lookups that a worker's report of an entry counts as: clients asked that worker at least twice
/// since it has the entry, and at least once in a minute.
const NOTED: u16 = 4;

counters! {
    /// Counters of sweeps since the start.
    SweepCounters {
        /// Sweeps through the host cache.
        sweeps,
        /// Entries that sweeps looked at.
        seen,
        /// Entries that sweeps found about to expire.
        near,
        /// Entries about to expire that sweeps renewed.
        renewed,
        /// Entries about to expire whose new answer expires no later than the old one.
        unchanged,
        /// Entries about to expire that could not be renewed; the old answers stay.
        failed,
        /// Entries about to expire that were not renewed because they are not in demand.
        skipped_unasked,
        /// Entries about to expire that were not renewed because a recent renewal failed.
        skipped_put_off,
        /// Entries about to expire that were not renewed because the budget went to entries in more
        /// demand.
        skipped_over_budget,
        /// Entries about to expire that had been renewed or removed otherwise before the sweep came
        /// to them.
        skipped_settled,
        /// Entries that sweeps removed because they could no longer be served.
        removed_dead,
        /// Entries that workers reported as in demand.
        noted,
        /// Entries that workers reported as in demand, but that are no longer in the host cache.
        noted_unknown,
        /// Renewed answers sent to workers, counted once for each worker.
        sent,
        /// Renewed answers not sent to a worker because too many were on their way to it.
        not_sent,
    }
}

/// Sweeper of the host tier.
pub struct Sweeper {
    resolver: Arc<Resolver>,
    refresh: RefreshConfig,
    backroom: Backroom,
    workers: Vec<(Arc<Link>, Arc<DemandLine>)>,
    history: Mutex<History<Report>>,
    /// Counters of the sweeps.
    pub counters: SweepCounters,
}

/// Renewal that has begun.
struct SweepRenewal {
    key: Key,
    /// Time at which the old answer expires.
    expires: Secs,
    receiver: oneshot::Receiver<Resolved>,
}

/// Reason why an entry is not renewed when its turn comes.
enum Left {
    Settled,
    TooLate,
    NoBudget,
}

impl Sweeper {
    /// Returns a sweeper for the host tier of `resolver`, whose walks are done in `backroom`.
    /// `workers` report their demand.
    pub fn new(
        resolver: Arc<Resolver>,
        refresh: RefreshConfig,
        backroom: Backroom,
        workers: Vec<(Arc<Link>, Arc<DemandLine>)>,
    ) -> Arc<Self> {
        Arc::new(Sweeper {
            resolver,
            refresh,
            backroom,
            workers,
            history: Mutex::default(),
            counters: SweepCounters::default(),
        })
    }

    /// Sweeps until the task is dropped.
    pub async fn run(self: Arc<Self>) -> io::Result<()> {
        let sweeping = async {
            sleep(self.pause()).await;
            loop {
                let next = Instant::now() + self.pause();
                self.sweep(next).await?;
                sleep_until(next).await;
            }
        };
        tokio::select! {
            ended = sweeping => ended,
            () = self.listen(), if !self.workers.is_empty() => Ok(()),
        }
    }

    /// Reads the workers' reports until dropped.
    async fn listen(&self) {
        let mut tick = interval(READING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            while self.read() {
                // Other tasks run on this thread, too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads a batch of reports from each worker. Returns whether there was any.
    fn read(&self) -> bool {
        // Workers report entries that the default group shares.
        let view = self.resolver.view_of(Group::DEFAULT);
        let host = view.as_ref().unwrap_or(&self.resolver).host();
        let fleet = self.resolver.shared_tier().filter(|_| view.is_none());
        let now = self.resolver.clock().secs();
        let mut taken = false;
        for (_, demand) in &self.workers {
            let Some(notes) = demand.take() else { continue };
            taken = true;
            let (mut noted, mut unknown) = (0, 0);
            for asked in notes.iter() {
                noted += 1;
                unknown += u64::from(!host.note(asked, NOTED, now));
                if let Some(fleet) = fleet {
                    fleet.note_demand(asked, NOTED.into());
                }
            }
            self.counters.noted.add(noted);
            self.counters.noted_unknown.add(unknown);
            demand.give_back(notes);
        }
        taken
    }

    /// Sends a renewed answer to the workers.
    fn send(&self, key: &Key, resolved: &Resolved) {
        let resolved = resolved.for_client(Group::DEFAULT, Transport::Udp);
        // An entry for all groups that agree is the default group's.
        if resolved.is_withheld || !resolved.groups.has(Group::DEFAULT) {
            return;
        }
        let scope = Scope { group: Group::DEFAULT, groups: resolved.groups, list: resolved.source.list };
        for (link, demand) in &self.workers {
            let sent = demand.send(link, key, &resolved.answer, &scope, resolved.generation);
            if sent { &self.counters.sent } else { &self.counters.not_sent }.inc();
        }
    }

    /// Returns the time from one sweep to the next. It is random, so that hosts that were started
    /// together do not sweep together.
    fn pause(&self) -> Duration {
        self.refresh.sweep_every.mul_f64(rand::random_range(0.75..=1.25))
    }

    /// Makes one sweep. Begins no renewals after `until`.
    pub async fn sweep(&self, until: Instant) -> io::Result<()> {
        let (clock, host) = (self.resolver.clock(), self.resolver.host().clone());
        let (began, now) = (Instant::now(), clock.secs());
        let mut report = Report { at: clock.unix(), ..Report::default() };
        let RefreshConfig { sweep_window: window, sweep_demand: demand, .. } = self.refresh;
        let walking = self.backroom.have(move || {
            let began = Instant::now();
            let mut walk = Walk::over(&host, now, RenewalGate { window, demand });
            walk.dead += host.remove_dead_beside(now);
            (walk, began.elapsed())
        });
        let (walk, took) = walking
            .await
            .ok_or_else(|| io::Error::other("the sweep's walk through the host cache panicked"))?;
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

    /// Renews the due entries, in order.
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
                            Err(Left::NoBudget) => break,
                            Err(Left::Settled) => report.skipped.settled += 1,
                            Err(Left::TooLate) => report.skipped.over_budget += 1,
                            Ok(renewal) => {
                                allowance -= 1.0;
                                under_way.push(renewal.ended());
                            }
                        }
                        due.next();
                    }
                }
                Some(((key, expires), resolved)) = under_way.next() => match resolved {
                    Some(resolved) if resolved.answer.expires() > expires => {
                        self.send(&key, &resolved);
                        report.renewed += 1;
                    }
                    Some(_) => report.unchanged += 1,
                    None => report.failed += 1,
                },
            }
        }
    }

    /// Returns the number of renewals that may begin now, if `left` were unused before. Sweeps may
    /// use three quarters of the budget per second; the rest is for renewals of answers that
    /// clients ask for.
    fn allowance(&self, left: f64) -> f64 {
        let Some(per_second) = self.refresh.per_second else { return f64::INFINITY };
        let more = f64::from(per_second) * 0.75 * TICK.as_secs_f64();
        (left + more).min(more.max(1.0))
    }

    /// Begins a renewal, if it is still due.
    fn begin(&self, due: &Due, turn: &mut Turn) -> Result<SweepRenewal, Left> {
        let expires = due.expires;
        if self.resolver.clock().secs() >= expires {
            return Err(Left::TooLate);
        }
        let key = key_of(due).ok_or(Left::Settled)?;
        // Nobody gets what would be renewed, and the upstream need not know that it is asked for.
        if self.resolver.policy().is_some_and(|policy| policy.blocks(&key)) {
            return Err(Left::Settled);
        }
        let entry = self.resolver.host().peek(&key).ok_or(Left::Settled)?;
        if entry.answer.expires() != expires {
            return Err(Left::Settled);
        }
        let receiver = self.resolver.renew(&key, entry.answer.received, turn).ok_or(Left::NoBudget)?;
        Ok(SweepRenewal { key, expires, receiver })
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

    /// Returns sums of the last day, and the reports of the `last` sweeps.
    pub fn told(&self, last: usize) -> Told<Report> {
        self.history.lock().told(last)
    }
}

impl SweepRenewal {
    /// Waits for the end. Returns the question, the time at which the old answer expires, and the
    /// new answer if there is one.
    async fn ended(self) -> ((Key, Secs), Option<Resolved>) {
        ((self.key, self.expires), self.receiver.await.ok())
    }
}

fn key_of(due: &Due) -> Option<Key> {
    let asked = due.key.asked();
    names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled())
}

#[cfg(test)]
mod tests;
