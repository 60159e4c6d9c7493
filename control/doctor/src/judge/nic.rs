//! Checks of a NIC.

use super::{Completed, fine, new, unknown};
use crate::{changes, facts::Facts, nic::Nic};
use ringdns_api::{Finding, Verdict, quoted};

/// Drivers with zero-copy sockets (`grep -l XDP_SETUP_XSK_POOL` in Linux 6.18 `drivers/net`).
const ZERO_COPY: [&str; 13] = [
    "fsl_dpaa2_eth",
    "gve",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "mlx5_core",
    "nfp",
    "rvu_nicpf",
    "st_gmac",
    "tsnep",
    "virtio_net",
];

/// Drivers that run XDP programs, and copy packets to sockets.
const NATIVE: [&str; 15] = [
    "bnxt_en",
    "ena",
    "enetc",
    "fec",
    "hv_netvsc",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_en",
    "mvneta",
    "qede",
    "sfc",
    "tun",
    "veth",
    "vmxnet3",
];

/// Largest MTU whose frames fit into a page beside what XDP needs.
const MTU_MAX: u32 = 3498;

/// Text for facts that only `ethtool` tells.
const OUTSIDE: &str = "ringdnsd cannot ask ethtool; `ringctl doctor` on the host does, if it is installed";

/// Purpose of a NIC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Receive queues to serve; `None`: all.
    pub queues: Option<&'a [u32]>,
    /// Number of cores.
    pub cores: usize,
    /// Number of workers that these cores are enough for.
    pub workers: u32,
    /// Core of each worker. Empty: interrupts are left alone.
    pub worker_cores: &'a [usize],
    /// Whether frames with VLAN tags are to be received.
    pub takes_vlans: bool,
    /// Whether workers drive the NIC.
    pub busy_poll: bool,
}

/// Returns the findings on a NIC alone.
pub fn findings(nic: &Nic, target: &Target<'_>) -> Vec<Finding> {
    let all = [
        Some(driver(nic)),
        Some(link(nic)),
        Some(queues(nic, target)),
        Some(rss(nic, target)),
        Some(rings(nic)),
        Some(merging(nic)),
        Some(tags(nic, target)),
        Some(mtu(nic)),
        Some(interrupts(nic, target)),
        target.busy_poll.then(|| busy_poll(nic)),
    ];
    all.into_iter().flatten().collect()
}

/// Returns the findings on a NIC that concern its host.
pub fn host_findings(nic: &Nic, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if facts.wanted.zero_copy && !ZERO_COPY.contains(&nic.driver.name.as_str()) {
        found.push(
            new(
                "mode",
                Verdict::Warning,
                format!("{} is not known to have zero-copy, which server.mode demands", nic.driver.name),
            )
            .remedy("set server.mode = \"auto\""),
        );
    }
    if facts.irqbalance == Some(true) && !nic.interrupts.is_empty() {
        found.push(
            new(
                "irqbalance",
                Verdict::Advice,
                "irqbalance runs, and moves interrupts away from the cores of their workers",
            )
            .remedy("systemctl disable --now irqbalance"),
        );
    }
    found.push(match (facts.host.numa_nodes, nic.numa_node) {
        (0 | 1, _) => fine("numa", "one memory node"),
        (nodes, Some(node)) => new(
            "numa",
            Verdict::Advice,
            format!("{} is at memory node {node} of {nodes}; workers on other nodes' cores are slower", nic.interface),
        )
        .remedy(format!("systemctl edit ringdnsd: CPUAffinity= with the cores of /sys/devices/system/node/node{node}/cpulist")),
        (nodes, None) => unknown("numa", format!("the memory node of {} among {nodes}", nic.interface)),
    });
    found
}

fn driver(nic: &Nic) -> Finding {
    let name = nic.driver.name.as_str();
    match name {
        _ if ZERO_COPY.contains(&name) => {
            fine("driver", format!("{name}: XDP in the driver, with zero-copy if the kernel is recent"))
        }
        _ if NATIVE.contains(&name) => {
            fine("driver", format!("{name}: XDP in the driver, copy mode (the driver has no zero-copy)"))
        }
        "unknown" => unknown("driver", format!("the driver of {}", nic.interface)),
        _ => new(
            "driver",
            Verdict::Advice,
            format!("{name} is not known to have XDP: the generic mode, which is slow, will do"),
        )
        .remedy(format!("ringbench nic {} tries every mode", quoted(&nic.interface))),
    }
}

