//! Filter of the query log: samples one query in so many, and excludes clients and names.

use crate::{access::AccessList, prefix::Prefix, trie::TooMany};
use std::{cmp::Ordering, net::Ipv6Addr};

/// Filter of the queries to record. Read only, and shared by all recorders.
#[derive(Clone, Debug)]
pub struct Sieve {
    /// One query in this many is considered.
    sample: u32,
    /// Clients that are recorded; `None`: all.
    clients: Option<AccessList>,
    /// Excluded names, with all names below them: in wire format, lowercased, sorted.
    names: Box<[Box<[u8]>]>,
    /// A bit for each length of these names, so that a name of many labels is searched for few of its ends.
    lengths: [u64; 4],
}

impl Sieve {
    /// Creates a filter that passes one query in `sample`, except for these clients and for names
    /// at or below these, which are in wire format and lowercased.
    pub fn new(sample: u32, clients: &[Prefix], names: &[Vec<u8>]) -> Result<Self, TooMany> {
        let everybody = ["0.0.0.0/0", "::/0"].map(|all| all.parse().ok());
        let everybody: Vec<Prefix> = everybody.into_iter().flatten().collect();
        let mut names: Vec<Box<[u8]>> = names.iter().map(|name| name.as_slice().into()).collect();
        names.sort_by(|a, b| order(a, b));
        names.dedup();
        let mut lengths = [0; 4];
        names.iter().for_each(|name| lengths[name.len() / 64 % 4] |= 1 << (name.len() % 64));
        Ok(Sieve {
            lengths,
            sample: sample.max(1),
            clients: if clients.is_empty() { None } else { Some(AccessList::new(&everybody, clients)?) },
            names: names.into(),
        })
    }

    /// Creates a filter that passes everything.
    pub fn open() -> Self {
        Sieve { sample: 1, clients: None, names: Box::new([]), lengths: [0; 4] }
    }

    /// Returns the sampling of a stream of queries; `seed` makes one stream differ from another.
    pub fn picks(&self, seed: u64) -> Picks {
        let mut picks = Picks { sample: self.sample, left: 0, state: seed | 1 };
        picks.left = picks.draw() - 1;
        picks
    }

    /// Whether anything is excluded.
    #[inline(always)]
    fn excludes_any(&self) -> bool {
        self.clients.is_some() || !self.names.is_empty()
    }

    /// Whether this client's question is not to be recorded. The question may be empty.
    #[inline(always)]
    pub fn excludes(&self, client: &[u8; 16], question: &[u8]) -> bool {
        self.excludes_any() && self.looks_up(client, question)
    }

    #[inline(never)]
    fn looks_up(&self, client: &[u8; 16], question: &[u8]) -> bool {
        let name = question.split_last_chunk::<4>().map_or(&[][..], |(name, _)| name);
        self.clients.as_ref().is_some_and(|clients| !clients.allows(Ipv6Addr::from(*client).to_canonical()))
            || !self.names.is_empty() && self.is_below(name)
    }

    fn is_below(&self, mut name: &[u8]) -> bool {
        while let Some(len) = name.first() {
            let is_possible = self.lengths[name.len() / 64 % 4] >> (name.len() % 64) & 1 != 0;
            if is_possible && self.names.binary_search_by(|excluded| order(excluded, name)).is_ok() {
                return true;
            }
            name = name.get(1 + usize::from(*len)..).unwrap_or_default();
        }
        false
    }
}

/// Compares by length first, which usually decides.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Sampling of a stream of queries. The distance from one to the next is random, so that each is
/// equally likely, whatever rhythm they arrive in.
#[derive(Clone, Copy, Debug)]
pub struct Picks {
    sample: u32,
    /// Number of queries to skip before the next one.
    left: u32,
    state: u64,
}

impl Picks {
    /// Returns the position of the next sampled query among queries `from..len`. Returns `None` if
    /// it is not among them, and continues with those that follow.
    #[inline(always)]
    pub fn next_in(&mut self, from: usize, len: usize) -> Option<usize> {
        let at = from + self.left as usize;
        if at >= len {
            self.left = (at - len) as u32;
            return None;
        }
        self.left = if self.sample == 1 { 0 } else { self.draw() - 1 };
        Some(at)
    }

    /// Whether the next query is sampled.
    #[inline(always)]
    pub fn take(&mut self) -> bool {
        self.next_in(0, 1).is_some()
    }

    /// Returns a random distance from 1 to twice the mean less one, each equally likely.
    fn draw(&mut self) -> u32 {
        // xorshift64 (Marsaglia 2003): the sequence need not be secret, only without rhythm.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let range = u64::from(self.sample) * 2 - 1;
        1 + (((self.state >> 32) * range) >> 32) as u32
    }
}
