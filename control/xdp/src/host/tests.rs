//! Tests of reading this host's tables. `control/xdp/tests/fixtures.rs` reads those of a
//! real kernel.

use ringdns_abi::ETHERTYPE_SERVICE_VLAN;

use super::*;
use crate::netlink::attribute;

const NIC: u32 = 2;

fn device(index: u32, below: Option<u32>, kind: LinkKind) -> LinkDevice {
    LinkDevice { index, is_up: true, address: u64::from(index) + 100, below, master: None, kind }
}

fn tagged(index: u32, below: u32, id: u16) -> LinkDevice {
    device(index, Some(below), LinkKind::Vlan(ETHERTYPE_VLAN, id))
}

fn key(ids: &[u16]) -> VlanKey {
    ids.iter().fold(VlanKey::default(), |key, id| key.with(ETHERTYPE_VLAN, *id))
}

fn local(address: &str, length: u8, kind: AddressKind, device: u32) -> LocalRoute {
    let ip: IpAddr = address.parse().unwrap();
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    LocalRoute { address: ip.into(), bits: HostAddress::key_bits(length), kind, is_link_local, device }
}

#[test]
fn vlans_are_those_of_devices_that_are_up_and_those_that_are_listed() {
    let links = [
        tagged(9, 8, 3),
        tagged(8, NIC, 7),
        tagged(7, 9, 1),
        LinkDevice { is_up: false, ..tagged(6, NIC, 5) },
        tagged(5, 6, 4),
        tagged(4, 3, 30),
        device(3, Some(NIC), LinkKind::Other),
        device(NIC, None, LinkKind::Other),
    ];
    let tables = HostTables::new(&links, &[], NIC, &Listed { vlans: vec![20], ..Listed::default() });
    assert_eq!(tables.vlans, BTreeSet::from([key(&[7]), key(&[7, 3]), key(&[20])]));
    assert_eq!(tables.links, [102, 108, 109, 0, 0, 0, 0, 0], "of devices that receive its frames");
}

#[test]
fn a_port_of_a_bond_receives_for_the_bond() {
    let port = LinkDevice { master: Some(5), ..device(NIC, None, LinkKind::Other) };
    let links = [port, tagged(6, 5, 7), device(5, None, LinkKind::Other), device(4, None, LinkKind::Other)];
    let tables = HostTables::new(&links, &[], NIC, &Listed::default());
    assert_eq!(tables.links[..4], [102, 105, 106, 0]);
    assert_eq!(tables.vlans, BTreeSet::from([key(&[7])]));
}

#[test]
fn the_interfaces_own_mac_address_is_first_and_each_is_there_once() {
    let on_top = |index, address| LinkDevice { address, ..device(index, Some(NIC), LinkKind::Sibling) };
    let links = |own, others: &[u64]| {
        let others = others.iter().zip(10..).map(|(address, index)| on_top(index, *address));
        let all: Vec<_> =
            others.chain([LinkDevice { address: own, ..device(NIC, None, LinkKind::Other) }]).collect();
        HostTables::new(&all, &[], NIC, &Listed::default()).links
    };
    assert_eq!(links(7, &[9, 0, 7, 8, 9]), [7, 8, 9, 0, 0, 0, 0, 0]);
    let many: Vec<u64> = (1..20).collect();
    assert_eq!(links(7, &many), [7, 1, 2, 3, 4, 5, 6, 8]);
    assert_eq!(links(0, &[9]), [0; 8], "no address of its own: any frame");
}

#[test]
fn link_local_addresses_are_those_of_this_link() {
    let links = [device(NIC, None, LinkKind::Other), tagged(3, NIC, 7), device(4, None, LinkKind::Other)];
    let (here, vlan, there) = ("fe80::2", "fe80::3", "fe80::4");
    let routes = [(here, NIC), (vlan, 3), (there, 4), ("fe80::4", 1), ("fd53::4", 4)]
        .map(|(address, device)| local(address, 128, AddressKind::LOCAL, device));
    let tables = HostTables::new(&links, &routes, NIC, &Listed::default());
    let found: Vec<HostAddress> = tables.addresses.keys().map(|(address, _)| *address).collect();
    assert_eq!(found, ["fd53::4", here, vlan].map(|text| text.parse::<IpAddr>().unwrap().into()));
}

#[test]
fn a_prefix_on_several_devices_is_local_if_one_is() {
    let kinds = [AddressKind::BROADCAST, AddressKind::LOCAL, AddressKind::BROADCAST];
    let routes = kinds.map(|kind| local("10.53.0.2", 32, kind, NIC));
    let tables = HostTables::new(&[device(NIC, None, LinkKind::Other)], &routes, NIC, &Listed::default());
    assert_eq!(tables.addresses.into_values().collect::<Vec<_>>(), [AddressKind::LOCAL]);
}

