//! Limits of TCP connections: in total and per client.
//!
//! When a limit is reached, a new connection replaces the one that has been idle longest, since an
//! unused connection is worth less than a new one (RFC 7766 section 6.2.3). It does not replace one
//! of a client that has fewer connections than its own. If no connection is idle, it replaces the
//! oldest one of the client that has most, if its own client has at least two fewer: so clients that
//! keep all their connections at work cannot keep others out.

use parking_lot::Mutex;
use ringdns_common::network::network;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
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
    /// Whether the new connection took it although queries were in flight.
    evicted: AtomicBool,
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
    /// All seats are taken, no connection is idle, and no client has many more than this one.
    All,
    /// This client has its maximum of connections, and none is idle.
    OfClient,
}

/// Seat that a new connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It was free.
    Free,
    /// An idle connection left it.
    OfIdle,
    /// A connection with queries in flight left it, of the client that had most.
    OfGreediest,
}

impl Seats {
    /// Returns `most` seats in total, of which one client may have `most_of_client`.
    pub fn new(most: usize, most_of_client: usize) -> Arc<Self> {
        Arc::new(Seats { taken: Mutex::default(), most, most_of_client, began: Instant::now() })
    }

    /// Takes a seat for a connection from `client`. Returns it, and how that was possible.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<(ConnectionSeat, Room), Full> {
        let client = network(client);
        let mut taken = self.taken.lock();
        let of_client = taken.of_clients.get(&client).copied().unwrap_or(0);
        let room = if of_client >= self.most_of_client {
            taken.free_idlest(|place, _| place.client == client).ok_or(Full::OfClient)?
        } else if taken.by_number.len() >= self.most {
            let idlest = taken.free_idlest(|_, of_other| of_other >= of_client);
            idlest.or_else(|| taken.free_oldest_of_greediest(of_client)).ok_or(Full::All)?
        } else {
            Room::Free
        };
        taken.last_number += 1;
        let number = taken.last_number;
        let place = Arc::new(SeatState {
            client,
            last: AtomicU64::new(self.now()),
            under_way: AtomicUsize::new(0),
            wanted: Notify::new(),
            evicted: AtomicBool::new(false),
        });
        taken.by_number.insert(number, place.clone());
        *taken.of_clients.entry(client).or_default() += 1;
        Ok((ConnectionSeat { seats: self.clone(), number, place }, room))
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
    /// in flight and are `among` those in question. That is told the number of the client's seats.
    fn free_idlest(&mut self, among: impl Fn(&SeatState, usize) -> bool) -> Option<Room> {
        let of_client = |place: &SeatState| self.of_clients.get(&place.client).copied().unwrap_or(0);
        let idle = |place: &SeatState| place.under_way.load(Relaxed) == 0 && among(place, of_client(place));
        let idlest = self.by_number.iter().filter(|(_, place)| idle(place));
        let idlest = idlest.min_by_key(|(number, place)| (place.last.load(Relaxed), **number));
        let number = idlest.map(|(number, _)| *number)?;
        self.leave(number)?.wanted.notify_one();
        Some(Room::OfIdle)
    }

