//! Interfaces that must not be touched.

use crate::run::xdp::interface::ip;
use anyhow::{Context, Result, ensure};
use nix::ifaddrs::getifaddrs;
use ringdns_doctor::nic::class;
use serde_json::Value;
use std::net::IpAddr;

/// Fails if there is no such interface.
pub fn exists(interface: &str) -> Result<()> {
    ensure!(
        class(interface).exists(),
        "there is no interface \"{interface}\" in this network namespace: see `ip link`"
    );
    Ok(())
}

/// Fails if trials would cut off something that this interface does. With `is_meant`, fails only
/// where the trials could not work.
pub fn check(interface: &str, is_meant: bool) -> Result<()> {
    exists(interface)?;
    ensure!(
        !class(interface).join("master").exists(),
        "{interface} is a port of a bridge or a bond: give a port that is in neither"
    );
    let links = ip(&["-details", "link", "show", "dev", interface])?;
    ensure!(
        !has_program(&links),
        "{interface} has an XDP program already: stop the program that uses it, or run `ip link set dev {interface} xdp off`"
    );
    if is_meant {
        return Ok(());
    }
    for family in ["-4", "-6"] {
        let routes = ip(&[family, "route", "show", "default"])?;
        ensure!(
            !leads_through(&routes, interface),
            "{interface} carries the default route: trials take its link down and receive its DNS queries. Give another interface, \
             or --yes-this-interface"
        );
    }
    let session = std::env::var("SSH_CONNECTION").unwrap_or_default();
    let own = addresses(interface)?;
    ensure!(
        !comes_in_by(&session, &own),
        "this session (SSH) comes in by {interface}. Give another interface, or --yes-this-interface"
    );
    Ok(())
}

/// Fails if moving the peer's interface into a namespace would lose something.
pub fn check_peer(interface: &str) -> Result<()> {
    check(interface, false)?;
    let own = addresses(interface)?;
    let kept: Vec<&IpAddr> =
        own.iter().filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect();
    ensure!(
        kept.is_empty(),
        "{interface} has {} addresses, which moving it into a namespace would lose: take them away first (`ip address \
         flush dev {interface}`), or give another --peer-interface",
        kept.len()
    );
    Ok(())
}

/// Returns the addresses of an interface.
pub fn addresses(interface: &str) -> Result<Vec<IpAddr>> {
    let all = getifaddrs().context("cannot list the interfaces")?;
    let of = all.filter(|found| found.interface_name == interface).filter_map(|found| found.address);
    let ip = of.filter_map(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    });
    Ok(ip.collect())
}

fn has_program(links: &Value) -> bool {
    links.as_array().into_iter().flatten().any(|link| link.get("xdp").is_some())
}

fn leads_through(routes: &Value, interface: &str) -> bool {
    let hops = |route: &Value| {
        let several = route["nexthops"].as_array().into_iter().flatten();
        std::iter::once(route).chain(several).any(|hop| hop["dev"] == interface)
    };
    routes.as_array().into_iter().flatten().any(hops)
}

/// Whether a session, as sshd describes it (client, port, server, port), has one of `own` as its
/// server address.
fn comes_in_by(session: &str, own: &[IpAddr]) -> bool {
    let server = session.split_ascii_whitespace().nth(2).and_then(|server| server.parse().ok());
    server.is_some_and(|server| own.contains(&server))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn default_routes_are_seen_alone_and_in_groups() {
        let routes = json!([{ "dst": "default", "gateway": "192.0.2.1", "dev": "eth0" }]);
        assert!(leads_through(&routes, "eth0") && !leads_through(&routes, "eth1"));
        let group = json!([{ "dst": "default", "nexthops": [{ "dev": "eth1" }, { "dev": "eth2" }] }]);
        assert!(leads_through(&group, "eth2") && !leads_through(&group, "eth0"));
        assert!(!leads_through(&json!([]), "eth0"));
    }

    #[test]
    fn the_way_in_of_a_session_is_seen() {
        let own = ["192.0.2.7".parse().unwrap()];
        assert!(comes_in_by("198.51.100.1 50000 192.0.2.7 22", &own));
        assert!(!comes_in_by("198.51.100.1 50000 192.0.2.8 22", &own) && !comes_in_by("", &own));
    }

    #[test]
    fn programs_are_seen() {
        assert!(has_program(&json!([{ "ifname": "eth1", "xdp": { "mode": 1 } }])));
        assert!(!has_program(&json!([{ "ifname": "eth1" }])));
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = check("none0", true).unwrap_err().to_string();
        assert!(error.contains("none0") && error.contains("ip link"), "{error}");
    }
}
