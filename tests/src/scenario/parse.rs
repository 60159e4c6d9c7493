//! From a file's text to a scenario. Whatever is not understood is an error with its line.

use std::iter::Peekable;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use std::vec::IntoIter;

use super::message::{COOKIE, EDE, Edns, OPCODE, QR, RA, RD, flag_of, rcode_of};
use super::record::{Record, Ttl, class_of, hex, name, type_of};
use super::{
    Action, Answer, AnswerId, CLIENT, Content, Expected, ExpectedEdns, ExpectedOption, Over, Presence, Purge,
    Query, Scenario, Send, ServerCookie, Step, Upstream, message::Draft,
};

/// What the first word of a step is.
const VERBS: [&str; 6] = ["client", "upstream", "later", "expect", "operator", "for"];
/// Marks a scenario that is not played in the lab, in its header.
const SIMULATOR_ONLY: &str = "Simulator only: ";
/// What everybody offers over UDP (RFC 9715).
const UDP_SIZE: u16 = 1232;

impl Scenario {
    pub fn load(root: &Path, path: &Path) -> Result<Scenario, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(path).with_extension("");
        Self::parse(&name.display().to_string(), path, &text)
    }

    pub fn parse(name: &str, path: &Path, text: &str) -> Result<Scenario, String> {
        let fail = |line: usize, error: String| format!("{}:{line}: {error}", path.display());
        let lines: Vec<&str> = text.lines().collect();
        let header = lines.iter().take_while(|line| line.starts_with('#')).count();
        let about: Vec<&str> =
            lines[..header].iter().map(|line| line.trim_start_matches('#').trim()).collect();
        if about.is_empty() {
            return Err(fail(1, "begin with a comment that says what the scenario shows".to_owned()));
        }
        let is_step = |line: &&str| VERBS.contains(&line.split_whitespace().next().unwrap_or_default());
        let first =
            lines.iter().position(is_step).ok_or_else(|| fail(header, "there is no step".to_owned()))?;
        let config = lines[header..first].join("\n").parse::<toml::Table>();
        let config = config.map_err(|error| fail(header + 1, error.to_string()))?;
        let lines = unrolled(&lines, first).map_err(|(line, error)| fail(line, error))?;
        let mut steps = Vec::new();
        let mut queries = 0;
        let mut rest = &lines[..];
        while let Some(((number, line), below)) = rest.split_first() {
            let (body, next) = below.split_at(indented(below.iter().map(|(_, line)| &line[..])));
            if !line.is_empty() && !line.starts_with('#') {
                let body: Vec<&str> = body.iter().map(|(_, line)| &line[..]).collect();
                let parsed = action(line, &body, &mut queries).map_err(|error| fail(*number, error))?;
                let text = [&[&line[..]], &body[..]].concat().join("\n").trim_end().to_owned();
                steps.push(Step { line: *number, text, action: parsed });
            }
            rest = next;
        }
        let only = about.iter().find_map(|line| line.strip_prefix(SIMULATOR_ONLY));
        Ok(Scenario {
            name: name.to_owned(),
            path: path.to_owned(),
            about: about.join("\n"),
            config,
            steps,
            simulator_only: only.map(str::to_owned),
        })
    }
}

/// How many of these lines belong to what stands before them.
fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    lines.take_while(|line| line.starts_with([' ', '\t']) || line.is_empty()).count()
}

/// The lines from `first` on, with their numbers. What is indented below `for 1..64` stands there as many times, `{n}` in it being the number.
fn unrolled(lines: &[&str], first: usize) -> Result<Vec<(usize, String)>, (usize, String)> {
    let mut unrolled = Vec::new();
    let mut at = first;
    while at < lines.len() {
        let number = at + 1;
        let Some(range) = lines[at].strip_prefix("for ") else {
            unrolled.push((number, lines[at].to_owned()));
            at += 1;
            continue;
        };
        let bounds = range.split_once("..").map(|(first, last)| (first.parse::<u32>(), last.parse::<u32>()));
        let Some((Ok(from), Ok(to))) = bounds else {
            return Err((number, format!("{range:?} is no range: 1..64")));
        };
        let body = &lines[at + 1..];
        let body = &body[..indented(body.iter().copied())];
        for n in from..=to {
            let n = n.to_string();
            let made = |line: &&str| line.strip_prefix("    ").unwrap_or(line).replace("{n}", &n);
            unrolled.extend((number + 1..).zip(body.iter().map(made)));
        }
        at += 1 + body.len();
    }
    Ok(unrolled)
}

