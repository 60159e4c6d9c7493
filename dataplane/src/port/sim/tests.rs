use super::*;
use crate::{frame::Place, packet::Envelope};
use proptest::prelude::*;

const CLIENT: &str = "192.0.2.7:4242";
const SERVER: &str = "192.0.2.53:53";

fn pair(config: SimConfig) -> (SimPort, SimLink) {
    SimPort::pair(&config).unwrap()
}

fn small() -> SimConfig {
    SimConfig { frames: 32, rx_ring: 64, tx_ring: 8, fill_ring: 16, ..SimConfig::default() }
}

fn turn(port: &mut SimPort) -> usize {
    let mut burst = Burst::new();
    port.recv(&mut burst);
    let received = burst.len();
    burst.drain(..).for_each(|frame| port.send(frame));
    port.flush();
    received
}

#[test]
fn what_is_injected_arrives_and_what_is_sent_comes_out() {
    let (mut port, link) = pair(small());
    assert!(link.inject_datagram(CLIENT.parse().unwrap(), SERVER.parse().unwrap(), b"hello"));
    let mut burst = Burst::new();
    port.recv(&mut burst);
    let frame = burst.pop().unwrap();
    let packet = port.frames.packet(&frame);
    let (envelope, len) = Envelope::open(packet, port.config.checksums).unwrap();
    assert_eq!(&packet[envelope.message()..][..len], b"hello");
    assert_eq!(envelope.client(packet), Some(CLIENT.parse().unwrap()));
    port.send(frame);
    assert!(link.replies().is_empty(), "nothing leaves before the flush");
    port.flush();
    assert_eq!(link.replies().len(), 1);
    assert_eq!(port.stats().sent, 1);
}

#[test]
fn a_full_tx_ring_keeps_frames_and_their_order() {
    let (mut port, link) = pair(small());
    (0..16u8).for_each(|n| assert!(link.inject(&[n; 60])));
    assert_eq!(turn(&mut port), 16);
    assert_eq!(link.replies().len(), 8);
    assert_eq!(port.stats().tx_ring_full, 1);
    port.flush();
    let late: Vec<u8> = link.replies().iter().map(|reply| reply[0]).collect();
    assert_eq!(late, (8..16).collect::<Vec<u8>>());
    port.flush();
    assert_eq!(port.frames().count(Place::Tx), 0);
}

#[test]
fn late_completions_hold_frames_back() {
    let faults = Faults { late_completion: 3, ..Faults::default() };
    let (mut port, link) = pair(SimConfig { faults, ..small() });
    link.inject(&[0; 60]);
    turn(&mut port);
    for _ in 0..3 {
        port.flush();
        assert_eq!(port.frames().count(Place::Tx), 1);
    }
    port.flush();
    assert_eq!(port.frames().count(Place::Tx), 0);
}

#[test]
fn a_starved_fill_ring_loses_packets_and_says_so() {
    let faults = Faults { fill_limit: Some(2), ..Faults::default() };
    let (mut port, link) = pair(SimConfig { faults, ..small() });
    (0..5).for_each(|_| assert!(link.inject(&[0; 60])));
    assert_eq!(turn(&mut port), 2);
    assert_eq!(port.stats().rx_fill_ring_empty, 3);
    link.set_faults(Faults::default());
    port.flush();
    assert_eq!(port.frames().count(Place::Fill), 16);
}

#[test]
fn bad_descriptors_are_counted_and_never_become_frames() {
    let faults = Faults { bad_receive: 1000, ..Faults::default() };
    let (mut port, link) = pair(SimConfig { faults, ..small() });
    (0..8).for_each(|_| assert!(link.inject(&[0; 60])));
    assert_eq!(turn(&mut port), 0);
    assert_eq!(port.stats().bad_descriptors, 8);

    link.set_faults(Faults { bad_completion: 1000, ..Faults::default() });
    (0..4).for_each(|_| assert!(link.inject(&[0; 60])));
    assert_eq!(turn(&mut port), 4);
    port.flush();
    assert_eq!(port.stats().bad_descriptors, 12);
    assert_eq!(port.frames().count(Place::Tx), 4, "a chunk whose completion lied stays lost");
}

#[test]
fn an_overrun_wire_says_so() {
    let (mut port, link) = pair(SimConfig { rx_ring: 1, ..small() });
    assert!(link.inject(&[0; 60]));
    assert!(!link.inject(&[0; 60]));
    assert_eq!(port.stats().rx_ring_full, 1);
}

#[test]
fn waiting_ends_with_a_packet_or_a_ring() {
    let (mut port, link) = pair(small());
    let bell = Doorbell::new().unwrap();
    let day = Duration::from_secs(86_400);
    let injector = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        link.inject(&[0; 60])
    });
    port.wait(bell.fd(), day).unwrap();
    assert!(injector.join().unwrap());
    assert_eq!(turn(&mut port), 1);
    bell.arm();
    bell.ring();
    port.wait(bell.fd(), day).unwrap();
}

