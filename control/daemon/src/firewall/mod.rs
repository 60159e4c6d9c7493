//! Addresses that names have, for firewalls: a list of the names of each address, and sets of nftables
//! that are filled before clients get the addresses.

mod names;
mod nft;
mod sets;

pub use names::{NameCounters, NameOfAddress, NamesOfAddresses};
pub use sets::{NftCounters, NftSets};

use ringdns_config::Config;
use ringdns_dataplane::clock::{Clock, Secs};
use ringdns_resolver::{Resolver, watch::AddressWatch};
use std::{io, net::IpAddr, sync::Arc};
use tokio::sync::oneshot;

/// Addresses of names, for firewalls.
#[derive(Default)]
pub struct Firewall {
    /// Names of addresses; `None`: they are not kept.
    pub names: Option<NamesOfAddresses>,
    /// Sets of nftables; `None`: there are none.
    pub sets: Option<NftSets>,
}

impl Firewall {
    /// Returns what a configuration asks for; `None`: it asks for nothing.
    pub fn new(config: &Config, clock: Clock) -> io::Result<Option<Arc<Self>>> {
        let names = (config.names.entries > 0).then(|| NamesOfAddresses::new(config.names, clock));
        let sets = match &config.nftsets[..] {
            [] => None,
            sets => Some(NftSets::new(sets, clock)?),
        };
        let is_used = names.is_some() || sets.is_some();
        Ok(is_used.then(|| Arc::new(Firewall { names, sets })))
    }
}

/// Returns what a configuration asks for, as the resolver's watch on addresses.
pub fn of(config: &Config, clock: Clock, resolver: &Resolver) -> io::Result<Option<Arc<Firewall>>> {
    let firewall = Firewall::new(config, clock)?;
    if let Some(firewall) = &firewall {
        resolver.set_watch(firewall.clone());
    }
    Ok(firewall)
}

impl AddressWatch for Firewall {
    fn wants(&self, name: &[u8]) -> bool {
        self.names.is_some() || self.sets.as_ref().is_some_and(|sets| sets.wants(name))
    }

    fn take(&self, name: &[u8], addresses: &[IpAddr], lifetime: Secs) -> Option<oneshot::Receiver<()>> {
        if let Some(names) = &self.names {
            names.take(name, addresses, lifetime);
        }
        self.sets.as_ref().and_then(|sets| sets.fill(name, addresses, lifetime))
    }

    fn late(&self) {
        if let Some(sets) = &self.sets {
            sets.counters.late.inc();
        }
    }
}

#[cfg(test)]
mod tests;
