//! Limits of TCP connections: in total and per client. When a limit is reached, a new connection
//! replaces the one that has been idle longest, since an unused connection is worth less than a new
//! one (RFC 7766 section 6.2.3).

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

/// Seats of all connections.
pub struct Seats {
    taken: Mutex<Taken>,
    most: usize,
    most_of_client: usize,
    began: Instant,
}

#[derive(Default)]
struct Taken {
    by_number: HashMap<u64, Arc<SeatState>>,
    of_clients: HashMap<IpAddr, usize>,
    last_number: u64,
}

/// State of a connection.
struct SeatState {
    client: IpAddr,
    /// Time of the last query or answer, in milliseconds since `began`.
    last: AtomicU64,
    /// Number of queries in flight.
    under_way: AtomicUsize,
    /// Notified when a new connection takes the seat.
    wanted: Notify,
}

/// Seat of one connection. Given back when dropped, or [taken](Self::wanted) by a new connection.
pub struct ConnectionSeat {
    seats: Arc<Seats>,
    number: u64,
    place: Arc<SeatState>,
}

/// Reason why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All seats are taken, and no connection is idle.
    All,
    /// This client has its maximum of connections, and none is idle.
    OfClient,
}

impl Seats {
    /// Returns `most` seats in total, of which one client may have `most_of_client`.
    pub fn new(most: usize, most_of_client: usize) -> Arc<Self> {
        Arc::new(Seats { taken: Mutex::default(), most, most_of_client, began: Instant::now() })
    }

    /// Takes a seat for a connection from `client`. Returns it, and whether an idle connection had
    /// to leave.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<(ConnectionSeat, bool), Full> {
        let client = network(client);
        let mut taken = self.taken.lock();
        let of_client = taken.of_clients.get(&client).copied().unwrap_or(0);
        let made_room = if of_client >= self.most_of_client {
            let its_own = |place: &SeatState| place.client == client;
            taken.free_idlest(its_own).then_some(true).ok_or(Full::OfClient)?
        } else if taken.by_number.len() >= self.most {
            taken.free_idlest(|_| true).then_some(true).ok_or(Full::All)?
        } else {
            false
        };
        taken.last_number += 1;
        let number = taken.last_number;
        let place = Arc::new(SeatState {
            client,
            last: AtomicU64::new(self.now()),
            under_way: AtomicUsize::new(0),
            wanted: Notify::new(),
        });
        taken.by_number.insert(number, place.clone());
        *taken.of_clients.entry(client).or_default() += 1;
        Ok((ConnectionSeat { seats: self.clone(), number, place }, made_room))
    }

    /// Returns the number of seats taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.lock().by_number.len()
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

impl Taken {
    /// Frees the seat of the connection that has been idle longest, among those that have no query
    /// in flight. Returns false if there is none.
    fn free_idlest(&mut self, among: impl Fn(&SeatState) -> bool) -> bool {
        let idle = |place: &SeatState| place.under_way.load(Relaxed) == 0 && among(place);
        let idlest = self.by_number.iter().filter(|(_, place)| idle(place));
        let idlest = idlest.min_by_key(|(number, place)| (place.last.load(Relaxed), **number));
        let Some(number) = idlest.map(|(number, _)| *number) else { return false };
        if let Some(place) = self.leave(number) {
            place.wanted.notify_one();
        }
        true
    }

    fn leave(&mut self, number: u64) -> Option<Arc<SeatState>> {
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

impl ConnectionSeat {
    /// Waits until a new connection has taken the seat.
    pub async fn wanted(&self) {
        self.place.wanted.notified().await;
    }

    /// Records that a query came.
    pub fn asked(&self) {
        self.place.under_way.fetch_add(1, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }

    /// Records that a query was answered, or will not be.
    pub fn answered(&self) {
        self.place.under_way.fetch_sub(1, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }

    /// Whether queries are in flight.
    pub fn is_at_work(&self) -> bool {
        self.place.under_way.load(Relaxed) > 0
    }
}

impl Drop for ConnectionSeat {
    fn drop(&mut self) {
        self.seats.taken.lock().leave(self.number);
    }
}

/// Returns the network that counts as one client: an IPv4 address, or an IPv6 /56, the least that a
/// site is assigned (RFC 6177).
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

    async fn is_wanted(seat: &ConnectionSeat) -> bool {
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
        // The first has a query in flight, and the second has just had one answered.
        taken[0].asked();
        taken[1].asked();
        taken[1].answered();
        let (fourth, made_room) = seats.take(client("10.0.0.4")).unwrap();
        assert!(made_room && is_wanted(&taken[2]).await && !is_wanted(&taken[1]).await);
        // A late drop frees no other seat.
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
