//! Messages of scenarios: built from words, parsed strictly, shown as text.

use std::fmt;

use hickory_proto::rr::Name;

use super::record::{Encoder, Record, hex_text, name_text, read_name, type_text, wire_name};

pub const QR: u16 = 0x8000;
pub const RD: u16 = 0x0100;
pub const RA: u16 = 0x0080;
pub const CD: u16 = 0x0010;
pub const TC: u16 = 0x0200;
pub const AD: u16 = 0x0020;
pub const OPCODE: u16 = 0x7800;

pub const OPT: u16 = 41;
/// Types whose data every client reads: A, NS, CNAME, SOA, PTR, MX, AAAA, SRV, DNAME, OPT.
const STRICT: [u16; 10] = [1, 2, 5, 6, 12, 15, 28, 33, 39, OPT];
/// A type that nobody knows.
const UNKNOWN: u16 = 65_280;
pub const COOKIE: u16 = 10;
pub const EDE: u16 = 15;

/// Names of the header flags.
const FLAGS: [(&str, u16); 8] =
    [("qr", QR), ("aa", 0x0400), ("tc", TC), ("rd", RD), ("ra", RA), ("z", 0x0040), ("ad", AD), ("cd", CD)];

const RCODES: [(&str, u16); 14] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("YXRRSET", 7),
    ("NXRRSET", 8),
    ("NOTAUTH", 9),
    ("NOTZONE", 10),
    ("DSOTYPENI", 11),
    ("BADVERS", 16),
    ("BADCOOKIE", 23),
];

pub fn flag_of(name: &str) -> Option<u16> {
    FLAGS.iter().find(|flag| flag.0 == name).map(|flag| flag.1)
}

pub fn flags_text(flags: u16) -> String {
    let set = FLAGS.iter().filter(|flag| flags & flag.1 != 0).map(|flag| flag.0);
    let opcode = (flags & OPCODE) >> 11;
    let opcode = (opcode != 0).then(|| format!("opcode {opcode}"));
    set.map(str::to_owned).chain(opcode).collect::<Vec<_>>().join(" ")
}

pub fn rcode_of(name: &str) -> Option<u16> {
    let number = || name.strip_prefix("RCODE").and_then(|number| number.parse().ok());
    RCODES.iter().find(|rcode| rcode.0 == name).map(|rcode| rcode.1).or_else(number)
}

pub fn rcode_text(rcode: u16) -> String {
    let known = RCODES.iter().find(|known| known.1 == rcode);
    known.map_or_else(|| format!("RCODE{rcode}"), |known| known.0.to_owned())
}

/// Parsed OPT record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    pub size: u16,
    pub version: u8,
    /// DO and the other flags.
    pub flags: u16,
    pub options: Vec<(u16, Vec<u8>)>,
}

impl Edns {
    pub const DO: u16 = 0x8000;
}

impl fmt::Display for Edns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edns {}", self.size)?;
        if self.version != 0 {
            write!(f, " version {}", self.version)?;
        }
        if self.flags & Self::DO != 0 {
            write!(f, " do")?;
        }
        if self.flags & !Self::DO != 0 {
            write!(f, " ednsflags {:04x}", self.flags & !Self::DO)?;
        }
        for (code, data) in &self.options {
            match (*code, data.split_first_chunk::<2>()) {
                (COOKIE, _) => write!(f, " cookie {}", hex_text(data))?,
                (EDE, Some((code, text))) => {
                    write!(f, " ede {}", u16::from_be_bytes(*code))?;
                    if !text.is_empty() {
                        write!(f, " \"{}\"", text.escape_ascii())?;
                    }
                }
                _ => write!(f, " option {code} {}", hex_text(data))?,
            }
        }
        Ok(())
    }
}

/// Message to send.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub id: u16,
    /// Second word of the header, including the lower bits of the response code.
    pub flags: u16,
    /// Upper bits of the response code: only EDNS has room for them.
    pub extended: u8,
    /// Wire bytes of the question; empty: none.
    pub question: Vec<u8>,
    pub sections: [Vec<Record>; 3],
    pub edns: Option<Edns>,
}

impl Draft {
    pub fn wire(&self) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut to = Encoder::over(&mut bytes);
        let count = |records: &[Record]| records.len() as u16;
        let [answer, authority, additional] = [0, 1, 2].map(|section| count(&self.sections[section]));
        let additional = additional + u16::from(self.edns.is_some());
        let questions = u16::from(!self.question.is_empty());
        for word in [self.id, self.flags, questions, answer, authority, additional] {
            to.word(word)?;
        }
        // hickory-proto writes the name, so that records can point to it.
        if !self.question.is_empty() {
            let (name, end) = read_name(&self.question, 0)?;
            to.name(&name)?;
            to.bytes(&self.question[end..])?;
        }
        self.sections.iter().flatten().try_for_each(|record| record.emit(&mut to))?;
        if let Some(edns) = &self.edns {
            to.bytes(&[0])?;
            for word in [OPT, edns.size, u16::from_be_bytes([self.extended, edns.version]), edns.flags] {
                to.word(word)?;
            }
            to.measured(|to| {
                edns.options.iter().try_for_each(|(code, data)| {
                    to.word(*code)?;
                    to.word(data.len() as u16)?;
                    to.bytes(data)
                })
            })?;
        }
        for (at, length) in to.finish() {
            let length = u16::try_from(length).map_err(|_| "data beyond 64 KiB")?;
            bytes[at - 2..at].copy_from_slice(&length.to_be_bytes());
        }
        Ok(bytes)
    }
}

