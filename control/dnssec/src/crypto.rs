//! Cryptographic algorithms, implemented by ring.

use ring::{
    digest,
    signature::{self, RsaPublicKeyComponents, UnparsedPublicKey},
};

/// DNSSEC algorithm numbers (IANA).
mod algorithm {
    pub const RSASHA1: u8 = 5;
    pub const RSASHA1_NSEC3_SHA1: u8 = 7;
    pub const RSASHA256: u8 = 8;
    pub const RSASHA512: u8 = 10;
    pub const ECDSAP256SHA256: u8 = 13;
    pub const ECDSAP384SHA384: u8 = 14;
    pub const ED25519: u8 = 15;
}

/// Digest types of DS records (IANA).
pub const SHA1: u8 = 1;
const SHA256: u8 = 2;
const SHA384: u8 = 4;

/// Whether signatures of this algorithm can be verified. A zone with other algorithms only counts
/// as unsigned (RFC 4035 section 5.2).
pub fn supports_algorithm(number: u8) -> bool {
    use algorithm::*;
    matches!(
        number,
        RSASHA1 | RSASHA1_NSEC3_SHA1 | RSASHA256 | RSASHA512 | ECDSAP256SHA256 | ECDSAP384SHA384 | ED25519
    )
}

/// Whether digests of this type can be computed.
pub fn supports_digest(number: u8) -> bool {
    digest_algorithm(number).is_some()
}

fn digest_algorithm(number: u8) -> Option<&'static digest::Algorithm> {
    match number {
        SHA1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        SHA256 => Some(&digest::SHA256),
        SHA384 => Some(&digest::SHA384),
        _ => None,
    }
}

/// Whether `expected` is the digest of `parts`.
pub fn digest_is(number: u8, parts: [&[u8]; 2], expected: &[u8]) -> bool {
    let Some(algorithm) = digest_algorithm(number) else { return false };
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref() == expected
}

/// Whether a key has signed a message. `key` is the public key in the form of a DNSKEY record.
pub fn verify(number: u8, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    use algorithm::*;
    let rsa = |parameters| {
        // Format of RSA keys: RFC 3110 section 2.
        let (exponent, modulus) = match key {
            [0, e1, e0, rest @ ..] => rest.split_at_checked(usize::from(u16::from_be_bytes([*e1, *e0]))),
            [len, rest @ ..] => rest.split_at_checked(usize::from(*len)),
            [] => None,
        }?;
        let [e, n] = [exponent, modulus].map(without_leading_zeros);
        RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).ok()
    };
    let point = |parameters| {
        // An uncompressed point (RFC 6605 section 4).
        let key = [&[4], key].concat();
        UnparsedPublicKey::new(parameters, key).verify(message, signature).ok()
    };
    let verified = match number {
        RSASHA1 | RSASHA1_NSEC3_SHA1 => rsa(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY),
        RSASHA256 => rsa(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
        RSASHA512 => rsa(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
        ECDSAP256SHA256 => point(&signature::ECDSA_P256_SHA256_FIXED),
        ECDSAP384SHA384 => point(&signature::ECDSA_P384_SHA384_FIXED),
        ED25519 => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature).ok(),
        _ => None,
    };
    verified.is_some()
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Returns the hash of a name (RFC 5155 section 5). It costs `iterations + 1` digests of SHA-1.
pub fn nsec3_hash(name: &[u8], salt: &[u8], iterations: u16) -> [u8; 20] {
    let hash = |data: &[u8]| {
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(data);
        context.update(salt);
        let mut bytes = [0; 20];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    };
    (0..iterations).fold(hash(name), |bytes, _| hash(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{base32, name};

    #[test]
    fn names_are_hashed_as_in_appendix_a_of_rfc_5155() {
        for (text, hash) in [
            ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("ai.example", "gjeqe526plbf1g8mklp59enfd789njgi"),
            ("ns1.example", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
            ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("x.w.example", "b4um86eghhds6nea196smvmlo4ors995"),
        ] {
            let salt = b"\xaa\xbb\xcc\xdd";
            assert_eq!(nsec3_hash(name(text).as_wire(), salt, 12)[..], base32(hash), "{text}");
        }
    }
}
