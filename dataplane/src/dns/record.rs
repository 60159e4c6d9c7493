//! Resource records in a message, read without decoding their data.

/// Fixed part of a record, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Type of the record.
    pub rtype: u16,
    /// Class; for OPT, the sender's UDP size.
    pub class: u16,
    /// Time to live in seconds, as sent; for OPT, extended RCODE, version and flags.
    pub ttl: u32,
    /// Offset of the TTL in the message.
    pub ttl_at: usize,
    /// Offset of the data in the message.
    pub rdata: usize,
    /// Offset past the data.
    pub end: usize,
}

impl RecordHead {
    /// Returns the record at `at`; `None` if it does not fit in the message.
    #[inline]
    pub fn parse(message: &[u8], at: usize) -> Option<RecordHead> {
        let fixed = skip_name(message, at)?;
        let [t1, t0, c1, c0, l3, l2, l1, l0, d1, d0] = *message.get(fixed..)?.first_chunk::<10>()?;
        let rdata = fixed + 10;
        let end = rdata + usize::from(u16::from_be_bytes([d1, d0]));
        (end <= message.len()).then_some(RecordHead {
            rtype: u16::from_be_bytes([t1, t0]),
            class: u16::from_be_bytes([c1, c0]),
            ttl: u32::from_be_bytes([l3, l2, l1, l0]),
            ttl_at: fixed + 4,
            rdata,
            end,
        })
    }
}

/// Returns the offset past the name at `at`. A compression pointer must point back, and not into the
/// header, whose bytes differ in the reply to a client. It ends the name here; it is not followed.
#[inline]
pub fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let len = *message.get(at)?;
        match len {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(len),
            0xc0.. => {
                let target = usize::from(len & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                return (super::header::LEN..start).contains(&target).then_some(at + 2);
            }
            _ => return None,
        }
        if at - start > super::NAME_MAX {
            return None;
        }
    }
}
