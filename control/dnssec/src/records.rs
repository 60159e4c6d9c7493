//! RDATA of the records that prove answers.

use crate::{
    crypto,
    name::{Name, wire_len},
};

/// Flags of DNSKEY records: zone key (RFC 4034 section 2.1.1), revoked key (RFC 5011 section 2.1),
/// and key that is meant as a trust anchor (RFC 4034 section 2.1.1: secure entry point).
const ZONE_KEY: u16 = 0x0100;
const REVOKE: u16 = 0x0080;
const SEP: u16 = 0x0001;
const PROTOCOL: u8 = 3;

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A signature (RFC 4034 section 3.1).
#[derive(Clone, Debug)]
pub struct Rrsig<'a> {
    pub covered: u16,
    pub algorithm: u8,
    pub labels: u8,
    pub original_ttl: u32,
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    pub signer: Name,
    pub signature: &'a [u8],
    /// Bytes of all fields before the signer.
    head: &'a [u8],
}

impl<'a> Rrsig<'a> {
    const HEAD: usize = 18;

    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let (head, rest) = rdata.split_at_checked(Self::HEAD)?;
        let (signer, signature) = rest.split_at_checked(wire_len(rest)?)?;
        Some(Rrsig {
            covered: word(head, 0)?,
            algorithm: head[2],
            labels: head[3],
            original_ttl: long(head, 4)?,
            expiration: long(head, 8)?,
            inception: long(head, 12)?,
            key_tag: word(head, 16)?,
            signer: Name::from_wire(signer)?,
            signature,
            head,
        })
    }

    /// Returns the bytes that are signed before the records (RFC 4034 section 3.1.8.1).
    pub fn signed_head(&self) -> Vec<u8> {
        [self.head, self.signer.as_wire()].concat()
    }
}

/// A public key, of a zone or of something in it (RFC 4034 section 2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnskey {
    rdata: Box<[u8]>,
}

impl Dnskey {
    const HEAD: usize = 4;

    pub fn parse(rdata: &[u8]) -> Option<Self> {
        (rdata.len() >= Self::HEAD).then(|| Dnskey { rdata: rdata.into() })
    }

    pub fn rdata(&self) -> &[u8] {
        &self.rdata
    }

    pub fn algorithm(&self) -> u8 {
        self.rdata[3]
    }

    pub fn key(&self) -> &[u8] {
        &self.rdata[Self::HEAD..]
    }

    fn flags(&self) -> u16 {
        u16::from_be_bytes([self.rdata[0], self.rdata[1]])
    }

    /// Whether the key may sign a zone (RFC 4034 sections 2.1.1 and 2.1.2).
    pub fn is_for_zones(&self) -> bool {
        self.flags() & ZONE_KEY != 0 && self.rdata[2] == PROTOCOL
    }

    pub fn is_revoked(&self) -> bool {
        self.flags() & REVOKE != 0
    }

    /// Whether the key is meant as a trust anchor.
    pub fn is_entry_point(&self) -> bool {
        self.flags() & SEP != 0
    }

    /// Returns the key as it was before it was revoked.
    pub fn before_revocation(&self) -> Self {
        let mut rdata = self.rdata.clone();
        rdata[1] &= !(REVOKE as u8);
        Dnskey { rdata }
    }

    /// Returns the key tag (RFC 4034 appendix B).
    pub fn tag(&self) -> u16 {
        let weigh = |(at, byte): (usize, &u8)| u32::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
        let sum: u32 = self.rdata.iter().enumerate().map(weigh).sum();
        (sum + (sum >> 16)) as u16
    }
}

/// Digest of a key, signed by the parent zone (RFC 4034 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ds {
    pub key_tag: u16,
    pub algorithm: u8,
    pub digest_type: u8,
    pub digest: Box<[u8]>,
}

impl Ds {
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let (&[t1, t0, algorithm, digest_type], digest) = rdata.split_first_chunk()?;
        let key_tag = u16::from_be_bytes([t1, t0]);
        Some(Ds { key_tag, algorithm, digest_type, digest: digest.into() })
    }

    /// Returns the RDATA of the record.
    pub fn rdata(&self) -> Vec<u8> {
        [&self.key_tag.to_be_bytes()[..], &[self.algorithm, self.digest_type], &self.digest].concat()
    }

    /// Whether this is the digest of a zone's key, whose tag is `tag`.
    pub fn is_of(&self, zone: &Name, tag: u16, key: &Dnskey) -> bool {
        (self.key_tag, self.algorithm) == (tag, key.algorithm())
            && key.is_for_zones()
            && crypto::digest_is(self.digest_type, [zone.as_wire(), key.rdata()], &self.digest)
    }
}

