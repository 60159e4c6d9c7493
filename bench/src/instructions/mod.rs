//! Pieces of data plane work whose instructions are counted under valgrind. Counts are repeatable
//! where times are not, so that a machine with noisy neighbours can still tell whether a change
//! made the data plane slower.
//!
//! `cargo bench` times the same pieces, and `gate` counts their allocations: each takes a
//! [`Meter`], which decides what is measured.

pub(crate) mod answer;
mod cache;
pub(crate) mod form;
mod limits;
mod packet;
pub(crate) mod parts;
pub(crate) mod shapes;
mod sockets;
mod streams;
pub(crate) mod template;
mod turns;

use crate::{
    mix::Order,
    names::{Questions, SUFFIX},
    query::Template,
    stage::{self, Filed, Ip},
    upstream::Answerer,
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use ringdns_dataplane::{
    cache::Cache,
    clock::{Nanos, Secs},
};
use shapes::{SHAPES, Shape};
use std::{
    str::FromStr,
    time::{Duration, Instant},
};

/// Names in the cache: few, so that valgrind finishes soon. The place of entries in memory makes no
/// difference to a count.
const NAMES: usize = 1024;
/// Suffix of long names.
const LONG_SUFFIX: &str = "images.of-some-content.delivery.example";
/// Size of the cache, in bytes.
const CACHE: usize = 4 << 20;
/// Time of all lookups, in seconds: shortly after the answers were received.
const NOW: Secs = 5;
/// Time of all lookups, in nanoseconds, for a worker.
const NOW_NANOS: Nanos = NOW as Nanos * 1_000_000_000;

/// Piece of work whose count is divided by its number of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// The closer look at a frame, as a miss needs it: Ethernet, IPv4 and UDP headers and their
    /// checksums.
    Open,
    /// Parse of the query: header, question and EDNS, and the name lowercased into a key.
    Parse,
    /// Hash of the key.
    Key,
    /// Lookup of the entry in the cache, in the three steps of a burst.
    Probe,
    /// Reply written over the query: records, TTLs, header, checksum.
    Reply,
    /// Headers of the reply: source and destination swapped.
    Seal,
    /// A burst of hits through the processor, frame in to frame out, by glances.
    Hit,
    /// A burst of hits with EDNS in the queries.
    HitEdns,
    /// A burst of hits from clients whose access list entry has 22 bits, not eight.
    HitNarrow,
    /// A burst of hits from clients that have a limit, which they are below.
    HitLimited,
    /// A burst of hits with everything on: an access list of 1,000 prefixes, 20 groups of clients, and a
    /// limit.
    HitPoliced,
    /// A burst of hits that a list has answered, for the clients of some groups.
    HitBlocked,
    /// A burst of hits with EDNS that a list has answered, which get an extended error.
    HitBlockedEdns,
    /// A burst of hits with everything on, where a group of other clients has upstreams of its own.
    HitUpstreams,
    /// A burst of hits with everything on, from clients of a group with upstreams of its own.
    HitOwnUpstreams,
    /// A burst of hits with cookies, which need a keyed hash.
    HitCookie,
    /// A burst of hits over IPv6.
    HitV6,
    /// A burst of hits for names that do not exist.
    HitNxdomain,
    /// A burst of hits for names of 49 bytes, whose question is longer than one vector step.
    HitLong,
    /// A burst of hits with each answer logged.
    HitLogged,
    /// A burst of hits with one answer in a hundred logged.
    HitSampled,
    /// A burst of misses through the processor.
    Miss,
    /// A whole turn of a worker with a burst of hits, including the simulated port.
    TurnHit,
    /// A whole turn with a burst of misses, up to the punt queue.
    TurnMiss,
    /// A whole turn with answers of the control plane, which are inserted and sent.
    TurnReturned,
    /// Whole turns with hits of one client over kernel sockets.
    SocketHit,
    /// Whole turns with hits of 64 clients over kernel sockets, asked in turn.
    SocketHitMixed,
    /// Whole turns with hits of one client over kernel sockets that listen on all addresses.
    SocketHitAny,
    /// A hit over TCP, alone on its connection.
    StreamHit,
    /// Hits over TCP of which 32 arrive together.
    StreamHitPipelined,
    /// Question to the limiter about the client of a miss, and its charge, to four prefixes.
    Charge,
    /// Insert of a new answer into the cache.
    Insert,
    /// Replacement of an answer in the cache.
    Renew,
    /// Insert of a new answer into a full cache, which evicts one that was not asked for again.
    Evict,
    /// Insert of a new answer into a full cache, where the entries next to be evicted were asked
    /// for and are promoted.
    Promote,
    /// Sweep of an expired entry.
    Expire,
    /// Sweep of an entry that stays.
    Sweep,
}

