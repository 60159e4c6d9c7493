//! Arbitrary sequences of inserts, lookups, sweeps and purges: nothing panics, the sums close, and
//! no lookup finds anything that was never inserted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_dataplane::{
    cache::{BYTES_MIN, Cache, KeyedHash},
    dns::{answer::Answer, query::Query},
};
use std::collections::HashMap;

/// Returns a query for a name of `len` letters that holds `number`.
fn query(number: u8, len: u8) -> Query {
    let len = len % 62 + 1;
    let mut message = b"\0\0\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    message.push(len);
    message.extend(std::iter::repeat_n(b'a' + number % 26, usize::from(len)));
    message.extend([1, number, 0, 0, 1, 0, 1]);
    let mut query = Query::default();
    query.parse(&message).expect("a plain query");
    query
}

fuzz_target!(|data: &[u8]| {
    let hash = KeyedHash::with_seeds([5, 6, 7, 8]);
    let mut cache = Cache::new(BYTES_MIN, 1232, hash).expect("memory for the smallest cache");
    let mut filed: HashMap<(u8, u8), u32> = HashMap::new();
    let mut now = 0;
    for step in data.chunks_exact(4) {
        let [what, number, len, more] = *step else { continue };
        let query = query(number, len);
        let at = hash.of(&query.key);
        match what % 8 {
            0..=2 => {
                // Large answers, so that the rings wrap.
                let mut answer = Answer::error(0, None, now, u32::from(more) + 1);
                answer.wire = vec![number; usize::from(more) * 4].into();
                cache.insert(&query.key, &answer, now);
                filed.insert((number, len % 62), now);
            }
            3..=5 => {
                if let Some(hit) = cache.lookup(at, &query.key, now) {
                    assert!(filed.contains_key(&(number, len % 62)), "found what was never filed");
                    assert!(hit.view.wire.iter().all(|byte| *byte == number), "another entry's bytes");
                }
            }
            6 => {
                now += u32::from(more);
                cache.sweep(u32::from(number), now);
            }
            _ if more == 0 => {
                cache.purge([std::sync::Arc::new(ringdns_dataplane::purge::Purge::All)]);
                filed.clear();
            }
            _ => now += 1,
        }
        let (occupancy, churn) = (cache.occupancy(), cache.churn());
        assert!(occupancy.removed <= occupancy.used && occupancy.used <= occupancy.capacity);
        assert!(churn.inserted >= churn.evicted + churn.expired + occupancy.entries);
    }
});
