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
    #[inline(always)]
    pub fn write<'b>(&self, mut to: &'b mut [u8]) -> &'b mut [u8] {
        if let Some(cookie) = &self.cookie {
            to = put_fixed(to, code::COOKIE, cookie);
        }
        if let Some(nsid) = self.nsid {
            to = put(to, code::NSID, nsid);
        }
        if let Some(units) = self.keepalive {
            to = put_fixed(to, code::KEEPALIVE, &units.to_be_bytes());
        }
        to
    }
}

/// Writes one option to the start of `to`, which has room. Returns what follows it.
fn put<'a>(to: &'a mut [u8], code: u16, data: &[u8]) -> &'a mut [u8] {
    let to = put_head(to, code, data.len());
    let (option, rest) = to.split_at_mut(data.len());
    option.copy_from_slice(data);
    rest
}

/// Writes one option whose length is known to the compiler.
#[inline(always)]
fn put_fixed<'a, const N: usize>(to: &'a mut [u8], code: u16, data: &[u8; N]) -> &'a mut [u8] {
    let to = put_head(to, code, N);
    let Some((option, rest)) = to.split_first_chunk_mut() else { unreachable!("there is room for options") };
    *option = *data;
    rest
}

/// Writes code and length of an option. Returns what follows them.
#[inline(always)]
fn put_head(to: &mut [u8], code: u16, len: usize) -> &mut [u8] {
    let Some((head, rest)) = to.split_first_chunk_mut::<HEAD>() else {
        unreachable!("there is room for options")
    };
    let ([c1, c0], [l1, l0]) = (code.to_be_bytes(), (len as u16).to_be_bytes());
    *head = [c1, c0, l1, l0];
    rest
}

/// Writes one extended error (RFC 8914 section 2) to the start of `to`, which has room. Returns the
/// rest of `to`.
#[inline(always)]
fn put_error<'a>(to: &'a mut [u8], code: u16, text: &[u8]) -> &'a mut [u8] {
    let to = put_head(to, code::EDE, 2 + text.len());
    let (error, rest) = to.split_at_mut(2 + text.len());
    let (info_code, extra) = error.split_at_mut(2);
    info_code.copy_from_slice(&code.to_be_bytes());
    if !text.is_empty() {
        extra.copy_from_slice(text);
    }
    rest
}

/// Options of an OPT record on the wire: their length, and the options.
#[derive(Clone, Copy, Debug)]
pub struct OptionsWire {
    bytes: [u8; OPT_MAX],
    len: usize,
}

impl Default for OptionsWire {
    /// Returns no options.
    fn default() -> Self {
        OptionsWire { bytes: [0; OPT_MAX], len: LENGTH }
    }
}

/// Size in bytes of the length before the options.
const LENGTH: usize = 2;

impl OptionsWire {
    /// Returns the length of the options in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len - LENGTH
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds client and server cookie.
    #[inline(always)]
    pub fn add_cookie(&mut self, cookie: &cookie::Both) {
        self.add(|to| put_fixed(to, code::COOKIE, cookie));
    }

    /// Adds the name of this server.
    pub fn add_nsid(&mut self, nsid: &[u8]) {
        self.add(|to| put(to, code::NSID, nsid));
    }

    /// Adds errors.
    #[inline(always)]
    pub fn add_errors(&mut self, errors: &Errors<'_>) {
        self.add(|to| errors.write(to));
    }

    #[inline(always)]
    fn add(&mut self, write: impl FnOnce(&mut [u8]) -> &mut [u8]) {
        let free = &mut self.bytes[self.len.min(OPT_MAX)..];
        let left = write(free).len();
        self.len = OPT_MAX - left;
    }

    /// Returns the bytes, which begin with the length; zeros follow them.
    #[inline(always)]
    pub fn bytes(&mut self) -> (&[u8; OPT_MAX], usize) {
        let [l1, l0] = (self.len() as u16).to_be_bytes();
        [self.bytes[0], self.bytes[1]] = [l1, l0];
        (&self.bytes, self.len)
    }
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
        Self::of_answer(view.ede, view.list, view.status.rcode(), age)
    }

    /// Returns the errors of an answer with this INFO-CODE and response code, that the list with this
    /// name gave, if any did, and that is given at this age.
    #[inline(always)]
    pub fn of_answer(ede: Option<u16>, list: Option<&'a str>, rcode: u8, age: Age) -> Self {
        let failed = !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN);
        if ede.is_none() && !matches!(age, Age::Stale(_)) && !failed {
            return Self::default();
        }
        Self::of_special(ede, list, rcode, age)
    }

    #[inline]
    fn of_special(ede: Option<u16>, list: Option<&'a str>, rcode: u8, age: Age) -> Self {
        let from_age = match (age, rcode) {
            (Age::Stale(_), rcode::NXDOMAIN) => Some(ede::STALE_NXDOMAIN),
            (Age::Stale(_), _) => Some(ede::STALE),
            // A list's REFUSED is no failure.
            _ if list.is_some() || ede::is_of_policy(ede) => None,
            (Age::New(_), _) | (_, rcode::NOERROR | rcode::NXDOMAIN) => None,
            (Age::Fresh(_), _) => Some(ede::CACHED_ERROR),
        };
        let codes = [ede, from_age.filter(|code| ede != Some(*code))];
        let text = list.filter(|_| ede.is_some()).map_or(&[][..], |list| list.as_bytes());
        Errors { codes, text: text.get(..TEXT_MAX).unwrap_or(text) }
    }

    /// Returns as much of the errors as takes at most `room` bytes: all, or the codes, or nothing.
    #[inline(always)]
    pub fn fitted(self, room: usize) -> Self {
        if self.is_empty() || self.len() <= room { self } else { self.cut(room) }
    }

    #[cold]
    fn cut(self, room: usize) -> Self {
        let bare = Errors { text: &[], ..self };
        if bare.len() <= room { bare } else { Errors::default() }
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
        let codes = usize::from(self.codes[0].is_some()) + usize::from(self.codes[1].is_some());
        codes * (HEAD + 2) + self.text.len()
    }

    /// Writes the errors to the start of `to`, which has room. Returns what follows them.
    #[inline(always)]
    pub fn write<'b>(&self, mut to: &'b mut [u8]) -> &'b mut [u8] {
        let [of_answer, of_age] = self.codes;
        if let Some(code) = of_answer {
            to = put_error(to, code, self.text);
        }
        if let Some(code) = of_age {
            to = put_error(to, code, &[]);
        }
        to
    }
}
