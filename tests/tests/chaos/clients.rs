//! Clients that ask all the time, and compare each answer with the truth.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use ringdns_testkit::{Client, DNS_V4, DNS_V6, Host, Query, Reply, until};

use crate::scene::{LOOPBACK, Scene};

/// Number of names that are asked for again and again, and one query in this many is for a new one.
const POPULAR: u32 = 2000;
const NEW: u32 = 5;
/// Pause after each query, and the time that an answer may take.
const PAUSE: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_millis(100);
const SERVFAIL: u16 = 2;

/// Returns the address that the upstream gives a name (FNV-1a).
pub fn address_of(name: &str) -> [u8; 4] {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(16_777_619);
    let [_, rest @ ..] = name.bytes().fold(2_166_136_261, mix).to_be_bytes();
    let [a, b, c] = rest;
    [198, a, b, c]
}

/// Queries by their outcomes.
#[derive(Debug, Default)]
pub struct AskedCounts {
    /// Queries with the right answer.
    right: AtomicU64,
    /// Queries that were answered SERVFAIL.
    failed: AtomicU64,
    /// Queries without an answer in time.
    unanswered: AtomicU64,
}

/// Clients of the lab and of the server itself. They ask until the value is dropped.
pub struct Clients {
    stop: Arc<AtomicBool>,
    counts: Arc<AskedCounts>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts the clients.
    pub fn begin(scene: &Scene) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(AskedCounts::default()));
        let (client, server) = (scene.lab.client(), scene.lab.server());
        let places = [(client, DNS_V4), (client, DNS_V4), (client, DNS_V6), (server, LOOPBACK)];
        let begin = |(nth, (host, address)): (usize, (&Host, SocketAddr))| {
            let asking = Asking {
                client: Client::of(host, address),
                rng: SmallRng::seed_from_u64(nth as u64),
                number: nth as u32,
                asked: 0,
            };
            let (stop, counts) = (stop.clone(), counts.clone());
            thread::spawn(move || asking.run(&stop, &counts))
        };
        let threads = places.into_iter().enumerate().map(begin).collect();
        Clients { stop, counts, threads }
    }

    /// Waits until clients have had right answers, and checks that none had a wrong one.
    #[track_caller]
    pub fn are_answered(&self) {
        let before = self.counts.right.load(Relaxed);
        until("clients are answered", || (self.counts.right.load(Relaxed) > before + 100).then_some(()));
        assert!(!self.threads.iter().any(JoinHandle::is_finished), "a client had a wrong answer");
    }

    /// Ends the clients, and returns their counts.
    pub fn end(mut self) -> Arc<AskedCounts> {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("only right answers");
        }
        self.counts.clone()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// One client.
struct Asking {
    client: Client,
    rng: SmallRng,
    number: u32,
    asked: u32,
}

impl Asking {
    fn run(mut self, stop: &AtomicBool, counts: &AskedCounts) {
        while !stop.load(Relaxed) {
            let query = self.query();
            let count = match self.client.ask_within(&query, PATIENCE) {
                None => &counts.unanswered,
                Some(reply) if is_right(&query, &reply) => &counts.right,
                Some(_) => &counts.failed,
            };
            count.fetch_add(1, Relaxed);
            thread::sleep(PAUSE);
        }
    }

    fn query(&mut self) -> Query {
        self.asked += 1;
        let name = if self.rng.random_ratio(1, NEW) {
            format!("new{}.client{}.example", self.asked, self.number)
        } else {
            format!("name{}.example", self.rng.random_range(0..POPULAR))
        };
        Query::a(&name).id(self.asked as u16)
    }
}

/// Returns whether a reply has the truth; `false`: it reports a failure.
///
/// # Panics
/// If it lies.
fn is_right(query: &Query, reply: &Reply) -> bool {
    assert!(reply.repeats(query), "another question: {query:?}: {reply:?}");
    if reply.rcode() == SERVFAIL && reply.answers() == 0 {
        return false;
    }
    let right = [Ipv4Addr::from(address_of(&query.name))];
    assert_eq!((reply.rcode(), reply.addresses()), (0, right.to_vec()), "{query:?}: {reply:?}");
    true
}
