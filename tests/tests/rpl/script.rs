//! A replay file, as Unbound's `testcode/replay.h` describes it.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::Record;

/// The number of a step. The parts of a file that apply at certain times name these numbers.
pub type Moment = u32;

/// A replay file, read.
#[derive(Clone, Debug)]
pub struct Script {
    /// The words of its first part, which is an `unbound.conf`.
    pub config: Vec<Setting>,
    pub ranges: Vec<Range>,
    pub steps: Vec<Step>,
}

/// One setting of `unbound.conf`, and the clause that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The number of the clause, and its name: `server`, `stub-zone`.
    pub clause: (usize, String),
    pub key: String,
    pub value: String,
}

/// Replies that servers have ready at certain times.
#[derive(Clone, Debug)]
pub struct Range {
    pub first: Moment,
    pub last: Moment,
    /// The servers that have them; none: all.
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

/// A message, and what another must have in common with it to match.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub matches: Matches,
    /// The question of the reply is that of the query.
    pub copies_query: bool,
    /// The second word of the header.
    pub flags: u16,
    pub rcode: u16,
    pub dnssec_ok: bool,
    pub question: Option<Question>,
    pub sections: [Vec<Record>; 3],
    /// The EDNS options, if the message is said to have EDNS.
    pub options: Option<Vec<u8>>,
    /// All bytes of the message, if it is given by these.
    pub bytes: Option<Vec<u8>>,
}

/// The words of `MATCH`.
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
    /// Over UDP, or over TCP.
    pub tcp: Option<bool>,
    /// An extended error, `None` within: any.
    pub extended_error: Option<Option<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub name: Name,
    pub qtype: u16,
    pub class: u16,
}

/// One thing that happens.
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
    /// A client gets this.
    CheckAnswer(Box<Entry>),
    /// A query is on its way to a server.
    CheckOutQuery(Box<Entry>),
    /// A server answers a query that matches.
    Reply(Box<Entry>),
    /// The server that was asked first of those that have not answered never will.
    Silence,
    TimePasses(Duration),
    /// Everything happens that needs no time.
    Breathe,
}
