//! DNS cookies for clients (RFC 7873), with server cookies that all servers of an anycast address
//! accept (RFC 9018).
//!
//! Only somebody at the client's address can have seen its server cookie. No state is kept per
//! client: the cookie is a keyed hash, and the time at which it was made.

use std::{fmt, net::IpAddr};
use zerocopy::transmute;

/// Size of a client cookie in bytes.
pub const CLIENT_LEN: usize = 8;
/// Size of our server cookies in bytes (RFC 9018 section 4).
pub const SERVER_LEN: usize = 16;
/// Sizes that server cookies of other servers may have, in bytes (RFC 7873 section 4).
const SERVER_LENS: std::ops::RangeInclusive<usize> = 8..=32;

/// Version of server cookies (RFC 9018 section 4.1).
const VERSION: u8 = 1;
/// Greatest age of a valid server cookie, in seconds (RFC 9018 section 4.3).
const AGE_MAX: u32 = 3_600;
/// Age after which a new server cookie is sent, in seconds (RFC 9018 section 4.3).
const AGE_RENEWED: u32 = 1_800;
/// Most seconds by which the clock of another server of the fleet may be ahead of ours (RFC 9018
/// section 4.3).
const AHEAD_MAX: u32 = 300;

/// Client and server cookie, as in a reply's option.
pub type Both = [u8; CLIENT_LEN + SERVER_LEN];

/// Content of a client's COOKIE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Client cookie, which the reply repeats.
    pub client: [u8; CLIENT_LEN],
    /// Server cookie that the client returns, if it has the length of ours.
    pub server: Option<[u8; SERVER_LEN]>,
}

/// Presence of a COOKIE option in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sent {
    /// No COOKIE option.
    #[default]
    Nothing,
    /// A COOKIE option of an invalid length.
    Malformed,
    /// A valid COOKIE option.
    Cookie(Cookie),
}

impl Cookie {
    /// Whether an option may have `len` bytes of data (RFC 7873 section 5.2.2).
    #[inline(always)]
    pub fn is_length(len: usize) -> bool {
        len == CLIENT_LEN || len.checked_sub(CLIENT_LEN).is_some_and(|len| SERVER_LENS.contains(&len))
    }

    /// Parses the option's data; `None` if its length is invalid (RFC 7873 section 5.2.2: FORMERR).
    #[inline(always)]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk()?;
        Self::is_length(data.len()).then(|| Cookie { client: *client, server: server.try_into().ok() })
    }
}

/// Secrets that server cookies are made and checked with.
#[derive(Clone)]
pub struct Cookies {
    secret: Secret,
    /// Secret that new cookies are no longer, or not yet, made with (RFC 9018 section 5).
    other: Option<Secret>,
}

/// Secret of 128 bits that only the servers of a fleet know.
pub type Secret = [u8; 16];

impl fmt::Debug for Cookies {
    /// Leaves out the secrets, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies").finish_non_exhaustive()
    }
}

impl Cookies {
    /// Creates cookies with `secret`, and also accepts those made with `other`.
    pub fn new(secret: Secret, other: Option<Secret>) -> Self {
        Cookies { secret, other }
    }

    /// Returns the reply's cookies for `cookie`, which came from `client` at the Unix time `now`,
    /// and whether its server cookie was a valid one of ours.
    pub fn answer(&self, cookie: &Cookie, client: IpAddr, now: u32) -> (Both, bool) {
        let (mut good, mut renewed) = (false, true);
        if let Some(server) = &cookie.server {
            let age = now.wrapping_sub(made_at(server)) as i32;
            let timely = age <= AGE_MAX as i32 && age >= -(AHEAD_MAX as i32);
            if timely && server[0] == VERSION {
                let is_of = |secret: &Secret| hash(secret, &cookie.client, server, client) == server[8..];
                let current = is_of(&self.secret);
                good = current || self.other.as_ref().is_some_and(is_of);
                renewed = !current || age > AGE_RENEWED as i32;
            }
        }
        let server = match cookie.server {
            Some(server) if !renewed => server,
            _ => self.make(&cookie.client, client, now),
        };
        let mut both = [0; _];
        both[..CLIENT_LEN].copy_from_slice(&cookie.client);
        both[CLIENT_LEN..].copy_from_slice(&server);
        (both, good)
    }

