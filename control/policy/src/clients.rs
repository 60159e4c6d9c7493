//! Clients that a rule of a list is for.

use ringdns_dataplane::prefix::Prefix;
use std::fmt;

/// Clients that a rule applies to, as the modifier `$client` says: those in one of the prefixes, or all if
/// there is none, without those in an excepted prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientSet {
    /// Sorted, without duplicates.
    only: Box<[Prefix]>,
    /// Sorted, without duplicates.
    except: Box<[Prefix]>,
}

/// Clients that rules are looked up for. No rule tells these clients apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// Clients in no prefix that a rule names, and those whose address does not count.
    #[default]
    Elsewhere,
    /// Clients in this prefix, but in no longer one that a rule names.
    In(Prefix),
    /// All clients: each rule applies.
    Any,
}

impl ClientSet {
    /// Returns the clients in a prefix of `only`, or all if it is empty, without those in `except`.
    pub fn new(mut only: Vec<Prefix>, mut except: Vec<Prefix>) -> Self {
        for prefixes in [&mut only, &mut except] {
            prefixes.sort_unstable();
            prefixes.dedup();
        }
        ClientSet { only: only.into(), except: except.into() }
    }

    /// Whether these clients are in the set.
    pub fn has(&self, client: Client) -> bool {
        let is_in = |prefixes: &[Prefix]| match client {
            Client::In(client) => prefixes
                .iter()
                .any(|prefix| prefix.len() <= client.len() && prefix.contains(client.address())),
            Client::Elsewhere | Client::Any => false,
        };
        client == Client::Any || !is_in(&self.except) && (self.only.is_empty() || is_in(&self.only))
    }

    /// All prefixes that the set names.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        self.only.iter().chain(&self.except).copied()
    }
}

impl fmt::Display for ClientSet {
    /// Writes the set as a rule has it: `10.0.0.0/8|~10.0.0.5/32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only = self.only.iter().map(|prefix| ("", prefix));
        let all = only.chain(self.except.iter().map(|prefix| ("~", prefix)));
        for (at, (sign, prefix)) in all.enumerate() {
            write!(f, "{}{sign}{prefix}", if at == 0 { "" } else { "|" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_prefixes_but_for_the_excepted_ones() {
        let set = |only: &[&str], except: &[&str]| {
            let [only, except] =
                [only, except].map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect());
            ClientSet::new(only, except)
        };
        let is_in = |set: &ClientSet, client: &str| set.has(Client::In(client.parse().unwrap()));
        let some = set(&["192.168.0.0/24", "2001:db8::/32"], &["192.168.0.5"]);
        for (client, expected) in [
            ("192.168.0.0/24", true),
            ("192.168.0.7", true),
            ("192.168.0.5", false),
            ("192.168.0.0/16", false),
            ("192.168.1.7", false),
            ("2001:db8::5", true),
            ("2001:db9::5", false),
        ] {
            assert_eq!(is_in(&some, client), expected, "{client}");
        }
        let others = set(&[], &["192.168.0.5"]);
        assert_eq!([some.has(Client::Elsewhere), others.has(Client::Elsewhere)], [false, true]);
        assert!(some.has(Client::Any) && others.has(Client::Any));
        assert!(is_in(&others, "10.0.0.1") && !is_in(&others, "192.168.0.5"));
        assert_eq!(some.to_string(), "192.168.0.0/24|2001:db8::/32|~192.168.0.5/32");
        assert_eq!(set(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], &[]), set(&["10.0.0.1", "10.0.0.2"], &[]));
    }
}
