//! A worker: one thread, one port, one cache, one loop.

use crate::{
    cache::{Cache, Churn, KeyedHash},
    clock::{self, Clock, Nanos, Secs},
    demand::{DemandLine, Noter},
    frame::Place,
    latency::{Latencies, Outcome},
    log::{LogConfig, Tier},
    mirror::{Exchanges, MirrorConfig},
    policy::QueryPolicy,
    pool::RecordPool,
    port::{Burst, Port, PortStats, RETURNS_MAX},
    process::{AnswerConfig, Census, Mirror, MirrorUse, Processor, Recorder, TurnTally, Verdict},
    punt::{Link, Published, Punt, Purpose},
    purge::Purge,
    region::Populator,
    stats::Counter,
};
use arrayvec::ArrayVec;
use mirrors::Mirrors;
use punter::Punter;
use std::{io, sync::Arc, time::Duration};

mod mirrors;
mod punter;
mod returned;

/// Settings of a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Size of the cache in bytes, including its index.
    pub cache_bytes: usize,
    /// Rules for replies.
    pub rules: AnswerConfig,
    /// Policy that decides which queries are answered.
    pub policy: Arc<QueryPolicy>,
    /// Number of punt records: the most queries that may wait for the control plane at once.
    pub records: usize,
    /// Time that the worker polls for packets after the last one, before it sleeps in the kernel.
    pub spin: Duration,
    /// Setup of the query log; `None`: no log.
    pub log: Option<LogConfig>,
    /// Queue of the entries in demand to the control plane; `None`: they are not reported.
    pub demand: Option<Arc<DemandLine>>,
    /// Setup of the mirror of packets for dnstap; `None`: there is none.
    pub mirror: Option<MirrorConfig>,
    /// Thread that populates the cache's memory ahead of its use; `None`: first writes populate it.
    pub populator: Option<Populator>,
}

/// Time in which the sweep passes over the whole cache once, in seconds.
const SWEEP_PERIOD: u64 = 60;
/// Most entries swept in one turn: under load, and when idle.
const SWEEP_STEPS: (u32, u32) = (8, 256);
/// Longest sleep: the most by which an idle worker can be late to notice that a second has passed.
const NAP: Duration = Duration::from_millis(500);

/// Most turns that a port gets before it is replaced, to answer what has arrived: enough to empty
/// the largest ring.
const LAST_TURNS: usize = 1 << 11;

/// A worker. Create it on the thread that runs it, so that its memory is on that core's NUMA node.
pub struct Worker<P: Port> {
    port: P,
    /// Number of ports that it had before this one.
    port_number: u32,
    /// Totals of those ports.
    before: PortStats,
    processor: Processor,
    link: Arc<Link>,
    clock: Clock,
    spin: Nanos,
    pool: RecordPool,
    latencies: Box<Latencies>,
    burst: Burst,
    /// Arrival times of the queries whose punts this turn answers, and the tiers that had the answers.
    waited: ArrayVec<(Nanos, Tier), RETURNS_MAX>,
    generation: u64,
    /// Query log; `None`: nothing is logged.
    log: Option<Box<Recorder>>,
    mirrors: Mirrors,
    census: Census,
    /// Reporter of the entries in demand; `None`: they are not reported.
    noter: Option<Box<Noter>>,
    housekeeping: Housekeeping,
}

#[derive(Default)]
struct Housekeeping {
    second: Secs,
    sweep_budget: u64,
    churn: Churn,
}

/// Result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopTurn {
    /// Packets arrived or punts came back.
    Busy,
    /// There was nothing to do.
    Idle,
}

