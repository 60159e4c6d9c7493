//! Addresses to listen on: their text, and which of them exclude each other.

use crate::error::Problem;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Parses the address in `text`, the value of `key`. The interface of a link-local address may be
/// a name or a number: `[fe80::1%eth0]:53`. `remedy` tells what to write in place of text that is no
/// address.
pub fn address(key: &str, text: &str, remedy: &str) -> Result<SocketAddr, Problem> {
    let problem = |reason: String, remedy: &str| Problem::new(key, reason, remedy);
    let (plain, zone) = without_zone(text);
    let address: SocketAddr =
        plain.parse().map_err(|_| problem(format!("{text:?} is no IP address with a port"), remedy))?;
    let one_address = "Give an address of this host, or 0.0.0.0 or [::] for all of them";
    match address.ip() {
        ip if ip.is_multicast() => Err(problem(format!("{ip} is a multicast address"), one_address)),
        IpAddr::V4(ip) if ip.is_broadcast() => {
            Err(problem(format!("{ip} is a broadcast address"), one_address))
        }
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            let v4 = SocketAddr::new(address.ip().to_canonical(), address.port());
            Err(problem(format!("{ip} is an IPv4 address in IPv6 form"), &format!("Write \"{v4}\"")))
        }
        IpAddr::V6(ip) => match zone {
            None if ip.is_unicast_link_local() => {
                let remedy = format!("Add the interface: \"[{ip}%eth0]:{}\"", address.port());
                Err(problem(format!("{ip} is link-local, and may be on any interface"), &remedy))
            }
            Some(zone) => {
                link_local(ip, address.port(), zone).map_err(|(reason, remedy)| problem(reason, &remedy))
            }
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// Splits `[fe80::1%eth0]:53` into the address without the interface, and the interface.
fn without_zone(text: &str) -> (String, Option<&str>) {
    let parts = text.strip_prefix('[').and_then(|inner| {
        let (ip, rest) = inner.split_once('%')?;
        let (zone, port) = rest.split_once(']')?;
        Some((format!("[{ip}]{port}"), zone))
    });
    parts.map_or_else(|| (text.to_owned(), None), |(plain, zone)| (plain, Some(zone)))
}

/// Returns a link-local address; an error is a reason and a remedy.
fn link_local(ip: Ipv6Addr, port: u16, zone: &str) -> Result<SocketAddr, (String, String)> {
    if !ip.is_unicast_link_local() {
        let remedy = format!("Remove \"%{zone}\"");
        return Err((format!("{ip} is not link-local, and needs no interface"), remedy));
    }
    let index = zone.parse().ok().filter(|index| *index > 0).or_else(|| {
        // The ioctl works on any socket.
        let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        name_to_index(&any, zone).ok()
    });
    match index {
        Some(index) => Ok(SocketAddrV6::new(ip, port, 0, index).into()),
        None => {
            let reason = format!("no network interface is called {zone:?} in this network namespace");
            Err((reason, "Name one that `ip link` lists".into()))
        }
    }
}

/// Whether the kernel refuses to listen on both addresses.
pub fn exclude_each_other(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (is_any || one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_exclude_each_other_within_a_family_and_port() {
        let exclude = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| address("", text, "").unwrap());
            assert_eq!(exclude_each_other(one, other), exclude_each_other(other, one));
            exclude_each_other(one, other)
        };
        assert!(exclude("0.0.0.0:53", "127.0.0.1:53") && exclude("[::]:53", "[::1]:53"));
        assert!(exclude("[fe80::1%1]:53", "[fe80::1%lo]:53") && exclude("[::]:53", "[fe80::1%1]:53"));
        assert!(!exclude("0.0.0.0:53", "[::]:53") && !exclude("0.0.0.0:53", "127.0.0.1:54"));
        assert!(!exclude("127.0.0.1:53", "127.0.0.2:53") && !exclude("0.0.0.0:0", "127.0.0.1:0"));
        assert!(!exclude("[fe80::1%1]:53", "[fe80::1%2]:53"));
    }

    #[test]
    fn the_interface_of_a_link_local_address_is_a_name_or_a_number() {
        let on = |text: &str| address("", text, "").map(|address| address.to_string());
        assert_eq!(on("[fe80::1%lo]:53").unwrap(), "[fe80::1%1]:53");
        assert_eq!(on("[fe80::1%7]:53").unwrap(), "[fe80::1%7]:53");
        for (text, reason) in [
            ("[fe80::1]:53", "link-local"),
            ("[fe80::1%nowhere0]:53", "no network interface"),
            ("[fe80::1%0]:53", "no network interface"),
            ("[fe80::1%]:53", "no network interface"),
            ("[fd00::1%lo]:53", "not link-local"),
            ("[ff02::1%lo]:53", "multicast"),
            ("[fe80::1%lo", "no IP address"),
        ] {
            let problem = on(text).unwrap_err();
            assert!(problem.reason.contains(reason), "{text}: {problem}");
        }
    }
}
