//! Unused punt records of a worker, and the number of records that each client holds.
//!
//! A client may hold fewer than four times as many records as are unused: the dynamic thresholds by
//! which switches share their buffers (Choudhury and Hahne, 1998). One client gets at most four
//! fifths of the records, two get four ninths each. So a client that asks for more than the control
//! plane can take cannot keep the records from others. The control plane has a stricter rule for what
//! it has taken, and answers what is over; a worker drops it.

use crate::{cache::KeyedHash, punt::Punt, stats::DropReason};

/// A client may hold fewer than this many times the unused records.
const CLIENT_TIMES: usize = 4;
/// Number of counters; a power of two. Two clients share one by chance only, since the hash is keyed.
const CELLS: usize = 1 << 13;

/// Unused records. They are boxed because they leave one at a time.
type Unused = Vec<Box<Punt>>;

/// Pool of punt records.
pub struct RecordPool {
    unused: Unused,
    /// Number of records that the clients of each cell hold.
    held: Box<[u16; CELLS]>,
    hash: KeyedHash,
}

impl RecordPool {
    /// Creates a pool of `records`.
    pub fn new(records: usize, hash: KeyedHash) -> Self {
        RecordPool { unused: (0..records).map(|_| Punt::new()).collect(), held: Box::new([0; CELLS]), hash }
    }

    /// Takes a record for a client, which is given by its network.
    ///
    /// # Errors
    /// All records are in use, or this client holds its share.
    #[inline]
    pub fn take(&mut self, client: u64) -> Result<Box<Punt>, DropReason> {
        let cell = self.hash.of_network(client) as usize % CELLS;
        let held = &mut self.held[cell];
        if usize::from(*held) >= CLIENT_TIMES * self.unused.len() {
            let is_empty = self.unused.is_empty();
            return Err(if is_empty { DropReason::PuntPoolEmpty } else { DropReason::PuntClientShare });
        }
        let mut record = self.unused.pop().ok_or(DropReason::PuntPoolEmpty)?;
        // It never saturates: a client holds at most four fifths of the records, which are thousands.
        *held = held.saturating_add(1);
        record.cell = cell as u16;
        Ok(record)
    }

    /// Puts a record back that [`take`](Self::take) has given out.
    #[inline]
    pub fn put_back(&mut self, record: Box<Punt>) {
        let held = &mut self.held[usize::from(record.cell) % CELLS];
        *held = held.saturating_sub(1);
        self.unused.push(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn pool(records: usize) -> RecordPool {
        RecordPool::new(records, KeyedHash::with_seeds([11, 22, 33, 44].map(|seed| seed << 40 | seed)))
    }

    fn fill(pool: &mut RecordPool, client: u64) -> Unused {
        std::iter::from_fn(|| pool.take(client).ok()).collect()
    }

    #[test]
    fn greedy_clients_leave_room() {
        let mut pool = pool(900);
        let first = fill(&mut pool, 1);
        assert_eq!(first.len(), 720);
        assert_eq!(pool.take(1).err(), Some(DropReason::PuntClientShare));
        assert_eq!(fill(&mut pool, 2).len(), 144);
        assert!(pool.take(3).is_ok());
        first.into_iter().for_each(|record| pool.put_back(record));
        assert!(pool.take(1).is_ok());
    }

    #[test]
    fn many_clients_get_all_records() {
        let mut pool = pool(64);
        let taken: Vec<_> = (0..64).map(|client| pool.take(client).unwrap()).collect();
        assert_eq!(pool.take(64).err(), Some(DropReason::PuntPoolEmpty));
        taken.into_iter().for_each(|record| pool.put_back(record));
        assert_eq!(pool.held.iter().copied().map(usize::from).sum::<usize>(), 0);
    }

    proptest! {
        /// A model counts exactly. With few clients no two of them share a cell.
        #[test]
        fn a_client_holds_less_than_four_times_what_is_unused(
            steps in prop::collection::vec((0..5u64, any::<bool>()), 1..400),
            records in 1..60usize,
        ) {
            let mut pool = pool(records);
            let mut held: HashMap<u64, Unused> = HashMap::new();
            let mut unused = records;
            for (client, takes) in steps {
                let of_client = held.entry(client).or_default();
                if takes {
                    match pool.take(client) {
                        Ok(record) => {
                            prop_assert!(of_client.len() < CLIENT_TIMES * unused);
                            of_client.push(record);
                            unused -= 1;
                        }
                        Err(DropReason::PuntPoolEmpty) => prop_assert_eq!(unused, 0),
                        Err(reason) => {
                            prop_assert_eq!(reason, DropReason::PuntClientShare);
                            prop_assert!(unused > 0 && of_client.len() >= CLIENT_TIMES * unused);
                        }
                    }
                } else if let Some(record) = of_client.pop() {
                    pool.put_back(record);
                    unused += 1;
                }
            }
        }
    }
}
