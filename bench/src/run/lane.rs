//! Sending threads: send queries that are due, check answers against their queries, give up queries
//! that are too late.

use super::{
    Plan,
    flight::Flight,
    replay::LONGEST,
    source::{Kind, Source},
    udp::{UdpArgs, pin},
    wire::{Route, Transport, Wire},
};
use crate::report::series::{Interval, Series};
use crate::{
    check::{self, Wrong},
    mmsg::BATCH,
    question::QUESTION_MAX,
    tally::Tally,
    verify::Verifier,
};
use anyhow::{Result, anyhow, bail};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Schedule of a sending thread.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Open loop: this thread's first query at `first`, its others every `every`, in nanoseconds of
    /// the run, whatever becomes of those before.
    Open {
        /// Due time of the first query.
        first: f64,
        /// Time between two queries.
        every: f64,
    },
    /// Due times come from the source.
    Recorded,
    /// Closed loop: a query leaves as soon as fewer than this many are in flight.
    Closed(u64),
}

/// Time from the senders' readiness to the first query, so that they start together.
const HEAD_START: Duration = Duration::from_millis(5);

/// Runs the plan over a transport, and returns the counts. Intervals go into `series` as they end.
pub fn run<T: Transport>(plan: &Plan, transport: &T, series: &Series) -> Result<Tally> {
    let threads = usize::from(plan.udp.threads);
    let flights: Vec<Flight> = (0..threads).map(|_| Flight::new(transport.flows())).collect();
    let (flights, source) = (flights.as_slice(), plan.source());
    thread::scope(|scope| {
        let (ready, all_ready) = mpsc::channel();
        let mut starts = Vec::new();
        let mut lanes = Vec::new();
        for number in 0..threads {
            let (start, started) = mpsc::channel();
            starts.push(start);
            let ready = ready.clone();
            lanes.push(scope.spawn(move || -> Option<Tally> {
                let opened = pin(&plan.udp.cores, number)
                    .and_then(|()| Ok((transport.open(number)?, Tally::new()?, Interval::new(0)?)));
                let (wire, tally, interval) = match opened {
                    Ok(opened) => {
                        ready.send(Ok(())).ok()?;
                        opened
                    }
                    Err(error) => {
                        ready.send(Err(error)).ok()?;
                        return None;
                    }
                };
                // The channel is closed if another sender failed to open.
                let start = started.recv().ok()?;
                let pace = plan.pace(number);
                let mut lane = Lane {
                    wire,
                    flights,
                    number,
                    source,
                    pace,
                    options: &plan.udp,
                    verifier: plan.verifier.as_ref(),
                    stop: &plan.stop,
                    start,
                    oldest: 0,
                    tally,
                    interval,
                    series,
                    missing: None,
                };
                lane.go(plan.duration);
                Some(lane.finish())
            }));
        }
        for opened in all_ready.iter().take(threads) {
            opened?;
        }
        let start = Instant::now() + HEAD_START;
        series.start(start);
        for sender in starts {
            // A receiver that is gone has panicked, which is reported below.
            let _ = sender.send(start);
        }
        let mut sum = Tally::new()?;
        for lane in lanes {
            match lane.join() {
                Ok(Some(tally)) => sum.merge(&tally)?,
                _ => bail!("a sending thread panicked: see above"),
            }
        }
        Ok(sum)
    })
}

/// Asks every query of `source` once, from this thread; returns the names that got no usable
/// answer.
pub fn ask_all<T: Transport>(
    plan: &Plan,
    source: Source<'_>,
    transport: &T,
    limit: Duration,
) -> Result<Vec<u32>> {
    let flights = [Flight::new(transport.flows())];
    let series = Series::new(Duration::from_secs(3600));
    let mut lane = Lane {
        wire: transport.open(0)?,
        flights: &flights,
        number: 0,
        source,
        pace: Pace::Closed(u64::from(plan.udp.window)),
        options: &plan.udp,
        verifier: plan.verifier.as_ref(),
        stop: &plan.stop,
        start: Instant::now(),
        oldest: 0,
        tally: Tally::new()?,
        interval: Interval::new(0)?,
        series: &series,
        missing: Some(Vec::new()),
    };
    lane.go(limit);
    let asked = lane.flight().next();
    let mut missing = lane.missing.take().ok_or_else(|| anyhow!("missing names were not recorded"))?;
    // Names for which there was no time.
    missing.extend((asked..source.total().unwrap_or(asked)).filter_map(|position| source.name(position)));
    Ok(missing)
}