impl<P: Port> Worker<P> {
    /// Creates a worker on `port` with an empty cache.
    pub fn new(port: P, link: Arc<Link>, clock: Clock, settings: &WorkerConfig) -> io::Result<Self> {
        let hash = KeyedHash::random()?;
        let mut cache = Cache::new(settings.cache_bytes, settings.rules.udp_limit, hash)?;
        if let Some(populator) = &settings.populator {
            cache.populate_by(populator);
        }
        let latencies = Latencies::new().map_err(io::Error::other)?;
        let mut processor = Processor::new(cache, settings.rules, settings.policy.clone());
        processor.set_epoch(clock.epoch());
        processor.set_link_mtu(port.link_mtu());
        let pool = RecordPool::new(settings.records, hash);
        let protocol = port.protocol();
        let dnstap = |setup| Box::new(Mirror::new(setup, protocol, MirrorUse::Dnstap));
        Ok(Worker {
            port,
            port_number: 0,
            before: PortStats::default(),
            processor,
            generation: link.generations.current(),
            link,
            clock,
            spin: settings.spin.as_nanos() as Nanos,
            pool,
            latencies: Box::new(latencies),
            burst: Burst::new(),
            waited: ArrayVec::new(),
            log: settings.log.clone().map(|setup| Box::new(Recorder::new(setup, protocol))),
            mirrors: Mirrors::new(settings.mirror.clone().map(dnstap)),
            census: Census::new(clock.nanos()),
            noter: settings.demand.clone().map(|demand| Box::new(Noter::new(demand))),
            housekeeping: Housekeeping::default(),
        })
    }

    /// Runs until [`Link::request_stop`] or [`Link::interrupt`].
    pub fn run(&mut self) -> io::Result<()> {
        let mut last_work = self.clock.nanos();
        while !self.link.is_interrupted() {
            let now = self.clock.nanos();
            let turn = self.turn(now);
            let swept = self.keep_house(now, turn);
            if turn == LoopTurn::Busy {
                last_work = now;
            } else if !swept && now.saturating_sub(last_work) >= self.spin {
                self.sleep(now)?;
            }
        }
        if let Some(log) = &mut self.log {
            log.hand_on();
        }
        self.mirrors.hand_on();
        self.publish();
        Ok(())
    }

    /// Replaces the port. The cache, the counters and the punts in flight stay; the totals of all
    /// ports are added up.
    ///
    /// Packets that arrived at the old port are answered first. Replies not sent by then are lost.
    /// So are the answers to punts from the old port: their frames are addressed for another wire.
    pub fn replace_port<Q: Port>(mut self, port: Q) -> Worker<Q> {
        for _ in 0..LAST_TURNS {
            if self.turn(self.clock.nanos()) == LoopTurn::Idle {
                break;
            }
        }
        let mut before = self.before;
        before += self.port.stats();
        before.send_failed +=
            [Place::Held, Place::Tx].map(|place| self.port.frames().count(place) as u64).iter().sum::<u64>();
        self.processor.set_link_mtu(port.link_mtu());
        if let Some(log) = &mut self.log {
            log.set_protocol(port.protocol());
        }
        self.mirrors.set_protocol(port.protocol());
        let mut worker = Worker {
            port,
            port_number: self.port_number + 1,
            before,
            processor: self.processor,
            link: self.link,
            clock: self.clock,
            spin: self.spin,
            pool: self.pool,
            latencies: self.latencies,
            burst: self.burst,
            waited: self.waited,
            generation: self.generation,
            log: self.log,
            mirrors: self.mirrors,
            census: self.census,
            noter: self.noter,
            housekeeping: self.housekeeping,
        };
        worker.publish();
        worker
    }

    /// Runs one turn at the time `now`: receives a burst, answers it, answers the punts that have
    /// come back, and sends.
    pub fn turn(&mut self, now: Nanos) -> LoopTurn {
        self.follow_generation();
        self.port.recv(&mut self.burst);
        let received = self.burst.len();
        let tally = self.answer_burst(now);
        let returned = self.answer_returned(now);
        self.port.flush();
        if received + returned == 0 {
            return LoopTurn::Idle;
        }
        self.record(tally, now);
        LoopTurn::Busy
    }

