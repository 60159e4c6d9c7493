//! Conversion of records between master file text and wire bytes. hickory-proto does it where it
//! can. This file does it where hickory-proto is more lenient than a test may be (letter case of
//! names), or does not know the text (unknown types, TXT, DNAME, RRSIG, NSEC).

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{
    BinDecodable, BinDecoder, BinEncodable, BinEncoder, NameEncoding, Restrict,
};

/// Types of RFC 1035 and RFC 2782 whose data may have compressed names (RFC 3597 section 4).
const COMPRESSED: [u16; 6] = [2, 5, 6, 12, 15, 33];
const DNAME: u16 = 39;
const TXT: u16 = 16;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;

/// Record, with uncompressed names in its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub owner: Name,
    pub ttl: u32,
    pub class: u16,
    pub rtype: u16,
    pub data: Vec<u8>,
}

impl Record {
    /// Whether everything except the TTL is equal, including letter case.
    pub fn is_alike(&self, other: &Record) -> bool {
        let same = |r: &Record| (r.class, r.rtype, r.data.clone());
        self.owner.eq_case(&other.owner) && same(self) == same(other)
    }

    /// Parses one line of a master file: owner, TTL, class (optional), type, data.
    pub fn parse(line: &str) -> Result<(Record, Ttl), String> {
        let mut rest = line;
        let mut word = || {
            rest = rest.trim_start();
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            word
        };
        let owner = name(word())?;
        let ttl: Ttl = word().parse()?;
        let mut class = 1;
        let mut kind = word();
        if let Some(found) = class_of(kind) {
            class = found;
            kind = word();
        }
        let rtype = type_of(kind).ok_or_else(|| format!("{kind:?} is no record type"))?;
        let data = data_of(rtype, rest.trim())?;
        Ok((Record { owner, ttl: ttl.least(), class, rtype, data }, ttl))
    }

    /// Appends the record to a message, with names compressed as by a server.
    pub(super) fn emit(&self, to: &mut Encoder<'_>) -> Result<(), String> {
        to.name(&self.owner)?;
        for word in [self.rtype, self.class, (self.ttl >> 16) as u16, self.ttl as u16] {
            to.word(word)?;
        }
        to.measured(|to| {
            if COMPRESSED[..5].contains(&self.rtype) {
                let data = typed(self.rtype, &self.data, 0, self.data.len())?;
                data.emit(&mut to.0).map_err(|e| e.to_string())
            } else {
                to.bytes(&self.data)
            }
        })
    }

    /// Reads the record at `at` of a message. Returns it and its end.
    pub(super) fn read(message: &[u8], at: usize) -> Result<(Record, usize), String> {
        let (owner, at) = read_name(message, at)?;
        let fixed = message.get(at..at + 10).ok_or("a record's header ends early")?;
        let word = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        let (rtype, length) = (word(0), usize::from(word(8)));
        let end = at + 10 + length;
        let data = message.get(at + 10..end).ok_or("a record's data ends early")?;
        let data = if COMPRESSED.contains(&rtype) {
            plain(&typed(rtype, message, at + 10, length)?)?
        } else {
            data.to_vec()
        };
        let ttl = u32::from(word(4)) << 16 | u32::from(word(6));
        Ok((Record { owner, ttl, class: word(2), rtype, data }, end))
    }

    fn data_text(&self) -> String {
        let known = match self.rtype {
            DNAME => read_name(&self.data, 0).ok().map(|(name, _)| name_text(&name)),
            TXT => strings(&self.data),
            RRSIG => signature(&self.data),
            NSEC => next_secure(&self.data),
            65_280.. => None,
            rtype => typed(rtype, &self.data, 0, self.data.len()).ok().and_then(|data| match data {
                RData::Unknown { .. } | RData::NULL(_) => None,
                data => Some(data.to_string()),
            }),
        };
        known.unwrap_or_else(|| format!("\\# {} {}", self.data.len(), hex_text(&self.data)))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { owner, ttl, class, rtype, .. } = self;
        let mut data = self.data_text();
        if data.len() > 160 {
            data.truncate(data.floor_char_boundary(160));
            data += "...";
        }
        write!(f, "{} {ttl} {} {} {data}", name_text(owner), class_text(*class), type_text(*rtype))
    }
}

/// Expected TTL: `300`, `290-300`, or `*` for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(u32, u32);

impl Ttl {
    fn least(self) -> u32 {
        self.0
    }

