//! Shares: how much of what is bounded each client and each zone may hold.
//!
//! Two stores are bounded: the questions in flight, and each worker's records, one of which is with
//! the control plane for each query that waits. A query may take a place only while its client and
//! its zone hold less than a multiple of what is *free*: the dynamic thresholds by which switches
//! share their buffers (Choudhury and Hahne, 1998). So a client that asks for a silent zone faster
//! than its questions end keeps to its share, and always leaves room: one greedy client gets at most
//! two thirds of a store, two get two fifths each. Nobody is limited while a store is nearly empty.
//!
//! A zone gets less than a client, so that one client's questions for other zones have room beside
//! its questions for a silent one. A client that holds hardly anything may exceed the zone's share,
//! up to twice what is free: it must not suffer from another client's flood of names in that zone.
//! A flood from forged addresses, each of which holds hardly anything, meets that second bound.
//!
//! A flood from many addresses for many silent zones meets neither. So a question that takes off while
//! little is free has less time: then places come back as fast as they are taken, and questions
//! that are answered soon are not affected.

use super::{Waiter, domain, inquiry, pacing::Allowances};
use quick_cache::DefaultHashBuilder;
use ringdns_common::network::network;
use ringdns_dataplane::{
    clock::Nanos,
    dns::{answer::Answer, key::Key},
    punt::{Link, Punt},
};
use std::{
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

/// A client may hold less than this many times what is free.
const CLIENT_TIMES: usize = 2;
/// A zone may hold less than what is free, divided by this.
const ZONE_PART: usize = 2;
/// A client that holds fewer places than this may exceed the share of a zone.
const LIGHT: usize = 16;
/// Questions have all their time while more than this part of a store is free: two greedy clients
/// leave nearly as much.
const CALM_PART: f64 = 0.25;
/// Least time for a question: an upstream that has the answer responds sooner.
const TIME_MIN: Duration = Duration::from_millis(50);
/// Number of counters in a row; a power of two.
const COUNTERS: usize = 1 << 13;

/// Places that clients and zones hold, and allowances of clients.
pub struct Shares {
    clients: HeldCounts,
    zones: HeldCounts,
    allowances: Allowances,
    /// Keyed anew in each process: clients choose names, and some choose addresses.
    hash: DefaultHashBuilder,
}

/// Numbers of places held. Those of different clients may be in the same counter, but hardly ever in
/// the same counter of both rows. So the table has a fixed size, and is right but for chance.
struct HeldCounts([Box<[AtomicU32]>; 2]);

/// Index of a client's or zone's counter in each row.
pub type Cells = [u16; 2];

/// Place that a waiter asks for.
pub struct Claim {
    /// Counters of the client and of the zone; `None`: no client waits.
    cells: Option<[Cells; 2]>,
    /// Link of the worker whose record waits.
    link: Option<Arc<Link>>,
    /// Length of the query over UDP, and the time at which it came; `None`: nobody is sent a
    /// datagram.
    query: Option<(usize, Nanos)>,
}

/// Holder of too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greedy {
    /// The client holds its share.
    Client,
    /// The zone holds its share.
    Zone,
}

/// Returns the time for a question that takes off with `claim`, while `free` of the places for
/// questions are free.
///
/// The fourth power makes it short before nothing is free: the questions that took off before still
/// hold their places for seconds.
pub fn time(claim: Option<&Claim>, free: usize, places: usize) -> Duration {
    let part = |(free, places): (usize, usize)| free as f64 / places.max(1) as f64;
    let link = claim.and_then(|claim| claim.link.as_ref());
    let records = link.map_or(1.0, |link| part((link.free_records(), link.records())));
    let calm = (part((free, places)).min(records) / CALM_PART).min(1.0);
    inquiry::TOTAL.mul_f64(calm.powi(4)).max(TIME_MIN)
}

/// Place that a waiter holds. It is given back on drop.
pub struct Share {
    shares: Arc<Shares>,
    claim: Claim,
}

impl Default for HeldCounts {
    fn default() -> Self {
        HeldCounts(std::array::from_fn(|_| (0..COUNTERS).map(|_| AtomicU32::new(0)).collect()))
    }
}

impl HeldCounts {
    fn cells(hash: u64) -> Cells {
        [hash, hash >> 32].map(|half| (half % COUNTERS as u64) as u16)
    }

    fn counters(&self, cells: Cells) -> [&AtomicU32; 2] {
        std::array::from_fn(|row| &self.0[row][usize::from(cells[row])])
    }

    fn get(&self, cells: Cells) -> usize {
        let [one, other] = self.counters(cells).map(|counter| counter.load(Relaxed));
        one.min(other) as usize
    }

    fn take(&self, cells: Cells) {
        for counter in self.counters(cells) {
            counter.fetch_add(1, Relaxed);
        }
    }

    fn give_back(&self, cells: Cells) {
        for counter in self.counters(cells) {
            counter.fetch_sub(1, Relaxed);
        }
    }
}

impl Shares {
    /// Returns shares of which nothing is taken, for clients that get an expired answer after
    /// `stale_client_timeout`.
    pub fn new(stale_client_timeout: Duration) -> Arc<Self> {
        Arc::new(Shares {
            clients: HeldCounts::default(),
            zones: HeldCounts::default(),
            allowances: Allowances::new(COUNTERS, stale_client_timeout),
            hash: DefaultHashBuilder::default(),
        })
    }

    /// Returns the claim of a waiter for the question `key`.
    pub fn claim(&self, waiter: &Waiter, key: &Key) -> Claim {
        let cells = waiter.client().map(|client| {
            let client = self.hash.hash_one(network(client));
            [client, self.hash.hash_one(domain::of(key.asked().name()))].map(HeldCounts::cells)
        });
        let query =
            |(link, record): (&Arc<Link>, &Punt)| (link.clone(), (record.head().len(), record.received));
        let (link, query) = waiter.record().map(query).unzip();
        Claim { cells, link, query }
    }