impl Case {
    /// Returns the goal of the design, in instructions an operation.
    pub fn goal(self) -> Option<f64> {
        (self == Case::Hit).then_some(300.0)
    }

    /// Returns the most allocations of an operation. The host tier, which keeps bytes, builds an answer for each
    /// look at it: its records, its TTLs, and what they are made from.
    pub fn allocations(self) -> f64 {
        if matches!(self, Case::StreamHit | Case::StreamHitPipelined) { 6.0 } else { 0.0 }
    }

    /// Returns the name of the case on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().into())
    }
}

/// Work whose instructions are counted: a case, or a burst of packets of one shape.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// A case.
    Case(Case),
    /// A shape of packets.
    Shape(&'static Shape),
}

impl Piece {
    /// Returns all pieces.
    pub fn all() -> impl Iterator<Item = Piece> {
        let cases = Case::value_variants().iter().map(|case| Piece::Case(*case));
        cases.chain(SHAPES.iter().map(Piece::Shape))
    }

    /// Returns the name on the command line.
    pub fn name(self) -> String {
        match self {
            Piece::Case(case) => case.name(),
            Piece::Shape(shape) => format!("shape-{}", shape.name),
        }
    }

    /// Returns the goal of the design, in instructions an operation.
    pub fn goal(self) -> Option<f64> {
        match self {
            Piece::Case(case) => case.goal(),
            Piece::Shape(shape) => Some(shape.goal),
        }
    }

    /// Returns the most allocations of an operation.
    pub fn allocations(self) -> f64 {
        match self {
            Piece::Case(case) => case.allocations(),
            Piece::Shape(_) => 0.0,
        }
    }

    /// Does the work, and returns the number of operations that the meter measured.
    pub fn run(self, meter: &mut dyn Meter) -> Result<u64> {
        match self {
            Piece::Case(case) => run(case, meter),
            Piece::Shape(shape) => shapes::run(shape, meter),
        }
    }
}

impl FromStr for Piece {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Piece::all().find(|piece| piece.name() == name);
        found.with_context(|| {
            let names: Vec<_> = Piece::all().map(Piece::name).collect();
            format!("there is no {name}; there are {}", names.join(", "))
        })
    }
}

/// Measures the work that a case passes to it, and nothing else of the case.
pub trait Meter {
    /// Runs the work and measures it.
    fn measure(&mut self, work: &mut dyn FnMut());
}

/// Meter for valgrind, which counts the work's instructions; counts allocations itself.
#[derive(Debug, Default)]
pub struct Counting {
    /// Number of allocated blocks of memory.
    pub allocations: u64,
}

impl Meter for Counting {
    fn measure(&mut self, work: &mut dyn FnMut()) {
        self.allocations += allocation_counter::measure(|| counted(work)).count_total;
    }
}

/// Meter that adds up the time of the work.
#[derive(Debug, Default)]
pub struct Timing {
    /// Time so far.
    pub spent: Duration,
}

impl Meter for Timing {
    fn measure(&mut self, work: &mut dyn FnMut()) {
        let began = Instant::now();
        work();
        self.spent += began.elapsed();
    }
}

