//! Trust points, whose anchors follow the DNSKEY RRset of their zone (RFC 5011).
//!
//! ```text
//!  (Start) ─ appears ─► Pending ─ 30 days ─► Valid ◄─ leaves, returns ─► Missing
//!     ▲                    │                   │                            │
//!     └────── leaves ──────┘                   └──► Revoked ─ 30 days ─► Removed
//! ```
//!
//! A key in the state Start is not in the list. A key that its owner has revoked while it was
//! pending is not forgotten but revoked, so that it cannot begin again.

use crate::{
    anchor::{Anchors, TrustAnchor},
    budget::Budget,
    crypto, ede,
    message::{Response, RrSet, Section},
    name::Name,
    rdata::rtype,
    records::Dnskey,
    signature::{self, Keys, Signed},
    walk::ttl_of,
};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Shortest time in seconds from the appearance of a key until it is trusted (RFC 5011 section
/// 2.4.1).
const ADD_HOLD_DOWN: u64 = 30 * DAY;
/// Time in seconds from the last sight of a revoked key until it is removed (RFC 5011 section
/// 2.4.2).
const REMOVE_HOLD_DOWN: u64 = 30 * DAY;
/// Most keys of a zone that are not removed; further new keys are ignored. RFC 5011 section 2.4.3
/// requires five.
const KEYS_MAX: usize = 16;
/// Most removed keys of a zone. The oldest are forgotten.
const REMOVED_MAX: usize = 64;

/// State of a key (RFC 5011 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// New, and not trusted yet (AddPend).
    Pending {
        /// Unix time from which an RRset with the key makes it trusted.
        until: u64,
        /// Tags of the anchors that had signed the first RRset with the key.
        by: Vec<u16>,
    },
    /// Trusted.
    Valid,
    /// Trusted, but not in the last RRset.
    Missing,
    /// Revoked by its owner.
    Revoked,
    /// Revoked, and gone from the zone.
    Removed,
}

impl KeyState {
    /// Whether the key is a trust anchor.
    pub fn is_trusted(&self) -> bool {
        matches!(self, KeyState::Valid | KeyState::Missing)
    }

    /// Whether the key was revoked.
    fn is_past(&self) -> bool {
        matches!(self, KeyState::Revoked | KeyState::Removed)
    }
}

/// Key of a trust point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedKey {
    /// Key without its REVOKE bit; a digest until the key is seen.
    pub anchor: TrustAnchor,
    /// State of the key.
    pub state: KeyState,
    /// Unix time at which the state began; of a revoked key, the time of the last RRset with it.
    pub since: u64,
}

/// Event of a key (RFC 5011 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// The key is new (NewKey). It may be trusted from this Unix time on.
    Appeared(u64),
    /// The pending key has left the zone (KeyRem), or all anchors that had signed its first RRset
    /// were revoked (section 2.2): it is not trusted.
    Withdrawn,
    /// The hold-down is over, and the key is a trust anchor (AddTime).
    Trusted,
    /// The trust anchor is no longer in the zone (KeyRem). It stays trusted.
    Left,
    /// The trust anchor is in the zone again (KeyPres).
    Returned,
    /// The owner has revoked the key (RevBit).
    Revoked,
    /// The revoked key has left the zone for good (RemTime).
    Removed,
    /// The key is new and ignored, because the zone has too many keys.
    Ignored,
}

/// Event, and the key's tag without its REVOKE bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Tag of the key.
    pub tag: u16,
    /// Event of the key.
    pub event: KeyEvent,
}

/// Times of a verified DNSKEY RRset, from which the time of the next query follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTimes {
    /// Original TTL of the RRset in seconds.
    pub original_ttl: u32,
    /// Seconds from the receipt of the RRset until its first signature expires.
    pub left: u32,
    /// Seconds for which the RRset may have been in caches.
    age: u32,
}

impl RefreshTimes {
    /// Returns the seconds until the next query after one that succeeded (RFC 5011 section 2.3).
    pub fn interval(self) -> u64 {
        (15 * DAY).min(self.shortest() / 2).max(HOUR)
    }

    /// Returns the seconds until the next query after one that failed.
    pub fn retry(self) -> u64 {
        DAY.min(self.shortest() / 10).max(HOUR)
    }

    fn shortest(self) -> u64 {
        self.original_ttl.min(self.left).into()
    }
}

/// Result of the observation of an RRset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Events, of which an RRset that no anchor has signed brings revocations only.
    pub changes: Vec<KeyChange>,
    /// Times of the RRset, or the extended error with the reason why no anchor has signed it.
    pub verified: Result<RefreshTimes, u16>,
}

/// Zone whose trust anchors are managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPoint {
    zone: Name,
    keys: Vec<ManagedKey>,
}

