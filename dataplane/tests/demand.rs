//! Tests of demand: a worker reports the entries in demand, and handles prefetched answers.

mod ticking;

use ringdns_dataplane::{
    cache::{Cache, KeyedHash, Scope},
    demand::{DemandLine, RENEWALS},
    dns::{answer::Answer, key::Key, query::Query, rcode},
    purge::Purge,
    stats::Counter,
};
use std::sync::Arc;
use ticking::{now, until};

/// Returns the key of a name of one letter.
fn key(letter: u8) -> Key {
    let mut query = Query::default();
    let message = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, letter, 0, 0, 1, 0, 1];
    query.parse(&message).unwrap();
    query.key
}

fn ask(cache: &mut Cache, hash: KeyedHash, letter: u8, now: u32) -> Option<u8> {
    let key = key(letter);
    cache.lookup(hash.of(&key), &key, now).map(|hit| hit.view.status.rcode())
}

#[test]
fn a_worker_tells_what_is_asked_for_and_takes_what_was_renewed() {
    let (link, demand) = (ticking::link(1), DemandLine::new());
    let running = ticking::start(&link, Some(demand.clone()), |worker| {
        let hash = worker.processor().cache().hash();
        for letter in *b"abc" {
            let answer = Answer::error(rcode::NXDOMAIN, None, 0, 1_000_000);
            let cache = worker.processor().cache();
            cache.insert(&key(letter), &answer, 0);
            let times = if letter == b'b' { 3 } else { 2 };
            (0..times).for_each(|_| assert!(ask(cache, hash, letter, 0).is_some()));
        }
    });
    let notes = until(&link, || demand.take());
    let noted: Vec<_> = notes.iter().map(|asked| asked.name().to_vec()).collect();
    assert_eq!(noted, [b"\x01b\0"], "the others were asked for too seldom");
    demand.give_back(notes);
    let told = now();
    until(&link, || (now() > told + 200_000_000_000).then_some(()));
    assert!(demand.take().is_none(), "nobody has asked since");

    // An entry that the worker has, one that it does not have, and one from before its purge.
    let purged = key(b'c').asked().name().to_vec();
    link.generations.begin(Arc::new(Purge::Name(purged)));
    let renewed = Arc::new(Answer::error(rcode::NOERROR, None, (now() / 1_000_000_000) as u32, 2_000_000));
    for (letter, generation) in [(b'a', 1), (b'x', 0), (b'c', 0)] {
        assert!(demand.send(&link, &key(letter), &renewed, &Scope::ALL, generation));
    }
    until(&link, || (link.stats.snapshot().get(Counter::Renewed) > 0).then_some(()));
    // All records come back, however many answers are sent.
    for _ in 0..10 * RENEWALS {
        until(&link, || demand.send(&link, &key(b'a'), &renewed, &Scope::ALL, 0).then_some(()));
    }
    link.request_stop();
    let mut worker = running.join().unwrap().unwrap();
    let hash = worker.processor().cache().hash();
    let now = (now() / 1_000_000_000) as u32;
    let answers = [b'a', b'b', b'c', b'x'].map(|letter| ask(worker.processor().cache(), hash, letter, now));
    assert_eq!(answers, [Some(rcode::NOERROR), Some(rcode::NXDOMAIN), None, None]);
    assert_eq!(link.stats.snapshot().get(Counter::Noted), 1);
    assert_eq!(
        Arc::strong_count(&renewed),
        1 + RENEWALS,
        "records keep their last answer, and nobody else does"
    );
}
