//! A replay file, in the format of Unbound's `testcode/replay.h`.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::Record;

/// Number of a step. Ranges of a file refer to these numbers.
pub type Moment = u32;

/// A parsed replay file.
#[derive(Clone, Debug)]
pub struct Script {
    /// Settings of its first part, which is an `unbound.conf`.
    pub config: Vec<Setting>,
    pub ranges: Vec<Range>,
    pub steps: Vec<Step>,
}

/// One setting of `unbound.conf`, and the clause that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Number and name of the clause, such as `server` or `stub-zone`.
    pub clause: (usize, String),
    pub key: String,
    pub value: String,
}

/// Replies that servers have ready at certain times.
#[derive(Clone, Debug)]
pub struct Range {
    pub first: Moment,
    pub last: Moment,
    /// Servers that have these replies; empty for all.
    pub addresses: Vec<IpAddr>,
    pub entries: Vec<Entry>,
}

impl Range {
    pub fn is_at(&self, server: IpAddr) -> bool {
        self.addresses.is_empty() || self.addresses.contains(&server)
    }

    pub fn is_now(&self, now: Moment) -> bool {
        (self.first..=self.last).contains(&now)
    }
}

/// A message, and the parts of it that another message must match.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub matches: Matches,
    /// Whether the reply takes its question from the query.
    pub copies_query: bool,
    /// Second word of the header.
    pub flags: u16,
    pub rcode: u16,
    pub dnssec_ok: bool,
    pub question: Option<Question>,
    pub sections: [Vec<Record>; 3],
    /// EDNS options, if the message has EDNS.
    pub options: Option<Vec<u8>>,
    /// Bytes of the whole message, if the file gives them.
    pub bytes: Option<Vec<u8>>,
}

/// Words of `MATCH`.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    pub all: bool,
    pub ttl: bool,
    pub opcode: bool,
    pub rcode: bool,
    pub qname: bool,
    pub qtype: bool,
    pub subdomain: bool,
    pub answer: bool,
    pub dnssec_ok: bool,
    pub options: bool,
    pub server_cookie: bool,
    /// Transport that must match: TCP, or UDP.
    pub tcp: Option<bool>,
    /// Extended error that must match; `None` within for any.
    pub extended_error: Option<Option<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub qtype: u16,
    pub class: u16,
}

/// A step of the file.
#[derive(Clone, Debug)]
pub struct Step {
    pub line: usize,
    pub moment: Moment,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// A client asks.
    Query {
        from: IpAddr,
        entry: Box<Entry>,
    },
    /// A client gets this reply.
    CheckAnswer(Box<Entry>),
    /// A query is in flight to a server.
    CheckOutQuery(Box<Entry>),
    /// A server answers a query that matches.
    Reply(Box<Entry>),
    /// The oldest query without an answer is never answered.
    Silence,
    TimePasses(Duration),
    /// Everything happens that needs no time.
    Breathe,
}
