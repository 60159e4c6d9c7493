//! Plays a scenario: one step after the other, and nothing may happen that it does not speak of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::message::{
    CD, COOKIE, EDE, Edns, Message, OPCODE, QR, RA, RD, flags_text, question_text, rcode_text,
};
use super::record::hex_text;
use super::upstream::{Cast, Over, Seen, Stream, take_message};
use super::{
    Action, Answer, AnswerId, Content, Expected, ExpectedEdns, ExpectedOption, Presence, Record, Scenario,
    Send, ServerCookie, Step, Ttl, Upstream, World,
};

/// How long is waited, in real time, for what must happen without time passing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ports of clients: one for each datagram, so that no reply can be taken for another's.
const FIRST_PORT: u16 = 40_000;

/// What was learnt while playing: for what can only be judged over many queries.
#[derive(Debug, Default)]
pub struct Told {
    /// IDs that clients chose.
    pub client_ids: Vec<u16>,
    /// IDs and ports of the queries that upstreams saw over UDP.
    pub upstream_ids: Vec<(u16, u16)>,
}

/// A scenario went another way than it should.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(text: String) -> Self {
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Plays `scenario`, whose upstreams are `cast`, in `world`.
pub fn play(scenario: &Scenario, cast: Cast, world: &mut dyn World) -> Result<Told, Failure> {
    let limit = scenario.config.get("server").and_then(|server| server.get("udp_limit")?.as_integer());
    let mut player = Player {
        world,
        cast,
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
            Err(Failure(format!(
                "{place}: {error}\n  the step:\n    {}\n  ({about})\n",
                text.replace('\n', "\n    ")
            )))
        }
    }
}

/// A query of a client.
struct Asked {
    label: String,
    wire: Vec<u8>,
    /// Where replies over UDP go.
    from: SocketAddr,
    /// The connection, if it went over TCP.
    connection: Option<String>,
    reply: Option<Vec<u8>>,
    answered: bool,
    spoken_of: bool,
}

struct Player<'a> {
    world: &'a mut dyn World,
    cast: Cast,
    asked: Vec<Asked>,
    connections: BTreeMap<String, Stream>,
    /// What clients have sent over them byte by byte, and is no whole message yet.
    pieces: BTreeMap<String, Vec<u8>>,
    /// The last one that was received.
    server_cookie: Vec<u8>,
    udp_limit: u16,
    /// How late a step has been so far, in seconds that records may have lost.
    latest: u32,
}

