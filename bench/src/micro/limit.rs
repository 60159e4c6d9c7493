//! Time of the limiter's charges.

use crate::stage::{self, HASH_SEEDS};
use anyhow::{Result, ensure};
use ringdns_dataplane::{
    cache::KeyedHash,
    frame::Frames,
    limiter::{Limiter, MISS},
    port::{BURST, Burst},
};
use serde::Serialize;
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

/// Charges of one kind in a round.
const CHARGES: u32 = 1 << 20;
const ROUNDS: usize = 9;
/// Time of the first round, in nanoseconds, and between two rounds: long enough for all counters to
/// drain.
const ROUND: u64 = 100_000_000_000;

/// Nanoseconds of the limiter, median of the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Charges {
    /// Number of clients that ask in turn.
    pub clients: u32,
    /// Nanoseconds to charge a hit: one of sixteen is charged for all.
    pub hit: f64,
    /// Nanoseconds to ask about the client of a miss, and to charge its four prefixes.
    pub exact: f64,
}

/// Returns a client that differs from those of other numbers in no regular way.
fn client(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1))
}

/// Measures charges of so many clients.
pub fn measure(clients: u32) -> Result<Charges> {
    let (mut hits, mut exact) = (Vec::new(), Vec::new());
    let mut limiter = Limiter::new(stage::limit()?, KeyedHash::with_seeds(HASH_SEEDS))?;
    // Lazily made memory.
    (0..1 << 18).for_each(|number| limiter.charge(client(number).into(), MISS));
    for round in 1..=ROUNDS as u64 {
        limiter.set_time(round * ROUND);
        let mut refused = 0;
        let began = Instant::now();
        for number in 0..CHARGES {
            let address = IpAddr::from(client(black_box(number % clients)));
            match limiter.refuse(address) {
                None => limiter.charge(address, MISS),
                Some(_) => refused += 1,
            }
        }
        exact.push(began.elapsed().as_nanos() as f64 / f64::from(CHARGES));
        ensure!(refused == 0, "{refused} of {CHARGES} queries were refused");
        limiter.set_time(round * ROUND + ROUND / 2);
        hits.push(hit(&mut limiter, clients)?);
    }
    Ok(Charges { clients, hit: median(hits), exact: median(exact) })
}

/// Returns the nanoseconds to charge a hit, in bursts of replies to clients in turn.
fn hit(limiter: &mut Limiter, clients: u32) -> Result<f64> {
    let mut frames = Frames::new(BURST as u32, 256)?;
    let mut burst: Burst = std::iter::from_fn(|| frames.alloc()).collect();
    for frame in &mut burst {
        let buffer = frames.buffer(frame);
        buffer[..94].fill(0);
        // An untagged packet over IPv4.
        buffer[12..14].copy_from_slice(&[8, 0]);
        frame.set_len(94);
    }
    let (mut spent, mut next) = (0, 0);
    for _ in 0..CHARGES / BURST as u32 {
        for frame in &mut burst {
            frames.buffer(frame)[30..34].copy_from_slice(&client(next).octets());
            next = (next + 1) % clients;
        }
        let began = Instant::now();
        limiter.charge_answered(black_box(&frames), &mut burst, 0);
        spent += began.elapsed().as_nanos();
    }
    burst.drain(..).for_each(|frame| frames.release(frame));
    Ok(spent as f64 / f64::from(CHARGES))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_measured() {
        let Charges { hit, exact, .. } = measure(1000).unwrap();
        assert!(hit > 0.0 && exact > hit, "a hit is charged by sampling: {hit} of {exact}");
    }
}
