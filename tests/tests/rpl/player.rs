//! Plays a replay file: clients ask the simulated ringdns, which asks the recursor over the file's
//! servers.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ringdns_daemon::reload::ConfigSource;
use ringdns_testkit::Host;
use ringdns_testkit::scenario::{
    Cast, Draft, Edns, Message, Over, Record, Seen, Stream, World, asked_in, question_of, rcode_text,
};

use crate::compare::{Added, differences};
use crate::config::Setup;
use crate::recursor::{Journal, Outgoing, Recursor, Wait};
use crate::response::{ANY, RRSIG, Response, is_of, is_proof};
use crate::script::{Action, Entry, Question, Script, Step};
use crate::simulator::Simulator;

const QR: u16 = 0x8000;
const TC: u16 = 0x0200;
const RA: u16 = 0x0080;
const RD: u16 = 0x0100;
const CD: u16 = 0x0010;

/// Time after which an upstream query has surely timed out: the default timeout, and a little more.
const TIMEOUT: Duration = Duration::from_millis(810);
/// Time that a client waits for a reply if the file sets none, and the length of one step.
const WAIT: Duration = Duration::from_secs(12);
const WAIT_STEP: Duration = Duration::from_millis(100);
const FIRST_PORT: u16 = 40_000;
/// Number of turns after which a reply over TCP is given up.
const TCP_TURNS: usize = 1000;

/// Plays `script`. `anchors` is a file with the trust anchors. An error names the line and the
/// difference from the expected result.
pub fn play(script: &Script, setup: &Setup, epoch: Duration, anchors: &Path) -> Result<(), String> {
    static PLAYED: AtomicU16 = AtomicU16::new(0);
    let [high, low] = PLAYED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let servers = setup.forwards_all().map(<[IpAddr]>::to_vec);
    let upstreams = servers.as_ref().map_or(1, Vec::len);
    let address = |nth: usize| IpAddr::V4(Ipv4Addr::new(127, 153 + nth as u8, high, low.max(1)));
    let cast =
        Cast::assemble(&Host::local(), (0..upstreams).map(address)).map_err(|error| error.to_string())?;
    let config = setup.ringdns(&cast.addresses(), anchors);
    let (config, source) =
        ConfigSource::parse(&config, Path::new("")).map_err(|error| format!("{error}\n{config}"))?;
    let world = Simulator::start(config, source, epoch).map_err(|error| error.to_string())?;
    let recursor = Recursor::new(script, setup);
    let mut player = Player {
        world,
        cast,
        recursor,
        servers,
        taken: vec![0; upstreams],
        inquiries: Vec::new(),
        added: additions(script, setup),
        clients: Vec::new(),
        stream: None,
        answered: Vec::new(),
    };
    for (nth, step) in script.steps.iter().enumerate() {
        player.recursor.now = step.moment;
        player.recursor.played = nth;
        player.step(step).map_err(|error| {
            let (answered, waiting) = (player.answered.join(", "), player.waiting_text());
            let upstreams = format!("(upstreams answered {answered}; waiting: {waiting})");
            format!("line {}, step {}: {error}\n  {upstreams}", step.line, step.moment)
        })?;
    }
    player.settle()?;
    match player.clients.iter().find(|client| client.reply.is_some()) {
        Some(client) => {
            Err(format!("the end: a reply that nothing is said of\n{}", shown(client.reply.as_ref())))
        }
        None => Ok(()),
    }
}

struct Player {
    world: Simulator,
    cast: Cast,
    recursor: Recursor,
    /// Servers that the upstreams represent, if these are resolvers of the file and not the
    /// recursor.
    servers: Option<Vec<IpAddr>>,
    /// Number of queries of each upstream that have become inquiries.
    taken: Vec<usize>,
    inquiries: Vec<Inquiry>,
    added: Added,
    clients: Vec<Client>,
    /// Connection of the clients that ask over TCP, once there is one.
    stream: Option<Stream>,
    /// Questions that upstreams have answered, for error messages.
    answered: Vec<String>,
}

