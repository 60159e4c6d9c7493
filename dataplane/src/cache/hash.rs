//! A keyed hash, so that nobody without the key can aim names at one bucket.
//!
//! The folded 64 × 64 → 128-bit multiplication of wyhash (Wang Yi, "wyhash", final version 4), over
//! the key's padded blocks, so that no tail needs separate treatment. The seeds are drawn when the
//! process starts, and no hash leaves it. A bucket is bounded, so even a collision costs an
//! eviction and never time.

use crate::{
    dns::key::{Asked, Flags, Key},
    simd::{BLOCK, Block},
};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use zerocopy::transmute;

/// Seeds of a hash.
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

    /// Uses the given seeds: for tests and instruction-count benchmarks, which must be repeatable.
    pub fn with_seeds(seeds: [u64; 4]) -> Self {
        KeyedHash { seeds }
    }

    /// Returns the hash of a key.
    pub fn of(&self, key: &Key) -> u64 {
        key.blocks().iter().fold(self.start(key.flags()), |state, block| self.add(state, block))
    }

    /// Returns the hash of a key that is borrowed.
    pub fn of_asked(&self, asked: Asked<'_>) -> u64 {
        asked.question.chunks(BLOCK).fold(self.start(asked.flags), |state, part| {
            let mut block = [0; BLOCK];
            block[..part.len()].copy_from_slice(part);
            self.add(state, &block)
        })
    }

    /// Returns the hash of a client's network.
    #[inline(always)]
    pub fn of_network(&self, network: u64) -> u64 {
        fold(network ^ self.seeds[1], self.seeds[2])
    }

    /// Returns the initial state of a hash.
    #[inline(always)]
    pub fn start(&self, flags: Flags) -> u64 {
        self.seeds[0] ^ u64::from(flags.0)
    }

    /// Adds a block of the question. After the last one, the state is the hash.
    #[inline(always)]
    pub fn add(&self, state: u64, block: &Block) -> u64 {
        let words: [[u8; 8]; 4] = transmute!(*block);
        let [a, b, c, d] = words.map(u64::from_le_bytes);
        fold(c ^ self.seeds[2], d ^ self.seeds[3] ^ fold(a ^ self.seeds[1], b ^ state))
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing;
    use hickory_proto::rr::RecordType;

    #[test]
    fn a_borrowed_key_has_the_same_hash() {
        let hash = KeyedHash::with_seeds([5, 6, 7, 8]);
        // With names of 22 to 62 bytes, questions take a block, two, and parts of them.
        for len in 1..=40 {
            let name = format!("{}.block.example.net.", "a".repeat(len));
            let mut key = testing::parsed(&testing::query(&name, RecordType::A)).key;
            key.set_dnssec_ok(len % 2 == 0);
            assert_eq!(hash.of_asked(key.asked()), hash.of(&key), "{name}");
        }
    }
}
