//! DNS cookies towards upstreams (RFC 7873): what makes answers over UDP harder to forge for who does not see the queries.

use arrayvec::ArrayVec;
use parking_lot::Mutex;

/// Length of our part.
pub const CLIENT: usize = 8;
/// The longest and shortest part of an upstream's.
const SERVER_MAX: usize = 32;
const SERVER_MIN: usize = 8;

/// An upstream's cookies.
pub struct Jar {
    /// Ours for this upstream, drawn at the start.
    client: [u8; CLIENT],
    /// The newest of the upstream's; empty before it has sent one.
    server: Mutex<ArrayVec<u8, SERVER_MAX>>,
}

/// What a response's cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was to be expected.
    Fits,
    /// It has another client's cookie, or one of no possible length: it answers nothing that was asked.
    Forged,
    /// It has none, although earlier ones had.
    Missing,
}

impl Jar {
    /// With a client cookie of its own, and none of the upstream's.
    pub fn new() -> Self {
        Jar { client: rand::random(), server: Mutex::default() }
    }

    /// Appends what is sent along: our part, and the upstream's if it has sent one.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.client);
        to.extend_from_slice(&self.server.lock());
    }

    /// Looks at the cookie of a response, and keeps the upstream's part of it.
    pub fn judge(&self, cookie: Option<&[u8]>) -> Verdict {
        let mut server = self.server.lock();
        let Some(cookie) = cookie else {
            return if server.is_empty() { Verdict::Fits } else { Verdict::Missing };
        };
        match cookie.split_first_chunk::<CLIENT>() {
            Some((client, [])) if *client == self.client => Verdict::Fits,
            Some((client, theirs))
                if *client == self.client && (SERVER_MIN..=SERVER_MAX).contains(&theirs.len()) =>
            {
                *server = theirs.iter().copied().collect();
                Verdict::Fits
            }
            _ => Verdict::Forged,
        }
    }

    /// Whether the upstream has sent one.
    pub fn is_full(&self) -> bool {
        !self.server.lock().is_empty()
    }

    /// The upstream has answered without a cookie where nobody could have forged it: it has none any more.
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
        assert_eq!(jar.judge(None), Verdict::Fits, "not all upstreams know cookies");
        assert_eq!(jar.judge(Some(&sent)), Verdict::Fits, "RFC 7873 section 5.3: without theirs");
        let theirs = [7; 16];
        let whole = [&sent[..], &theirs].concat();
        assert_eq!(jar.judge(Some(&whole)), Verdict::Fits);
        let mut next = Vec::new();
        jar.write(&mut next);
        assert_eq!(next, whole);
        assert_eq!(jar.judge(None), Verdict::Missing);

        let mut forged = whole.clone();
        forged[0] ^= 1;
        let long = [&sent[..], &[7; 33]].concat();
        for cookie in [&forged[..], &long, &whole[..CLIENT + 7], &sent[..7], &[]] {
            assert_eq!(jar.judge(Some(cookie)), Verdict::Forged, "{cookie:?}");
        }
        jar.clear();
        assert_eq!(jar.judge(None), Verdict::Fits);
    }
}
