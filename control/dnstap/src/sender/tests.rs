//! Tests: scripted readers, good and bad, and the sums of messages.

use super::*;
use crate::{CONTENT_TYPE, Dnstap, Kind, Sums, Transport};
use ringdns_config::{DnstapConfig, DnstapMessage};
use ringdns_dataplane::clock::Clock;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Instant as StdInstant,
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(target: DnstapTarget) -> DnstapConfig {
    DnstapConfig {
        target,
        messages: vec![DnstapMessage::ClientQuery, DnstapMessage::ClientResponse],
        sample: 1,
        identity: "test".into(),
        version: "1".into(),
        bytes_per_worker: 1 << 20,
        timeout: Duration::from_millis(300),
    }
}

fn tap(target: DnstapTarget) -> Arc<Dnstap> {
    Dnstap::new(Some(&config(target)), Clock::start()).unwrap().unwrap()
}

/// Offers messages of `len` bytes as of the TCP listener.
fn offer(tap: &Dnstap, count: usize, len: usize) {
    let ends: [SocketAddr; 2] = ["192.0.2.1:1000", "192.0.2.2:53"].map(|text| text.parse().unwrap());
    for _ in 0..count {
        tap.note_tcp(Kind::ClientResponse, ends.into(), 1, &vec![7; len]);
    }
}

#[track_caller]
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = StdInstant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn control(kind: u32, content: &[u8]) -> Vec<u8> {
    let fields = if content.is_empty() {
        Vec::new()
    } else {
        [&1u32.to_be_bytes()[..], &(content.len() as u32).to_be_bytes(), content].concat()
    };
    [&0u32.to_be_bytes()[..], &(4 + fields.len() as u32).to_be_bytes(), &kind.to_be_bytes(), &fields].concat()
}

/// Plays a reader until it has accepted and seen START.
fn accept<S: Read + Write>(stream: &mut S) {
    let mut frame = vec![0; control(4, CONTENT_TYPE).len()];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame, control(4, CONTENT_TYPE));
    stream.write_all(&control(1, CONTENT_TYPE)).unwrap();
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame, control(2, CONTENT_TYPE));
}

/// Reads data frames until STOP, answers it, and returns their number.
fn read_to_stop<S: Read + Write>(stream: &mut S) -> u64 {
    let mut count = 0;
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let len = u32::from_be_bytes(len) as usize;
        if len == 0 {
            let mut stop = [0; 8];
            stream.read_exact(&mut stop).unwrap();
            assert_eq!(stop, [0, 0, 0, 4, 0, 0, 0, 3]);
            stream.write_all(&control(5, &[])).unwrap();
            return count;
        }
        stream.read_exact(&mut vec![0; len]).unwrap();
        count += 1;
    }
}

#[track_caller]
fn closed(sums: Sums) {
    assert_eq!(sums.in_hand(), 0, "{sums:?}");
}

#[test]
fn messages_with_upstreams_are_told_if_they_are_wanted_and_fit() {
    let unwanted = tap(DnstapTarget::Unix("/".into()));
    assert!(!unwanted.wants_upstreams());
    let mut config = config(DnstapTarget::Unix("/".into()));
    config.messages = vec![DnstapMessage::ForwarderResponse];
    let tap = Dnstap::new(Some(&config), Clock::start()).unwrap().unwrap();
    let ends: [SocketAddr; 2] = ["192.0.2.1:1000", "192.0.2.2:853"].map(|text| text.parse().unwrap());
    assert!(tap.wants_upstreams() && tap.pick_upstream().is_some());
    tap.note_upstream(Kind::ForwarderQuery, Transport::Tls, ends.into(), 1, b"no response");
    // 1 MiB has room for 17 of them.
    for _ in 0..20 {
        tap.note_upstream(Kind::ForwarderResponse, Transport::Tls, ends.into(), 1, &vec![7; 60_000]);
    }
    offer(&tap, 1, 10);
    let sums = tap.sums();
    assert_eq!((sums.offered, sums.buffer_full, sums.in_hand()), (20, 3, 17), "{sums:?}");
}

