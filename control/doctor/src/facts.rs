//! Facts that are gathered, and the ways to them.

use crate::{
    access::Access,
    certificate::Certificate,
    host::Host,
    neighbours::{Neighbour, neighbours},
    nic::{Nic, class, number, text},
    upstreams,
    wanted::Wanted,
};
use procfs::process::{LimitValue, all_processes};
use ringdns_api::Problem;
use ringdns_common::cores::CorePlan;
use ringdns_config::UpstreamAddress;
use ringdns_dataplane::{clock::Clock, port::udp};
use serde::Deserialize;
use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Name of the daemon, as the kernel has it.
const DAEMON: &str = "ringdnsd";

/// Ways to facts that a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything: `ringctl`.
    All,
    /// Without starting programs, looking at other processes, or asking upstreams: ringdnsd.
    Inside,
}

/// Facts that the checks compare. `None`: cannot be read here.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Requirements of the configuration.
    pub wanted: Wanted,
    /// Host.
    pub host: Host,
    /// NIC of the configuration, if it exists.
    pub nic: Option<Nic>,
    /// Ways to this host, beside the NIC of the configuration.
    pub access: Option<Access>,
    /// Whether VLAN devices are on the interface.
    pub has_vlan_devices: bool,
    /// Number of cores of this process.
    pub cores: usize,
    /// Number of workers that these cores are enough for.
    pub workers: u32,
    /// Core of each worker.
    pub worker_cores: Vec<usize>,
    /// Value of `net.core.bpf_jit_enable`.
    pub jit: Option<u32>,
    /// Setting of transparent huge pages: `always`, `madvise` or `never`.
    pub merged_pages: Option<String>,
    /// Whether `irqbalance` runs.
    pub irqbalance: Option<bool>,
    /// Capabilities that no process of this host can exceed.
    pub bounding: Option<u64>,
    /// First port that needs no capability.
    pub unprivileged_port: Option<u16>,
    /// ringdnsd that runs.
    pub daemon: Option<Process>,
    /// Bytes of memory that a process may lock, as this process may; `u64::MAX`: without limit.
    pub memlock: Option<u64>,
    /// Neighbours.
    pub neighbours: Option<Vec<Neighbour>>,
    /// Gateways of default routes.
    pub gateways: Vec<IpAddr>,
    /// Routes to the upstreams.
    pub routes: Vec<Route>,
    /// Addresses of the configuration that no interface has.
    pub absent: Vec<SocketAddr>,
    /// Chains of nftables that drop packets to this host by default, if nftables could be asked.
    pub dropping_chains: Option<Vec<String>>,
    /// Unix time.
    pub now: i64,
    /// Newest file of the package and the configuration, with its Unix time.
    pub newest: Option<(PathBuf, i64)>,
    /// Whether a service keeps the clock right, as far as its files tell.
    pub is_synchronised: Option<bool>,
    /// Results of questions to upstreams, with their names.
    pub asked: Option<Vec<(String, Result<(), String>)>>,
    /// Findings of `ringdnsd --check`.
    pub checked: Option<Vec<Checked>>,
    /// Files with certificates.
    pub certificates: Vec<Certificate>,
    /// Problems of the ringdnsd that runs.
    pub problems: Option<Vec<Problem>>,
}

/// Process of ringdnsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Number of the process.
    pub pid: i32,
    /// Permitted capabilities.
    pub permitted: u64,
    /// Bytes of memory that it may lock; `u64::MAX`: without limit.
    pub memlock: u64,
}

/// Route to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Address of the upstream.
    pub to: IpAddr,
    /// Source address of packets, or the reason why there is no route.
    pub from: Result<IpAddr, String>,
}

/// Finding of `ringdnsd --check`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Checked {
    /// Meaning for a start.
    pub severity: CheckedSeverity,
    /// Path of the key; empty if there is none.
    pub key: String,
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: String,
}

/// Meaning of a finding for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckedSeverity {
    /// A start would be refused.
    Error,
    /// A part will fail later.
    Warning,
    /// The user may not see it.
    Unchecked,
}

