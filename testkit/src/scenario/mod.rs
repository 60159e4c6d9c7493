//! Scenarios: messages of clients and upstreams, and the passage of time, as readable text.
//!
//! `tests/scenarios/README.md` describes the format. A [`Scenario`] is a parsed file; [`play()`]
//! plays it in a [`World`]: a simulator with virtual time, or the lab with the real process.

mod compare;
mod files;
pub(crate) mod message;
mod operator;
mod outcome;
mod parse;
mod play;
mod record;
mod upstream;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::Over;

pub use files::{FileText, Files};
pub use message::{
    AD, CD, Draft, Edns, Message, OPCODE, QR, RA, RD, TC, asked_in, question_of, question_text, rcode_of,
    rcode_text,
};
pub use outcome::{Failure, Told};
pub use play::{PATIENCE, play, server_of};
pub use record::{Record, Ttl, hex, name as name_of, name_at, type_text, wire_name};
pub use upstream::{Cast, Seen, Stream};

/// Address from which queries are sent unless a scenario names another.
pub const CLIENT: IpAddr = IpAddr::V4(crate::lab::CLIENT_V4);

/// Parsed scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Topic and name, such as `ttl/ageing`.
    pub name: String,
    pub path: PathBuf,
    /// Subject of the scenario, and the document that it follows.
    pub about: String,
    /// Fragment of ringdnsd's configuration.
    pub config: toml::Table,
    /// Files at the start.
    pub files: Vec<FileText>,
    pub steps: Vec<Step>,
    /// Reason why it cannot be played in the lab, if so.
    pub simulator_only: Option<String>,
}

/// Step of a scenario.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line number in the file.
    pub line: usize,
    pub text: String,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// A client sends a message.
    Send(Send),
    /// A client gets this reply.
    Get(Box<Expected>),
    /// A client gets no reply.
    GetNothing(Option<String>),
    /// A client's TCP connection is closed by the server.
    GetEnd(String),
    /// A client closes its side of a TCP connection, or all of it.
    Close(String),
    /// An upstream sees this query.
    See(Upstream, Box<Expected>),
    /// An upstream sees no query.
    SeeNothing(Upstream),
    /// An upstream answers a query that it has seen.
    Answer(Upstream, Box<Answer>),
    /// An upstream closes the TCP connection over which it has seen a query.
    Hang(Upstream),
    /// An upstream goes away: its ports are closed.
    Stop(Upstream),
    /// An upstream comes back, at the same ports.
    Start(Upstream),
    /// Time passes.
    Later(Duration),
    /// A counter has this value.
    Stat { pointer: String, least: u64, most: u64 },
    /// The operator purges the caches.
    Purge(Purge),
    /// The operator writes a file.
    Write(FileText),
    /// The operator removes a file.
    Remove(String),
    /// The operator replaces the scenario's part of the configuration.
    Configure(toml::Table),
    /// The operator reloads the configuration.
    Reload(Reload),
    /// The operator blocks or allows a name, or lets no list decide.
    Order(Order),
}

/// Number of an upstream; scenarios call them A, B, C ...
pub type Upstream = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    Name(String),
    Suffix(String),
    All,
}

/// Expected result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// These tables are in effect; none: nothing has changed.
    Applied(BTreeSet<String>),
    /// It is refused, for a reason that has all of these parts.
    Refused(Vec<String>),
}

/// Order of the operator, as with `ringctl block`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub verb: OrderVerb,
    /// Time until it ends; `None`: it does not.
    pub seconds: Option<u64>,
    /// Group of clients that it is about; `None`: all.
    pub group: Option<String>,
}

/// Verb of an order, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderVerb {
    Block(String),
    Allow(String),
    Clear(String),
    Pause,
    Resume,
}

/// Message that a client sends.
#[derive(Clone, Debug)]
pub struct Send {
    pub from: IpAddr,
    /// Name of the connection, if it is sent over TCP.
    pub tcp: Option<String>,
    /// Name of the message in the scenario.
    pub label: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// A query.
    Query(Box<Query>),
    /// These bytes; over TCP, without a length before them.
    Raw(Vec<u8>),
}

/// Query that a client sends.
#[derive(Clone, Debug)]
pub struct Query {
    pub draft: message::Draft,
    /// Whether the last received server cookie is appended to the cookie option.
    pub server_cookie: bool,
}

/// Expected message, complete.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub label: Option<String>,
    /// Wire bytes of the question; `None`: that of the query.
    pub question: Option<Vec<u8>>,
    pub any_case: bool,
    pub rcode: u16,
    /// Flags that are set although they usually are not, and flags that are clear although they
    /// usually are set.
    pub with: u16,
    pub without: u16,
    pub opcode: Option<u16>,
    pub edns: ExpectedEdns,
    pub sections: [Vec<(Record, Ttl)>; 3],
    pub bytes: Option<(usize, usize)>,
    pub over: Option<Over>,
}

