//! Workers that are stuck: each keeps house once a second, asleep or not.

use std::time::Duration;

/// Number of looks, one a second, in which a worker may not have kept house before it counts as stuck.
/// A worker on a processor that others take keeps house late, but not that late.
const PATIENCE: u32 = 10;

/// Watch over the workers' signs of life.
#[derive(Debug, Default)]
pub struct StuckWorkers(Vec<Life>);

/// Sign of life of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    /// Number of times that it has kept house.
    kept: u64,
    /// Number of looks since it last did.
    silent: u32,
}

/// Change of a worker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StuckChange {
    /// It does not keep house any more.
    Stuck(usize),
    /// It keeps house again.
    Free(usize),
}

impl StuckWorkers {
    /// Looks at the numbers of times that the workers have kept house. Returns what has changed.
    pub fn look(&mut self, kept: impl IntoIterator<Item = u64>) -> Vec<StuckChange> {
        let mut changes = Vec::new();
        for (worker, kept) in kept.into_iter().enumerate() {
            if self.0.len() <= worker {
                self.0.push(Life { kept, silent: 0 });
                continue;
            }
            let life = &mut self.0[worker];
            let was_stuck = life.silent >= PATIENCE;
            life.silent = if life.kept == kept { life.silent.saturating_add(1) } else { 0 };
            life.kept = kept;
            match (was_stuck, life.silent >= PATIENCE) {
                (false, true) => changes.push(StuckChange::Stuck(worker)),
                (true, false) => changes.push(StuckChange::Free(worker)),
                _ => {}
            }
        }
        changes
    }

    /// Returns the numbers of the workers that are stuck.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter(|(_, life)| life.silent >= PATIENCE).map(|(worker, _)| worker)
    }
}

/// Returns a sentence about a worker that is stuck.
pub fn problem(worker: usize) -> String {
    format!(
        "worker {worker} has done nothing for {} s or more: the queries of its queue are not answered. Restart \
         ringdnsd, and report what `cat /proc/$(pidof ringdnsd)/task/*/stack` shows",
        Duration::from_secs(PATIENCE.into()).as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_a_sign_of_life_is_stuck_until_there_is_one() {
        let mut workers = StuckWorkers::default();
        let mut looks =
            |second, rounds: u64| (0..rounds).flat_map(|_| workers.look([second, 7])).collect::<Vec<_>>();
        assert_eq!(looks(1, PATIENCE.into()), [], "the first look has nothing to compare with");
        // Worker 1 says nothing from the first look on, worker 0 now and then.
        assert_eq!(looks(2, 1), [StuckChange::Stuck(1)]);
        assert_eq!(looks(3, u64::from(PATIENCE)), []);
        assert_eq!(looks(3, 2), [StuckChange::Stuck(0)]);
        assert_eq!(workers.all().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(workers.look([4, 7]), [StuckChange::Free(0)]);
        assert_eq!(workers.look([4, 8]), [StuckChange::Free(1)]);
        assert_eq!(workers.all().count(), 0);
    }
}
