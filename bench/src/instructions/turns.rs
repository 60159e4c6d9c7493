//! Bursts through the processor, and whole turns of a worker.

use super::{CACHE, Material, Meter, NAMES, NOW, NOW_NANOS};
use crate::stage::{self, Filed, Ip, RULES, Stage};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    cache::Scope,
    checksum::Checksums,
    clock::Clock,
    doorbell::Doorbell,
    frame::{Frame, Frames},
    group::{Group, GroupSet},
    log::{Line, LogConfig, Protocol, Sieve},
    port::{
        BURST, Burst, Port, PortStats,
        sim::{Replay, SimPort},
    },
    process::Recorder,
    punt::Link,
    stats::{Counter, WorkerStats},
    worker::{LoopTurn, Worker, WorkerConfig},
};
use std::{io, os::fd::BorrowedFd, sync::Arc, time::Duration};

/// Turns before the count, for lazily made memory and first-time branches.
const WARM_TURNS: usize = 2;
/// INFO-CODE of blocked answers (RFC 8914 section 4.16).
const BLOCKED: u16 = 15;
/// Turns that are counted.
const TURNS: usize = 16;

/// Runs bursts of hits.
pub fn hits(meter: &mut dyn Meter, material: Material) -> Result<u64> {
    hits_of(stage::ALLOW, meter, material)
}

/// Runs bursts of hits where only `allow` may ask.
pub fn hits_of(allow: &[&str], meter: &mut dyn Meter, material: Material) -> Result<u64> {
    hits_on(Stage::allowing(allow, CACHE)?, meter, material)
}

/// Runs bursts of hits from clients that have a limit.
pub fn hits_limited(meter: &mut dyn Meter) -> Result<u64> {
    hits_on(Stage::limiting(CACHE)?, meter, Material::new(&[], Ip::V4, &[])?)
}

/// Runs bursts of hits from clients that have a limit and are in groups, and whom a long access list
/// allows.
pub fn hits_policed(meter: &mut dyn Meter) -> Result<u64> {
    hits_on(Stage::policed(CACHE)?, meter, Material::new(&[], Ip::V4, &[])?)
}

/// Runs bursts of hits with everything on, where a list has given all answers.
pub fn hits_blocked(meter: &mut dyn Meter, query: &[&str]) -> Result<u64> {
    let mut stage = Stage::policed(CACHE)?;
    let material = Material::new(query, Ip::V4, &[])?;
    let groups = GroupSet::ALL.without(Group::new(1).context("a group has no number")?);
    let scope = Scope { group: Group::DEFAULT, groups, list: Some(0) };
    for Filed { query, mut answer } in material.all_filed()? {
        answer.ede = Some(BLOCKED);
        stage.processor.cache().insert_for(&scope, &query.key, &answer, 0);
    }
    hits_over(stage, meter, &material)
}

/// Runs bursts of hits with everything on, where a group has upstreams of its own, so that answers are for
/// some groups only: for the group of the clients here if `is_own`, else for all others.
pub fn hits_of_upstreams(meter: &mut dyn Meter, is_own: bool) -> Result<u64> {
    let own = Group::new(stage::OWN_UPSTREAMS).context("a group has no number")?;
    let (mut stage, scope) = match is_own {
        true => (
            Stage::policed_in(CACHE, own)?,
            Scope { group: own, groups: GroupSet::NONE.with(own), list: None },
        ),
        false => {
            let groups = GroupSet::ALL.without(own);
            (Stage::policed(CACHE)?, Scope { group: Group::DEFAULT, groups, list: None })
        }
    };
    let material = Material::new(&[], Ip::V4, &[])?;
    for Filed { query, answer } in material.all_filed()? {
        stage.processor.cache().insert_for(&scope, &query.key, &answer, 0);
    }
    hits_over(stage, meter, &material)
}

fn hits_on(mut stage: Stage, meter: &mut dyn Meter, material: Material) -> Result<u64> {
    material.fill(stage.processor.cache())?;
    hits_over(stage, meter, &material)
}

fn hits_over(mut stage: Stage, meter: &mut dyn Meter, material: &Material) -> Result<u64> {
    for (turn, burst) in material.packets.chunks_exact(BURST).enumerate() {
        for (nth, packet) in burst.iter().enumerate() {
            stage.load(nth, packet);
        }
        if turn < WARM_TURNS {
            stage.run_checked(NOW)?;
        } else {
            let mut hits = 0;
            meter.measure(&mut || hits = stage.run(NOW).hits);
            ensure!(hits == BURST as u64, "{hits} of {BURST} queries were hits");
        }
    }
    Ok((NAMES - WARM_TURNS * BURST) as u64)
}

