//! DNS64 (RFC 6147): IPv6 addresses for names that have IPv4 addresses alone, so that clients without
//! IPv4 reach them by way of a NAT64.

use crate::{
    data::{self, AS_WRITTEN, Lead},
    message::Message,
    rebinding,
};
use ringdns_common::names;
use ringdns_config::Dns64Config;
use ringdns_dataplane::{
    clock::Secs,
    dns::{CLASS_IN, answer::Answer, key::Key, option::ede, rcode, reply::Age, rtype},
    prefix::Prefix,
};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest TTL of an address in place of an answer without one, in seconds (RFC 6147 section 5.1.7).
const TTL_MAX: Secs = 600;
/// TTL of the alias of a reverse name, in seconds.
const REVERSE_TTL: u32 = 600;
/// Labels of a reverse name of an IPv6 address, without `ip6.arpa`.
const NIBBLES: usize = 32;
/// Prefix that no private address is written with (RFC 6052 section 3.1).
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// DNS64 as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns64 {
    prefix: Ipv6Addr,
    /// Length of the prefix in bits: 32, 40, 48, 56, 64 or 96.
    length: u8,
    exclude: Vec<Prefix>,
}

impl Dns64 {
    /// Returns DNS64 as configured; `None`: there is none.
    pub fn new(config: &Dns64Config) -> Option<Self> {
        let (prefix, length) = config.prefix?;
        Some(Dns64 { prefix, length, exclude: config.exclude.clone() })
    }

    /// Returns the question for the addresses of which an answer to `key` may be made. `None`: the
    /// question is for something else, or of a client that validates by itself (RFC 6147 section
    /// 5.5).
    pub fn lead(&self, key: &Key) -> Option<Box<Lead>> {
        let asked = key.asked();
        if asked.qtype() != rtype::AAAA
            || asked.qclass() != CLASS_IN
            || asked.dnssec_ok() && asked.checking_disabled()
        {
            return None;
        }
        let target = names::key(asked.name(), rtype::A, asked.dnssec_ok(), asked.checking_disabled())?;
        Some(Box::new(Lead { key: key.clone(), target }))
    }

    /// Whether an answer to a question for IPv6 addresses has none, and others may be made.
    pub fn wants(&self, key: &Key, answer: &Answer) -> bool {
        if answer.status.is_failure() {
            // A failure that is not kept says nothing about the question.
            return !ede::is_of_policy(answer.ede) && answer.ttl > 0;
        }
        if answer.status.rcode() != rcode::NOERROR || ede::is_of_policy(answer.ede) {
            return false;
        }
        let Some(message) = Message::of(key, answer, Age::Fresh(0)) else { return false };
        let mut addresses = message.answers.iter().filter(|record| record.rtype == rtype::AAAA);
        addresses.all(|record| {
            let address = <[u8; 16]>::try_from(&*record.rdata).map(Ipv6Addr::from);
            address.is_ok_and(|address| self.exclude.iter().any(|prefix| prefix.contains(address.into())))
        })
    }