type Played = Result<(), String>;

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
            Action::Purge(purge) => {
                self.settle()?;
                self.world.purge(purge);
                Ok(())
            }
        }
    }

    /// Takes what has arrived on either side.
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

    /// Waits until something holds that needs no time to pass.
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
    fn settle(&mut self) -> Played {
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
            // Over TCP a query may come in pieces, and several in one.
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

    /// The query of a step: the one of this name, or the first that has no reply yet.
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

    /// That no upstream, or not this one, has seen anything that was not spoken of.
    fn unseen(&self, upstream: Option<Upstream>) -> Played {
        let letter = upstream.map(|number| char::from(b'A' + number as u8));
        let unspoken =
            |(name, seen): &(char, &Seen)| !seen.spoken_of && letter.is_none_or(|letter| letter == *name);
        match self.cast.all_seen().find(unspoken) {
            Some(seen) => Err(format!("an upstream sees {}\n{}", seen_text(seen), shown(&seen.1.bytes))),
            None => Ok(()),
        }
    }

    /// That nothing has happened that the scenario does not speak of.
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
            None => Ok(()),
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

//----------- What is expected, and what came ----------------------------------

/// What a message is to be where a scenario says nothing else.
struct Usual {
    flags: u16,
    question: Vec<u8>,
    edns: Option<Edns>,
    /// The server's part of the last cookie.
    server_cookie: Vec<u8>,
}

fn differences(expected: &Expected, message: &Message, usual: &Usual, late: [u32; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: String, got: String| {
        if expected != got {
            wrong.push(format!("{what}: expected {expected}, got {got}"));
        }
    };
    compare("response code", rcode_text(expected.rcode), rcode_text(message.rcode));
    let mut flags = usual.flags & !expected.without | expected.with;
    if let Some(opcode) = expected.opcode {
        flags = flags & !OPCODE | opcode;
    }
    compare("flags", flags_text(flags), flags_text(message.flags));
    let question = expected.question.as_ref().unwrap_or(&usual.question);
    let spelled =
        |question: &[u8]| if expected.any_case { question.to_ascii_lowercase() } else { question.to_vec() };
    if spelled(question) != spelled(&message.question) {
        compare("question", question_text(question), question_text(&message.question));
        compare("question's bytes", hex_text(question), hex_text(&message.question));
    }
    wrong.extend(edns_difference(&expected.edns, message.edns.as_ref(), usual));
    for (name, (expected, got)) in
        ["answer", "authority", "additional"].iter().zip(expected.sections.iter().zip(&message.sections))
    {
        wrong.extend(section_differences(name, expected, got, late));
    }
    if let Some((least, most)) = expected.bytes
        && !(least..=most).contains(&message.length)
    {
        wrong.push(format!("{} bytes", message.length));
    }
    wrong
}

fn section_differences(
    name: &str,
    expected: &[(Record, Ttl)],
    got: &[Record],
    late: [u32; 2],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for nth in 0..expected.len().max(got.len()) {
        let line = |record: &Record, ttl: &Ttl| {
            record.to_string().replacen(&record.ttl.to_string(), &ttl.to_string(), 1)
        };
        match (expected.get(nth), got.get(nth)) {
            (Some((record, ttl)), Some(got)) if record.is_alike(got) => {
                if !ttl.admits(got.ttl, late[0], late[1]) {
                    wrong.push(format!("{name}: expected TTL {ttl}, got {} in {got}", got.ttl));
                }
            }
            (Some((record, ttl)), Some(got)) => {
                wrong.push(format!("{name}: expected {}, got {got}", line(record, ttl)))
            }
            (Some((record, ttl)), None) => wrong.push(format!("{name}: missing: {}", line(record, ttl))),
            (None, Some(got)) => wrong.push(format!("{name}: unexpected: {got}")),
            (None, None) => {}
        }
    }
    wrong.truncate(8);
    wrong
}

fn edns_difference(expected: &ExpectedEdns, got: Option<&Edns>, usual: &Usual) -> Option<String> {
    let Usual { edns: usual, server_cookie, .. } = usual;
    let usual = usual.as_ref();
    let wanted = match expected.presence {
        Presence::No => None,
        Presence::Yes => Some(Edns {
            size: expected.size.or(usual.map(|edns| edns.size)).unwrap_or(1232),
            version: expected.version,
            flags: expected.flags | if expected.dnssec_ok { Edns::DO } else { 0 },
            options: Vec::new(),
        }),
        Presence::Usual => usual.map(|usual| Edns { flags: usual.flags | expected.flags, ..usual.clone() }),
    };
    let bare = got.map(|got| Edns { options: Vec::new(), ..got.clone() });
    let options = got.map_or(&[][..], |got| &got.options);
    let fit = options.len() == expected.options.len()
        && expected.options.iter().zip(options).all(|(expected, got)| expected.admits(got, server_cookie));
    let text = |edns: Option<&Edns>| edns.map_or_else(|| "no-edns".to_owned(), ToString::to_string);
    (bare != wanted || !fit).then(|| {
        let options: String = expected.options.iter().map(|option| format!(" {option}")).collect();
        format!("EDNS: expected {}{options}, got {}", text(wanted.as_ref()), text(got))
    })
}

impl ExpectedOption {
    fn admits(&self, (code, data): &(u16, Vec<u8>), last: &[u8]) -> bool {
        match self {
            Self::Exactly(wanted, bytes) => wanted == code && bytes == data,
            Self::Error(wanted, text) => {
                *code == EDE
                    && data.get(..2) == Some(&wanted.to_be_bytes())
                    && text.as_ref().is_none_or(|text| text.as_bytes() == &data[2..])
            }
            Self::Cookie(client, server) => {
                // RFC 7873 section 4: the client's part has 8 bytes, the server's 8 to 32.
                let Some((ours, theirs)) = data.split_at_checked(8).filter(|_| *code == COOKIE) else {
                    return false;
                };
                client.as_ref().is_none_or(|client| ours == client)
                    && match server {
                        ServerCookie::Exactly(bytes) => theirs == bytes,
                        ServerCookie::Same => theirs == last,
                        ServerCookie::New => (8..=32).contains(&theirs.len()) && theirs != last,
                        ServerCookie::Any => (8..=32).contains(&theirs.len()),
                    }
            }
        }
    }
}

impl fmt::Display for ExpectedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(code, bytes) => write!(f, "option {code} {}", hex_text(bytes)),
            Self::Error(code, text) => write!(f, "ede {code} {}", text.as_deref().unwrap_or_default()),
            Self::Cookie(client, server) => {
                let client = client.as_ref().map_or_else(|| "any".to_owned(), |client| hex_text(client));
                match server {
                    ServerCookie::Any => write!(f, "cookie {client}+server"),
                    ServerCookie::Same => write!(f, "cookie {client}+same"),
                    ServerCookie::New => write!(f, "cookie {client}+new"),
                    ServerCookie::Exactly(bytes) => write!(f, "cookie {client}+{}", hex_text(bytes)),
                }
            }
        }
    }
}

fn verdict(wrong: Vec<String>, message: &Message) -> Played {
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n  got:\n{message}", wrong.join("\n  "))) }
}

/// A message as well as it can be shown.
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

/// The address of a client in presentation format, for those who ask over both families.
pub fn server_of(from: IpAddr) -> SocketAddr {
    if from.is_ipv4() { crate::DNS_V4 } else { crate::DNS_V6 }
}
