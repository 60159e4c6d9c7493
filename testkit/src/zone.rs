//! Zones for an authoritative server, as text.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// A zone in master file format.
#[derive(Clone, Debug)]
pub struct Zone {
    origin: String,
    text: String,
}

impl Zone {
    /// Creates a zone with an apex and nothing below. `origin` ends with a dot. Negative answers
    /// may be cached for `negative_ttl` seconds.
    pub fn empty(origin: &str, negative_ttl: u32) -> Self {
        assert!(origin.ends_with('.'), "{origin}: a zone's name ends with a dot");
        let mut zone = Self { origin: origin.to_owned(), text: format!("$ORIGIN {origin}\n$TTL 3600\n") };
        zone.record(&format!("@ SOA ns.invalid. hostmaster.invalid. 1 7200 3600 604800 {negative_ttl}"));
        zone.record("@ NS ns.invalid.");
        zone
    }

    /// Creates `example.`, with one name for each kind of answer:
    ///
    /// | name | answer |
    /// |---|---|
    /// | `www` | A 192.0.2.1, AAAA 2001:db8::1, TTL 300 |
    /// | `txt`, `mx` | TXT, MX; their addresses are not in the answer |
    /// | `alias` → `alias2` → `www` | a chain of CNAME |
    /// | `short` | A with a TTL of 2 seconds |
    /// | `many` | 40 A: 640 bytes of records, beyond 512, within 1232 |
    /// | `big` | TXT of 3000 bytes: truncated over UDP |
    /// | `*.wild` | A 192.0.2.9 |
    /// | anything else | NXDOMAIN, kept for 60 seconds |
    pub fn example() -> Self {
        let mut zone = Self::empty("example.", 60);
        zone.record("www 300 A 192.0.2.1");
        zone.record("www 300 AAAA 2001:db8::1");
        zone.record("txt 300 TXT \"first string\" \"second string\"");
        zone.record("mx 300 MX 10 mail");
        zone.record("mail 300 A 192.0.2.25");
        zone.record("alias 300 CNAME alias2");
        zone.record("alias2 200 CNAME www");
        zone.record("short 2 A 192.0.2.2");
        zone.record("*.wild 300 A 192.0.2.9");
        for last in 1..=40 {
            zone.record(&format!("many 300 A 198.51.100.{last}"));
        }
        let string = "x".repeat(250);
        for number in 0..12 {
            zone.record(&format!("big 300 TXT \"{number:02}{string}\""));
        }
        zone
    }

    /// Creates a zone from the text of a master file.
    pub fn written(origin: &str, text: String) -> Self {
        Self { origin: origin.to_owned(), text }
    }

    /// Creates the root zone, with an A record for each of `names`: any number of second-level
    /// domains in one zone. The address follows from the number of the name, see [`Zone::address`].
    pub fn root_of(names: &[String], ttl: u32) -> Self {
        let mut zone = Self::empty(".", 60);
        zone.text.reserve(names.len() * 40);
        for (number, name) in names.iter().enumerate() {
            zone.record(&format!("{name}. {ttl} A {}", Self::address(number)));
        }
        zone
    }

    /// Returns the address of name `number` in [`Zone::root_of`].
    pub fn address(number: usize) -> Ipv4Addr {
        let number = u32::try_from(number).expect("more names than IPv4 has addresses");
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + number)
    }

    /// Adds one line of the master file; names without a final dot are below the origin.
    pub fn record(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a string takes any text");
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}
