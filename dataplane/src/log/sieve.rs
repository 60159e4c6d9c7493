//! What is recorded: one in so many, and nothing of those clients and names that are excluded.

use crate::access::{AccessList, Prefix, TooMany};
use std::{cmp::Ordering, net::Ipv6Addr};

/// What is left out of the log. Read only, and shared by all who record.
#[derive(Clone, Debug)]
pub struct Sieve {
    /// One query in so many is looked at.
    sample: u32,
    /// Clients that are recorded; `None`: all.
    clients: Option<AccessList>,
    /// Names at and below which nothing is: on the wire, lowercased, in order.
    names: Box<[Box<[u8]>]>,
}

impl Sieve {
    /// One that lets one query in `sample` through, but none of these clients, and none at or below these names, which are on the
    /// wire and lowercased.
    pub fn new(sample: u32, clients: &[Prefix], names: &[Vec<u8>]) -> Result<Self, TooMany> {
        let everybody = ["0.0.0.0/0", "::/0"].map(|all| all.parse().ok());
        let everybody: Vec<Prefix> = everybody.into_iter().flatten().collect();
        let mut names: Vec<Box<[u8]>> = names.iter().map(|name| name.as_slice().into()).collect();
        names.sort_by(|a, b| order(a, b));
        names.dedup();
        Ok(Sieve {
            sample: sample.max(1),
            clients: if clients.is_empty() { None } else { Some(AccessList::new(&everybody, clients)?) },
            names: names.into(),
        })
    }

    /// One that lets everything through.
    pub fn open() -> Self {
        Sieve { sample: 1, clients: None, names: Box::new([]) }
    }

    /// Which queries of a stream are looked at; `seed` makes one stream differ from another.
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

    /// Whether this client's question, which may be without one, is not to be recorded.
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
            if self.names.binary_search_by(|excluded| order(excluded, name)).is_ok() {
                return true;
            }
            name = name.get(1 + usize::from(*len)..).unwrap_or_default();
        }
        false
    }
}

/// By length first, which mostly tells.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Which queries of a stream are looked at. The distance from one to the next is drawn, so that each is as likely as any other,
/// whatever rhythm they come in.
#[derive(Clone, Copy, Debug)]
pub struct Picks {
    sample: u32,
    /// So many are passed over before the next.
    left: u32,
    state: u64,
}

impl Picks {
    /// The next one's position among the next `len`; `None`, and on to those that follow, if it is not among them. `from` is
    /// where to go on.
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

    /// Whether the next one is.
    #[inline(always)]
    pub fn take(&mut self) -> bool {
        self.next_in(0, 1).is_some()
    }

    /// From 1 to twice the mean but one, each as likely.
    fn draw(&mut self) -> u32 {
        // xorshift64 (Marsaglia 2003): no secret, only no rhythm.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let range = u64::from(self.sample) * 2 - 1;
        1 + (((self.state >> 32) * range) >> 32) as u32
    }
}