/// Types of a name, as a bitmap (RFC 4034 section 4.1.2).
#[derive(Clone, Debug)]
pub struct Types(Box<[u8]>);

impl Types {
    pub fn has(&self, rtype: u16) -> bool {
        let [window, low] = rtype.to_be_bytes();
        let mut rest = &*self.0;
        while let Some(([number, len], tail)) = rest.split_first_chunk() {
            let Some((bitmap, tail)) = tail.split_at_checked(usize::from(*len)) else { return false };
            if *number == window {
                let byte = bitmap.get(usize::from(low / 8)).copied().unwrap_or(0);
                return byte & 0x80 >> (low % 8) != 0;
            }
            rest = tail;
        }
        false
    }

    /// Whether the bitmap is well-formed, so that a missing type is really denied.
    fn is_sound(&self) -> bool {
        let (mut rest, mut last) = (&*self.0, None);
        while let Some((number, tail)) = rest.split_first() {
            let Some((len @ 1..=32, tail)) = tail.split_first() else { return false };
            let Some((_, tail)) = tail.split_at_checked(usize::from(*len)) else { return false };
            if last.is_some_and(|last| last >= *number) {
                return false;
            }
            (rest, last) = (tail, Some(*number));
        }
        true
    }
}

/// Next name of a zone, and the types of the owner (RFC 4034 section 4.1).
#[derive(Clone, Debug)]
pub struct Nsec {
    pub next: Name,
    pub types: Types,
}

impl Nsec {
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let (next, types) = rdata.split_at_checked(wire_len(rdata)?)?;
        let types = Types(types.into());
        types.is_sound().then_some(())?;
        Some(Nsec { next: Name::from_wire(next)?, types })
    }
}

/// Bytes of a SHA-1 hash, as in NSEC3 records.
pub const HASH: usize = 20;

/// Next hash of a zone, and the types of the owner's name (RFC 5155 section 3).
#[derive(Clone, Debug)]
pub struct Nsec3 {
    pub flags: u8,
    pub iterations: u16,
    pub salt: Box<[u8]>,
    pub next: [u8; HASH],
    pub types: Types,
}

impl Nsec3 {
    const SHA1: u8 = 1;

    /// Parses RDATA; `None` also for algorithms other than SHA-1 (RFC 5155 section 8.1).
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let (&[algorithm, flags, i1, i0, salt], rest) = rdata.split_first_chunk()?;
        let (salt, rest) = rest.split_at_checked(usize::from(salt))?;
        let (len, rest) = rest.split_first()?;
        let (next, types) = rest.split_at_checked(usize::from(*len))?;
        let types = Types(types.into());
        (algorithm == Self::SHA1 && types.is_sound()).then_some(())?;
        let iterations = u16::from_be_bytes([i1, i0]);
        Some(Nsec3 { flags, iterations, salt: salt.into(), next: next.try_into().ok()?, types })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_tell_the_types_that_they_have() {
        // RFC 4034 section 4.3: A MX RRSIG NSEC TYPE1234.
        let mut bitmap = b"\x00\x06\x40\x01\x00\x00\x00\x03\x04\x1b".to_vec();
        bitmap.extend([0; 26]);
        bitmap.push(0x20);
        let types = Types(bitmap.into());
        let has: Vec<_> = (0..=u16::MAX).filter(|rtype| types.has(*rtype)).collect();
        assert_eq!((has, types.is_sound()), (vec![1, 15, 46, 47, 1234], true));
        for unsound in [&b"\x00"[..], b"\x00\x00", b"\x00\x02\x40", b"\x01\x01\x40\x00\x01\x40"] {
            assert!(!Types(unsound.into()).is_sound(), "{unsound:?}");
        }
    }

    #[test]
    fn what_is_cut_is_none() {
        let nsec3 = [&b"\x01\x00\x00\x0c\x02\xaa\xbb\x14"[..], &[7; 20], b"\x00\x01\x40"].concat();
        assert!((0..nsec3.len() - 3).all(|len| Nsec3::parse(&nsec3[..len]).is_none()));
        let parsed = Nsec3::parse(&nsec3).unwrap();
        assert_eq!((parsed.iterations, &*parsed.salt, parsed.next), (12, &b"\xaa\xbb"[..], [7; 20]));
        assert!(Nsec3::parse(&[&[2], &nsec3[1..]].concat()).is_none(), "another algorithm");
        let rrsig = [&[0; 18][..], b"\x03www\x00", &[9; 64]].concat();
        assert!((0..23).all(|len| Rrsig::parse(&rrsig[..len]).is_none()));
        assert_eq!(Rrsig::parse(&rrsig).unwrap().signature, [9; 64]);
        assert!(Ds::parse(&[0; 3]).is_none() && Dnskey::parse(&[0; 3]).is_none());
    }
}
