//! EDNS options (RFC 6891 section 6.1.2) of our OPT records.

use super::{OPT_LEN, answer::View, cookie, query::Reject, rcode, reply::Age};

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
    /// Censored: a list that somebody else obliges the operator to use has the name.
    pub const CENSORED: u16 = 16;
    /// Filtered: a list that the client has asked for has the name.
    pub const FILTERED: u16 = 17;
    /// Prohibited.
    pub const PROHIBITED: u16 = 18;
    /// Stale NXDOMAIN Answer.
    pub const STALE_NXDOMAIN: u16 = 19;
    /// Not Authoritative: the query did not ask for recursion, and ringdns has nothing else to
    /// offer.
    pub const NOT_AUTHORITATIVE: u16 = 20;

    /// Whether an answer with this error, if any, was given in the place of another on purpose.
    pub fn is_of_policy(ede: Option<u16>) -> bool {
        matches!(ede, Some(BLOCKED | CENSORED | FILTERED))
    }
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
    OPT_LEN + 3 * HEAD + size_of::<cookie::Both>() + NSID_MAX + size_of::<u16>() + 2 * (HEAD + 2) + TEXT_MAX;

/// Longest text of an extended error (EXTRA-TEXT), in bytes: as long as a name of a list may be.
pub const TEXT_MAX: usize = 64;

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

/// Writes one extended error (RFC 8914 section 2) to the start of `to`, which has room. Returns the
/// rest of `to`.
fn put_error<'a>(to: &'a mut [u8], code: u16, text: &[u8]) -> &'a mut [u8] {
    let (option, rest) = to.split_at_mut(HEAD + 2 + text.len());
    let (head, extra) = option.split_at_mut(HEAD + 2);
    put(head, code::EDE, &code.to_be_bytes());
    head[2..HEAD].copy_from_slice(&(2 + text.len() as u16).to_be_bytes());
    extra.copy_from_slice(text);
    rest
}

/// Extended errors of one reply: that of the answer, with its text, and the one that its age adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors<'a> {
    codes: [Option<u16>; 2],
    text: &'a [u8],
}

impl<'a> Errors<'a> {
    /// Returns the errors of an answer that is given at this age.
    #[inline(always)]
    pub fn of(view: &View<'a>, age: Age) -> Self {
        let failed = !matches!(view.status.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
        if view.ede.is_none() && !matches!(age, Age::Stale(_)) && !failed {
            return Self::default();
        }
        Self::of_special(view, age)
    }

    #[cold]
    fn of_special(view: &View<'a>, age: Age) -> Self {
        let ede = view.ede;
        let from_age = match (age, view.status.rcode()) {
            (Age::Stale(_), rcode::NXDOMAIN) => Some(ede::STALE_NXDOMAIN),
            (Age::Stale(_), _) => Some(ede::STALE),
            // A list's REFUSED is no failure.
            _ if view.list.is_some() || ede::is_of_policy(ede) => None,
            (Age::New(_), _) | (_, rcode::NOERROR | rcode::NXDOMAIN) => None,
            (Age::Fresh(_), _) => Some(ede::CACHED_ERROR),
        };
        let codes = [ede, from_age.filter(|code| ede != Some(*code))];
        Errors { codes, ..Self::of_list(ede, view.list) }
    }

    /// Returns the errors of a fresh answer of the list with this name.
    pub fn of_list(ede: Option<u16>, list: Option<&'a str>) -> Self {
        let text = list.map_or(&[][..], |list| list.as_bytes());
        let text = text.get(..TEXT_MAX).unwrap_or(text);
        Errors { codes: [ede, None], text: if ede.is_some() { text } else { &[] } }
    }

    /// Returns as much of the errors as takes at most `room` bytes: all, or the codes, or nothing.
    #[inline(always)]
    pub fn fitted(self, room: usize) -> Self {
        if self.is_empty() { self } else { self.cut(room) }
    }

    #[cold]
    fn cut(self, room: usize) -> Self {
        let bare = Errors { text: &[], ..self };
        [self, bare].into_iter().find(|errors| errors.len() <= room).unwrap_or_default()
    }

    /// Returns the errors of a rejected query.
    pub fn of_reject(reject: Reject<'_>) -> Self {
        match reject {
            Reject::Denied => Self::of_code(ede::PROHIBITED),
            Reject::NotRecursive => Self::of_code(ede::NOT_AUTHORITATIVE),
            _ => Errors::default(),
        }
    }

    /// Returns the first code; zero if there is none.
    #[inline(always)]
    pub fn code(&self) -> u16 {
        self.codes[0].unwrap_or(0)
    }

    fn of_code(code: u16) -> Self {
        Errors { codes: [Some(code), None], text: &[] }
    }

    /// Whether there are none, as there usually are.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.codes == [None, None]
    }

    /// Returns the number of bytes on the wire.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.codes.iter().flatten().count() * (HEAD + 2) + self.text.len()
    }

    /// Writes the errors to the start of `to`, which has room.
    pub fn write(&self, mut to: &mut [u8]) {
        let mut text = self.text;
        for code in self.codes.iter().flatten() {
            to = put_error(to, *code, std::mem::take(&mut text));
        }
    }
}
