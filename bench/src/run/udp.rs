//! The generator over kernel UDP sockets: open loop at a rate, or closed with a window of queries in flight.

use super::{
    Plan,
    flow::{Flow, Query, Response},
};
use crate::{
    mix::Pick,
    mmsg::{BATCH, Receiver, Sender},
    tally::Tally,
};
use anyhow::{Context, Result, bail, ensure};
use arrayvec::ArrayVec;
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    net::SocketAddr,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

/// Options of the UDP generator.
#[derive(Clone, Debug, clap::Args)]
pub struct UdpArgs {
    /// Sending threads (udp).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Sockets a thread, each of its own source port (udp).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sockets: u16,
    /// Queries in flight a thread when there is no --qps (udp).
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// Wait this long for an answer, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// Cores to pin the threads to, in turn (udp).
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Compare the data of A, AAAA and TXT answers with what `ringbench upstream` says.
    #[arg(long)]
    pub verify_data: bool,
}

/// When to send.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// This thread's first query at `first`, its others every `every`, in nanoseconds of the run; whatever becomes
    /// of those before.
    Open { first: f64, every: f64 },
    /// As soon as fewer than this many are in flight.
    Closed(usize),
}

/// Runs the plan and returns what was counted.
pub fn run(plan: &Plan, target: SocketAddr) -> Result<Tally> {
    let threads = u64::from(plan.udp.threads);
    // Threads are ready before the first query is due.
    let start = Instant::now() + Duration::from_millis(20);
    thread::scope(|scope| {
        let mut lanes = Vec::new();
        for number in 0..threads {
            lanes.push(scope.spawn(move || -> Result<Tally> {
                pin(&plan.udp.cores, number as usize)?;
                let mut lane = Lane::new(plan, target, start, number)?;
                let pace = match plan.qps {
                    Some(qps) => {
                        Pace::Open { first: number as f64 * 1e9 / qps, every: threads as f64 * 1e9 / qps }
                    }
                    None => Pace::Closed(usize::from(plan.udp.window)),
                };
                // Each thread takes its turn in the one order, so that the mix does not depend on their number.
                let picks = (number..).step_by(threads as usize).map(|position| plan.order.at(position));
                lane.go(picks, pace, plan.duration);
                Ok(lane.tally)
            }));
        }
        let mut sum = Tally::new()?;
        for lane in lanes {
            let Ok(tally) = lane.join() else { bail!("a sending thread panicked: see above") };
            sum.merge(&tally?)?;
        }
        Ok(sum)
    })
}

/// How often a name is asked that got no answer, before warming gives up.
const WARM_TRIES: usize = 10;
/// Longest time for one pass of warming.
const WARM_LIMIT: Duration = Duration::from_secs(600);

/// Asks every name once and waits for its answer, so that a cache has it. Names without an answer, or with another
/// RCODE than NOERROR and NXDOMAIN, are asked again.
pub fn warm(plan: &Plan, target: SocketAddr) -> Result<()> {
    let mut missing: Vec<u32> = (0..plan.questions.len() as u32).collect();
    for _ in 0..WARM_TRIES {
        let mut lane = Lane::new(plan, target, Instant::now(), 0)?;
        lane.missing = Some(Vec::new());
        lane.go(
            missing.iter().map(|name| Pick::Name(*name)),
            Pace::Closed(usize::from(plan.udp.window)),
            WARM_LIMIT,
        );
        missing = lane.missing.unwrap_or_default();
        if missing.is_empty() || plan.stop.load(Relaxed) {
            return Ok(());
        }
        ensure!(
            missing.len() < plan.questions.len(),
            "{target} answers nothing: does a server run there, and does it reach its upstream?"
        );
    }
    bail!(
        "{} of {} names got no usable answer from {target} in {WARM_TRIES} tries: is its upstream slow or failing?",
        missing.len(),
        plan.questions.len()
    )
}

/// One sending thread.
struct Lane<'p> {
    plan: &'p Plan,
    start: Instant,
    flows: Vec<Flow>,
    /// The flow whose turn it is to send.
    turn: usize,
    sent: u64,
    sender: Sender,
    receiver: Receiver,
    rng: SmallRng,
    tally: Tally,
    /// Names without a usable answer, if anybody wants to know.
    missing: Option<Vec<u32>>,
}

impl<'p> Lane<'p> {
    fn new(plan: &'p Plan, target: SocketAddr, start: Instant, number: u64) -> Result<Self> {
        let flows = (0..plan.udp.sockets).map(|_| Flow::connect(target)).collect::<Result<_>>()?;
        Ok(Lane {
            plan,
            start,
            flows,
            turn: 0,
            sent: 0,
            sender: Sender::default(),
            receiver: Receiver::default(),
            rng: SmallRng::seed_from_u64(plan.seed ^ number),
            tally: Tally::new()?,
            missing: None,
        })
    }

    /// Sends `picks` at `pace` until they end or `duration` is over, then waits for the last answers.
    fn go(&mut self, picks: impl Iterator<Item = Pick>, pace: Pace, duration: Duration) {
        thread::sleep(self.start.saturating_duration_since(Instant::now()));
        let mut picks = picks.peekable();
        let timeout = self.plan.udp.timeout_ms * 1_000_000;
        let end = duration.as_nanos() as u64;
        loop {
            let now = self.now();
            let sending = now < end && picks.peek().is_some() && !self.plan.stop.load(Relaxed);
            let in_flight = self.in_flight();
            if !sending && (in_flight == 0 || self.plan.stop.load(Relaxed)) {
                break;
            }
            let due = if sending { pace.due(now, self.sent, in_flight) } else { 0 };
            let moved = self.send(&mut picks, pace, due.min(BATCH)) + self.receive();
            self.expire(now.saturating_sub(timeout));
            if moved == 0 {
                self.idle(sending.then(|| pace.time_of(self.sent)).flatten());
            }
        }
    }