/// Key of an RRset.
struct KeySeen {
    key: Dnskey,
    /// Key without its REVOKE bit.
    plain: Dnskey,
    /// Tag of the key without its REVOKE bit.
    tag: u16,
}

/// DNSKEY RRset, and the means to verify it.
struct KeySet<'a> {
    zone: &'a Name,
    response: &'a Response,
    set: &'a RrSet,
    now: u32,
    budget: Budget,
}

impl KeySet<'_> {
    /// Returns the keys that may sign a zone and whose signatures can be verified.
    fn keys(&self) -> Vec<KeySeen> {
        let keys = self.response.rdata_of(self.set).filter_map(Dnskey::parse);
        let usable = keys.filter(|key| key.is_for_zones() && crypto::supports_algorithm(key.algorithm()));
        let seen = usable.map(|key| {
            let plain = key.before_revocation();
            KeySeen { tag: plain.tag(), plain, key }
        });
        seen.collect()
    }

    /// Returns the signature of the set by one of its keys.
    fn signed_by(&mut self, key: &Dnskey) -> Option<Signed> {
        let keys = Keys::new(self.zone.clone(), [key.clone()]);
        let verified = signature::verify(self.response, self.set, &keys, self.now, &mut self.budget);
        verified.ok().and_then(Result::ok)
    }
}

impl TrustPoint {
    /// Returns the trust point of a zone with its initial anchors.
    pub fn new(zone: Name, anchors: &[TrustAnchor], now: u64) -> Self {
        let valid =
            |anchor: &TrustAnchor| ManagedKey { anchor: anchor.clone(), state: KeyState::Valid, since: now };
        TrustPoint { zone, keys: anchors.iter().map(valid).collect() }
    }

    /// Returns the trust point of a zone whose keys are known from an earlier time.
    pub fn restore(zone: Name, keys: Vec<ManagedKey>) -> Self {
        TrustPoint { zone, keys }
    }

    /// Returns the zone.
    pub fn zone(&self) -> &Name {
        &self.zone
    }

    /// Returns the keys.
    pub fn keys(&self) -> &[ManagedKey] {
        &self.keys
    }

    /// Whether all anchors were revoked: the zone counts as if it never had any (RFC 5011 section
    /// 5).
    pub fn is_deleted(&self) -> bool {
        !self.keys.iter().any(|known| known.state.is_trusted())
    }

    /// Adds the trusted keys to `anchors`.
    pub fn add_to(&self, anchors: &mut Anchors) {
        let trusted = self.keys.iter().filter(|known| known.state.is_trusted());
        trusted.for_each(|known| anchors.add(&self.zone, known.anchor.clone()));
    }

    /// Takes over the keys in a response to a question for the zone's DNSKEY records, received at
    /// the Unix time `now`.
    pub fn observe(&mut self, response: &Response, now: u64) -> Observed {
        let Some(set) = response.set(Section::Answer, &self.zone, rtype::DNSKEY) else {
            return Observed { changes: Vec::new(), verified: Err(ede::DNSKEY_MISSING) };
        };
        let zone = self.zone.clone();
        let mut set = KeySet { zone: &zone, response, set, now: now as u32, budget: Budget::default() };
        let seen = set.keys();
        let mut changes = Vec::new();
        self.identify(&seen);
        self.revoke(&seen, &mut set, now, &mut changes);
        let verified = self.verify(&seen, &mut set).map(|(by, times)| {
            self.advance(&seen, now, times.age, &mut changes);
            self.welcome(&seen, &by, now, times, &mut changes);
            times
        });
        Observed { changes, verified }
    }

    /// Replaces digests by the keys that they are of.
    fn identify(&mut self, seen: &[KeySeen]) {
        for KeySeen { plain, tag, .. } in seen {
            let mut known = self.keys.iter_mut().filter(|known| known.anchor.is_of(&self.zone, *tag, plain));
            let Some(first) = known.next() else { continue };
            first.anchor = TrustAnchor::Key(plain.clone());
            // Digests of the key by other algorithms are no longer needed.
            let is_other = |known: &ManagedKey| match &known.anchor {
                TrustAnchor::Ds(ds) => !ds.is_of(&self.zone, *tag, plain),
                TrustAnchor::Key(_) => true,
            };
            self.keys.retain(is_other);
        }
    }

    /// Revokes the known keys that say so in an RRset that they have signed themselves (RFC 5011
    /// section 2.1).
    fn revoke(&mut self, seen: &[KeySeen], set: &mut KeySet<'_>, now: u64, changes: &mut Vec<KeyChange>) {
        for KeySeen { key, plain, tag } in seen.iter().filter(|seen| seen.key.is_revoked()) {
            let mut known = self.keys.iter_mut().filter(|known| !known.state.is_past());
            if let Some(known) = known.find(|known| known.anchor.is_of(&self.zone, *tag, plain))
                && set.signed_by(key).is_some()
            {
                (known.state, known.since) = (KeyState::Revoked, now);
                changes.push(KeyChange { tag: *tag, event: KeyEvent::Revoked });
            }
        }
    }

