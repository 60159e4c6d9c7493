//! What is decided about a query before any answer to it is looked for, the same on every path: workers and listeners share it.

use crate::{
    access::AccessList,
    dns::{
        CLASS_CH,
        cookie::{Cookies, Sent},
        header,
        option::Options,
        query::{Edns, Query, Reject},
        rcode, rtype,
    },
    stats::DropReason,
};
use std::net::IpAddr;

/// What holds for all who ask. The default is what answers everybody, and has no cookies.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who may ask.
    pub access: AccessList,
    /// Whether others are told REFUSED, or nothing.
    pub refusal: Refusal,
    /// Cookies for clients (RFC 7873); `None`: theirs are no concern of ours.
    pub cookies: Option<Cookies>,
    /// Whether who sends a cookie must have a good one of ours, unless its address is proved by a connection.
    pub require_cookies: bool,
    /// Our name for those who ask for it in EDNS (RFC 5001), at most [`NSID_MAX`](crate::dns::option::NSID_MAX) bytes.
    pub nsid: Option<Box<[u8]>>,
    /// Our name for those who ask for `id.server` and `hostname.bind` (RFC 4892), at most as long.
    pub identity: Option<Box<[u8]>>,
}

/// What those hear who may not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// REFUSED, and why (RFC 8914: Prohibited).
    #[default]
    Answer,
    /// Nothing.
    Drop,
}

/// Who asks, how, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The client's address.
    pub client: IpAddr,
    /// Whether a connection proves that address.
    pub connected: bool,
    /// Unix time in seconds, wrapping.
    pub now: u32,
}

impl Policy {
    /// Takes `message` apart into `query`. Returns why it is not to be answered, if it is not, and the options of the reply,
    /// whatever that says.
    pub fn read<'a>(
        &'a self,
        message: &[u8],
        query: &mut Query,
        asker: &Asker,
    ) -> (Result<(), Reject<'a>>, Options<'a>) {
        if !self.access.allows(asker.client) {
            return (Err(self.denial(message, query)), Options::default());
        }
        let verdict = match query.parse(message) {
            Ok(()) if query.flags & header::RD == 0 => Err(Reject::NotRecursive),
            Ok(()) => Ok(()),
            Err(reject) => Err(self.second_thought(reject, query)),
        };
        let Some(edns) = &query.edns else { return (verdict, Options::default()) };
        let (options, good) = self.answer_options(edns, asker);
        let verdict = verdict.and_then(|()| match edns.cookie {
            Sent::Malformed if self.cookies.is_some() => Err(Reject::Question(rcode::FORMERR)),
            Sent::Cookie(_) if self.require_cookies && !good && !asker.connected => Err(Reject::BadCookie),
            _ => Ok(()),
        });
        (verdict, options)
    }

    /// What becomes of a message that is no question to look up, but may be one to us.
    #[cold]
    fn second_thought(&self, reject: Reject<'static>, query: &Query) -> Reject<'_> {
        match (reject, &self.identity) {
            (Reject::NoQuestion, _) if self.cookies.is_none() => Reject::Question(rcode::FORMERR),
            (Reject::Question(rcode::REFUSED), Some(identity)) if asks_who_we_are(query) => {
                Reject::Identity(identity)
            }
            _ => reject,
        }
    }

    /// What becomes of a message from somebody who may not ask.
    #[cold]
    fn denial(&self, message: &[u8], query: &mut Query) -> Reject<'static> {
        match (self.refusal, query.parse(message)) {
            (Refusal::Drop, _) => Reject::Drop(DropReason::Denied),
            (Refusal::Answer, Err(Reject::Drop(reason))) => Reject::Drop(reason),
            (Refusal::Answer, Err(Reject::Header(_))) => Reject::Header(rcode::REFUSED),
            (Refusal::Answer, _) => Reject::Denied,
        }
    }

    /// The options of the reply to a query that was [read](Self::read) before, and is answered now.
    pub fn options(&self, query: &Query, asker: &Asker) -> Options<'_> {
        query.edns.as_ref().map_or_else(Options::default, |edns| self.answer_options(edns, asker).0)
    }

    /// The options of a reply, and whether the query's cookie was a good one of ours.
    fn answer_options(&self, edns: &Edns, asker: &Asker) -> (Options<'_>, bool) {
        let nsid = if edns.nsid { self.nsid.as_deref() } else { None };
        let (cookie, good) = match (&self.cookies, edns.cookie) {
            (Some(cookies), Sent::Cookie(cookie)) => {
                let (both, good) = cookies.answer(&cookie, asker.client, asker.now);
                (Some(both), good)
            }
            _ => (None, false),
        };
        (Options { cookie, nsid, keepalive: None }, good)
    }
}

/// Whether a question is for one of the names that servers tell theirs by (RFC 4892 section 2).
fn asks_who_we_are(query: &Query) -> bool {
    let asked = query.key.asked();
    asked.qclass() == CLASS_CH
        && matches!(asked.qtype(), rtype::TXT | rtype::ANY)
        && matches!(asked.name(), b"\x02id\x06server\0" | b"\x08hostname\x04bind\0")
}