    fn make(&self, cookie: &[u8; CLIENT_LEN], client: IpAddr, now: u32) -> [u8; SERVER_LEN] {
        let mut server = [0; SERVER_LEN];
        server[0] = VERSION;
        server[4..8].copy_from_slice(&now.to_be_bytes());
        let hash = hash(&self.secret, cookie, &server, client);
        server[8..].copy_from_slice(&hash);
        server
    }
}

/// Returns the time at which a server cookie claims to have been made: Unix time, wrapping (RFC
/// 9018 section 4.3: serial number arithmetic).
fn made_at(server: &[u8; SERVER_LEN]) -> u32 {
    let [_, _, _, _, t3, t2, t1, t0, ..] = *server;
    u32::from_be_bytes([t3, t2, t1, t0])
}

/// Returns the hash of a server cookie (RFC 9018 section 4.4), over the bytes before it, with the
/// reserved ones as they are.
fn hash(secret: &Secret, cookie: &[u8; CLIENT_LEN], server: &[u8; SERVER_LEN], client: IpAddr) -> [u8; 8] {
    let [made, _]: [[u8; 8]; 2] = transmute!(*server);
    let [cookie, made] = [*cookie, made].map(u64::from_le_bytes);
    let hash = match client {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            siphash(secret, [cookie, made, u64::from_le_bytes([a, b, c, d, 0, 0, 0, 20])])
        }
        IpAddr::V6(address) => {
            let [high, low]: [[u8; 8]; 2] = transmute!(address.octets());
            let [high, low] = [high, low].map(u64::from_le_bytes);
            siphash(secret, [cookie, made, high, low, 32 << 56])
        }
    };
    hash.to_le_bytes()
}

