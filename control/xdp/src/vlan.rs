//! Check for VLAN tags that the NIC strips: neither the XDP program nor a worker sees them, so an
//! answer would lack its tag.

use std::{collections::HashSet, fs, net::SocketAddr};

use nix::ifaddrs::getifaddrs;
use ringdns_dataplane::port::nic::Nic;

use super::SteerError;

/// Refuses an interface that strips tags if a VLAN device on it has a listen address. If none has,
/// returns a notice, since tagged queries for a listen address may arrive all the same.
pub(super) fn check(interface: &str, listen: &[SocketAddr]) -> Result<Option<String>, SteerError> {
    if !Nic::look(interface).strips_vlan_tags {
        return Ok(None);
    }
    // The file is that of this thread's network namespace. Without it there are no VLAN devices.
    let table = fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
    let devices: HashSet<&str> = devices_on(interface, &table).collect();
    let addresses = getifaddrs().into_iter().flatten().filter_map(|found| {
        let of = found.address?;
        let v4 = of.as_sockaddr_in().map(|v4| v4.ip().into());
        let ip = v4.or_else(|| of.as_sockaddr_in6().map(|v6| v6.ip().into()))?;
        Some((found.interface_name, ip))
    });
    let is_listener = |ip: std::net::IpAddr| {
        listen.iter().any(|to| to.ip() == ip || (to.ip().is_unspecified() && to.is_ipv4() == ip.is_ipv4()))
    };
    for (device, ip) in addresses {
        if devices.contains(device.as_str()) && is_listener(ip) {
            return Err(SteerError::TagsStripped { interface: interface.to_owned(), device });
        }
    }
    Ok(Some(format!(
        "interface {interface} takes VLAN tags off what it receives (rxvlan on), so queries with a tag would be answered \
         without it: `ethtool -K {interface} rxvlan off` if any arrive with one"
    )))
}

/// Returns the VLAN devices on `interface` from the kernel's table: lines of `NAME | ID |
/// INTERFACE`.
fn devices_on<'a>(interface: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    table.lines().filter_map(move |line| {
        let mut columns = line.split('|').map(str::trim);
        let (name, _, on) = (columns.next()?, columns.next()?, columns.next()?);
        (on == interface).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_devices_are_found_by_the_interface_that_they_are_on() {
        let table = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                     eth1.10        | 10  | eth1\nclients        | 20  | eth1\neth10.5        | 5  | eth10\n";
        assert!(devices_on("eth1", table).eq(["eth1.10", "clients"]));
        assert!(devices_on("eth10", table).eq(["eth10.5"]));
        assert_eq!(devices_on("eth2", table).count(), 0);
        assert_eq!(devices_on("eth1", "").count(), 0);
    }
}