impl Facts {
    /// Reads the facts that this process reaches. `files`: files that are older than the present, such as
    /// the configuration. `problems`: those that a running ringdnsd told. What `ringdnsd --check` finds is left
    /// to the caller.
    pub fn gather(wanted: Wanted, files: &[&Path], reach: Reach, problems: Option<Vec<Problem>>) -> Self {
        let all = reach == Reach::All;
        let exists = |interface: &&String| class(interface).exists();
        let read = if all { Nic::read } else { Nic::read_without_programs };
        let nic = wanted.interface.as_ref().filter(exists).map(|interface| read(interface));
        // In ringdnsd, this thread is pinned to the cores without a worker.
        let plan = CorePlan::of_process(None);
        let (cores, workers) = (plan.busy(), plan.workers() as u32);
        let queues = nic.as_ref().map_or(workers, |nic| nic.queues().max(workers));
        let plan = CorePlan::of_process(Some(queues as usize));
        let core = |worker| plan.of_worker(worker as usize).first().map(|core| core.id);
        let targets = wanted.upstreams.iter().flat_map(|upstream| &upstream.addresses);
        let daemon = if all { daemon() } else { own() };
        // A running ringdnsd says how its upstreams do. One that answers runs, even if /proc hides it. This comes
        // first: it makes the kernel look for neighbours.
        let has_daemon = daemon.is_some() || problems.is_some();
        let asked = (all && !has_daemon).then(|| upstreams::ask(&wanted.upstreams));
        Facts {
            host: Host::read(),
            access: nic.as_ref().filter(|_| all).map(|nic| Access::read(&nic.interface)),
            has_vlan_devices: wanted.interface.as_deref().is_some_and(has_vlan_devices),
            cores,
            workers,
            worker_cores: (0..queues).map_while(core).collect(),
            jit: number(Path::new("/proc/sys/net/core/bpf_jit_enable")),
            merged_pages: text(Path::new(MERGED_PAGES)).and_then(|text| chosen(&text)),
            irqbalance: all.then(|| is_running("irqbalance")),
            bounding: bounding(),
            unprivileged_port: number(Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start")),
            daemon,
            memlock: own().map(|process| process.memlock),
            neighbours: neighbours().ok(),
            gateways: gateways(&text(Path::new("/proc/net/route")).unwrap_or_default()),
            routes: targets.map(route).collect(),
            absent: wanted.listen.iter().copied().filter(|address| !udp::is_here(*address)).collect(),
            dropping_chains: all.then(dropping_chains).flatten(),
            now: Clock::start().unix() as i64,
            newest: newest(files),
            is_synchronised: is_synchronised(),
            asked,
            certificates: wanted
                .certificates
                .iter()
                .map(|(key, path)| Certificate::read(key, path))
                .collect(),
            nic,
            checked: None,
            problems,
            wanted,
        }
    }
}

/// Returns the route to an address.
fn route(address: &UpstreamAddress) -> Route {
    let from = upstreams::socket_address(address)
        .and_then(|address| upstreams::connected(address)?.local_addr())
        .map(|from| from.ip())
        .map_err(|error| error.to_string());
    Route { to: address.ip, from }
}

/// File of the setting of transparent huge pages.
pub const MERGED_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Returns the word in brackets, which is the one in force.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// Returns the newest of some files and of this program.
fn newest(files: &[&Path]) -> Option<(PathBuf, i64)> {
    let program = env::current_exe().ok();
    let all = files.iter().map(|path| path.to_path_buf()).chain(program);
    let dated = all.filter_map(|path| {
        let changed = fs::metadata(&path).ok()?.mtime();
        Some((path, changed))
    });
    dated.max_by_key(|(_, changed)| *changed)
}

/// Whether VLAN devices are on an interface. The kernel shows those of the network namespace.
fn has_vlan_devices(interface: &str) -> bool {
    let table = fs::read_to_string("/proc/net/vlan/config").unwrap_or_default();
    table.lines().any(|line| line.rsplit('|').next().is_some_and(|device| device.trim() == interface))
}

/// Returns the bounding set of capabilities of this process.
fn bounding() -> Option<u64> {
    procfs::process::Process::myself().ok()?.status().ok()?.capbnd
}

fn is_running(name: &str) -> bool {
    let named = |process: procfs::process::Process| process.stat().is_ok_and(|stat| stat.comm == name);
    all_processes().is_ok_and(|all| all.flatten().any(named))
}

/// Returns this process, which is ringdnsd.
fn own() -> Option<Process> {
    facts_of(&procfs::process::Process::myself().ok()?)
}

/// Returns the facts about a process.
fn facts_of(process: &procfs::process::Process) -> Option<Process> {
    let memlock = match process.limits().ok()?.max_locked_memory.soft_limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(bytes) => bytes,
    };
    Some(Process { pid: process.pid(), permitted: process.status().ok()?.capprm, memlock })
}

