//! Output of `ethtool` as values.
//!
//! Debian 12's `ethtool` knows `--json` for the features alone, so the other queries are read from its text.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, process::Command};

/// Setting of the driver, and its largest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bounded {
    /// Value in force.
    pub now: u32,
    /// Largest value that the driver takes.
    pub most: u32,
}

/// Driver of the interface (`ethtool -i`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Name of the driver.
    pub name: String,
    /// Version of the driver: for most drivers, the kernel's version.
    pub version: String,
    /// Version of the NIC's firmware.
    pub firmware: Option<String>,
    /// Address on the bus.
    pub bus: Option<String>,
}

/// Queues, by kind (`ethtool -l`). A kind that the driver does not know is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Channels {
    /// Queues that receive and send.
    pub combined: Option<Bounded>,
    /// Queues that receive.
    pub rx: Option<Bounded>,
    /// Queues that send.
    pub tx: Option<Bounded>,
}

impl Channels {
    /// Number of queues that receive.
    pub fn receiving(&self) -> Option<u32> {
        let count = |kind: Option<Bounded>| kind.map_or(0, |kind| kind.now);
        Some(count(self.combined) + count(self.rx)).filter(|queues| *queues > 0)
    }
}

/// Descriptors of the NIC's rings (`ethtool -g`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rings {
    /// Descriptors of a receive queue.
    pub rx: Option<Bounded>,
    /// Descriptors of a transmit queue.
    pub tx: Option<Bounded>,
}

/// Distribution of received packets among queues (`ethtool -x`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rss {
    /// Hash function in force.
    pub function: Option<String>,
    /// Bytes of the hash key. The key itself is left out: anyone who knows it can aim traffic at
    /// one queue.
    pub key_bytes: usize,
    /// Whether the key is `6d:5a` repeated, by which both directions of a flow have the same hash.
    pub key_is_symmetric: bool,
    /// Number of indirection table entries of each queue.
    pub entries_by_queue: BTreeMap<u32, u32>,
}

/// Feature of the interface (`ethtool -k`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Whether it is on.
    pub active: bool,
    /// Whether the driver does not let the feature be changed.
    #[serde(default)]
    pub fixed: Option<bool>,
}

/// Runs `ethtool` with `arguments`, and returns its output, or `None` if the driver does not
/// support the request.
pub fn ask(arguments: &[&str]) -> Option<String> {
    let output = Command::new("ethtool").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads `ethtool -i`.
pub fn driver(text: &str) -> Driver {
    let value = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
        (!value.is_empty() && value != "N/A").then(|| value.to_owned())
    };
    Driver {
        name: value("driver").unwrap_or_else(|| "unknown".into()),
        version: value("version").unwrap_or_else(|| "unknown".into()),
        firmware: value("firmware-version"),
        bus: value("bus-info"),
    }
}

/// Reads `ethtool -l`.
pub fn channels(text: &str) -> Channels {
    Channels { combined: bounded(text, "Combined"), rx: bounded(text, "RX"), tx: bounded(text, "TX") }
}

/// Reads `ethtool -g`.
pub fn rings(text: &str) -> Rings {
    Rings { rx: bounded(text, "RX"), tx: bounded(text, "TX") }
}

/// Finds a value in the two parts of a text: maximums, and current settings.
fn bounded(text: &str, name: &str) -> Option<Bounded> {
    let (maximums, current) = text.split_once("Current hardware settings:")?;
    let value = |part: &str| {
        part.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    let now = value(current)?;
    Some(Bounded { now, most: value(maximums).unwrap_or(now) }).filter(|bounded| bounded.most > 0)
}

/// Reads `ethtool -x`.
pub fn rss(text: &str) -> Rss {
    let mut rss = Rss::default();
    let (table, rest) = text.split_once("RSS hash key:").unwrap_or((text, ""));
    for line in table.lines() {
        // "    8:      0     1     2     3"
        let Some((start, queues)) = line.split_once(':') else { continue };
        if start.trim().parse::<u32>().is_err() {
            continue;
        }
        for queue in queues.split_ascii_whitespace().filter_map(|queue| queue.parse().ok()) {
            *rss.entries_by_queue.entry(queue).or_default() += 1;
        }
    }
    let (key, functions) = rest.split_once("RSS hash function:").unwrap_or((rest, ""));
    let bytes: Option<Vec<u8>> =
        key.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let bytes = bytes.unwrap_or_default();
    rss.key_bytes = bytes.len();
    rss.key_is_symmetric =
        !bytes.is_empty() && bytes.iter().zip([0x6d, 0x5a].iter().cycle()).all(|(byte, of)| byte == of);
    let on = functions.lines().find_map(|line| line.trim().strip_suffix(": on"));
    rss.function = on.map(str::to_owned);
    rss
}

/// Reads `ethtool -n DEVICE rx-flow-hash udp4` as the letters that `ethtool -N` takes: `sdfn`.
/// `None` if the driver does not tell.
pub fn hash_fields(text: &str) -> Option<String> {
    const FIELDS: [(&str, char); 7] = [
        ("L2DA", 'm'),
        ("VLAN tag", 'v'),
        ("L3 proto", 't'),
        ("IP SA", 's'),
        ("IP DA", 'd'),
        ("L4 bytes 0 & 1", 'f'),
        ("L4 bytes 2 & 3", 'n'),
    ];
    text.contains("use these fields").then_some(())?;
    let letter =
        |line: &str| FIELDS.iter().find(|(field, _)| line.starts_with(field)).map(|(_, letter)| *letter);
    Some(text.lines().filter_map(|line| letter(line.trim())).collect())
}

/// Reads `ethtool --json -k`.
pub fn features(text: &str) -> BTreeMap<String, Feature> {
    let parsed: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).unwrap_or_default();
    let entries = parsed.into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name, serde_json::from_value(value).ok()?))).collect()
}

