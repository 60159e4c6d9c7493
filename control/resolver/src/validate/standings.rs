//! Cache of zones' standings: the keys of signed zones, and which zones are unsigned.

use quick_cache::{DefaultHashBuilder, Weighter, sync::Cache};
use ringdns_dataplane::{
    clock::Secs,
    purge::{Generations, Purge},
};
use ringdns_dnssec::{Name, Standing};

/// Memory for all zones, in bytes.
const BYTES: u64 = 8 << 20;
/// Typical weight in bytes of a zone with two elliptic-curve keys: a guess for sizing the index.
const TYPICAL_BYTES: u64 = 512;
/// Longest time in seconds that a standing is kept, whatever the TTL.
const SECS_MAX: Secs = 300;

/// Known standings of zones.
pub struct Standings(Cache<Name, KnownZone, StandingWeight, DefaultHashBuilder>);

#[derive(Clone)]
struct KnownZone {
    standing: Standing,
    /// Generation of the cache in which the proof was found.
    generation: u64,
    expires: Secs,
}

impl Default for Standings {
    fn default() -> Self {
        let items = (BYTES / TYPICAL_BYTES) as usize;
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), Default::default());
        Standings(Cache::with(items, BYTES, StandingWeight, hasher, lifecycle))
    }
}

impl Standings {
    /// Returns the standing of a zone at `now`, if no purge since covers what proved it.
    pub fn get(&self, zone: &Name, generations: &Generations, now: Secs) -> Option<Standing> {
        let known = self.0.get(zone)?;
        let concerned = |purge: &Purge| purge.concerns_zone(zone.as_wire());
        let holds = now < known.expires && !generations.purged_since(known.generation, concerned);
        holds.then_some(known.standing)
    }

    /// Remembers a zone's standing for at most `secs` seconds.
    pub fn insert(&self, zone: &Name, standing: &Standing, generation: u64, now: Secs, secs: u32) {
        let expires = now.saturating_add(secs.min(SECS_MAX));
        self.0.insert(zone.clone(), KnownZone { standing: standing.clone(), generation, expires });
    }
}

/// Weighs zones by the memory that they take.
#[derive(Clone)]
struct StandingWeight;

impl Weighter<Name, KnownZone> for StandingWeight {
    fn weight(&self, zone: &Name, known: &KnownZone) -> u64 {
        let keys = match &known.standing {
            Standing::Secure(keys) => keys.bytes(),
            Standing::Insecure(_) | Standing::Bogus(_) => 0,
        };
        (size_of::<Name>() + size_of::<KnownZone>() + zone.as_wire().len() + keys) as u64
    }
}