    /// Returns the tags of the anchors that have signed the set, and its times.
    fn verify(&self, seen: &[KeySeen], set: &mut KeySet<'_>) -> Result<(Vec<u16>, RefreshTimes), u16> {
        let (mut by, mut times, mut why) = (Vec::new(), None::<RefreshTimes>, ede::DNSKEY_MISSING);
        for KeySeen { key, tag, .. } in seen {
            let mut trusted = self.keys.iter().filter(|known| known.state.is_trusted());
            if !trusted.any(|known| known.anchor.is_of(&self.zone, *tag, key)) {
                continue;
            }
            let Some(Signed { original_ttl, left, .. }) = set.signed_by(key) else {
                why = signature::fault(set.response, set.set, set.now).unwrap_or(ede::BOGUS);
                continue;
            };
            by.push(*tag);
            let before = times.unwrap_or(RefreshTimes { original_ttl: 0, left, age: 0 });
            let (original_ttl, left) = (before.original_ttl.max(original_ttl), before.left.min(left));
            let age = original_ttl.saturating_sub(ttl_of(set.response, set.set));
            times = Some(RefreshTimes { original_ttl, left, age });
        }
        times.map(|times| (by, times)).ok_or(why)
    }

    /// Advances the known keys by an RRset that an anchor has signed, and that has been in caches for
    /// `age` seconds at most.
    fn advance(&mut self, seen: &[KeySeen], now: u64, age: u32, changes: &mut Vec<KeyChange>) {
        let trusted = self.keys.iter().filter(|known| known.state.is_trusted());
        let trusted: Vec<u16> = trusted.map(|known| known.anchor.key_tag()).collect();
        self.keys.retain_mut(|known| {
            let tag = known.anchor.key_tag();
            let same = seen.iter().filter(|seen| known.anchor.is_of(&self.zone, seen.tag, &seen.plain));
            let (is_seen, is_plain) =
                same.fold((false, false), |(_, is_plain), seen| (true, is_plain || !seen.key.is_revoked()));
            let (state, event) = match &known.state {
                KeyState::Pending { by, .. } if !is_plain || !by.iter().any(|tag| trusted.contains(tag)) => {
                    changes.push(KeyChange { tag, event: KeyEvent::Withdrawn });
                    return false;
                }
                // The RRset was in the zone after the hold-down (RFC 5011 section 2.2).
                KeyState::Pending { until, .. } if now >= *until + u64::from(age) => {
                    (KeyState::Valid, KeyEvent::Trusted)
                }
                KeyState::Valid if !is_plain => (KeyState::Missing, KeyEvent::Left),
                KeyState::Missing if is_plain => (KeyState::Valid, KeyEvent::Returned),
                KeyState::Revoked if is_seen => {
                    known.since = now;
                    return true;
                }
                KeyState::Revoked if now >= known.since + REMOVE_HOLD_DOWN => {
                    (KeyState::Removed, KeyEvent::Removed)
                }
                _ => return true,
            };
            (known.state, known.since) = (state, now);
            changes.push(KeyChange { tag, event });
            true
        });
        let removed = |known: &ManagedKey| known.state == KeyState::Removed;
        let mut surplus = self.keys.iter().filter(|known| removed(known)).count().saturating_sub(REMOVED_MAX);
        self.keys.retain(|known| {
            let goes = surplus > 0 && removed(known);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Adds the new keys of an RRset that the anchors `by` have signed.
    fn welcome(
        &mut self,
        seen: &[KeySeen],
        by: &[u16],
        now: u64,
        times: RefreshTimes,
        changes: &mut Vec<KeyChange>,
    ) {
        let until = now + ADD_HOLD_DOWN.max(times.original_ttl.into());
        for KeySeen { key, tag, .. } in seen {
            let is_known = |known: &ManagedKey| known.anchor.is_of(&self.zone, *tag, key);
            if key.is_revoked() || !key.is_entry_point() || self.keys.iter().any(is_known) {
                continue;
            }
            let counted = self.keys.iter().filter(|known| known.state != KeyState::Removed);
            let event = if counted.count() < KEYS_MAX {
                let state = KeyState::Pending { until, by: by.to_vec() };
                self.keys.push(ManagedKey { anchor: TrustAnchor::Key(key.clone()), state, since: now });
                KeyEvent::Appeared(until)
            } else {
                KeyEvent::Ignored
            };
            changes.push(KeyChange { tag: *tag, event });
        }
    }
}

#[cfg(test)]
mod tests;
