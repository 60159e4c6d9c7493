//! Parser of the words about messages that are sent, and about those that are expected.

use std::net::IpAddr;

use super::super::message::{COOKIE, Draft, EDE, Edns, OPCODE, QR, RA, RD, flag_of, rcode_of};
use super::super::record::{class_of, hex, name, type_of};
use super::super::{
    Answer, AnswerId, CLIENT, Content, Expected, ExpectedEdns, ExpectedOption, Over, Presence, Query, Send,
    ServerCookie,
};
use super::{Body, Words};

/// Default UDP size in bytes (RFC 9715).
const UDP_SIZE: u16 = 1232;

/// Parses name, type and class into wire bytes.
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

/// Parses `+cd` or `-rd`: returns the flag and whether it is set.
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

/// Parses a word about EDNS of a message that is sent. Returns false if it is another word.
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

pub(super) fn ask(words: &mut Words, queries: &mut usize) -> Result<Send, String> {
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

pub(super) fn send_raw(words: &mut Words, body: &mut Body, queries: &mut usize) -> Result<Send, String> {
    *queries += 1;
    let content = Content::Raw(body.hex()?);
    let mut send = Send { from: CLIENT, tcp: None, label: queries.to_string(), content };
    while let Some(word) = words.next() {
        sending(&mut send, &word, words)?;
    }
    Ok(send)
}

/// Parses a word about an expected message, of a client or an upstream. Returns false if it is
/// another word.
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

pub(super) fn get(words: &mut Words, body: &mut Body) -> Result<Expected, String> {
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

pub(super) fn see(words: &mut Words) -> Result<Expected, String> {
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

pub(super) fn answer(words: &mut Words, body: &mut Body) -> Result<Answer, String> {
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
