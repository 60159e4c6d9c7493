//! Sets of nftables, filled by a thread of their own: a transaction takes the kernel some
//! microseconds, but may have to wait for others.

use super::nft::{Nft, NftSet, number_of};
use ringdns_common::counters;
use ringdns_config::NftsetConfig;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::is_within,
};
use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};
use tokio::sync::oneshot;

/// Most answers that wait for the thread.
const WAITING: usize = 1_024;
/// Most elements whose ends are remembered, of some 60 bytes each.
const REMEMBERED: usize = 65_536;
/// Least time between two log lines about failures, in seconds.
const LOG_EVERY: Secs = 10;

counters! {
    /// Counters of the sets of nftables.
    NftCounters {
        /// Addresses put into a set of nftables.
        filled,
        /// Addresses that the kernel did not take into a set of nftables.
        failed,
        /// Answers that were given before the sets of nftables had their addresses, because that took
        /// too long.
        late,
        /// Answers whose addresses were put into no set of nftables, because too many waited.
        full,
    }
}

/// Sets of nftables.
pub struct NftSets {
    rules: Vec<FillRule>,
    jobs: SyncSender<FillJob>,
    /// Counters.
    pub counters: Arc<NftCounters>,
}

/// Sets for the addresses of some names.
struct FillRule {
    suffixes: Vec<Vec<u8>>,
    set4: Option<Arc<NftSet>>,
    set6: Option<Arc<NftSet>>,
    grace: Secs,
}

/// Addresses to put into sets, each for so many seconds.
struct FillJob {
    elements: Vec<(Arc<NftSet>, IpAddr, Secs)>,
    done: oneshot::Sender<()>,
}

impl FillRule {
    fn new(config: &NftsetConfig) -> Self {
        let set = |name: &Option<String>| {
            let name = name.clone()?;
            let family = number_of(config.family);
            Some(Arc::new(NftSet { family, table: config.table.clone(), set: name }))
        };
        FillRule {
            suffixes: config.suffixes.clone(),
            set4: set(&config.set4),
            set6: set(&config.set6),
            grace: config.grace,
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        self.suffixes.iter().any(|suffix| is_within(name, suffix))
    }
}

impl NftSets {
    /// Starts the thread, in the network namespace of the caller.
    pub fn new(configs: &[NftsetConfig], clock: Clock) -> io::Result<Self> {
        let counters = Arc::new(NftCounters::default());
        let (jobs, received) = sync_channel(WAITING);
        let filler = Filler {
            nft: Nft::open()?,
            clock,
            counters: counters.clone(),
            ends: HashMap::new(),
            logged: None,
        };
        thread::Builder::new().name("nftset".into()).spawn(move || filler.work(&received))?;
        Ok(NftSets { rules: configs.iter().map(FillRule::new).collect(), jobs, counters })
    }

    /// Whether a set is for a name.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.rules.iter().any(|rule| rule.has(name))
    }

    /// Puts the addresses of a name, which clients may be given for `lifetime` seconds, into its sets.
    /// Returns a message that they are there, or cannot be.
    pub fn fill(&self, name: &[u8], addresses: &[IpAddr], lifetime: Secs) -> Option<oneshot::Receiver<()>> {
        let mut elements = Vec::new();
        for rule in self.rules.iter().filter(|rule| rule.has(name)) {
            for address in addresses {
                let set = if address.is_ipv4() { &rule.set4 } else { &rule.set6 };
                let seconds = lifetime.saturating_add(rule.grace);
                elements.extend(set.clone().map(|set| (set, *address, seconds)));
            }
        }
        if elements.is_empty() {
            return None;
        }
        let (done, is_done) = oneshot::channel();
        if self.jobs.try_send(FillJob { elements, done }).is_err() {
            self.counters.full.inc();
            return None;
        }
        Some(is_done)
    }
}

/// State of the thread.
struct Filler {
    nft: Nft,
    clock: Clock,
    counters: Arc<NftCounters>,
    /// Ends of elements, so that an answer that ends earlier does not shorten them.
    ends: HashMap<(Arc<NftSet>, IpAddr), Secs>,
    /// Time of the last log line about a failure.
    logged: Option<Secs>,
}

impl Filler {
    /// Works until the sender is gone.
    fn work(mut self, jobs: &Receiver<FillJob>) {
        for FillJob { elements, done } in jobs {
            for (set, address, seconds) in elements {
                self.put(set, address, seconds);
            }
            // The answer may have gone without waiting any longer.
            let _ = done.send(());
        }
    }

