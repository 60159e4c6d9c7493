//! Spreading: the answers to one question leave for one client a few at a time.
//!
//! Clients that wait for the same question are answered at the same moment. An attacker who forges
//! a victim's address could gather a thousand of its queries in that moment (DNSBomb,
//! CVE-2024-33655). A network behind one address, whose hosts ask for the same name, should lose
//! no answer. So the first 2 KiB leave at once, and the rest in portions, in the order in which
//! the queries came. Over TCP, the connection proves the address, and nothing is delayed.

use super::{flights::Seat, shares::Cells};
use crate::{resolved::Resolved, upstream::turn::Turn};
use quick_cache::DefaultHashBuilder;
use ringdns_dataplane::clock::Clock;
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tokio::time::sleep;

/// Bytes that a client is sent at once; the answer that reaches them is sent whole.
const PORTION: usize = 2 << 10;
/// Time between portions: a little more than the 10 ms that pulses are counted in.
const INTERVAL: Duration = Duration::from_millis(12);

/// Waiters whose turn is yet to come, by client. The hash key is drawn anew each time: clients
/// choose addresses.
type Crowd = HashMap<Cells, VecDeque<Seat>, DefaultHashBuilder>;

/// Delivers an answer to waiters. Of the answers to one client over UDP, those beyond a portion
/// are sent later.
pub fn answer(seats: Vec<Seat>, resolved: &Resolved, clock: Clock, turn: &mut Turn) {
    let all: usize = seats.iter().map(|seat| seat.bytes(&resolved.answer)).sum();
    if all <= PORTION {
        let now = clock.nanos();
        return seats.into_iter().for_each(|seat| _ = seat.answer(resolved, now, turn));
    }
    let mut crowd = Crowd::default();
    for seat in seats {
        match seat.datagram_client() {
            Some(client) => crowd.entry(client).or_default().push_back(seat),
            None => _ = seat.answer(resolved, clock.nanos(), turn),
        }
    }
    portion(&mut crowd, resolved, clock, turn);
    if !crowd.is_empty() {
        tokio::spawn(answer_later(crowd, resolved.clone(), clock));
    }
}

async fn answer_later(mut crowd: Crowd, resolved: Resolved, clock: Clock) {
    while !crowd.is_empty() {
        sleep(INTERVAL).await;
        portion(&mut crowd, &resolved, clock, &mut Turn::default());
    }
}

/// Sends each client a portion. Answers that are withheld take nothing of it.
fn portion(crowd: &mut Crowd, resolved: &Resolved, clock: Clock, turn: &mut Turn) {
    let now = clock.nanos();
    crowd.retain(|_, seats| {
        let mut sent = 0;
        while sent < PORTION {
            let Some(seat) = seats.pop_front() else { return false };
            sent += seat.answer(resolved, now, turn);
        }
        !seats.is_empty()
    });
}
