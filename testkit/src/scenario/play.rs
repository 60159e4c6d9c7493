//! Plays a scenario: one step after the other; anything that it does not mention is a failure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::compare::{Usual, differences};
use super::message::{CD, COOKIE, Edns, Message, OPCODE, QR, RA, RD};
use super::outcome::{Failure, Told};
use super::record::hex_text;
use super::upstream::{Cast, Seen, Stream, take_message};
use super::{Action, Answer, AnswerId, Content, Expected, Files, Scenario, Send, Step, Upstream, World};
use crate::Over;

/// Real time to wait for events that need no virtual time to pass.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// First port of clients. Each datagram has its own, so that every reply belongs to one query.
const FIRST_PORT: u16 = 40_000;

/// Plays `scenario` with the upstreams `cast` and its files in `world`. Its configuration is added to
/// `base`.
pub fn play(
    scenario: &Scenario,
    cast: Cast,
    files: &Files,
    base: &str,
    world: &mut dyn World,
) -> Result<Told, Failure> {
    let limit = scenario.config.get("server").and_then(|server| server.get("udp_limit")?.as_integer());
    let mut player = Player {
        world,
        cast,
        files,
        base,
        asked: Vec::new(),
        connections: BTreeMap::new(),
        pieces: BTreeMap::new(),
        server_cookie: Vec::new(),
        udp_limit: limit.map_or(1232, |limit| limit as u16),
        latest: 0,
    };
    let mut line = 0;
    let mut played = Ok(());
    let mut text = String::new();
    for step in &scenario.steps {
        (line, text) = (step.line, step.text.clone());
        played = player.step(step);
        if played.is_err() {
            break;
        }
    }
    if played.is_ok() {
        (line, text) = (line + 1, "(the end)".to_owned());
        played = player.end();
    }
    match played {
        Ok(()) => Ok(player.told()),
        Err(error) => {
            let place = format!("tests/scenarios/{}.scn:{line}", scenario.name);
            let about = scenario.about.replace('\n', " ");
            Err(Failure::new(format!(
                "{place}: {error}\n  the step:\n    {}\n  ({about})\n",
                text.replace('\n', "\n    ")
            )))
        }
    }
}

/// Query of a client.
struct Asked {
    label: String,
    wire: Vec<u8>,
    /// Address that replies over UDP go to.
    from: SocketAddr,
    /// Name of the connection, if it was sent over TCP.
    connection: Option<String>,
    reply: Option<Vec<u8>>,
    answered: bool,
    spoken_of: bool,
}

pub(super) struct Player<'a> {
    pub(super) world: &'a mut dyn World,
    cast: Cast,
    pub(super) files: &'a Files,
    pub(super) base: &'a str,
    asked: Vec<Asked>,
    connections: BTreeMap<String, Stream>,
    /// Bytes that clients have sent over the connections in pieces, and that are not a complete
    /// message yet.
    pieces: BTreeMap<String, Vec<u8>>,
    /// Last received server cookie.
    server_cookie: Vec<u8>,
    udp_limit: u16,
    /// Most by which a step has been late so far, in seconds that records may have lost.
    latest: u32,
}

