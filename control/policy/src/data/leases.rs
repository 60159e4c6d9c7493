//! Lease files of DHCP servers: the addresses of clients and the names by which these call themselves.
//!
//! Three formats are read: dnsmasq's, the CSV files of Kea's memfile back end, and ISC DHCP's. Kea and
//! ISC DHCP append to their files, so the last lease of an address counts. The names come from the
//! clients, so that anything may be in such a file: lines that cannot be used are skipped and counted.

use ringdns_common::names;
use std::{collections::HashMap, net::IpAddr, str::SplitAsciiWhitespace};

/// Longest line, in bytes.
pub const LINE_MAX: usize = 4096;

/// Kea's lease type of a delegated prefix, which is no client's address.
const DELEGATED: &str = "2";

/// Names of the clients in a lease file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Names by address, without the last dot.
    pub names: HashMap<IpAddr, Box<str>>,
    /// Number of lines that were skipped.
    pub skipped: u64,
}

/// Reads a lease file at the Unix time `now`, and at most `most` names of it. `None`: it has no line of a
/// format that is known, but others.
pub fn read(bytes: &[u8], now: u64, most: usize) -> Option<Leases> {
    let mut reader = Reader { leases: Leases::default(), now, most, format: None };
    for line in bytes.split(|byte| *byte == b'\n') {
        reader.line(line);
    }
    let Reader { leases, format, .. } = reader;
    (format.is_some() || leases.skipped == 0).then_some(leases)
}

/// Returns a host's name as the log has it; `None`: the text is no name.
pub fn host(text: &str) -> Option<Box<str>> {
    let name = names::name(text).ok().filter(|name| name.len() > 1)?;
    let mut text = names::display(&name);
    text.pop();
    Some(text.into())
}

enum Format {
    Dnsmasq,
    Kea(Columns),
    Isc(Option<Block>),
}

/// Positions of Kea's columns.
struct Columns {
    address: usize,
    hostname: usize,
    expire: Option<usize>,
    state: Option<usize>,
    kind: Option<usize>,
}

/// Lease of ISC DHCP that is being read.
struct Block {
    address: IpAddr,
    name: Option<Box<str>>,
    is_active: bool,
}

struct Reader {
    leases: Leases,
    now: u64,
    most: usize,
    /// Format; `None`: no line has told it yet.
    format: Option<Format>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) {
        let is_text = line.len() <= LINE_MAX && !line.contains(&0);
        let Some(line) = std::str::from_utf8(line).ok().filter(|_| is_text).map(str::trim) else {
            self.leases.skipped += 1;
            return;
        };
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        if self.format.is_none() {
            self.format = format_of(line);
            if matches!(self.format, Some(Format::Kea(_))) {
                return;
            }
        }
        let now = self.now;
        let is_used = match &mut self.format {
            None => false,
            Some(Format::Dnsmasq) => match dnsmasq(line, now) {
                Some((address, name)) => {
                    address.is_none_or(|address| self.leases.set(address, name, self.most))
                }
                None => false,
            },
            Some(Format::Kea(columns)) => match columns.read(line, now) {
                Some((address, name)) => self.leases.set(address, name, self.most),
                None => false,
            },
            Some(Format::Isc(block)) => isc(block, line, &mut self.leases, self.most),
        };
        self.leases.skipped += u64::from(!is_used);
    }
}

impl Leases {
    /// Sets the name of an address; `None`: it has none by now. Returns whether there was room.
    fn set(&mut self, address: IpAddr, name: Option<Box<str>>, most: usize) -> bool {
        let address = address.to_canonical();
        match name {
            None => drop(self.names.remove(&address)),
            Some(_) if self.names.len() >= most && !self.names.contains_key(&address) => return false,
            Some(name) => drop(self.names.insert(address, name)),
        }
        true
    }
}

/// Returns the format of a file with this line.
fn format_of(line: &str) -> Option<Format> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if line.starts_with("address,") {
        return Columns::of(line).map(Format::Kea);
    }
    if first == "duid" || first.bytes().all(|byte| byte.is_ascii_digit()) && words.count() >= 3 {
        return Some(Format::Dnsmasq);
    }
    let is_isc = matches!(
        first,
        "lease"
            | "authoring-byte-order"
            | "server-duid"
            | "default-duid"
            | "failover"
            | "ia-na"
            | "ia-ta"
            | "ia-pd"
    );
    is_isc.then_some(Format::Isc(None))
}

