//! Names, types and keys in text form.

use hickory_proto::rr::RecordType;
use ringdns_dataplane::dns::{CLASS_IN, NAME_MAX, UDP_MIN, header, key, key::Key, query::Query, rtype};
use std::str::FromStr;

/// Largest response code that has a name here.
const RCODE_NAMED: u16 = 23;

/// Error about a name or type that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Text that is not a domain name.
    #[error(
        "{name:?} is no domain name: {reason}. Write it as example.com, with unusual bytes as \\DDD in decimal"
    )]
    Name {
        /// Text as given.
        name: String,
        /// Reason why it is not a domain name.
        reason: &'static str,
    },
    /// Text that is not a record type.
    #[error("{0:?} is no record type. Write it as AAAA, or TYPE65280 for one without a name (RFC 3597)")]
    Type(String),
    /// Text that is not a response code.
    #[error("{0:?} is no response code. Write it as NXDOMAIN, or RCODE12 for one without a name (RFC 6895)")]
    Rcode(String),
}

/// Returns the name in wire format, lowercased. The inverse of [`display`]: `\DDD` is decimal (RFC
/// 1035 section 5.1), which the parser of hickory-proto 0.26 takes for octal.
pub fn name(text: &str) -> Result<Vec<u8>, NameError> {
    wire(text).map_err(|reason| NameError::Name { name: text.to_owned(), reason })
}

fn wire(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut wire = vec![0];
    if text == "." {
        return Ok(wire);
    }
    let mut label = 0;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'.' => {
                close(&mut wire, &mut label)?;
                continue;
            }
            b'\\' => escaped(&mut rest).ok_or("an escape is \\DDD, at most 255, or \\ and one character")?,
            0x21..=0x7e => byte,
            _ => return Err("it contains a byte that is not printable ASCII"),
        };
        wire.push(byte.to_ascii_lowercase());
    }
    if label + 1 < wire.len() {
        close(&mut wire, &mut label)?;
    }
    if wire.len() == 1 || wire.len() > NAME_MAX {
        return Err("it is empty or longer than 255 bytes");
    }
    Ok(wire)
}

/// Ends the label whose length byte is at `at` and begins the next one.
fn close(wire: &mut Vec<u8>, at: &mut usize) -> Result<(), &'static str> {
    let len = wire.len() - *at - 1;
    if !(1..=63).contains(&len) {
        return Err("a label is empty or longer than 63 bytes");
    }
    wire[*at] = len as u8;
    *at = wire.len();
    wire.push(0);
    Ok(())
}

/// Parses the part of an escape that follows the backslash.
fn escaped(rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    let first = rest.next()?;
    if !first.is_ascii_digit() {
        return first.is_ascii_graphic().then_some(first);
    }
    let digits = [first, rest.next()?, rest.next()?];
    let text = std::str::from_utf8(&digits).ok()?;
    digits.iter().all(u8::is_ascii_digit).then(|| text.parse().ok()).flatten()
}

/// Returns a record type's number, given its name or `TYPE` and a number (RFC 3597 section 5).
pub fn record_type(text: &str) -> Result<u16, NameError> {
    let text = text.to_ascii_uppercase();
    if let Some(number) = text.strip_prefix("TYPE") {
        return number.parse().map_err(|_| NameError::Type(text));
    }
    RecordType::from_str(&text).map(u16::from).map_err(|_| NameError::Type(text))
}

