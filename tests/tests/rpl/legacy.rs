//! Signatures that libraries no longer verify: DSA (RFC 2536) and RSA with SHA-1 or short keys (RFC
//! 3110).
//!
//! They only serve to decide which signatures of a replay file are meant to be valid.

use num_bigint::BigUint;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

pub const DSA: u8 = 3;
pub const RSASHA1: u8 = 5;
pub const DSA_NSEC3: u8 = 6;
pub const RSASHA1_NSEC3: u8 = 7;
pub const RSASHA256: u8 = 8;
pub const RSASHA512: u8 = 10;

/// Fewest bits of an RSA key that libraries accept.
const MODULUS_BITS: usize = 1024;
/// Sizes of DSA's numbers in bytes. The prime's size grows with the key's first byte.
const Q: usize = 20;
const P: usize = 64;
const P_STEP: usize = 8;

/// Whether validators may refuse a key, the data of a DNSKEY, for its algorithm or size.
pub fn is_legacy(key: &[u8]) -> bool {
    match key.get(3) {
        Some(&(DSA | RSASHA1 | DSA_NSEC3 | RSASHA1_NSEC3)) => true,
        Some(&(RSASHA256 | RSASHA512)) => {
            rsa(&key[4..]).is_some_and(|(_, n)| (n.bits() as usize) < MODULUS_BITS)
        }
        _ => false,
    }
}

/// Whether `signature` is valid for `message` and a key, the data of a DNSKEY.
pub fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let verified = match key.get(3) {
        Some(&(DSA | DSA_NSEC3)) => verify_dsa(&key[4..], message, signature),
        Some(&(RSASHA1 | RSASHA1_NSEC3)) => {
            verify_rsa(&key[4..], message, signature, &SHA1_FOR_LEGACY_USE_ONLY)
        }
        Some(&RSASHA256) => verify_rsa(&key[4..], message, signature, &SHA256),
        Some(&RSASHA512) => verify_rsa(&key[4..], message, signature, &SHA512),
        _ => None,
    };
    verified.unwrap_or(false)
}

fn number(bytes: &[u8]) -> BigUint {
    BigUint::from_bytes_be(bytes)
}

fn verify_dsa(key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool> {
    let (t, rest) = key.split_first()?;
    let size = P + P_STEP * usize::from(*t);
    let (q, rest) = rest.split_at_checked(Q)?;
    let [p, g, y] = [0, 1, 2].map(|nth| rest.get(nth * size..(nth + 1) * size));
    let (p, q, g, y) = (number(p?), number(q), number(g?), number(y?));
    let (r, s) = match signature {
        // The files use ASN.1 where RFC 2536 has a byte and two numbers.
        [0x30, ..] => {
            let (r, rest) = asn1_integer(signature.get(2..)?)?;
            (r, asn1_integer(rest)?.0)
        }
        _ => (number(signature.get(1..1 + Q)?), number(signature.get(1 + Q..1 + 2 * Q)?)),
    };
    let hash = number(digest(&SHA1_FOR_LEGACY_USE_ONLY, message).as_ref());
    let w = s.modinv(&q)?;
    let (u1, u2) = (hash * &w % &q, &r * &w % &q);
    Some(g.modpow(&u1, &p) * y.modpow(&u2, &p) % &p % &q == r)
}

/// Returns an integer of less than 128 bytes, and the bytes after it.
fn asn1_integer(bytes: &[u8]) -> Option<(BigUint, &[u8])> {
    let [0x02, length @ ..=0x7f, rest @ ..] = bytes else { return None };
    let (integer, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((number(integer), rest))
}

fn rsa(key: &[u8]) -> Option<(BigUint, BigUint)> {
    let (length, rest) = match key {
        [0, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        [length, rest @ ..] => (usize::from(*length), rest),
        [] => return None,
    };
    let (e, n) = rest.split_at_checked(length)?;
    Some((number(e), number(n)))
}

/// Verifies RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.2).
fn verify_rsa(key: &[u8], message: &[u8], signature: &[u8], hash: &'static Algorithm) -> Option<bool> {
    let prefix: &[u8] = match hash.output_len() {
        20 => &[0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14],
        32 => &[0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20],
        _ => &[0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 0x40],
    };
    let (e, n) = rsa(key)?;
    let digest = digest(hash, message);
    let size = n.bits().div_ceil(8) as usize;
    let padding = size.checked_sub(prefix.len() + digest.as_ref().len() + 3)?;
    let expected = [&[0, 1][..], &vec![0xff; padding], &[0], prefix, digest.as_ref()].concat();
    Some(number(signature).modpow(&e, &n) == number(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64, HEXLOWER};

    /// A key of 1024 bits, and its signature of "a message" with SHA-1, made by OpenSSL.
    const KEY: &str = "CJ+CxghIUaG/ILv0lIw1VWagvyWRt3aZtFxIg/kM34L2gMeGYqG7g9CLPUhR6Vd1BwKRU9uEwjdfl3M0Hq3ziLBP\
        ZsZvX6lDvCx71iXDoCGTGIgzkqvK0S2XJEBi4fK7LRRIqon7cixWj8PK6ijg3lzr5RwAku2/jwbvLZy2ZcjBNTLT\
        xwNwnLX3hNTW4AQzz7zTYtewpDzrRZd8OZ5ITV9uvJsM2cokw5Vr48Nd0GhAyLsdVmc9nwRpGSL8zSdR1UMFE1p0\
        cFfvYLvVuhk56qNS6fIDFBWqKMGZXwLpSvnFh+ZFH2WRJ37AQIoSzIEvgKvpRJ8n+VQYe4BJmcNx2++fZ7oJ1/+B\
        zyE0nLxkv7EtKM8pYzZOzneeDkNjQEH3yXcmr3IcyPyoxRX0L4mOX/S35dilzlFGvWThCZL6e89y3FGdRJqhEOm1\
        /Y0/t/jYx/HfKk88yW7u1oqdmjmYvIVH4FzKBbdmFa48RfhqXfHuX4hDTynsWBX3indH00ePIAr44zL1DglV6NJ6\
        +QhFgGYi8sil";
    const SIGNATURE: &str = "302d0214452b128bee5478401a85ab52fc88fdf7daa92df\
        10215008550336b5751946e4c2da79312593d2b4ff2eea4";

    #[test]
    fn dsa_signatures_are_verified() {
        let key = [&[1, 0, 3, DSA][..], &BASE64.decode(KEY.as_bytes()).unwrap()].concat();
        let signature = HEXLOWER.decode(SIGNATURE.as_bytes()).unwrap();
        assert!(is_legacy(&key));
        assert!(verify(&key, b"a message", &signature));
        assert!(!verify(&key, b"another", &signature));
        // Convert to the format of RFC 2536 section 3.
        let integer = |at: usize| signature[at + 2..at + 2 + usize::from(signature[at + 1])].to_vec();
        let (r, s) = (integer(2), integer(4 + usize::from(signature[3])));
        let last = |integer: &[u8]| integer[integer.len() - Q..].to_vec();
        assert!(verify(&key, b"a message", &[vec![8], last(&r), last(&s)].concat()));
        assert!(!verify(&key[..100], b"a message", &signature));
        assert!(!verify(&key, b"a message", &signature[..10]));
    }
}
