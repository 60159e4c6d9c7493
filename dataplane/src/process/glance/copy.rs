//! Copies of records and options into replies, in few steps.

use crate::{
    cache::Parts,
    checksum,
    dns::option::OPT_MAX,
    simd::{BLOCK, Simd},
};
use zerocopy::transmute;

/// Copies the records to the start of `to`. It may copy bytes after them too: they are beyond the end of
/// the packet, and are not sent.
#[inline(always)]
pub(super) fn copy_records(to: &mut [u8], parts: &Parts<'_>) {
    let len = parts.wire.len();
    let is_copied = match len {
        0..=BLOCK => copy_chunk::<BLOCK>(to, parts.memory),
        33..=64 => copy_chunk::<64>(to, parts.memory),
        65..=128 => copy_chunk::<128>(to, parts.memory),
        129..=256 => copy_chunk::<256>(to, parts.memory),
        _ => false,
    };
    if !is_copied {
        to[..len].copy_from_slice(parts.wire);
    }
}

/// Copies `len` bytes of options to the start of `to`, and perhaps zeros after them. Returns their sum.
#[inline(always)]
pub(super) fn copy_options<S: Simd>(simd: S, to: &mut [u8], from: &[u8; OPT_MAX], len: usize) -> u64 {
    match (to.first_chunk_mut::<BLOCK>(), from.first_chunk::<BLOCK>()) {
        (Some(to), Some(from)) if len <= BLOCK => {
            *to = *from;
            let [a, b, c, d]: [u64; 4] = transmute!(*from);
            checksum::chain(a, [b, c, d])
        }
        _ => {
            to[..len].copy_from_slice(&from[..len]);
            simd.sum(from, len)
        }
    }
}

/// Copies `N` bytes to the start of `to`. Returns false if one of the slices has less.
#[inline(always)]
fn copy_chunk<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    match (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        (Some(to), Some(from)) => {
            *to = *from;
            true
        }
        _ => false,
    }
}
