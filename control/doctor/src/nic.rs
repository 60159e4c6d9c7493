//! Facts about a NIC that speed and answers depend on.

use crate::ethtool::{self, Bounded, Channels, Driver, Feature, Rings, Rss};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Features that decide what XDP sees of packets.
const FEATURES: [&str; 8] = [
    "rx-checksumming",
    "tx-checksumming",
    "generic-receive-offload",
    "large-receive-offload",
    "rx-gro-hw",
    "rx-vlan-offload",
    "tx-vlan-offload",
    "receive-hashing",
];

/// Interface and its hardware. Holds no MAC or IP address.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Nic {
    /// Name of the interface.
    pub interface: String,
    /// Driver of the interface.
    pub driver: Driver,
    /// NUMA node of the NIC's slot, if the machine has several.
    pub numa_node: Option<u32>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Speed of the link in Mbit/s, if known.
    pub speed_mbits: Option<u32>,
    /// State of the link: `up`, `down`, `unknown`.
    pub state: String,
    /// Whether the interface is up, with or without a carrier (`IFF_UP`).
    pub enabled: bool,
    /// Queues.
    pub channels: Channels,
    /// Descriptors of the rings.
    pub rings: Rings,
    /// Distribution of packets among queues.
    pub rss: Rss,
    /// Fields of a UDP packet that the hash uses, as letters of `ethtool -N`.
    pub udp4_hash: Option<String>,
    /// Fields of a UDP packet over IPv6 that the hash uses.
    pub udp6_hash: Option<String>,
    /// Features that matter here.
    pub features: BTreeMap<String, Feature>,
    /// Whether the NIC adapts its interrupt rate.
    pub adaptive_rx: Option<bool>,
    /// Interrupt delay of the NIC, in microseconds.
    pub rx_usecs: Option<u32>,
    /// Number of polls without packets before interrupts are enabled again.
    pub napi_defer_hard_irqs: Option<u64>,
    /// Nanoseconds between those polls.
    pub gro_flush_timeout: Option<u64>,
    /// Whether NAPI has threads of its own.
    pub threaded_napi: Option<bool>,
    /// Interrupts, and the cores that they go to.
    pub interrupts: Vec<Interrupt>,
    /// Number of receive queues that the kernel has.
    pub kernel_queues: Option<u32>,
    /// Whether `ethtool` could be asked.
    pub by_ethtool: bool,
}

/// Interrupt of the NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// Number of the interrupt.
    pub number: u32,
    /// Name that the driver gives the interrupt.
    pub name: String,
    /// Cores that the interrupt may go to, as a list.
    pub cores: String,
}

/// Whether an interface is up, with or without a carrier.
pub fn is_enabled(interface: &str) -> bool {
    const IFF_UP: u32 = 1;
    text(&class(interface).join("flags"))
        .and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok())
        .is_some_and(|flags| flags & IFF_UP != 0)
}

/// Whether an interface has a carrier.
pub fn has_link(interface: &str) -> bool {
    text(&class(interface).join("carrier")).as_deref() == Some("1")
}

impl Nic {
    /// Reads the facts that sysfs and `ethtool` give about `interface`.
    pub fn read(interface: &str) -> Self {
        Self::read_by(interface, &|arguments| ethtool::ask(arguments))
    }

    /// Reads the facts that sysfs and ioctls give, for a process that may start no program.
    pub fn read_without_programs(interface: &str) -> Self {
        let nic = Self::read_by(interface, &|_| None);
        let told = ringdns_dataplane::port::nic::Nic::look(interface);
        let tags = Feature { active: told.strips_vlan_tags, fixed: None };
        Nic {
            driver: Driver { name: told.driver.unwrap_or(nic.driver.name), ..nic.driver },
            kernel_queues: told.queues,
            mtu: told.mtu.unwrap_or(nic.mtu),
            features: BTreeMap::from([("rx-vlan-offload".to_owned(), tags)]),
            by_ethtool: false,
            ..nic
        }
    }

