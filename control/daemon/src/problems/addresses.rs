//! Addresses to listen on that this host does not have: a virtual address that is on another host
//! at the moment, or an IPv6 address whose uniqueness is still being checked.
//!
//! Sockets are bound to them anyway, and the XDP program follows this host's addresses, so nothing
//! has to be done when one comes but to tell.

use super::Found;
use ringdns_api::ProblemKind;
use ringdns_dataplane::port::udp;
use std::net::SocketAddr;

/// Returns the sentence about an address that this host does not have.
pub fn absence(address: SocketAddr) -> String {
    format!("no interface has {}: queries to it are answered as soon as one has", address.ip())
}

/// Addresses to listen on, and which of them this host has.
#[derive(Debug, Default)]
pub(super) struct ListenAddresses(Vec<ListenAddress>);

#[derive(Debug)]
struct ListenAddress {
    address: SocketAddr,
    is_here: bool,
}

impl ListenAddresses {
    /// Creates the list. Each address counts as one that this host has, until the first look.
    pub(super) fn new(addresses: &[SocketAddr]) -> Self {
        let mut list: Vec<ListenAddress> = Vec::new();
        for &address in addresses {
            if !list.iter().any(|known| known.address.ip() == address.ip()) {
                list.push(ListenAddress { address, is_here: true });
            }
        }
        ListenAddresses(list)
    }

    /// Looks which of them this host has, and logs changes.
    pub(super) fn look(&mut self) {
        for ListenAddress { address, is_here } in &mut self.0 {
            let before = std::mem::replace(is_here, udp::is_here(*address));
            match (before, *is_here) {
                (true, false) => tracing::warn!("{}", absence(*address)),
                (false, true) => {
                    tracing::info!("an interface has {} now: queries to it are answered", address.ip());
                }
                _ => {}
            }
        }
    }

    /// Returns a problem for each address that this host does not have.
    pub(super) fn absent(&self) -> impl Iterator<Item = Found> + '_ {
        self.0.iter().filter(|known| !known.is_here).map(|known| {
            let address = known.address;
            Found::new(ProblemKind::AddressAbsent, address.ip().to_string(), absence(address))
        })
    }
}