/// Received message.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: u16,
    pub flags: u16,
    /// Whole response code, including the bits in OPT.
    pub rcode: u16,
    /// Wire bytes of the question; empty: none.
    pub question: Vec<u8>,
    pub sections: [Vec<Record>; 3],
    pub edns: Option<Edns>,
    pub length: usize,
}

impl Message {
    /// Parses a message. Rejects everything that a client could object to: bytes after the end, a
    /// second question, an OPT in the wrong place or twice. Also rejects messages that hickory-proto
    /// cannot read; it sees the data of most types as that of an unknown one, since a cache passes on
    /// what it does not know.
    pub fn read(bytes: &[u8]) -> Result<Message, String> {
        let word = |at: usize| bytes.get(at..at + 2).map(|word| u16::from_be_bytes([word[0], word[1]]));
        let header: Option<Vec<u16>> = (0..6).map(|nth| word(2 * nth)).collect();
        let header = header.ok_or("shorter than a header")?;
        let [id, flags, questions, counts @ ..] = &header[..] else { return Err("no header".to_owned()) };
        let mut at = 12;
        if *questions > 0 {
            at = read_name(bytes, at)?.1 + 4;
        }
        if *questions > 1 {
            return Err(format!("{questions} questions"));
        }
        let question = bytes.get(12..at).ok_or("the question ends early")?.to_vec();
        let mut sections: [Vec<Record>; 3] = Default::default();
        let (mut edns, mut extended) = (None, 0);
        // Tries it as an update, in which hickory-proto also reads records without data.
        let mut update = bytes.to_vec();
        update[2] = update[2] & !0x78 | 5 << 3;
        for (section, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                let (record, end) = Record::read(bytes, at)?;
                if !STRICT.contains(&record.rtype) {
                    let rtype = read_name(bytes, at)?.1;
                    update[rtype..rtype + 2].copy_from_slice(&UNKNOWN.to_be_bytes());
                }
                at = end;
                if record.rtype != OPT {
                    sections[section].push(record);
                } else if section != 2 || edns.is_some() || !record.owner.is_root() {
                    return Err("an OPT in the wrong place, or a second one".to_owned());
                } else {
                    let [high, version, f1, f0] = record.ttl.to_be_bytes();
                    extended = u16::from(high);
                    let flags = u16::from_be_bytes([f1, f0]);
                    edns = Some(Edns { size: record.class, version, flags, options: options(&record.data)? });
                }
            }
        }
        if at != bytes.len() {
            return Err(format!("{} bytes behind the end", bytes.len() - at));
        }
        if let Err(error) = hickory_proto::op::Message::from_vec(&update) {
            return Err(format!("hickory-proto does not read it: {error}"));
        }
        let rcode = extended << 4 | flags & 0x0f;
        Ok(Message { id: *id, flags: flags & !0x0f, rcode, question, sections, edns, length: bytes.len() })
    }

    /// Returns the question's name in its letter case, and its type.
    pub fn asks(&self) -> String {
        question_text(&self.question)
    }
}

/// Returns the name, type and class of a question.
pub fn asked_in(question: &[u8]) -> Option<(Name, u16, u16)> {
    let (name, end) = read_name(question, 0).ok()?;
    let [t1, t0, c1, c0] = *question.get(end..)?.first_chunk()?;
    Some((name, u16::from_be_bytes([t1, t0]), u16::from_be_bytes([c1, c0])))
}

/// Returns the wire bytes of a question.
pub fn question_of(name: &Name, qtype: u16, class: u16) -> Result<Vec<u8>, String> {
    Ok([&wire_name(name)?[..], &qtype.to_be_bytes(), &class.to_be_bytes()].concat())
}

/// Returns a question as text: `WWW.example. A`.
pub fn question_text(question: &[u8]) -> String {
    let Ok((name, end)) = read_name(question, 0) else { return "no question".to_owned() };
    let Some([t1, t0, c1, c0]) = question.get(end..end + 4) else { return "half a question".to_owned() };
    let class = u16::from_be_bytes([*c1, *c0]);
    let class = if class == 1 { String::new() } else { format!(" CLASS{class}") };
    format!("{} {}{class}", name_text(&name), type_text(u16::from_be_bytes([*t1, *t0])))
}

fn options(mut data: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, String> {
    let mut options = Vec::new();
    while let Some(([c1, c0, l1, l0], rest)) = data.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*l1, *l0]));
        let option = rest.get(..length).ok_or("an EDNS option ends early")?;
        options.push((u16::from_be_bytes([*c1, *c0]), option.to_vec()));
        data = &rest[length..];
    }
    if data.is_empty() { Ok(options) } else { Err("half an EDNS option".to_owned()) }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { id, flags, rcode, question, sections, edns, length } = self;
        writeln!(f, "    {}, flags {}, id {id}, {length} bytes", rcode_text(*rcode), flags_text(*flags))?;
        let asked = if question.is_empty() { "no question".to_owned() } else { self.asks() };
        let edns = edns.as_ref().map_or_else(|| "no-edns".to_owned(), ToString::to_string);
        writeln!(f, "    {asked}, {edns}")?;
        for (name, records) in ["answer", "authority", "additional"].iter().zip(sections) {
            if !records.is_empty() {
                writeln!(f, "    {name}:")?;
            }
            for record in records.iter().take(20) {
                writeln!(f, "        {record}")?;
            }
            if records.len() > 20 {
                writeln!(f, "        ... {} more", records.len() - 20)?;
            }
        }
        Ok(())
    }
}