fn link(nic: &Nic) -> Finding {
    let speed = nic.speed_mbits.map(|speed| format!(", {speed} Mbit/s")).unwrap_or_default();
    if !nic.enabled {
        // No change of `--apply`: its undoing could cut off an operator.
        return new("link", Verdict::Fault, format!("{} is switched off", nic.interface))
            .remedy(format!("ip link set {} up", quoted(&nic.interface)));
    }
    match nic.state.as_str() {
        "down" | "lowerlayerdown" => new("link", Verdict::Fault, format!("{} has no carrier", nic.interface))
            .remedy("see to the cable and the switch"),
        state => fine("link", format!("{} is {state}{speed}", nic.interface)),
    }
}

/// Compares the number of queues with the number of workers: there is one a queue.
fn queues(nic: &Nic, target: &Target<'_>) -> Finding {
    let now = nic.queues();
    let said = |meaning: String| {
        format!(
            "{} has {} for {}: {meaning}",
            nic.interface,
            counted(now, "receive queue"),
            counted(target.cores as u32, "core")
        )
    };
    let (verdict, meaning, wanted) = match target.queues {
        Some(served) => {
            let wanted = served.iter().max().map_or(1, |last| last + 1);
            match now.cmp(&wanted) {
                std::cmp::Ordering::Less => {
                    (Verdict::Fault, format!("server.queues names queue {}", wanted - 1), wanted)
                }
                std::cmp::Ordering::Equal => return fine("queues", said("as server.queues names".into())),
                // No change of `--apply`: the others may be left to the kernel on purpose.
                std::cmp::Ordering::Greater => {
                    let meaning = "those that server.queues does not name are answered by the kernel";
                    let by_hand = match changes::queues(nic, wanted) {
                        Some(change) => format!("{}, unless the kernel is to have the others", change.make),
                        None => "name them in server.queues, unless the kernel is to have them".to_owned(),
                    };
                    return new("queues", Verdict::Advice, said(meaning.into())).remedy(by_hand);
                }
            }
        }
        None => {
            let wanted = target.workers.min(changes::queues_most(nic).unwrap_or(now)).max(1);
            let meaning = format!("a worker each; {wanted} would leave a core for the control plane");
            match now {
                _ if now as usize > target.cores => {
                    (Verdict::Warning, "more workers than cores wait for each other".to_owned(), wanted)
                }
                _ if now < wanted => (Verdict::Advice, "more workers could answer".to_owned(), wanted),
                _ if now > target.workers && now > 1 => (Verdict::Ok, meaning, now),
                _ => return fine("queues", said("a worker each".into())),
            }
        }
    };
    let finding = new("queues", verdict, said(meaning));
    if nic.driver.name == changes::VETH && wanted < now {
        // It refuses XDP, and ringdnsd would fall back to the slow generic mode (`veth_xdp_set`).
        return finding.remedy(
            "lower the transmit queues of the cable's other end first: with fewer receive queues here, the driver takes no XDP program",
        );
    }
    match changes::queues(nic, wanted).filter(|_| wanted != now) {
        Some(change) => finding.fix(vec![change], true),
        None if verdict == Verdict::Ok => finding,
        None => {
            finding.remedy("the driver cannot change the number: name the queues to serve in server.queues")
        }
    }
}