    /// Whether `ttl` is as expected, if the reply may be `late` seconds late, and an answer that it
    /// repeats up to `earlier` seconds.
    pub fn admits(self, ttl: u32, late: u32, earlier: u32) -> bool {
        (self.0.saturating_sub(late)..=self.1.saturating_add(earlier)).contains(&ttl)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 { write!(f, "{}", self.0) } else { write!(f, "{}-{}", self.0, self.1) }
    }
}

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.parse::<u32>().map_err(|_| format!("{text:?} is no TTL"));
        match text.split_once('-') {
            _ if text == "*" => Ok(Ttl(0, u32::MAX)),
            Some((least, most)) => Ok(Ttl(number(least)?, number(most)?)),
            None => number(text).map(|ttl| Ttl(ttl, ttl)),
        }
    }
}

/// Writer of a message, with names compressed against earlier ones.
pub(super) struct Encoder<'a>(BinEncoder<'a>, Vec<(usize, usize)>);

impl<'a> Encoder<'a> {
    pub fn over(bytes: &'a mut Vec<u8>) -> Self {
        Encoder(BinEncoder::new(bytes), Vec::new())
    }

    pub fn word(&mut self, word: u16) -> Result<(), String> {
        self.0.emit_u16(word).map_err(|e| e.to_string())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        bytes.iter().try_for_each(|byte| self.0.emit(*byte)).map_err(|e| e.to_string())
    }

    pub fn name(&mut self, name: &Name) -> Result<(), String> {
        name.emit(&mut self.0).map_err(|e| e.to_string())
    }

    /// Writes something after its length.
    pub fn measured(&mut self, write: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.word(0)?;
        let start = self.0.offset();
        write(self)?;
        self.1.push((start, self.0.offset() - start));
        Ok(())
    }

    /// Ends the message. Returns position and value of each length to fill in.
    pub fn finish(self) -> Vec<(usize, usize)> {
        self.1
    }
}

/// Parses a name, keeping its letter case, with or without its final dot. hickory-proto would read
/// `\\195` as octal digits.
pub fn name(text: &str) -> Result<Name, String> {
    let wrong = |error: &dyn fmt::Display| format!("{text:?} is no name: {error}");
    let mut labels = vec![Vec::new()];
    let mut letters = text.as_bytes().iter().copied();
    while let Some(letter) = letters.next() {
        let byte = match letter {
            b'.' => {
                labels.push(Vec::new());
                continue;
            }
            b'\\' => {
                let rest = letters.clone().collect::<Vec<u8>>();
                let digits =
                    rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
                letters.nth(if digits.is_some() { 2 } else { 0 });
                digits.or(rest.first().copied()).ok_or_else(|| wrong(&"it ends after \\"))?
            }
            letter => letter,
        };
        labels.last_mut().expect("there is always one").push(byte);
    }
    if labels.last().is_some_and(Vec::is_empty) {
        labels.pop();
    }
    if text == "." {
        return Ok(Name::root());
    }
    let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).map_err(|error| wrong(&error))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Returns a name in presentation format, with its final dot. hickory-proto would escape in octal
/// digits.
pub fn name_text(name: &Name) -> String {
    let byte = |byte: &u8| match byte {
        b'.' | b'\\' | b'"' | b';' => format!("\\{}", char::from(*byte)),
        b'!'..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03}"),
    };
    let label = |label: &[u8]| label.iter().map(byte).collect::<String>() + ".";
    if name.is_root() { ".".to_owned() } else { name.iter().map(label).collect() }
}

/// Reads a name. Returns it and its end.
pub(super) fn read_name(message: &[u8], at: usize) -> Result<(Name, usize), String> {
    let start = u16::try_from(at).map_err(|_| "beyond 64 KiB")?;
    let mut decoder = BinDecoder::new(message).clone(start);
    let name = Name::read(&mut decoder).map_err(|error| format!("a name at {at}: {error}"))?;
    Ok((name, decoder.index()))
}

pub fn type_of(text: &str) -> Option<u16> {
    let number = text.strip_prefix("TYPE").and_then(|number| number.parse().ok());
    let named = || match text {
        "ANY" => Some(255),
        "IXFR" => Some(251),
        "MAILB" => Some(253),
        "MAILA" => Some(254),
        "SPF" => Some(99),
        "LOC" => Some(29),
        "RP" => Some(17),
        "OPT" => Some(41),
        _ => RecordType::from_str(text).ok().map(u16::from),
    };
    number.or_else(named)
}

