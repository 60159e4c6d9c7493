//! Runs of replies: several of one length to one client, which the kernel takes as one message and
//! cuts into datagrams again (UDP_SEGMENT, Linux 4.18). Most of the work of a reply over kernel
//! sockets is done once for a run: see `docs/design/packet-path.md`.

use super::BATCH;
use arrayvec::ArrayVec;

/// Most replies of a run: `UDP_MAX_SEGMENTS` of Linux before 6.9.
const RUN_MAX: u16 = 64;
/// Most bytes of a run: those of an IP packet, less its headers.
const BYTES_MAX: usize = 65_535 - 48;
/// Number of places for runs that may grow, by hash. If two runs want one place, the older one grows
/// no more.
const PLACES: usize = 2 * BATCH;

/// Replies in the order in which they are sent, by their numbers in the backlog.
pub(super) struct Runs {
    runs: ArrayVec<Run, BATCH>,
    /// Number of the reply that follows in the run of each reply.
    next: [u16; BATCH],
    places: [Place; PLACES],
    /// Number of the current order, so that places of earlier ones need not be cleared.
    round: u32,
}

/// Run of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Number of the first reply.
    pub(super) first: u16,
    /// Number of the last reply.
    last: u16,
    /// Number of replies.
    pub(super) count: u16,
    /// Length of each reply, in bytes.
    pub(super) len: u16,
}

#[derive(Clone, Copy, Default)]
struct Place {
    round: u32,
    run: u16,
}

impl Runs {
    pub(super) fn new() -> Self {
        Runs { runs: ArrayVec::new(), next: [0; BATCH], places: [Place::default(); PLACES], round: 0 }
    }

    /// Forgets all replies.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.round = self.round.wrapping_add(1);
    }

    /// Adds the reply of a number, which is greater than those before, with its length and the hash
    /// of its client. It joins a run whose first reply `is_alike`; `None`: it is sent alone.
    pub(super) fn add(
        &mut self,
        number: usize,
        len: usize,
        hash: Option<u64>,
        is_alike: impl FnOnce(usize) -> bool,
    ) {
        let (number, len) = (number as u16, len as u16);
        let alone = Run { first: number, last: number, count: 1, len };
        let Some(hash) = hash else { return self.runs.push(alone) };
        let mixed = (hash ^ u64::from(len)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let place = &mut self.places[(mixed >> 32) as usize % PLACES];
        if place.round == self.round
            && let Some(run) = self.runs.get_mut(usize::from(place.run))
            && run.len == len
            && run.count < RUN_MAX
            && usize::from(len) * usize::from(run.count + 1) <= BYTES_MAX
            && is_alike(usize::from(run.first))
        {
            self.next[usize::from(run.last)] = number;
            run.last = number;
            run.count += 1;
            return;
        }
        *place = Place { round: self.round, run: self.runs.len() as u16 };
        self.runs.push(alone);
    }

    /// Returns the runs, in the order of their first replies.
    pub(super) fn as_slice(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the numbers of a run's replies.
    pub(super) fn replies(&self, run: Run) -> impl Iterator<Item = usize> + '_ {
        let following = move |number: &usize| self.next.get(*number).map(|next| usize::from(*next));
        std::iter::successors(Some(usize::from(run.first)), following).take(usize::from(run.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the numbers of each run, where replies have a client and a length.
    fn runs_of(replies: &[(u64, usize)]) -> Vec<Vec<usize>> {
        let mut runs = Box::new(Runs::new());
        for _ in 0..2 {
            runs.clear();
            for (number, (client, len)) in replies.iter().enumerate() {
                runs.add(number, *len, Some(*client), |first| replies[first].0 == *client);
            }
        }
        runs.as_slice().iter().map(|run| runs.replies(*run).collect()).collect()
    }

    #[test]
    fn replies_of_one_length_to_one_client_are_a_run() {
        let replies = [(1, 50), (2, 50), (1, 50), (1, 60), (2, 50), (1, 50)];
        assert_eq!(runs_of(&replies), [vec![0, 2, 5], vec![1, 4], vec![3]]);
    }

    #[test]
    fn a_run_has_no_more_than_the_kernel_takes() {
        let counts =
            |len, count: usize| runs_of(&vec![(1, len); count]).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(counts(50, 130), [64, 64, 2]);
        assert_eq!(counts(1232, 100), [53, 47], "no more than 65,487 bytes");
    }

    #[test]
    fn a_reply_that_is_to_be_sent_alone_joins_no_run() {
        let mut runs = Box::new(Runs::new());
        runs.clear();
        (0..3).for_each(|number| runs.add(number, 50, None, |_| true));
        assert_eq!(runs.as_slice().len(), 3);
    }

    proptest! {
        #[test]
        fn every_reply_is_in_one_run_of_its_like(
            replies in proptest::collection::vec((0..20u64, 40..44usize), 0..=BATCH)
        ) {
            let runs = runs_of(&replies);
            let mut seen: Vec<usize> = runs.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert!(seen.iter().copied().eq(0..replies.len()));
            prop_assert!(runs.is_sorted_by_key(|run| run[0]));
            for run in runs {
                prop_assert!(run.iter().all(|number| replies[*number] == replies[run[0]]) && run.is_sorted());
            }
        }
    }
}