#[test]
fn replay_hands_out_the_same_packets_for_ever() {
    assert!(SimPort::replay(&[]).is_err());
    assert!(SimPort::replay(&[vec![0; CHUNK + 1]]).is_err());
    let mut port = SimPort::replay(&[vec![1; 60], vec![2; 61], vec![3; 62]]).unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let mut burst = Burst::new();
        port.recv(&mut burst);
        assert!(burst.is_full());
        for mut frame in burst {
            assert_eq!(port.frames().packet(&frame), vec![next + 1; 60 + usize::from(next)]);
            port.frames().buffer(&mut frame)[0] = 0xff;
            next = (next + 1) % 3;
            port.send(frame);
        }
        port.flush();
    }
    assert_eq!(port.stats().sent, 3 * BURST as u64);
}

#[derive(Clone, Debug)]
enum Step {
    Inject(u8, u16),
    Receive,
    Send(u8),
    Release(u8),
    Alloc,
    Flush,
    Faults(Faults),
}

fn faults() -> impl Strategy<Value = Faults> {
    let chance = || prop_oneof![3 => Just(0), 1 => 0..400u16, 1 => Just(1000)];
    let limit = || prop::option::of(0..20usize);
    (chance(), chance(), chance(), chance(), 0..5u32, limit(), limit()).prop_map(
        |(lose, refuse, bad_receive, bad_completion, late_completion, tx_limit, fill_limit)| Faults {
            lose,
            refuse,
            bad_receive,
            bad_completion,
            late_completion,
            tx_limit,
            fill_limit,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..24u8, 1..2200u16).prop_map(|(count, len)| Step::Inject(count, len)),
        4 => Just(Step::Receive),
        4 => (0..20u8).prop_map(Step::Send),
        1 => (0..20u8).prop_map(Step::Release),
        1 => Just(Step::Alloc),
        4 => Just(Step::Flush),
        1 => faults().prop_map(Step::Faults),
    ]
}

proptest! {
    /// Whatever goes wrong, every chunk is where the ledger says, and every packet has an outcome.
    #[test]
    fn frames_and_packets_are_conserved(seed: u64, steps in prop::collection::vec(step(), 1..120)) {
        let (mut port, link) = pair(SimConfig { seed, ..small() });
        let mut held = Vec::new();
        let (mut injected, mut received, mut allocated, mut handed_in) = (0u64, 0u64, 0u64, 0u64);
        let (mut replies, mut released) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Inject(count, len) => for _ in 0..count {
                    injected += 1;
                    link.inject(&vec![0; usize::from(len)]);
                },
                Step::Receive => {
                    let mut burst = Burst::new();
                    port.recv(&mut burst);
                    received += burst.len() as u64;
                    held.extend(burst);
                }
                Step::Send(count) => for frame in held.drain(..usize::from(count).min(held.len())) {
                    handed_in += 1;
                    port.send(frame);
                },
                Step::Release(count) => for frame in held.drain(..usize::from(count).min(held.len())) {
                    released += 1;
                    port.frames().release(frame);
                },
                Step::Alloc => if let Some(frame) = port.frames().alloc() {
                    allocated += 1;
                    held.push(frame);
                },
                Step::Flush => port.flush(),
                Step::Faults(faults) => link.set_faults(faults),
            }
            replies += link.replies().len() as u64;

            let stats = port.stats();
            let [free, fill, kept, tx] =
                [Place::Free, Place::Fill, Place::Held, Place::Tx].map(|place| port.frames.count(place));
            prop_assert_eq!(free + fill + kept + tx, port.frames.total());
            prop_assert_eq!(free, port.frames.free(), "each free chunk is on the free list once");
            prop_assert_eq!(kept, held.len() + port.backlog.len(), "a token for each held chunk");
            let lost = (fill - port.fill.len()) + (tx - port.tx.len());
            prop_assert_eq!(lost as u64, stats.bad_descriptors, "only a bad descriptor loses a chunk");

            let dropped = stats.rx_dropped + stats.rx_fill_ring_empty + stats.rx_ring_full;
            // A bad completion is not a packet, so the difference is at most the number of those.
            let outcomes = received + dropped + link.waiting() as u64;
            prop_assert!(outcomes <= injected && injected - outcomes <= stats.bad_descriptors);
            prop_assert_eq!(received + allocated, held.len() as u64 + released + handed_in);
            prop_assert_eq!(handed_in, stats.sent + stats.send_failed + port.backlog.len() as u64);
            prop_assert_eq!(replies, stats.sent);
        }
    }
}
