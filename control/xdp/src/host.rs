//! Tables of this host by which packets are steered: its addresses, its MAC addresses, its VLANs.
//!
//! The kernel delivers a packet if its table of local routes says so. That table has every address of
//! every interface, the broadcast addresses of their networks, and prefixes that somebody added with
//! `ip route add local`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use ringdns_abi::{
    AddressKind, ETHERTYPE_VLAN, HostAddress, MAX_BANS, MAX_HOST_ADDRESSES, MAX_LINK_ADDRESSES, MAX_VLANS,
    VlanKey, link_address,
};
use ringdns_dataplane::prefix::Prefix;
use rustix::{io::Errno, net::AddressFamily};

use super::netlink::{Netlink, attributes, number};

// Numbers of Linux `include/uapi/linux/rtnetlink.h` and `if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RT_TABLE_LOCAL: u8 = 255;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_ANYCAST: u8 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const IFLA_ADDRESS: u16 = 1;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
const IFF_UP: u32 = 1;

/// Lengths in bytes of `struct ifinfomsg` and `struct rtmsg`.
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

/// Values of the map of link addresses.
pub(super) type LinkAddresses = [u64; MAX_LINK_ADDRESSES as usize];

/// Parts of the tables that somebody listed, and the kernel does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    /// 802.1Q VLANs.
    pub vlans: Vec<u16>,
    /// Prefixes of addresses.
    pub prefixes: Vec<(IpAddr, u8, AddressKind)>,
    /// Prefixes of banned clients, at most [`MAX_BANS`].
    pub bans: Vec<Prefix>,
}

/// Contents of the maps about this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostTables {
    /// MAC addresses: that of the interface, then those of devices on top of it. All zero if the
    /// interface has none, as loopback: frames to any address are steered.
    pub links: LinkAddresses,
    /// VLANs that have a device on the interface, or are listed.
    pub vlans: BTreeSet<VlanKey>,
    /// Prefixes with their lengths in bits of a key.
    pub addresses: BTreeMap<(HostAddress, u32), AddressKind>,
    /// Number of prefixes that are left out, since the map is full.
    pub left_out: usize,
}

impl HostTables {
    /// Replaces the banned prefixes. Leaves out those with an address that belongs to this host by a
    /// prefix as short or shorter, since the longest prefix decides about destinations too.
    pub(super) fn set_bans(&mut self, bans: &[Prefix]) {
        self.addresses.retain(|_, kind| *kind != AddressKind::BANNED);
        for ban in bans.iter().take(MAX_BANS as usize) {
            let key = |bits: u8| {
                let prefix = Prefix::around(ban.address(), bits);
                (HostAddress::from(prefix.address()), HostAddress::key_bits(bits))
            };
            let is_free =
                |bits: u8| self.addresses.get(&key(bits)).is_none_or(|kind| *kind == AddressKind::BANNED);
            if (0..=ban.len()).all(is_free) {
                self.addresses.insert(key(ban.len()), AddressKind::BANNED);
            }
        }
    }
}

/// Reads the tables for an interface from the kernel.
pub(super) fn look(netlink: &mut Netlink, interface: u32, listed: &Listed) -> io::Result<HostTables> {
    let links = netlink.dump(RTM_GETLINK, RTM_NEWLINK, &[0; LINK_HEADER], link)?;
    let mut routes = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let mut question = [0; ROUTE_HEADER];
        question[0] = family.as_raw() as u8;
        question[4] = RT_TABLE_LOCAL;
        match netlink.dump(RTM_GETROUTE, RTM_NEWROUTE, &question, route) {
            Ok(found) => routes.extend(found),
            // A kernel without the family, or without any address of it yet.
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut tables = HostTables::new(&links, &routes, interface, listed);
    tables.set_bans(&listed.bans);
    Ok(tables)
}

fn is_absence(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT))
}

