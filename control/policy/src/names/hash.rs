//! Keyed hashes of a name and of the names above it.

use arrayvec::ArrayVec;
use siphasher::{sip::SipHasher13, sip128};
use std::hash::Hasher;

/// Most labels of a name, without the root: 127 of one byte each fill its 255 bytes.
pub const LABELS_MAX: usize = 127;

/// Bits of a fingerprint: a table keeps each in a word of 64, beside three of its own.
pub(super) const FINGERPRINT_BITS: u32 = 61;

/// Key of all fingerprints in a process. Lists with the same key share the hashes of a question.
#[derive(Clone, Copy)]
pub struct NameKey(SipHasher13);

/// Fingerprints of a name and of the names above it.
#[derive(Debug, Default)]
pub struct Path {
    /// By number of labels: the root comes first, and the name itself last.
    fingerprints: ArrayVec<u64, { LABELS_MAX + 1 }>,
    /// Numbers of labels that have a fingerprint, as bits.
    depths: u128,
    labels: u8,
}

impl NameKey {
    /// Returns a key made from random bytes, which nobody outside the process may learn.
    pub fn new(random: &[u8; 16]) -> Self {
        NameKey(SipHasher13::new_with_key(random))
    }

    /// Sets `path` to the fingerprints of `name`, in wire format and lowercased, and of the names
    /// above it: of those whose number of labels has a bit in `depths`. `None`: `name` is no name in
    /// wire format.
    ///
    /// The hash takes the labels from the root inwards, so that all fingerprints cost little more
    /// than the last one. Each label begins a new word with its length, so different names are
    /// different sequences of words.
    #[inline]
    pub fn read(&self, path: &mut Path, name: &[u8], depths: u128) -> Option<()> {
        let mut starts = ArrayVec::new();
        label_starts(name, &mut starts)?;
        path.labels = starts.len() as u8;
        path.fingerprints.clear();
        let mut hash = self.0;
        let mut wanted = depths;
        path.fingerprints.try_push(if wanted & 1 == 1 { fingerprint(&hash) } else { 0 }).ok()?;
        for start in starts.iter().rev() {
            wanted >>= 1;
            if wanted == 0 {
                break;
            }
            write_label(&mut hash, name, usize::from(*start));
            path.fingerprints.try_push(if wanted & 1 == 1 { fingerprint(&hash) } else { 0 }).ok()?;
        }
        path.depths = depths & u128::MAX >> (LABELS_MAX + 1 - path.fingerprints.len());
        Some(())
    }

    /// Returns the fingerprint of a name and its number of labels. `None`: it is no name in wire
    /// format.
    pub fn fingerprint(&self, name: &[u8]) -> Option<(u64, u8)> {
        let mut path = Path::default();
        self.read(&mut path, name, u128::MAX)?;
        Some((path.at(path.labels)?, path.labels))
    }

    /// Returns a hasher of 128 bits with this key.
    pub(crate) fn hasher128(&self) -> sip128::SipHasher13 {
        sip128::SipHasher13::new_with_key(&self.0.key())
    }
}

impl std::fmt::Debug for NameKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NameKey")
    }
}

impl Path {
    /// Number of labels of the name, without the root.
    pub fn labels(&self) -> u8 {
        self.labels
    }

    /// Returns the fingerprint of the name with the last `labels` labels.
    #[inline]
    pub fn at(&self, labels: u8) -> Option<u64> {
        let known = self.depths.checked_shr(u32::from(labels)).unwrap_or(0) & 1 == 1;
        self.fingerprints.get(usize::from(labels)).copied().filter(|_| known)
    }

    /// Numbers of labels that have a fingerprint, as bits.
    pub fn depths(&self) -> u128 {
        self.depths
    }
}

/// Returns the part of `name` with its last `labels` labels, or the whole name if it has fewer.
pub fn last_labels(name: &[u8], labels: u8) -> &[u8] {
    let mut starts = ArrayVec::new();
    let _ = label_starts(name, &mut starts);
    let Some(skipped) = starts.len().checked_sub(usize::from(labels)) else { return name };
    // The root has no start of its own: it is the last byte.
    let start = starts.get(skipped).map_or(name.len().saturating_sub(1), |start| usize::from(*start));
    name.get(start..).unwrap_or(name)
}

/// Sets `starts` to the positions of the labels' length bytes, without the root's.
#[inline]
fn label_starts(name: &[u8], starts: &mut ArrayVec<u8, LABELS_MAX>) -> Option<()> {
    let mut at = 0;
    loop {
        match *name.get(at)? {
            0 => return (at + 1 == name.len()).then_some(()),
            len @ 1..=63 => {
                starts.try_push(u8::try_from(at).ok()?).ok()?;
                at += 1 + usize::from(len);
            }
            _ => return None,
        }
    }
}

#[inline]
fn write_label(hash: &mut SipHasher13, name: &[u8], start: usize) {
    let mut left = name.get(start).map_or(0, |len| usize::from(*len) + 1);
    let mut at = start;
    while left > 0 {
        let bytes = left.min(8);
        hash.write_u64(word(name, at) & (u64::MAX >> (64 - 8 * bytes)));
        at += bytes;
        left -= bytes;
    }
}

/// Returns the eight bytes at `at`, with zeros after the name's end.
#[inline]
fn word(name: &[u8], at: usize) -> u64 {
    let rest = name.get(at..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_le_bytes(*bytes);
    }
    match name.last_chunk() {
        Some(bytes) if !rest.is_empty() => u64::from_le_bytes(*bytes) >> (64 - 8 * rest.len()),
        _ => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[inline]
fn fingerprint(hash: &SipHasher13) -> u64 {
    hash.finish() >> (u64::BITS - FINGERPRINT_BITS)
}