/// Sending thread.
struct Lane<'p, W> {
    wire: W,
    /// Queries in flight of all senders.
    flights: &'p [Flight],
    number: usize,
    source: Source<'p>,
    pace: Pace,
    options: &'p UdpArgs,
    verifier: Option<&'p Verifier>,
    stop: &'p AtomicBool,
    start: Instant,
    /// Lower bound of the sequence numbers in flight.
    oldest: u64,
    tally: Tally,
    /// Counts since the end of the last interval.
    interval: Interval,
    series: &'p Series,
    /// Names without a usable answer, if they are recorded.
    missing: Option<Vec<u32>>,
}

impl<'p, W: Wire> Lane<'p, W> {
    /// Sends until the source ends or `duration` is over, then waits for the last answers.
    fn go(&mut self, duration: Duration) {
        thread::sleep(self.start.saturating_duration_since(Instant::now()));
        let timeout = self.options.timeout_ms * 1_000_000;
        let end = duration.as_nanos() as u64;
        loop {
            let now = self.now();
            self.roll(now);
            let stopped = self.stop.load(Relaxed);
            let left = self.left();
            let sending = now < end && left > 0 && !stopped;
            if !sending && (stopped || self.flight().in_flight() == 0) {
                break;
            }
            let due = if sending { self.due(now).min(left) } else { 0 };
            let moved = self.send(due.min(BATCH as u64) as usize, now) + self.receive();
            self.expire(now.saturating_sub(timeout));
            if moved == 0 {
                let next = if sending { self.time_of(self.flight().next()) } else { None };
                self.idle(next);
            }
        }
    }

    fn finish(mut self) -> Tally {
        self.series.add(&self.interval);
        self.wire.count(&mut self.tally);
        self.tally
    }