    /// Returns the answer to `lead.key` made of that for IPv4 addresses, whose TTLs are written by
    /// `age`. `first` is the answer without addresses. `None`: there is no IPv4 address either.
    pub fn made(&self, lead: &Lead, first: &Answer, found: &Answer, age: Age, now: Secs) -> Option<Answer> {
        if found.status.rcode() != rcode::NOERROR {
            return None;
        }
        let left = first.expires().saturating_sub(now);
        let most = if first.status.is_failure() || left == 0 { TTL_MAX } else { left.min(TTL_MAX) };
        let mut whole = data::empty(&lead.key, now)?;
        for mut record in Message::of(&lead.target, found, age)?.answers {
            match record.rtype {
                rtype::A => {
                    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&*record.rdata).ok()?);
                    let Some(address) = self.embed(address) else { continue };
                    record.rtype = rtype::AAAA;
                    record.ttl = record.sane_ttl().min(most);
                    record.rdata = address.octets().into();
                }
                rtype::RRSIG if record.rdata.starts_with(&rtype::A.to_be_bytes()) => continue,
                _ => {}
            }
            whole.answers.push(record);
        }
        if !whole.answers.iter().any(|record| record.rtype == rtype::AAAA) {
            return None;
        }
        Answer::from_response(&whole.to_bytes()?, &lead.key, &AS_WRITTEN, now, false).ok()
    }

    /// Returns the alias of the reverse name of an address in the prefix: the reverse name of the
    /// IPv4 address in it (RFC 6147 section 5.3.1).
    pub fn reverse(&self, key: &Key, now: Secs) -> Option<(Answer, Option<Box<Lead>>)> {
        let asked = key.asked();
        if asked.qclass() != CLASS_IN {
            return None;
        }
        let address = self.extract(address_of(asked.name())?)?;
        let [a, b, c, d] = address.octets();
        let target = names::name(&format!("{d}.{c}.{b}.{a}.in-addr.arpa")).ok()?;
        Some((data::alias(key, &target, REVERSE_TTL, now)?, Lead::new(key, &target)))
    }

    /// Returns the positions in an address of the bytes of the IPv4 address: byte 8 is zero (RFC
    /// 6052 section 2.2).
    fn places(&self) -> impl Iterator<Item = usize> {
        (usize::from(self.length / 8)..16).filter(|at| *at != 8).take(4)
    }

    fn embed(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        if address.octets()[0] == 0 || self.prefix == WELL_KNOWN && rebinding::is_private_v4(address) {
            return None;
        }
        let mut bytes = self.prefix.octets();
        for (at, byte) in self.places().zip(address.octets()) {
            *bytes.get_mut(at)? = byte;
        }
        Some(bytes.into())
    }

    fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bytes = address.octets();
        let mut v4 = [0; 4];
        for (byte, at) in v4.iter_mut().zip(self.places()) {
            *byte = *bytes.get(at)?;
        }
        // All other bytes are those of the prefix, or zero.
        let address = Ipv4Addr::from(v4);
        (self.embed(address)?.octets() == bytes).then_some(address)
    }
}

/// Returns the address of a reverse name below `ip6.arpa`.
fn address_of(name: &[u8]) -> Option<Ipv6Addr> {
    let (nibbles, end) = name.split_at_checked(2 * NIBBLES)?;
    if end != b"\x03ip6\x04arpa\0" {
        return None;
    }
    let mut address = 0_u128;
    for (place, label) in nibbles.as_chunks::<2>().0.iter().enumerate() {
        let [1, digit] = label else { return None };
        address |= u128::from(char::from(*digit).to_digit(16)?) << (4 * place);
    }
    Some(Ipv6Addr::from_bits(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(prefix: &str) -> Dns64 {
        let (address, length) = prefix.split_once('/').unwrap();
        let prefix = Some((address.parse().unwrap(), length.parse().unwrap()));
        Dns64::new(&Dns64Config { prefix, exclude: Vec::new() }).unwrap()
    }

    /// The examples of RFC 6052 section 2.4.
    #[test]
    fn addresses_are_embedded_as_rfc_6052_shows() {
        let v4 = Ipv4Addr::new(192, 0, 2, 33);
        for (prefix, expected) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
            ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
        ] {
            let (dns64, expected) = (with(prefix), expected.parse::<Ipv6Addr>().unwrap());
            assert_eq!(dns64.embed(v4), Some(expected), "{prefix}");
            assert_eq!(dns64.extract(expected), Some(v4), "{prefix}");
            assert_eq!(dns64.extract("2001:db9::1".parse().unwrap()), None, "{prefix}");
        }
        assert_eq!(with("2001:db8::/32").extract("2001:db8:c000:221::1".parse().unwrap()), None);
        let private = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(with("64:ff9b::/96").embed(private), None);
        assert!(with("2001:db8::/96").embed(private).is_some());
        assert_eq!(with("2001:db8::/96").embed(Ipv4Addr::UNSPECIFIED), None);
    }

    #[test]
    fn reverse_names_are_addresses() {
        let name = |text: &str| names::name(text).unwrap();
        let reverse = format!("1.2.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(22));
        assert_eq!(address_of(&name(&reverse)), Some("2001:db8::21".parse().unwrap()));
        for wrong in [&reverse[2..], &format!("x{}", &reverse[1..]), &format!("0.{reverse}"), "ip6.arpa", "."]
        {
            assert_eq!(address_of(&name(wrong)), None, "{wrong}");
        }
    }
}