/// A query of ringdns that an upstream has not answered yet.
struct Inquiry {
    upstream: usize,
    nth: usize,
    query: Message,
    question: Question,
    tcp: bool,
    journal: Journal,
    /// Query of the recursor whose reply the inquiry waits for.
    waits: Option<Outgoing>,
}

struct Client {
    from: SocketAddr,
    wire: Vec<u8>,
    reply: Option<Message>,
    /// Bits that the player has set in the query although the file does not.
    added: Added,
}

/// Returns the bits to set in all queries of a file, so that ringdns answers them from its cache.
///
/// ringdns caches answers separately by DO and CD, and does not answer from its cache without RD.
/// Unbound does neither.
fn additions(script: &Script, setup: &Setup) -> Added {
    let queries = || {
        script.steps.iter().filter_map(|step| match &step.action {
            Action::Query { entry, .. } => Some(entry),
            _ => None,
        })
    };
    let rd = if setup.snoops { RD } else { 0 };
    let signed = |record: &Record| is_proof(record) || is_of(record, RRSIG) || record.rtype == RRSIG;
    let mut records = script
        .ranges
        .iter()
        .flat_map(|range| &range.entries)
        .flat_map(|entry| entry.sections.iter().flatten());
    if setup.validates() || records.any(signed) {
        return Added { flags: rd, dnssec_ok: false };
    }
    let cd = queries().fold(0, |cd, entry| cd | entry.flags & CD);
    Added { flags: rd | cd, dnssec_ok: queries().any(|entry| entry.dnssec_ok) }
}

type Played = Result<(), String>;

impl Player {
    fn step(&mut self, step: &Step) -> Played {
        self.settle()?;
        match &step.action {
            Action::Query { from, entry } => self.query(*from, entry)?,
            Action::CheckAnswer(entry) => return self.check(entry),
            Action::CheckOutQuery(entry) => {
                if !self.waiting().any(|query| entry.answers(query)) {
                    return Err("no query like this is under way".to_owned());
                }
            }
            Action::Reply(entry) => {
                let Some(query) = self.waiting().find(|query| entry.answers(query)).cloned() else {
                    return Err("nobody waits for this reply".to_owned());
                };
                self.note(&query, Some(entry.response()));
            }
            Action::Silence => {
                // Unbound may make more attempts than ringdns.
                let first = self.waiting().next().cloned();
                if let Some(query) = first {
                    self.note(&query, None);
                    if self.servers.is_some() {
                        self.world.pass(TIMEOUT);
                    }
                }
            }
            Action::TimePasses(time) => self.pass(*time)?,
            Action::Breathe => {}
        }
        self.settle()
    }

    /// Returns the recursor's queries that wait for a reply.
    fn waiting(&self) -> impl Iterator<Item = &Outgoing> {
        self.inquiries.iter().filter_map(|inquiry| inquiry.waits.as_ref())
    }

    fn waiting_text(&self) -> String {
        let text = |query: &Outgoing| {
            format!("{} {} at {}", query.question.name, query.question.qtype, query.server)
        };
        self.waiting().map(text).collect::<Vec<_>>().join(", ")
    }

    /// Records the response to a query of the recursor, or its loss.
    fn note(&mut self, query: &Outgoing, response: Option<Response>) {
        for inquiry in self.inquiries.iter_mut().filter(|inquiry| inquiry.waits.as_ref() == Some(query)) {
            inquiry.journal.push((query.clone(), response.clone()));
            inquiry.waits = None;
        }
    }

    /// Lets time pass, while upstreams answer the queries that arrive.
    fn pass(&mut self, time: Duration) -> Played {
        self.world.pass(time);
        self.settle()
    }

