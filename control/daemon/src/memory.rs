//! Memory that a configuration takes, against that which this machine and the control groups of the
//! process allow.

use ringdns_common::{
    cgroup::{CgroupLimits, MemoryLimit},
    cores::CorePlan,
};
use ringdns_config::{Config, Problem};
use ringdns_dataplane::{limiter, port::nic::Nic};
use ringdns_doctor::PACKET_MEMORY;
use rustix::system::sysinfo;
use std::fmt;

/// Memory in bytes for everything but caches, packets and the query log: a soak test with tiny
/// caches holds 34 MiB.
const BASE: u64 = 40 << 20;
/// Memory in bytes of the worker over kernel sockets behind AF_XDP.
const BEHIND: u64 = 10 << 20;
/// Smallest size of a cache in bytes.
const CACHE_MIN: u64 = 1 << 20;

/// Memory that the process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedMemory {
    bytes: u64,
    /// Control group's limit; `None`: the machine has no more.
    limit: Option<MemoryLimit>,
}

impl AllowedMemory {
    /// Reads what the machine has and the control groups allow.
    pub fn read() -> Self {
        Self::least(of_machine(), CgroupLimits::read().memory)
    }

    fn least(machine: u64, limit: Option<MemoryLimit>) -> Self {
        match limit.filter(|limit| limit.bytes < machine) {
            Some(limit) => AllowedMemory { bytes: limit.bytes, limit: Some(limit) },
            None => AllowedMemory { bytes: machine, limit: None },
        }
    }
}

impl fmt::Display for AllowedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB that ", self.bytes >> 20)?;
        match &self.limit {
            Some(limit) => write!(f, "{} allows", limit.file.display()),
            None => f.write_str("this machine has"),
        }
    }
}

/// Memory that a configuration takes, in bytes.
struct Need {
    workers: u64,
    /// All but the caches.
    fixed: u64,
}

impl Need {
    fn of(config: &Config) -> Self {
        let workers = workers(config) as u64;
        let rows = if config.query_log.enabled { config.query_log.bytes_per_worker } else { 0 };
        let limiter = if config.rate_limit.is_some() { limiter::BYTES as u64 } else { 0 };
        let pages = config.dnstap.as_ref().map_or(0, |dnstap| dnstap.bytes_per_worker);
        let each = (PACKET_MEMORY + limiter).saturating_add(rows).saturating_add(pages);
        let batches = config.shipping.as_ref().map_or(0, |shipping| 2 * shipping.batch_bytes as u64);
        let behind = if config.server.interface.is_some() { BEHIND } else { 0 };
        Need { workers, fixed: each.saturating_mul(workers).saturating_add(BASE + behind + batches) }
    }

    fn with_caches(&self, worker: u64, host: u64) -> u64 {
        worker.saturating_mul(self.workers).saturating_add(host).saturating_add(self.fixed)
    }
}

/// Returns the number of workers of a configuration.
pub fn workers(config: &Config) -> usize {
    let server = &config.server;
    match (&server.interface, &server.queues) {
        (Some(_), Some(queues)) => queues.len(),
        (Some(interface), None) => Nic::look(interface).queues.unwrap_or(1) as usize,
        // A reload asks on a thread that is pinned.
        (None, _) => CorePlan::of_process(server.workers).workers(),
    }
}

/// Lowers the sizes of caches that the file does not give, so that the configuration fits. Refuses
/// a configuration that does not fit even so.
pub fn fit(config: &mut Config, allowed: &AllowedMemory) -> Result<(), Problem> {
    let need = Need::of(config);
    let cache = &mut config.cache;
    let [worker, host] = [cache.bytes_per_worker, cache.host_bytes];
    if need.with_caches(worker, host) <= allowed.bytes {
        return Ok(());
    }
    let given = [cache.worker_given, cache.host_given];
    let [kept, open] = [true, false].map(|wanted| {
        let [worker, host] =
            [(given[0], worker), (given[1], host)].map(|(is, bytes)| bytes * u64::from(is == wanted));
        worker.saturating_mul(need.workers).saturating_add(host)
    });
    // The last quarter is for connections, sockets and what is in flight.
    let room = allowed.bytes.saturating_sub(need.fixed.saturating_add(kept)) / 4 * 3;
    let fitting = |is_given: bool, bytes: u64| {
        let share = u128::from(bytes) * u128::from(room) / u128::from(open.max(1));
        if is_given { bytes } else { (share as u64 & !(CACHE_MIN - 1)).max(CACHE_MIN) }
    };
    let fitted = [fitting(given[0], worker), fitting(given[1], host)];
    let all = need.with_caches(fitted[0], fitted[1]);
    if all > allowed.bytes {
        return Err(too_much([worker, host], given, &need, all, allowed));
    }
    [cache.bytes_per_worker, cache.host_bytes] = fitted;
    let [worker, host] = fitted.map(|bytes| bytes >> 20);
    tracing::info!(
        "cache.bytes_per_worker is {worker} MiB and cache.host_bytes {host} MiB, to fit into the {allowed}"
    );
    Ok(())
}

