//! A keyed hash, so that nobody who lacks the key can aim names at one bucket.
//!
//! The folded 64 × 64 → 128-bit multiplication of wyhash (Wang Yi, "wyhash", final version 4), over the key's
//! padded blocks, so that there is no tail to treat apart. The seeds are drawn when the process starts and
//! no hash leaves it. A bucket is bounded, so that even a collision costs an eviction and never time.

use crate::dns::key::Key;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// The seeds of a hash.
#[derive(Clone, Copy, Debug)]
pub struct KeyedHash {
    seeds: [u64; 4],
}

impl KeyedHash {
    /// Draws seeds from the kernel.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0u8; 32];
        let drawn = getrandom(&mut bytes, GetRandomFlags::empty())?;
        if drawn != bytes.len() {
            return Err(io::Error::other("the kernel gave too few random bytes"));
        }
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Self::with_seeds(std::array::from_fn(|i| u64::from_le_bytes(words[i]))))
    }

    /// Uses the given seeds: for tests and counted benchmarks, which must repeat.
    pub fn with_seeds(seeds: [u64; 4]) -> Self {
        KeyedHash { seeds }
    }

    /// The hash of a key.
    #[inline(always)]
    pub fn of(&self, key: &Key) -> u64 {
        let mut hasher = self.hasher();
        for block in key.blocks() {
            hasher.add(*block);
        }
        hasher.finish(key)
    }

    /// For hashing a key while it is made.
    #[inline(always)]
    pub fn hasher(&self) -> Hasher<'_> {
        Hasher { seeds: &self.seeds, state: self.seeds[0] }
    }
}

/// The hash of a key in the making.
pub struct Hasher<'a> {
    seeds: &'a [u64; 4],
    state: u64,
}

impl Hasher<'_> {
    /// Adds a block of the name.
    #[inline(always)]
    pub fn add(&mut self, [a, b]: [u64; 2]) {
        self.state = fold(a ^ self.seeds[1], b ^ self.state);
    }

    /// The hash of `key`, whose blocks were added.
    #[inline(always)]
    pub fn finish(self, key: &Key) -> u64 {
        fold(key.meta().0 ^ self.seeds[2], self.state ^ self.seeds[3])
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