    /// Answers the burst just received.
    fn answer_burst(&mut self, now: Nanos) -> TurnTally {
        if self.burst.is_empty() {
            return TurnTally::default();
        }
        self.processor.set_time(now);
        let stats = &self.link.stats;
        stats.add(Counter::Received, self.burst.len() as u64);
        let checksums = self.port.checksums();
        let frames = self.port.frames();
        self.mirrors.choose(now, frames, &self.burst);
        let (fates, tally) = self.processor.run(clock::secs(now), checksums, frames, &mut self.burst, stats);
        self.census.count(frames, &self.burst, &fates, (&self.link.census, &self.link.sightings));
        if let Some(log) = &mut self.log {
            log.note_burst(now, frames, &self.burst, &fates);
        }
        self.mirrors.note_burst(now, frames, &self.burst, &fates);
        let mut punter = Punter {
            link: &self.link,
            pool: &mut self.pool,
            now,
            port: self.port_number,
            generation: self.generation,
            exchanges: Exchanges::default(),
        };
        let mut punted = false;
        for (nth, frame) in self.burst.drain(..).enumerate() {
            let Some(slot) = fates.slot(nth) else {
                self.port.send(frame);
                continue;
            };
            punter.exchanges = self.mirrors.exchanges(nth);
            match slot.verdict {
                Verdict::Reply => self.port.send(frame),
                Verdict::ReplyAndRefresh(envelope) => {
                    // The reply is in the query's place and has the same question.
                    punted |= punter.refresh(self.port.frames().packet(&frame), slot, envelope);
                    self.port.send(frame);
                }
                Verdict::Punt(envelope) => {
                    punted |= punter.punt(self.port.frames().packet(&frame), slot, envelope);
                    self.port.frames().release(frame);
                }
                Verdict::Notify(envelope) => {
                    punted |= punter.notify(self.port.frames().packet(&frame), slot, envelope);
                    self.port.frames().release(frame);
                }
                Verdict::Drop(_) => self.port.frames().release(frame),
            }
        }
        if punted {
            self.link.wake_control();
        }
        tally
    }

    /// Caches the answers that the control plane has returned, and replies to the clients that
    /// waited for them.
    fn answer_returned(&mut self, now: Nanos) -> usize {
        let mut returned = 0;
        while returned < RETURNS_MAX
            && let Some(record) = self.link.returned()
        {
            returned += 1;
            if record.purpose == Purpose::Renewed {
                self.renew(record, clock::secs(now));
                continue;
            }
            self.file(&record, clock::secs(now));
            match record.purpose {
                Purpose::Refresh | Purpose::Renewed => self.link.stats.add(Counter::RefreshDone, 1),
                Purpose::Answer(envelope) => self.answer_record(&record, envelope, now),
                Purpose::Notify(envelope) => self.answer_notify(&record, envelope),
                Purpose::Withheld(counter) => self.link.stats.add(counter, 1),
            }
            self.pool.put_back(record);
        }
        returned
    }

    /// Whether a purge since its generation covers the answer of a record.
    #[inline]
    fn is_void(&self, record: &Punt) -> bool {
        let generations = &self.link.generations;
        record.generation != generations.current()
            && generations.is_void(record.query.key.asked(), record.generation)
    }

    fn file(&mut self, record: &Punt, now: Secs) {
        let Some(answer) = &record.answer else { return };
        // An answer requested before a purge may be one that the purge was meant to remove.
        if !self.is_void(record) {
            self.processor.cache().insert_for(&record.scope(), &record.query.key, answer, now);
        }
    }

    /// Replaces a cache entry with an answer that the control plane has prefetched.
    fn renew(&mut self, record: Box<Punt>, now: Secs) {
        if let Some(answer) = &record.answer
            && !self.is_void(&record)
        {
            let key = &record.query.key;
            let renewed = self.processor.cache().renew(&record.scope(), key, answer, now);
            self.link.stats.add(Counter::Renewed, renewed.into());
        }
        if let Some(noter) = &self.noter {
            noter.demand.return_spare(record);
        }
    }

    /// Records service times: from the start of the turn that received a query until after its reply's kick.
    fn record(&mut self, tally: TurnTally, start: Nanos) {
        let end = self.clock.nanos();
        let took = end.saturating_sub(start);
        self.latencies.record(Outcome::Hit, took, tally.hits);
        self.latencies.record(Outcome::Stale, took, tally.stale);
        for (received, tier) in self.waited.drain(..) {
            self.latencies.record_miss(tier, end.saturating_sub(received));
        }
        if let Some(log) = &mut self.log {
            log.settle(end, &self.link.stats);
        }
        self.mirrors.settle(end);
    }

    /// Purges the cache when the control plane has moved on to another generation.
    #[inline]
    fn follow_generation(&mut self) {
        let generation = self.link.generations.current();
        if generation != self.generation {
            self.follow(generation);
        }
    }

