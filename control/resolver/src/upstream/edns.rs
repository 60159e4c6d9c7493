//! Memory of what an upstream answers only without EDNS (RFC 6891 section 6.2.2).
//!
//! A forwarder passes on the trouble of one zone's servers. So the trouble is remembered by name, and
//! believed of the upstream itself only if it answers nothing with EDNS: DNSSEC goes with EDNS.

use parking_lot::Mutex;
use ringdns_dataplane::clock::Nanos;
use ringdns_dnssec::Name;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// Time for which a name is asked without EDNS.
const NAME_PLAIN: Duration = Duration::from_secs(900);
/// Time for which an upstream is asked without EDNS. Then a query tries it again.
const UPSTREAM_PLAIN: Duration = Duration::from_secs(60);
/// Number of domains that an upstream must answer only without EDNS, and none with it, before all
/// names are asked without.
const DOMAINS_MIN: usize = 3;
/// Most names remembered. The others cost a query each time.
const NAMES_MAX: usize = 1024;

/// Memory of one upstream.
#[derive(Default)]
pub struct EdnsMemory {
    /// Whether anything is remembered: hardly any upstream has trouble, and none should cost a lock.
    used: AtomicBool,
    trouble: Mutex<EdnsTrouble>,
}

#[derive(Default)]
struct EdnsTrouble {
    /// Names that are asked without EDNS, and until when.
    names: HashMap<Box<[u8]>, Nanos>,
    /// Domains of two labels that had trouble since the last answer with EDNS, at most
    /// `DOMAINS_MIN`.
    domains: Vec<Name>,
    /// Time until which no name is asked with EDNS.
    plain_until: Nanos,
}

impl EdnsMemory {
    /// Whether a name is asked with EDNS at `now`.
    pub fn allows(&self, name: &[u8], now: Nanos) -> bool {
        if !self.used.load(Relaxed) {
            return true;
        }
        let trouble = self.trouble.lock();
        trouble.plain_until <= now && trouble.names.get(name).is_none_or(|until| *until <= now)
    }

    /// Notes an answer to a query with EDNS.
    pub fn works(&self) {
        if self.used.load(Relaxed) {
            let mut trouble = self.trouble.lock();
            trouble.domains.clear();
            trouble.plain_until = 0;
        }
    }

    /// Notes that the upstream answered a query for a name without EDNS that it did not understand
    /// with EDNS. Returns whether it is now asked without EDNS for all names.
    pub fn chokes(&self, name: &[u8], now: Nanos) -> bool {
        let later = |time: Duration| now.saturating_add(time.as_nanos() as Nanos);
        let mut trouble = self.trouble.lock();
        self.used.store(true, Relaxed);
        if trouble.names.len() >= NAMES_MAX {
            trouble.names.retain(|_, until| *until > now);
        }
        if trouble.names.len() < NAMES_MAX {
            trouble.names.insert(name.into(), later(NAME_PLAIN));
        }
        let domain = Name::from_wire(name).map(|name| name.suffix(2));
        if let Some(domain) = domain.filter(|domain| !trouble.domains.contains(domain))
            && trouble.domains.len() < DOMAINS_MIN
        {
            trouble.domains.push(domain);
        }
        let all = trouble.domains.len() == DOMAINS_MIN;
        if all {
            trouble.plain_until = later(UPSTREAM_PLAIN);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names::name;

    const MINUTE: Nanos = 60_000_000_000;

    #[test]
    fn trouble_is_remembered_by_name_for_a_quarter_of_an_hour() {
        let (memory, bad) = (EdnsMemory::default(), name("a.example").unwrap());
        assert!(memory.allows(&bad, 0) && !memory.chokes(&bad, 5));
        assert!(!memory.allows(&bad, 15 * MINUTE + 4) && memory.allows(&bad, 15 * MINUTE + 5));
        assert!(memory.allows(&name("b.example").unwrap(), 5));
        memory.works();
        assert!(!memory.allows(&bad, 5), "another name that works says nothing about this one");
    }

    #[test]
    fn an_upstream_is_believed_to_lack_edns_only_if_nothing_works() {
        let memory = EdnsMemory::default();
        let chokes = |text: &str, now| memory.chokes(&name(text).unwrap(), now);
        let other = name("other.example").unwrap();
        // One domain with many names.
        assert!((0..9).all(|i| !chokes(&format!("{i}.a.example"), 0)) && memory.allows(&other, 0));
        assert!(!chokes("b.example", 0));
        memory.works();
        assert!(!chokes("c.example", 0) && !chokes("d.example", 0) && memory.allows(&other, 0));
        assert!(chokes("e.example", 0) && !memory.allows(&other, MINUTE - 1));
        // It is tried again, and without success believed at once.
        assert!(memory.allows(&other, MINUTE) && chokes("f.example", MINUTE));
        assert!(!memory.allows(&other, 2 * MINUTE - 1));
        memory.works();
        assert!(memory.allows(&other, 2 * MINUTE - 1));
    }

    #[test]
    fn the_memory_is_bounded() {
        let memory = EdnsMemory::default();
        (0..2 * NAMES_MAX).for_each(|i| {
            memory.chokes(&name(&format!("{i}.example")).unwrap(), 0);
        });
        assert_eq!(memory.trouble.lock().names.len(), NAMES_MAX);
        memory.chokes(&name("late.example").unwrap(), 15 * MINUTE);
        assert_eq!(memory.trouble.lock().names.len(), 1);
    }
}