fn too_much(sizes: [u64; 2], given: [bool; 2], need: &Need, all: u64, allowed: &AllowedMemory) -> Problem {
    let workers = if need.workers == 1 { "1 worker".into() } else { format!("{} workers", need.workers) };
    let in_all = format!("{} MiB in all with {workers}, more than the {allowed}", all >> 20);
    let keys = ["cache.bytes_per_worker", "cache.host_bytes"];
    let largest = (0..2).filter(|key| given[*key]).max_by_key(|key| sizes[*key]);
    match largest {
        Some(key) => {
            let reason = format!("{} MiB is {in_all}", sizes[key] >> 20);
            Problem::new(
                keys[key],
                reason,
                "Lower it, remove the key for a size that fits, or raise the limit",
            )
        }
        None => {
            let reason = format!("ringdnsd takes {in_all}, even with the smallest caches");
            Problem::new("server.workers", reason, "Raise the limit, or have fewer workers")
        }
    }
}

/// Returns the memory of this machine in bytes.
fn of_machine() -> u64 {
    let info = sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(lines: &str) -> Config {
        let text =
            format!("[[upstream]]\naddress = \"192.0.2.1\"\n[server]\nlisten = [\"127.0.0.1:53\"]\n{lines}");
        Config::parse(&text, Path::new("ringdns.toml")).unwrap()
    }

    fn allowed(mib: u64) -> AllowedMemory {
        AllowedMemory::least(u64::MAX, Some(MemoryLimit { bytes: mib << 20, file: "memory.max".into() }))
    }

    /// Returns the sizes of a worker's cache and of the host's in MiB.
    fn fitted(lines: &str, mib: u64) -> Result<[u64; 2], Problem> {
        let mut config = config(lines);
        fit(&mut config, &allowed(mib))?;
        Ok([config.cache.bytes_per_worker, config.cache.host_bytes].map(|bytes| bytes >> 20))
    }

    #[test]
    fn defaults_are_lowered_to_fit() {
        let two = "workers = 2";
        // 40 MiB, and twice 64 MiB and 8 MiB of packets, and 256 MiB.
        assert_eq!(fitted(two, 440).unwrap(), [64, 256]);
        assert_eq!(fitted(two, 439).unwrap(), [47, 191]);
        assert_eq!(fitted("workers = 1", 96).unwrap(), [7, 28]);
        assert_eq!(fitted(two, 59).unwrap(), [1, 1], "the least");
        let problem = fitted(two, 58).unwrap_err();
        assert_eq!(problem.key, "server.workers");
        assert!(
            problem.reason.contains("59 MiB in all with 2 workers, more than the 58 MiB that memory.max")
        );
    }

    #[test]
    fn sizes_of_the_file_are_kept_or_refused_under_the_larger_key() {
        let three = "workers = 3\n[cache]\nhost_bytes = \"1GiB\"";
        assert_eq!(fitted(three, 1240).unwrap(), [38, 1024]);
        // 40 MiB, three times 8 MiB and 1 MiB, and 1 GiB.
        assert_eq!(fitted(three, 1091).unwrap(), [1, 1024]);
        let problem = fitted(three, 1090).unwrap_err();
        assert_eq!(problem.key, "cache.host_bytes");
        assert!(problem.reason.starts_with("1024 MiB is 1091 MiB in all with 3 workers"), "{problem}");
        let both = "workers = 1\n[cache]\nbytes_per_worker = \"64MiB\"\nhost_bytes = \"32MiB\"";
        assert_eq!(fitted(both, 144).unwrap(), [64, 32]);
        assert_eq!(fitted(both, 143).unwrap_err().key, "cache.bytes_per_worker");
    }

    #[test]
    fn the_rate_limit_counts_too() {
        for (limit, least) in [("", 50), ("[rate_limit]\nper_second = 200", 54)] {
            assert!(fitted(&format!("workers = 1\n{limit}"), least).is_ok(), "{limit}");
            assert!(fitted(&format!("workers = 1\n{limit}"), least - 1).is_err(), "{limit}");
        }
    }

    #[test]
    fn the_query_log_counts_too() {
        let log = "workers = 1\n[query_log]\nenabled = true\nbytes_per_worker = \"32MiB\"";
        assert!(fitted(log, 82).is_ok());
        assert!(fitted(log, 81).is_err());
    }

    #[test]
    fn the_pages_of_dnstap_count_too() {
        let dnstap = "workers = 1\n[dnstap]\nsocket = \"/s\"\nbytes_per_worker = \"32MiB\"";
        assert!(fitted(dnstap, 82).is_ok());
        assert!(fitted(dnstap, 81).is_err());
    }

    #[test]
    fn the_least_of_machine_and_group_counts() {
        let limit = |bytes| Some(MemoryLimit { bytes, file: "memory.max".into() });
        assert_eq!(AllowedMemory::least(100, limit(99)).bytes, 99);
        assert_eq!(AllowedMemory::least(100, limit(101)), AllowedMemory { bytes: 100, limit: None });
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let kib: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(of_machine() / 1024, kib);
    }
}