/// Returns the ringdnsd of this network namespace.
pub fn daemon() -> Option<Process> {
    let own = fs::read_link("/proc/self/ns/net").ok()?;
    let is_ours = |process: &procfs::process::Process| {
        let is_it = process.stat().is_ok_and(|stat| stat.comm == DAEMON && stat.state != 'Z');
        is_it && fs::read_link(format!("/proc/{}/ns/net", process.pid())).is_ok_and(|its| its == own)
    };
    facts_of(&all_processes().ok()?.flatten().find(is_ours)?)
}

/// Reads the gateways of default routes from `/proc/net/route`.
fn gateways(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()).into())
    };
    table.lines().filter_map(gateway).collect()
}

/// Asks nftables for its chains that drop packets to this host by default. `None`: it cannot be asked.
fn dropping_chains() -> Option<Vec<String>> {
    let output = Command::new("nft").args(["--json", "list", "chains"]).output().ok()?;
    output.status.success().then(|| dropping(&output.stdout)).flatten()
}

fn dropping(json: &[u8]) -> Option<Vec<String>> {
    let all: serde_json::Value = serde_json::from_slice(json).ok()?;
    let chains = all["nftables"].as_array()?.iter().map(|item| &item["chain"]);
    let sees_queries = |chain: &serde_json::Value| {
        let word = |name: &str| chain[name].as_str().unwrap_or_default();
        matches!(
            (word("family"), word("hook")),
            ("inet" | "ip" | "ip6" | "bridge", "input") | ("inet" | "netdev", "ingress")
        )
    };
    let drops = chains.filter(|chain| sees_queries(chain) && chain["policy"] == "drop");
    let name = |chain: &serde_json::Value| {
        let word = |name: &str| chain[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word("family"), word("table"), word("name"))
    };
    Some(drops.map(name).collect())
}

/// Whether a service keeps the clock right. The files of services tell; `None`: there are none.
fn is_synchronised() -> Option<bool> {
    let runs = |path: &str| Path::new(path).exists();
    if runs("/run/systemd/timesync/synchronized") || runs("/run/chrony") || runs("/run/ntpd.pid") {
        return Some(true);
    }
    runs("/run/systemd/timesync").then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_those_of_default_routes() {
        let table = "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t010200C0\t0003\neth0\t000200C0\t00000000\t0001\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(gateways(table), expected);
    }

    #[test]
    fn the_setting_in_force_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn chains_that_drop_by_default_are_named() {
        let json = br#"{"nftables":[{"metainfo":{}},{"chain":{"family":"inet","table":"filter","name":"input","hook":"input","policy":"drop"}},
            {"chain":{"family":"inet","table":"filter","name":"output","hook":"output","policy":"drop"}}]}"#;
        assert_eq!(dropping(json), Some(vec!["inet filter input".to_owned()]));
        assert_eq!(dropping(b"no JSON"), None);
    }

    #[test]
    fn chains_that_see_no_query_are_no_firewall() {
        let dropped = |family: &str, hook: &str| {
            let chain = serde_json::json!({
                "family": family, "table": "t", "name": "c", "hook": hook, "policy": "drop",
            });
            let json = serde_json::json!({ "nftables": [{ "chain": chain }] });
            dropping(json.to_string().as_bytes()).unwrap().len()
        };
        let input = ["inet", "ip", "ip6", "bridge", "arp", "netdev"].map(|family| dropped(family, "input"));
        assert_eq!(input, [1, 1, 1, 1, 0, 0]);
        assert_eq!(["netdev", "inet", "arp"].map(|family| dropped(family, "ingress")), [1, 1, 0]);
        assert_eq!(["netdev", "inet"].map(|family| dropped(family, "egress")), [0, 0]);
    }

    #[test]
    fn a_host_is_read_without_a_configuration() {
        let facts = Facts::gather(Wanted::default(), &[], Reach::Inside, None);
        assert!(facts.cores > 0 && facts.bounding.is_some() && facts.asked.is_none());
        assert!(!facts.worker_cores.is_empty(), "{facts:?}");
    }

    #[test]
    fn a_ringdnsd_that_answers_runs() {
        let facts = Facts::gather(Wanted::default(), &[], Reach::All, Some(Vec::new()));
        assert_eq!(facts.asked, None, "it says itself how its upstreams do");
    }
}
