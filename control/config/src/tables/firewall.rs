//! `[names]` and `[[nftset]]`: addresses that names had, for firewalls.

use crate::{bounds::secs, bounds::within, error::Problem, table::table};
use ringdns_common::{names, units::TimeSpan};
use ringdns_dataplane::clock::Secs;

table! {
    /// Names that resolved to an address, for `ringctl policy names` and `GET /v1/names`. They are
    /// taken from answers of upstreams as these are filed, and kept while a client may use them.
    /// A change takes effect at a restart.
    "[names]" RawNames {
        /// Most pairs of an address and a name that are kept, of some 200 bytes each. If there are
        /// more, those that end first are forgotten. `0`: none are kept.
        entries: u32 = 0,
        /// Time that a pair is kept beyond the last moment at which its answer may be given.
        grace: TimeSpan = TimeSpan::secs(3_600),
    }
}

table! {
    /// Sets of nftables that are filled with the addresses of names, before the first client gets
    /// them. The sets are made by the firewall, with `flags timeout` and without `interval`. A change
    /// takes effect at a restart. docs/policy.md tells more.
    "[[nftset]]" RawNftset {
        /// Names, each with all names below it: `["corp.example"]`. Required.
        suffixes: Vec<String> = Vec::new(),
        /// Family and name of the table: `"inet filter"`. Required.
        table: Option<String> = None,
        /// Set for IPv4 addresses, of the type `ipv4_addr`. Absent: they are in none.
        set4: Option<String> = None,
        /// Set for IPv6 addresses, of the type `ipv6_addr`. Absent: they are in none.
        set6: Option<String> = None,
        /// Time that an address stays in the set beyond the last moment at which its answer may be
        /// given: one minute to a day.
        grace: TimeSpan = TimeSpan::secs(300),
    }
}

/// Names of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesConfig {
    /// Most pairs; zero: none are kept.
    pub entries: usize,
    /// Time beyond the last use of an answer.
    pub grace: Secs,
}

/// Family of a table of nftables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NftFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames of a bridge.
    Bridge,
    /// Frames of a network device.
    Netdev,
}

/// Sets for the addresses of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftsetConfig {
    /// Names in wire format, each with all names below it.
    pub suffixes: Vec<Vec<u8>>,
    /// Family of the table.
    pub family: NftFamily,
    /// Name of the table.
    pub table: String,
    /// Set for IPv4 addresses.
    pub set4: Option<String>,
    /// Set for IPv6 addresses.
    pub set6: Option<String>,
    /// Time beyond the last use of an answer.
    pub grace: Secs,
}

/// Longest name of a table or a set (Linux `NFT_NAME_MAXLEN`, without the last byte).
const NAME_MAX: usize = 255;

impl RawNames {
    /// Returns the checked values.
    pub fn check(self) -> Result<NamesConfig, Problem> {
        const MOST: u32 = 10_000_000;
        if self.entries > MOST {
            let reason = format!("{} pairs would take gigabytes", self.entries);
            return Err(Problem::new("names.entries", reason, format!("Give at most {MOST}")));
        }
        let limits = [TimeSpan::secs(0), TimeSpan::secs(7 * 86_400)];
        let grace = within("names.grace", self.grace, limits, "Give \"0s\" to \"7d\"")?;
        Ok(NamesConfig { entries: self.entries as usize, grace: secs(grace) })
    }
}

/// Returns the checked sets.
pub fn check(sets: Vec<RawNftset>) -> Result<Vec<NftsetConfig>, Problem> {
    sets.into_iter().enumerate().map(|(i, raw)| raw.check(&format!("nftset[{i}]"))).collect()
}

