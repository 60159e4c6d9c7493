//! The Internet checksum (RFC 1071), summed eight bytes at a time in the machine's own byte order.
//!
//! A one's complement sum may be made in any word size and either byte order, and folded and swapped at the end
//! (RFC 1071 section 2): so a sum here is a `u64` of native-order words, to which others may be added.

/// Adds `bytes` to a running sum. A last odd byte is padded with a zero on the right.
#[inline(always)]
pub fn sum(bytes: &[u8], sum: u64) -> u64 {
    // 128 bits take all carries, so that each word costs an addition and its carry, and nothing else.
    let mut total = u128::from(sum);
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for word in block.as_chunks::<8>().0 {
            total += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let (words, mut rest) = rest.as_chunks::<8>();
    for word in words {
        total += u128::from(u64::from_ne_bytes(*word));
    }
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        total += u128::from(u32::from_ne_bytes(*word));
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<2>() {
        total += u128::from(u16::from_ne_bytes(*word));
        rest = tail;
    }
    if let [last] = rest {
        total += u128::from(u16::from_ne_bytes([*last, 0]));
    }
    add(total as u64, (total >> 64) as u64)
}

/// Adds two sums, carrying round.
#[inline(always)]
pub fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// The change of a sum where `old` becomes `new` (RFC 1624: add the complement of what goes and what comes).
#[inline(always)]
pub fn change(old: u64, new: u64) -> u64 {
    add(!old, new)
}

/// The sum that the same bytes have when they stand one byte further on (RFC 1071 section 2, byte order).
#[inline(always)]
pub fn shifted(sum: u64) -> u64 {
    sum.rotate_left(8)
}

/// One 16-bit word in host order, as a sum.
#[inline(always)]
pub fn word(value: u16) -> u64 {
    u64::from(value.to_be())
}

/// Folds a sum to 16 bits in host order. 0xffff is the fold of a packet with a right checksum in it.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    fold_native(sum).to_be()
}

/// Folds a sum to 16 bits in the machine's own order: itself a sum.
#[inline(always)]
pub fn fold_native(sum: u64) -> u16 {
    let (high, low) = ((sum >> 32) as u32, sum as u32);
    let (sum, carry) = high.overflowing_add(low);
    let sum = sum + u32::from(carry);
    let (high, low) = ((sum >> 16) as u16, sum as u16);
    let (sum, carry) = high.overflowing_add(low);
    sum + u16::from(carry)
}
