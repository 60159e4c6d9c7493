//! Data of records from their text form.
//!
//! The zone parser of hickory-proto is not used: in names it takes `\DDD` for octal, it reads
//! included files by itself, and its errors have no line.

use super::{
    error::DataError,
    svcb,
    words::{self, Word},
};
use data_encoding::HEXLOWER_PERMISSIVE;
use ringdns_common::names;
use ringdns_dataplane::dns::rtype;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Types with a text form here that are not in [`rtype`] (IANA).
const NAPTR: u16 = 35;
const SSHFP: u16 = 44;
const TLSA: u16 = 52;
const CAA: u16 = 257;

/// Longest data of a record that is accepted, in bytes. Longer data fits in no answer with others.
const DATA_MAX: usize = 32 << 10;

/// Words of a record's data.
pub(super) struct Data<'a> {
    rest: std::slice::Iter<'a, Word>,
    origin: Option<&'a str>,
}

/// Returns the data of a record on the wire. Names without a last dot are relative to `origin`, or
/// complete if there is none.
pub(super) fn parse(rtype: u16, words: &[Word], origin: Option<&str>) -> Result<Vec<u8>, DataError> {
    let mut data = Data { rest: words.iter(), origin };
    let mut wire = Vec::new();
    if words.first().is_some_and(|word| word.text == "\\#" && !word.quoted) {
        data.generic(&mut wire)?;
    } else {
        data.of_type(rtype, &mut wire)?;
    }
    if let Some(extra) = data.rest.next() {
        return Err(DataError::Extra(extra.text.clone()));
    }
    if wire.len() > DATA_MAX {
        return Err(DataError::TooLarge(names::type_name(rtype), DATA_MAX));
    }
    Ok(wire)
}

/// Returns a name in wire format, lowercased.
pub(super) fn name(text: &str, origin: Option<&str>) -> Result<Vec<u8>, DataError> {
    let Some(origin) = origin else { return Ok(names::name(text)?) };
    let escaped = text.strip_suffix('.').is_some_and(|rest| {
        let backslashes = rest.bytes().rev().take_while(|byte| *byte == b'\\').count();
        backslashes % 2 == 1
    });
    Ok(match text {
        "@" => names::name(origin)?,
        text if text.ends_with('.') && !escaped => names::name(text)?,
        text if origin == "." => names::name(text)?,
        text => names::name(&format!("{text}.{origin}"))?,
    })
}

