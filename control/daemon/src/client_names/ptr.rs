//! Names of clients by PTR records, kept for a time, and looked up in the background.

use super::{ClientNameCounters, text_of};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ringdns_common::names;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{rcode, reply::Age, rtype},
    prefix::Prefix,
};
use ringdns_policy::data::reverse;
use ringdns_resolver::{Resolver, message::Message};
use std::{collections::HashMap, net::IpAddr, sync::Arc};
use tokio::sync::mpsc;

/// Most addresses that are kept, in two halves: the older one goes when the younger one is full.
const MOST: usize = 20_000;
/// Most lookups that wait.
const QUEUE: usize = 256;
/// Time until a name is looked up again, in seconds.
const NAMED: Secs = 3_600;
/// Time until an address without a name is looked up again, in seconds.
const NAMELESS: Secs = 600;
/// Time until a lookup that failed is repeated, in seconds.
const FAILED: Secs = 60;

/// Name of an address.
#[derive(Clone, Debug)]
struct Known {
    /// `None`: it has none, or none is known yet.
    name: Option<Arc<str>>,
    /// Time from which on it is looked up again.
    due: Secs,
    /// Whether a lookup waits or goes on.
    is_asked: bool,
}

/// Names by PTR records.
pub struct PtrNames {
    /// Clients whose records are looked up.
    clients: ArcSwap<Vec<Prefix>>,
    /// Younger and older half.
    known: Mutex<[HashMap<IpAddr, Known>; 2]>,
    asks: mpsc::Sender<IpAddr>,
    asked: tokio::sync::Mutex<mpsc::Receiver<IpAddr>>,
}

impl PtrNames {
    /// Returns the names of no clients yet.
    pub fn new() -> Self {
        let (asks, asked) = mpsc::channel(QUEUE);
        PtrNames { clients: ArcSwap::default(), known: Mutex::default(), asks, asked: asked.into() }
    }

    /// Looks up the clients in these prefixes from now on, and forgets the names of all others.
    pub fn set_clients(&self, clients: &[Prefix]) {
        self.clients.store(Arc::new(clients.to_vec()));
        for half in &mut *self.known.lock() {
            half.retain(|client, _| self.is_wanted(*client));
        }
    }

    /// Whether records of a client are looked up.
    fn is_wanted(&self, client: IpAddr) -> bool {
        self.clients.load().iter().any(|prefix| prefix.contains(client))
    }

    /// Returns the number of addresses that are kept.
    pub fn len(&self) -> usize {
        self.known.lock().iter().map(HashMap::len).sum()
    }

    /// Returns the name of a client as far as it is known, and has it looked up if it is due. Never
    /// waits.
    pub fn name_of(&self, client: IpAddr, now: Secs, counters: &ClientNameCounters) -> Option<Arc<str>> {
        if !self.is_wanted(client) {
            return None;
        }
        let known = self.get(client);
        let is_due = known.as_ref().is_none_or(|known| !known.is_asked && known.due <= now);
        if is_due {
            match self.asks.try_send(client) {
                Ok(()) => {
                    let name = known.as_ref().and_then(|known| known.name.clone());
                    self.set(client, Known { name, due: now, is_asked: true });
                }
                Err(_) => counters.ptr_put_off.inc(),
            }
        }
        known?.name
    }

    /// Looks up names until dropped, four at a time.
    pub async fn run(&self, resolver: &Arc<Resolver>, clock: Clock, counters: &ClientNameCounters) {
        let lookups = || async {
            loop {
                let Some(client) = self.asked.lock().await.recv().await else { return };
                counters.ptr_asked.inc();
                let found = look_up(resolver, client).await;
                if found.is_none() {
                    counters.ptr_failed.inc();
                }
                self.take(client, found, clock.secs());
            }
        };
        tokio::join!(lookups(), lookups(), lookups(), lookups());
    }

    /// Takes the result of a lookup; `None`: it failed.
    fn take(&self, client: IpAddr, found: Option<Option<Arc<str>>>, now: Secs) {
        let (name, keeps) = match found {
            Some(Some(name)) => (Some(name), NAMED),
            Some(None) => (None, NAMELESS),
            None => (self.get(client).and_then(|known| known.name), FAILED),
        };
        self.set(client, Known { name, due: now.saturating_add(keeps), is_asked: false });
    }

