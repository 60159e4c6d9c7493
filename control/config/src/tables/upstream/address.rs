//! Addresses of upstreams: an IP address, a port, and the interface of a link-local address.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Most bytes of an interface's name (Linux: `IFNAMSIZ` with its NUL).
const INTERFACE_MAX: usize = 15;

/// Address and port of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// IP address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// Name or index of the interface behind which a link-local address is (RFC 4007 section 11).
    pub zone: Option<String>,
}

impl UpstreamAddress {
    /// Parses an IP address with or without a zone and a port, such as `9.9.9.9`,
    /// `[2620:fe::fe]:53` or `[fe80::1%eth0]:53`; `port` is the default.
    pub fn parse(text: &str, port: u16) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let (ip, rest) = inner.split_once(']')?;
            let port = match rest.strip_prefix(':') {
                Some(port) => port.parse().ok()?,
                None => rest.is_empty().then_some(port)?,
            };
            return Self::at(ip, port).filter(|address| address.ip.is_ipv6());
        }
        // An address with one colon is one of IPv4 with a port: one of IPv6 has at least two.
        match text.split_once(':') {
            Some((ip, port)) if !port.contains(':') => {
                Self::at(ip, port.parse().ok()?).filter(|address| address.ip.is_ipv4())
            }
            _ => Self::at(text, port),
        }
    }

    /// Parses an IP address with or without a zone.
    pub fn at(text: &str, port: u16) -> Option<Self> {
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) => (IpAddr::V6(ip.parse().ok()?), Some(zone.to_owned())),
            None => (text.parse().ok()?, None),
        };
        if zone.as_deref().is_some_and(|zone| !is_interface(zone)) {
            return None;
        }
        Some(UpstreamAddress { ip, port, zone })
    }

    /// Returns why no query can be sent to the address, and the remedy.
    pub fn unusable(&self) -> Option<(String, String)> {
        let one = "Give the address and port of one resolver";
        if self.port == 0 || self.ip.is_unspecified() || self.ip.is_multicast() {
            return Some((format!("{self} cannot be asked"), one.to_owned()));
        }
        match (&self.zone, self.ip) {
            (None, IpAddr::V6(ip)) if is_link_local(ip) => {
                let remedy = format!("Add the interface: \"[{ip}%eth0]:{}\"", self.port);
                Some((format!("{self} is link-local, and may be behind any interface"), remedy))
            }
            (Some(zone), IpAddr::V6(ip)) if !is_link_local(ip) => {
                let remedy = format!("Remove \"%{zone}\"");
                Some((format!("{ip} is not link-local, and needs no interface"), remedy))
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for UpstreamAddress {
    fn from(address: SocketAddr) -> Self {
        let zone = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            _ => None,
        };
        UpstreamAddress { ip: address.ip(), port: address.port(), zone }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.zone, self.ip) {
            (Some(zone), ip) => write!(out, "[{ip}%{zone}]:{}", self.port),
            (None, ip) => SocketAddr::new(ip, self.port).fmt(out),
        }
    }
}

/// Whether an address is one of `fe80::/10`.
fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// Whether Linux would take the text for an interface's name.
fn is_interface(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%' | b'[' | b']');
    (1..=INTERFACE_MAX).contains(&text.len()) && text.bytes().all(allowed)
}