impl RawNftset {
    fn check(self, key: &str) -> Result<NftsetConfig, Problem> {
        if self.suffixes.is_empty() {
            return Err(Problem::new(key, "the set has no names", "Add suffixes = [\"corp.example\"]"));
        }
        let suffixes = self.suffixes.iter().enumerate().map(|(i, text)| {
            names::name(text).map_err(|error| {
                let remedy = "Write \"corp.example\", or \".\" for all names";
                Problem::new(format!("{key}.suffixes[{i}]"), error.to_string(), remedy)
            })
        });
        let suffixes = suffixes.collect::<Result<_, _>>()?;
        let table = self
            .table
            .ok_or_else(|| Problem::new(key, "the set has no table", "Add table = \"inet filter\""))?;
        let (family, table) = table_of(&format!("{key}.table"), &table)?;
        if self.set4.is_none() && self.set6.is_none() {
            let remedy = "Add set4 = \"allowed4\", or set6 for IPv6 addresses";
            return Err(Problem::new(key, "there is no set to fill", remedy));
        }
        for (name, set) in [("set4", &self.set4), ("set6", &self.set6)] {
            if let Some(set) = set.as_ref().filter(|set| !is_name(set)) {
                let reason = format!("{set:?} is no name of a set");
                return Err(Problem::new(format!("{key}.{name}"), reason, "Write \"allowed4\""));
            }
        }
        let limits = [TimeSpan::secs(60), TimeSpan::secs(86_400)];
        let grace = within(&format!("{key}.grace"), self.grace, limits, "Give \"1m\" to \"1d\"")?;
        Ok(NftsetConfig { suffixes, family, table, set4: self.set4, set6: self.set6, grace: secs(grace) })
    }
}

fn table_of(key: &str, text: &str) -> Result<(NftFamily, String), Problem> {
    let refused = |reason: String| {
        let remedy = "Write the family, inet, ip, ip6, bridge or netdev, and the table: \"inet filter\"";
        Problem::new(key, reason, remedy)
    };
    let (family, table) =
        text.split_once(' ').ok_or_else(|| refused(format!("{text:?} has no family and name")))?;
    let family = match family {
        "inet" => NftFamily::Inet,
        "ip" => NftFamily::Ip,
        "ip6" => NftFamily::Ip6,
        "bridge" => NftFamily::Bridge,
        "netdev" => NftFamily::Netdev,
        other => return Err(refused(format!("{other:?} is no family"))),
    };
    match is_name(table) {
        true => Ok((family, table.to_owned())),
        false => Err(refused(format!("{table:?} is no name of a table"))),
    }
}

/// Whether `nft` takes a text as the name of a table or a set.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/\\_.-".contains(&byte);
    text.len() <= NAME_MAX
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn sets_are_read() {
        let config = minimal_with(
            "[names]\nentries = 1000\ngrace = \"0s\"\n\
             [[nftset]]\nsuffixes = [\"Corp.example\", \".\"]\ntable = \"ip6 fw\"\nset6 = \"a6\"\ngrace = \"1m\"\n",
        );
        assert_eq!(config.names, NamesConfig { entries: 1000, grace: 0 });
        let set = NftsetConfig {
            suffixes: vec![b"\x04corp\x07example\0".to_vec(), vec![0]],
            family: NftFamily::Ip6,
            table: "fw".into(),
            set4: None,
            set6: Some("a6".into()),
            grace: 60,
        };
        assert_eq!(config.nftsets, [set]);
        let none = minimal_with("");
        assert_eq!((none.names.entries, none.nftsets), (0, Vec::new()));
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[names]\n"),
            &[
                ["entries = 4000000000", "6", "names.entries", "gigabytes", "10000000"],
                ["grace = \"30d\"", "6", "names.grace", "too long", "7d"],
            ],
        );
        let set = "table = \"inet filter\"\nset4 = \"a\"";
        let head = format!("{MINIMAL}[[nftset]]\nsuffixes = [\"a.example\"]\n");
        refused(
            &head,
            &[
                ["", "5", "nftset[0]", "no table", "inet filter"],
                ["table = \"filter\"\nset4 = \"a\"", "7", "nftset[0].table", "no family", "inet"],
                ["table = \"arp filter\"\nset4 = \"a\"", "7", "nftset[0].table", "arp", "inet"],
                ["table = \"inet a;b\"\nset4 = \"a\"", "7", "nftset[0].table", "no name", "inet filter"],
                ["table = \"inet filter\"", "5", "nftset[0]", "no set", "set4"],
                ["table = \"inet filter\"\nset4 = \"1 a\"", "8", "nftset[0].set4", "1 a", "allowed4"],
                [&format!("{set}\ngrace = \"1s\""), "9", "nftset[0].grace", "too short", "1m"],
            ],
        );
        refused(&format!("{MINIMAL}[[nftset]]\n{set}\n"), &[["", "5", "nftset[0]", "no names", "suffixes"]]);
    }
}
