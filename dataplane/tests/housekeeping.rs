//! Tests of a running worker's housekeeping.

mod ticking;

use ringdns_dataplane::{
    dns::{answer::Answer, query::Query, rcode},
    stats::Counter,
};

/// While no queries arrive, the sweep must run by itself, or expired answers stay until others
/// evict them.
#[test]
fn a_worker_sweeps_though_nobody_asks() {
    // Few enough that no name contains a capital letter, so that no two names are equal.
    const ENTRIES: u64 = 60;
    let link = ticking::link(1);
    let running = ticking::start(&link, None, |worker| {
        for number in 0..ENTRIES as u8 {
            let mut query = Query::default();
            let message = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, number, 0, 0, 1, 0, 1];
            query.parse(&message).unwrap();
            let answer = Answer::error(rcode::NXDOMAIN, None, 0, 60);
            worker.processor().cache().insert(&query.key, &answer, 0);
        }
    });
    ticking::until(&link, || (link.stats.snapshot().get(Counter::Expired) >= ENTRIES).then_some(()));
    link.request_stop();
    // The worker has ended, so this reads the last published state.
    running.join().unwrap().unwrap();
    assert_eq!(link.port.read().cache.entries, 0);
}
