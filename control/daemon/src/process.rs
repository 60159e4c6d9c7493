//! Resource usage and limits of this process.

use crate::workers;
use procfs::{ProcResult, process::LimitValue, process::Process};
use ringdns_api::ResourceUsage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

/// Reads the resource usage of this process.
pub fn resource_usage() -> ProcResult<ResourceUsage> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let open_files_max = match process.limits()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    };
    Ok(ResourceUsage {
        resident_bytes: stat.rss * procfs::page_size(),
        virtual_bytes: stat.vsize,
        allocated_bytes: allocated(),
        open_files: process.fd_count()? as u64,
        open_files_max,
        threads: stat.num_threads.unsigned_abs(),
        cpu_secs: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
    })
}

/// Resource usage of a worker's thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerUsage {
    /// Number of the worker.
    pub worker: usize,
    /// Processor time since its start in seconds.
    pub cpu_secs: f64,
    /// Times that the kernel took the core away from it.
    pub preempted: u64,
    /// Page faults that the kernel served from memory, mostly first writes.
    pub minor_faults: u64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
}

/// Reads the resource usage of all workers' threads, in the order of their numbers.
pub fn worker_usage() -> ProcResult<Vec<WorkerUsage>> {
    let mut workers = Vec::new();
    // A thread may end while the others are read.
    for thread in Process::myself()?.tasks()?.flatten() {
        let (Ok(stat), Ok(status)) = (thread.stat(), thread.status()) else { continue };
        let Some(worker) = workers::number_of_thread(&stat.comm) else { continue };
        workers.push(WorkerUsage {
            worker,
            cpu_secs: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            preempted: status.nonvoluntary_ctxt_switches.unwrap_or_default(),
            minor_faults: stat.minflt,
            major_faults: stat.majflt,
        });
    }
    workers.sort_by_key(|usage| usage.worker);
    Ok(workers)
}

/// Raises the limit of open files to its maximum and returns it: at worst each question in flight
/// has a socket of its own.
pub fn raise_file_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Without permission the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    file_limit()
}

/// Keeps signals from ending the process that it does not know, or does not expect yet: a reload may
/// be asked for while it starts. tokio's handler stays when its receiver is gone.
pub fn keep_signals() -> io::Result<()> {
    let kinds =
        [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()];
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { kinds.into_iter().try_for_each(|kind| signal(kind).map(drop)) })
}

/// Returns the number of files and sockets that this process may have open.
pub fn file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Returns the bytes allocated, from jemalloc's statistics, which it refreshes first.
fn allocated() -> u64 {
    let read = tikv_jemalloc_ctl::epoch::advance().and_then(|_| tikv_jemalloc_ctl::stats::allocated::read());
    read.unwrap_or_default() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, hint::black_box, sync::mpsc, thread};

    #[test]
    fn what_is_taken_is_seen() {
        let (before, after) = (resource_usage().unwrap(), resource_usage().unwrap());
        assert!(after.virtual_bytes > after.resident_bytes && after.threads >= 1, "{after:?}");
        assert!(after.cpu_secs >= before.cpu_secs && after.open_files_max.is_some_and(|most| most > 50));
    }

    /// Other tests of this process may have workers of their own.
    #[test]
    fn page_faults_of_workers_are_counted_and_those_of_other_threads_are_not() {
        const NUMBER: usize = 4_711;
        let usage = || worker_usage().unwrap().into_iter().find(|usage| usage.worker == NUMBER);
        let of_other = thread::Builder::new().name(format!("helper-{NUMBER}")).spawn(usage);
        assert_eq!(of_other.unwrap().join().unwrap(), None);

        let (orders, work) = mpsc::channel::<usize>();
        let (done, finished) = mpsc::channel();
        let task = move || {
            for pages in work {
                black_box(vec![1u8; pages * 4_096]);
                done.send(()).unwrap();
            }
        };
        let worker = thread::Builder::new().name(workers::thread_name(NUMBER)).spawn(task).unwrap();
        let used_after = |pages| {
            orders.send(pages).unwrap();
            finished.recv().unwrap();
            usage().unwrap()
        };
        // A huge page takes one fault, so that there are at least as many as huge pages.
        let (before, after) = (used_after(1), used_after(64 * 512));
        assert!(after.minor_faults >= before.minor_faults + 32, "{before:?} {after:?}");
        assert!(after.cpu_secs >= before.cpu_secs && after.preempted >= before.preempted, "{after:?}");
        drop(orders);
        worker.join().unwrap();
    }

    /// Other tests of this process allocate and free meanwhile, but not that much every time.
    #[test]
    fn memory_is_counted() {
        let counts = || {
            let before = resource_usage().unwrap().resident_bytes;
            let memory = black_box(vec![1u8; 64 << 20]);
            resource_usage().unwrap().resident_bytes >= before + memory.len() as u64 * 3 / 4
        };
        assert!((0..20).any(|_| counts()));
    }

    /// Other tests of this process open and close files meanwhile, but not that many every time.
    #[test]
    fn open_files_are_counted() {
        let counts = || {
            let before = resource_usage().unwrap().open_files;
            let files: Vec<_> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
            resource_usage().unwrap().open_files == before + files.len() as u64
        };
        assert!((0..1000).any(|_| counts()));
    }
}
