//! Endpoints of queries and answers.

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{Config, Header};
use crate::checksum::{fold, sum};

/// The two endpoints in the generator's frames.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: IpAddr,
    pub server: SocketAddr,
    /// First of `2^ports_log2` source ports, which queries use in turn.
    pub first_port: u16,
    pub ports_log2: u32,
}

/// Reasons why a [`Flow`] is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowError {
    MixedFamilies,
    PortsOutOfRange,
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MixedFamilies => "source and server must both be IPv4 or both be IPv6",
            Self::PortsOutOfRange => {
                "the source ports must lie between 1 and 65535: start lower, or use fewer"
            }
        })
    }
}

impl core::error::Error for FlowError {}

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

impl Config {
    /// Returns header and sums for `flow`. The caller sets pacing, order and interface.
    pub fn new(flow: &Flow) -> Result<Self, FlowError> {
        // Beyond 2^15 ports, the range would include port zero wherever it starts.
        let last_offset = 1u16.checked_shl(flow.ports_log2).ok_or(FlowError::PortsOutOfRange)? - 1;
        if flow.first_port == 0 || flow.first_port.checked_add(last_offset).is_none() {
            return Err(FlowError::PortsOutOfRange);
        }

        let mut header = [0; 64];
        header[..6].copy_from_slice(&flow.destination_mac);
        header[6..12].copy_from_slice(&flow.source_mac);
        let ip = &mut header[ETHERNET_LEN..];
        let (ethertype, ip_len, addresses, is_ipv4) = match (flow.source, flow.server.ip()) {
            (IpAddr::V4(source), IpAddr::V4(server)) => {
                ip[0] = 0x45;
                ip[6] = 0x40; // don't fragment
                ip[8] = HOP_LIMIT;
                ip[9] = PROTOCOL_UDP;
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..20].copy_from_slice(&server.octets());
                (0x0800u16, IPV4_LEN, 12..20, true)
            }
            (IpAddr::V6(source), IpAddr::V6(server)) => {
                ip[0] = 0x60;
                ip[6] = PROTOCOL_UDP;
                ip[7] = HOP_LIMIT;
                ip[8..24].copy_from_slice(&source.octets());
                ip[24..40].copy_from_slice(&server.octets());
                (0x86dd, IPV6_LEN, 8..40, false)
            }
            _ => return Err(FlowError::MixedFamilies),
        };
        let ip_sum = if is_ipv4 { u32::from(fold(sum(&ip[..IPV4_LEN]))) } else { 0 };
        let udp_sum = sum(&ip[addresses]) + u32::from(PROTOCOL_UDP) + u32::from(flow.server.port());
        header[12..14].copy_from_slice(&ethertype.to_be_bytes());
        let udp = ETHERNET_LEN + ip_len;
        header[udp + 2..udp + 4].copy_from_slice(&flow.server.port().to_be_bytes());

        Ok(Self {
            interval_ns: 0,
            max_lag_ns: 0,
            limit: 0,
            header: Header(header),
            header_len: (udp + UDP_LEN) as u32,
            order_len: 0,
            interface: 0,
            ip_sum,
            udp_sum: u32::from(fold(udp_sum)),
            first_port: flow.first_port,
            server_port: flow.server.port(),
            ports_log2: flow.ports_log2,
            reserved: 0,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use core::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    pub(in crate::generator) const IPV4: Flow = Flow {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: [2, 0, 0, 0, 0, 2],
        source: IpAddr::V4(Ipv4Addr::new(10, 53, 0, 1)),
        server: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 53, 0, 2), 53)),
        first_port: 49_152,
        ports_log2: 4,
    };

    #[test]
    fn header_lengths_follow_the_family() {
        assert_eq!(Config::new(&IPV4).map(|config| config.header_len), Ok(42));
        let ipv6 = Flow {
            source: "fd53::1".parse().expect("an address"),
            server: "[fd53::2]:53".parse().expect("an address"),
            ..IPV4
        };
        assert_eq!(Config::new(&ipv6).map(|config| config.header_len), Ok(62));
    }

    #[test]
    fn impossible_flows_are_refused() {
        let error = |flow: Flow| Config::new(&flow).expect_err("refused");
        assert_eq!(
            error(Flow { source: "fd53::1".parse().expect("an address"), ..IPV4 }),
            FlowError::MixedFamilies
        );
        assert_eq!(error(Flow { first_port: 0, ..IPV4 }), FlowError::PortsOutOfRange);
        assert_eq!(error(Flow { first_port: 65_521, ..IPV4 }), FlowError::PortsOutOfRange);
        assert_eq!(error(Flow { ports_log2: 16, ..IPV4 }), FlowError::PortsOutOfRange);
        assert!(Config::new(&Flow { first_port: 65_520, ..IPV4 }).is_ok());
    }
}
