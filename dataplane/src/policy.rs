//! What is decided about a query before any answer to it is looked for, the same on every path: workers and listeners share it.

use crate::{
    access::AccessList,
    dns::{
        cookie::{Cookies, Sent},
        option::Options,
        query::{Query, Reject},
        rcode,
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
    pub fn read(&self, message: &[u8], query: &mut Query, asker: &Asker) -> (Result<(), Reject>, Options) {
        if !self.access.allows(asker.client) {
            return (Err(self.denial(message, query)), Options::default());
        }
        let verdict = match query.parse(message) {
            Err(Reject::NoQuestion) if self.cookies.is_none() => Err(Reject::Header(rcode::FORMERR)),
            verdict => verdict,
        };
        let (options, good) = self.cookie(query, asker);
        let verdict = verdict.and_then(|()| match query.edns.map(|edns| edns.cookie) {
            Some(Sent::Malformed) if self.cookies.is_some() => Err(Reject::Question(rcode::FORMERR)),
            Some(Sent::Cookie(_)) if self.require_cookies && !good && !asker.connected => {
                Err(Reject::BadCookie)
            }
            _ => Ok(()),
        });
        (verdict, options)
    }

    /// What becomes of a message from somebody who may not ask.
    #[cold]
    fn denial(&self, message: &[u8], query: &mut Query) -> Reject {
        match (self.refusal, query.parse(message)) {
            (Refusal::Drop, _) => Reject::Drop(DropReason::Denied),
            (Refusal::Answer, Err(Reject::Drop(reason))) => Reject::Drop(reason),
            (Refusal::Answer, Err(Reject::Header(_))) => Reject::Header(rcode::REFUSED),
            (Refusal::Answer, _) => Reject::Denied,
        }
    }

    /// The options of the reply to a query that was [read](Self::read) before, and is answered now.
    pub fn options(&self, query: &Query, asker: &Asker) -> Options {
        self.cookie(query, asker).0
    }

    /// The reply's cookie, and whether the query's was a good one of ours.
    fn cookie(&self, query: &Query, asker: &Asker) -> (Options, bool) {
        match (&self.cookies, query.edns.map(|edns| edns.cookie)) {
            (Some(cookies), Some(Sent::Cookie(cookie))) => {
                let (both, good) = cookies.answer(&cookie, asker.client, asker.now);
                (Options { cookie: Some(both) }, good)
            }
            _ => (Options::default(), false),
        }
    }
}