pub fn type_text(rtype: u16) -> String {
    match RecordType::from(rtype) {
        RecordType::Unknown(_) => format!("TYPE{rtype}"),
        known => known.to_string(),
    }
}

pub fn class_of(text: &str) -> Option<u16> {
    match text {
        "IN" => Some(1),
        "CH" => Some(3),
        "HS" => Some(4),
        "NONE" => Some(254),
        _ => text.strip_prefix("CLASS").and_then(|number| number.parse().ok()),
    }
}

fn class_text(class: u16) -> String {
    match class {
        1 => "IN".to_owned(),
        3 => "CH".to_owned(),
        class => format!("CLASS{class}"),
    }
}

/// Parses bytes as pairs of hexadecimal digits, with or without blanks.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        (pair.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten()
    };
    digits.chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| format!("{text:?} is not hexadecimal"))
}

pub fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn data_of(rtype: u16, text: &str) -> Result<Vec<u8>, String> {
    if let Some(generic) = text.strip_prefix("\\#") {
        let (length, digits) = generic.trim_start().split_once(' ').unwrap_or((generic.trim(), ""));
        let bytes = hex(digits)?;
        let right = length.parse() == Ok(bytes.len());
        return if right { Ok(bytes) } else { Err(format!("{} bytes of data, not {length}", bytes.len())) };
    }
    match rtype {
        RRSIG => parse_signature(text),
        NSEC => parse_next_secure(text),
        _ => {
            if let Some(kinds) = words_of(rtype) {
                return parse_words(kinds, text);
            }
            let data = RData::try_from_str(RecordType::from(rtype), text);
            plain(&data.map_err(|error| format!("{text:?} is no data of {}: {error}", type_text(rtype)))?)
        }
    }
}

/// Returns the layout of the data of types that have only names and numbers: for each word, the
/// number of bytes of a number, or 0 for a name.
fn words_of(rtype: u16) -> Option<&'static [usize]> {
    match rtype {
        2 | 5 | 12 | DNAME => Some(&[0]),
        6 => Some(&[0, 0, 4, 4, 4, 4, 4]),
        15 => Some(&[2, 0]),
        33 => Some(&[2, 2, 2, 0]),
        _ => None,
    }
}

fn parse_words(kinds: &[usize], text: &str) -> Result<Vec<u8>, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() != kinds.len() {
        return Err(format!("{text:?} has not {} words", kinds.len()));
    }
    let mut bytes = Vec::new();
    for (kind, word) in kinds.iter().zip(words) {
        match kind {
            0 => bytes.extend(wire_name(&name(word)?)?),
            length => {
                let number: u32 = word.parse().map_err(|_| format!("{word:?} is no number"))?;
                bytes.extend(&number.to_be_bytes()[4 - length..]);
            }
        }
    }
    Ok(bytes)
}

fn typed(rtype: u16, bytes: &[u8], at: usize, length: usize) -> Result<RData, String> {
    let (at, length) = (at.try_into(), length.try_into());
    let (Ok(at), Ok(length)) = (at, length) else { return Err("beyond 64 KiB".to_owned()) };
    let mut decoder = BinDecoder::new(bytes).clone(at);
    let data = RData::read(&mut decoder, RecordType::from(rtype), Restrict::new(length));
    data.map_err(|error| format!("data of {}: {error}", type_text(rtype)))
}

fn plain(data: &RData) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn strings(mut data: &[u8]) -> Option<String> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let string = rest.get(..usize::from(*length))?;
        texts.push(format!("\"{}\"", string.escape_ascii()));
        data = &rest[string.len()..];
    }
    Some(texts.join(" "))
}

/// Parses RFC 4034 section 3.2, with times as numbers: their meaning does not matter to a cache.
fn parse_signature(text: &str) -> Result<Vec<u8>, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [covered, algorithm, labels, ttl, expires, begins, tag, signer, signature @ ..] = &words[..] else {
        return Err("RRSIG: type algorithm labels TTL expiration inception tag signer signature".to_owned());
    };
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("RRSIG: {text:?} is no number"));
    let covered = type_of(covered).ok_or_else(|| format!("{covered:?} is no record type"))?;
    let mut bytes = covered.to_be_bytes().to_vec();
    for short in [algorithm, labels] {
        bytes.push(number(short)? as u8);
    }
    for long in [ttl, expires, begins] {
        bytes.extend(number(long)?.to_be_bytes());
    }
    bytes.extend((number(tag)? as u16).to_be_bytes());
    bytes.extend(wire_name(&name(signer)?)?);
    bytes.extend(hex(&signature.concat())?);
    Ok(bytes)
}