/// Network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LinkDevice {
    index: u32,
    is_up: bool,
    /// MAC address as the map has it; zero if there is none.
    address: u64,
    /// Index of the device below, if that is in this network namespace.
    below: Option<u32>,
    /// Index of the bridge or bond that it is a port of.
    master: Option<u32>,
    kind: LinkKind,
}

/// Kind of a network device, as far as it matters which frames it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinkKind {
    /// VLAN device with its EtherType and id.
    Vlan(u16, u16),
    /// Device that receives frames of the device below by their addresses.
    Sibling,
    /// Any other. The device below may be the other end of a cable, or that of a tunnel's packets.
    #[default]
    Other,
}

fn link(body: &[u8]) -> Option<LinkDevice> {
    let (header, rest) = body.split_at_checked(LINK_HEADER)?;
    let mut device = LinkDevice {
        index: number(&header[4..])?,
        is_up: number(&header[8..])? & IFF_UP != 0,
        ..LinkDevice::default()
    };
    let mut is_elsewhere = false;
    for (kind, value) in attributes(rest) {
        match kind {
            IFLA_ADDRESS => device.address = value.try_into().map_or(0, link_address),
            IFLA_LINK => device.below = number(value),
            IFLA_LINK_NETNSID => is_elsewhere = true,
            IFLA_MASTER => device.master = number(value),
            IFLA_LINKINFO => device.kind = link_kind(value).unwrap_or_default(),
            _ => {}
        }
    }
    // The index is one of the other namespace.
    device.below.take_if(|_| is_elsewhere);
    Some(device)
}

/// Returns the kind of a device from the attributes about it.
fn link_kind(info: &[u8]) -> Option<LinkKind> {
    let find = |bytes, wanted| attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value));
    match find(info, IFLA_INFO_KIND)?.strip_suffix(&[0])? {
        b"macvlan" | b"ipvlan" => Some(LinkKind::Sibling),
        b"vlan" => {
            let data = find(info, IFLA_INFO_DATA)?;
            let id = u16::from_ne_bytes(find(data, IFLA_VLAN_ID)?.try_into().ok()?);
            let protocol = find(data, IFLA_VLAN_PROTOCOL).and_then(|value| value.try_into().ok());
            Some(LinkKind::Vlan(protocol.map_or(ETHERTYPE_VLAN, u16::from_be_bytes), id))
        }
        _ => None,
    }
}

/// Local route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LocalRoute {
    address: HostAddress,
    bits: u32,
    kind: AddressKind,
    /// Whether it is for packets of one link only.
    is_link_local: bool,
    /// Index of its device.
    device: u32,
}

fn route(body: &[u8]) -> Option<LocalRoute> {
    let (header, rest) = body.split_at_checked(ROUTE_HEADER)?;
    if header[4] != RT_TABLE_LOCAL {
        return None;
    }
    let (length, kind) = (header[1], header[7]);
    let (mut destination, mut device) = (&[][..], 0);
    for (attribute, value) in attributes(rest) {
        match attribute {
            RTA_DST => destination = value,
            RTA_OIF => device = number(value).unwrap_or(0),
            _ => {}
        }
    }
    let is_v4 = header[0] == AddressFamily::INET.as_raw() as u8;
    let (address, is_loopback, is_link_local) = if is_v4 {
        let octets: [u8; 4] = if length == 0 { [0; 4] } else { destination.try_into().ok()? };
        (HostAddress::v4(octets), octets[0] == 127, false)
    } else {
        let octets: [u8; 16] = if length == 0 { [0; 16] } else { destination.try_into().ok()? };
        let is_loopback = length == 128 && u128::from_be_bytes(octets) == 1;
        (HostAddress::v6(octets), is_loopback, octets[0] == 0xfe && octets[1] & 0xc0 == 0x80)
    };
    // The kernel takes no packet to a loopback address from a link.
    if is_loopback {
        return None;
    }
    let kind = match kind {
        RTN_LOCAL | RTN_ANYCAST => AddressKind::LOCAL,
        RTN_BROADCAST => AddressKind::BROADCAST,
        // A part of a local prefix that is not local, such as a blackhole.
        _ => AddressKind::OTHER,
    };
    Some(LocalRoute { address, bits: HostAddress::key_bits(length), kind, is_link_local, device })
}

