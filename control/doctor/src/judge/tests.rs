//! Verdicts on machines that are not here.

use super::*;
use crate::{
    certificate::Certificate,
    ethtool::{Bounded, Channels, Driver, Feature, Rings, Rss},
    facts::{Process, Route},
    neighbours::Neighbour,
    nic::{Interrupt, Nic},
    wanted::Wanted,
};
use std::collections::BTreeMap;

const CORES: [usize; 8] = [7, 6, 5, 4, 3, 2, 1, 0];

fn bounded(now: u32, most: u32) -> Option<Bounded> {
    Some(Bounded { now, most })
}

/// Returns a NIC as a server has it after installation.
fn nic(driver: &str, queues: u32, most: u32) -> Nic {
    let feature = |active, fixed| Feature { active, fixed: Some(fixed) };
    Nic {
        interface: "eth1".into(),
        driver: Driver { name: driver.into(), ..Driver::default() },
        mtu: 1500,
        state: "up".into(),
        enabled: true,
        channels: Channels { combined: bounded(queues, most), ..Channels::default() },
        rings: Rings { rx: bounded(512, 4096), tx: bounded(4096, 4096) },
        rss: Rss {
            function: Some("toeplitz".into()),
            entries_by_queue: (0..queues).map(|queue| (queue, 16)).collect(),
            ..Rss::default()
        },
        udp4_hash: Some("sd".into()),
        udp6_hash: Some("sdfn".into()),
        features: BTreeMap::from([
            ("generic-receive-offload".into(), feature(true, false)),
            ("large-receive-offload".into(), feature(false, true)),
            ("rx-vlan-offload".into(), feature(true, false)),
        ]),
        by_ethtool: true,
        ..Nic::default()
    }
}

fn target() -> Target<'static> {
    Target { cores: 8, workers: 7, worker_cores: &CORES, ..Target::default() }
}

/// Returns the finding of a check.
#[track_caller]
fn of<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("no {check}: {findings:#?}"))
}

/// Returns verdict and remedy of a check.
#[track_caller]
fn told<'a>(findings: &'a [Finding], check: &str) -> (Verdict, &'a str) {
    let finding = of(findings, check);
    (finding.verdict, finding.remedy.as_deref().unwrap_or_default())
}

/// Returns the commands that undo a finding's changes.
#[track_caller]
fn undoing(findings: &[Finding], check: &str) -> Vec<String> {
    let fix = of(findings, check).fix.as_ref().unwrap();
    fix.changes.iter().map(|change| change.undo.to_string()).collect()
}

#[test]
fn an_i40e_with_a_queue_for_each_of_more_cores() {
    let found = findings_of(&nic("i40e", 64, 64));
    assert_eq!(told(&found, "queues"), (Verdict::Warning, "ethtool -L eth1 combined 7"));
    assert_eq!(undoing(&found, "queues"), ["ethtool -L eth1 combined 64"]);
    assert!(of(&found, "queues").fix.as_ref().unwrap().resets_link);
    assert_eq!(told(&found, "rss"), (Verdict::Warning, "ethtool -N eth1 rx-flow-hash udp4 sdfn"));
    assert_eq!(undoing(&found, "rss"), ["ethtool -N eth1 rx-flow-hash udp4 sd"]);
    assert_eq!(told(&found, "rings"), (Verdict::Advice, "ethtool -G eth1 rx 2048"));
    assert_eq!(undoing(&found, "rings"), ["ethtool -G eth1 rx 512"]);
    assert_eq!(told(&found, "offloads"), (Verdict::Advice, "ethtool -K eth1 gro off"));
    assert_eq!(told(&found, "vlan"), (Verdict::Ok, ""), "no VLAN is served");
    assert_eq!(told(&found, "mtu").0, Verdict::Ok);
    assert!(of(&found, "driver").evidence.contains("zero-copy"));
}

fn findings_of(nic: &Nic) -> Vec<Finding> {
    nic_findings(nic, &target())
}

#[test]
fn a_tuned_ice_is_well() {
    let mut ice = nic("ice", 7, 64);
    ice.udp4_hash = Some("sdfn".into());
    ice.rings = Rings { rx: bounded(2048, 8160), tx: bounded(2048, 8160) };
    ice.features.clear();
    ice.interrupts = (0..7)
        .map(|queue| Interrupt {
            number: 100 + queue,
            name: format!("ice-eth1-TxRx-{queue}"),
            cores: CORES[queue as usize].to_string(),
        })
        .collect();
    let found = findings_of(&ice);
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok), "{found:#?}");
    // One interrupt went elsewhere, and one is not of a queue.
    ice.interrupts[3].cores = "0-7".into();
    ice.interrupts.push(Interrupt { number: 9, name: "ice-misc".into(), cores: "0".into() });
    let found = findings_of(&ice);
    assert_eq!(told(&found, "interrupts"), (Verdict::Advice, "echo 4 > /proc/irq/103/smp_affinity_list"));
    assert_eq!(undoing(&found, "interrupts"), ["echo 0-7 > /proc/irq/103/smp_affinity_list"]);
}