//----------- Configuration ----------------------------------------------------

/// The upstream that stands in an address as a capital letter, and what stands before it.
fn letter(address: &str) -> Option<(&str, Upstream)> {
    let (scheme, rest) = address.rfind("://").map_or(("", address), |at| address.split_at(at + 3));
    match rest.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some((scheme, usize::from(letter - b'A'))),
        _ => None,
    }
}

/// The upstreams that a configuration speaks of.
pub fn configured(config: &toml::Table) -> Vec<Upstream> {
    let upstreams = config.get("upstream").and_then(toml::Value::as_array).into_iter().flatten();
    upstreams.filter_map(|upstream| Some(letter(upstream.get("address")?.as_str()?)?.1)).collect()
}

/// `base` with what the scenario adds and changes, as text.
pub fn merged(mut base: toml::Table, mut scenario: toml::Table, upstreams: &[SocketAddr]) -> String {
    if !scenario.contains_key("upstream") {
        let alone = toml::Table::from_iter([("address".to_owned(), "A".into())]);
        scenario.insert("upstream".to_owned(), toml::Value::Array(vec![alone.into()]));
    }
    if let Some(toml::Value::Array(tables)) = scenario.get_mut("upstream") {
        for address in tables.iter_mut().filter_map(|table| table.get_mut("address")) {
            if let Some((scheme, number)) = address.as_str().and_then(letter) {
                *address = format!("{scheme}{}", upstreams[number]).into();
            }
        }
    }
    for (key, value) in scenario {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
            (_, value) => drop(base.insert(key, value)),
        }
    }
    base.to_string()
}

//----------- Steps ------------------------------------------------------------

/// The words of a step.
struct Words(Peekable<IntoIter<String>>);

impl Words {
    fn of(text: &str) -> Result<Self, String> {
        let mut words: Vec<String> = Vec::new();
        let mut rest = without_comment(text).trim_start();
        while !rest.is_empty() {
            let end = if let Some(quoted) = rest.strip_prefix('"') {
                quoted.find('"').ok_or("a quotation mark is not closed")? + 2
            } else {
                rest.find(char::is_whitespace).unwrap_or(rest.len())
            };
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
        Ok(Words(words.into_iter().peekable()))
    }

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn need(&mut self, what: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.need(what)?;
        word.parse().map_err(|_| format!("{word:?} is no {what}"))
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        self.0.next_if(|next| next == word).is_some()
    }

    fn take_number<T: FromStr>(&mut self) -> Option<T> {
        let word = self.0.next_if(|next| next.parse::<T>().is_ok())?;
        word.parse().ok()
    }

    fn hex(&mut self) -> Result<Vec<u8>, String> {
        hex(&self.need("hexadecimal digits")?)
    }

    fn end(&mut self) -> Result<(), String> {
        self.next().map_or(Ok(()), |word| Err(format!("{word:?} is not understood here")))
    }
}

/// Without what follows a semicolon that is in no quotation marks.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == ';' && !quoted
    });
    line[..end.map_or(line.len(), |(at, _)| at)].trim_end()
}

