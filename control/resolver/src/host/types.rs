//! Record types that were ever stored, so that all entries of a name can be looked up without a walk
//! over the store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One bit for each of the 65,536 types: 8 KiB.
const WORDS: usize = (1 << 16) / u64::BITS as usize;

/// Set of record types. It only grows: a type is there even when no entry has it any more.
pub(super) struct SeenTypes(Box<[AtomicU64]>);

impl Default for SeenTypes {
    fn default() -> Self {
        SeenTypes((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl SeenTypes {
    /// Adds a type.
    pub(super) fn note(&self, qtype: u16) {
        let (word, bit) = (usize::from(qtype >> 6), 1 << (qtype & 63));
        // Nearly always the type is known, and the line stays shared.
        if let Some(word) = self.0.get(word)
            && word.load(Relaxed) & bit == 0
        {
            word.fetch_or(bit, Relaxed);
        }
    }

    /// Returns all types, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX).step_by(64).zip(&self.0).flat_map(|(first, word)| {
            let word = word.load(Relaxed);
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_noted_once_and_come_in_order() {
        let types = SeenTypes::default();
        assert_eq!(types.iter().next(), None);
        let noted = [0, 1, 28, 63, 64, 65, 255, 32_768, 65_535];
        noted.iter().rev().chain(&noted).for_each(|qtype| types.note(*qtype));
        assert!(types.iter().eq(noted));
    }
}
