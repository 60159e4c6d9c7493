//! The Internet checksum (RFC 1071), summed eight bytes at a time in the machine's own byte order.
//!
//! A one's complement sum may be made in any word size and either byte order, and folded and swapped at the end
//! (RFC 1071 section 2): so a sum here is a `u64` of native-order words, to which others may be added.

/// Adds `bytes` to a running sum. A last odd byte is padded with a zero on the right.
///
/// `sum` must be a sum of these functions; 2^32 words fit before a carry could be lost.
#[inline(always)]
pub fn sum(bytes: &[u8], sum: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = sum;
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let mut last = [0u8; 4];
    if !rest.is_empty() {
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        total += u64::from(u32::from_ne_bytes(last));
    }
    total
}

/// One 16-bit word in host order, as a sum.
#[inline(always)]
pub fn word(value: u16) -> u64 {
    u64::from(value.to_be())
}

/// Folds a sum to 16 bits in host order. 0xffff is the fold of a packet with a right checksum in it.
#[inline(always)]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum as u16).to_be()
}
