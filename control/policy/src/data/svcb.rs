//! Parameters of SVCB and HTTPS records from their text form (RFC 9460 section 2.1).

use super::{
    error::DataError,
    rdata::expected,
    words::{self, Word},
};
use data_encoding::BASE64;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Keys of parameters (RFC 9460 section 14.3.2, RFC 9461, RFC 9540).
const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
const DOH_PATH: u16 = 7;
const OHTTP: u16 = 8;

const NAMES: [(&str, u16); 9] = [
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4_HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6_HINT),
    ("dohpath", DOH_PATH),
    ("ohttp", OHTTP),
];

/// Returns parameters on the wire, in the order of their keys.
pub(super) fn parameters<'a>(words: impl Iterator<Item = &'a Word>) -> Result<Vec<u8>, DataError> {
    let mut all = BTreeMap::new();
    for word in words {
        let (name, text) = match word.text.split_once('=') {
            Some((name, text)) => (name, Some(text)),
            None => (&*word.text, None),
        };
        let key = key(name).ok_or_else(|| expected("a parameter such as alpn=h2 or key667=text", word))?;
        let wrong = || expected(form(key), word);
        if all.insert(key, value(key, text).ok_or_else(wrong)?).is_some() {
            return Err(expected("each parameter once", word));
        }
    }
    check_mandatory(&all)?;
    let mut wire = Vec::new();
    for (key, value) in all {
        wire.extend(key.to_be_bytes());
        let length = u16::try_from(value.len()).map_err(|_| DataError::Extra(format!("key{key}")))?;
        wire.extend(length.to_be_bytes());
        wire.extend(value);
    }
    Ok(wire)
}

fn key(name: &str) -> Option<u16> {
    let name = name.to_ascii_lowercase();
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
    // 65535 is reserved.
    known.or_else(|| name.strip_prefix("key")?.parse().ok().filter(|key| *key != u16::MAX))
}

/// Returns a description of a parameter with this key.
fn form(key: u16) -> &'static str {
    match key {
        MANDATORY => "a value such as mandatory=alpn,port, in the order of their numbers",
        ALPN => "a value such as alpn=h2,h3",
        NO_DEFAULT_ALPN => "no-default-alpn without a value",
        PORT => "a value such as port=8443",
        IPV4_HINT => "a value such as ipv4hint=192.0.2.1,192.0.2.2",
        ECH => "a value in base64 such as ech=AEX+DQ==",
        IPV6_HINT => "a value such as ipv6hint=2001:db8::1",
        DOH_PATH => "a value such as dohpath=/dns-query{?dns}",
        OHTTP => "ohttp without a value",
        _ => "a value of which escapes are \\DDD or \\ and one character",
    }
}

fn value(key: u16, text: Option<&str>) -> Option<Vec<u8>> {
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return text.is_none_or(str::is_empty).then(Vec::new);
    }
    let is_known = NAMES.iter().any(|(_, known)| *known == key);
    let text = match text {
        None | Some("") if is_known => return None,
        text => words::unescaped(text.unwrap_or_default())?,
    };
    if !is_known || key == DOH_PATH {
        return Some(text);
    }
    if key == ECH {
        return BASE64.decode(&text).ok();
    }
    let mut wire = Vec::new();
    let items = list(&text);
    for item in &items {
        let word = || std::str::from_utf8(item).ok();
        match key {
            MANDATORY => {
                let key = self::key(word()?)?;
                let is_next = wire.last_chunk::<2>().is_none_or(|last| u16::from_be_bytes(*last) < key);
                (is_next && key != MANDATORY).then(|| wire.extend(key.to_be_bytes()))?;
            }
            ALPN => {
                let length = u8::try_from(item.len()).ok().filter(|length| *length > 0)?;
                wire.push(length);
                wire.extend(item);
            }
            PORT => wire.extend(word()?.parse::<u16>().ok().filter(|_| items.len() == 1)?.to_be_bytes()),
            IPV4_HINT => wire.extend(word()?.parse::<Ipv4Addr>().ok()?.octets()),
            IPV6_HINT => wire.extend(word()?.parse::<Ipv6Addr>().ok()?.octets()),
            _ => return None,
        }
    }
    Some(wire)
}

/// Splits a list at its commas, but for those behind a backslash (RFC 9460 appendix A.1).
fn list(text: &[u8]) -> Vec<Vec<u8>> {
    let mut items = vec![Vec::new()];
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b',' => items.push(Vec::new()),
            b'\\' => items.last_mut().into_iter().for_each(|item| item.extend(rest.next())),
            byte => items.last_mut().into_iter().for_each(|item| item.push(*byte)),
        }
    }
    items
}

/// Checks that the parameters which a client must understand are there (RFC 9460 section 8).
fn check_mandatory(all: &BTreeMap<u16, Vec<u8>>) -> Result<(), DataError> {
    let wanted = all.get(&MANDATORY).map(Vec::as_slice).unwrap_or_default();
    let (keys, _) = wanted.as_chunks::<2>();
    match keys.iter().map(|key| u16::from_be_bytes(*key)).find(|key| !all.contains_key(key)) {
        Some(key) => {
            let found = format!("mandatory, and no key{key}");
            Err(DataError::Expected { expected: "each mandatory parameter", found })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(text: &str) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        words::split(text, &mut all, &mut 0).unwrap();
        parameters(all.iter()).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_are_sorted_and_have_lengths() {
        assert_eq!(wire("port=53 alpn=\"a\\\\,b,c\"").unwrap(), b"\0\x01\0\x06\x03a,b\x01c\0\x03\0\x02\x005");
        assert_eq!(wire("key667=\"x\\001\" ohttp").unwrap(), b"\0\x08\0\0\x02\x9b\0\x02x\x01");
        assert_eq!(wire("ech=AQI=").unwrap(), [0, 5, 0, 2, 1, 2]);
        assert_eq!(wire("").unwrap(), [0_u8; 0]);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for (text, part) in [
            ("alpn=h2 alpn=h3", "once"),
            ("alpn=", "alpn=h2,h3"),
            ("alpn=h2,,h3", "alpn=h2,h3"),
            ("port=70000", "port=8443"),
            ("port=1,2", "port=8443"),
            ("no-default-alpn=1", "without a value"),
            ("mandatory=port", "key3"),
            ("mandatory=port,alpn port=1 alpn=a", "in the order"),
            ("mandatory=mandatory", "in the order"),
            ("ipv4hint=::1", "ipv4hint"),
            ("ipv6hint=192.0.2.1", "ipv6hint"),
            ("ech=?", "base64"),
            ("nonsense=1", "a parameter such as"),
            ("key65535=1", "a parameter such as"),
        ] {
            let error = wire(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