fn counted(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Checks that clients behind one address are spread by port.
fn rss(nic: &Nic, target: &Target<'_>) -> Finding {
    if nic.queues() < 2 {
        return fine("rss", "one queue: nothing to spread");
    }
    // Queues that server.queues does not name are the kernel's.
    let is_served = |queue: &u32| target.queues.is_none_or(|served| served.contains(queue));
    let empty: Vec<String> = (0..nic.queues())
        .filter(is_served)
        .filter(|queue| !nic.rss.entries_by_queue.is_empty() && !nic.rss.entries_by_queue.contains_key(queue))
        .map(|queue| queue.to_string())
        .collect();
    if !empty.is_empty() {
        return new(
            "rss",
            Verdict::Warning,
            format!("the indirection table leaves out queue {}: its worker is idle", empty.join(", ")),
        )
        .remedy(format!("ethtool -X {} equal {}", quoted(&nic.interface), nic.queues()));
    }
    let told = [("udp4", &nic.udp4_hash), ("udp6", &nic.udp6_hash)];
    let lacking: Vec<&str> = told
        .iter()
        .filter(|(_, hash)| {
            hash.as_deref().is_some_and(|fields| !fields.contains('f') || !fields.contains('n'))
        })
        .map(|(flow, _)| *flow)
        .collect();
    if !lacking.is_empty() {
        let evidence = format!(
            "the hash of {} leaves ports out, so all queries of one client go to one queue",
            lacking.join(" and ")
        );
        let finding = new("rss", Verdict::Warning, evidence);
        let changes = changes::hash(nic);
        let by_hand = format!("ethtool -N {} rx-flow-hash {} sdfn", quoted(&nic.interface), lacking[0]);
        return if changes.is_empty() { finding.remedy(by_hand) } else { finding.fix(changes, false) };
    }
    match (nic.by_ethtool, told.iter().all(|(_, hash)| hash.is_some())) {
        (_, true) => {
            fine("rss", format!("{}, by addresses and ports", nic.rss.function.as_deref().unwrap_or("hash")))
        }
        (false, false) => unknown("rss", OUTSIDE),
        // Drivers of virtual machines spread as their hosts do.
        (true, false) => unknown("rss", format!("{} does not tell the fields of its hash", nic.driver.name)),
    }
}

fn rings(nic: &Nic) -> Finding {
    let Some(rx) = nic.rings.rx else {
        return if nic.by_ethtool {
            fine("rings", "the driver has no sizes of rings")
        } else {
            unknown("rings", OUTSIDE)
        };
    };
    let tx = nic.rings.tx.map(|tx| format!(", tx {} of {}", tx.now, tx.most)).unwrap_or_default();
    let said = format!("rx {} of {}{tx} descriptors", rx.now, rx.most);
    match changes::rings(nic) {
        None => fine("rings", said),
        Some(change) => new(
            "rings",
            Verdict::Advice,
            format!("{said}: a burst of {} packets overflows them", changes::RING),
        )
        .fix(vec![change], true),
    }
}

fn merging(nic: &Nic) -> Finding {
    if !nic.by_ethtool {
        return unknown("offloads", OUTSIDE);
    }
    let changes = changes::merging(nic);
    if changes.is_empty() {
        return fine("offloads", "no offload merges packets, or the driver is a virtual cable");
    }
    new("offloads", Verdict::Advice, "LRO or GRO is on, which costs time and may keep XDP out of the driver")
        .fix(changes, false)
}

fn tags(nic: &Nic, target: &Target<'_>) -> Finding {
    match (nic.features.get("rx-vlan-offload"), target.takes_vlans) {
        (None, _) => fine("vlan", "the driver leaves VLAN tags in packets"),
        (Some(feature), _) if !feature.active => fine("vlan", "VLAN tags stay in packets"),
        (Some(_), false) => fine("vlan", "the NIC strips VLAN tags; no VLAN is served"),
        (Some(_), true) => {
            let finding = new(
                "vlan",
                Verdict::Warning,
                "the NIC strips VLAN tags, which XDP then cannot see: answers of tagged queries go out without a tag",
            );
            let change: Vec<_> = changes::tags(nic).into_iter().collect();
            if change.is_empty() {
                finding.remedy("receive VLANs on another interface: the driver cannot leave the tags")
            } else {
                finding.fix(change, false)
            }
        }
    }
}

fn mtu(nic: &Nic) -> Finding {
    if nic.mtu <= MTU_MAX {
        return fine("mtu", nic.mtu.to_string());
    }
    let evidence = format!(
        "{}: frames exceed a page, which XDP takes with Linux 5.18 or later and a driver with multi-buffer XDP only; otherwise in the slow generic mode",
        nic.mtu
    );
    new("mtu", Verdict::Advice, evidence).remedy(format!("ip link set {} mtu 1500", quoted(&nic.interface)))
}

fn interrupts(nic: &Nic, target: &Target<'_>) -> Finding {
    if nic.interrupts.is_empty() {
        return fine("interrupts", "the interface has none of its own");
    }
    // Workers serve the queues in the order of server.queues.
    let core = |queue: u32| {
        let worker = match target.queues {
            Some(served) => served.iter().position(|one| *one == queue)?,
            None => queue as usize,
        };
        target.worker_cores.get(worker).copied()
    };
    let changes = changes::interrupts(nic, core);
    if changes.is_empty() {
        return fine("interrupts", "the interrupt of each queue goes to the core of its worker");
    }
    let evidence = format!(
        "{} of {} interrupts go to other cores than that of the worker",
        changes.len(),
        nic.interrupts.len()
    );
    new("interrupts", Verdict::Advice, evidence).fix(changes, false)
}

fn busy_poll(nic: &Nic) -> Finding {
    if nic.napi_defer_hard_irqs.is_none() {
        return unknown("busy_poll", "the kernel shows no napi_defer_hard_irqs: it needs Linux 5.11");
    }
    let changes = changes::busy_polling(nic);
    if changes.is_empty() {
        return fine("busy_poll", "interrupts are deferred while workers poll");
    }
    new("busy_poll", Verdict::Advice, "server.busy_poll is on, and the interface does not defer interrupts")
        .fix(changes, false)
}
