//! DNS cookies towards upstreams (RFC 7873): they make answers over UDP harder to forge for anyone
//! who does not see the queries.

use arrayvec::ArrayVec;
use parking_lot::Mutex;

/// Length in bytes of the client cookie (RFC 7873 section 4.1).
pub const CLIENT: usize = 8;
/// Longest and shortest server cookie, in bytes (RFC 7873 section 4.2).
const SERVER_MAX: usize = 32;
const SERVER_MIN: usize = 8;

/// Cookies for one upstream.
pub struct Jar {
    /// Client cookie for this upstream, drawn at the start.
    client: [u8; CLIENT],
    /// Newest server cookie; empty before the upstream has sent one.
    server: Mutex<ArrayVec<u8, SERVER_MAX>>,
}

/// Verdict on the cookie of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieVerdict {
    /// The cookie is as expected.
    Fits,
    /// The cookie is another client's, or of an impossible length: the response answers no query of
    /// ours.
    Forged,
    /// The response has none, although earlier ones had.
    Missing,
}

impl Jar {
    /// Returns a jar with a new client cookie and no server cookie.
    pub fn new() -> Self {
        Jar { client: rand::random(), server: Mutex::default() }
    }

    /// Appends the cookie to be sent: the client's, and the server's if there is one.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.client);
        to.extend_from_slice(&self.server.lock());
    }

    /// Judges the cookie of a response, and keeps the server cookie in it.
    pub fn judge(&self, cookie: Option<&[u8]>) -> CookieVerdict {
        let mut server = self.server.lock();
        let Some(cookie) = cookie else {
            return if server.is_empty() { CookieVerdict::Fits } else { CookieVerdict::Missing };
        };
        match cookie.split_first_chunk::<CLIENT>() {
            Some((client, [])) if *client == self.client => CookieVerdict::Fits,
            Some((client, theirs))
                if *client == self.client && (SERVER_MIN..=SERVER_MAX).contains(&theirs.len()) =>
            {
                *server = theirs.iter().copied().collect();
                CookieVerdict::Fits
            }
            _ => CookieVerdict::Forged,
        }
    }

    /// Whether the upstream has sent a cookie.
    pub fn is_full(&self) -> bool {
        !self.server.lock().is_empty()
    }

    /// Forgets the server cookie: the upstream has answered without one where forging was
    /// impossible, so it has none any more.
    pub fn clear(&self) {
        self.server.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_must_repeat_our_cookie_and_goes_on_to_have_one() {
        let jar = Jar::new();
        let mut sent = Vec::new();
        jar.write(&mut sent);
        assert_eq!(sent.len(), CLIENT);
        assert_eq!(jar.judge(None), CookieVerdict::Fits, "not all upstreams know cookies");
        assert_eq!(jar.judge(Some(&sent)), CookieVerdict::Fits, "RFC 7873 section 5.3: without theirs");
        let theirs = [7; 16];
        let whole = [&sent[..], &theirs].concat();
        assert_eq!(jar.judge(Some(&whole)), CookieVerdict::Fits);
        let mut next = Vec::new();
        jar.write(&mut next);
        assert_eq!(next, whole);
        assert_eq!(jar.judge(None), CookieVerdict::Missing);

        let mut forged = whole.clone();
        forged[0] ^= 1;
        let long = [&sent[..], &[7; 33]].concat();
        for cookie in [&forged[..], &long, &whole[..CLIENT + 7], &sent[..7], &[]] {
            assert_eq!(jar.judge(Some(cookie)), CookieVerdict::Forged, "{cookie:?}");
        }
        jar.clear();
        assert_eq!(jar.judge(None), CookieVerdict::Fits);
    }
}