    fn read_by(interface: &str, asked: &dyn Fn(&[&str]) -> Option<String>) -> Self {
        let sysfs = class(interface);
        let ask = |option: &str| asked(&[option, interface]).unwrap_or_default();
        let hash = |flow: &str| ethtool::hash_fields(&asked(&["-n", interface, "rx-flow-hash", flow])?);
        let all_features = ethtool::features(&asked(&["--json", "-k", interface]).unwrap_or_default());
        let features =
            FEATURES.iter().filter_map(|name| Some(((*name).to_owned(), *all_features.get(*name)?)));
        let (adaptive_rx, rx_usecs) = ethtool::coalescing(&ask("-c"));
        let entries = fs::read_dir(sysfs.join("queues")).into_iter().flatten().flatten();
        let kernel_queues =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count() as u32;
        Nic {
            interface: interface.into(),
            driver: ethtool::driver(&ask("-i")),
            // -1 means that the machine has one node.
            numa_node: number(&sysfs.join("device/numa_node")),
            mtu: number(&sysfs.join("mtu")).unwrap_or(0),
            speed_mbits: number(&sysfs.join("speed")).filter(|speed| *speed > 0),
            state: text(&sysfs.join("operstate")).unwrap_or_else(|| "unknown".into()),
            enabled: is_enabled(interface),
            channels: ethtool::channels(&ask("-l")),
            rings: ethtool::rings(&ask("-g")),
            rss: ethtool::rss(&ask("-x")),
            udp4_hash: hash("udp4"),
            udp6_hash: hash("udp6"),
            features: features.collect(),
            adaptive_rx,
            rx_usecs,
            napi_defer_hard_irqs: number(&sysfs.join("napi_defer_hard_irqs")),
            gro_flush_timeout: number(&sysfs.join("gro_flush_timeout")),
            threaded_napi: number::<u8>(&sysfs.join("threaded")).map(|threaded| threaded != 0),
            interrupts: interrupts(&sysfs, Path::new("/proc")),
            kernel_queues: Some(kernel_queues).filter(|queues| *queues > 0),
            by_ethtool: !all_features.is_empty(),
        }
    }

    /// Returns the number of receive queues: of the driver's channels or, if it reports none, of
    /// the kernel's queues.
    pub fn queues(&self) -> u32 {
        self.channels.receiving().or(self.kernel_queues).unwrap_or(1).max(1)
    }
}

/// Folder of an interface in sysfs.
pub fn class(interface: &str) -> PathBuf {
    Path::new("/sys/class/net").join(interface)
}

pub(crate) fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

pub(crate) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

/// Finds the interrupts of the device behind `sysfs`, or of its parent: a virtio device has the
/// interrupts of its PCI slot.
fn interrupts(sysfs: &Path, proc: &Path) -> Vec<Interrupt> {
    let Ok(device) = sysfs.join("device").canonicalize() else { return Vec::new() };
    let Some(folder) = device.ancestors().take(2).map(|of| of.join("msi_irqs")).find(|of| of.is_dir()) else {
        return Vec::new();
    };
    let names = fs::read_to_string(proc.join("interrupts")).unwrap_or_default();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Interrupt> = numbers
        .filter_map(|number| {
            let line =
                names.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{number}:")))?;
            Some(Interrupt {
                number,
                name: line.split_ascii_whitespace().next_back()?.to_owned(),
                cores: text(&proc.join(format!("irq/{number}/smp_affinity_list"))).unwrap_or_default(),
            })
        })
        .collect();
    found.sort_by_key(|interrupt| interrupt.number);
    found
}

/// Text in place of a fact that the driver does not report.
const UNKNOWN: &str = "not reported by the driver";