impl HostTables {
    fn new(links: &[LinkDevice], routes: &[LocalRoute], interface: u32, listed: &Listed) -> Self {
        let reached = reached_from(links, interface);
        let mut tables = HostTables {
            links: link_addresses(links, &reached, interface),
            vlans: reached.values().copied().filter(|vlan| !vlan.is_none()).collect(),
            ..HostTables::default()
        };
        tables.vlans.extend(listed.vlans.iter().map(|id| VlanKey::default().with(ETHERTYPE_VLAN, *id)));
        // Those that find no place are left to the kernel.
        while tables.vlans.len() > MAX_VLANS as usize {
            tables.vlans.pop_last();
        }
        for route in routes {
            if route.is_link_local && !reached.contains_key(&route.device) {
                continue;
            }
            let kind = tables.addresses.entry((route.address, route.bits)).or_insert(route.kind);
            // Several devices may have routes for one prefix.
            if route.kind == AddressKind::LOCAL {
                *kind = route.kind;
            }
        }
        for (address, length, kind) in &listed.prefixes {
            tables.addresses.insert(((*address).into(), HostAddress::key_bits(*length)), *kind);
        }
        while tables.addresses.len() > MAX_HOST_ADDRESSES as usize {
            tables.addresses.pop_last();
            tables.left_out += 1;
        }
        tables
    }
}

/// Returns the devices that receive packets of the interface, with the VLAN in which they do: those
/// that are up, the interface itself, a bridge or bond that it is a port of, and devices on top.
fn reached_from(links: &[LinkDevice], interface: u32) -> BTreeMap<u32, VlanKey> {
    let mut reached = BTreeMap::from([(interface, VlanKey::default())]);
    // Devices are not in the order in which they stand on each other. Each round adds one storey.
    loop {
        let before = reached.len();
        for device in links {
            if let Some(vlan) = reached.get(&device.index).copied()
                && let Some(master) = device.master
                && links.iter().any(|other| other.index == master && other.is_up)
            {
                reached.entry(master).or_insert(vlan);
            }
            let Some(vlan) = device.below.and_then(|below| reached.get(&below)).copied() else { continue };
            if !device.is_up || reached.contains_key(&device.index) {
                continue;
            }
            match device.kind {
                LinkKind::Sibling => _ = reached.insert(device.index, vlan),
                LinkKind::Vlan(ethertype, id) if !vlan.is_full() => {
                    reached.insert(device.index, vlan.with(ethertype, id));
                }
                // A third tag is left to the kernel.
                LinkKind::Vlan(..) | LinkKind::Other => {}
            }
        }
        if reached.len() == before {
            return reached;
        }
    }
}

/// Returns the MAC addresses of these devices, that of the interface first, each once. Those beyond
/// the size of the map are left out: the kernel gets their queries.
fn link_addresses(links: &[LinkDevice], reached: &BTreeMap<u32, VlanKey>, interface: u32) -> LinkAddresses {
    let own = links.iter().find(|device| device.index == interface).map_or(0, |device| device.address);
    let mut addresses = LinkAddresses::default();
    if own == 0 {
        return addresses;
    }
    let others = links.iter().filter(|device| reached.contains_key(&device.index));
    let others: BTreeSet<u64> = others.map(|device| device.address).collect();
    let others = others.into_iter().filter(|address| *address != 0 && *address != own);
    for (place, address) in addresses.iter_mut().zip(std::iter::once(own).chain(others)) {
        *place = address;
    }
    addresses
}

#[cfg(test)]
mod tests;
