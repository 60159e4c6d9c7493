//! The Internet checksum (RFC 1071), in two steps, so that most of it can be computed in advance.

/// Adds up `bytes` as big-endian 16-bit words, the last one padded with zero.
///
/// The 32-bit result cannot overflow below 128 KiB, which is more than any IP packet.
pub fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let tail = rest.first().map_or(0, |&last| u32::from(last) << 8);
    words.iter().fold(tail, |total, &word| total + u32::from(u16::from_be_bytes(word)))
}

/// Folds the high half of a [`sum`] into the low half. The checksum field is its complement.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_1071_example() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn odd_length_is_padded_at_the_end() {
        assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x1234 + 0x5600);
    }

    #[test]
    fn both_carries_are_folded() {
        assert_eq!(fold(0x0001_ffff), 1);
        assert_eq!(fold(u32::MAX), 0xffff);
    }
}