#[derive(Clone, Debug, Default)]
pub struct ExpectedEdns {
    pub presence: Presence,
    pub size: Option<u16>,
    pub version: u8,
    pub dnssec_ok: bool,
    pub flags: u16,
    pub options: Vec<ExpectedOption>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// As the query implies.
    #[default]
    Usual,
    Yes,
    No,
}

#[derive(Clone, Debug)]
pub enum ExpectedOption {
    Exactly(u16, Vec<u8>),
    /// An extended error (RFC 8914), with any text or this one.
    Error(u16, Option<String>),
    /// A cookie (RFC 7873): the client cookie, if a certain one is expected, and the server cookie.
    Cookie(Option<Vec<u8>>, ServerCookie),
}

/// Expected server cookie.
#[derive(Clone, Debug)]
pub enum ServerCookie {
    Any,
    /// The server cookie of the last reply that had one (`Same`), or another one (`New`).
    Same,
    New,
    /// These bytes; if empty, there is no server cookie.
    Exactly(Vec<u8>),
}

/// Answer of an upstream.
#[derive(Clone, Debug)]
pub struct Answer {
    pub label: Option<String>,
    pub draft: message::Draft,
    /// ID of the answer; `None`: the query's.
    pub id: Option<AnswerId>,
    /// Wire bytes of the question; `None`: the query's.
    pub question: Option<Vec<u8>>,
    pub from_elsewhere: bool,
    /// Server cookie to append after the query's client cookie.
    pub cookie: Option<Vec<u8>>,
    /// Number of bytes after which the message is cut, without telling so.
    pub cut: Option<usize>,
    pub followed_by: Vec<u8>,
    /// Bytes in place of everything except the ID.
    pub raw: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub enum AnswerId {
    Wrong,
    Exactly(u16),
}

/// World that scenarios are played in.
pub trait World {
    /// Lets ringdns do all that it can do without time passing; takes a moment of real time at
    /// most.
    fn breathe(&mut self);
    /// Lets this much time pass.
    fn pass(&mut self, time: Duration);
    /// Returns the most by which a reply of this moment can be late: whole seconds that TTLs may
    /// have lost.
    fn late(&self) -> u32;
    /// Sends a datagram to ringdns.
    fn send(&mut self, from: SocketAddr, message: &[u8]);
    /// Returns the datagrams to clients since the last call.
    fn replies(&mut self) -> Vec<(SocketAddr, Vec<u8>)>;
    /// Opens a TCP connection to ringdns.
    fn connect(&mut self, from: IpAddr) -> std::io::Result<TcpStream>;
    /// Returns all counters.
    fn stats(&mut self) -> serde_json::Value;
    fn purge(&mut self, purge: &Purge);
    /// Writes another configuration to ringdnsd's file.
    fn configure(&mut self, text: &str);
    /// Lets ringdns read its configuration and its lists again. Returns the tables that have changed
    /// and are in effect, or the reason why none is.
    fn reload(&mut self) -> Result<BTreeSet<String>, String>;
    /// Gives an order of the operator.
    fn order(&mut self, order: &Order) -> Result<(), String>;
    /// Returns the real time without events after which "nothing" counts as confirmed.
    fn quiet(&self) -> Duration;
}

impl Scenario {
    /// Returns the time that passes in the scenario.
    pub fn duration(&self) -> Duration {
        let passes = |step: &Step| if let Action::Later(time) = step.action { time } else { Duration::ZERO };
        self.steps.iter().map(passes).sum()
    }

    /// Returns the number of its upstreams.
    pub fn upstreams(&self) -> usize {
        let number = |step: &Step| match step.action {
            Action::See(upstream, _)
            | Action::SeeNothing(upstream)
            | Action::Answer(upstream, _)
            | Action::Hang(upstream)
            | Action::Stop(upstream)
            | Action::Start(upstream) => upstream + 1,
            _ => 1,
        };
        let spoken_of = self.steps.iter().map(number).max().unwrap_or(1);
        spoken_of.max(parse::configured(&self.config).iter().map(|letter| letter + 1).max().unwrap_or(1))
    }
}

/// Returns all scenarios below `tests/scenarios`, in order of their names.
pub fn all() -> Result<Vec<Scenario>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let (mut scenarios, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "scn") {
                scenarios.push(Scenario::load(&root, &path)?);
            }
        }
    }
    scenarios.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(scenarios)
}
