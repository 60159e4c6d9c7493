//! Assignment of cores to workers and to the control plane.

use crate::cgroup::CgroupLimits;
use core_affinity::CoreId;
use rustix::{
    process::getpid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Assignment of the cores that the process may run on: in a container fewer than the machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// All cores of the process.
    cores: Vec<CoreId>,
    /// Number of workers. They occupy the cores from the last one down.
    workers: usize,
    /// Number of cores that the process may keep busy all the time, at least one.
    busy: usize,
}

impl CorePlan {
    /// Returns a plan for the cores of this thread and `workers` workers; `None`: one worker per core,
    /// less one for the control plane, and at least one. Cores that control groups allow no time for do
    /// not count.
    pub fn new(workers: Option<usize>) -> Self {
        Self::over(core_affinity::get_core_ids().unwrap_or_default(), workers, CgroupLimits::read().cpus)
    }

    /// Returns a plan for the cores of the main thread, which no plan pins: a thread that is pinned sees
    /// its own cores alone.
    pub fn of_process(workers: Option<usize>) -> Self {
        let set = sched_getaffinity(Some(getpid())).unwrap_or_else(|_| CpuSet::new());
        let cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).map(|id| CoreId { id });
        Self::over(cores.collect(), workers, CgroupLimits::read().cpus)
    }

    fn over(cores: Vec<CoreId>, workers: Option<usize>, cpus: Option<f64>) -> Self {
        let busy = cpus.map_or(cores.len(), |cpus| cores.len().min(cpus as usize)).max(1);
        let workers = workers.unwrap_or_else(|| (busy - 1).max(1));
        CorePlan { cores, workers, busy }
    }

    /// Returns the number of workers.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Returns the number of cores that the process may keep busy all the time.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Returns the core of worker number `worker`, if cores are known. The first core is assigned
    /// last: interrupts go there by default.
    pub fn of_worker(&self, worker: usize) -> Vec<CoreId> {
        self.cores.iter().rev().cycle().nth(worker).copied().into_iter().collect()
    }

    /// Whether worker number `worker` has its core to itself. The answer does not depend on the
    /// number of workers: the control plane keeps the first core or, if each core has a worker,
    /// runs on all.
    pub fn is_alone(&self, worker: usize) -> bool {
        worker + 1 < self.busy
    }

    /// Returns the cores without a worker, or all cores if each has one.
    pub fn of_control(&self) -> &[CoreId] {
        match self.cores.len().saturating_sub(self.workers) {
            0 => &self.cores,
            left => &self.cores[..left],
        }
    }

    /// Whether each core has a worker, so that the control plane shares its cores with workers.
    pub fn is_shared(&self) -> bool {
        self.cores.len() <= self.workers
    }
}

/// Pins this thread to these cores. With none given, it runs anywhere.
pub fn sit(cores: &[CoreId]) {
    match cores {
        [] => {}
        [core] if core_affinity::set_for_current(*core) => {}
        _ => {
            let mut set = CpuSet::new();
            cores.iter().filter(|core| core.id < CpuSet::MAX_CPU).for_each(|core| set.set(core.id));
            if let Err(error) = sched_setaffinity(None, &set) {
                tracing::warn!(?cores, %error, "cannot pin a thread to its cores; latency will vary");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(cores: &[CoreId]) -> Vec<usize> {
        cores.iter().map(|core| core.id).collect()
    }

    fn plan(cores: &[usize], workers: Option<usize>) -> CorePlan {
        limited(cores, workers, None)
    }

    fn limited(cores: &[usize], workers: Option<usize>, cpus: Option<f64>) -> CorePlan {
        CorePlan::over(cores.iter().map(|id| CoreId { id: *id }).collect(), workers, cpus)
    }

    #[test]
    fn a_limit_of_processor_time_leaves_fewer_workers() {
        let default = |cpus| limited(&[0, 1, 2, 3], None, Some(cpus)).workers();
        assert_eq!([0.5, 1.5, 2.0, 3.9, 4.0, 64.0].map(default), [1, 1, 1, 2, 3, 3]);
        let plan = limited(&[0, 1, 2, 3], Some(3), Some(2.5));
        assert_eq!(plan.workers(), 3, "as the file says");
        assert_eq!([0, 1, 2].map(|worker| plan.is_alone(worker)), [true, false, false], "no time to spin");
        assert_eq!(ids(plan.of_control()), [0]);
    }

    #[test]
    fn workers_and_control_plane_stay_apart_while_there_are_cores() {
        let plan = plan(&[0, 1, 4, 5], Some(2));
        assert_eq!([0, 1].map(|w| plan.of_worker(w)[0].id), [5, 4]);
        assert_eq!(ids(plan.of_control()), [0, 1]);
        assert!(!plan.is_shared());
    }

    #[test]
    fn with_more_workers_than_cores_they_share() {
        let plan = plan(&[2, 3], Some(3));
        assert_eq!([0, 1, 2].map(|w| plan.of_worker(w)[0].id), [3, 2, 3]);
        assert_eq!(ids(plan.of_control()), [2, 3]);
        assert!(plan.is_shared());
        assert_eq!([0, 1, 2].map(|w| plan.is_alone(w)), [true, false, false]);
    }

    #[test]
    fn one_core_is_left_by_default() {
        assert!(!plan(&[7], None).is_alone(0), "it would spin while the control plane waits for the core");
        assert!(plan(&[7], None).is_shared());
        assert_eq!(plan(&[0, 1, 2, 3], None).workers(), 3);
        assert_eq!(plan(&[7], None).workers(), 1);
        assert_eq!((plan(&[], None).workers(), plan(&[], None).of_worker(0)), (1, vec![]));
    }

    #[test]
    fn a_thread_that_is_pinned_knows_the_cores_of_the_process() {
        let all = CorePlan::of_process(None);
        let first = all.of_control()[0];
        let pinned = std::thread::spawn(move || {
            sit(&[first]);
            CorePlan::of_process(None)
        });
        assert_eq!(pinned.join().unwrap(), all);
        assert!((1..=all.cores.len()).contains(&all.busy()), "{all:?}");
    }

    #[test]
    fn a_plan_keeps_to_the_process_affinity() {
        let only = core_affinity::get_core_ids().unwrap()[0];
        std::thread::spawn(move || {
            sit(&[only]);
            let plan = CorePlan::new(None);
            assert_eq!((plan.workers(), plan.of_worker(0)), (1, vec![only]));
        })
        .join()
        .unwrap();
    }
}
