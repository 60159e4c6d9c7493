//! Tests of the parsing code on the host: the kernel runs the same code, here on slices.

mod fixtures;

use std::{collections::HashSet, net::IpAddr};

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};
use ringdns_abi::{
    AddressKind, Datagram, ETHERTYPE_VLAN, HostAddress, ListenKey, Tables, Verdict, VlanKey, classify,
    decide, link_address,
};

/// Tables of the host that the fixtures arrive at.
struct Host {
    listen: HashSet<ListenKey>,
    vlans: HashSet<VlanKey>,
    prefixes: Vec<(IpAddr, u8, AddressKind)>,
    denied: Vec<IpAddr>,
}

impl Host {
    fn new() -> Self {
        let vlan = |id: &u16| VlanKey::default().with(ETHERTYPE_VLAN, *id);
        let prefix =
            |(address, length, kind): &(&str, u8, AddressKind)| (address.parse().unwrap(), *length, *kind);
        Self {
            listen: fixtures::listen().into_iter().map(ListenKey::from).collect(),
            vlans: fixtures::VLANS.iter().map(vlan).collect(),
            prefixes: fixtures::HOST.iter().map(prefix).collect(),
            denied: Vec::new(),
        }
    }
}

impl Tables for Host {
    fn is_listener(&self, key: &ListenKey) -> bool {
        self.listen.contains(key)
    }

    fn link_address(&self, index: u32) -> Option<u64> {
        Some(if index == 0 { link_address(fixtures::SERVER_MAC) } else { 0 })
    }

    fn has_vlan(&self, vlan: &VlanKey) -> bool {
        self.vlans.contains(vlan)
    }

    fn address_kind(&self, address: &HostAddress) -> AddressKind {
        // A prefix of the tests ends at a whole byte, so an address is in it if they are the same up
        // to there.
        let is_in = |(prefix, length, _): &&(IpAddr, u8, AddressKind)| {
            let bytes = usize::from(*length) / 8;
            let mut wide = [0; 16];
            match prefix {
                IpAddr::V4(v4) => wide[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => wide = v6.octets(),
            }
            let begins = |own: &[u8; 16]| own[..bytes] == wide[..bytes];
            address.is_v4() == prefix.is_ipv4() && begins(address.bytes())
        };
        let longest = self.prefixes.iter().filter(is_in).max_by_key(|(_, length, _)| *length);
        longest.map_or(AddressKind::OTHER, |(.., kind)| *kind)
    }

    fn is_denied(&self, client: &HostAddress) -> bool {
        self.denied.iter().any(|address| HostAddress::from(*address) == *client)
    }
}

#[test]
fn every_fixture_gets_its_verdict() {
    let host = Host::new();
    for fixture in fixtures::all() {
        assert_eq!(decide(&fixture.frame[..], &host), fixture.verdict, "{}", fixture.name);
    }
}

#[test]
fn there_is_a_fixture_for_every_verdict_of_a_packet() {
    let seen: HashSet<Verdict> = fixtures::all().iter().map(|fixture| fixture.verdict).collect();
    // These verdicts depend on bans, the access list, the queue, and the length of a frame in all its buffers.
    let missing: Vec<_> = Verdict::ALL.into_iter().filter(|verdict| !seen.contains(verdict)).collect();
    assert_eq!(missing, [Verdict::Banned, Verdict::Denied, Verdict::NoSocket, Verdict::Oversize]);
}

/// A ban concerns sources alone, and a longer prefix of this host stays this host's.
#[test]
fn clients_in_a_banned_prefix_are_dropped() {
    let mut host = Host::new();
    for (address, length) in [("10.53.0.0", 24), ("fd53::", 64)] {
        host.prefixes.push((address.parse().unwrap(), length, AddressKind::BANNED));
    }
    let mut banned = 0;
    for fixture in fixtures::all() {
        let verdict = decide(&fixture.frame[..], &host);
        match fixture.verdict {
            Verdict::Redirected => banned += u32::from(verdict == Verdict::Banned),
            other => assert_eq!(verdict, other, "{}", fixture.name),
        }
    }
    assert!(banned > 5, "{banned} queries of banned clients");
}

/// The access list concerns only what a listener would get, and a ban comes before it.
#[test]
fn clients_that_the_access_list_denies_are_dropped() {
    let mut host = Host::new();
    host.denied = ["10.53.0.1", "fd53::1", "10.53.0.2"].map(|text| text.parse().unwrap()).to_vec();
    let mut denied = 0;
    for fixture in fixtures::all() {
        let verdict = decide(&fixture.frame[..], &host);
        match fixture.verdict {
            Verdict::Redirected => denied += u32::from(verdict == Verdict::Denied),
            other => assert_eq!(verdict, other, "{}", fixture.name),
        }
    }
    assert!(denied > 5, "{denied} queries of denied clients");
    host.prefixes.push(("10.53.0.0".parse().unwrap(), 24, AddressKind::BANNED));
    assert_eq!(decide(&fixtures::all()[0].frame[..], &host), Verdict::Banned);
}

/// Every accepted datagram is one that another parser finds too, complete and at the same place:
/// checked for every fixture, with every byte of its headers changed to every value.
#[test]
fn etherparse_agrees_on_whatever_is_steered() {
    let mut agreed = 0;
    for fixture in fixtures::all() {
        for position in 0..fixture.frame.len().min(62) {
            let mut frame = fixture.frame.clone();
            for value in 0..=u8::MAX {
                frame[position] = value;
                if let Ok(datagram) = classify(&frame[..]) {
                    assert_eq!(
                        by_etherparse(&frame),
                        Some(datagram),
                        "{} with byte {position} = {value}",
                        fixture.name
                    );
                    agreed += 1;
                }
            }
        }
    }
    assert!(agreed > 100_000, "only {agreed} frames were datagrams at all");
}

/// A frame truncated anywhere before the end of UDP is never accepted as complete.
#[test]
fn no_part_of_a_query_is_steered() {
    for fixture in fixtures::all() {
        let Ok(datagram) = classify(&fixture.frame[..]) else { continue };
        for length in 0..datagram.offset + datagram.length {
            assert_eq!(
                classify(&fixture.frame[..length]),
                Err(Verdict::BadLength),
                "{} at {length}",
                fixture.name
            );
        }
    }
}

fn by_etherparse(frame: &[u8]) -> Option<Datagram> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
    let port = udp.destination_port().to_be_bytes();
    let (source, destination) = match packet.net? {
        NetSlice::Ipv4(ip) if ip.header().options().is_empty() => {
            let header = ip.header();
            (HostAddress::v4(header.source()), ListenKey::v4(header.destination(), port))
        }
        NetSlice::Ipv6(ip) if ip.extensions().is_empty() => {
            let header = ip.header();
            (HostAddress::v6(header.source()), ListenKey::v6(header.destination(), port))
        }
        _ => return None,
    };
    let tags = packet.link_exts.iter().filter_map(|extension| match extension {
        LinkExtSlice::Vlan(tag) => Some(tag),
        LinkExtSlice::Macsec(_) => None,
    });
    let ethertype = |offset: usize| u16::from_be_bytes([frame[offset], frame[offset + 1]]);
    let vlan = (12..)
        .step_by(4)
        .zip(tags)
        .fold(VlanKey::default(), |vlan, (at, tag)| vlan.with(ethertype(at), tag.vlan_identifier().value()));
    let offset = udp.slice().as_ptr().addr() - frame.as_ptr().addr();
    Some(Datagram { source, destination, vlan, offset, length: usize::from(udp.length()) })
}
