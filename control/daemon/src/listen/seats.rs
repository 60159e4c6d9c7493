//! Who is connected: so many in all, and so many of one client. Who comes when all seats are taken gets that of the one that
//! has been silent for longest, since a connection that is not used is worth less than a new one (RFC 7766 section 6.2.3).

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{sync::Notify, time::Instant};

/// The seats.
pub struct Seats {
    taken: Mutex<Taken>,
    most: usize,
    most_of_client: usize,
    began: Instant,
}

#[derive(Default)]
struct Taken {
    by_number: HashMap<u64, Arc<Place>>,
    of_clients: HashMap<IpAddr, usize>,
    last_number: u64,
}

/// What is known of a connection.
struct Place {
    client: IpAddr,
    /// When something was last heard of it or said to it, in milliseconds.
    last: AtomicU64,
    /// Queries that are not answered.
    under_way: AtomicUsize,
    /// Told when somebody else needs the seat.
    wanted: Notify,
}

/// A seat, until it is dropped or [wanted](Self::wanted) by somebody else.
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    place: Arc<Place>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken by others that are at work.
    All,
    /// As many as one client may have are at work for this one.
    OfClient,
}

impl Seats {
    /// So many in all, and so many for one client.
    pub fn new(most: usize, most_of_client: usize) -> Arc<Self> {
        Arc::new(Seats { taken: Mutex::default(), most, most_of_client, began: Instant::now() })
    }

    /// A seat for a connection from `client`, and whether another had to leave for it.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<(Seat, bool), Full> {
        let client = network(client);
        let mut taken = self.taken.lock();
        let of_client = taken.of_clients.get(&client).copied().unwrap_or(0);
        let made_room = if of_client >= self.most_of_client {
            let its_own = |place: &Place| place.client == client;
            taken.free_idlest(its_own).then_some(true).ok_or(Full::OfClient)?
        } else if taken.by_number.len() >= self.most {
            taken.free_idlest(|_| true).then_some(true).ok_or(Full::All)?
        } else {
            false
        };
        taken.last_number += 1;
        let number = taken.last_number;
        let place = Arc::new(Place {
            client,
            last: AtomicU64::new(self.now()),
            under_way: AtomicUsize::new(0),
            wanted: Notify::new(),
        });
        taken.by_number.insert(number, place.clone());
        *taken.of_clients.entry(client).or_default() += 1;
        Ok((Seat { seats: self.clone(), number, place }, made_room))
    }

    /// How many are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.lock().by_number.len()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

impl Taken {
    /// Takes the seat of the one that is silent for longest, of those that nothing is under way for; false if there is none.
    fn free_idlest(&mut self, among: impl Fn(&Place) -> bool) -> bool {
        let idle = |place: &Place| place.under_way.load(Relaxed) == 0 && among(place);
        let idlest = self.by_number.iter().filter(|(_, place)| idle(place));
        let idlest = idlest.min_by_key(|(number, place)| (place.last.load(Relaxed), **number));
        let Some(number) = idlest.map(|(number, _)| *number) else { return false };
        if let Some(place) = self.leave(number) {
            place.wanted.notify_one();
        }
        true
    }

    fn leave(&mut self, number: u64) -> Option<Arc<Place>> {
        let place = self.by_number.remove(&number)?;
        if let Some(count) = self.of_clients.get_mut(&place.client) {
            *count -= 1;
            if *count == 0 {
                self.of_clients.remove(&place.client);
            }
        }
        Some(place)
    }
}

impl Seat {
    /// Comes back when somebody else has got the seat.
    pub async fn wanted(&self) {
        self.place.wanted.notified().await;
    }

    /// Notes that a query came.
    pub fn asked(&self) {
        self.place.under_way.fetch_add(1, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }

    /// Notes that it was answered, or will not be.
    pub fn answered(&self) {
        self.place.under_way.fetch_sub(1, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }

    /// Whether queries are under way.
    pub fn is_at_work(&self) -> bool {
        self.place.under_way.load(Relaxed) > 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().leave(self.number);
    }
}

/// What counts as one client: an IPv4 address, or a /56, the least that a site is given over IPv6 (RFC 6177).
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !0 << 72).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{advance, timeout};

    fn client(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn is_wanted(seat: &Seat) -> bool {
        timeout(Duration::from_millis(1), seat.wanted()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_idlest_leaves_for_who_comes_and_nobody_who_is_at_work() {
        let seats = Seats::new(3, 3);
        let mut taken = Vec::new();
        for n in 1..=3 {
            taken.push(seats.take(client(&format!("10.0.0.{n}"))).unwrap().0);
            advance(Duration::from_secs(1)).await;
        }
        // The first has something under way, and the second has just had.
        taken[0].asked();
        taken[1].asked();
        taken[1].answered();
        let (fourth, made_room) = seats.take(client("10.0.0.4")).unwrap();
        assert!(made_room && is_wanted(&taken[2]).await && !is_wanted(&taken[1]).await);
        // Dropped late, it takes nobody's seat along.
        taken.remove(2);
        assert_eq!(seats.taken(), 3);
        taken[1].asked();
        fourth.asked();
        assert_eq!(seats.take(client("10.0.0.5")).err(), Some(Full::All));
        drop(fourth);
        assert!(!seats.take(client("10.0.0.5")).unwrap().1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_has_more_than_its_share() {
        let seats = Seats::new(10, 2);
        for network in [["10.0.0.1"; 3], ["2001:db8:0:100::1", "2001:db8:0:1ff::2", "2001:db8:0:123::3"]] {
            let first = seats.take(client(network[0])).unwrap().0;
            advance(Duration::from_secs(1)).await;
            let second = seats.take(client(network[1])).unwrap().0;
            second.asked();
            assert!(seats.take(client(network[2])).unwrap().1 && is_wanted(&first).await);
            let third = seats.take(client(network[2])).unwrap().0;
            third.asked();
            assert_eq!(seats.take(client(network[0])).err(), Some(Full::OfClient));
        }
        let others = seats.take(client("2001:db8:0:200::1"));
        assert!(!others.unwrap().1, "another site");
        let taken = seats.taken.lock();
        assert!(taken.of_clients.is_empty() && taken.by_number.is_empty(), "nothing is left of who left");
    }
}