#[test]
fn a_reader_gets_every_message_and_the_stream_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tap = tap(DnstapTarget::Tcp(listener.local_addr().unwrap()));
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    accept(&mut stream);
    until("it is connected", || tap.is_connected().then_some(()));
    offer(&tap, 1000, 100);
    let reader = thread::spawn(move || read_to_stop(&mut stream));
    sender.finish();
    assert_eq!(reader.join().unwrap(), 1000);
    assert_eq!((tap.sums().sent, tap.sums().offered, tap.is_connected()), (1000, 1000, false));
    closed(tap.sums());
}

#[test]
fn without_a_reader_messages_are_lost_and_a_later_one_gets_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let tap = tap(DnstapTarget::Unix(path.clone()));
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let reason = until("there is a fault", || tap.fault.reason());
    assert!(reason.contains("cannot be reached") && reason.contains("No such file"), "{reason}");
    offer(&tap, 10, 100);
    until("they are lost", || (tap.sums().unconnected == 10).then_some(()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    accept(&mut stream);
    until("the fault is over", || tap.fault.reason().is_none().then_some(()));
    offer(&tap, 5, 100);
    let reader = thread::spawn(move || read_to_stop(&mut stream));
    sender.finish();
    assert_eq!(reader.join().unwrap(), 5);
    closed(tap.sums());
}

#[test]
fn a_reader_that_stalls_is_given_up_and_its_messages_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tap = tap(DnstapTarget::Tcp(listener.local_addr().unwrap()));
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let (mut stalled, _) = listener.accept().unwrap();
    accept(&mut stalled);
    // More than the kernel holds for a connection, however fast they come.
    let reason = until("it stalls", || {
        offer(&tap, 20, 60_000);
        tap.fault.reason()
    });
    assert!(reason.contains("takes no more messages"), "{reason}");
    let sums = tap.sums();
    assert!(sums.buffer_full > 0 && sums.broken > 0, "{sums:?}");
    // What it was sent whole before is no loss. The rest of a frame is.
    drop(stalled);
    let (mut stream, _) = listener.accept().unwrap();
    accept(&mut stream);
    until("the next one is connected", || tap.is_connected().then_some(()));
    assert_eq!(tap.counters.connections.get(), 2);
    let reader = thread::spawn(move || read_to_stop(&mut stream));
    sender.finish();
    reader.join().unwrap();
    closed(tap.sums());
}

#[test]
fn frames_that_were_sent_before_the_reader_left_are_no_losses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tap = tap(DnstapTarget::Tcp(listener.local_addr().unwrap()));
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    accept(&mut stream);
    drop(stream);
    until("its end is noticed", || (tap.counters.connections_ended.get() == 1).then_some(()));
    let reason = tap.fault.reason().unwrap_or_default();
    assert!(reason.contains("has closed the connection"), "{reason}");
    sender.finish();
    closed(tap.sums());
}

#[test]
fn the_end_does_not_wait_for_a_reader_that_stalls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = DnstapTarget::Tcp(listener.local_addr().unwrap());
    let patient = DnstapConfig { timeout: Duration::from_secs(60), ..config(target) };
    let tap = Dnstap::new(Some(&patient), Clock::start()).unwrap().unwrap();
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let (mut stalled, _) = listener.accept().unwrap();
    accept(&mut stalled);
    until("the buffers are full", || {
        offer(&tap, 20, 60_000);
        (tap.sums().buffer_full > 0).then_some(())
    });
    let since = StdInstant::now();
    sender.finish();
    assert!(since.elapsed() < 5 * GRACE, "{:?}", since.elapsed());
    closed(tap.sums());
}

#[test]
fn a_reader_that_never_accepts_is_said_to_be_silent() {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let tap = tap(DnstapTarget::Unix(path.into()));
    let sender = Sender::start(tap.clone(), Vec::new()).unwrap();
    let reason = until("there is a fault", || tap.fault.reason());
    assert!(reason.contains("did not answer in time"), "{reason}");
    sender.finish();
}