    /// Checks that a claim is within the shares of its client and its zone. `free_flights`: number
    /// of questions that may still take off; `None`: the waiter joins one in flight.
    ///
    /// # Errors
    /// The one that holds too much.
    pub fn check(&self, claim: &Claim, free_flights: Option<usize>) -> Result<(), Greedy> {
        let Some([client, zone]) = claim.cells else { return Ok(()) };
        let free_records = claim.link.as_ref().map(|link| link.free_records());
        let Some(free) = free_flights.into_iter().chain(free_records).min() else { return Ok(()) };
        let of_client = self.clients.get(client);
        if of_client >= CLIENT_TIMES * free {
            return Err(Greedy::Client);
        }
        let of_zone = self.zones.get(zone);
        if of_zone >= CLIENT_TIMES * free || of_zone * ZONE_PART >= free && of_client >= LIGHT {
            return Err(Greedy::Zone);
        }
        Ok(())
    }

    /// Takes a place.
    pub fn take(self: &Arc<Self>, claim: Claim) -> Share {
        if let Some([client, zone]) = claim.cells {
            self.clients.take(client);
            self.zones.take(zone);
            if let Some((bytes, received)) = claim.query {
                self.allowances.earn(client, bytes, received);
            }
        }
        if let Some(link) = &claim.link {
            link.takes_off();
        }
        Share { shares: self.clone(), claim }
    }
}

impl Share {
    /// Withholds the answer to a record from its client if it is late, or if the client has been
    /// sent too much. Returns the number of bytes that the client is sent.
    pub fn pace(&self, record: &mut Punt, answer: &Answer, now: Nanos) -> usize {
        self.client().map_or(0, |client| self.shares.allowances.pace(client, record, answer, now))
    }

    /// Returns the counters of the client, if one waits.
    pub fn client(&self) -> Option<Cells> {
        self.claim.cells.map(|[client, _]| client)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Share { shares, claim } = self;
        if let Some([client, zone]) = claim.cells {
            shares.clients.give_back(client);
            shares.zones.give_back(zone);
        }
        if let Some(link) = &claim.link {
            link.lands();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Places of the store.
    const PLACES: usize = 100;

    #[test]
    fn time_is_short_while_little_is_free() {
        let millis = |free| time(None, free, PLACES).as_millis();
        assert_eq!([100, 50, 25, 20, 15, 10, 5, 0].map(millis), [3000, 3000, 3000, 1228, 388, 76, 50, 50]);
    }

    fn claim(shares: &Shares, client: u8, zone: u8) -> Claim {
        let hashes = [shares.hash.hash_one(client), shares.hash.hash_one((zone, "zone"))];
        Claim { cells: Some(hashes.map(HeldCounts::cells)), link: None, query: None }
    }

    /// Step of a client: asks in a zone, or has its oldest question answered.
    fn step() -> impl Strategy<Value = (u8, u8, bool)> {
        (0..6u8, 0..4u8, prop::bool::weighted(0.7))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn shares_are_those_of_a_table_that_counts_exactly(steps in prop::collection::vec(step(), 1..300)) {
            let shares = Shares::new(Duration::ZERO);
            let mut held: Vec<(u8, u8, Share)> = Vec::new();
            for (client, zone, asks) in steps {
                if !asks {
                    if let Some(oldest) = held.iter().position(|(of, ..)| *of == client) {
                        held.remove(oldest);
                    }
                    continue;
                }
                let free = PLACES - held.len();
                let of_client = held.iter().filter(|(of, ..)| *of == client).count();
                let of_zone = held.iter().filter(|(_, of, _)| *of == zone).count();
                let expected = if of_client >= 2 * free {
                    Err(Greedy::Client)
                } else if of_zone >= 2 * free || 2 * of_zone >= free && of_client >= LIGHT {
                    Err(Greedy::Zone)
                } else {
                    Ok(())
                };
                let claim = claim(&shares, client, zone);
                let checked = shares.check(&claim, Some(free));
                prop_assert_eq!(checked, expected, "{} of client, {} of zone, {} free", of_client, of_zone, free);
                if checked.is_ok() {
                    held.push((client, zone, shares.take(claim)));
                }
                // Who holds nothing is refused by its zone alone, and then others hold the places.
                prop_assert!(held.len() < PLACES, "nothing is free");
            }
            held.clear();
            let left = |counts: &HeldCounts| counts.0.iter().flatten().map(|count| count.load(Relaxed)).sum::<u32>();
            prop_assert_eq!([&shares.clients, &shares.zones].map(left), [0, 0]);
        }
    }

    #[test]
    fn greedy_clients_get_equal_shares_and_leave_half_of_one() {
        for greedy in 1..10u8 {
            let shares = Shares::new(Duration::ZERO);
            let (mut held, mut places) = (HashMap::<u8, usize>::new(), Vec::new());
            for zone in 0..=u8::MAX {
                for client in 0..greedy {
                    // Each question is in a zone of its own, so that only clients count.
                    let zone = HeldCounts::cells(shares.hash.hash_one((client, zone)));
                    let mut claim = claim(&shares, client, 0);
                    claim.cells = claim.cells.map(|[client, _]| [client, zone]);
                    if shares.check(&claim, Some(PLACES - places.len())).is_ok() {
                        places.push(shares.take(claim));
                        *held.entry(client).or_default() += 1;
                    }
                }
            }
            let share = 2 * PLACES / (1 + 2 * usize::from(greedy));
            assert!(held.values().all(|held| (share..=share + 1).contains(held)), "{greedy}: {held:?}");
        }
    }
}