    fn query(&mut self, from: IpAddr, entry: &Entry) -> Played {
        let question = match &entry.question {
            Some(question) => question_of(&question.name, question.qtype, question.class)?,
            None => Vec::new(),
        };
        let options = edns_options(entry.options.as_deref().unwrap_or_default());
        let added = Added {
            flags: self.added.flags & !entry.flags,
            dnssec_ok: self.added.dnssec_ok && !entry.dnssec_ok,
        };
        let dnssec_ok = entry.dnssec_ok || added.dnssec_ok;
        let flags = if dnssec_ok { Edns::DO } else { 0 };
        let has_edns = dnssec_ok || entry.options.is_some();
        let draft = Draft {
            id: self.clients.len() as u16 + 1,
            flags: entry.flags | added.flags,
            question,
            edns: has_edns.then_some(Edns { size: 4096, version: 0, flags, options }),
            ..Draft::default()
        };
        let from = SocketAddr::new(from, FIRST_PORT + self.clients.len() as u16);
        let mut wire = draft.wire()?;
        if let Some([_, _, rest @ ..]) = entry.bytes.as_deref() {
            wire = [&draft.id.to_be_bytes(), rest].concat();
        }
        let over_tcp = entry.matches.tcp == Some(true);
        if !over_tcp {
            self.world.send(from, &wire);
        }
        self.clients.push(Client { from, wire, reply: None, added });
        if over_tcp { self.ask_over_tcp(self.clients.len() - 1) } else { Ok(()) }
    }

    fn check(&mut self, entry: &Entry) -> Played {
        let mut waited = Duration::ZERO;
        while !self.clients.iter().any(|client| client.reply.is_some()) {
            if waited >= WAIT {
                return Err("no reply".to_owned());
            }
            self.pass(WAIT_STEP)?;
            waited += WAIT_STEP;
        }
        let mut wrong = None;
        for nth in 0..self.clients.len() {
            let truncated = |reply: &Message| reply.flags & TC != 0 && entry.flags & TC == 0;
            if self.clients[nth].reply.as_ref().is_some_and(truncated) {
                self.ask_over_tcp(nth)?;
            }
            let client = &mut self.clients[nth];
            let Some(reply) = &client.reply else { continue };
            let found = differences(entry, reply, client.added);
            if found.is_empty() {
                client.reply = None;
                return Ok(());
            }
            wrong.get_or_insert_with(|| {
                format!("{}\n  got:\n{}", found.join("\n  "), shown(client.reply.as_ref()))
            });
        }
        Err(wrong.unwrap_or_default())
    }

    /// Sends a query over TCP, and waits for the reply.
    fn ask_over_tcp(&mut self, nth: usize) -> Played {
        let Client { from, wire, .. } = &self.clients[nth];
        let framed = [&(wire.len() as u16).to_be_bytes(), &wire[..]].concat();
        if self.stream.is_none() {
            let connected = self.world.connect(from.ip()).and_then(|stream| Stream::new(stream, *from));
            self.stream = Some(connected.map_err(|error| format!("asking over TCP: {error}"))?);
        }
        for turn in 0..TCP_TURNS {
            let stream = self.stream.as_mut().expect("it was made above");
            if turn == 0 {
                stream.send(&framed);
            }
            stream.poll();
            let reply = stream.next_message();
            self.settle()?;
            if let Some(reply) = reply {
                self.clients[nth].reply = Some(Message::read(&reply)?);
                return Ok(());
            }
        }
        Err("no reply over TCP".to_owned())
    }

    /// Runs until nothing more happens without time passing.
    fn settle(&mut self) -> Played {
        let mut calm = 0;
        while calm < 3 {
            self.world.breathe();
            let replies = self.world.replies();
            let mut happened = !replies.is_empty();
            for (to, bytes) in replies {
                let message = Message::read(&bytes).map_err(|error| format!("a broken reply: {error}"))?;
                let client = self.clients.iter_mut().find(|client| client.from == to);
                client.ok_or_else(|| format!("a reply to {to}, who asked nothing"))?.reply = Some(message);
            }
            happened |= self.take()?;
            happened |= self.answer()?;
            calm = if happened { 0 } else { calm + 1 };
        }
        Ok(())
    }