/// Reads from `ethtool -c` whether the driver adapts its interrupt rate, and its interrupt delay in
/// microseconds.
pub fn coalescing(text: &str) -> (Option<bool>, Option<u32>) {
    let after = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let adaptive = after("Adaptive RX:").and_then(|value| match value.split_ascii_whitespace().next() {
        Some("on") => Some(true),
        Some("off") => Some(false),
        _ => None,
    });
    (adaptive, after("rx-usecs:").and_then(|value| value.parse().ok()))
}

/// Reads `ethtool -S`. Counters of queues keep the driver's names.
pub fn counters(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_firmware_says_so_by_nothing() {
        let text = "driver: igb\nversion: 6.12.57\nfirmware-version: 1.63, 0x800009fa\nexpansion-rom-version: \n\
                    bus-info: 0000:03:00.0\nsupports-statistics: yes\n";
        let igb = driver(text);
        assert_eq!((igb.name.as_str(), igb.version.as_str()), ("igb", "6.12.57"));
        assert_eq!(
            (igb.firmware.as_deref(), igb.bus.as_deref()),
            (Some("1.63, 0x800009fa"), Some("0000:03:00.0"))
        );
        let veth = driver("driver: veth\nversion: 1.0\nfirmware-version: \nbus-info: \n");
        assert_eq!((veth.firmware, veth.bus), (None, None));
    }

    #[test]
    fn maximums_and_values_in_force_are_told_apart() {
        let text = "Channel parameters for eth1:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t63\n\
                    Current hardware settings:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n";
        let eth1 = channels(text);
        assert_eq!(eth1.combined, Some(Bounded { now: 8, most: 63 }));
        assert_eq!((eth1.rx, eth1.receiving()), (None, Some(8)));
        let text = "Ring parameters for eth1:\nPre-set maximums:\nRX:\t\t8160\nRX Mini:\tn/a\nTX:\t\t8160\n\
                    Current hardware settings:\nRX:\t\t2048\nRX Mini:\tn/a\nTX:\t\t1024\nTX Push:\toff\n";
        let of_eth1 = rings(text);
        assert_eq!(of_eth1.rx, Some(Bounded { now: 2048, most: 8160 }));
        assert_eq!(of_eth1.tx, Some(Bounded { now: 1024, most: 8160 }));
        assert_eq!(channels("netlink error: Operation not supported"), Channels::default());
    }

    #[test]
    fn the_indirection_table_is_counted_by_queue_and_the_key_is_not_kept() {
        let text = "RX flow hash indirection table for eth1 with 2 RX ring(s):\n    0:      0     1     0     1\n    \
                    4:      0     1     1     1\nRSS hash key:\n6d:5a:6d:5a\nRSS hash function:\n    toeplitz: on\n    xor: off\n";
        let eth1 = rss(text);
        assert_eq!(eth1.entries_by_queue, BTreeMap::from([(0, 3), (1, 5)]));
        assert_eq!((eth1.key_bytes, eth1.key_is_symmetric), (4, true));
        assert_eq!(eth1.function.as_deref(), Some("toeplitz"));
        let none =
            rss("RX flow hash indirection table for eth0 with 1 RX ring(s):\nOperation not supported\n\
                        RSS hash key:\nOperation not supported\nRSS hash function:\n    toeplitz: off\n");
        assert_eq!(none, Rss::default());
    }

    #[test]
    fn hash_fields_are_the_letters_that_set_them() {
        let head = "UDP over IPV4 flows use these fields for computing Hash flow key:\n";
        let both = format!(
            "{head}IP SA\nIP DA\nL4 bytes 0 & 1 [TCP/UDP src port]\nL4 bytes 2 & 3 [TCP/UDP dst port]\n\n"
        );
        assert_eq!(hash_fields(&both).as_deref(), Some("sdfn"));
        assert_eq!(hash_fields(&format!("{head}IP SA\nIP DA\n")).as_deref(), Some("sd"));
        assert_eq!(hash_fields(&format!("{head}None\n")).as_deref(), Some(""));
        assert_eq!(hash_fields("Cannot get RX network flow hashing options: Operation not supported"), None);
    }

    #[test]
    fn features_come_from_json() {
        let text = r#"[{"ifname":"eth1","rx-vlan-offload":{"active":true,"fixed":false,"requested":true},
                       "tx-checksumming":{"active":true,"fixed":null,"requested":null}}]"#;
        let eth1 = features(text);
        assert_eq!(eth1["rx-vlan-offload"], Feature { active: true, fixed: Some(false) });
        assert_eq!(eth1["tx-checksumming"], Feature { active: true, fixed: None });
        assert!(!eth1.contains_key("ifname"));
        assert!(features("no JSON").is_empty());
    }

    #[test]
    fn coalescing_is_read_where_the_driver_has_it() {
        assert_eq!(coalescing("Adaptive RX: off  TX: n/a\n\nrx-usecs: 3\n"), (Some(false), Some(3)));
        assert_eq!(coalescing("Adaptive RX: n/a  TX: n/a\nrx-usecs: n/a\n"), (None, None));
    }

    #[test]
    fn counters_are_named_as_the_driver_does() {
        let counted =
            counters("NIC statistics:\n     rx_missed_errors: 12\n     rx_queue_0_drops: 0\n     note: x\n");
        assert_eq!(
            counted,
            BTreeMap::from([("rx_missed_errors".into(), 12), ("rx_queue_0_drops".into(), 0)])
        );
    }
}
