//! Decisions about a query before an answer is looked up. Workers and listeners share them, so they
//! are the same on every path.

use crate::{
    access::AccessList,
    dns::{
        CLASS_CH,
        cookie::{Cookie, Cookies, Sent},
        header,
        option::{Options, OptionsWire},
        query::{Edns, Query, Reject},
        rcode, rtype,
    },
    group::ClientGroups,
    labels::Labels,
    limiter::LimitConfig,
    stats::DropReason,
};
use std::{net::IpAddr, sync::Arc};

/// Policy for all clients. The default answers everybody and uses no cookies.
#[derive(Clone, Debug, Default)]
pub struct QueryPolicy {
    /// Clients that may ask.
    pub access: AccessList,
    /// Answer to clients that may not ask.
    pub refusal: Refusal,
    /// Groups of clients, which names are decided by.
    pub groups: ClientGroups,
    /// Names of lists by number, for the text of extended errors.
    pub lists: Arc<Labels>,
    /// Server cookies for clients (RFC 7873); `None`: COOKIE options of clients are ignored.
    pub cookies: Option<Cookies>,
    /// Whether a client that sends a cookie must send a valid server cookie, unless a connection
    /// proves its address.
    pub require_cookies: bool,
    /// Name of this server for clients that ask for it in EDNS (RFC 5001), at most
    /// [`NSID_MAX`](crate::dns::option::NSID_MAX) bytes.
    pub nsid: Option<Box<[u8]>>,
    /// Name of this server for clients that ask for `id.server` and `hostname.bind` (RFC 4892),
    /// with the same maximum length.
    pub identity: Option<Box<[u8]>>,
    /// Limits of clients over UDP; `None`: no client has one.
    pub limit: Option<LimitConfig>,
    /// Primaries of transferred zones. The control plane answers their NOTIFY messages; those of
    /// others get NOTIMP.
    pub primaries: Arc<[IpAddr]>,
}

/// Answer to clients that may not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// REFUSED, with the extended error Prohibited (RFC 8914).
    #[default]
    Answer,
    /// No answer.
    Drop,
}

/// Client that asks, with the connection and the time.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The client's address.
    pub client: IpAddr,
    /// Whether a connection proves the client's address.
    pub connected: bool,
    /// Unix time in seconds, wrapping.
    pub now: u32,
}

impl QueryPolicy {
    /// Returns the name of the list with this number.
    pub fn name_of_list(&self, number: u8) -> Option<&str> {
        self.lists.get(number).map(|name| &**name)
    }

    /// Parses `message` into `query`. Returns the reason not to look up an answer, if there is one,
    /// and in either case the options of the reply.
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
            Err(Reject::Header(rcode::NOTIMP)) if self.is_notified(query, asker) => {
                Err(query.parse_notify(message))
            }
            Err(reject) => Err(self.second_thought(reject, query)),
        };
        self.admit(verdict, query, asker)
    }

    /// Returns the verdict on a query that was parsed with this one, from a client that may ask, and the
    /// options of the reply.
    pub(crate) fn admit<'a>(
        &'a self,
        verdict: Result<(), Reject<'a>>,
        query: &Query,
        asker: &Asker,
    ) -> (Result<(), Reject<'a>>, Options<'a>) {
        let Some(edns) = &query.edns else { return (verdict, Options::default()) };
        let (options, good) = self.answer_edns(edns, asker);
        let verdict = verdict.and_then(|()| match edns.cookie {
            Sent::Malformed if self.cookies.is_some() => Err(Reject::Question(rcode::FORMERR)),
            Sent::Cookie(_) if self.require_cookies && !good && !asker.connected => Err(Reject::BadCookie),
            _ => Ok(()),
        });
        (verdict, options)
    }

    /// Returns the rejection of a message that is not a query to look up, but may ask for this
    /// server's name.
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

    /// Whether a message is a NOTIFY of a primary.
    #[cold]
    fn is_notified(&self, query: &Query, asker: &Asker) -> bool {
        query.flags & header::OPCODE == header::NOTIFY
            && self.primaries.contains(&asker.client.to_canonical())
    }

    /// Returns the rejection of a message from a client that may not ask.
    #[cold]
    fn denial(&self, message: &[u8], query: &mut Query) -> Reject<'static> {
        match (self.refusal, query.parse(message)) {
            (Refusal::Drop, _) => Reject::Drop(DropReason::Denied),
            (Refusal::Answer, Err(Reject::Drop(reason))) => Reject::Drop(reason),
            (Refusal::Answer, Err(Reject::Header(_))) => Reject::Header(rcode::REFUSED),
            (Refusal::Answer, _) => Reject::Denied,
        }
    }

    /// Returns the options of the reply to a query that was [read](Self::read) earlier and is
    /// answered now.
    pub fn options(&self, query: &Query, asker: &Asker) -> Options<'_> {
        query.edns.as_ref().map_or_else(Options::default, |edns| self.answer_edns(edns, asker).0)
    }

    /// Whether a query that was [read](Self::read) has a valid server cookie.
    pub fn has_good_cookie(&self, query: &Query, asker: &Asker) -> bool {
        query.edns.as_ref().is_some_and(|edns| self.answer_edns(edns, asker).1)
    }

    /// Returns the options of a reply, and whether the query has a valid server cookie.
    fn answer_edns(&self, edns: &Edns, asker: &Asker) -> (Options<'_>, bool) {
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

    /// Adds to `options` those of the reply to a query with this cookie, which may ask for the server's name.
    /// Returns whether the cookie proves the client's address; `None`: the query is rejected for its cookie.
    #[inline(always)]
    pub(crate) fn add_options(
        &self,
        cookie: Option<&Cookie>,
        wants_nsid: bool,
        asker: &Asker,
        options: &mut OptionsWire,
    ) -> Option<bool> {
        let mut is_proven = false;
        if let (Some(cookies), Some(cookie)) = (&self.cookies, cookie) {
            let (both, is_good) = cookies.answer(cookie, asker.client, asker.now);
            options.add_cookie(&both);
            is_proven = is_good;
        }
        if self.require_cookies && cookie.is_some() && !is_proven {
            return None;
        }
        if wants_nsid && let Some(nsid) = self.nsid.as_deref() {
            options.add_nsid(nsid);
        }
        Some(is_proven)
    }
}

/// Whether a question asks for one of the names by which servers identify themselves (RFC 4892
/// section 2).
fn asks_who_we_are(query: &Query) -> bool {
    let asked = query.key.asked();
    asked.qclass() == CLASS_CH
        && matches!(asked.qtype(), rtype::TXT | rtype::ANY)
        && matches!(asked.name(), b"\x02id\x06server\0" | b"\x08hostname\x04bind\0")
}