impl Data<'_> {
    fn of_type(&mut self, rtype: u16, wire: &mut Vec<u8>) -> Result<(), DataError> {
        match rtype {
            rtype::A => {
                let address: Ipv4Addr = self.parsed("an IPv4 address")?;
                wire.extend(address.octets());
            }
            rtype::AAAA => {
                let address: Ipv6Addr = self.parsed("an IPv6 address")?;
                wire.extend(address.octets());
            }
            rtype::CNAME | rtype::PTR | rtype::NS => self.name(wire)?,
            rtype::MX => {
                self.number(wire, "a preference from 0 to 65535", u16::to_be_bytes)?;
                self.name(wire)?;
            }
            rtype::SRV => {
                self.number(wire, "a priority from 0 to 65535", u16::to_be_bytes)?;
                self.number(wire, "a weight from 0 to 65535", u16::to_be_bytes)?;
                self.number(wire, "a port from 0 to 65535", u16::to_be_bytes)?;
                self.name(wire)?;
            }
            rtype::SOA => self.soa(wire)?,
            rtype::TXT => {
                self.string(wire, "a text")?;
                while self.rest.len() > 0 {
                    self.string(wire, "a text")?;
                }
            }
            CAA => {
                self.number(wire, "flags from 0 to 255", u8::to_be_bytes)?;
                self.string(wire, "a tag such as issue")?;
                let value = self.next("a value such as \"ca.example\"")?;
                wire.extend(bytes(value, "a value")?);
            }
            NAPTR => {
                self.number(wire, "an order from 0 to 65535", u16::to_be_bytes)?;
                self.number(wire, "a preference from 0 to 65535", u16::to_be_bytes)?;
                for part in ["flags such as \"s\"", "a service", "a regular expression"] {
                    self.string(wire, part)?;
                }
                self.name(wire)?;
            }
            rtype::SVCB | rtype::HTTPS => {
                self.number(wire, "a priority from 0 to 65535", u16::to_be_bytes)?;
                self.name(wire)?;
                wire.extend(svcb::parameters(self.rest.by_ref())?);
            }
            SSHFP | TLSA => {
                let numbers = if rtype == TLSA { 3 } else { 2 };
                for _ in 0..numbers {
                    self.number(wire, "a number from 0 to 255", u8::to_be_bytes)?;
                }
                self.hex(wire)?;
            }
            other => return Err(DataError::Type(names::type_name(other))),
        }
        Ok(())
    }

    fn soa(&mut self, wire: &mut Vec<u8>) -> Result<(), DataError> {
        self.name(wire)?;
        self.name(wire)?;
        self.number(wire, "a serial number", u32::to_be_bytes)?;
        for part in ["the time to refresh", "the time to retry", "the time to expire", "the least TTL"] {
            let word = self.next(part)?;
            let seconds = ttl(&word.text).ok_or_else(|| expected(part, word))?;
            wire.extend(seconds.to_be_bytes());
        }
        Ok(())
    }

    /// Parses `\# LENGTH HEX` (RFC 3597 section 5).
    fn generic(&mut self, wire: &mut Vec<u8>) -> Result<(), DataError> {
        self.next("\\#")?;
        let length: u16 = self.parsed("a length")?;
        if length > 0 {
            self.hex(wire)?;
        }
        if wire.len() != usize::from(length) {
            let found = wire.len().to_string();
            return Err(DataError::Expected { expected: "as many bytes as the length says", found });
        }
        Ok(())
    }

    /// Parses the rest as one number in hexadecimal digits.
    fn hex(&mut self, wire: &mut Vec<u8>) -> Result<(), DataError> {
        const EXPECTED: &str = "pairs of hexadecimal digits";
        let mut digits = self.next(EXPECTED)?.text.clone();
        self.rest.by_ref().for_each(|word| digits += &word.text);
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
        wire.extend(bytes.map_err(|_| DataError::Expected { expected: EXPECTED, found: digits })?);
        Ok(())
    }

    fn next(&mut self, what: &'static str) -> Result<&Word, DataError> {
        self.rest.next().ok_or(DataError::Missing(what))
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, DataError> {
        let word = self.next(what)?;
        word.text.parse().map_err(|_| expected(what, word))
    }

    fn number<T: std::str::FromStr, const N: usize>(
        &mut self,
        wire: &mut Vec<u8>,
        what: &'static str,
        to_bytes: fn(T) -> [u8; N],
    ) -> Result<(), DataError> {
        wire.extend(to_bytes(self.parsed(what)?));
        Ok(())
    }

    fn name(&mut self, wire: &mut Vec<u8>) -> Result<(), DataError> {
        let origin = self.origin;
        let word = self.next("a domain name")?;
        wire.extend(name(&word.text, origin)?);
        Ok(())
    }

    /// Appends a text with its length in front (RFC 1035 section 3.3).
    fn string(&mut self, wire: &mut Vec<u8>, what: &'static str) -> Result<(), DataError> {
        let word = self.next(what)?;
        let text = bytes(word, what)?;
        let long = || DataError::Expected {
            expected: "a text of at most 255 bytes: write several, each in quotation marks",
            found: word.text.clone(),
        };
        wire.push(u8::try_from(text.len()).map_err(|_| long())?);
        wire.extend(text);
        Ok(())
    }
}

fn bytes(word: &Word, what: &'static str) -> Result<Vec<u8>, DataError> {
    words::unescaped(&word.text).ok_or_else(|| expected(what, word))
}

pub(super) fn expected(what: &'static str, word: &Word) -> DataError {
    DataError::Expected { expected: what, found: word.text.clone() }
}