    fn flight(&self) -> &'p Flight {
        &self.flights[self.number]
    }

    /// Returns the position of a query. Threads take turns in one common order, so that the mix
    /// does not depend on their number.
    #[inline]
    fn position(&self, sequence: u64) -> u64 {
        position(self.flights.len(), self.number, sequence)
    }

    /// Returns the number of queries that the source still has for this thread.
    fn left(&self) -> u64 {
        let Some(len) = self.source.total() else { return u64::MAX };
        let next = self.position(self.flight().next());
        len.saturating_sub(next).div_ceil(self.flights.len() as u64)
    }

    /// Returns the number of queries that are due now.
    #[inline]
    fn due(&self, now: u64) -> u64 {
        let sent = self.flight().next();
        match self.pace {
            Pace::Open { first, every } if now as f64 >= first => {
                let scheduled = ((now as f64 - first) / every) as u64 + 1;
                scheduled.saturating_sub(sent)
            }
            Pace::Open { .. } => 0,
            Pace::Recorded => (sent..)
                .take(BATCH)
                .take_while(|nth| self.time_of(*nth).is_some_and(|due| due <= now))
                .count() as u64,
            Pace::Closed(window) => window.saturating_sub(self.flight().in_flight()),
        }
    }

    /// Returns the due time of a query, if that does not depend on answers.
    #[inline]
    fn time_of(&self, sequence: u64) -> Option<u64> {
        match self.pace {
            Pace::Open { first, every } => Some((first + every * sequence as f64) as u64),
            Pace::Recorded => {
                let position = self.position(sequence);
                (position < self.source.total()?).then(|| self.source.due(position))?
            }
            Pace::Closed(_) => None,
        }
    }

    /// Sends up to `count` queries by the next flow, and returns their number.
    #[inline]
    fn send(&mut self, count: usize, now: u64) -> usize {
        let flight = self.flight();
        let count = count.min(flight.left_in_block());
        if count == 0 {
            return 0;
        }
        let first = flight.next();
        // A query still in flight whose ID is needed for a new one is given up: the load does not
        // wait for answers.
        while first + count as u64 > self.oldest + flight.slots() {
            self.give_up(self.oldest);
            self.oldest += 1;
        }
        for nth in 0..count as u64 {
            flight.prepare(nth, self.time_of(first + nth).unwrap_or(now));
        }
        flight.launch(count as u64);
        let (source, lanes, number) = (self.source, self.flights.len(), self.number);
        let sent = self.wire.send(flight.flow(first), count, |nth, message| {
            let sequence = first + nth as u64;
            source.write(position(lanes, number, sequence), flight.id(sequence), message)
        });
        let sent = sent.unwrap_or_else(|_| {
            // The error is the ICMP reply to an earlier query: the port is closed. This batch was
            // not sent.
            self.tally.refused += 1;
            0
        });
        for sequence in first..first + sent as u64 {
            // Another sender may already have taken the answer.
            let due = self.time_of(sequence).unwrap_or(now);
            self.tally.lag.saturating_record(now.saturating_sub(due).max(1));
            match source.kind(self.position(sequence)) {
                Kind::Listed => self.tally.names.sent += 1,
                Kind::Random => self.tally.random.sent += 1,
            }
        }
        if let Some(missing) = self.missing.as_mut().filter(|_| sent < count) {
            // Warming asks these names in another pass.
            let unsent = first + sent as u64..first + count as u64;
            missing.extend(unsent.filter_map(|sequence| source.name(position(lanes, number, sequence))));
            for sequence in first + sent as u64..first + count as u64 {
                flight.finish(sequence);
            }
        } else {
            flight.abort((count - sent) as u64);
        }
        self.interval.sent += sent as u64;
        sent
    }

    /// Takes the answers that have arrived, and returns their number.
    #[inline]
    fn receive(&mut self) -> usize {
        let Lane { wire, flights, source, options, verifier, tally, interval, missing, start, .. } = self;
        let mut now = 0;
        let received = wire.receive(|Route { lane, flow }, message| {
            // One clock reading for all answers that arrived together.
            if now == 0 {
                now = start.elapsed().as_nanos() as u64;
            }
            let Some(id) = check::response_id(message) else { return tally.wrong(Wrong::Malformed) };
            let flight = &flights[lane];
            let Some((sequence, due)) = flight.find(flow, id) else {
                tally.unexpected += 1;
                return;
            };
            let position = position(flights.len(), lane, sequence);
            let mut buffer = [0; QUESTION_MAX];
            let checked = check::check(message, source.question(position, &mut buffer), options.verify_data);
            let checked = checked.and_then(|reply| {
                let Some(verifier) = verifier else { return Ok(reply) };
                let mut query = [0; LONGEST];
                let len = source.write(position, id, &mut query);
                verifier.verify(message, &query[..len]).map(|()| reply)
            });
            match checked {
                Ok(reply) => {
                    flight.finish(sequence);
                    let nanos = now.saturating_sub(due);
                    tally.reply(reply);
                    interval.answer(nanos);
                    match source.kind(position) {
                        Kind::Listed => tally.names.answer(reply.rcode, nanos),
                        Kind::Random => tally.random.answer(reply.rcode, nanos),
                    }
                    if let Some(missing) = missing.as_mut().filter(|_| !reply.is_usable()) {
                        missing.extend(source.name(position));
                    }
                }
                Err(wrong) => tally.wrong(wrong),
            }
        });
        received.unwrap_or_else(|_| {
            self.tally.refused += 1;
            0
        })
    }

    /// Gives up queries that were due before `deadline`.
    #[inline]
    fn expire(&mut self, deadline: u64) {
        let flight = self.flight();
        while self.oldest < flight.next() {
            match flight.due(self.oldest) {
                Some(due) if due >= deadline => return,
                Some(_) => self.give_up(self.oldest),
                None => {}
            }
            self.oldest += 1;
        }
    }

    #[inline]
    fn give_up(&mut self, sequence: u64) {
        let flight = self.flight();
        if let Some(due) = flight.due(sequence) {
            flight.finish(sequence);
            self.series.time_out(due, &mut self.interval);
            let position = self.position(sequence);
            if let Some(missing) = &mut self.missing {
                missing.extend(self.source.name(position));
            }
        }
    }

    /// Adds the current interval to the series if it has ended.
    #[inline]
    fn roll(&mut self, now: u64) {
        let index = self.series.index(now);
        if index != self.interval.index {
            self.series.add(&self.interval);
            self.interval.begin(index);
        }
    }

    /// Sleeps until an answer arrives or until `next`, if the time is long enough to be worth it.
    fn idle(&mut self, next: Option<u64>) {
        const WORTH: u64 = 200_000;
        const LONGEST: u64 = 5_000_000;
        let spare = next.map_or(LONGEST, |next| next.saturating_sub(self.now()).min(LONGEST));
        if spare < WORTH {
            std::hint::spin_loop();
            return;
        }
        // Wakes early: timers of sleeping threads are late by up to 50 µs.
        self.wire.wait(Duration::from_nanos(spare - WORTH / 2));
    }

    /// Returns the time in nanoseconds of the run.
    #[inline]
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

#[inline]
fn position(lanes: usize, number: usize, sequence: u64) -> u64 {
    sequence * lanes as u64 + number as u64
}
