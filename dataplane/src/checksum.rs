//! The Internet checksum (RFC 1071), summed eight bytes at a time in native byte order.
//!
//! A one's complement sum may be computed in any word size and either byte order, and folded and
//! swapped at the end (RFC 1071 section 2). So a sum here is a `u64` of native-order words, to
//! which more may be added.

use zerocopy::transmute;

/// Verification of received checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// The worker verifies them.
    Verify,
    /// The worker verifies them. The kernel of this host may have copied the packet from memory,
    /// though, and then its UDP checksum may be
    /// [partial](crate::packet::header::Udp::has_partial_checksum).
    AllowPartial,
    /// The link cannot corrupt packets, and may carry partial checksums: the worker takes them as
    /// right, and computes complete ones for replies.
    Trust,
    /// The kernel verifies received checksums and computes those of sent packets: the worker does
    /// neither.
    Unused,
}

impl Checksums {
    /// Whether the worker verifies checksums.
    #[inline(always)]
    pub fn are_verified(self) -> bool {
        matches!(self, Checksums::Verify | Checksums::AllowPartial)
    }
}

/// Adds `bytes` to a running sum. A last odd byte is padded with a zero on the right.
#[inline(always)]
pub fn sum(bytes: &[u8], sum: u64) -> u64 {
    sum_rest(bytes, 0, sum)
}

/// Adds bytes that are usually `WORDS` words or more: each of those costs one instruction.
#[inline(always)]
pub fn sum_from<const WORDS: usize>(bytes: &[u8], sum: u64) -> u64 {
    match bytes.as_chunks::<8>().0.split_first_chunk::<WORDS>() {
        Some((first, _)) => sum_rest(bytes, 8 * WORDS, chain(sum, first.map(u64::from_ne_bytes))),
        None => sum_rest(bytes, 0, sum),
    }
}

/// Adds `bytes` from `at` on. The steps from 16 bytes down are those that most messages need after
/// their headers, without a loop.
#[inline(always)]
fn sum_rest(bytes: &[u8], at: usize, mut sum: u64) -> u64 {
    let rest = &bytes[at..];
    let (long, rest) = rest.split_at(rest.len() & !31);
    if !long.is_empty() {
        sum = sum_long(long, sum);
    }
    let (block, rest) = rest.as_chunks::<16>();
    if let [block] = block {
        let words: [u64; 2] = transmute!(*block);
        sum = chain(sum, words);
    }
    let (word, rest) = rest.as_chunks::<8>();
    if let [word] = word {
        sum = add(sum, u64::from_ne_bytes(*word));
    }
    if rest.is_empty() { sum } else { add(sum, last(bytes, rest.len())) }
}

#[cold]
fn sum_long(bytes: &[u8], mut sum: u64) -> u64 {
    for block in bytes.as_chunks::<32>().0 {
        let words: [u64; 4] = transmute!(*block);
        sum = chain(sum, words);
    }
    sum
}

/// Returns the last `len` bytes, less than eight, as a word with zeros after them.
#[inline(always)]
fn last(bytes: &[u8], len: usize) -> u64 {
    match bytes.last_chunk::<8>() {
        // One load, and a shift that removes the bytes already summed, instead of a step for each
        // power of two.
        Some(word) => (u64::from_le_bytes(*word) >> (8 * (8 - len) % 64)).to_le(),
        None => short(bytes),
    }
}

#[cold]
fn short(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// Adds words to a sum, for one instruction each: each addition takes the carry of the one before,
/// and the last carry is added at the end.
#[inline(always)]
pub fn chain<const N: usize>(mut sum: u64, words: [u64; N]) -> u64 {
    let mut carry = false;
    for word in words {
        (sum, carry) = sum.carrying_add(word, carry);
    }
    // After a carry out, the sum is less than 2^64 - 1.
    sum + u64::from(carry)
}

/// Adds two sums with end-around carry.
#[inline(always)]
pub fn add(a: u64, b: u64) -> u64 {
    chain(a, [b])
}

/// Whether a sum that includes a checksum comes to zero, as it does if the checksum is right. The
/// sum must not be of zeros only, which have no checksum: every sum includes a version or a
/// protocol number.
#[inline(always)]
pub fn is_right(sum: u64) -> bool {
    // A sum folds to 0xffff if it is divisible by it. One multiplication by the inverse modulo 2^64
    // tests that, instead of 12 instructions to fold (Granlund and Montgomery, "Division by
    // invariant integers", 1994, section 9).
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    sum.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}

/// Returns the change of a sum if `old` becomes `new` (RFC 1624: add the complement of the old
/// value and the new value).
#[inline(always)]
pub fn change(old: u64, new: u64) -> u64 {
    add(!old, new)
}

/// Returns the sum of a number, less than 2^56, that is written at offset `at` so that its last
/// byte is at an odd offset from there: lengths, TTLs and their differences.
#[inline(always)]
pub fn number(number: u64, at: usize) -> u64 {
    // The value of a word in the other byte order is 256 times its own: modulo 0xffff, that swaps
    // the bytes. The upper words of a number count like the lowest, since 65,536 is one more than
    // 0xffff.
    let native = cfg!(target_endian = "big");
    number << (8 * (usize::from(!native) ^ at & 1))
}

/// Returns the sum of bytes at offset `at`, from their sum at an even one (RFC 1071 section 2, byte
/// order).
#[inline(always)]
pub fn placed(sum: u64, at: usize) -> u64 {
    sum.rotate_left(8 * (at as u32 & 1))
}

/// Returns a 16-bit word in host order as a sum.
#[inline(always)]
pub fn word(value: u16) -> u64 {
    u64::from(value.to_be())
}

/// Returns the checksum of a packet whose summed content becomes less by `less`, below 2^63: the
/// checksum rises by as much. It is never zero, which means that there is none (RFC 768).
#[inline(always)]
pub fn raised(checksum: [u8; 2], less: u64) -> [u8; 2] {
    fold_native(u64::from(u16::from_ne_bytes(checksum)) + less).to_ne_bytes()
}

/// Returns the checksum of a datagram whose other content has this sum. It is never zero, which means that
/// there is none (RFC 768).
#[inline(always)]
pub fn complement(sum: u64) -> [u8; 2] {
    let checksum = !fold_native(sum);
    if checksum == 0 { [0xff; 2] } else { checksum.to_ne_bytes() }
}

/// Folds a sum to 16 bits in host order. A packet with a right checksum folds to 0xffff.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    fold_native(sum).to_be()
}

/// Folds a sum to 16 bits in native order, which is itself a sum.
#[inline(always)]
pub fn fold_native(sum: u64) -> u16 {
    // Adds the two halves in the upper half of the result, with the carry from the lower half.
    let half = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (half.wrapping_add(half.rotate_left(16)) >> 16) as u16
}
