//! Tests of sending and opening, for which no XDP program is needed. The control plane tests
//! receiving with one.

use super::*;
use crate::{
    doorbell::Doorbell,
    frame::Place,
    packet,
    port::{
        netns::{self, CaptureSocket},
        nic::Nic,
    },
};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::CapabilitySet,
};

fn near() -> XskConfig {
    XskConfig {
        frames: 1024,
        rings: Rings { rx: 64, tx: 64, fill: 64, completion: 64 },
        ..XskConfig::new("near", 0)
    }
}

/// Sends a frame for each number; the first byte of the message holds the number.
fn send(port: &mut XskPort, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let mut frame = port.queues.frames.alloc().expect("a free frame");
        let buffer = port.queues.frames.buffer(&mut frame);
        let (from, to) = ("10.9.0.1:53".parse().unwrap(), "10.9.0.2:99".parse().unwrap());
        let message = packet::address(buffer, from, to, 2, Checksums::Verify).unwrap();
        buffer[message..message + 2].copy_from_slice(&(n as u16).to_be_bytes());
        frame.set_len(message + 2);
        port.send(frame);
    }
}

/// Checks that the frames from `send` arrive: all of them, in order, and nothing else.
fn arrives(wire: &CaptureSocket, numbers: std::ops::Range<usize>) {
    let packets = wire.take(numbers.len());
    let order = packets.iter().map(|packet| usize::from(u16::from_be_bytes([packet[42], packet[43]])));
    assert!(order.eq(numbers));
    assert!(wire.is_empty());
}

fn nothing_is_lost(port: &XskPort) {
    let count = |place| port.queues.frames.count(place);
    assert_eq!(count(Place::Fill), 64);
    assert_eq!(count(Place::Free) + 64, port.queues.frames.total());
}

#[test]
fn auto_opens_in_copy_mode_where_there_is_no_zero_copy_and_says_why() {
    netns::run(|| {
        let port = XskPort::open(&near()).unwrap();
        let opened = port.opened();
        assert_eq!(opened.mode, Mode::Copy);
        assert!(opened.reason.starts_with("near has no zero-copy: "), "{}", opened.reason);
        assert!(opened.need_wakeup, "always in copy mode");
        let zero_copy = XskConfig { mode: Request::ZeroCopy, ..XskConfig::new("near", 0) };
        drop(port);
        let message = XskPort::open(&zero_copy).err().unwrap().to_string();
        assert!(message.contains("mode auto or copy"), "{message}");
    });
}

#[test]
fn sending_more_than_the_ring_holds_loses_none_and_keeps_their_order() {
    netns::run(|| {
        let mut port = XskPort::open(&near()).unwrap();
        let wire = CaptureSocket::open();
        send(&mut port, 0..900);
        assert_eq!(port.queues.frames.count(Place::Tx), 900);
        port.flush();
        let first = port.stats();
        assert_eq!((first.sent, first.tx_ring_full), (64, 1));
        assert!(first.syscalls <= 2, "one kick, two where the kernel sends 32 a call: {first:?}");
        let mut flushes = 1;
        while port.queues.frames.count(Place::Tx) > 0 {
            port.flush();
            flushes += 1;
        }
        assert_eq!(flushes, 900_usize.div_ceil(64) + 1, "each flush sends a ring, and the last one reclaims");
        arrives(&wire, 0..900);
        let stats = port.stats();
        assert_eq!((stats.sent, stats.bad_descriptors, stats.tx_invalid_descs), (900, 0, 0));
        assert_eq!((stats.send_failed, stats.kick_failed), (0, 0));
        nothing_is_lost(&port);
    });
}

#[test]
fn frames_wait_for_a_link_that_is_down() {
    netns::run(|| {
        let mut port = XskPort::open(&near()).unwrap();
        let wire = CaptureSocket::open();
        netns::ip("link set near down");
        send(&mut port, 0..200);
        for _ in 0..5 {
            port.flush();
        }
        let down = port.stats();
        assert_eq!((down.sent, down.kick_failed), (64, 5));
        let bell = Doorbell::new().unwrap();
        port.wait(bell.fd(), Duration::from_secs(60)).unwrap(); // and looks again soon
        assert!(wire.is_empty());

        netns::ip("link set near up");
        while port.queues.frames.count(Place::Tx) > 0 {
            port.flush();
        }
        arrives(&wire, 0..200);
        assert_eq!(port.stats().kick_failed, 5);
        nothing_is_lost(&port);
    });
}

#[test]
fn an_interface_that_goes_away_is_survived_and_counted() {
    netns::run(|| {
        let mut port = XskPort::open(&near()).unwrap();
        netns::ip("link del near");
        send(&mut port, 0..10);
        port.flush();
        port.flush();
        assert_eq!(port.stats().kick_failed, 2);
        let bell = Doorbell::new().unwrap();
        bell.arm();
        bell.ring();
        port.wait(bell.fd(), Duration::from_secs(60)).unwrap();
        let mut burst = Burst::new();
        port.recv(&mut burst);
        assert!(burst.is_empty());
    });
}

#[test]
fn a_queue_is_free_again_when_its_port_is_dropped() {
    netns::run(|| {
        for _ in 0..3 {
            let mut port = XskPort::open(&near()).unwrap();
            let second = XskPort::open(&near()).err().unwrap();
            assert_eq!(second.errno(), Some(libc::EBUSY));
            assert!(second.to_string().contains("another AF_XDP socket has this queue"), "{second}");
            send(&mut port, 0..3);
            port.flush();
        }
    });
}