    fn put(&mut self, set: Arc<NftSet>, address: IpAddr, seconds: Secs) {
        let now = self.clock.secs();
        let end = now.saturating_add(seconds);
        let element = (set, address);
        if self.ends.get(&element).is_some_and(|before| *before >= end) {
            return;
        }
        let (set, _) = &element;
        match self.nft.put(set, address, seconds) {
            Ok(()) => {
                self.counters.filled.inc();
                self.remember(element, end, now);
            }
            Err(error) => {
                self.counters.failed.inc();
                if self.logged.is_none_or(|logged| now.saturating_sub(logged) >= LOG_EVERY) {
                    self.logged = Some(now);
                    tracing::error!(
                        table = set.table,
                        set = set.set,
                        "nftset: {address} cannot be put into the set: {error}. The set must exist, with flags \
                         timeout, without flags interval, and with the type of the address; ringdnsd needs CAP_NET_ADMIN"
                    );
                }
            }
        }
    }

    fn remember(&mut self, element: (Arc<NftSet>, IpAddr), end: Secs, now: Secs) {
        if self.ends.len() >= REMEMBERED {
            self.ends.retain(|_, end| *end > now);
        }
        // An element that is not remembered may get a shorter time with another answer.
        if self.ends.len() < REMEMBERED || self.ends.contains_key(&element) {
            self.ends.insert(element, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::nft::testing::{Kernel, in_namespace};
    use super::*;
    use ringdns_config::NftFamily;
    use std::time::{Duration, Instant};

    const FAMILY: NftFamily = NftFamily::Inet;

    fn config(suffix: &[u8], set4: &str, set6: Option<&str>) -> NftsetConfig {
        NftsetConfig {
            suffixes: vec![suffix.to_vec()],
            family: FAMILY,
            table: "fw".into(),
            set4: Some(set4.into()),
            set6: set6.map(Into::into),
            grace: 100,
        }
    }

    fn fill(sets: &NftSets, name: &[u8], addresses: &[&str], lifetime: Secs) -> bool {
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let done = sets.fill(name, &addresses, lifetime);
        done.map(|done| done.blocking_recv().unwrap()).is_some()
    }

    /// Sets of a namespace of its own have the addresses of their names and no others.
    #[test]
    fn the_kernel_has_what_was_filled() {
        if !in_namespace("firewall::sets::tests::the_kernel_has_what_was_filled") {
            return;
        }
        let mut kernel = Kernel::new();
        kernel.add_set("a4", 4, true);
        kernel.add_set("a6", 16, true);
        kernel.add_set("untimed", 4, false);
        let (ours, others, broken) = (b"\x04ours\0", b"\x06others\0", b"\x06broken\0");
        let configs =
            [config(ours, "a4", Some("a6")), config(others, "gone", None), config(broken, "untimed", None)];
        let sets = NftSets::new(&configs, Clock::start()).unwrap();
        assert!(sets.wants(b"\x03www\x04ours\0") && !sets.wants(b"\x04hers\0"));
        assert!(fill(&sets, b"\x03www\x04ours\0", &["192.0.2.1", "2001:db8::1", "192.0.2.2"], 300));
        assert!(!fill(&sets, b"\x04hers\0", &["192.0.2.3"], 300), "another name");
        assert_eq!(
            kernel.elements("a4"),
            [("192.0.2.1".parse().unwrap(), 400), ("192.0.2.2".parse().unwrap(), 400)]
        );
        assert_eq!(kernel.elements("a6"), [("2001:db8::1".parse().unwrap(), 400)]);
        // A later end takes the place of an earlier one, and not the other way round.
        assert!(fill(&sets, ours, &["192.0.2.1"], 3_000) && fill(&sets, ours, &["192.0.2.1"], 10));
        assert!(fill(&sets, ours, &["192.0.2.2"], 10));
        let ends: Vec<_> = kernel.elements("a4").into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(ends, [3_100, 400]);
        assert_eq!([&sets.counters.filled, &sets.counters.failed].map(|counter| counter.get()), [4, 0]);
        // Neither a set that is missing nor one without time-outs holds an answer up.
        assert!(fill(&sets, others, &["192.0.2.9"], 300) && fill(&sets, broken, &["192.0.2.9"], 300));
        assert!(!fill(&sets, others, &["2001:db8::9"], 300), "there is no set for IPv6 addresses");
        assert_eq!([&sets.counters.filled, &sets.counters.failed].map(|counter| counter.get()), [4, 2]);
        assert!(kernel.elements("untimed").is_empty());
        // What the firewall has thrown away comes back with the next answer.
        kernel.flush("a4");
        assert!(fill(&sets, ours, &["192.0.2.1"], 4_000));
        assert_eq!(kernel.elements("a4"), [("192.0.2.1".parse().unwrap(), 4_100)]);
        let begun = Instant::now();
        for n in 0..1_000u32 {
            let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            assert!(fill(&sets, ours, &[&address.to_string()], 300));
        }
        let each = begun.elapsed() / 1_000;
        println!("an address takes {each:?}");
        assert!(each < Duration::from_millis(20), "{each:?}");
        assert_eq!(kernel.elements("a4").len(), 1_001);
    }
}
