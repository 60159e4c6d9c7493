//! Prefixes of addresses in owners of response policy zones (draft-vixie-dnsop-dns-rpz section 4.1.1).

use crate::rule::Subject;
use ringdns_dataplane::prefix::Prefix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Last label of owners about addresses of answers, and of clients, in wire format.
const ANSWER: &[u8] = b"\x06rpz-ip\0";
const CLIENT: &[u8] = b"\x0drpz-client-ip\0";

/// Label that stands for a run of zeros.
const ZEROS: &[u8] = b"zz";

/// Most labels of a prefix: its length, and the words of an IPv6 address.
const LABELS_MAX: usize = 9;

/// Returns the addresses that an owner is about. `None`: it is about something else. `Some(None)`: it
/// should be about addresses, but names no prefix.
pub(super) fn subject(name: &[u8]) -> Option<Option<Subject>> {
    if let Some(front) = before(name, ANSWER) {
        return Some(prefix(front).map(Subject::Answer));
    }
    before(name, CLIENT).map(|front| prefix(front).map(Subject::Client))
}

/// Returns the labels in front of the last one, if that is `last`.
fn before<'a>(name: &'a [u8], last: &[u8]) -> Option<&'a [u8]> {
    let front = name.strip_suffix(last)?;
    // The bytes could be within a longer label.
    let mut rest = front;
    while let Some((&len, labels)) = rest.split_first() {
        rest = labels.get(usize::from(len)..)?;
    }
    Some(front)
}

/// Returns the prefix that labels name: its length, and the address backwards.
fn prefix(mut labels: &[u8]) -> Option<Prefix> {
    let mut words: Vec<&[u8]> = Vec::new();
    while let Some((&len, rest)) = labels.split_first() {
        let (word, after) = rest.split_at_checked(usize::from(len))?;
        if words.len() == LABELS_MAX {
            return None;
        }
        words.push(word);
        labels = after;
    }
    let (len, backwards) = words.split_first()?;
    let len = u8::try_from(number(len, 10, 3)?).ok()?;
    let is_v6 = backwards.len() == 8 || backwards.contains(&ZEROS);
    let address = if is_v6 { v6(backwards)? } else { v4(backwards)? };
    // A prefix of no bits would be about everything, which no owner of other programs says either.
    Prefix::new(address, len).ok().filter(|_| len > 0)
}

fn v4(backwards: &[&[u8]]) -> Option<IpAddr> {
    let [d, c, b, a] = backwards else { return None };
    let mut octets = [0; 4];
    for (octet, word) in octets.iter_mut().zip([a, b, c, d]) {
        *octet = u8::try_from(number(word, 10, 3)?).ok()?;
    }
    Some(Ipv4Addr::from(octets).into())
}

fn v6(backwards: &[&[u8]]) -> Option<IpAddr> {
    let mut words = [0; 8];
    let zeros = backwards.iter().position(|word| *word == ZEROS);
    let (last, first) = match zeros {
        // One run of zeros, which stands for a word at least.
        Some(at) if backwards.len() <= 8 => (backwards.get(..at)?, backwards.get(at + 1..)?),
        Some(_) => return None,
        None => (&[][..], backwards),
    };
    if zeros.is_none() && first.len() != 8 {
        return None;
    }
    for (to, word) in words.iter_mut().zip(first.iter().rev()) {
        *to = number(word, 16, 4)?;
    }
    for (to, word) in words.iter_mut().rev().zip(last) {
        *to = number(word, 16, 4)?;
    }
    Some(Ipv6Addr::from(words).into())
}

/// Returns the number that a label is, in a base, with at most so many digits.
fn number(label: &[u8], base: u32, digits: usize) -> Option<u16> {
    let text = std::str::from_utf8(label).ok().filter(|text| (1..=digits).contains(&text.len()))?;
    // A sign is no digit.
    let are_digits = text.chars().all(|c| c.is_digit(base));
    u16::from_str_radix(text, base).ok().filter(|_| are_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names;

    fn read(owner: &str) -> Option<Option<String>> {
        let subject = subject(&names::name(owner).unwrap())?;
        Some(subject.map(|subject| match subject {
            Subject::Answer(prefix) => format!("answer {prefix}"),
            Subject::Client(prefix) => format!("client {prefix}"),
            other => panic!("{other:?}"),
        }))
    }

    #[test]
    fn prefixes_are_read_backwards() {
        for (owner, read_as) in [
            ("32.1.2.0.192.rpz-ip", "answer 192.0.2.1/32"),
            ("24.0.2.0.192.rpz-client-ip", "client 192.0.2.0/24"),
            ("1.0.0.0.128.rpz-ip", "answer 128.0.0.0/1"),
            ("128.57.zz.db8.2001.rpz-ip", "answer 2001:db8::57/128"),
            ("48.zz.101.db8.2001.rpz-ip", "answer 2001:db8:101::/48"),
            ("128.1.zz.rpz-client-ip", "client ::1/128"),
            ("128.8.7.6.5.4.3.2.2001.rpz-ip", "answer 2001:2:3:4:5:6:7:8/128"),
            ("128.8.7.6.5.4.3.zz.2001.rpz-ip", "answer 2001:0:3:4:5:6:7:8/128"),
            ("8.zz.fd00.rpz-client-ip", "client fd00::/8"),
        ] {
            assert_eq!(read(owner), Some(Some(read_as.into())), "{owner}");
        }
    }

    #[test]
    fn other_owners_are_no_prefixes() {
        for owner in [
            "rpz-ip",
            "32.rpz-ip",
            "32.2.0.192.rpz-ip",
            "32.1.1.2.0.192.rpz-ip",
            "24.1.2.0.192.rpz-ip",
            "33.1.2.0.192.rpz-ip",
            "0.0.0.0.0.rpz-ip",
            "+8.0.0.0.10.rpz-ip",
            "32.256.2.0.192.rpz-ip",
            "32.x.2.0.192.rpz-client-ip",
            "128.1.zz.zz.2001.rpz-ip",
            "128.9.8.7.6.5.4.3.zz.2001.rpz-ip",
            "128.8.7.6.5.4.3.2.1.2001.rpz-ip",
            "129.1.zz.2001.rpz-ip",
            "128.12345.zz.2001.rpz-ip",
            "64.1.zz.2001.rpz-ip",
        ] {
            assert_eq!(read(owner), Some(None), "{owner}");
        }
        for owner in ["www.example", "rpz-ip.example", "32.1.2.0.192.rpz-nsip", "a\\006rpz-ip"] {
            assert_eq!(read(owner), None, "{owner}");
        }
    }
}
