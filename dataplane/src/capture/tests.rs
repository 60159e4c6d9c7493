//! Tests: captures beside dnstap, from begin to end.

use crate::{
    log::Sieve,
    mirror::{
        Direction, Directions, Fate, MirrorConfig, MirrorLine,
        tests::{BOTH, Copied, Scene, packets},
    },
    worker::LoopTurn,
};
use std::sync::Arc;

/// Begins a capture, and returns its line.
fn begin(scene: &Scene, directions: Directions, first: u64) -> Arc<MirrorLine> {
    let line = Arc::new(MirrorLine::new(2));
    let setup = MirrorConfig { line: line.clone(), sieve: Arc::new(Sieve::open()), directions, seed: 1 };
    scene.link.capture.begin(setup, first);
    line
}

/// Lets the worker see to its orders, as it does once a second.
fn pass_second(scene: &mut Scene, second: u64) {
    scene.worker.keep_house(second * 1_000_000_000, LoopTurn::Idle);
}

/// Returns the packets of exchanges, without their numbers.
fn told(copied: &[Copied]) -> Vec<(Direction, Fate, Vec<u8>)> {
    copied.iter().map(|copied| (copied.direction, copied.fate, copied.packet.clone())).collect()
}

#[test]
fn a_capture_copies_from_its_begin_to_its_end_and_takes_nothing_from_dnstap() {
    let mut scene = Scene::new(1, BOTH);
    let packets: Vec<_> = packets().into_iter().map(|(packet, _)| packet).collect();
    let replies = scene.ask(&packets).len();
    let line = begin(&scene, BOTH, 1 << 32);
    scene.ask(&packets);
    assert_eq!(line.offered(), 0, "the worker has not seen the order yet");
    pass_second(&mut scene, 100);
    let mut mirrored = Scene::collect_of(&scene.line);
    scene.ask(&packets);
    assert!(!scene.link.capture.end());
    scene.ask(&packets);
    assert!(!scene.link.capture.is_over());
    pass_second(&mut scene, 101);
    mirrored.extend(Scene::collect_of(&scene.line));
    assert!(scene.link.capture.is_over());
    let captured = Scene::collect_of(&line);
    assert_eq!((captured.len(), line.lost()), (2 * (packets.len() + replies), 0));
    assert_eq!(line.offered(), captured.len() as u64);
    assert!(captured.iter().all(|copied| copied.exchange > 1 << 32));
    // Nothing of it remains with the worker, and the next turns copy nothing.
    assert_eq!(Arc::strong_count(&line), 1);
    scene.ask(&packets);
    assert_eq!((line.offered(), Scene::collect_of(&line).len()), (captured.len() as u64, 0));
    let dnstap = scene.line.clone();
    mirrored.extend(scene.end());
    assert_eq!((mirrored.len(), dnstap.lost()), (5 * (packets.len() + replies), 0));
    let while_captured = &mirrored[2 * (packets.len() + replies)..4 * (packets.len() + replies)];
    assert_eq!(told(while_captured), told(&captured));
}

#[test]
fn the_losses_of_a_capture_are_its_own() {
    let mut scene = Scene::new(1, BOTH);
    let line = begin(&scene, BOTH, 0);
    pass_second(&mut scene, 100);
    let packets: Vec<_> = packets().into_iter().map(|(packet, _)| packet).collect();
    let (mut asked, mut mirrored) = (0, 0);
    while line.lost() == 0 {
        asked += packets.len();
        scene.ask(&packets);
        // dnstap has a reader, and the capture has none.
        mirrored += Scene::collect_of(&scene.line).len();
        assert!(asked < 100_000, "two pages never fill");
    }
    assert_eq!(scene.line.lost(), 0);
    let offered = line.offered();
    assert_eq!(Scene::collect_of(&line).len() as u64 + line.lost(), offered);
    assert_eq!(mirrored + scene.end().len(), offered as usize);
}

#[test]
fn a_reply_to_a_query_of_an_earlier_capture_is_in_no_later_one() {
    let mut scene = Scene::new(1, Directions { queries: false, replies: false });
    let waits: Vec<_> =
        packets().into_iter().filter(|(_, fate)| *fate == Fate::Punted).map(|(packet, _)| packet).collect();
    let first = begin(&scene, BOTH, 0);
    pass_second(&mut scene, 100);
    scene.receive(&waits);
    assert!(!scene.link.capture.end());
    pass_second(&mut scene, 101);
    assert!(scene.link.capture.is_over());
    let second = begin(&scene, BOTH, 1 << 32);
    pass_second(&mut scene, 102);
    assert_eq!(scene.settle().len(), waits.len());
    assert_eq!((first.offered(), second.offered()), (waits.len() as u64, 0));
    scene.ask(&waits);
    // The first was cached meanwhile: all are hits or misses with a reply.
    assert_eq!(second.offered(), 2 * waits.len() as u64);
}

#[test]
fn a_capture_that_no_worker_has_begun_ends_at_once() {
    let mut scene = Scene::new(1, BOTH);
    let line = begin(&scene, BOTH, 0);
    assert!(scene.link.capture.end());
    assert_eq!(Arc::strong_count(&line), 1);
    pass_second(&mut scene, 100);
    assert!(!scene.link.capture.is_over());
    // The order to end, which came to nothing, does not end the next capture.
    let line = begin(&scene, BOTH, 1);
    pass_second(&mut scene, 101);
    scene.ask(&[packets()[0].0.clone()]);
    assert_eq!(line.offered(), 2);
}