#[test]
fn interrupts_go_to_the_workers_of_the_queues_that_are_served() {
    let mut i40e = nic("i40e", 4, 64);
    let interrupt = |queue: u32| Interrupt {
        number: 100 + queue,
        name: format!("i40e-eth1-TxRx-{queue}"),
        cores: "0-7".into(),
    };
    i40e.interrupts = (0..4).map(interrupt).collect();
    let found = nic_findings(&i40e, &Target { queues: Some(&[3]), ..target() });
    assert_eq!(told(&found, "interrupts"), (Verdict::Advice, "echo 7 > /proc/irq/103/smp_affinity_list"));
}

#[test]
fn interrupts_of_drivers_name_their_queues() {
    let queue =
        |name: &str| crate::changes::queue_of(&Interrupt { number: 1, name: name.into(), cores: "0".into() });
    let names = [
        "i40e-eth1-TxRx-3",
        "eth1-TxRx-12",
        "mlx5_comp3@pci:0000:3b:00.0",
        "virtio1-input.3",
        "eth1-Tx-Rx-3",
    ];
    assert_eq!(names.map(queue), [Some(3), Some(12), Some(3), Some(3), Some(3)]);
    assert_eq!(["virtio1-config", "virtio1-output.0", "mlx5_async0@pci:0", "eth1"].map(queue), [None; 4]);
}

#[test]
fn an_ixgbe_with_few_queues_and_a_mellanox_with_full_hashes() {
    let found = findings_of(&nic("ixgbe", 2, 63));
    assert_eq!(told(&found, "queues"), (Verdict::Advice, "ethtool -L eth1 combined 7"));
    let mut mlx5 = nic("mlx5_core", 8, 63);
    mlx5.udp4_hash = Some("sdfn".into());
    mlx5.rss.entries_by_queue.remove(&5);
    let found = findings_of(&mlx5);
    assert_eq!(told(&found, "queues"), (Verdict::Ok, ""), "as many as cores will do");
    assert_eq!(told(&found, "rss"), (Verdict::Warning, "ethtool -X eth1 equal 8"));
    mlx5.mtu = 9000;
    assert_eq!(told(&findings_of(&mlx5), "mtu"), (Verdict::Advice, "ip link set eth1 mtu 1500"));
}

#[test]
fn machines_of_clouds_change_less() {
    // virtio-net tells no hash fields, and has as many queues as its host gave it.
    let mut virtio = nic("virtio_net", 1, 1);
    (virtio.udp4_hash, virtio.udp6_hash) = (None, None);
    virtio.rings = Rings { rx: bounded(256, 256), tx: bounded(256, 256) };
    let found = findings_of(&virtio);
    assert_eq!(
        (told(&found, "queues").0, told(&found, "rss").0, told(&found, "rings").0),
        (Verdict::Ok, Verdict::Ok, Verdict::Ok)
    );
    // ena has at most 8 queues on this instance, of fixed rings.
    let mut ena = nic("ena", 8, 8);
    (ena.udp4_hash, ena.udp6_hash) = (None, None);
    ena.rings = Rings { rx: bounded(1024, 16384), tx: bounded(1024, 1024) };
    let found = findings_of(&ena);
    assert_eq!(told(&found, "rss").0, Verdict::Unknown);
    assert_eq!(told(&found, "rings"), (Verdict::Advice, "ethtool -G eth1 rx 2048"));
    let found = findings_of(&nic("e1000e", 1, 1));
    assert_eq!(told(&found, "driver"), (Verdict::Advice, "ringbench nic eth1 tries every mode"));
}

#[test]
fn a_veth_keeps_gro_and_counts_receive_queues() {
    let mut veth = nic("veth", 0, 0);
    veth.channels = Channels { combined: None, rx: bounded(16, 16), tx: bounded(16, 16) };
    veth.rss = Rss::default();
    let found = findings_of(&veth);
    assert_eq!(told(&found, "offloads"), (Verdict::Ok, ""));
    let (verdict, remedy) = told(&found, "queues");
    assert_eq!(
        (verdict, remedy.starts_with("lower the transmit queues")),
        (Verdict::Warning, true),
        "{remedy}"
    );
    assert!(of(&found, "queues").fix.is_none(), "the driver would take no XDP program");
    veth.channels.rx = bounded(1, 16);
    let found = findings_of(&veth);
    assert_eq!(told(&found, "queues"), (Verdict::Advice, "ethtool -L eth1 rx 7"));
    assert_eq!(undoing(&found, "queues"), ["ethtool -L eth1 rx 1"]);
}

