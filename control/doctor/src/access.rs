//! Ways by which an operator may have come to this host: a reset of their interface may cut the operator off.

use crate::nic::{class, text};
use procfs::process::Process;
use ringdns_xdp::netlink::{Netlink, attributes};
use std::{env, ffi::OsStr, fs, io, net::IpAddr, path::Path};

/// Numbers of Linux `include/uapi/linux/if_addr.h` and `rtnetlink.h`.
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Length in bytes of `struct ifaddrmsg`, whose last four bytes are the index of the interface.
const ADDRESS_HEADER: usize = 8;

/// Flag of a route that refuses packets (`RTF_REJECT`).
const REJECTS: u32 = 0x200;

/// Variable in which sshd tells the addresses of a connection.
const CONNECTION: &str = "SSH_CONNECTION";

/// Number of interfaces on a NIC that are looked at.
const UPPER_MAX: usize = 1000;

/// Facts about an interface and the ways to this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The interface, and the interfaces on it, such as VLANs, bonds and bridges.
    pub interfaces: Vec<String>,
    /// Interfaces that default routes lead through.
    pub default_routes: Vec<String>,
    /// Address of this host that the operator's SSH connection goes to.
    pub operator: Option<IpAddr>,
    /// Interfaces that have this address.
    pub operator_interfaces: Vec<String>,
}

impl Access {
    /// Reads the facts about an interface.
    pub fn read(interface: &str) -> Self {
        let table = |name: &str| fs::read_to_string(Path::new("/proc/net").join(name)).unwrap_or_default();
        let default_routes = default_routes(&table("route"), &table("ipv6_route"));
        let operator = connection().as_deref().and_then(local_address);
        let operator_interfaces = operator.and_then(|ip| having(ip).ok()).unwrap_or_default();
        Access { interfaces: with_upper(interface), default_routes, operator, operator_interfaces }
    }

    /// Returns the reason why a reset of the interface may cut off the operator.
    pub fn risk(&self) -> Option<String> {
        let is_on = |other: &&String| self.interfaces.contains(other);
        if let Some(operator) = self.operator
            && let Some(interface) = self.operator_interfaces.iter().find(is_on)
        {
            return Some(format!("{interface} has {operator}, to which your SSH connection goes"));
        }
        let interface = self.default_routes.iter().find(is_on)?;
        Some(format!("{interface} has the default route"))
    }
}

/// Returns an interface, and all those on it.
fn with_upper(interface: &str) -> Vec<String> {
    let mut all = vec![interface.to_owned()];
    let mut at = 0;
    while let Some(interface) = all.get(at).filter(|_| at < UPPER_MAX) {
        let entries = fs::read_dir(class(interface)).into_iter().flatten().flatten();
        let upper =
            entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("upper_")?.to_owned()));
        let upper: Vec<String> = upper.filter(|name| !all.contains(name)).collect();
        all.extend(upper);
        at += 1;
    }
    all
}

/// Reads the interfaces of default routes from `/proc/net/route` and `/proc/net/ipv6_route`.
fn default_routes(v4: &str, v6: &str) -> Vec<String> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let of_v4 = v4.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = *words.get(1)? == "00000000" && *words.get(7)? == "00000000";
        (is_default && number(words.get(3)?)? & REJECTS == 0).then(|| words[0].to_owned())
    });
    let of_v6 = v6.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_default = u128::from_str_radix(words.first()?, 16).ok()? == 0 && *words.get(1)? == "00";
        (is_default && number(words.get(8)?)? & REJECTS == 0)
            .then(|| words.get(9).map(|&name| name.to_owned()))?
    });
    of_v4.chain(of_v6).collect()
}

/// Returns what sshd told this process or one above it: sudo removes the variable.
fn connection() -> Option<String> {
    if let Ok(told) = env::var(CONNECTION) {
        return Some(told);
    }
    let mut process = Process::myself().ok()?;
    loop {
        process = Process::new(process.stat().ok()?.ppid).ok()?;
        // That of another user cannot be read.
        let variables = process.environ().unwrap_or_default();
        if let Some(told) = variables.get(OsStr::new(CONNECTION)) {
            return told.to_str().map(str::to_owned);
        }
    }
}