    /// Frees the oldest seat of the client that has most, for a client that has `of_client` and will
    /// not have more than that one has then.
    fn free_oldest_of_greediest(&mut self, of_client: usize) -> Option<Room> {
        let (greediest, most) = self.of_clients.iter().max_by_key(|(_, count)| **count)?;
        if *most < of_client + 2 {
            return None;
        }
        let oldest = self.by_number.iter().filter(|(_, place)| place.client == *greediest);
        let number = oldest.map(|(number, _)| *number).min()?;
        let place = self.leave(number)?;
        place.evicted.store(true, Relaxed);
        place.wanted.notify_one();
        Some(Room::OfGreediest)
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
    pub fn wanted(&self) -> impl Future<Output = ()> + Send + use<> {
        let place = self.place.clone();
        async move { place.wanted.notified().await }
    }

    /// Whether a new connection has taken the seat although queries were in flight.
    pub fn is_evicted(&self) -> bool {
        self.place.evicted.load(Relaxed)
    }

    /// Records that queries came.
    pub fn asked(&self, queries: usize) {
        self.place.under_way.fetch_add(queries, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }

    /// Records that queries were answered, or will not be.
    pub fn answered(&self, queries: usize) {
        self.place.under_way.fetch_sub(queries, Relaxed);
        self.place.last.store(self.seats.now(), Relaxed);
    }
}

impl Drop for ConnectionSeat {
    fn drop(&mut self) {
        self.seats.taken.lock().leave(self.number);
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
        taken[0].asked(1);
        taken[1].asked(1);
        taken[1].answered(1);
        let (fourth, room) = seats.take(client("10.0.0.4")).unwrap();
        assert_eq!(room, Room::OfIdle);
        assert!(is_wanted(&taken[2]).await && !is_wanted(&taken[1]).await);
        // A late drop frees no other seat.
        taken.remove(2);
        assert_eq!(seats.taken(), 3);
        taken[1].asked(1);
        fourth.asked(1);
        assert_eq!(seats.take(client("10.0.0.5")).err(), Some(Full::All));
        drop(fourth);
        assert_eq!(seats.take(client("10.0.0.5")).unwrap().1, Room::Free);
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_has_more_than_its_share() {
        let seats = Seats::new(10, 2);
        for network in [["10.0.0.1"; 3], ["2001:db8:0:100::1", "2001:db8:0:1ff::2", "2001:db8:0:123::3"]] {
            let first = seats.take(client(network[0])).unwrap().0;
            advance(Duration::from_secs(1)).await;
            let second = seats.take(client(network[1])).unwrap().0;
            second.asked(1);
            assert_eq!(seats.take(client(network[2])).unwrap().1, Room::OfIdle);
            assert!(is_wanted(&first).await && !first.is_evicted());
            let third = seats.take(client(network[2])).unwrap().0;
            third.asked(1);
            assert_eq!(seats.take(client(network[0])).err(), Some(Full::OfClient));
        }
        let others = seats.take(client("2001:db8:0:200::1"));
        assert_eq!(others.unwrap().1, Room::Free, "another site");
        let taken = seats.taken.lock();
        assert!(taken.of_clients.is_empty() && taken.by_number.is_empty(), "nothing is left of who left");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_at_work_keep_nobody_out_who_has_fewer_seats() {
        let seats = Seats::new(8, 8);
        let [greedy, other, third] = ["10.0.0.1", "2001:db8::1", "10.0.0.3"].map(client);
        let mut taken = Vec::new();
        for n in 0..8 {
            let seat = seats.take(greedy).unwrap().0;
            // The oldest one has been at work most recently.
            advance(Duration::from_secs(u64::from(n == 0))).await;
            seat.asked(1);
            taken.push(seat);
        }
        assert_eq!(seats.take(greedy).err(), Some(Full::OfClient));
        let mut others = Vec::new();
        for greedy in &taken[..4] {
            let (seat, room) = seats.take(other).unwrap();
            assert_eq!(room, Room::OfGreediest);
            assert!(is_wanted(greedy).await && greedy.is_evicted(), "the oldest leaves");
            seat.asked(1);
            others.push(seat);
        }
        assert_eq!([greedy, other].map(|client| seats.take(client).err()), [Some(Full::All); 2]);
        assert_eq!(seats.taken(), 8);
        // An idle connection of a client with few leaves for one with as few, and not for more.
        others[0].answered(1);
        drop(taken.split_off(7));
        let (single, _) = seats.take(third).unwrap();
        others[0].asked(1);
        assert_eq!(seats.take(other).err(), Some(Full::All), "the third has fewer");
        assert_eq!(seats.take("10.0.0.4".parse().unwrap()).unwrap().1, Room::OfIdle);
        assert!(is_wanted(&single).await);
    }
}
