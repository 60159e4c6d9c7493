//! Sweeps: every now and then all entries of the host tier are looked at. Those that are of no use any more leave it, and those that
//! will soon expire and are asked for are renewed before they do.
//!
//! ```text
//!  walk (a thread of its own, behind the others) ─► due, the most asked for first ─► renewals: so many a second, so many at once
//! ```
//!
//! What workers answer by themselves is not seen here. They tell once a minute which entries have been asked for since
//! ([`Demand`]), which counts as much as several lookups, and are sent what was renewed.
//!
//! A renewal that fails changes nothing: the old answer stays as long as it would have. What is renewed because a client has
//! just asked for it ([`Resolver`]) is renewed beside this, out of the same budget.

mod walk;

pub use walk::{Due, Gate, Walk};

use crate::{Resolved, Resolver, Turn};
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use ringdns_api::{Report, Skipped, Told};
use ringdns_common::{backroom::Backroom, counters, history::History, names};
use ringdns_config::Refresh;
use ringdns_dataplane::{clock::Secs, demand::Demand, dns::key::Key, punt::Link};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// Renewals are begun in small groups, so often.
const TICK: Duration = Duration::from_millis(20);
/// How often what workers have noted is read.
const READING: Duration = Duration::from_millis(500);
/// As so many lookups it counts that a worker has been asked for an entry: it was at least twice since it has it, and at least
/// once in a minute.
const NOTED: u16 = 4;

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
        /// Entries that workers have said they were asked for.
        noted,
        /// Entries that workers have said they were asked for, and that are not in the host tier any more.
        noted_unknown,
        /// Renewed answers sent to workers, one to each.
        sent,
        /// Renewed answers not sent to a worker because too many were on their way to it.
        not_sent,
    }
}

/// Who sweeps.
pub struct Sweeper {
    resolver: Arc<Resolver>,
    refresh: Refresh,
    backroom: Backroom,
    workers: Vec<(Arc<Link>, Arc<Demand>)>,
    history: Mutex<History<Report>>,
    /// What was done so far.
    pub counters: SweepCounters,
}

/// A renewal that has begun.
struct Renewal {
    key: Key,
    /// When the old answer expires.
    expires: Secs,
    receiver: oneshot::Receiver<Resolved>,
}

/// Why an entry whose turn it is is not renewed.
enum Left {
    Settled,
    TooLate,
    NoBudget,
}

impl Sweeper {
    /// One for the host tier of `resolver`, whose walks are done in `backroom`. `workers` tell what they are asked for.
    pub fn new(
        resolver: Arc<Resolver>,
        refresh: Refresh,
        backroom: Backroom,
        workers: Vec<(Arc<Link>, Arc<Demand>)>,
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

    /// Reads what workers have noted, until it is dropped.
    async fn listen(&self) {
        let mut tick = interval(READING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            while self.read() {
                // Others have work on this thread, too.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads a batch of notes from each worker. True if there was any.
    fn read(&self) -> bool {
        let (host, now) = (self.resolver.host(), self.resolver.clock().secs());
        let mut taken = false;
        for (_, demand) in &self.workers {
            let Some(notes) = demand.take() else { continue };
            taken = true;
            let (mut noted, mut unknown) = (0, 0);
            for asked in notes.iter() {
                noted += 1;
                unknown += u64::from(!host.note(asked, NOTED, now));
                if let Some(fleet) = self.resolver.shared_tier() {
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
        for (link, demand) in &self.workers {
            let sent = demand.send(link, key, &resolved.answer, resolved.generation);
            if sent { &self.counters.sent } else { &self.counters.not_sent }.inc();
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

    /// How many renewals may begin now, if there were so many left before: in a second three quarters of the budget. The rest is
    /// for those whose clients are asking.
    fn allowance(&self, left: f64) -> f64 {
        let Some(per_second) = self.refresh.per_second else { return f64::INFINITY };
        let more = f64::from(per_second) * 0.75 * TICK.as_secs_f64();
        (left + more).min(more.max(1.0))
    }

    /// Begins a renewal, if it is still due.
    fn begin(&self, due: &Due, turn: &mut Turn) -> Result<Renewal, Left> {
        let expires = due.expires;
        if self.resolver.clock().secs() >= expires {
            return Err(Left::TooLate);
        }
        let key = key_of(due).ok_or(Left::Settled)?;
        let entry = self.resolver.host().peek(&key).ok_or(Left::Settled)?;
        if entry.answer.expires() != expires {
            return Err(Left::Settled);
        }
        let receiver = self.resolver.renew(&key, entry.answer.received, turn).ok_or(Left::NoBudget)?;
        Ok(Renewal { key, expires, receiver })
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
    pub fn told(&self, last: usize) -> Told<Report> {
        self.history.lock().told(last)
    }
}

impl Renewal {
    /// Of what, when the old answer expires, and the new one if there is any.
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