#[test]
fn queues_that_the_configuration_names_decide() {
    let with = |queues: &'static [u32]| Target { queues: Some(queues), ..target() };
    let of = |nic: &Nic, queues| nic_findings(nic, &with(queues));
    let i40e = nic("i40e", 4, 64);
    assert_eq!(told(&of(&i40e, &[0, 5]), "queues"), (Verdict::Fault, "ethtool -L eth1 combined 6"));
    assert_eq!(told(&of(&i40e, &[0, 3]), "queues").0, Verdict::Ok);
    let found = of(&i40e, &[0, 1]);
    let by_hand = "ethtool -L eth1 combined 2, unless the kernel is to have the others";
    assert_eq!(told(&found, "queues"), (Verdict::Advice, by_hand));
    assert!(super::tests::of(&found, "queues").fix.is_none(), "the kernel may need the others");
    let mut steered = Nic { udp4_hash: Some("sdfn".into()), ..i40e.clone() };
    steered.rss.entries_by_queue.remove(&3);
    assert_eq!(told(&of(&steered, &[0, 1, 2]), "rss").0, Verdict::Ok);
    assert_eq!(told(&of(&steered, &[0, 3]), "rss").0, Verdict::Warning);
    let fixed = Nic { channels: Channels::default(), kernel_queues: Some(1), ..i40e };
    let found = of(&fixed, &[0, 1]);
    assert_eq!(told(&found, "queues").0, Verdict::Fault);
    assert!(super::tests::of(&found, "queues").fix.is_none());
}

#[test]
fn vlans_and_busy_polling_matter_where_they_are_used() {
    let mut i40e = nic("i40e", 7, 64);
    let wanted = Target { takes_vlans: true, busy_poll: true, ..target() };
    (i40e.napi_defer_hard_irqs, i40e.gro_flush_timeout) = (Some(0), Some(0));
    let found = nic_findings(&i40e, &wanted);
    assert_eq!(told(&found, "vlan"), (Verdict::Warning, "ethtool -K eth1 rxvlan off"));
    assert_eq!(undoing(&found, "busy_poll").len(), 2);
    i40e.features.insert("rx-vlan-offload".into(), Feature { active: true, fixed: Some(true) });
    let found = nic_findings(&i40e, &wanted);
    assert!(of(&found, "vlan").fix.is_none() && told(&found, "vlan").0 == Verdict::Warning);
    i40e.enabled = false;
    let found = findings_of(&i40e);
    assert_eq!(told(&found, "link"), (Verdict::Fault, "ip link set eth1 up"));
    assert!(of(&found, "link").fix.is_none(), "its undoing would cut off an operator");
    i40e.interface = "a;b".into();
    assert_eq!(told(&findings_of(&i40e), "link").1, "ip link set 'a;b' up");
}

#[test]
fn facts_that_the_sandbox_hides_are_unknown_and_no_fault() {
    let mut inside = nic("i40e", 7, 64);
    inside.by_ethtool = false;
    (inside.rings, inside.rss, inside.features) = Default::default();
    (inside.udp4_hash, inside.udp6_hash) = (None, None);
    let found = findings_of(&inside);
    for check in ["rings", "rss", "offloads"] {
        assert_eq!(told(&found, check).0, Verdict::Unknown);
        assert!(of(&found, check).evidence.starts_with("unknown: "));
    }
    assert!(found.iter().all(|finding| finding.verdict <= Verdict::Unknown), "{found:#?}");
}

/// Returns facts of a host on which all is well.
fn host() -> Facts {
    let mut facts = Facts { cores: 8, workers: 7, jit: Some(1), now: 1_800_000_000, ..Facts::default() };
    facts.host.machine.kernel = "6.1.0-13-amd64".into();
    facts.host.numa_nodes = 1;
    facts.host.huge_pages.kibibytes = 2048;
    facts.merged_pages = Some("madvise".into());
    facts.is_synchronised = Some(true);
    facts.bounding = Some(u64::MAX);
    facts.memlock = Some(u64::MAX);
    facts.neighbours = Some(Vec::new());
    facts.dropping_chains = Some(Vec::new());
    facts.checked = Some(Vec::new());
    facts.wanted = Wanted { accepted: true, least_port: Some(53), ..Wanted::default() };
    facts
}

