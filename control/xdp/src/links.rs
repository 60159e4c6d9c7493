//! Link addresses of this host, for whose frames queries are steered.

use nix::ifaddrs::getifaddrs;
use ringdns_abi::{MAX_LINK_ADDRESSES, link_address};

/// Values of the map of link addresses.
pub(super) type LinkAddresses = [u64; MAX_LINK_ADDRESSES as usize];

/// Returns the link addresses of this network namespace: that of the interface with this index
/// first, then those of others, such as macvlan devices on top of it. Addresses beyond the size of
/// the map are left out: the kernel gets their queries.
///
/// If the interface has no MAC address, as loopback has none, nothing is returned, and frames to any
/// address are steered.
pub(super) fn addresses(interface_index: u32) -> LinkAddresses {
    let mut own = 0;
    let mut others = Vec::new();
    for found in getifaddrs().into_iter().flatten() {
        let Some(link) = found.address.as_ref().and_then(|address| address.as_link_addr()) else { continue };
        let address = link.addr().map_or(0, link_address);
        if u32::try_from(link.ifindex()) == Ok(interface_index) {
            own = address;
        } else {
            others.push(address);
        }
    }
    first(own, others)
}

/// Returns the addresses with `own` in front, each once.
fn first(own: u64, mut others: Vec<u64>) -> LinkAddresses {
    let mut addresses = LinkAddresses::default();
    if own != 0 {
        others.sort_unstable();
        others.dedup();
        let others = others.into_iter().filter(|address| *address != 0 && *address != own);
        for (place, address) in addresses.iter_mut().zip(std::iter::once(own).chain(others)) {
            *place = address;
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interfaces_own_address_is_first_and_each_is_there_once() {
        assert_eq!(first(7, vec![9, 0, 7, 8, 9]), [7, 8, 9, 0, 0, 0, 0, 0]);
        assert_eq!(first(7, (1..20).collect()), [7, 1, 2, 3, 4, 5, 6, 8]);
        assert_eq!(first(0, vec![9]), [0; 8], "no address of its own: any frame");
    }
}
