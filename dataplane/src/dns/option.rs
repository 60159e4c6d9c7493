//! EDNS options (RFC 6891 section 6.1.2) of our OPT records.

use super::{
    OPT_LEN,
    answer::{Status, View},
    cookie,
    query::Reject,
    rcode,
    reply::Age,
};

/// Option codes (IANA).
pub mod code {
    /// The server's name (RFC 5001).
    pub const NSID: u16 = 3;
    /// Time that a connection may be idle (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// DNS cookies (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// Extended DNS errors (RFC 8914).
    pub const EDE: u16 = 15;
}

/// INFO-CODEs of extended DNS errors (RFC 8914 section 4) that ringdns sends.
pub mod ede {
    /// Stale Answer.
    pub const STALE: u16 = 3;
    /// Cached Error.
    pub const CACHED_ERROR: u16 = 13;
    /// Blocked: a list of the operator has the name.
    pub const BLOCKED: u16 = 15;
    /// Prohibited.
    pub const PROHIBITED: u16 = 18;
    /// Stale NXDOMAIN Answer.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// Not Authoritative: the query did not ask for recursion, and ringdns has nothing else to
    /// offer.
    pub const NOT_AUTHORITATIVE: u16 = 20;
}

/// Size in bytes of an option without its data.
const HEAD: usize = 4;

/// Options of a reply that do not depend on the answer, for a client with EDNS that asked for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Client and server cookie.
    pub cookie: Option<cookie::Both>,
    /// Name of this server, at most [`NSID_MAX`] bytes.
    pub nsid: Option<&'a [u8]>,
    /// Time that the connection may be idle, in units of 100 ms.
    pub keepalive: Option<u16>,
}

/// Longest name of a server, in bytes.
pub const NSID_MAX: usize = 64;

/// Size in bytes of the longest OPT record of a reply, including options and errors.
pub const OPT_MAX: usize =
    OPT_LEN + 3 * HEAD + size_of::<cookie::Both>() + NSID_MAX + size_of::<u16>() + 2 * (HEAD + 2);

impl Options<'_> {
    /// Whether there are none, as there usually are.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.cookie.is_none() && self.nsid.is_none() && self.keepalive.is_none()
    }

    /// Returns the number of bytes on the wire.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.cookie.map_or(0, |cookie| HEAD + cookie.len())
            + self.nsid.map_or(0, |nsid| HEAD + nsid.len())
            + self.keepalive.map_or(0, |_| HEAD + 2)
    }

    /// Writes the options to the start of `to`, which has room. Returns what follows them.
    pub fn write<'b>(&self, mut to: &'b mut [u8]) -> &'b mut [u8] {
        if let Some(cookie) = &self.cookie {
            to = put(to, code::COOKIE, cookie);
        }
        if let Some(nsid) = self.nsid {
            to = put(to, code::NSID, nsid);
        }
        if let Some(units) = self.keepalive {
            to = put(to, code::KEEPALIVE, &units.to_be_bytes());
        }
        to
    }
}

/// Writes one option to the start of `to`, which has room. Returns what follows it.
fn put<'a>(to: &'a mut [u8], code: u16, data: &[u8]) -> &'a mut [u8] {
    let (option, rest) = to.split_at_mut(HEAD + data.len());
    option[..2].copy_from_slice(&code.to_be_bytes());
    option[2..HEAD].copy_from_slice(&(data.len() as u16).to_be_bytes());
    option[HEAD..].copy_from_slice(data);
    rest
}

/// Extended errors of one reply: that of the answer, and the one that its age adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors([Option<u16>; 2]);

impl Errors {
    /// Returns the errors of an answer that is given at this age.
    #[inline(always)]
    pub fn of(view: &View<'_>, age: Age) -> Self {
        let failed = !matches!(view.status.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
        if view.ede.is_none() && !matches!(age, Age::Stale(_)) && !failed {
            return Self::default();
        }
        Self::of_special(view.ede, view.status, age)
    }

    #[cold]
    fn of_special(ede: Option<u16>, status: Status, age: Age) -> Self {
        let from_age = match (age, status.rcode()) {
            (Age::Stale(_), rcode::NXDOMAIN) => Some(ede::STALE_NXDOMAIN),
            (Age::Stale(_), _) => Some(ede::STALE),
            // A list's REFUSED is no failure.
            _ if ede == Some(ede::BLOCKED) => None,
            (Age::New(_), _) | (_, rcode::NOERROR | rcode::NXDOMAIN) => None,
            (Age::Fresh(_), _) => Some(ede::CACHED_ERROR),
        };
        Errors([ede, from_age.filter(|code| ede != Some(*code))])
    }

    /// Returns the errors of a rejected query.
    pub fn of_reject(reject: Reject<'_>) -> Self {
        match reject {
            Reject::Denied => Errors([Some(ede::PROHIBITED), None]),
            Reject::NotRecursive => Errors([Some(ede::NOT_AUTHORITATIVE), None]),
            _ => Errors::default(),
        }
    }

    /// Whether there are none, as there usually are.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the number of bytes on the wire.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.iter().flatten().count() * (HEAD + 2)
    }

    /// Writes the errors to the start of `to`, which has room.
    pub fn write(&self, mut to: &mut [u8]) {
        for code in self.0.iter().flatten() {
            to = put(to, code::EDE, &code.to_be_bytes());
        }
    }
}