    /// Sends up to `due` queries by the next flow, and returns how many.
    fn send(&mut self, picks: &mut impl Iterator<Item = Pick>, pace: Pace, due: usize) -> usize {
        let turn = self.turn;
        let due = due.min(self.flows[turn].room());
        if due == 0 {
            return 0;
        }
        self.turn = (turn + 1) % self.flows.len();
        let now = self.now();
        let mut prepared: ArrayVec<Pick, BATCH> = ArrayVec::new();
        for pick in picks.by_ref().take(due) {
            let nth = prepared.len();
            let query = Query {
                pick,
                due: pace.time_of(self.sent + nth as u64).unwrap_or(now),
                number: self.rng.next_u64(),
                spelling: self.rng.next_u64(),
            };
            let Plan { questions, template, .. } = self.plan;
            self.flows[turn].prepare(nth, query, questions, template, &mut self.sender);
            prepared.push(pick);
        }
        let launched = self.sender.flush(self.flows[turn].socket()).unwrap_or_else(|_| {
            // The answer to an earlier query: nobody listens. This batch was not sent.
            self.tally.refused += 1;
            0
        });
        if let Some(missing) = &mut self.missing {
            missing.extend(prepared[launched..].iter().filter_map(|pick| pick.name()));
        }
        for query in self.flows[turn].launched(prepared.len(), launched) {
            self.tally.lag.saturating_record(now.saturating_sub(query.due).max(1));
            match query.pick {
                Pick::Name(_) => self.tally.names.sent += 1,
                Pick::Random => self.tally.random.sent += 1,
            }
        }
        self.sent += launched as u64;
        launched
    }

    /// Takes the answers that have arrived, and returns how many.
    fn receive(&mut self) -> usize {
        let Plan { questions, template, udp, .. } = self.plan;
        let mut received = 0;
        for flow in self.flows.iter_mut().filter(|flow| flow.in_flight() > 0) {
            match self.receiver.recv(flow.socket()) {
                Ok(count) => received += count,
                Err(_) => self.tally.refused += 1,
            }
            let now = self.start.elapsed().as_nanos() as u64;
            for (message, _) in self.receiver.messages() {
                match flow.response(message, questions, template, udp.verify_data) {
                    Response::Answer(query, reply) => {
                        self.tally.reply(reply);
                        let nanos = now.saturating_sub(query.due);
                        match query.pick {
                            Pick::Name(_) => self.tally.names.answer(nanos),
                            Pick::Random => self.tally.random.answer(nanos),
                        }
                        if let Some(missing) = self.missing.as_mut().filter(|_| !reply.is_usable()) {
                            missing.extend(query.pick.name());
                        }
                    }
                    Response::Wrong(wrong) => self.tally.wrong(wrong),
                    Response::Unexpected => self.tally.unexpected += 1,
                }
            }
        }
        received
    }

    /// Gives up on queries that were due before `deadline`.
    fn expire(&mut self, deadline: u64) {
        for flow in &mut self.flows {
            while let Some(query) = flow.expire(deadline) {
                if let Some(missing) = &mut self.missing {
                    missing.extend(query.pick.name());
                }
            }
        }
    }

    /// Nothing to do until `next`, if that is known: sleeps until an answer is there, if it is worth it.
    fn idle(&self, next: Option<u64>) {
        const WORTH: u64 = 200_000;
        const LONGEST: u64 = 5_000_000;
        let spare = next.map_or(LONGEST, |next| next.saturating_sub(self.now()).min(LONGEST));
        if spare < WORTH {
            std::hint::spin_loop();
            return;
        }
        let mut sockets: Vec<_> = self.flows.iter().map(|f| PollFd::new(f.socket(), PollFlags::IN)).collect();
        // Wakes early: timers of sleeping threads are late by up to 50 µs.
        let spare = Timespec { tv_sec: 0, tv_nsec: (spare - WORTH / 2) as i64 };
        // Whatever ended the sleep, the loop looks at everything again.
        let _ = poll(&mut sockets, Some(&spare));
    }

    fn in_flight(&self) -> usize {
        self.flows.iter().map(Flow::in_flight).sum()
    }

    /// Nanoseconds of the run.
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

impl Pace {
    /// How many queries are to be sent now, when `sent` have been and `in_flight` wait for their answer.
    fn due(self, now: u64, sent: u64, in_flight: usize) -> usize {
        match self {
            Pace::Open { first, every } if now as f64 >= first => {
                let scheduled = ((now as f64 - first) / every) as u64 + 1;
                scheduled.saturating_sub(sent) as usize
            }
            Pace::Open { .. } => 0,
            Pace::Closed(window) => window.saturating_sub(in_flight),
        }
    }

    /// When the query after `sent` others should be sent, if that does not depend on answers.
    fn time_of(self, sent: u64) -> Option<u64> {
        match self {
            Pace::Open { first, every } => Some((first + every * sent as f64) as u64),
            Pace::Closed(_) => None,
        }
    }
}

/// Pins the calling thread, the nth one, to its turn of `cores`, if there are any.
pub fn pin(cores: &[usize], nth: usize) -> Result<()> {
    let Some(core) = cores.get(nth % cores.len().max(1)) else { return Ok(()) };
    let mut set = CpuSet::new();
    ensure!(*core < CpuSet::MAX_CPU, "core {core} is beyond the {} that Linux knows", CpuSet::MAX_CPU);
    set.set(*core);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot pin to core {core}: has this machine so many?"))
}