/// Reads a line of dnsmasq: the time of its end, the MAC address or an identifier, the address, the name
/// or `*`, and the client's identifier. The line with the server's DUID has no address.
fn dnsmasq(line: &str, now: u64) -> Option<(Option<IpAddr>, Option<Box<str>>)> {
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    if first == "duid" {
        return Some((None, None));
    }
    let end: u64 = first.parse().ok()?;
    let mut next = || -> Option<&str> { SplitAsciiWhitespace::next(&mut words) };
    next()?;
    let (address, name) = (next()?.parse().ok()?, next()?);
    // Zero: the lease has no end.
    let is_over = end != 0 && end < now;
    let name = match name {
        "*" => None,
        _ if is_over => None,
        name => Some(host(name)?),
    };
    Some((Some(address), name))
}

impl Columns {
    fn of(header: &str) -> Option<Self> {
        let at = |name: &str| header.split(',').position(|column| column == name);
        Some(Columns {
            address: at("address")?,
            hostname: at("hostname")?,
            expire: at("expire"),
            state: at("state"),
            kind: at("lease_type"),
        })
    }

    /// Returns an address and its name, which is none if the lease is over.
    fn read(&self, line: &str, now: u64) -> Option<(IpAddr, Option<Box<str>>)> {
        let fields: Vec<&str> = line.split(',').collect();
        let of = |column: Option<usize>| column.and_then(|column| fields.get(column).copied());
        let address = of(Some(self.address))?.parse().ok()?;
        let hostname = of(Some(self.hostname))?;
        let expire = match of(self.expire) {
            Some(expire) => expire.parse().ok()?,
            None => u64::MAX,
        };
        let is_leased = of(self.state).is_none_or(|state| state == "0");
        let is_address = of(self.kind) != Some(DELEGATED);
        let is_on = is_leased && is_address && expire >= now && !hostname.is_empty();
        Some((address, if is_on { Some(host(hostname)?) } else { None }))
    }
}