/// Returns the SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of these words,
/// the last of which ends with the length of the message. Their number is known to the compiler, so that no
/// buffer is filled.
#[inline(always)]
fn siphash<const N: usize>(key: &Secret, words: [u64; N]) -> u64 {
    let [k0, k1]: [[u8; 8]; 2] = transmute!(*key);
    let [k0, k1] = [k0, k1].map(u64::from_le_bytes);
    let constants =
        [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    let mut v: [u64; 4] = [k0 ^ constants[0], k1 ^ constants[1], k0 ^ constants[2], k1 ^ constants[3]];
    for word in words {
        v[3] ^= word;
        v = sip_round(sip_round(v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    let [a, b, c, d] = sip_round(sip_round(sip_round(sip_round(v))));
    a ^ b ^ c ^ d
}

#[inline(always)]
fn sip_round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        assert_eq!(text.len(), 2 * N);
        std::array::from_fn(byte)
    }

    fn cookie(text: &str) -> Cookie {
        let data: Vec<u8> = (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        Cookie::parse(&data).unwrap()
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    /// RFC 9018 appendix A.1 to A.3.
    #[test]
    fn the_rfcs_cookies_are_made_and_taken() {
        let cookies = Cookies::new(hex(SECRET), None);
        let learning = cookie("2464c4abcf10c957");
        let client = "198.51.100.100".parse().unwrap();
        let made = hex("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(cookies.answer(&learning, client, 1_559_731_985), (made, false));

        // Renewed, since it is older than half an hour.
        let renewed = cookie("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        let made = hex("2464c4abcf10c957010000005cf7a871d4a564a1442aca77");
        assert_eq!(cookies.answer(&renewed, client, 1_559_734_385), (made, true));

        // Reserved bytes that are not zero are hashed as they are.
        let reserved = cookie("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        let client = "203.0.113.203".parse().unwrap();
        let made = hex("fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e");
        assert_eq!(cookies.answer(&reserved, client, 1_559_734_700).0, made);
        assert!(cookies.answer(&reserved, client, 1_559_727_985 + 3_600).1);
    }

    /// RFC 9018 appendix A.4: IPv6, made with the previous secret.
    #[test]
    fn the_secret_of_before_is_taken_and_not_used() {
        let (current, before) =
            (hex("445536bcd2513298075a5d379663c962"), hex("dd3bdf9344b678b185a6f5cb60fca715"));
        let cookies = Cookies::new(current, Some(before));
        let old = cookie("22681ab97d52c298010000005cf7c57926556bd0934c72f8");
        let client = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let made = hex("22681ab97d52c298010000005cf7c609a6bb79d16625507a");
        assert_eq!(cookies.answer(&old, client, 1_559_741_961), (made, true));
        assert!(!Cookies::new(current, None).answer(&old, client, 1_559_741_961).1);
    }

    #[test]
    fn cookies_are_good_for_an_hour_for_who_got_them() {
        let cookies = Cookies::new(hex(SECRET), None);
        // Across the wrap of the 32-bit time.
        let (now, client) = (100u32, "192.0.2.1".parse().unwrap());
        let made_at = |then: u32| {
            let (both, _) = cookies.answer(&cookie("2464c4abcf10c957"), client, then);
            Cookie { client: hex("2464c4abcf10c957"), server: both[8..].try_into().ok() }
        };
        for (age, good, kept) in [
            (0, true, true),
            (1_800, true, true),
            (1_801, true, false),
            (3_600, true, false),
            (3_601, false, false),
            (-300, true, true),
            (-301, false, false),
        ] {
            let old = made_at(now.wrapping_add_signed(-age));
            let (both, was_good) = cookies.answer(&old, client, now);
            assert_eq!((was_good, both[8..] == old.server.unwrap()), (good, kept), "{age} s");
            let (theirs, good) = cookies.answer(&old, "192.0.2.2".parse().unwrap(), now);
            assert!(!good && theirs[8..] != old.server.unwrap(), "another's cookie");
        }
        let mut other = made_at(now);
        other.server.as_mut().unwrap()[0] = 2;
        assert!(!cookies.answer(&other, client, now).1, "a version that there is not");
        other.server = None;
        assert!(!cookies.answer(&other, client, now).1);
    }

    #[test]
    fn the_hash_is_that_of_the_library() {
        use siphasher::sip::SipHasher24;
        let mut bytes = [0u8; 64];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at * 37 + 11) as u8;
        }
        let (secret, cookie, server): (Secret, [u8; 8], [u8; 16]) = (
            *bytes.first_chunk().unwrap(),
            *bytes[16..].first_chunk().unwrap(),
            *bytes[24..].first_chunk().unwrap(),
        );
        for client in ["192.0.2.77", "2001:db8::1:77"].map(|text| text.parse::<IpAddr>().unwrap()) {
            let mut input = [&cookie[..], &server[..8]].concat();
            match client {
                IpAddr::V4(address) => input.extend(address.octets()),
                IpAddr::V6(address) => input.extend(address.octets()),
            }
            let expected = SipHasher24::new_with_key(&secret).hash(&input).to_le_bytes();
            assert_eq!(hash(&secret, &cookie, &server, client), expected);
        }
    }

    #[test]
    fn lengths_are_as_the_rfc_has_them() {
        let taken: Vec<usize> = (0..=64).filter(|len| Cookie::parse(&[7; 64][..*len]).is_some()).collect();
        let right: Vec<usize> = (0..=64).filter(|len| *len == 8 || (16..=40).contains(len)).collect();
        assert_eq!(taken, right);
        assert_eq!(Cookie::parse(&[7; 24]).unwrap().server, Some([7; 16]));
        assert_eq!(Cookie::parse(&[7; 32]).unwrap().server, None);
    }
}
