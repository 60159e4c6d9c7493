//! Changes of a NIC that its facts ask for.

use crate::nic::{Interrupt, Nic, class};
pub use ringdns_api::Change;
use ringdns_api::Step;
use std::path::{Path, PathBuf};

/// Descriptors of a ring that hold a burst of some milliseconds at the rate of a worker.
pub const RING: u32 = 2048;

/// Driver of a virtual cable, whose ends have NAPI only with GRO or with an XDP program in the driver.
pub const VETH: &str = "veth";

/// Returns a change by commands.
pub fn command(make: &str, undo: &str) -> Change {
    Change { make: Step::run(make), undo: Step::run(undo) }
}

/// Returns the change of a kernel file from one value to another.
pub fn value(path: impl Into<PathBuf>, before: &str, after: &str) -> Change {
    let path = path.into();
    let step = |text: &str| Step::Write { path: path.clone(), text: text.to_owned() };
    Change { make: step(after), undo: step(before) }
}

/// Returns the largest number of receive queues that the driver allows, if the number can be changed.
pub fn queues_most(nic: &Nic) -> Option<u32> {
    let kind = nic.channels.combined.or(nic.channels.rx)?;
    Some(kind.most).filter(|most| *most > 1)
}

/// Returns the change to a number of receive queues, if the driver allows that number.
pub fn queues(nic: &Nic, count: u32) -> Option<Change> {
    let Nic { interface, channels, .. } = nic;
    let (kind, bounded) = match (channels.combined, channels.rx) {
        (Some(combined), _) => ("combined", combined),
        (None, Some(rx)) => ("rx", rx),
        (None, None) => return None,
    };
    let set = |count: u32| format!("ethtool -L {interface} {kind} {count}");
    (1..=bounded.most).contains(&count).then(|| command(&set(count), &set(bounded.now)))
}

/// Returns the changes that switch off offloads which merge packets.
pub fn merging(nic: &Nic) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, short) in [("large-receive-offload", "lro"), ("generic-receive-offload", "gro")] {
        if nic.driver.name != VETH && can_be_switched_off(nic, name) {
            let set = |state: &str| format!("ethtool -K {} {short} {state}", nic.interface);
            changes.push(command(&set("off"), &set("on")));
        }
    }
    changes
}

/// Returns the change that leaves VLAN tags in packets.
pub fn tags(nic: &Nic) -> Option<Change> {
    let set = |state: &str| format!("ethtool -K {} rxvlan {state}", nic.interface);
    can_be_switched_off(nic, "rx-vlan-offload").then(|| command(&set("off"), &set("on")))
}

fn can_be_switched_off(nic: &Nic, name: &str) -> bool {
    nic.features.get(name).is_some_and(|feature| feature.active && feature.fixed != Some(true))
}

/// Returns the changes that make the hash of UDP packets use ports.
pub fn hash(nic: &Nic) -> Vec<Change> {
    let mut changes = Vec::new();
    for (flow, hash) in [("udp4", &nic.udp4_hash), ("udp6", &nic.udp6_hash)] {
        // A hash without fields could not be restored.
        let Some(fields) = hash.as_deref().filter(|fields| !fields.is_empty()) else { continue };
        if !fields.contains('f') || !fields.contains('n') {
            let set = |fields: &str| format!("ethtool -N {} rx-flow-hash {flow} {fields}", nic.interface);
            changes.push(command(&set("sdfn"), &set(fields)));
        }
    }
    changes
}

/// Returns the change of rings that are smaller than [`RING`] and need not be.
pub fn rings(nic: &Nic) -> Option<Change> {
    let (mut make, mut undo) = (String::new(), String::new());
    for (name, ring) in [("rx", nic.rings.rx), ("tx", nic.rings.tx)] {
        let Some(ring) = ring else { continue };
        let wanted = RING.min(ring.most);
        if ring.now < wanted {
            make += &format!(" {name} {wanted}");
            undo += &format!(" {name} {}", ring.now);
        }
    }
    let set = |what: &str| format!("ethtool -G {}{what}", nic.interface);
    (!make.is_empty()).then(|| command(&set(&make), &set(&undo)))
}

/// Returns the number of the receive queue that an interrupt is for, by its name in one of the forms
/// `i40e-eth1-TxRx-3`, `eth1-Tx-Rx-3`, `eth1-rx-3`, `virtio1-input.3` and `mlx5_comp3@pci:0000:3b:00.0`.
pub fn queue_of(interrupt: &Interrupt) -> Option<u32> {
    let name = interrupt.name.split('@').next().unwrap_or_default();
    ["TxRx-", "Tx-Rx-", "rx-", "input.", "comp"]
        .iter()
        .find_map(|mark| name.rsplit_once(mark)?.1.parse().ok())
}

/// Returns the changes that send the interrupt of each queue to the core of its worker. `core` returns
/// the core of a worker.
pub fn interrupts(nic: &Nic, core: impl Fn(u32) -> Option<usize>) -> Vec<Change> {
    let change = |interrupt: &Interrupt| {
        let core = core(queue_of(interrupt)?)?.to_string();
        let path = Path::new("/proc/irq").join(interrupt.number.to_string()).join("smp_affinity_list");
        (interrupt.cores != core && !interrupt.cores.is_empty()).then(|| value(path, &interrupt.cores, &core))
    };
    nic.interrupts.iter().filter_map(change).collect()
}

/// Returns the changes that preferred busy polling needs: polls before interrupts are enabled again, and
/// nanoseconds between them.
pub fn busy_polling(nic: &Nic) -> Vec<Change> {
    let files = [
        ("gro_flush_timeout", nic.gro_flush_timeout, 200_000),
        ("napi_defer_hard_irqs", nic.napi_defer_hard_irqs, 2),
    ];
    let change = |(name, now, wanted): (&str, Option<u64>, u64)| {
        let now = now.filter(|now| *now == 0)?;
        Some(value(class(&nic.interface).join(name), &now.to_string(), &wanted.to_string()))
    };
    files.into_iter().filter_map(change).collect()
}