/// Formats the facts as rows of a Markdown table.
impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: &str| writeln!(f, "| {name} | {} |", value.replace('|', "/"));
        let known = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.into());
        let fields = |hash: &Option<String>| match hash.as_deref() {
            None => UNKNOWN.to_owned(),
            Some("") => "none".to_owned(),
            Some(letters) => letters.to_owned(),
        };
        let bounded = |value: Option<Bounded>| {
            value
                .map(|Bounded { now, most }| format!("{now} (at most {most})"))
                .unwrap_or_else(|| UNKNOWN.into())
        };
        let Driver { name, version, firmware, bus } = &self.driver;
        row("driver", &format!("{name} {version}"))?;
        row("firmware", &known(firmware.clone()))?;
        row("bus address", &known(bus.clone()))?;
        row("NUMA node", &self.numa_node.map_or("one node".into(), |node| node.to_string()))?;
        let speed = self.speed_mbits.map_or("unknown speed".into(), |speed| format!("{speed} Mbit/s"));
        row("link", &format!("{}, {speed}, MTU {}", self.state, self.mtu))?;
        row("combined queues", &bounded(self.channels.combined))?;
        if self.channels.rx.is_some() || self.channels.tx.is_some() {
            row("rx / tx queues", &format!("{} / {}", bounded(self.channels.rx), bounded(self.channels.tx)))?;
        }
        row("rx ring", &bounded(self.rings.rx))?;
        row("tx ring", &bounded(self.rings.tx))?;
        row("RSS", &self.rss.to_string())?;
        row(
            "UDP hash fields, IPv4 / IPv6",
            &format!("{} / {}", fields(&self.udp4_hash), fields(&self.udp6_hash)),
        )?;
        for (name, feature) in &self.features {
            let fixed = if feature.fixed == Some(true) { ", fixed" } else { "" };
            row(name, &format!("{}{fixed}", if feature.active { "on" } else { "off" }))?;
        }
        let usecs = self.rx_usecs.map_or(UNKNOWN.into(), |usecs| format!("{usecs} µs"));
        let adaptive = if self.adaptive_rx == Some(true) { ", adaptive" } else { "" };
        row("interrupts wait", &format!("{usecs}{adaptive}"))?;
        row("napi_defer_hard_irqs", &known(self.napi_defer_hard_irqs.map(|polls| polls.to_string())))?;
        row("gro_flush_timeout", &known(self.gro_flush_timeout.map(|nanos| format!("{nanos} ns"))))?;
        row("threaded NAPI", &known(self.threaded_napi.map(|on| if on { "on" } else { "off" }.into())))?;
        let cores = self.interrupts.iter().map(|i| format!("{} → {}", i.name, i.cores)).collect::<Vec<_>>();
        row("interrupts → cores", &if cores.is_empty() { UNKNOWN.into() } else { cores.join(", ") })
    }
}

impl fmt::Display for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(function) = &self.function else { return f.write_str(UNKNOWN) };
        f.write_str(function)?;
        if self.key_bytes > 0 {
            write!(f, ", key of {} bytes", self.key_bytes)?;
        }
        if self.key_is_symmetric {
            f.write_str(" (symmetric)")?;
        }
        let entries: Vec<String> =
            self.entries_by_queue.iter().map(|(queue, entries)| format!("{queue}: {entries}")).collect();
        if entries.is_empty() { Ok(()) } else { write!(f, ", entries by queue: {}", entries.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn interrupts_of_a_virtio_device_are_those_of_its_slot() {
        let root = tempfile::tempdir().unwrap();
        let (net, proc) = (root.path().join("net"), root.path().join("proc"));
        let slot = root.path().join("pci0");
        fs::create_dir_all(slot.join("virtio1")).unwrap();
        fs::create_dir_all(slot.join("msi_irqs")).unwrap();
        fs::create_dir_all(&net).unwrap();
        for number in [26, 24, 99] {
            fs::write(slot.join("msi_irqs").join(number.to_string()), "msix\n").unwrap();
            fs::create_dir_all(proc.join(format!("irq/{number}"))).unwrap();
            fs::write(proc.join(format!("irq/{number}/smp_affinity_list")), format!("{}\n", number % 2))
                .unwrap();
        }
        symlink(slot.join("virtio1"), net.join("device")).unwrap();
        let table = "            CPU0       CPU1\n  24:          0          0  PCI-MSIX-0000:00:03.0   0-edge      virtio1-config\n  \
                     26:        412          0  PCI-MSIX-0000:00:03.0   2-edge      virtio1-output.0\n";
        fs::write(proc.join("interrupts"), table).unwrap();
        let found = interrupts(&net, &proc);
        let expected = [(24, "virtio1-config", "0"), (26, "virtio1-output.0", "0")];
        let found: Vec<_> = found.iter().map(|i| (i.number, i.name.as_str(), i.cores.as_str())).collect();
        assert_eq!(found, expected);
        assert!(interrupts(&root.path().join("none"), &proc).is_empty());
    }

    #[test]
    fn a_nic_that_tells_nothing_makes_a_whole_table() {
        let text = Nic { state: "up".into(), ..Nic::default() }.to_string();
        assert!(
            text.lines().count() > 12
                && text.lines().all(|line| line.starts_with("| ") && line.ends_with(" |")),
            "{text}"
        );
        assert!(text.contains(&format!("| firmware | {UNKNOWN} |")), "{text}");
    }
}