fn action(line: &str, body: &[&str], queries: &mut usize) -> Result<Action, String> {
    let [line] = &expanded(line)?[..] else { return Err("a step is one".to_owned()) };
    let mut words = Words::of(line)?;
    let subject = words.need("a step")?;
    let upstream = if subject == "upstream" { upstream(&mut words) } else { 0 };
    let verb = words.need("what happens")?;
    let mut body = Body::of(body)?;
    for with in std::mem::take(&mut body.with) {
        let rest: Vec<String> = words.0.by_ref().chain(Words::of(&with)?.0).collect();
        words = Words(rest.into_iter().peekable());
    }
    let action = match (subject.as_str(), verb.as_str()) {
        ("client", "asks") => Action::Send(ask(&mut words, queries)?),
        ("client", "sends") => Action::Send(send_raw(&mut words, &mut body, queries)?),
        ("client", "closes") => Action::Close(words.need("the connection")?),
        ("client", "gets") if words.take("nothing") => {
            Action::GetNothing(words.take("for").then(|| words.need("the query")).transpose()?)
        }
        ("client", "gets") if words.take("end") => Action::GetEnd(words.need("the connection")?),
        ("client", "gets") => Action::Get(Box::new(get(&mut words, &mut body)?)),
        ("upstream", "sees") if words.take("nothing") => Action::SeeNothing(upstream),
        ("upstream", "sees") => Action::See(upstream, Box::new(see(&mut words)?)),
        ("upstream", "answers") => Action::Answer(upstream, Box::new(answer(&mut words, &mut body)?)),
        ("upstream", "sends") => {
            let raw = Some(std::mem::take(&mut body).hex()?);
            Action::Answer(upstream, Box::new(Answer { raw, ..answer(&mut words, &mut body)? }))
        }
        ("upstream", "closes") => Action::Hang(upstream),
        ("upstream", "stops") => Action::Stop(upstream),
        ("upstream", "starts") => Action::Start(upstream),
        ("later", time) => Action::Later(duration(time)?),
        ("expect", pointer) => stat(pointer, &mut words)?,
        ("operator", "purges") => Action::Purge(match words.need("what")?.as_str() {
            "all" => Purge::All,
            "below" => Purge::Suffix(words.need("the name")?),
            name => Purge::Name(name.to_owned()),
        }),
        _ => return Err(format!("{subject} {verb}: nobody does that")),
    };
    words.end()?;
    body.end()?;
    Ok(action)
}