#[test]
fn opening_fails_with_the_interface_the_reason_and_the_remedy() {
    netns::run(|| {
        let fails = |config: XskConfig| XskPort::open(&config).err().unwrap();
        let error = fails(XskConfig::new("nowhere", 0));
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert!(error.to_string().contains("no interface nowhere"), "{error}");

        let error = fails(XskConfig { queue: 9, ..near() });
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert_eq!(
            error.to_string(),
            "cannot bind an AF_XDP socket to near queue 9 in copy mode: Invalid argument (os error 22); near has no such \
             queue (driver veth, 1 receive queue, MTU 1500; queues are counted from 0): serve those that it has, or make \
             more (`ethtool -L near`)"
        );

        let error = fails(XskConfig { rings: Rings { tx: 100, ..near().rings }, ..near() });
        assert!(error.to_string().contains("TX ring of 100"), "{error}");
        let error = fails(XskConfig { frames: 100, ..near() });
        assert!(error.to_string().contains("at least 192"), "{error}");
        assert!(matches!(fails(XskConfig::new("a\0b", 0)), XskError::Settings { .. }));
    });
}

/// Runs `work` without one of root's capabilities, on this thread alone.
fn without<T>(capability: CapabilitySet, work: impl FnOnce() -> T) -> T {
    let all = rustix::thread::capabilities(None).unwrap();
    let mut fewer = all;
    fewer.effective.remove(capability);
    rustix::thread::set_capabilities(None, fewer).unwrap();
    let done = work();
    rustix::thread::set_capabilities(None, all).unwrap();
    done
}

#[test]
fn opening_without_privilege_names_the_gate_that_is_shut() {
    netns::run(|| {
        let open = || XskPort::open(&near()).err().unwrap();
        let error = without(CapabilitySet::NET_RAW, open);
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");

        // The limit applies to the process, but not to threads with the capability to lock memory
        // without a limit.
        let limit = getrlimit(Resource::Memlock);
        setrlimit(Resource::Memlock, Rlimit { current: Some(4096), ..limit }).unwrap();
        let error = without(CapabilitySet::IPC_LOCK, open);
        assert_eq!(error.errno(), Some(libc::ENOBUFS));
        assert!(
            error.to_string().contains("2048 KiB") && error.to_string().contains("LimitMEMLOCK"),
            "{error}"
        );
    });
}

#[test]
fn errors_name_the_remedy() {
    let memory =
        |errno| XskError::Memory { frames: 4096, source: io::Error::from_raw_os_error(errno) }.to_string();
    assert!(memory(libc::ENOBUFS).contains("8192 KiB") && memory(libc::ENOBUFS).contains("LimitMEMLOCK"));
    assert!(memory(libc::EPERM).contains("CAP_NET_RAW"));
    assert!(memory(libc::EAFNOSUPPORT).contains("RestrictAddressFamilies"));
    let bind = |mode, errno| {
        let source = io::Error::from_raw_os_error(errno);
        let nic = (errno == libc::EINVAL).then(|| {
            let driver = Some("igb".to_owned());
            Box::new(Nic { driver, queues: Some(4), mtu: Some(9000), strips_vlan_tags: false })
        });
        XskError::Bind { interface: "eth0".into(), queue: 3, mode, source, nic }
    };
    let einval = bind(Mode::ZeroCopy, libc::EINVAL);
    assert!(
        einval
            .to_string()
            .contains("eth0 (driver igb, 4 receive queues, MTU 9000), `dmesg` may: use mode auto"),
        "{einval}"
    );
    assert_eq!(
        einval.no_zero_copy().unwrap(),
        "eth0 refuses zero-copy as it is set up (driver igb, 4 receive queues, MTU 9000): Invalid argument (os error 22)"
    );
    let bind = |mode, errno| bind(mode, errno).to_string();
    assert!(bind(Mode::Copy, libc::EINVAL).contains("use mode generic"));
    assert!(bind(Mode::Copy, libc::EOPNOTSUPP).contains("mode generic"));
    assert!(bind(Mode::Copy, libc::ENETDOWN).contains("ip link set eth0 up"));
    assert!(bind(Mode::ZeroCopy, libc::EBUSY).contains("eth0 queue 3 in zero-copy mode"));
}

#[test]
fn busy_polling_can_be_turned_on() {
    netns::run(|| {
        let busy_poll = Some(BusyPoll { usecs: 20, budget: 64 });
        let mut port = XskPort::open(&XskConfig { busy_poll, ..near() }).unwrap();
        let wire = CaptureSocket::open();
        send(&mut port, 0..70);
        port.flush();
        port.flush();
        arrives(&wire, 0..70);
        assert_eq!(port.stats().kick_failed, 0);
    });
}

#[test]
fn large_packet_memory_takes_huge_pages_if_there_are_any() {
    netns::run(|| {
        let port = XskPort::open(&XskConfig::new("near", 0)).unwrap();
        let reserved = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap();
        // Other processes may have taken the pages, so only their absence proves anything.
        assert!(!port.opened().hugepages || reserved.trim() != "0");
    });
}
