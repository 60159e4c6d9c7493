//! Rules about prefixes of addresses: of records in answers, or of clients.

use crate::rule::Effect;
use ringdns_dataplane::prefix::Prefix;
use std::{cmp::Ordering, collections::HashMap, net::IpAddr};

/// Rules about prefixes of addresses, sorted. A look-up costs a binary search for each length that
/// prefixes have, until one is found.
#[derive(Debug, Default)]
pub struct AddressRules {
    entries: Box<[Entry]>,
    /// Effects of rules, sorted.
    effects: Box<[Effect]>,
    /// Lengths of prefixes of IPv4, and of IPv6, the longest first.
    lengths: [Box<[u8]>; 2],
}

/// Rule about a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    prefix: Prefix,
    /// Number of its effect.
    effect: u32,
}

impl AddressRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the rules with their prefixes. Rules about the same prefix are together, in an order
    /// that depends on nothing but the rules.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix, &Effect)> {
        self.entries.iter().filter_map(|entry| Some((entry.prefix, self.effect(entry)?)))
    }

    /// Returns the longest prefix with a rule that an address is in, of those that are not longer than
    /// `most`.
    pub fn longest(&self, address: IpAddr, most: u8) -> Option<Prefix> {
        let [v4, v6] = &self.lengths;
        let lengths = if address.is_ipv4() { v4 } else { v6 };
        let prefixes = lengths.iter().filter(|len| **len <= most).map(|len| Prefix::around(address, *len));
        prefixes.into_iter().find(|prefix| !self.entries_of(*prefix).is_empty())
    }

    /// Returns the prefix that decides about several addresses: the longest one, and of several the
    /// one with the lowest address. A prefix of IPv4 counts as 96 bits longer (draft-vixie-dnsop-dns-rpz
    /// sections 5.5 and 5.6).
    pub fn deciding(&self, addresses: &[IpAddr]) -> Option<Prefix> {
        let found = addresses.iter().filter_map(|address| self.longest(*address, u8::MAX));
        let bits = |prefix: &Prefix| prefix.len() + if prefix.address().is_ipv4() { 96 } else { 0 };
        found.min_by(|a, b| bits(b).cmp(&bits(a)).then(a.address().cmp(&b.address())))
    }

    /// Returns the effects of the rules about a prefix.
    pub fn of(&self, prefix: Prefix) -> impl Iterator<Item = &Effect> {
        self.entries_of(prefix).iter().filter_map(|entry| self.effect(entry))
    }

    /// Bytes that the rules have allocated.
    pub fn bytes(&self) -> usize {
        let lengths: usize = self.lengths.iter().map(|lengths| lengths.len()).sum();
        size_of_val(&*self.entries) + size_of_val(&*self.effects) + lengths
    }

    fn effect(&self, entry: &Entry) -> Option<&Effect> {
        self.effects.get(entry.effect as usize)
    }

    fn entries_of(&self, prefix: Prefix) -> &[Entry] {
        let before = self.entries.partition_point(|entry| order(&entry.prefix, &prefix).is_lt());
        let from = self.entries.get(before..).unwrap_or_default();
        let len = from.iter().take_while(|entry| entry.prefix == prefix).count();
        from.get(..len).unwrap_or_default()
    }
}

/// Order of prefixes: by family, then by length, then by address.
pub(super) fn order(one: &Prefix, other: &Prefix) -> Ordering {
    let key = |prefix: &Prefix| (prefix.address().is_ipv6(), prefix.len(), prefix.address());
    key(one).cmp(&key(other))
}

/// Rules on their way into [`AddressRules`].
#[derive(Debug, Default)]
pub(super) struct AddressRulesBuilder {
    entries: Vec<Entry>,
    effects: HashMap<Effect, u32>,
}

