//! Work on the data plane in pieces whose instructions are counted under valgrind. Counts repeat where times do
//! not, so that a machine with noisy neighbours can still tell whether a change made the data plane slower.

use crate::{
    mix::{Order, Pick, Popularity},
    names::{Questions, SUFFIX},
    query::Template,
    stage::{self, Filed, HASH_SEEDS, Ip, RULES, Stage},
    upstream::Answerer,
};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    cache::{Cache, KeyedHash},
    clock::{Clock, Nanos},
    doorbell::Doorbell,
    frame::{Frame, Frames},
    port::{
        BURST, Burst, Checksums, Port, PortStats,
        sim::{Replay, SimPort},
    },
    punt::Link,
    stats::{Counter, WorkerStats},
    worker::{Settings, Turn, Worker},
};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// Names in the cache: few enough that valgrind is done soon. Where entries lie makes no difference to a count.
const NAMES: usize = 1024;
/// Bytes of the cache.
const CACHE: usize = 4 << 20;
/// Turns that are not counted: lazily made memory, first-time branches.
const WARM_TURNS: usize = 2;
/// Turns that are counted.
const TURNS: usize = 16;
/// The time of everything, in nanoseconds: some seconds after the answers were received.
const NOW: Nanos = 5_000_000_000;

/// A piece of work, and how many operations a count of it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// A burst of hits through the processor: frame in, frame out.
    Hit,
    /// The same with EDNS in the queries.
    HitEdns,
    /// The same over IPv6.
    HitV6,
    /// The same for names that do not exist.
    HitNxdomain,
    /// A whole turn of a worker with a burst of hits, the simulated port included.
    TurnHit,
    /// A whole turn with a burst of misses, up to the punt queue.
    TurnMiss,
    /// A whole turn with answers of the control plane, which are filed and sent.
    TurnReturned,
    /// Filing a new answer in the cache.
    Insert,
    /// Replacing an answer in the cache.
    Renew,
}

impl Case {
    /// What the design aims for, in instructions an operation.
    pub fn goal(self) -> Option<f64> {
        (self == Case::Hit).then_some(300.0)
    }
}

/// The only place whose instructions valgrind counts: it looks for this name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// What `counted` is found by.
pub const COUNTED: &str = "*instructions::counted*";

/// Does the work of a case, and returns how many operations were within [`COUNTED`].
pub fn run(case: Case) -> Result<u64> {
    match case {
        Case::Hit => hits(&[], Ip::V4, &[]),
        Case::HitEdns => hits(&["--edns"], Ip::V4, &[]),
        Case::HitV6 => hits(&[], Ip::V6, &[]),
        Case::HitNxdomain => hits(&[], Ip::V4, &["--nxdomain-suffix=rb.example"]),
        Case::TurnHit => turn_hit(),
        Case::TurnMiss => turn_miss(),
        Case::TurnReturned => turn_returned(),
        Case::Insert => inserts(0),
        Case::Renew => inserts(NAMES),
    }
}

struct Material {
    questions: Questions,
    template: Template,
    answerer: Answerer,
    packets: Vec<Vec<u8>>,
}

fn material(query: &[&str], ip: Ip, upstream: &[&str]) -> Result<Material> {
    let questions = Questions::made_up(NAMES, SUFFIX, 1)?;
    let template = stage::template(query)?;
    let order = Order::draw(Popularity::Uniform, NAMES, 0.0, 1);
    let picks = (0..NAMES as u64).filter_map(|position| match order.at(position) {
        Pick::Name(name) => Some(name),
        Pick::Random => None,
    });
    let packets =
        picks.map(|name| stage::packet(&template, questions.get(name), ip)).collect::<Result<_>>()?;
    Ok(Material { questions, template, answerer: stage::answerer(upstream)?, packets })
}

impl Material {
    fn fill(&self, cache: &mut Cache, hash: KeyedHash) -> Result<()> {
        stage::fill(cache, hash, &self.questions, &self.template, &self.answerer)
    }

    fn filed(&self, index: usize) -> Result<Filed> {
        stage::answer(&self.template, &self.answerer, self.questions.get(index as u32), 0)
    }
}

fn hits(query: &[&str], ip: Ip, upstream: &[&str]) -> Result<u64> {
    let material = material(query, ip, upstream)?;
    let mut stage = Stage::new(CACHE)?;
    let hash = stage.processor.hash();
    material.fill(stage.processor.cache(), hash)?;
    let now = (NOW / 1_000_000_000) as u32;
    for (turn, burst) in material.packets.chunks_exact(BURST).enumerate() {
        for (nth, packet) in burst.iter().enumerate() {
            stage.load(nth, packet);
        }
        if turn < WARM_TURNS {
            stage.run_checked(now)?;
        } else {
            let mut hits = 0;
            counted(&mut || hits = stage.run(now).hits);
            ensure!(hits == BURST as u64, "{hits} of {BURST} queries were hits");
        }
    }
    Ok((NAMES - WARM_TURNS * BURST) as u64)
}