    fn get(&self, client: IpAddr) -> Option<Known> {
        let mut known = self.known.lock();
        let [young, old] = &mut *known;
        if let Some(known) = young.get(&client) {
            return Some(known.clone());
        }
        let kept = old.remove(&client)?;
        drop(known);
        self.set(client, kept.clone());
        Some(kept)
    }

    fn set(&self, client: IpAddr, entry: Known) {
        let mut known = self.known.lock();
        let [young, old] = &mut *known;
        if young.len() >= MOST / 2 && !young.contains_key(&client) {
            *old = std::mem::take(young);
        }
        young.insert(client, entry);
    }
}

/// Returns the name in the PTR record of an address, which may be none; `None`: the lookup failed.
async fn look_up(resolver: &Arc<Resolver>, client: IpAddr) -> Option<Option<Arc<str>>> {
    let key = names::key(&reverse(client), rtype::PTR, false, false)?;
    let resolved = resolver.resolve(&key).await;
    if !matches!(resolved.answer.status.rcode(), rcode::NOERROR | rcode::NXDOMAIN) {
        return None;
    }
    let message = Message::of(&key, &resolved.answer, Age::Fresh(0))?;
    let record = message.answers.iter().find(|record| record.rtype == rtype::PTR);
    Some(
        record
            .map(|record| text_of(&record.rdata.to_ascii_lowercase()))
            .filter(|name| !name.is_empty())
            .map(Into::into),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn lookups_are_bounded_and_repeated_when_they_are_due() {
        let counters = ClientNameCounters::default();
        let names = PtrNames::new();
        names.set_clients(&["10.0.0.0/8".parse().unwrap()]);
        let asked = || names.asked.try_lock().unwrap().try_recv().ok();
        let name = |n: u32, now: Secs| names.name_of(address(n), now, &counters).map(|name| name.to_string());
        assert_eq!((name(1, 5), name(1, 5), asked(), asked()), (None, None, Some(address(1)), None));
        names.take(address(1), Some(Some("one.lan".into())), 6);
        assert_eq!((name(1, 7), asked()), (Some("one.lan".into()), None));
        // An old name is told until there is a new one, and after a failure.
        let due = 6 + NAMED;
        assert_eq!((name(1, due), asked()), (Some("one.lan".into()), Some(address(1))));
        names.take(address(1), None, due);
        assert_eq!((name(1, due), asked()), (Some("one.lan".into()), None));
        assert_eq!((name(1, due + FAILED), asked()), (Some("one.lan".into()), Some(address(1))));
        names.take(address(1), Some(None), due + FAILED);
        assert_eq!((name(1, due + FAILED + 1), asked()), (None, None));
        assert_eq!((name(1, due + FAILED + NAMELESS), asked()), (None, Some(address(1))));
        // Others are not looked up.
        assert_eq!(names.name_of("192.0.2.1".parse().unwrap(), 5, &counters), None);
        assert_eq!(asked(), None);
        for n in 100..100 + 2 * QUEUE as u32 {
            assert_eq!(name(n, 5), None);
        }
        assert_eq!(counters.ptr_put_off.get(), QUEUE as u64);
        // Names of clients that are no longer looked up are not told.
        names.take(address(2), Some(Some("two.lan".into())), 5);
        names.set_clients(&["10.0.0.3/32".parse().unwrap()]);
        assert_eq!((name(2, 6), names.len()), (None, 0));
        // Nor is the result of a lookup that was under way.
        names.take(address(2), Some(Some("two.lan".into())), 5);
        assert_eq!(name(2, 6), None);
    }

    #[test]
    fn memory_is_bounded_and_clients_that_ask_stay() {
        let counters = ClientNameCounters::default();
        let names = PtrNames::new();
        names.set_clients(&["10.0.0.0/8".parse().unwrap()]);
        names.take(address(0), Some(Some("here.lan".into())), 1);
        for n in 1..5 * MOST as u32 {
            names.take(address(n), Some(Some("host.lan".into())), 1);
            if n % 1_000 == 0 {
                assert!(names.name_of(address(0), 2, &counters).is_some(), "{n}");
            }
            assert!(names.len() <= MOST);
        }
    }
}
