//! The access list in the maps of the program.

use std::{collections::BTreeMap, io::ErrorKind};

use aya::maps::{
    Array, MapData, MapError,
    lpm_trie::{Key, LpmTrie},
};
use ringdns_abi::{AccessKey, AccessRule, AccessSide, HostAddress, MAX_ACCESS};
use ringdns_dataplane::prefix::Prefix;

/// Rules of an access list whose denied clients get no answer: the longest prefix decides, and
/// clients in none are denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules(BTreeMap<(HostAddress, u8), AccessRule>);

impl AccessRules {
    /// Returns the rules that allow the clients in `allow`, except those in a prefix of `deny` that
    /// is as long or longer.
    pub fn new(allow: &[Prefix], deny: &[Prefix]) -> Self {
        let rule = |rule| move |prefix: &Prefix| ((prefix.address().into(), prefix.len()), rule);
        // Of two rules for one prefix, the later stays.
        let allowed = allow.iter().map(rule(AccessRule::ALLOWED));
        AccessRules(allowed.chain(deny.iter().map(rule(AccessRule::DENIED))).collect())
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys on a side of the map, with their rules.
    fn on(&self, side: AccessSide) -> impl Iterator<Item = (Key<AccessKey>, AccessRule)> + '_ {
        let key =
            move |(address, len): &(HostAddress, u8)| Key::new(AccessKey::key_bits(*len), side.key(*address));
        self.0.iter().map(move |(prefix, rule)| (key(prefix), *rule))
    }
}

/// Maps with the access list.
pub(super) struct AccessMaps {
    rules: LpmTrie<MapData, AccessKey, AccessRule>,
    side: Array<MapData, AccessSide>,
    /// Side that was filled last, and the number of its rules if it is in effect.
    last: AccessSide,
    in_effect: Option<usize>,
    /// Rules on each side of the map, that of `last` first. A side is cleared before it is filled,
    /// long after the last packet that was decided by it.
    filled: [AccessRules; 2],
    /// Number of rules of the last list, if it does not fit.
    too_many: Option<usize>,
}

impl AccessMaps {
    pub(super) fn new(
        rules: LpmTrie<MapData, AccessKey, AccessRule>,
        side: Array<MapData, AccessSide>,
    ) -> Self {
        let (last, filled) = (AccessSide::TWO, Default::default());
        AccessMaps { rules, side, last, in_effect: None, filled, too_many: None }
    }

    /// Puts a list in the place of the last one at once; `None`, and after an error: workers decide
    /// about all clients.
    pub(super) fn set(&mut self, rules: Option<AccessRules>) -> Result<(), MapError> {
        self.too_many = rules.as_ref().map(AccessRules::len).filter(|len| *len > MAX_ACCESS as usize);
        let Some(rules) = rules.filter(|_| self.too_many.is_none()) else { return self.put_out_of_effect() };
        if self.in_effect.is_some() && self.filled[0] == rules {
            return Ok(());
        }
        let filled = self.fill(rules);
        if filled.is_err() {
            self.put_out_of_effect()?;
        }
        filled
    }

    /// Fills the side that is not in effect, and puts it into effect.
    fn fill(&mut self, rules: AccessRules) -> Result<(), MapError> {
        let side = self.last.other();
        // After an error, some of these keys are not there.
        for (key, _) in self.filled[1].on(side) {
            match self.rules.remove(&key) {
                // The key is not there.
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.filled[1] = rules;
        for (key, rule) in self.filled[1].on(side) {
            self.rules.insert(&key, rule, 0)?;
        }
        self.side.set(0, side, 0)?;
        self.filled.swap(0, 1);
        (self.last, self.in_effect) = (side, Some(self.filled[0].len()));
        Ok(())
    }

    fn put_out_of_effect(&mut self) -> Result<(), MapError> {
        self.side.set(0, AccessSide::NONE, 0)?;
        self.in_effect = None;
        Ok(())
    }

    /// Returns the number of rules that the program decides by; `None`: it does not decide.
    pub(super) fn in_effect(&self) -> Option<usize> {
        self.in_effect
    }

    /// Returns a notice if workers have to decide.
    pub(super) fn notice(&self) -> Option<String> {
        self.too_many.map(|count| {
            format!(
                "the access list has {count} prefixes, more than the {MAX_ACCESS} that the XDP program holds: workers drop \
                 what it denies, which is slower. Join neighbouring prefixes"
            )
        })
    }
}