/// A worker that receives `packets` again and again, and its link to a control plane that nobody runs.
fn worker(packets: &[Vec<u8>], records: usize) -> Result<(Worker<Feed>, Arc<Link>)> {
    let control = Arc::new(Doorbell::new()?);
    let link = Arc::new(Link::new(0, records, records, control, Arc::new(AtomicU64::new(0)))?);
    let settings = Settings { cache_bytes: CACHE, rules: RULES, records, spin: Duration::ZERO };
    let worker = Worker::new(
        Feed { replay: SimPort::replay(packets)?, quiet: false },
        link.clone(),
        Clock::start(),
        &settings,
    )?;
    Ok((worker, link))
}

/// A replaying port that can be told to receive nothing.
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

fn turn_hit() -> Result<u64> {
    let material = material(&[], Ip::V4, &[])?;
    let (mut worker, link) = worker(&material.packets, BURST)?;
    let hash = worker.processor().hash();
    material.fill(worker.processor().cache(), hash)?;
    for _ in 0..WARM_TURNS {
        worker.turn(NOW);
    }
    for _ in 0..TURNS {
        counted(&mut || assert_eq!(worker.turn(NOW), Turn::Busy));
    }
    expect(&link.stats, Counter::Hit, (WARM_TURNS + TURNS) * BURST)?;
    Ok((TURNS * BURST) as u64)
}

fn turn_miss() -> Result<u64> {
    let material = material(&[], Ip::V4, &[])?;
    // A record for every punt, so that none has to come back meanwhile.
    let (mut worker, link) = worker(&material.packets, (WARM_TURNS + TURNS) * BURST)?;
    for _ in 0..WARM_TURNS {
        worker.turn(NOW);
    }
    for _ in 0..TURNS {
        counted(&mut || assert_eq!(worker.turn(NOW), Turn::Busy));
    }
    expect(&link.stats, Counter::Punted, (WARM_TURNS + TURNS) * BURST)?;
    Ok((TURNS * BURST) as u64)
}

fn turn_returned() -> Result<u64> {
    let material = material(&[], Ip::V4, &[])?;
    let (mut worker, link) = worker(&material.packets, TURNS * BURST)?;
    for _ in 0..TURNS {
        worker.turn(NOW);
    }
    expect(&link.stats, Counter::Punted, TURNS * BURST)?;
    while let Some(mut record) = link.take() {
        let filed = stage::answer(&material.template, &material.answerer, record.question(), 0)?;
        record.answer = Some(Arc::new(filed.answer));
        link.give_back(record);
    }
    worker.port().quiet = true;
    while link.has_returned() {
        counted(&mut || assert_eq!(worker.turn(NOW), Turn::Busy));
    }
    expect(&link.stats, Counter::PuntAnswered, TURNS * BURST)?;
    Ok((TURNS * BURST) as u64)
}

/// Files `NAMES` answers, of which the first `renewed` are there already.
fn inserts(renewed: usize) -> Result<u64> {
    let material = material(&[], Ip::V4, &[])?;
    let mut cache = Cache::new(CACHE, RULES.udp_limit)?;
    let hash = KeyedHash::with_seeds(HASH_SEEDS);
    let mut answers = (0..NAMES).map(|index| material.filed(index)).collect::<Result<Vec<_>>>()?;
    for Filed { query, answer } in &mut answers[..renewed] {
        cache.insert(&query.key, hash.of(&query.key), answer, 0);
        // Newer than what is there, or it would not be written.
        answer.received = 1;
    }
    for Filed { query, answer } in &answers {
        counted(&mut || cache.insert(&query.key, hash.of(&query.key), answer, 1));
    }
    let inserted = cache.churn().inserted;
    ensure!(inserted == (NAMES + renewed) as u64, "{inserted} answers were filed, not {}", NAMES + renewed);
    Ok(NAMES as u64)
}

fn expect(stats: &WorkerStats, counter: Counter, expected: usize) -> Result<()> {
    let counted = stats.snapshot().get(counter);
    ensure!(counted == expected as u64, "the worker counted {counted} {}, not {expected}", counter.label());
    Ok(())
}

/// What `ringbench instructions` does: the work of one case, for valgrind to watch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which piece of work.
    #[arg(value_enum)]
    pub case: Case,
}

/// `ringbench instructions`.
pub fn main(args: &Args) -> Result<()> {
    let operations = run(args.case).with_context(|| format!("{:?}", args.case))?;
    println!("operations {operations}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_case_does_its_work() {
        for case in Case::value_variants() {
            assert!(run(*case).unwrap() > 0, "{case:?}");
        }
    }
}