/// Returns verdict and remedy of a check on a changed host.
fn changed(check: &str, change: impl FnOnce(&mut Facts)) -> (Verdict, String) {
    let mut facts = host();
    change(&mut facts);
    let (verdict, remedy) = (judge(&facts), check);
    let (verdict, remedy) = told(&verdict, remedy);
    (verdict, remedy.to_owned())
}

#[test]
fn a_host_on_which_all_is_well_has_no_finding() {
    let found = judge(&host());
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok), "{found:#?}");
    assert!(found.len() > 8, "{found:#?}");
}

#[test]
fn kernel_and_memory_are_judged() {
    let with_xdp = |release: &'static str, falls_back| {
        let change = |facts: &mut Facts| {
            facts.host.machine.kernel = release.into();
            (facts.wanted.interface, facts.wanted.falls_back) = (Some("eth1".into()), falls_back);
        };
        changed("kernel", change).0
    };
    assert_eq!([with_xdp("5.9.2", true), with_xdp("5.10.0", true)], [Verdict::Warning, Verdict::Ok]);
    assert_eq!([with_xdp("5.9.2", false), with_xdp("5.10.0", false)], [Verdict::Fault, Verdict::Ok]);
    assert_eq!(changed("kernel", |facts| facts.host.machine.kernel = "?".into()).0, Verdict::Unknown);
    assert_eq!(changed("interface", |facts| facts.wanted.interface = Some("eth7".into())).0, Verdict::Fault);
    let (verdict, remedy) = changed("bpf_jit", |facts| facts.jit = Some(0));
    assert_eq!((verdict, remedy.as_str()), (Verdict::Warning, "echo 1 > /proc/sys/net/core/bpf_jit_enable"));
    let (verdict, _) = changed("transparent_huge_pages", |facts| facts.merged_pages = Some("never".into()));
    assert_eq!(verdict, Verdict::Advice);
}

#[test]
fn the_clock_is_not_before_the_files() {
    let newest = |ahead: i64| {
        changed("clock", |facts| facts.newest = Some(("/etc/ringdns/ringdns.toml".into(), facts.now + ahead)))
            .0
    };
    assert_eq!([newest(-5), newest(3600), newest(3 * 86_400)], [Verdict::Ok, Verdict::Ok, Verdict::Fault]);
    let none = |needs_time| {
        changed("clock", |facts| {
            facts.is_synchronised = None;
            facts.wanted.needs_time = needs_time;
        })
    };
    assert_eq!([none(true).0, none(false).0], [Verdict::Unknown; 2]);
    assert_eq!(changed("clock", |facts| facts.is_synchronised = Some(false)).0, Verdict::Warning);
}

#[test]
fn missing_capabilities_are_named_together() {
    let without = |interface: Option<&str>, daemon| {
        let interface = interface.map(str::to_owned);
        changed("capabilities", |facts| {
            facts.wanted.interface = interface;
            // NET_BIND_SERVICE (10), NET_ADMIN (12) and IPC_LOCK (14) alone.
            let few = 1 << 10 | 1 << 12 | 1 << 14;
            match daemon {
                true => facts.daemon = Some(Process { pid: 7, permitted: few, memlock: 8 << 20 }),
                false => facts.bounding = Some(few),
            }
        })
    };
    assert_eq!(without(None, true).0, Verdict::Ok);
    for daemon in [false, true] {
        let (verdict, remedy) = without(Some("eth1"), daemon);
        assert_eq!(verdict, Verdict::Fault);
        assert!(
            remedy.contains("CAP_BPF CAP_PERFMON CAP_NET_RAW") && !remedy.contains("NET_ADMIN"),
            "{remedy}"
        );
    }
    let (verdict, _) = changed("capabilities", |facts| {
        facts.wanted.interface = Some("eth1".into());
        facts.wanted.falls_back = true;
        facts.bounding = Some(1 << 10);
    });
    assert_eq!(verdict, Verdict::Warning, "kernel sockets serve");
    let bound_from = |first| {
        changed("capabilities", |facts| (facts.bounding, facts.unprivileged_port) = (Some(0), first)).0
    };
    assert_eq!([bound_from(None), bound_from(Some(0))], [Verdict::Fault, Verdict::Ok]);
    let locks = |permitted: u64, memlock| {
        changed("memlock", |facts| {
            facts.wanted.interface = Some("eth1".into());
            facts.nic = Some(nic("i40e", 4, 4));
            facts.daemon = Some(Process { pid: 7, permitted, memlock });
        })
    };
    assert_eq!(
        [locks(0, 8 << 20).0, locks(1 << 14, 8 << 20).0, locks(0, u64::MAX).0],
        [Verdict::Warning, Verdict::Ok, Verdict::Ok]
    );
}