/// Returns a time in seconds: a number, or numbers with units (`1h30m`), as BIND writes them.
pub(super) fn ttl(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (mut all, mut number) = (0_u32, None::<u32>);
    for byte in text.bytes() {
        let unit = match byte.to_ascii_lowercase() {
            digit @ b'0'..=b'9' => {
                let digit = u32::from(digit - b'0');
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        all = all.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    number.is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{RData, RecordType};
    use hickory_proto::serialize::binary::BinEncodable;

    fn data(kind: &str, text: &str, origin: Option<&str>) -> Result<Vec<u8>, DataError> {
        let mut all = Vec::new();
        words::split(text, &mut all, &mut 0)?;
        parse(names::record_type(kind).unwrap(), &all, origin)
    }

    /// An independent parser reads the same.
    #[test]
    fn data_is_what_hickory_makes_of_it() {
        for (kind, text) in [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("CNAME", "www.example.com."),
            ("PTR", "host.example."),
            ("NS", "ns1.example."),
            ("MX", "10 mail.example."),
            ("SRV", "0 5 5060 sip.example."),
            ("SOA", "ns.example. admin.test. 7 3600 600 604800 300"),
            ("TXT", r#""v=spf1 -all" second "semi;colon""#),
            ("CAA", r#"0 issue "ca.example; account=7""#),
            ("NAPTR", r#"100 10 "S" "SIP+D2U" "" _sip._udp.example."#),
            ("HTTPS", "1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1"),
            ("SVCB", "16 svc.example. mandatory=alpn,port alpn=h2 no-default-alpn port=53"),
            ("SVCB", "0 alias.example."),
            ("SSHFP", "4 2 c0ffee00c0ffee01"),
            ("TLSA", "3 1 1 00ff00ff"),
        ] {
            let record_type: RecordType = kind.parse().unwrap();
            let theirs = RData::try_from_str(record_type, text).unwrap().to_bytes().unwrap();
            assert_eq!(data(kind, text, None).unwrap(), theirs, "{kind} {text}");
        }
        assert_eq!(data("TYPE65280", "\\# 3 0102 ff", None).unwrap(), [1, 2, 255]);
        assert_eq!(data("TYPE65280", "\\# 0", None).unwrap(), [0_u8; 0]);
    }

    #[test]
    fn names_are_relative_to_the_origin() {
        let wire = |text| names::name(text).unwrap();
        for (text, expected) in
            [("www", "www.example."), ("@", "example."), ("a.b.", "a.b."), (r"a\.", r"a\..example.")]
        {
            assert_eq!(data("CNAME", text, Some("example.")).unwrap(), wire(expected), "{text}");
        }
        assert_eq!(data("CNAME", "www.example", None).unwrap(), wire("www.example."));
        assert_eq!(data("CNAME", "www", Some(".")).unwrap(), wire("www."));
    }

    #[test]
    fn wrong_data_is_refused_with_what_was_expected() {
        for (kind, text, part) in [
            ("A", "192.0.2.256", "an IPv4 address, found \"192.0.2.256\""),
            ("A", "", "an IPv4 address, found the end"),
            ("A", "192.0.2.1 192.0.2.2", "\"192.0.2.2\" is too much"),
            ("AAAA", "192.0.2.1", "an IPv6 address"),
            ("MX", "mail.example", "a preference"),
            ("MX", "10", "a domain name, found the end"),
            ("SRV", "0 5 70000 sip.example", "a port from 0 to 65535"),
            ("CNAME", "a..b", "no domain name"),
            ("TXT", "", "a text"),
            ("TXT", &"x".repeat(256), "at most 255 bytes"),
            ("TXT", "a\\256", "a text"),
            ("HTTPS", "1 . alpn", "a value"),
            ("SSHFP", "4 2 xyz", "hexadecimal"),
            ("TYPE65280", "\\# 3 0102", "as many bytes as the length says"),
            ("HINFO", "a b", "type HINFO are not supported"),
        ] {
            let error = data(kind, text, None).unwrap_err().to_string();
            assert!(error.contains(part), "{kind} {text}: {error}");
        }
        for (text, seconds) in
            [("300", Some(300)), ("1h30m", Some(5400)), ("1W", Some(604_800)), ("5x", None), ("m", None)]
        {
            assert_eq!(ttl(text), seconds, "{text}");
        }
        assert_eq!((ttl("5m7"), ttl("99999999w"), ttl("4294967296")), (None, None, None));
    }
}