    #[cold]
    fn follow(&mut self, generation: u64) {
        let purges = self.link.generations.purges(self.generation, generation);
        // An idle worker may have slept through more purges than are in memory.
        self.processor.cache().purge(purges.unwrap_or_else(|| vec![Arc::new(Purge::All)]));
        self.generation = generation;
    }

    /// Sweeps part of the cache, delivers histograms and log batches, and publishes once a second.
    /// Returns true if the sweep has more to do.
    pub fn keep_house(&mut self, now: Nanos, turn: LoopTurn) -> bool {
        self.link.latencies.serve(&mut self.latencies);
        if let Some(log) = &mut self.log {
            log.keep(now);
        }
        self.mirrors.keep(now);
        let second = clock::secs(now);
        if second != self.housekeeping.second {
            self.housekeeping.second = second;
            let period = if self.processor.cache().is_behind() { 1 } else { SWEEP_PERIOD };
            self.housekeeping.sweep_budget = self.processor.cache().occupancy().entries / period + 1;
            // The wall clock may be changed while the worker runs.
            self.processor.set_epoch(self.clock.epoch());
            if let Some(policy) = self.link.new_policy() {
                self.processor.set_policy(policy);
            }
            self.processor.keep_limits(|flood| self.link.tell_flood(flood));
            self.inspect(second);
            self.census.keep();
            self.link.stats.add(Counter::Seconds, 1);
            self.publish();
        }
        let steps = if turn == LoopTurn::Busy { SWEEP_STEPS.0 } else { SWEEP_STEPS.1 };
        let steps = self.housekeeping.sweep_budget.min(u64::from(steps));
        self.housekeeping.sweep_budget -= steps;
        match &mut self.noter {
            None => self.processor.cache().sweep(steps as u32, second),
            Some(noter) => {
                self.processor.cache().sweep_noting(steps as u32, second, |asked| noter.note(asked));
                noter.keep(second);
            }
        }
        self.housekeeping.sweep_budget > 0
    }

    fn publish(&mut self) {
        let churn = self.processor.cache().churn();
        let before = std::mem::replace(&mut self.housekeeping.churn, churn);
        let stats = &self.link.stats;
        stats.add(Counter::Inserted, churn.inserted - before.inserted);
        stats.add(Counter::Evicted, churn.evicted - before.evicted);
        stats.add(Counter::Expired, churn.expired - before.expired);
        if let Some(noter) = &mut self.noter {
            let [noted, skipped] = std::mem::take(&mut noter.counts);
            stats.add(Counter::Noted, noted);
            stats.add(Counter::NoteSkipped, skipped);
        }
        let mut port = self.before;
        port += self.port.stats();
        let counted = |place| self.port.frames().count(place) as u64;
        let frames = [Place::Free, Place::Fill, Place::Held, Place::Tx].map(counted);
        self.link.port.publish(Published { port, frames, cache: self.processor.cache().occupancy() });
    }

    /// Sleeps until a packet or the answer to a punt arrives, or a batch of the log or a page of the mirror is due.
    fn sleep(&mut self, now: Nanos) -> io::Result<()> {
        let due = [self.log.as_ref().and_then(|log| log.due(now)), self.mirrors.due(now)];
        let nap = due.into_iter().flatten().fold(NAP, Duration::min);
        let bell = self.link.bell();
        bell.arm();
        let awake = self.link.has_returned() || self.link.is_interrupted();
        let slept = if awake { Ok(()) } else { self.port.wait(bell.fd(), nap) };
        bell.disarm();
        self.inspect(clock::secs(now));
        slept
    }

    /// Answers a question about the cache, and begins or ends a capture: once a second, and when the
    /// worker was woken.
    fn inspect(&mut self, now: Secs) {
        self.follow_generation();
        self.mirrors.follow(&self.link.capture, self.port.protocol());
        self.link.inspections.serve(|key, group| self.processor.inspect(key, group, now));
    }

    /// Returns the port, for tests and for its creator.
    pub fn port(&mut self) -> &mut P {
        &mut self.port
    }

    /// Returns the processor: the cache and the code that answers.
    pub fn processor(&mut self) -> &mut Processor {
        &mut self.processor
    }
}
