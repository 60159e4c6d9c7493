//! Filter in front of a table: most names that are not listed need no more than it.

/// Bits of the filter for each name. Twelve let one fingerprint in a hundred pass that is in no
/// table, and 2,140,000 names need 3.2 MB, which caches hold better than the table's 18.
const BITS_A_NAME: usize = 12;

/// Blocked Bloom filter: each fingerprint sets four bits of one word.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    /// Returns a filter that all these fingerprints pass.
    pub fn new(count: usize, fingerprints: impl Iterator<Item = u64>) -> Self {
        let mut words = vec![0; (count * BITS_A_NAME).div_ceil(64)].into_boxed_slice();
        let len = words.len();
        for fingerprint in fingerprints {
            if let Some(word) = words.get_mut(position(fingerprint, len)) {
                *word |= bits(fingerprint);
            }
        }
        Filter(words)
    }

    /// Whether a table may have the fingerprint.
    #[inline]
    pub fn passes(&self, fingerprint: u64) -> bool {
        let bits = bits(fingerprint);
        self.0.get(position(fingerprint, self.0.len())).is_some_and(|word| word & bits == bits)
    }

    /// Bytes that the filter has allocated.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Returns the position of a fingerprint's word, by its last 32 bits.
#[inline]
fn position(fingerprint: u64, words: usize) -> usize {
    ((u64::from(fingerprint as u32) * words as u64) >> 32) as usize
}

/// Returns a fingerprint's bits in its word, by the 24 bits before the last 32.
#[inline]
fn bits(fingerprint: u64) -> u64 {
    [32, 38, 44, 50].iter().fold(0, |bits, shift| bits | 1 << (fingerprint >> shift & 63))
}
