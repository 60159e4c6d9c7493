//! The limiter, one query at a time.

use super::{Meter, NOW_NANOS};
use crate::stage::{self, HASH_SEEDS};
use anyhow::{Result, ensure};
use ringdns_dataplane::{
    cache::KeyedHash,
    limiter::{Limiter, MISS},
};
use std::net::{IpAddr, Ipv4Addr};

/// Number of queries that are counted.
const QUERIES: u32 = 1 << 14;

/// Returns a client that differs from those of other numbers in no regular way.
fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1)).into()
}

/// Asks the limiter about the clients of misses, and charges them: all four prefixes of each.
pub fn charge(meter: &mut dyn Meter) -> Result<u64> {
    let mut limiter = Limiter::new(stage::limit()?, KeyedHash::with_seeds(HASH_SEEDS))?;
    limiter.set_time(NOW_NANOS);
    // Lazily made memory.
    (0..1 << 18).for_each(|number| limiter.charge(client(number), MISS));
    let mut refused = 0;
    meter.measure(&mut || {
        for number in 0..QUERIES {
            let client = client(number);
            match limiter.refuse(client) {
                None => limiter.charge(client, MISS),
                Some(_) => refused += 1,
            }
        }
    });
    ensure!(refused == 0, "{refused} of {QUERIES} queries were refused");
    Ok(u64::from(QUERIES))
}