    /// Takes the queries that have reached upstreams.
    fn take(&mut self) -> Result<bool, String> {
        self.cast.poll().map_err(|error| format!("an upstream's socket: {error}"))?;
        let before = self.inquiries.len();
        for upstream in 0..self.taken.len() {
            let seen: Vec<Seen> = self.cast.seen(upstream)[self.taken[upstream]..].to_vec();
            for seen in seen {
                let query =
                    Message::read(&seen.bytes).map_err(|error| format!("ringdns asks brokenly: {error}"))?;
                let (name, qtype, class) = asked_in(&query.question).ok_or("ringdns asks nothing")?;
                self.inquiries.push(Inquiry {
                    upstream,
                    nth: self.taken[upstream],
                    query,
                    question: Question { name, qtype, class },
                    tcp: seen.over == Over::Tcp,
                    journal: Vec::new(),
                    waits: None,
                });
                self.taken[upstream] += 1;
            }
        }
        Ok(self.inquiries.len() > before)
    }

    /// Answers the inquiries that can be answered now.
    fn answer(&mut self) -> Result<bool, String> {
        let mut answered = false;
        let mut left = Vec::new();
        for mut inquiry in std::mem::take(&mut self.inquiries) {
            let Inquiry { upstream, question, journal, tcp, .. } = &mut inquiry;
            let response = match &self.servers {
                Some(servers) => {
                    let query =
                        Outgoing { server: servers[*upstream], question: question.clone(), tcp: *tcp };
                    self.recursor.forward(query, journal)
                }
                None => self.recursor.answer(question, journal).map(Some),
            };
            match response {
                Ok(Some(response)) => {
                    self.answered.push(format!("{} {}", inquiry.query.asks(), rcode_text(response.rcode)));
                    let bytes = reply(&response, &inquiry)?;
                    let sent = self.cast.answer(inquiry.upstream, inquiry.nth, &bytes, false);
                    sent.map_err(|error| format!("answering: {error}"))?;
                    answered = true;
                }
                // The file loses this query, so it is never answered.
                Ok(None) => {}
                Err(Wait(query)) => {
                    inquiry.waits = Some(query);
                    left.push(inquiry);
                }
            }
        }
        self.inquiries = left;
        Ok(answered)
    }
}

/// Returns the message with which an upstream answers a query.
fn reply(response: &Response, inquiry: &Inquiry) -> Result<Vec<u8>, String> {
    let query = &inquiry.query;
    let dnssec_ok = query.edns.as_ref().is_some_and(|edns| edns.flags & Edns::DO != 0);
    let mut draft = Draft {
        id: query.id,
        flags: QR | RA | query.flags & (RD | CD) | response.flags & TC | response.rcode & 0x0f,
        question: query.question.clone(),
        sections: response.sections.clone(),
        edns: query.edns.as_ref().map(|edns| Edns {
            size: 1232,
            version: 0,
            flags: edns.flags & Edns::DO,
            options: Vec::new(),
        }),
        ..Draft::default()
    };
    let qtype = inquiry.question.qtype;
    for section in draft.sections.iter_mut().filter(|_| !dnssec_ok && qtype != ANY) {
        section.retain(|record| {
            record.rtype == qtype || !(is_proof(record) || is_of(record, RRSIG) || record.rtype == RRSIG)
        });
    }
    let bytes = draft.wire()?;
    let room = query.edns.as_ref().map_or(512, |edns| usize::from(edns.size.max(512)));
    if inquiry.tcp || bytes.len() <= room {
        return Ok(bytes);
    }
    draft.flags |= TC;
    draft.sections = Default::default();
    draft.wire()
}

fn edns_options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    while let Some(([c1, c0, l1, l0], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*l1, *l0])).min(rest.len());
        options.push((u16::from_be_bytes([*c1, *c0]), rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    options
}

fn shown(message: Option<&Message>) -> String {
    let mut text = String::new();
    if let Some(message) = message {
        write!(text, "{message}").expect("a string takes any text");
    }
    text
}