/// Returns a record type's name, or `TYPE` and the number if it has none.
pub fn type_name(qtype: u16) -> String {
    match RecordType::from(qtype) {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// Returns a response code, given its name or `RCODE` and a number.
pub fn response_code(text: &str) -> Result<u16, NameError> {
    let upper = text.to_ascii_uppercase();
    let number = upper.strip_prefix("RCODE").and_then(|number| number.parse().ok());
    number
        .or_else(|| (0..=RCODE_NAMED).find(|code| rcode_name(*code) == Some(&upper)))
        .ok_or_else(|| NameError::Rcode(text.to_owned()))
}

/// Returns a response code's name, or `RCODE` and the number if it has none.
pub fn rcode_text(rcode: u16) -> String {
    rcode_name(rcode).map_or_else(|| format!("RCODE{rcode}"), str::to_owned)
}

/// Returns the name of a response code (RFC 6895 section 2.3), if it has one.
pub fn rcode_name(rcode: u16) -> Option<&'static str> {
    const NAMES: [&str; 12] = [
        "NOERROR",
        "FORMERR",
        "SERVFAIL",
        "NXDOMAIN",
        "NOTIMP",
        "REFUSED",
        "YXDOMAIN",
        "YXRRSET",
        "NXRRSET",
        "NOTAUTH",
        "NOTZONE",
        "DSOTYPENI",
    ];
    match rcode {
        16 => Some("BADVERS"),
        23 => Some("BADCOOKIE"),
        other => NAMES.get(usize::from(other)).copied(),
    }
}

/// Returns the text form of a name in wire format.
pub fn display(name: &[u8]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = key::display_name(name, &mut text);
    text
}

/// Builds a query message: header, question and, if `edns` is given, an OPT record with its UDP
/// size and DO bit.
pub fn query_message(
    name: &[u8],
    question: [u16; 2],
    id: u16,
    flags: u16,
    edns: Option<(u16, bool)>,
) -> Vec<u8> {
    let mut message = Vec::with_capacity(header::LEN + name.len() + 4 + 11);
    write_query(&mut message, name, question, id, flags, edns);
    message
}

/// Appends a query message to a buffer, as [`query_message`] builds it.
pub fn write_query(
    to: &mut Vec<u8>,
    name: &[u8],
    question: [u16; 2],
    id: u16,
    flags: u16,
    edns: Option<(u16, bool)>,
) {
    for word in [id, flags, 1, 0, 0, u16::from(edns.is_some())] {
        to.extend_from_slice(&word.to_be_bytes());
    }
    to.extend_from_slice(name);
    for word in question {
        to.extend_from_slice(&word.to_be_bytes());
    }
    if let Some((udp_size, dnssec_ok)) = edns {
        let [s1, s0] = udp_size.to_be_bytes();
        let dnssec_ok = if dnssec_ok { 0x80 } else { 0 };
        to.extend_from_slice(&[0, 0, rtype::OPT as u8, s1, s0, 0, 0, dnssec_ok, 0, 0, 0]);
    }
}

/// Returns the key of a name in wire format, in class IN; `None` if no query can ask for it.
pub fn key(name: &[u8], qtype: u16, dnssec_ok: bool, checking_disabled: bool) -> Option<Key> {
    let flags = if checking_disabled { header::CD } else { 0 };
    let edns = dnssec_ok.then_some((UDP_MIN, true));
    let mut query = Query::default();
    query.parse(&query_message(name, [qtype, CLASS_IN], 0, flags, edns)).ok()?;
    Some(query.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_round_trip() {
        assert_eq!(name("Example.COM").unwrap(), b"\x07example\x03com\x00");
        assert_eq!(name("Example.COM").unwrap(), name("example.com.").unwrap());
        assert_eq!(name(".").unwrap(), b"\x00");
        assert_eq!(display(&name("a\\046b.example").unwrap()), "a\\046b.example.");
        assert_eq!(name("a\\046b.c\\.d").unwrap(), b"\x03a.b\x03c.d\x00");
        let long = format!("{}.", "a".repeat(63)).repeat(4);
        for text in
            ["", "..", ".a", "a..b", "\u{fc}.example", "a\\25", "a\\256", "a b", &"a".repeat(64), &long]
        {
            assert!(name(text).is_err_and(|e| e.to_string().contains("no domain name")), "{text:?}");
        }
        for (text, number) in [("a", 1), ("AAAA", 28), ("TYPE65280", 65280), ("TYPE1", 1), ("HTTPS", 65)] {
            assert_eq!(record_type(text), Ok(number));
        }
        assert_eq!(type_name(28), "AAAA");
        assert_eq!(type_name(65280), "TYPE65280");
        assert!(record_type("NONSENSE").is_err() && record_type("TYPE70000").is_err());
        for (text, code) in [("noerror", 0), ("NXDOMAIN", 3), ("BadCookie", 23), ("RCODE12", 12)] {
            assert_eq!(response_code(text), Ok(code));
            assert!(rcode_text(code).eq_ignore_ascii_case(text));
        }
        assert!(response_code("NONSENSE").is_err() && response_code("RCODE").is_err());
    }

    #[test]
    fn a_key_says_what_was_asked_for() {
        let name = name("www.example.com").unwrap();
        for (dnssec_ok, checking_disabled) in [(false, false), (true, false), (false, true), (true, true)] {
            let key = key(&name, 28, dnssec_ok, checking_disabled).unwrap();
            assert_eq!(key.asked().name(), name);
            let asked = key.asked();
            assert_eq!((asked.qtype(), asked.qclass()), (28, 1));
            assert_eq!((asked.dnssec_ok(), asked.checking_disabled()), (dnssec_ok, checking_disabled));
        }
    }
}