#[test]
fn certificates_end() {
    let judged = |key: &str, validity| {
        let certificate = Certificate { key: key.into(), path: "/etc/cert.pem".into(), validity };
        changed("certificate", |facts| facts.certificates.push(certificate)).0
    };
    let now = host().now;
    let day = 86_400;
    let own = "redis.tls_cert_file";
    assert_eq!(judged(own, Ok(vec![(0, now + 90 * day)])), Verdict::Ok);
    assert_eq!(judged(own, Ok(vec![(0, now + 3 * day)])), Verdict::Warning);
    assert_eq!(
        judged(own, Ok(vec![(0, now - day), (0, now + 90 * day)])),
        Verdict::Fault,
        "the first is ours"
    );
    assert_eq!(judged("redis.tls_ca_file", Ok(vec![(0, now - day), (0, now + 90 * day)])), Verdict::Ok);
    assert_eq!(judged(own, Ok(vec![(now + day, now + 90 * day)])), Verdict::Fault);
    assert_eq!(judged(own, Ok(Vec::new())), Verdict::Fault);
    assert_eq!(judged(own, Err("no such file".into())), Verdict::Fault);
}

#[test]
fn the_network_of_upstreams_is_judged() {
    let ip = "192.0.2.1".parse().unwrap();
    let route = |from| Route { to: ip, from };
    let unreachable =
        changed("routes", |facts| facts.routes.push(route(Err("Network is unreachable".into()))));
    assert_eq!((unreachable.0, unreachable.1.as_str()), (Verdict::Fault, "ip route get 192.0.2.1"));
    let silent = |is_silent, routed: bool| {
        changed("neighbours", |facts| {
            facts.neighbours = Some(vec![Neighbour { ip, is_silent }]);
            facts.routes.extend(routed.then(|| route(Ok(ip))));
        })
        .0
    };
    assert_eq!(
        [silent(true, true), silent(true, false), silent(false, true)],
        [Verdict::Warning, Verdict::Ok, Verdict::Ok]
    );
    let asked = |results: &[Result<(), String>]| {
        let all = results.iter().map(|result| ("udp://192.0.2.1:53".to_owned(), result.clone())).collect();
        changed("upstream", |facts| facts.asked = Some(all)).0
    };
    let late = || Err("no answer within 2 s".to_owned());
    assert_eq!(
        [asked(&[Ok(())]), asked(&[late(), Ok(())]), asked(&[late(), late()])],
        [Verdict::Ok, Verdict::Warning, Verdict::Fault]
    );
    let absent = changed("addresses", |facts| facts.absent.push("192.0.2.53:53".parse().unwrap()));
    assert_eq!(absent.0, Verdict::Warning);
    let chain = || Some(vec!["inet filter input".to_owned()]);
    assert_eq!(changed("firewall", |facts| facts.dropping_chains = chain()).0, Verdict::Advice);
    assert_eq!(changed("firewall", |facts| facts.dropping_chains = None).0, Verdict::Unknown);
}

#[test]
fn problems_and_checks_of_ringdnsd_are_findings() {
    let kind = ringdns_api::ProblemKind::NoUpstream;
    let problem = Problem {
        kind,
        severity: kind.severity(),
        subject: String::new(),
        text: "no upstream answers".into(),
        since: 0,
    };
    assert_eq!(changed("no_upstream", |facts| facts.problems = Some(vec![problem])).0, Verdict::Fault);
    let checked = |severity| {
        let one = Checked {
            severity,
            key: "lists.dir".into(),
            reason: "/srv: read-only".into(),
            remedy: "give another".into(),
        };
        changed("config", |facts| facts.checked = Some(vec![one]))
    };
    assert_eq!(checked(CheckedSeverity::Error), (Verdict::Fault, "give another".to_owned()));
    assert_eq!(checked(CheckedSeverity::Warning).0, Verdict::Warning);
    assert_eq!(checked(CheckedSeverity::Unchecked).0, Verdict::Unknown);
}

#[test]
fn without_a_configuration_nothing_is_said_of_what_it_needs() {
    let (verdict, _) = changed("interface", |facts| facts.wanted.accepted = false);
    assert_eq!(verdict, Verdict::Unknown);
    let found = judge(&Facts { wanted: Wanted::default(), ..host() });
    for check in ["capabilities", "addresses"] {
        assert!(found.iter().all(|finding| finding.check != check), "{found:#?}");
    }
}
