//! Names of addresses: those whose answers had the address, for as long as clients may use these.

use parking_lot::Mutex;
use ringdns_common::counters;
use ringdns_config::NamesConfig;
use ringdns_dataplane::clock::{Clock, Secs};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// Most names of an address that are told.
const TOLD: usize = 1_000;

counters! {
    /// Counters of names of addresses.
    NameCounters {
        /// Pairs of an address and a name that were kept, new or for a longer time.
        kept,
        /// Pairs of an address and a name that were forgotten before their time, because there were too
        /// many.
        evicted,
    }
}

/// Name of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameOfAddress {
    /// Name in wire format, lowercased.
    pub name: Arc<[u8]>,
    /// Seconds until it is forgotten.
    pub left: Secs,
}

/// Names of addresses. Each pair takes an entry in two ordered maps and its name, some 200 bytes.
pub struct NamesOfAddresses {
    config: NamesConfig,
    clock: Clock,
    pairs: Mutex<Pairs>,
    /// Counters.
    pub counters: NameCounters,
}

#[derive(Default)]
struct Pairs {
    /// Ends of pairs.
    ends: BTreeMap<(IpAddr, Arc<[u8]>), Secs>,
    /// Pairs in the order of their ends.
    order: BTreeSet<(Secs, IpAddr, Arc<[u8]>)>,
}

impl Pairs {
    /// Removes the pair that ends first, if it has ended by `now`, or if there are more than `most`.
    /// Returns whether it had not ended.
    fn pop(&mut self, now: Secs, most: usize) -> Option<bool> {
        let (end, ..) = self.order.first()?;
        if *end > now && self.ends.len() <= most {
            return None;
        }
        let (end, address, name) = self.order.pop_first()?;
        self.ends.remove(&(address, name));
        Some(end > now)
    }
}

impl NamesOfAddresses {
    /// Returns an empty list.
    pub fn new(config: NamesConfig, clock: Clock) -> Self {
        NamesOfAddresses { config, clock, pairs: Mutex::default(), counters: NameCounters::default() }
    }

    /// Returns the number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.lock().ends.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the addresses of a name, which clients may be given for `lifetime` seconds.
    pub fn take(&self, name: &[u8], addresses: &[IpAddr], lifetime: Secs) {
        let now = self.clock.secs();
        let end = now.saturating_add(lifetime).saturating_add(self.config.grace);
        let name: Arc<[u8]> = name.into();
        let mut pairs = self.pairs.lock();
        for address in addresses {
            let before = pairs.ends.get(&(*address, name.clone())).copied();
            if before.is_some_and(|before| before >= end) {
                continue;
            }
            if let Some(before) = before {
                pairs.order.remove(&(before, *address, name.clone()));
            }
            pairs.ends.insert((*address, name.clone()), end);
            pairs.order.insert((end, *address, name.clone()));
            self.counters.kept.inc();
        }
        while let Some(was_in_use) = pairs.pop(now, self.config.entries) {
            self.counters.evicted.add(u64::from(was_in_use));
        }
    }

    /// Returns names of an address, at most a thousand.
    pub fn of(&self, address: IpAddr) -> Vec<NameOfAddress> {
        let now = self.clock.secs();
        let pairs = self.pairs.lock();
        let first: (IpAddr, Arc<[u8]>) = (address, Arc::from([]));
        let of_address = pairs.ends.range(first..).take_while(|((of, _), _)| *of == address);
        let in_use = of_address.filter(|(_, end)| **end > now);
        in_use
            .map(|((_, name), end)| NameOfAddress { name: name.clone(), left: end - now })
            .take(TOLD)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: usize, grace: Secs) -> NamesOfAddresses {
        NamesOfAddresses::new(NamesConfig { entries, grace }, Clock::start())
    }

    fn of(names: &NamesOfAddresses, address: IpAddr) -> Vec<Vec<u8>> {
        names.of(address).into_iter().map(|found| found.name.to_vec()).collect()
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn an_address_has_the_names_that_had_it() {
        let names = names(100, 60);
        names.take(b"\x01b\0", &[address(1), address(2), "2001:db8::1".parse().unwrap()], 30);
        names.take(b"\x01a\0", &[address(1)], 30);
        names.take(b"\x01a\0", &[address(1)], 3_000);
        names.take(b"\x01a\0", &[address(1)], 10);
        assert_eq!(of(&names, address(1)), [b"\x01a\0".to_vec(), b"\x01b\0".to_vec()]);
        assert_eq!(of(&names, address(2)), [b"\x01b\0".to_vec()]);
        assert_eq!(of(&names, "2001:db8::1".parse().unwrap()), [b"\x01b\0".to_vec()]);
        assert!(of(&names, address(3)).is_empty() && of(&names, address(0)).is_empty());
        let left = names.of(address(1))[0].left;
        assert!((3_055..=3_060).contains(&left), "{left}: the longest time and the grace");
        assert_eq!((names.len(), names.counters.kept.get()), (4, 5));
    }

    #[test]
    fn what_ends_first_is_forgotten_first() {
        let names = names(3, 0);
        for last in 1..=9 {
            names.take(b"\x01a\0", &[address(last)], 1_000 - u32::from(last));
        }
        let kept: Vec<_> = (1..=9).filter(|last| !of(&names, address(*last)).is_empty()).collect();
        assert_eq!((kept, names.len(), names.counters.evicted.get()), (vec![1, 2, 3], 3, 6));
        let pairs = names.pairs.lock();
        assert_eq!(pairs.order.len(), pairs.ends.len());
    }

    #[test]
    fn what_has_ended_is_gone() {
        let names = names(100, 0);
        names.take(b"\x01a\0", &[address(1)], 0);
        assert!(of(&names, address(1)).is_empty());
        names.take(b"\x01b\0", &[address(2)], 100);
        assert_eq!((names.len(), names.counters.evicted.get()), (1, 0));
    }
}