impl AddressRulesBuilder {
    /// Adds a rule. Returns `None` if there are too many.
    pub fn push(&mut self, prefix: Prefix, effect: &Effect) -> Option<()> {
        let known = self.effects.get(effect).copied();
        let effect = match known {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.effects.len()).ok()?;
                self.effects.insert(effect.clone(), number);
                number
            }
        };
        self.entries.push(Entry { prefix, effect });
        Some(())
    }

    /// Returns the rules, and the number of duplicates.
    pub fn finish(self) -> (AddressRules, usize) {
        let mut effects: Vec<(Effect, u32)> = self.effects.into_iter().collect();
        effects.sort_unstable();
        let mut numbers = vec![0; effects.len()];
        for (number, (_, before)) in (0..).zip(&effects) {
            if let Some(place) = numbers.get_mut(*before as usize) {
                *place = number;
            }
        }
        let mut entries = self.entries;
        for entry in &mut entries {
            entry.effect = numbers.get(entry.effect as usize).copied().unwrap_or_default();
        }
        entries.sort_unstable_by(|a, b| order(&a.prefix, &b.prefix).then(a.effect.cmp(&b.effect)));
        let before = entries.len();
        entries.dedup();
        let duplicates = before - entries.len();
        let lengths = [true, false].map(|is_ipv4| {
            let of_family = entries.iter().filter(|entry| entry.prefix.address().is_ipv4() == is_ipv4);
            let mut lengths: Vec<u8> = of_family.map(|entry| entry.prefix.len()).collect();
            lengths.dedup();
            lengths.reverse();
            lengths.into()
        });
        let effects = effects.into_iter().map(|(effect, _)| effect).collect();
        (AddressRules { entries: entries.into(), effects, lengths }, duplicates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::RuleAnswer;

    fn rules(rules: &[(&str, Effect)]) -> (AddressRules, usize) {
        let mut builder = AddressRulesBuilder::default();
        for (prefix, effect) in rules {
            builder.push(prefix.parse().unwrap(), effect).unwrap();
        }
        builder.finish()
    }

    const NO_DATA: Effect = Effect::Answer(RuleAnswer::NoData);

    #[test]
    fn the_longest_prefix_of_all_addresses_decides() {
        let (rules, duplicates) = rules(&[
            ("10.0.0.0/8", Effect::Block),
            ("10.1.0.0/16", Effect::Allow),
            ("10.1.0.0/16", NO_DATA),
            ("10.1.0.0/16", NO_DATA),
            ("192.0.2.1", Effect::Block),
            ("192.0.2.9", Effect::Block),
            ("2001:db8::/32", Effect::Block),
            ("::/0", Effect::Allow),
        ]);
        assert_eq!((rules.len(), duplicates), (7, 1));
        for (addresses, decides) in [
            (&["10.2.0.1"][..], Some("10.0.0.0/8")),
            (&["10.1.0.1"], Some("10.1.0.0/16")),
            (&["10.2.0.1", "10.1.0.1"], Some("10.1.0.0/16")),
            (&["192.0.2.9", "10.1.0.1", "192.0.2.1"], Some("192.0.2.1/32")),
            (&["192.0.2.2", "198.51.100.1"], None),
            (&["2001:db8::1"], Some("2001:db8::/32")),
            (&["2001:db8::1", "10.2.0.1"], Some("10.0.0.0/8")),
            (&["::1"], Some("::/0")),
            (&["::ffff:192.0.2.1"], Some("::/0")),
            (&[], None),
        ] {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let found = rules.deciding(&addresses).map(|prefix| prefix.to_string());
            assert_eq!(found.as_deref(), decides, "{addresses:?}");
        }
        let of: Vec<&Effect> = rules.of("10.1.0.0/16".parse().unwrap()).collect();
        assert_eq!(of, [&Effect::Allow, &NO_DATA]);
        let up_to = |most| rules.longest("10.1.0.1".parse().unwrap(), most).map(|prefix| prefix.len());
        assert_eq!([up_to(32), up_to(15), up_to(7)], [Some(16), Some(8), None]);
    }

    #[test]
    fn the_order_of_rules_does_not_matter() {
        let all = [("10.0.0.0/8", Effect::Block), ("192.0.2.1", NO_DATA), ("::1", Effect::Allow)];
        let (one, _) = rules(&all);
        let mut turned = all.to_vec();
        turned.reverse();
        let (other, _) = rules(&turned);
        assert!(one.iter().eq(other.iter()) && one.iter().count() == 3);
    }
}
