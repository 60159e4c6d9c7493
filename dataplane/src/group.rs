//! Groups of clients, which names are decided by. Group 0 has the clients that are in no other.

use crate::{
    mac::MacAddress,
    prefix::Prefix,
    trie::{TooMany, Trie, TrieValue},
};
use std::net::IpAddr;

/// Number of a group of clients, less than [`GROUPS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(u8);

/// Most groups, with the default group: as many as [`GroupSet`] and the flags of an entry can name.
pub const GROUPS: usize = 32;

impl Group {
    /// Group of the clients that are in no other.
    pub const DEFAULT: Group = Group(0);

    /// Returns the group with a number; `None` if there is none.
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| usize::from(*number) < GROUPS).map(Group)
    }

    /// Returns the number.
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// Set of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupSet(u32);

impl GroupSet {
    /// All groups.
    pub const ALL: GroupSet = GroupSet(u32::MAX);
    /// No group.
    pub const NONE: GroupSet = GroupSet(0);

    /// Returns the set with one more group.
    pub fn with(self, group: Group) -> Self {
        GroupSet(self.0 | 1 << (group.0 % GROUPS as u8))
    }

    /// Returns the set with one group less.
    pub fn without(self, group: Group) -> Self {
        GroupSet(self.0 & !GroupSet::NONE.with(group).0)
    }

    /// Returns the groups that are in either set.
    pub fn or(self, other: Self) -> Self {
        GroupSet(self.0 | other.0)
    }

    /// Returns the groups that are in both sets.
    pub fn and(self, other: Self) -> Self {
        GroupSet(self.0 & other.0)
    }

    /// Whether no group is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the groups that are not in the set.
    pub fn others(self) -> Self {
        GroupSet(!self.0)
    }

    /// Returns the group of the set with the lowest number.
    pub fn first(self) -> Option<Group> {
        Group::new(self.0.trailing_zeros() as usize)
    }

    /// Whether a group is in the set.
    pub fn has(self, group: Group) -> bool {
        self.0 >> (group.0 % GROUPS as u8) & 1 != 0
    }

    /// Returns the set as bits, the default group's first.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Returns the set with these bits.
    pub fn from_bits(bits: u32) -> Self {
        GroupSet(bits)
    }
}

/// Groups of clients by address: the longest prefix decides. Where the MAC address of a client is known
/// and in a group, that decides.
#[derive(Clone, Debug)]
pub struct ClientGroups {
    /// Whether some client is in another group than the default one.
    are_used: bool,
    v4: Trie,
    v6: Trie,
    /// Sorted.
    macs: Box<[(MacAddress, Group)]>,
}

impl Default for ClientGroups {
    /// Returns groups of which all clients are in the default one.
    fn default() -> Self {
        let all = || Trie::of_one(0);
        ClientGroups { are_used: false, v4: all(), v6: all(), macs: Box::default() }
    }
}

impl ClientGroups {
    /// Returns the groups of clients in these prefixes.
    pub fn new(prefixes: &[(Prefix, Group)]) -> Result<Self, TooMany> {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_by_key(|(prefix, _)| prefix.len());
        let mut groups = ClientGroups { are_used: !prefixes.is_empty(), ..ClientGroups::default() };
        for (prefix, group) in prefixes {
            let trie = if prefix.address().is_ipv4() { &mut groups.v4 } else { &mut groups.v6 };
            trie.set(prefix, TrieValue::from(group.0))?;
        }
        Ok(groups)
    }

    /// Returns the groups with clients by MAC address.
    pub fn with_macs(self, mut macs: Vec<(MacAddress, Group)>) -> Self {
        macs.sort_unstable();
        ClientGroups { macs: macs.into(), ..self }
    }

    /// Returns the group of the client that sent a frame. `sender` returns its MAC address, if that is
    /// known.
    #[inline]
    pub fn of_sender(&self, client: IpAddr, sender: impl FnOnce() -> Option<MacAddress>) -> Group {
        if self.macs.is_empty() {
            return self.of(client);
        }
        self.by_mac(sender()).unwrap_or_else(|| self.of(client))
    }

    #[cold]
    fn by_mac(&self, sender: Option<MacAddress>) -> Option<Group> {
        let sender = sender?;
        let at = self.macs.binary_search_by_key(&sender, |(mac, _)| *mac).ok()?;
        self.macs.get(at).map(|(_, group)| *group)
    }

    /// Returns the group of a client of which only the address is known.
    #[inline]
    pub fn of(&self, client: IpAddr) -> Group {
        if self.are_used { self.look_up(client) } else { Group::DEFAULT }
    }

    fn look_up(&self, client: IpAddr) -> Group {
        let number = match client {
            IpAddr::V4(address) => self.v4.get(&address.octets()),
            IpAddr::V6(address) => self.v6.get(&address.octets()),
        };
        Group::new(usize::from(number)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let rules =
            [("192.168.20.0/24", 1), ("192.168.0.0/16", 2), ("192.168.20.7", 3), ("2001:db8::/32", 1)];
        let group = |number| Group::new(number).unwrap();
        let rules = rules.map(|(prefix, number)| (prefix.parse().unwrap(), group(number)));
        let groups = ClientGroups::new(&rules).unwrap();
        for (client, number) in [
            ("192.168.20.1", 1),
            ("192.168.20.7", 3),
            ("192.168.21.1", 2),
            ("192.169.0.1", 0),
            ("2001:db8::1", 1),
            ("2001:db9::1", 0),
        ] {
            assert_eq!(groups.of(client.parse().unwrap()), group(number), "{client}");
        }
        assert_eq!(Group::new(GROUPS), None);
    }

    #[test]
    fn a_mac_address_decides_before_the_prefix() {
        let group = |number| Group::new(number).unwrap();
        let mac = |text: &str| text.parse::<MacAddress>().ok();
        let groups = ClientGroups::new(&[("10.0.0.0/8".parse().unwrap(), group(1))]).unwrap();
        let of = |groups: &ClientGroups, client: &str, sender: &str| {
            groups.of_sender(client.parse().unwrap(), || mac(sender)).number()
        };
        assert_eq!(of(&groups, "10.0.0.1", "02:00:00:00:00:01"), 1);
        let macs = ["02:00:00:00:00:07", "02:00:00:00:00:01"].map(|text| mac(text).unwrap());
        let groups = groups.with_macs(vec![(macs[0], group(2)), (macs[1], group(3))]);
        for (client, sender, number) in [
            ("10.0.0.1", "02:00:00:00:00:01", 3),
            ("2001:db8::1", "02:00:00:00:00:07", 2),
            ("10.0.0.1", "02:00:00:00:00:02", 1),
            ("10.0.0.1", "", 1),
            ("11.0.0.1", "02:00:00:00:00:02", 0),
        ] {
            assert_eq!(of(&groups, client, sender), number, "{client} {sender}");
        }
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let [first, last] = [0, GROUPS - 1].map(|number| Group::new(number).unwrap());
        let set = GroupSet::NONE.with(last);
        assert!(set.has(last) && !set.has(first) && set.others().has(first) && !set.others().has(last));
        assert_eq!(GroupSet::from_bits(set.bits()), set);
        assert_eq!(GroupSet::NONE.others(), GroupSet::ALL);
        assert_eq!(
            (set.first(), set.with(first).first(), GroupSet::NONE.first()),
            (Some(last), Some(first), None)
        );
    }
}