fn signature(data: &[u8]) -> Option<String> {
    let (signer, end) = read_name(data, 18).ok()?;
    let long = |at: usize| u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    let short = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let (covered, tag) = (type_text(short(0)), short(16));
    let times = format!("{} {} {}", long(4), long(8), long(12));
    Some(format!(
        "{covered} {} {} {times} {tag} {} {}",
        data[2],
        data[3],
        name_text(&signer),
        hex_text(&data[end..])
    ))
}

/// Parses RFC 4034 section 4.2.
fn parse_next_secure(text: &str) -> Result<Vec<u8>, String> {
    let mut words = text.split_whitespace();
    let mut bytes = wire_name(&name(words.next().unwrap_or_default())?)?;
    let mut map = [0_u8; 32];
    for word in words {
        match type_of(word) {
            Some(rtype @ 0..=255) => map[usize::from(rtype / 8)] |= 0x80 >> (rtype % 8),
            _ => return Err(format!("NSEC: {word:?} is no type below 256")),
        }
    }
    let length = map.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.extend([0, length as u8]);
    bytes.extend(&map[..length]);
    Ok(bytes)
}

fn next_secure(data: &[u8]) -> Option<String> {
    let (next, end) = read_name(data, 0).ok()?;
    let [0, _, map @ ..] = data.get(end..)? else { return None };
    let set =
        |rtype: &u16| map.get(usize::from(rtype / 8)).is_some_and(|byte| byte & (0x80 >> (rtype % 8)) != 0);
    let types: Vec<_> = (0..256).filter(set).map(type_text).collect();
    Some(format!("{} {}", name_text(&next), types.join(" ")))
}

/// Returns the name at `at` of data with uncompressed names.
pub fn name_at(data: &[u8], at: usize) -> Option<Name> {
    read_name(data, at).ok().map(|(name, _)| name)
}

/// Returns the uncompressed wire format of a name.
pub fn wire_name(name: &Name) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    name.emit(&mut encoder).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_wire() {
        for line in [
            "WWW.example. 300 IN A 192.0.2.1",
            "\\195\\132\\.x. 300 IN A 192.0.2.1",
            "www.example. 2147483648 IN AAAA 2001:db8::1",
            "example. 60 IN SOA ns.example. hostmaster.example. 1 2 3 4 5",
            "example. 60 IN MX 10 Mail.example.",
            "example. 60 IN TXT \"one\" \"two; three\"",
            "example. 60 IN TYPE65280 \\# 3 010203",
            "example. 60 CH TYPE65280 \\# 0 ",
            "example. 60 IN RRSIG A 13 2 300 1700000000 1600000000 4711 example. 00ff",
            "a.example. 60 IN NSEC c.example. A MX RRSIG NSEC",
            "example. 60 IN DNAME Other.example.",
            "example. 60 IN CAA 0 issue \"ca.example\"",
        ] {
            let (record, ttl) = Record::parse(line).unwrap();
            assert!(ttl.admits(record.ttl, 0, 0));
            let mut bytes = Vec::new();
            let mut encoder = Encoder::over(&mut bytes);
            encoder.bytes(&[7]).unwrap();
            record.emit(&mut encoder).unwrap();
            for (at, length) in encoder.finish() {
                bytes[at - 2..at].copy_from_slice(&(length as u16).to_be_bytes());
            }
            let (read, end) = Record::read(&bytes, 1).unwrap();
            assert_eq!((&read, end), (&record, bytes.len()), "{line}");
            assert_eq!(read.to_string(), line);
        }
        assert!(Record::parse("a 300 TYPE9 \\# 3 0102").is_err());
    }

    #[test]
    fn ttls_are_exact_or_say_so() {
        let ttl = |text: &str| text.parse::<Ttl>().unwrap();
        assert!(
            ttl("300").admits(300, 0, 0) && !ttl("300").admits(299, 0, 0) && !ttl("300").admits(301, 1, 0)
        );
        assert!(ttl("300").admits(299, 1, 0) && ttl("300").admits(301, 0, 1));
        assert!(
            ttl("10-20").admits(10, 0, 0) && ttl("10-20").admits(20, 0, 0) && !ttl("10-20").admits(21, 0, 0)
        );
        assert!(ttl("*").admits(u32::MAX, 0, 0));
    }
}
