//! Work on the data plane in pieces whose instructions are counted under valgrind. Counts repeat where times do
//! not, so that a machine with noisy neighbours can still tell whether a change made the data plane slower.
//!
//! The same pieces are timed by `cargo bench`, and their allocations counted: each takes a [`Meter`], which decides what
//! is measured of it.

mod cache;
mod packet;
mod turns;

use crate::{
    mix::{Order, Pick, Popularity},
    names::{Questions, SUFFIX},
    query::Template,
    stage::{self, Filed, Ip},
    upstream::Answerer,
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use ringdns_dataplane::{
    cache::{Cache, KeyedHash},
    clock::{Nanos, Secs},
};
use std::time::{Duration, Instant};

/// Names in the cache: few enough that valgrind is done soon. Where entries lie makes no difference to a count.
const NAMES: usize = 1024;
/// What makes names long.
const LONG_SUFFIX: &str = "images.of-some-content.delivery.example";
/// Bytes of the cache.
const CACHE: usize = 4 << 20;
/// The time of everything: some seconds after the answers were received.
const NOW: Secs = 5;
/// The same for a worker.
const NOW_NANOS: Nanos = NOW as Nanos * 1_000_000_000;

/// A piece of work, and how many operations a count of it is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// The closer look, as a miss needs it. Opening a frame: Ethernet, IPv4 and UDP headers and their checksums.
    Open,
    /// Taking the query apart: header, question and EDNS, and the name lowercased into a key.
    Parse,
    /// Hashing the key.
    Key,
    /// Finding the entry in the cache, in the three steps of a burst.
    Probe,
    /// Writing the reply over the query: records, TTLs, header, checksum.
    Reply,
    /// Turning the headers round.
    Seal,
    /// A burst of hits through the processor, frame in to frame out, by glances.
    Hit,
    /// The same with EDNS in the queries.
    HitEdns,
    /// The same from clients that an access list knows by 22 bits, not by eight.
    HitNarrow,
    /// The same with cookies, which take a closer look and a keyed hash.
    HitCookie,
    /// The same over IPv6.
    HitV6,
    /// The same for names that do not exist.
    HitNxdomain,
    /// The same for names of 49 bytes, whose question takes more than the processor does at once.
    HitLong,
    /// The same with each answer noted in the query log.
    HitLogged,
    /// The same with one answer in a hundred noted.
    HitSampled,
    /// A burst of queries that the cache has no answer to, through the processor.
    Miss,
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
    /// Filing a new answer in a full cache, where one that nobody asked for again has to leave.
    Evict,
    /// The same where those in its way were asked for, and move on.
    Promote,
    /// The sweep, an entry that is of no more use.
    Expire,
    /// The sweep, an entry that stays.
    Sweep,
}

impl Case {
    /// What the design aims for, in instructions an operation.
    pub fn goal(self) -> Option<f64> {
        (self == Case::Hit).then_some(300.0)
    }

    /// As the command line has it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
    }
}

/// Takes the measure of the work that it is handed, and of nothing else of a case.
pub trait Meter {
    /// Does the work.
    fn measure(&mut self, work: &mut dyn FnMut());
}

/// Has the work's instructions counted by valgrind, and counts its allocations.
#[derive(Debug, Default)]
pub struct Counting {
    /// Blocks of memory that were allocated.
    pub allocations: u64,
}

impl Meter for Counting {
    fn measure(&mut self, work: &mut dyn FnMut()) {
        self.allocations += allocation_counter::measure(|| counted(work)).count_total;
    }
}

/// Adds up the time of the work.
#[derive(Debug, Default)]
pub struct Timing {
    /// So far.
    pub spent: Duration,
}

impl Meter for Timing {
    fn measure(&mut self, work: &mut dyn FnMut()) {
        let began = Instant::now();
        work();
        self.spent += began.elapsed();
    }
}

/// The only place whose instructions valgrind counts: it looks for this name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// What `counted` is found by.
pub const COUNTED: &str = "*instructions::counted*";

/// Does the work of a case, and returns how many operations the meter saw.
pub fn run(case: Case, meter: &mut dyn Meter) -> Result<u64> {
    match case {
        Case::Open => packet::open(meter),
        Case::Parse => packet::parse(meter),
        Case::Key => packet::key(meter),
        Case::Reply => packet::reply(meter),
        Case::Seal => packet::seal(meter),
        Case::Hit => turns::hits(meter, Material::new(&[], Ip::V4, &[])?),
        Case::HitEdns => turns::hits(meter, Material::new(&["--edns"], Ip::V4, &[])?),
        Case::HitNarrow => turns::hits_of(&["10.53.0.0/22"], meter, Material::new(&[], Ip::V4, &[])?),
        Case::HitCookie => turns::hits(meter, Material::new(&["--cookie"], Ip::V4, &[])?),
        Case::HitV6 => turns::hits(meter, Material::new(&[], Ip::V6, &[])?),
        Case::HitNxdomain => {
            turns::hits(meter, Material::new(&[], Ip::V4, &["--nxdomain-suffix=rb.example"])?)
        }
        Case::HitLong => turns::hits(meter, Material::below(LONG_SUFFIX, &[], Ip::V4, &[])?),
        Case::HitLogged => turns::hits_logged(meter, 1),
        Case::HitSampled => turns::hits_logged(meter, 100),
        Case::Miss => turns::misses(meter),
        Case::TurnHit => turns::turn_hit(meter),
        Case::TurnMiss => turns::turn_miss(meter),
        Case::TurnReturned => turns::turn_returned(meter),
        Case::Probe => cache::probe(meter),
        Case::Insert => cache::insert(meter, 0),
        Case::Renew => cache::insert(meter, NAMES),
        Case::Evict => cache::evict(meter),
        Case::Promote => cache::promote(meter),
        Case::Expire => cache::sweep(meter, true),
        Case::Sweep => cache::sweep(meter, false),
    }
}

struct Material {
    questions: Questions,
    template: Template,
    answerer: Answerer,
    packets: Vec<Vec<u8>>,
}

impl Material {
    fn new(query: &[&str], ip: Ip, upstream: &[&str]) -> Result<Self> {
        Self::below(SUFFIX, query, ip, upstream)
    }

    /// The same, of names below `suffix`.
    fn below(suffix: &str, query: &[&str], ip: Ip, upstream: &[&str]) -> Result<Self> {
        let questions = Questions::made_up(NAMES, suffix, 1)?;
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

    fn fill(&self, cache: &mut Cache, hash: KeyedHash) -> Result<()> {
        stage::fill(cache, hash, &self.questions, &self.template, &self.answerer)
    }

    fn filed(&self, index: usize) -> Result<Filed> {
        stage::answer(&self.template, &self.answerer, self.questions.get(index as u32), 0)
    }

    fn all_filed(&self) -> Result<Vec<Filed>> {
        (0..self.questions.len()).map(|index| self.filed(index)).collect()
    }
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
    let mut meter = Counting::default();
    let operations = run(args.case, &mut meter).with_context(|| format!("{:?}", args.case))?;
    println!("operations {operations} allocations {}", meter.allocations);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work_and_allocates_nothing() {
        for case in Case::value_variants() {
            let mut meter = Counting::default();
            assert!(run(*case, &mut meter).unwrap() > 0, "{case:?}");
            assert_eq!(meter.allocations, 0, "{case:?}");
        }
    }

    #[test]
    fn an_allocation_is_seen() {
        let mut meter = Counting::default();
        meter.measure(&mut || drop(std::hint::black_box(Box::new(1))));
        assert_eq!(meter.allocations, 1);
    }
}