/// Runs the work. Valgrind counts only this function's instructions, and finds it by name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// Pattern by which valgrind finds `counted`.
pub const COUNTED: &str = "*instructions::counted*";

/// Does the work of a case. Returns the number of operations that the meter measured.
fn run(case: Case, meter: &mut dyn Meter) -> Result<u64> {
    match case {
        Case::Open => packet::open(meter),
        Case::Parse => packet::parse(meter),
        Case::Key => packet::key(meter),
        Case::Reply => packet::reply(meter),
        Case::Seal => packet::seal(meter),
        Case::Hit => turns::hits(meter, Material::new(&[], Ip::V4, &[])?),
        Case::HitEdns => turns::hits(meter, Material::new(&["--edns"], Ip::V4, &[])?),
        Case::HitNarrow => turns::hits_of(&["10.53.0.0/22"], meter, Material::new(&[], Ip::V4, &[])?),
        Case::HitLimited => turns::hits_limited(meter),
        Case::HitPoliced => turns::hits_policed(meter),
        Case::HitUpstreams => turns::hits_of_upstreams(meter, false),
        Case::HitOwnUpstreams => turns::hits_of_upstreams(meter, true),
        Case::HitBlocked => turns::hits_blocked(meter, &[]),
        Case::HitBlockedEdns => turns::hits_blocked(meter, &["--edns"]),
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
        Case::SocketHit => sockets::hits(meter, "127.0.0.1:0", 1),
        Case::SocketHitMixed => sockets::hits(meter, "127.0.0.1:0", 64),
        Case::SocketHitAny => sockets::hits(meter, "0.0.0.0:0", 1),
        Case::StreamHit => streams::hits(meter, 1),
        Case::StreamHitPipelined => streams::hits(meter, 32),
        Case::Charge => limits::charge(meter),
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

    /// Returns material with names below `suffix`.
    fn below(suffix: &str, query: &[&str], ip: Ip, upstream: &[&str]) -> Result<Self> {
        let questions = Questions::made_up(NAMES, suffix, 1)?;
        let template = stage::template(query)?;
        let order = Order::draw(0.0, NAMES, 0.0, 1)?;
        let picks = (0..NAMES as u64).filter_map(|position| order.at(position).name());
        let packets =
            picks.map(|name| stage::packet(&template, questions.get(name), ip)).collect::<Result<_>>()?;
        Ok(Material { questions, template, answerer: stage::answerer(upstream)?, packets })
    }

    fn fill(&self, cache: &mut Cache) -> Result<()> {
        stage::fill(cache, &self.questions, &self.template, &self.answerer)
    }

    fn filed(&self, index: usize) -> Result<Filed> {
        stage::answer(&self.template, &self.answerer, self.questions.get(index as u32), 0)
    }

    fn all_filed(&self) -> Result<Vec<Filed>> {
        (0..self.questions.len()).map(|index| self.filed(index)).collect()
    }
}

/// Arguments of `ringbench instructions`, which runs the work of one case under valgrind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Piece of work: a case, or a shape of packets.
    pub piece: Piece,
}

/// `ringbench instructions`.
pub fn main(args: &Args) -> Result<()> {
    let mut meter = Counting::default();
    let operations = args.piece.run(&mut meter).with_context(|| args.piece.name())?;
    println!("operations {operations} allocations {}", meter.allocations);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_does_its_work_and_allocates_no_more_than_it_may() {
        for piece in Piece::all() {
            let mut meter = Counting::default();
            let operations = piece.run(&mut meter).unwrap();
            assert!(operations > 0, "{piece:?}");
            let allocations = meter.allocations as f64 / operations as f64;
            assert!(allocations <= piece.allocations(), "{piece:?} {allocations}");
        }
    }

    #[test]
    fn an_allocation_is_seen() {
        let mut meter = Counting::default();
        meter.measure(&mut || drop(std::hint::black_box(Box::new(1))));
        assert_eq!(meter.allocations, 1);
    }
}
