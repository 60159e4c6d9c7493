//! Scenarios: what clients send and get, what upstreams see and say, and how time passes, as text that anybody can read.
//!
//! The format is described in `tests/scenarios/README.md`. A [`Scenario`] is such a file, read; [`play`] plays it in a [`World`]:
//! a simulator with virtual time, or the lab with the real process.

mod compare;
mod message;
mod parse;
mod play;
mod record;
mod upstream;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use message::{Draft, Edns, Message, asked_in, question_of, question_text, rcode_of, rcode_text};
pub use play::{Failure, PATIENCE, Told, play, server_of};
pub use record::{Record, Ttl, hex, name as name_of, name_at, wire_name};
pub use upstream::{Cast, Over, Seen, Stream};

/// Where queries are sent from unless a scenario says otherwise, and where to.
pub const CLIENT: IpAddr = IpAddr::V4(crate::lab::CLIENT_V4);

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `ttl/ageing`: its topic and name.
    pub name: String,
    pub path: PathBuf,
    /// What it shows, and where that is written.
    pub about: String,
    /// A fragment of ringdnsd's configuration.
    pub config: toml::Table,
    pub steps: Vec<Step>,
    /// Why it cannot be played in the lab, if so.
    pub simulator_only: Option<String>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its line in the file.
    pub line: usize,
    pub text: String,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// A client sends a message.
    Send(Send),
    /// A client gets a reply: this one.
    Get(Box<Expected>),
    /// A client gets no reply.
    GetNothing(Option<String>),
    /// A client's TCP connection is closed by the server.
    GetEnd(String),
    /// A client closes its side of a TCP connection, or all of it.
    Close(String),
    /// An upstream sees this query.
    See(Upstream, Box<Expected>),
    /// An upstream sees none.
    SeeNothing(Upstream),
    /// An upstream answers a query that it has seen.
    Answer(Upstream, Box<Answer>),
    /// An upstream closes the TCP connection over which it has seen a query.
    Hang(Upstream),
    /// An upstream goes away: its ports are closed.
    Stop(Upstream),
    /// It comes back, at the same ports.
    Start(Upstream),
    /// Time passes.
    Later(Duration),
    /// A counter has this value.
    Stat { pointer: String, least: u64, most: u64 },
    /// The operator purges.
    Purge(Purge),
}

/// Upstreams are called A, B, C ...; this is the number of one.
pub type Upstream = usize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    Name(String),
    Suffix(String),
    All,
}

/// A message that a client sends.
#[derive(Clone, Debug)]
pub struct Send {
    pub from: IpAddr,
    /// The connection, if it goes over TCP; `None` within: one of its own.
    pub tcp: Option<String>,
    /// What the scenario calls it.
    pub label: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    /// A query.
    Query(Box<Query>),
    /// These bytes, over TCP without a length before them.
    Raw(Vec<u8>),
}

/// A query, as a client sends it or as an upstream is to see it.
#[derive(Clone, Debug)]
pub struct Query {
    pub draft: message::Draft,
    /// A server's cookie that was received before is to be appended to the cookie option.
    pub server_cookie: bool,
}

/// What a message is to be, all of it.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub label: Option<String>,
    /// `None`: as it follows from the query.
    pub question: Option<Vec<u8>>,
    pub any_case: bool,
    pub rcode: u16,
    /// Flags that are set and usually are not; and that are not and usually are.
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
    /// As it follows from the query.
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
    /// A cookie (RFC 7873): the client's part, if it is to be a certain one, and the server's.
    Cookie(Option<Vec<u8>>, ServerCookie),
}

/// What the server's part of a cookie is to be.
#[derive(Clone, Debug)]
pub enum ServerCookie {
    Any,
    /// That of the last reply that had one; or another than that.
    Same,
    New,
    /// These bytes; none: there is no such part.
    Exactly(Vec<u8>),
}

/// What an upstream answers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub label: Option<String>,
    pub draft: message::Draft,
    /// `None`: the query's.
    pub id: Option<AnswerId>,
    /// `None`: the query's.
    pub question: Option<Vec<u8>>,
    pub from_elsewhere: bool,
    /// Append the query's client cookie and this server part.
    pub cookie: Option<Vec<u8>>,
    /// Send no more bytes than this, without telling so.
    pub cut: Option<usize>,
    pub followed_by: Vec<u8>,
    /// Bytes in place of everything else, but for the ID.
    pub raw: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub enum AnswerId {
    Wrong,
    Exactly(u16),
}

/// Where scenarios are played.
pub trait World {
    /// Lets ringdns do what it can do without time passing; a moment of real time at most.
    fn breathe(&mut self);
    /// Lets so much time pass.
    fn pass(&mut self, time: Duration);
    /// How much later than it should be a reply of this moment can be: whole seconds that TTLs may have lost by it.
    fn late(&self) -> u32;
    /// A datagram to ringdns.
    fn send(&mut self, from: SocketAddr, message: &[u8]);
    /// Datagrams to clients since the last time.
    fn replies(&mut self) -> Vec<(SocketAddr, Vec<u8>)>;
    /// A TCP connection to ringdns.
    fn connect(&mut self, from: IpAddr) -> std::io::Result<TcpStream>;
    /// All counters.
    fn stats(&mut self) -> serde_json::Value;
    fn purge(&mut self, purge: &Purge);
    /// How long nothing must have happened, in real time, for "nothing" to be believed.
    fn quiet(&self) -> Duration;
}

impl Scenario {
    /// The time that passes in it.
    pub fn duration(&self) -> Duration {
        let passes = |step: &Step| if let Action::Later(time) = step.action { time } else { Duration::ZERO };
        self.steps.iter().map(passes).sum()
    }

    /// How many upstreams it has.
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

    /// The whole configuration: `base`, what the scenario says, and the upstreams' addresses in place of their letters.
    pub fn configuration(&self, base: &str, upstreams: &[SocketAddr]) -> String {
        let base: toml::Table = base.parse().expect("the base is TOML");
        parse::merged(base, self.config.clone(), upstreams)
    }
}

/// All scenarios below `tests/scenarios`, in order of their names.
pub fn all() -> Result<Vec<Scenario>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let mut scenarios = Vec::new();
    let list = |folder: &Path| {
        let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        Ok::<_, String>(paths)
    };
    for topic in list(&root)?.iter().filter(|path| path.is_dir()) {
        for path in list(topic)?.iter().filter(|path| path.extension().is_some_and(|end| end == "scn")) {
            scenarios.push(Scenario::load(&root, path)?);
        }
    }
    Ok(scenarios)
}