/// Returns the address of this host from addresses and ports of the client and of this host.
fn local_address(connection: &str) -> Option<IpAddr> {
    let address = connection.split(' ').nth(2)?;
    let ip: IpAddr = address.split('%').next()?.parse().ok()?;
    Some(ip.to_canonical())
}

/// Returns the interfaces that have an address.
fn having(ip: IpAddr) -> io::Result<Vec<String>> {
    let parse = |body: &[u8]| address(body).filter(|(_, has)| *has == ip).map(|(index, _)| index);
    let found = Netlink::open()?.dump(RTM_GETADDR, RTM_NEWADDR, &[0; ADDRESS_HEADER], parse)?;
    let entries = fs::read_dir("/sys/class/net")?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let index = |name: &String| text(&class(name).join("ifindex"))?.parse::<u32>().ok();
    Ok(names.filter(|name| index(name).is_some_and(|index| found.contains(&index))).collect())
}

/// Returns an address, and the index of its interface.
fn address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let (header, rest) = body.split_at_checked(ADDRESS_HEADER)?;
    let index = u32::from_ne_bytes(*header.last_chunk()?);
    // Of a point-to-point link, IFA_ADDRESS is that of the other end.
    let of_kind = |wanted| attributes(rest).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = of_kind(IFA_LOCAL).or_else(|| of_kind(IFA_ADDRESS))?;
    let ip = match value.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
    };
    Some((index, ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_xdp::netlink::attribute;

    fn access(default_route: &str, operator_interface: &str) -> Access {
        Access {
            interfaces: ["eth1", "eth1.100"].map(str::to_owned).to_vec(),
            default_routes: vec![default_route.to_owned()],
            operator: Some("192.0.2.7".parse().unwrap()),
            operator_interfaces: vec![operator_interface.to_owned()],
        }
    }

    #[test]
    fn a_reset_is_a_risk_on_the_operators_way() {
        assert_eq!(access("eth0", "eth0").risk(), None);
        assert_eq!(access("eth1", "eth0").risk().unwrap(), "eth1 has the default route");
        assert_eq!(access("eth1.100", "eth0").risk().unwrap(), "eth1.100 has the default route");
        let said = access("eth1", "eth1.100").risk().unwrap();
        assert_eq!(said, "eth1.100 has 192.0.2.7, to which your SSH connection goes");
        assert_eq!(Access { operator: None, ..access("eth0", "eth0") }.risk(), None);
        assert_eq!(Access::default().risk(), None);
    }

    #[test]
    fn default_routes_are_read_with_their_interfaces() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
                  eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let route = |length: &str, flags: &str, name: &str| {
            format!("{zero} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {name}\n")
        };
        let v6 = route("00", "00000003", "eth1")
            + &route("00", "00200200", "lo")
            + &route("40", "00000001", "eth3");
        assert_eq!(default_routes(v4, &v6), ["eth0", "eth1"]);
        assert_eq!(default_routes("", "short line\n"), [""; 0]);
    }

    #[test]
    fn addresses_are_read() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(local_address("198.51.100.1 50000 192.0.2.7 22"), Some(ip("192.0.2.7")));
        assert_eq!(local_address("fe80::2%eth1 50000 fe80::1%eth1 22"), Some(ip("fe80::1")));
        assert_eq!(local_address("UNKNOWN 65535 UNKNOWN 65535"), None);
        let mut body = vec![0; 4];
        body.extend(7_u32.to_ne_bytes());
        attribute(&mut body, IFA_ADDRESS, &[192, 0, 2, 1]);
        assert_eq!(address(&body), Some((7, ip("192.0.2.1"))));
        attribute(&mut body, IFA_LOCAL, &[192, 0, 2, 7]);
        assert_eq!(address(&body), Some((7, ip("192.0.2.7"))));
        assert_eq!(address(&body[..7]), None);
        assert_eq!(having(ip("127.0.0.1")).unwrap(), ["lo"]);
    }
}
