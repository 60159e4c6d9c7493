//! Templates of queries, complete except for the ID.

use crate::checksum::{fold, sum};

/// Longest query in bytes: a header, a name of 255 bytes, type and class, an OPT record with a
/// cookie, and some spare.
pub(super) const MAX_MESSAGE: usize = 318;

const DNS_HEADER_LEN: usize = 12;

/// Entry of [`TEMPLATES_MAP`](super::TEMPLATES_MAP).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Length of the whole message, with its ID.
    len: u16,
    /// Folded sum over `rest`, so that the program need not read the message to send it.
    sum: u16,
    /// Message after its ID.
    rest: [u8; MAX_MESSAGE - 2],
}

const _: () = assert!(size_of::<Template>() == 320, "no padding: it is copied to the kernel as bytes");

impl Template {
    /// Creates a template from a whole DNS message, whose ID does not matter. `None` if it is
    /// shorter than a DNS header or too long.
    pub fn new(message: &[u8]) -> Option<Self> {
        if message.len() < DNS_HEADER_LEN || message.len() > MAX_MESSAGE {
            return None;
        }
        let mut template =
            Self { len: message.len() as u16, sum: fold(sum(&message[2..])), rest: [0; MAX_MESSAGE - 2] };
        template.rest[..message.len() - 2].copy_from_slice(&message[2..]);
        Some(template)
    }

    /// Returns the length of the message with its ID; `None` for an entry that was never written.
    #[inline(always)]
    #[expect(
        clippy::manual_range_contains,
        reason = "one subtraction for two comparisons loses the verifier"
    )]
    pub fn message_len(&self) -> Option<usize> {
        let len = usize::from(self.len);
        if len < DNS_HEADER_LEN || len > MAX_MESSAGE { None } else { Some(len) }
    }

    #[inline(always)]
    pub fn sum(&self) -> u32 {
        u32::from(self.sum)
    }

    /// Returns the message after its ID, in a buffer that may be longer.
    #[inline(always)]
    pub fn rest(&self) -> &[u8; MAX_MESSAGE - 2] {
        &self.rest
    }
}

// SAFETY: `repr(C)`, integers and bytes only, without padding, and any bytes are a valid value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for Template {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_left_out() {
        let one = Template::new(&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3]);
        let other = Template::new(&[0x56, 0x78, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3]).expect("a query");
        assert_eq!(one, Some(other));
        assert_eq!(other.message_len(), Some(13));
        assert_eq!(other.sum(), 0x0100 + 0x0001 + 0x0300);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        assert_eq!(Template::new(&[0; 11]), None);
        assert_eq!(Template::new(&[0; MAX_MESSAGE + 1]), None);
        assert!(Template::new(&[0; MAX_MESSAGE]).is_some());
    }
}