pub(super) type Played = Result<(), String>;

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Played {
        match &step.action {
            Action::Send(send) => self.send(send),
            Action::Get(expected) => self.get(expected),
            Action::GetNothing(label) => self.get_nothing(label.as_deref()),
            Action::GetEnd(connection) => self.get_end(connection),
            Action::Close(connection) => self.connection(connection)?.close_side(),
            Action::See(upstream, expected) => self.see(*upstream, expected),
            Action::SeeNothing(upstream) => {
                self.settle()?;
                self.unseen(Some(*upstream))
            }
            Action::Answer(upstream, answer) => self.answer(*upstream, answer),
            Action::Hang(upstream) => {
                if self.cast.hang(*upstream) {
                    Ok(())
                } else {
                    Err("there is no TCP connection to close".to_owned())
                }
            }
            Action::Stop(upstream) => {
                self.settle()?;
                self.cast.stop(*upstream);
                Ok(())
            }
            Action::Start(upstream) => {
                self.cast.start(*upstream).map_err(|error| format!("starting it: {error}"))
            }
            Action::Later(time) => {
                self.settle()?;
                self.unexpected()?;
                self.world.pass(*time);
                Ok(())
            }
            Action::Stat { pointer, least, most } => self.stat(pointer, *least, *most),
            operators => self.operate(operators),
        }
    }

    /// Receives all that has arrived on either side.
    fn poll(&mut self) -> Played {
        self.world.breathe();
        self.cast.poll().map_err(|error| format!("an upstream's socket: {error}"))?;
        for (to, bytes) in self.world.replies() {
            let asked = self.asked.iter_mut().find(|asked| asked.connection.is_none() && asked.from == to);
            let Some(asked) = asked else {
                return Err(format!("a reply to {to}, who asked nothing\n{}", shown(&bytes)));
            };
            asked.take(bytes)?;
        }
        for (name, stream) in &mut self.connections {
            stream.poll();
            while let Some(bytes) = stream.next_message() {
                let same = |asked: &&mut Asked| {
                    asked.connection.as_ref() == Some(name)
                        && !asked.answered
                        && asked.reply.is_none()
                        && asked.wire.get(..2) == bytes.get(..2)
                };
                let asked = self.asked.iter_mut().find(same);
                let Some(asked) = asked else {
                    return Err(format!(
                        "a reply on connection {name} whose ID nobody waits for\n{}",
                        shown(&bytes)
                    ));
                };
                asked.take(bytes)?;
            }
        }
        Ok(())
    }

    /// Waits until `holds` returns something, for conditions that need no time to pass.
    fn until<T>(&mut self, mut holds: impl FnMut(&mut Self) -> Option<T>) -> Result<Option<T>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.poll()?;
            if let Some(held) = holds(self) {
                return Ok(Some(held));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
        }
    }

    /// Waits until nothing has happened for a while.
    pub(super) fn settle(&mut self) -> Played {
        let happened = |player: &Player<'_>| {
            let replies = player.asked.iter().filter(|asked| asked.reply.is_some()).count();
            (player.cast.all_seen().count(), replies)
        };
        let mut before = happened(self);
        let mut since = Instant::now();
        loop {
            self.poll()?;
            let now = happened(self);
            if now != before {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() >= self.world.quiet() {
                return Ok(());
            }
        }
    }

    //------- Clients ----------------------------------------------------------

    fn send(&mut self, send: &Send) -> Played {
        let wire = match &send.content {
            Content::Raw(bytes) => bytes.clone(),
            Content::Query(query) => {
                let mut draft = query.draft.clone();
                let options = draft.edns.iter_mut().flat_map(|edns| &mut edns.options);
                for (_, cookie) in options.filter(|option| query.server_cookie && option.0 == COOKIE) {
                    cookie.extend(&self.server_cookie);
                }
                draft.wire()?
            }
        };
        let port = FIRST_PORT + self.asked.len() as u16;
        let from = SocketAddr::new(send.from, port);
        match &send.tcp {
            None => self.world.send(from, &wire),
            Some(name) => {
                if !self.connections.contains_key(name) {
                    let stream = self.world.connect(send.from).and_then(|stream| Stream::new(stream, from));
                    let stream = stream.map_err(|error| format!("connecting over TCP: {error}"))?;
                    self.connections.insert(name.clone(), stream);
                }
                let length = match send.content {
                    Content::Raw(_) => Vec::new(),
                    Content::Query(_) => (wire.len() as u16).to_be_bytes().to_vec(),
                };
                self.connection(name)?.send(&[length, wire.clone()].concat());
            }
        }
        let (mut label, connection) = (send.label.clone(), send.tcp.clone());
        let mut asked = |label: &str, wire| {
            let (label, connection) = (label.to_owned(), connection.clone());
            self.asked.push(Asked {
                label,
                wire,
                from,
                connection,
                reply: None,
                answered: false,
                spoken_of: false,
            });
        };
        match (&send.tcp, &send.content) {
            // Over TCP a query may arrive in pieces, and several queries in one piece.
            (Some(name), Content::Raw(bytes)) => {
                let pieces = self.pieces.entry(name.clone()).or_default();
                pieces.extend(bytes);
                while let Some(wire) = take_message(pieces) {
                    asked(&label, wire);
                    label += "+";
                }
            }
            _ => asked(&label, wire),
        }
        Ok(())
    }

    fn connection(&mut self, name: &str) -> Result<&mut Stream, String> {
        self.connections.get_mut(name).ok_or_else(|| format!("there is no connection {name}"))
    }

    /// Returns the query of a step: the one of this name, or the first that has no reply yet.
    fn query(&self, label: Option<&str>) -> Result<usize, String> {
        let wanted = |asked: &Asked| match label {
            Some(label) => asked.label == label,
            None => !asked.answered && !asked.spoken_of,
        };
        let unanswered = || self.asked.iter().position(|asked| !asked.answered);
        let found = self.asked.iter().position(wanted).or_else(|| label.is_none().then(unanswered).flatten());
        found.ok_or_else(|| format!("there is no query {} that waits", label.unwrap_or_default()))
    }

    fn get(&mut self, expected: &Expected) -> Played {
        let nth = self.query(expected.label.as_deref())?;
        let Some(reply) = self.until(|player| player.asked[nth].reply.take())? else {
            let asked: Vec<_> =
                self.cast.all_seen().filter(|(_, seen)| !seen.spoken_of).map(seen_text).collect();
            let label = &self.asked[nth].label;
            return Err(format!(
                "no reply to query {label}; upstreams were asked, and not told of it: {asked:?}"
            ));
        };
        let asked = &mut self.asked[nth];
        (asked.answered, asked.spoken_of) = (true, true);
        let message = Message::read(&reply)
            .map_err(|error| format!("the reply is broken: {error}\n{}", shown(&reply)))?;
        let query = Message::read(&asked.wire).ok();
        let flags = asked.wire.get(2..4).map_or(0, |flags| u16::from_be_bytes([flags[0], flags[1]]));
        let usual = Usual {
            flags: QR | RA | flags & (RD | CD | OPCODE),
            question: query.as_ref().map_or(Vec::new(), |query| query.question.clone()),
            edns: query.and_then(|query| query.edns).map(|edns| Edns {
                size: self.udp_limit,
                version: 0,
                flags: edns.flags & Edns::DO,
                options: Vec::new(),
            }),
            server_cookie: self.server_cookie.clone(),
        };
        let late = self.world.late();
        let mut wrong = differences(expected, &message, &usual, [late, self.latest]);
        self.latest = self.latest.max(late);
        if asked.wire.get(..2) != Some(&message.id.to_be_bytes()) {
            wrong.push(format!("ID: expected the query's, got {}", message.id));
        }
        let options = message.edns.iter().flat_map(|edns| &edns.options);
        if let Some((_, cookie)) = options.into_iter().find(|option| option.0 == COOKIE) {
            self.server_cookie = cookie.get(8..).unwrap_or_default().to_vec();
        }
        verdict(wrong, &message)
    }

    fn get_nothing(&mut self, label: Option<&str>) -> Played {
        let nth = self.query(label)?;
        self.settle()?;
        let asked = &mut self.asked[nth];
        asked.spoken_of = true;
        match &asked.reply {
            Some(reply) => Err(format!("a reply to query {}\n{}", asked.label, shown(reply))),
            None => Ok(()),
        }
    }

    fn get_end(&mut self, name: &str) -> Played {
        self.connection(name)?;
        let ended = self.until(|player| player.connections[name].ended.then_some(()))?;
        ended.ok_or_else(|| format!("connection {name} stays open"))
    }

    //------- Upstreams --------------------------------------------------------

    fn see(&mut self, upstream: Upstream, expected: &Expected) -> Played {
        let wanted = expected.question.clone().unwrap_or_default();
        let is_it = |seen: &Seen| {
            let asks = Message::read(&seen.bytes).map(|message| message.question);
            !seen.spoken_of
                && Some(seen.over) == expected.over
                && asks.is_ok_and(|question| question.eq_ignore_ascii_case(&wanted))
        };
        let Some(nth) = self.until(|player| player.cast.seen(upstream).iter().position(is_it))? else {
            let seen: Vec<_> =
                self.cast.all_seen().filter(|(_, seen)| !seen.spoken_of).map(seen_text).collect();
            return Err(format!("it does not see that; seen and not spoken of: {seen:?}"));
        };
        let seen = &mut self.cast.seen(upstream)[nth];
        (seen.spoken_of, seen.label) = (true, expected.label.clone());
        let message = Message::read(&seen.bytes).map_err(|error| format!("a broken query: {error}"))?;
        let usual = Usual { flags: RD, question: wanted, edns: None, server_cookie: Vec::new() };
        verdict(differences(expected, &message, &usual, [0, 0]), &message)
    }

    fn answer(&mut self, upstream: Upstream, answer: &Answer) -> Played {
        let seen = self.cast.seen(upstream);
        let nth = match &answer.label {
            Some(label) => seen.iter().position(|seen| seen.label.as_ref() == Some(label)),
            None => seen.iter().rposition(|seen| seen.spoken_of),
        };
        let nth = nth.ok_or("it has seen no such query")?;
        let query = Message::read(&seen[nth].bytes)?;
        let mut draft = answer.draft.clone();
        draft.id = match answer.id {
            None => query.id,
            Some(AnswerId::Wrong) => query.id.wrapping_add(1),
            Some(AnswerId::Exactly(id)) => id,
        };
        draft.question = answer.question.clone().unwrap_or_else(|| query.question.clone());
        if let Some(server) = &answer.cookie {
            let asked =
                query.edns.as_ref().and_then(|edns| edns.options.iter().find(|option| option.0 == COOKIE));
            let client =
                asked.and_then(|option| option.1.get(..8)).ok_or("there is no cookie in the query")?;
            let edns = draft.edns.get_or_insert_with(Edns::default);
            edns.options.push((COOKIE, [client, server].concat()));
        }
        let mut bytes = match &answer.raw {
            Some(raw) => [&draft.id.to_be_bytes(), &raw[..]].concat(),
            None => draft.wire()?,
        };
        bytes.truncate(answer.cut.unwrap_or(usize::MAX));
        bytes.extend(&answer.followed_by);
        let sent = self.cast.answer(upstream, nth, &bytes, answer.from_elsewhere);
        sent.map_err(|error| format!("answering: {error}"))?;
        self.settle()
    }

    //------- Everything else --------------------------------------------------

    fn stat(&mut self, pointer: &str, least: u64, most: u64) -> Played {
        let mut value = None;
        let right = self.until(|player| {
            value = player.world.stats().pointer(pointer).and_then(serde_json::Value::as_u64);
            value.is_some_and(|value| (least..=most).contains(&value)).then_some(())
        })?;
        right.ok_or_else(|| match value {
            Some(value) => format!("{pointer} is {value}"),
            None => {
                let stats = self.world.stats();
                let place = pointer.rsplit_once('/').and_then(|(place, _)| stats.pointer(place));
                format!("there is no counter {pointer} in {:#}", place.unwrap_or(&stats))
            }
        })
    }

    /// Checks that no upstream, or not this one, has seen a query that the scenario has not
    /// mentioned.
    fn unseen(&self, upstream: Option<Upstream>) -> Played {
        let letter = upstream.map(|number| char::from(b'A' + number as u8));
        let unspoken =
            |(name, seen): &(char, &Seen)| !seen.spoken_of && letter.is_none_or(|letter| letter == *name);
        match self.cast.all_seen().find(unspoken) {
            Some(seen) => Err(format!("an upstream sees {}\n{}", seen_text(seen), shown(&seen.1.bytes))),
            None => Ok(()),
        }
    }

    /// Checks that nothing has happened that the scenario does not mention.
    fn unexpected(&self) -> Played {
        self.unseen(None)?;
        match self.asked.iter().find_map(|asked| Some((&asked.label, asked.reply.as_ref()?))) {
            Some((label, reply)) => Err(format!("an unexpected reply to query {label}\n{}", shown(reply))),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Played {
        self.settle()?;
        self.unexpected()?;
        match self.asked.iter().find(|asked| !asked.spoken_of) {
            Some(asked) => Err(format!("nothing is said of what query {} gets", asked.label)),
            // Every frame must have one outcome.
            None => self.stat("/total/unaccounted", 0, 0),
        }
    }

    fn told(&self) -> Told {
        let id = |bytes: &[u8]| Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
        let over_udp = self.cast.all_seen().filter(|(_, seen)| seen.over == Over::Udp);
        Told {
            client_ids: self.asked.iter().filter_map(|asked| id(&asked.wire)).collect(),
            upstream_ids: over_udp
                .filter_map(|(_, seen)| Some((id(&seen.bytes)?, seen.from.port())))
                .collect(),
        }
    }
}

impl Asked {
    fn take(&mut self, reply: Vec<u8>) -> Played {
        if self.answered || self.reply.is_some() {
            return Err(format!("a second reply to query {}\n{}", self.label, shown(&reply)));
        }
        self.reply = Some(reply);
        Ok(())
    }
}

impl Stream {
    fn close_side(&mut self) -> Played {
        self.close();
        Ok(())
    }
}

//----------- As text -----------------------------------------------------------

fn verdict(wrong: Vec<String>, message: &Message) -> Played {
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n  got:\n{message}", wrong.join("\n  "))) }
}

/// Returns a message as readably as possible.
fn shown(bytes: &[u8]) -> String {
    match Message::read(bytes) {
        Ok(message) => format!("  got:\n{message}"),
        Err(error) => {
            format!("  got {} bytes that cannot be read ({error}): {}", bytes.len(), hex_text(bytes))
        }
    }
}

fn seen_text((letter, seen): (char, &Seen)) -> String {
    let asks = Message::read(&seen.bytes).map_or_else(|error| error, |message| message.asks());
    format!("{letter}: {asks} over {:?}", seen.over)
}

/// Returns the address of the server in the family of a client's address.
pub fn server_of(from: IpAddr) -> SocketAddr {
    if from.is_ipv4() { crate::DNS_V4 } else { crate::DNS_V6 }
}
