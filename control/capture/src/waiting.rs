//! Queries that wait for their replies, whose outcome decides whether they are written.

use std::collections::BTreeMap;

/// Most bytes of waiting queries, of each worker.
const ROOM: usize = 1 << 20;
/// Bytes that a query takes beyond its own.
const OVERHEAD: usize = 128;
/// Time in nanoseconds that a query waits at most: longer than the control plane takes for an answer.
const PATIENCE: u64 = 10_000_000_000;

/// Query that waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Unix time of its receipt in nanoseconds.
    pub nanos: u64,
    pub comment: String,
    pub bytes: Vec<u8>,
}

/// Queries of a worker that wait, by the number of their exchange.
#[derive(Default)]
pub(crate) struct Waiting {
    queries: BTreeMap<u64, Query>,
    bytes: usize,
}

impl Waiting {
    /// Keeps a query until its reply comes. Returns false if there is no room.
    pub fn put(&mut self, exchange: u64, query: Query) -> bool {
        let bytes = weight(&query);
        let fits = self.bytes + bytes <= ROOM;
        if fits {
            self.bytes += bytes;
            // The number of an exchange is not used again.
            self.queries.insert(exchange, query);
        }
        fits
    }

    /// Returns the query of an exchange, which no longer waits.
    pub fn take(&mut self, exchange: u64) -> Option<Query> {
        let query = self.queries.remove(&exchange)?;
        self.bytes -= weight(&query);
        Some(query)
    }

    /// Removes the queries that have waited too long at this Unix time in nanoseconds: not every query gets a
    /// reply. Returns their number.
    pub fn expire(&mut self, nanos: u64) -> u64 {
        let mut expired = 0;
        // The numbers of a worker's exchanges rise with time.
        while let Some(oldest) = self.queries.first_entry() {
            if nanos.saturating_sub(oldest.get().nanos) <= PATIENCE {
                break;
            }
            self.bytes -= weight(&oldest.remove());
            expired += 1;
        }
        expired
    }

    /// Returns the number of queries that wait.
    pub fn len(&self) -> usize {
        self.queries.len()
    }
}

/// Returns the bytes that a query takes.
fn weight(query: &Query) -> usize {
    query.comment.len() + query.bytes.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_wait_for_their_replies_in_bounded_memory() {
        let query = |nanos| Query { nanos, comment: "fate=punted".into(), bytes: vec![1; 100] };
        let mut waiting = Waiting::default();
        let fit = (0..).take_while(|nth| waiting.put(*nth, query(*nth))).count();
        assert!((4_000..5_000).contains(&fit) && waiting.len() == fit, "{fit}");
        assert_eq!(waiting.take(7), Some(query(7)));
        assert_eq!(waiting.take(7), None);
        assert!(waiting.put(10_000, query(1)) && !waiting.put(10_001, query(1)));
    }

    #[test]
    fn queries_without_a_reply_make_room() {
        let query = |nanos| Query { nanos, comment: String::new(), bytes: vec![1; 100] };
        let mut waiting = Waiting::default();
        assert!(waiting.put(1, query(5)) && waiting.put(2, query(PATIENCE)));
        assert_eq!((waiting.expire(PATIENCE + 5), waiting.len()), (0, 2));
        assert_eq!((waiting.expire(PATIENCE + 6), waiting.len()), (1, 1));
        assert_eq!((waiting.take(1), waiting.take(2)), (None, Some(query(PATIENCE))));
        assert_eq!(waiting.bytes, 0);
    }
}