/// Runs bursts of hits, of which one in `sample` is logged.
pub fn hits_logged(meter: &mut dyn Meter, sample: u32) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let mut stage = Stage::new(CACHE)?;
    material.fill(stage.processor.cache())?;
    let line = Arc::new(Line::new(2));
    let sieve = Arc::new(Sieve::new(sample, &[], &[])?);
    let mut log = Recorder::new(LogConfig { line: line.clone(), sieve, seed: 1 }, Protocol::Udp);
    let (mut hits, mut logged) = (0, 0);
    for burst in material.packets.chunks_exact(BURST) {
        for (nth, packet) in burst.iter().enumerate() {
            stage.load(nth, packet);
        }
        meter.measure(&mut || hits += stage.run_logged(NOW, Checksums::Verify, &mut log).1.hits);
        while let Some(batch) = line.collect() {
            logged += batch.len();
            line.give_back(batch);
        }
    }
    ensure!(hits == NAMES as u64, "{hits} of {NAMES} queries were hits");
    log.hand_on();
    logged += line.collect().map_or(0, |batch| batch.len());
    let expected = NAMES / sample as usize;
    ensure!(logged.abs_diff(expected) <= expected / 2, "{logged} answers were logged, not {expected}");
    ensure!(sample > 1 || logged == NAMES, "{logged} of {NAMES} answers were logged");
    Ok(NAMES as u64)
}

/// Runs bursts of misses.
pub fn misses(meter: &mut dyn Meter) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let mut stage = Stage::new(CACHE)?;
    for burst in material.packets.chunks_exact(BURST) {
        for (nth, packet) in burst.iter().enumerate() {
            stage.load(nth, packet);
        }
        let mut hits = 0;
        meter.measure(&mut || hits = stage.run(NOW).hits);
        ensure!(hits == 0, "{hits} of {BURST} queries were hits");
    }
    Ok(NAMES as u64)
}

/// Returns a worker that receives `packets` again and again, and its link to a control plane that
/// does not run.
fn worker(packets: &[Vec<u8>], records: usize) -> Result<(Worker<Feed>, Arc<Link>)> {
    let control = Arc::new(Doorbell::new()?);
    let link = Arc::new(Link::new(0, records, records, control, Arc::default())?);
    let settings = WorkerConfig {
        cache_bytes: CACHE,
        rules: RULES,
        policy: stage::policy(stage::ALLOW)?,
        // One client sends all, and may hold four fifths of the records.
        records: 2 * records,
        spin: Duration::ZERO,
        log: None,
        demand: None,
        mirror: None,
        populator: None,
    };
    let worker = Worker::new(
        Feed { replay: SimPort::replay(packets)?, quiet: false },
        link.clone(),
        Clock::start(),
        &settings,
    )?;
    Ok((worker, link))
}

/// Replaying port that can be told to receive nothing.
struct Feed {
    replay: Replay,
    quiet: bool,
}

impl Port for Feed {
    #[inline]
    fn frames(&mut self) -> &mut Frames {
        self.replay.frames()
    }

    #[inline]
    fn recv(&mut self, burst: &mut Burst) {
        if !self.quiet {
            self.replay.recv(burst);
        }
    }

    #[inline]
    fn send(&mut self, frame: Frame) {
        self.replay.send(frame);
    }

    #[inline]
    fn flush(&mut self) {
        self.replay.flush();
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        self.replay.wait(bell, timeout)
    }

    fn checksums(&self) -> Checksums {
        self.replay.checksums()
    }

    fn stats(&mut self) -> PortStats {
        self.replay.stats()
    }
}

/// Runs turns with hits.
pub fn turn_hit(meter: &mut dyn Meter) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let (mut worker, link) = worker(&material.packets, BURST)?;
    material.fill(worker.processor().cache())?;
    for _ in 0..WARM_TURNS {
        worker.turn(NOW_NANOS);
    }
    for _ in 0..TURNS {
        meter.measure(&mut || assert_eq!(worker.turn(NOW_NANOS), LoopTurn::Busy));
    }
    expect(&link.stats, Counter::Hit, (WARM_TURNS + TURNS) * BURST)?;
    Ok((TURNS * BURST) as u64)
}

/// Runs turns with misses.
pub fn turn_miss(meter: &mut dyn Meter) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    // One record for every punt, so that none has to come back meanwhile.
    let (mut worker, link) = worker(&material.packets, (WARM_TURNS + TURNS) * BURST)?;
    for _ in 0..WARM_TURNS {
        worker.turn(NOW_NANOS);
    }
    for _ in 0..TURNS {
        meter.measure(&mut || assert_eq!(worker.turn(NOW_NANOS), LoopTurn::Busy));
    }
    expect(&link.stats, Counter::Punted, (WARM_TURNS + TURNS) * BURST)?;
    Ok((TURNS * BURST) as u64)
}

/// Runs turns with returned answers.
pub fn turn_returned(meter: &mut dyn Meter) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let (mut worker, link) = worker(&material.packets, TURNS * BURST)?;
    for _ in 0..TURNS {
        worker.turn(NOW_NANOS);
    }
    expect(&link.stats, Counter::Punted, TURNS * BURST)?;
    while let Some(mut record) = link.take() {
        let filed = stage::answer(&material.template, &material.answerer, record.question(), 0)?;
        record.answer = Some(Arc::new(filed.answer));
        link.give_back(record);
    }
    worker.port().quiet = true;
    while link.has_returned() {
        meter.measure(&mut || assert_eq!(worker.turn(NOW_NANOS), LoopTurn::Busy));
    }
    expect(&link.stats, Counter::PuntAnswered, TURNS * BURST)?;
    Ok((TURNS * BURST) as u64)
}

fn expect(stats: &WorkerStats, counter: Counter, expected: usize) -> Result<()> {
    let counted = stats.snapshot().get(counter);
    ensure!(counted == expected as u64, "the worker counted {counted} {}, not {expected}", counter.label());
    Ok(())
}