fn upstream(words: &mut Words) -> Upstream {
    let letter = words.0.next_if(|word| matches!(word.as_bytes(), [b'A'..=b'Z']));
    letter.map_or(0, |letter| usize::from(letter.as_bytes()[0] - b'A'))
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count: u64 = number.parse().map_err(|_| format!("{text:?} is no time: 299s, 250ms, 5m, 2h, 1d"))?;
    let seconds = match &text[number.len()..] {
        "ms" => return Ok(Duration::from_millis(count)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        unit => return Err(format!("{unit:?} is no unit of time")),
    };
    Ok(Duration::from_secs(count * seconds))
}

fn stat(pointer: &str, words: &mut Words) -> Result<Action, String> {
    let (relation, value) = (words.need("= or >=")?, words.number("number")?);
    let most = match relation.as_str() {
        "=" => value,
        ">=" => u64::MAX,
        _ => return Err(format!("{relation:?} is neither = nor >=")),
    };
    Ok(Action::Stat { pointer: pointer.to_owned(), least: value, most })
}

//----------- Messages ---------------------------------------------------------

/// The indented lines of a step.
#[derive(Default)]
struct Body {
    with: Vec<String>,
    lines: Vec<String>,
}

impl Body {
    fn of(lines: &[&str]) -> Result<Body, String> {
        let mut body = Body::default();
        for line in lines.iter().map(|line| without_comment(line).trim()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix("with ") {
                Some(words) => body.with.push(words.to_owned()),
                None => body.lines.extend(expanded(line)?),
            }
        }
        Ok(body)
    }

    /// The lines as records, by section.
    fn records(&mut self) -> Result<[Vec<(Record, Ttl)>; 3], String> {
        let mut sections: [Vec<_>; 3] = Default::default();
        let mut section = 0;
        for line in self.lines.drain(..) {
            match line.as_str() {
                "answer:" => section = 0,
                "authority:" => section = 1,
                "additional:" => section = 2,
                record => sections[section].push(Record::parse(record)?),
            }
        }
        Ok(sections)
    }

    fn hex(&mut self) -> Result<Vec<u8>, String> {
        hex(&self.lines.drain(..).collect::<String>())
    }

    fn end(self) -> Result<(), String> {
        self.lines.first().map_or(Ok(()), |line| Err(format!("{line:?} is not understood here")))
    }
}

/// `{1..40}` makes forty lines of one, in which `{+0}` is its number again and `{+1}` one more; `{x*250}` writes 250 x.
fn expanded(line: &str) -> Result<Vec<String>, String> {
    let (Some(open), Some(close)) = (line.find('{'), line.find('}')) else {
        return Ok(vec![line.to_owned()]);
    };
    let (before, braces, after) = (&line[..open], &line[open + 1..close], &line[close + 1..]);
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{{{braces}}} is not understood"));
    let filled: Vec<String> = match (braces.split_once(".."), braces.split_once('*')) {
        (Some((first, last)), _) => (number(first)?..=number(last)?)
            .map(|n| {
                let again =
                    |text: &str, plus: usize| text.replace(&format!("{{+{plus}}}"), &(n + plus).to_string());
                format!("{before}{n}{}", again(&again(after, 0), 1))
            })
            .collect(),
        (_, Some((text, times))) => vec![format!("{before}{}{after}", text.repeat(number(times)?))],
        _ => return Err(format!("{{{braces}}} is neither {{1..40}} nor {{x*250}}")),
    };
    let lines = filled.iter().map(|line| expanded(line)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.concat())
}

/// Name, type and class, as wire bytes.
fn question(words: &mut Words) -> Result<Vec<u8>, String> {
    let (name, kind) = (name(&words.need("the name")?)?, words.need("the type")?);
    let rtype = type_of(&kind).ok_or_else(|| format!("{kind:?} is no record type"))?;
    let class =
        words.0.next_if(|word| class_of(word).is_some()).and_then(|word| class_of(&word)).unwrap_or(1);
    let mut wire: Vec<u8> = name.iter().flat_map(|label| [&[label.len() as u8], label].concat()).collect();
    wire.push(0);
    wire.extend([rtype.to_be_bytes(), class.to_be_bytes()].concat());
    Ok(wire)
}

fn question_or_none(words: &mut Words) -> Result<Option<Vec<u8>>, String> {
    if words.take("none") { Ok(Some(Vec::new())) } else { question(words).map(Some) }
}

/// `+cd` or `-rd`: a flag and whether it is set.
fn flag(word: &str) -> Option<(u16, bool)> {
    let set = word.starts_with('+');
    let name = word.strip_prefix(['+', '-'])?;
    flag_of(name).map(|flag| (flag, set))
}

fn change_flags(flags: &mut u16, word: &str) -> bool {
    let Some((flag, set)) = flag(word) else { return false };
    if set {
        *flags |= flag
    } else {
        *flags &= !flag
    }
    true
}

fn opcode(words: &mut Words) -> Result<u16, String> {
    let word = words.need("the opcode")?;
    let code = match word.as_str() {
        "iquery" => 1,
        "status" => 2,
        "notify" => 4,
        "update" => 5,
        "dso" => 6,
        number => {
            number.parse().ok().filter(|code| *code < 16).ok_or_else(|| format!("{word:?} is no opcode"))?
        }
    };
    Ok(code << 11 & OPCODE)
}

/// Words about EDNS, of a message that is sent. False: it is none of them.
fn edns_word(edns: &mut Option<Edns>, word: &str, words: &mut Words) -> Result<bool, String> {
    let plain = || Edns { size: UDP_SIZE, ..Edns::default() };
    match word {
        "edns" => edns.get_or_insert_with(plain).size = words.take_number().unwrap_or(UDP_SIZE),
        "do" => edns.get_or_insert_with(plain).flags |= Edns::DO,
        "version" => edns.get_or_insert_with(plain).version = words.number("version")?,
        "ednsflags" => {
            let [high, low] = words.hex()?[..] else { return Err("ednsflags: four digits".to_owned()) };
            edns.get_or_insert_with(plain).flags |= u16::from_be_bytes([high, low]);
        }
        "option" => {
            let code = words.number("option's code")?;
            let data = words.0.next_if(|word| hex(word).is_ok()).map_or(Ok(Vec::new()), |word| hex(&word))?;
            edns.get_or_insert_with(plain).options.push((code, data));
        }
        "ede" => {
            let code: u16 = words.number("error code")?;
            let text = words.0.next_if(|word| word.starts_with('"')).unwrap_or_default();
            let data = [&code.to_be_bytes(), text.trim_matches('"').as_bytes()].concat();
            edns.get_or_insert_with(plain).options.push((EDE, data));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn ask(words: &mut Words, queries: &mut usize) -> Result<Send, String> {
    *queries += 1;
    let id = 0x1000 + *queries as u16;
    let draft = Draft { id, flags: RD, question: question(words)?, ..Draft::default() };
    let mut query = Query { draft, server_cookie: false };
    let mut send =
        Send { from: CLIENT, tcp: None, label: queries.to_string(), content: Content::Raw(Vec::new()) };
    while let Some(word) = words.next() {
        let draft = &mut query.draft;
        if change_flags(&mut draft.flags, &word) || edns_word(&mut draft.edns, &word, words)? {
            continue;
        }
        match word.as_str() {
            "id" => draft.id = words.number("ID")?,
            "opcode" => draft.flags |= opcode(words)?,
            "cookie" => {
                let cookie = words.need("a cookie")?;
                query.server_cookie = cookie.ends_with("+server");
                let data = hex(cookie.trim_end_matches("+server"))?;
                let edns = draft.edns.get_or_insert_with(|| Edns { size: UDP_SIZE, ..Edns::default() });
                edns.options.push((COOKIE, data));
            }
            word => sending(&mut send, word, words)?,
        }
    }
    send.content = Content::Query(Box::new(query));
    Ok(send)
}

fn sending(send: &mut Send, word: &str, words: &mut Words) -> Result<(), String> {
    match word {
        "over" if words.take("tcp") => {
            send.tcp = Some(send.tcp.take().unwrap_or_else(|| format!("of query {}", send.label)))
        }
        "on" => send.tcp = Some(words.need("the connection")?),
        "as" => send.label = words.need("the query's name")?,
        "from" => {
            send.from = words.number("address")?;
            let near = match send.from {
                IpAddr::V4(address) => address.octets().starts_with(&[10, 53, 0]),
                IpAddr::V6(address) => address.segments()[..4] == [0xfd53, 0, 0, 0],
            };
            if !near {
                return Err("clients are in 10.53.0.0/24 and fd53::/64".to_owned());
            }
        }
        _ => return Err(format!("{word:?} is not understood here")),
    }
    Ok(())
}

fn send_raw(words: &mut Words, body: &mut Body, queries: &mut usize) -> Result<Send, String> {
    *queries += 1;
    let content = Content::Raw(body.hex()?);
    let mut send = Send { from: CLIENT, tcp: None, label: queries.to_string(), content };
    while let Some(word) = words.next() {
        sending(&mut send, &word, words)?;
    }
    Ok(send)
}

/// Words about a message that is expected, whoever gets it.
fn expected_word(expected: &mut Expected, word: &str, words: &mut Words) -> Result<bool, String> {
    if let Some((flag, set)) = flag(word) {
        if set {
            expected.with |= flag
        } else {
            expected.without |= flag
        }
        return Ok(true);
    }
    let edns = &mut expected.edns;
    match word {
        "no-edns" => edns.presence = Presence::No,
        "edns" => {
            edns.presence = Presence::Yes;
            edns.size = words.take_number();
        }
        "version" => edns.version = words.number("version")?,
        "do" => (edns.presence, edns.dnssec_ok) = (Presence::Yes, true),
        "ednsflags" => {
            let [high, low] = words.hex()?[..] else { return Err("ednsflags: four digits".to_owned()) };
            edns.flags = u16::from_be_bytes([high, low]);
        }
        "option" => {
            let code = words.number("option's code")?;
            let data = words.0.next_if(|word| hex(word).is_ok()).map_or(Ok(Vec::new()), |word| hex(&word))?;
            edns.options.push(ExpectedOption::Exactly(code, data));
        }
        "ede" => {
            let code = words.number("error code")?;
            let text = words.0.next_if(|word| word.starts_with('"'));
            edns.options
                .push(ExpectedOption::Error(code, text.map(|text| text.trim_matches('"').to_owned())));
        }
        "cookie" => {
            let cookie = words.need("a cookie, or any")?;
            let (client, server) = cookie.split_once('+').unwrap_or((&cookie, ""));
            let client = if client == "any" { None } else { Some(hex(client)?) };
            let server = match server {
                "server" => ServerCookie::Any,
                "same" => ServerCookie::Same,
                "new" => ServerCookie::New,
                digits => ServerCookie::Exactly(hex(digits)?),
            };
            edns.options.push(ExpectedOption::Cookie(client, server));
        }
        "opcode" => expected.opcode = Some(opcode(words)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn get(words: &mut Words, body: &mut Body) -> Result<Expected, String> {
    let rcode = words.need("the response code")?;
    let rcode = rcode_of(&rcode).ok_or_else(|| format!("{rcode:?} is no response code"))?;
    let mut expected = Expected { rcode, ..Expected::default() };
    while let Some(word) = words.next() {
        if expected_word(&mut expected, &word, words)? {
            continue;
        }
        match word.as_str() {
            "for" => expected.label = Some(words.need("the query's name")?),
            "question" => expected.question = question_or_none(words)?,
            "bytes" => {
                let bound = words.need("a number of bytes")?;
                let number = bound.trim_start_matches(['<', '>', '=']);
                let number = number.parse().map_err(|_| format!("{bound:?} is no number of bytes"))?;
                expected.bytes = Some(match &bound[..1] {
                    "<" => (0, number),
                    ">" => (number, usize::MAX),
                    _ => (number, number),
                });
            }
            word => return Err(format!("{word:?} is not understood here")),
        }
    }
    expected.sections = body.records()?;
    Ok(expected)
}

fn see(words: &mut Words) -> Result<Expected, String> {
    let edns = ExpectedEdns { presence: Presence::Yes, size: Some(UDP_SIZE), ..ExpectedEdns::default() };
    let question = Some(question(words)?);
    let mut expected = Expected { question, edns, over: Some(Over::Udp), ..Expected::default() };
    while let Some(word) = words.next() {
        if expected_word(&mut expected, &word, words)? {
            continue;
        }
        match word.as_str() {
            "over" if words.take("tcp") => expected.over = Some(Over::Tcp),
            "any-case" => expected.any_case = true,
            "as" => expected.label = Some(words.need("the query's name")?),
            word => return Err(format!("{word:?} is not understood here")),
        }
    }
    Ok(expected)
}

fn answer(words: &mut Words, body: &mut Body) -> Result<Answer, String> {
    let draft = Draft { flags: QR | RD | RA, ..Draft::default() };
    let mut answer = Answer {
        label: None,
        draft,
        id: None,
        question: None,
        from_elsewhere: false,
        cookie: None,
        cut: None,
        followed_by: Vec::new(),
        raw: None,
    };
    while let Some(word) = words.next() {
        let draft = &mut answer.draft;
        if change_flags(&mut draft.flags, &word) || edns_word(&mut draft.edns, &word, words)? {
            continue;
        }
        match word.as_str() {
            "to" => answer.label = Some(words.need("the query's name")?),
            "id" if words.take("wrong") => answer.id = Some(AnswerId::Wrong),
            "id" => answer.id = Some(AnswerId::Exactly(words.number("ID")?)),
            "question" => answer.question = question_or_none(words)?,
            "opcode" => draft.flags |= opcode(words)?,
            "from" if words.take("elsewhere") => answer.from_elsewhere = true,
            "cookie" => {
                answer.cookie = Some(words.hex()?);
                draft.edns.get_or_insert_with(|| Edns { size: UDP_SIZE, ..Edns::default() });
            }
            "cut" => answer.cut = Some(words.number("number of bytes")?),
            "followed" if words.take("by") => answer.followed_by = words.hex()?,
            word => {
                let rcode = rcode_of(word).ok_or_else(|| format!("{word:?} is not understood here"))?;
                draft.flags |= rcode & 0x0f;
                draft.extended = (rcode >> 4) as u8;
            }
        }
    }
    answer.draft.sections =
        body.records()?.map(|records| records.into_iter().map(|(record, _)| record).collect());
    Ok(answer)
}