#[test]
fn prefixes_beyond_the_bound_are_left_out_and_counted() {
    let routes: Vec<_> = (0..MAX_HOST_ADDRESSES + 3)
        .map(|n| {
            let address = HostAddress::v4((0x0a00_0000 + n).to_be_bytes());
            LocalRoute { address, ..local("10.0.0.0", 32, AddressKind::LOCAL, NIC) }
        })
        .collect();
    let tables = HostTables::new(&[device(NIC, None, LinkKind::Other)], &routes, NIC, &Listed::default());
    assert_eq!((tables.addresses.len(), tables.left_out), (MAX_HOST_ADDRESSES as usize, 3));
}

#[test]
fn a_vlan_device_is_read_from_its_message() {
    let message = |kind: &[u8], elsewhere: bool| {
        let (mut data, mut info, mut body) = (Vec::new(), Vec::new(), vec![0; LINK_HEADER]);
        body[4..8].copy_from_slice(&9u32.to_ne_bytes());
        body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        attribute(&mut data, IFLA_VLAN_ID, &7u16.to_ne_bytes());
        attribute(&mut data, IFLA_VLAN_PROTOCOL, &0x88a8u16.to_be_bytes());
        attribute(&mut info, IFLA_INFO_KIND, kind);
        attribute(&mut info, IFLA_INFO_DATA | 0x8000, &data);
        attribute(&mut body, 999, b"of a later kernel");
        attribute(&mut body, IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]);
        attribute(&mut body, IFLA_LINK, &NIC.to_ne_bytes());
        attribute(&mut body, IFLA_LINKINFO | 0x8000, &info);
        if elsewhere {
            attribute(&mut body, IFLA_LINK_NETNSID, &1u32.to_ne_bytes());
        }
        link(&body).unwrap()
    };
    let expected = LinkDevice {
        address: link_address([2, 0, 0, 0, 0, 9]),
        ..device(9, Some(NIC), LinkKind::Vlan(ETHERTYPE_SERVICE_VLAN, 7))
    };
    assert_eq!(message(b"vlan\0", false), expected);
    assert_eq!(message(b"macvlan\0", false).kind, LinkKind::Sibling);
    assert_eq!(message(b"veth\0", false).kind, LinkKind::Other);
    assert_eq!(message(b"vlan\0", true).below, None, "an index of another namespace");
    assert_eq!(link(&[0; 3]), None);
}

#[test]
fn routes_are_read_from_their_messages() {
    let message = |family: AddressFamily, length: u8, table: u8, kind: u8, destination: &[u8]| {
        let mut body = vec![family.as_raw() as u8, length, 0, 0, table, 0, 0, kind, 0, 0, 0, 0];
        attribute(&mut body, RTA_DST, destination);
        attribute(&mut body, RTA_OIF, &NIC.to_ne_bytes());
        route(&body)
    };
    let v4 = |table, kind, address| message(AddressFamily::INET, 24, table, kind, address);
    let anyip = local("192.0.2.0", 24, AddressKind::LOCAL, NIC);
    assert_eq!(v4(255, RTN_LOCAL, &[192, 0, 2, 0]), Some(anyip));
    assert_eq!(v4(255, 6, &[192, 0, 2, 0]).unwrap().kind, AddressKind::OTHER, "a blackhole");
    assert_eq!(v4(254, RTN_LOCAL, &[192, 0, 2, 0]), None, "of another table");
    assert_eq!(v4(255, RTN_LOCAL, &[127, 0, 0, 0]), None, "loopback");
    assert_eq!(v4(255, RTN_LOCAL, &[192, 0, 2]), None, "cut short");
    let v6 = |kind, address: &str| {
        let ip: std::net::Ipv6Addr = address.parse().unwrap();
        message(AddressFamily::INET6, 128, 255, kind, &ip.octets())
    };
    assert_eq!(v6(RTN_ANYCAST, "fd53::"), Some(local("fd53::", 128, AddressKind::LOCAL, NIC)));
    assert_eq!(v6(RTN_LOCAL, "::1"), None, "loopback");
    assert!(v6(RTN_LOCAL, "fe80::1").unwrap().is_link_local);
    assert_eq!(route(&[0; 3]), None);
}

#[test]
fn listed_prefixes_are_in_place_of_what_the_kernel_says() {
    let (clients, server) = ("10.53.0.0".parse().unwrap(), "10.53.0.2".parse().unwrap());
    let prefixes = vec![(clients, 24, AddressKind::LOCAL), (server, 32, AddressKind::OTHER)];
    let routes = [local("10.53.0.2", 32, AddressKind::LOCAL, NIC)];
    let listed = Listed { prefixes, ..Listed::default() };
    let tables = HostTables::new(&[device(NIC, None, LinkKind::Other)], &routes, NIC, &listed);
    let found: Vec<_> = tables.addresses.into_iter().collect();
    let key = |address: IpAddr, length| (HostAddress::from(address), HostAddress::key_bits(length));
    assert_eq!(found, [(key(clients, 24), AddressKind::LOCAL), (key(server, 32), AddressKind::OTHER)]);
}
