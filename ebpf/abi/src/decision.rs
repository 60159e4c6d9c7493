//! Decision about a packet, by the tables of this host.

use crate::{AddressKind, HostAddress, ListenKey, Packet, Verdict, VlanKey, classify, is_for_this_host};

/// Tables that a decision takes: the maps of the program, or those of a test.
pub trait Tables {
    /// Whether there is a listener under exactly this key.
    fn is_listener(&self, key: &ListenKey) -> bool;

    /// Returns a value of [`LINK_ADDRESSES_MAP`](crate::LINK_ADDRESSES_MAP).
    fn link_address(&self, index: u32) -> Option<u64>;

    /// Whether frames of this VLAN are steered.
    fn has_vlan(&self, vlan: &VlanKey) -> bool;

    /// Returns the kind of the longest prefix that has this address.
    fn address_kind(&self, address: &HostAddress) -> AddressKind;

    /// Whether the access list denies this client, and denied clients get no answer.
    fn is_denied(&self, client: &HostAddress) -> bool;
}

/// Decides about a packet. [`Verdict::Redirected`] means that nothing in its first buffer is against
/// it.
///
/// A socket of the kernel would have received such a packet: it is for a listener, at an address that
/// this host has, in a frame for this host and in a VLAN of it, and from another host.
#[inline(always)]
pub fn decide<P: Packet + ?Sized, T: Tables>(packet: &P, tables: &T) -> Verdict {
    let datagram = match classify(packet) {
        Ok(datagram) => datagram,
        Err(verdict) => return verdict,
    };
    let destination = &datagram.destination;
    if !tables.is_listener(destination) && !tables.is_listener(&destination.any_address()) {
        return Verdict::OtherDestination;
    }
    let Some(macs) = packet.window::<12>(0) else { return Verdict::BadLength };
    let to = [macs[0], macs[1], macs[2], macs[3], macs[4], macs[5]];
    if !is_for_this_host(to, |index| tables.link_address(index)) {
        return Verdict::OtherLinkAddress;
    }
    if !datagram.vlan.is_none() && !tables.has_vlan(&datagram.vlan) {
        return Verdict::OtherVlan;
    }
    if tables.address_kind(&destination.into()) != AddressKind::LOCAL {
        return Verdict::NotLocal;
    }
    if macs[6] & 1 != 0 {
        return Verdict::GroupSource;
    }
    if datagram.source.is_martian() {
        return Verdict::MartianSource;
    }
    match tables.address_kind(&datagram.source) {
        AddressKind::OTHER if tables.is_denied(&datagram.source) => Verdict::Denied,
        AddressKind::OTHER => Verdict::Redirected,
        AddressKind::BANNED => Verdict::Banned,
        _ => Verdict::OwnSource,
    }
}