/// Reads a line of ISC DHCP. Returns whether it can be used: only lines about leases of IPv4 addresses
/// say anything.
fn isc(block: &mut Option<Block>, line: &str, leases: &mut Leases, most: usize) -> bool {
    let mut words = line.split_ascii_whitespace();
    match (words.next(), block.as_mut()) {
        (Some("lease"), _) => {
            let address = words.next().and_then(|word| word.parse().ok());
            *block = address.map(|address| Block { address, name: None, is_active: false });
            block.is_some()
        }
        (Some("binding"), Some(lease)) => {
            lease.is_active = line == "binding state active;";
            true
        }
        (Some("client-hostname"), Some(lease)) => {
            let quoted = line.split('"').nth(1);
            lease.name = quoted.and_then(host);
            lease.name.is_some()
        }
        (Some("}"), Some(_)) => block.take().is_some_and(|Block { address, name, is_active }| {
            leases.set(address, name.filter(|_| is_active), most)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn names(bytes: impl AsRef<[u8]>) -> (Vec<String>, u64) {
        let leases = read(bytes.as_ref(), NOW, 1_000).expect("the format is known");
        let mut names: Vec<_> = leases.names.iter().map(|(ip, name)| format!("{ip} {name}")).collect();
        names.sort();
        (names, leases.skipped)
    }

    #[test]
    fn dnsmasq_is_read() {
        let text = "1700003600 02:00:00:00:00:01 192.168.1.5 Laptop 01:02:00:00:00:00:01\n\
                    0 02:00:00:00:00:02 192.168.1.6 printer.lan *\r\n\
                    1699999999 02:00:00:00:00:03 192.168.1.7 gone *\n\
                    1700003600 02:00:00:00:00:04 192.168.1.8 * *\n\
                    duid 00:01:00:01:2a\n\
                    1700003600 12345 2001:db8::5 laptop 00:01:00:01\n\
                    1700003600 02:00:00:00:00:05 192.168.1.9 a..b *\n\
                    1700003600 02:00:00:00:00:05 192.168.1 c *\n";
        let expected = ["192.168.1.5 laptop", "192.168.1.6 printer.lan", "2001:db8::5 laptop"];
        assert_eq!(names(text), (expected.map(str::to_owned).to_vec(), 2));
    }

    #[test]
    fn the_last_lease_of_kea_counts() {
        let text = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id\n\
                    192.0.2.1,02:00:00:00:00:01,,3600,1700003600,1,0,0,phone.lan.,0,,0\n\
                    192.0.2.2,02:00:00:00:00:02,,3600,1700003600,1,0,0,old,0,,0\n\
                    192.0.2.2,02:00:00:00:00:02,,3600,1700007200,1,0,0,new,0,,0\n\
                    192.0.2.3,02:00:00:00:00:03,,3600,1700003600,1,0,0,away,0,,0\n\
                    192.0.2.3,02:00:00:00:00:03,,3600,1700003600,1,0,0,away,2,,0\n\
                    192.0.2.4,02:00:00:00:00:04,,3600,1600003600,1,0,0,late,0,,0\n\
                    192.0.2.5,02:00:00:00:00:05,,3600,1700003600,1,0,0,,0,,0\n\
                    192.0.2.6,short\n";
        assert_eq!(names(text), (vec!["192.0.2.1 phone.lan".into(), "192.0.2.2 new".into()], 1));
        let v6 = "address,duid,valid_lifetime,expire,subnet_id,pref_lifetime,lease_type,iaid,prefix_len,fqdn_fwd,fqdn_rev,hostname,hwaddr,state\n\
                  2001:db8::1,00:01,3600,1700003600,1,1800,0,7,128,0,0,tablet,,0\n\
                  2001:db8:1::,00:01,3600,1700003600,1,1800,2,7,48,0,0,router,,0\n";
        assert_eq!(names(v6), (vec!["2001:db8::1 tablet".into()], 0));
    }

    #[test]
    fn the_last_lease_of_isc_counts() {
        let lease = |address: &str, state: &str, more: &str| {
            format!(
                "lease {address} {{\n  starts 4 2026/11/29 10:00:00;\n  ends 4 2026/11/29 11:00:00;\n  \
                 binding state {state};\n  next binding state free;\n  hardware ethernet 02:00:00:00:00:01;\n{more}}}\n"
            )
        };
        let text = "# The format of this file is documented in the dhcpd.leases(5) manual page.\n\
                    authoring-byte-order little-endian;\nserver-duid \"\\000\\001\";\n\n"
            .to_owned()
            + &lease("192.0.2.1", "active", "  client-hostname \"Desk\";\n")
            + &lease("192.0.2.2", "active", "  client-hostname \"gone\";\n")
            + &lease("192.0.2.2", "free", "  client-hostname \"gone\";\n")
            + &lease("192.0.2.3", "active", "")
            + &lease("192.0.2.4", "active", "  client-hostname \"a b\";\n")
            + &lease("192.0.2.500", "active", "  client-hostname \"far\";\n");
        assert_eq!(names(text), (vec!["192.0.2.1 desk".into()], 2));
    }

    #[test]
    fn rubbish_is_skipped_and_counted() {
        let good = "1700003600 02:00:00:00:00:01 192.0.2.1 good *\n";
        let long = format!("1700003600 02:00:00:00:00:02 192.0.2.2 {} *\n", "a".repeat(LINE_MAX));
        let nul = "1700003600 02:00:00:00:00:03 192.0.2.3 a\0b *\n";
        let binary: &[u8] = b"\xff\xfe\x00\x01\n";
        let escape = "1700003600 02:00:00:00:00:04 192.0.2.4 a\u{1b}[2J *\n";
        let parts = [binary, good.as_bytes(), long.as_bytes(), nul.as_bytes(), escape.as_bytes(), b"words\n"];
        assert_eq!(names(parts.concat()), (vec!["192.0.2.1 good".into()], 5));
        assert_eq!(read(b"<html>\nhello\n", NOW, 9), None);
        assert_eq!(read(&[0; 1 << 20], NOW, 9), None);
        assert_eq!(read(b"address,hwaddr\n192.0.2.1,x\n", NOW, 9), None, "without names");
        assert_eq!(read(b"\n# nothing yet\n", NOW, 9), Some(Leases::default()));
    }

    #[test]
    fn names_are_bounded() {
        let line = |n: u8, name: &str| format!("0 02:00:00:00:00:01 192.0.2.{n} {name} *\n");
        let text: String = (0..20).map(|n| line(n, "a")).chain([line(3, "b")]).collect();
        let leases = read(text.as_bytes(), NOW, 10).unwrap();
        assert_eq!((leases.names.len(), leases.skipped), (10, 10));
        assert_eq!(
            &*leases.names[&"192.0.2.3".parse::<IpAddr>().unwrap()],
            "b",
            "those that are known change"
        );
    }
}
