use super::*;
use crate::{
    doorbell::Doorbell,
    packet::Envelope,
    port::netns::{self, CaptureSocket},
};
use rustix::net::sockopt;
use std::{
    net::{IpAddr, UdpSocket},
    time::Instant,
};

const FRAMES: u32 = 512;

fn open(listen: &[&str]) -> UdpPort {
    let listen: Vec<SocketAddr> = listen.iter().map(|address| address.parse().unwrap()).collect();
    UdpPort::open(&listen, FRAMES).unwrap()
}

fn local(port: &UdpPort, at: usize) -> SocketAddr {
    port.local_addresses().nth(at).unwrap()
}

fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Turns a received frame into its reply, with the same message.
fn turn_around(port: &mut UdpPort, mut frame: Frame) -> Frame {
    let (envelope, len) = Envelope::open(port.frames.packet(&frame), Checksums::Unused).unwrap();
    let sealed = envelope.seal(port.frames.buffer(&mut frame), len, None);
    frame.set_len(sealed);
    frame
}

/// Receives until `count` datagrams have arrived, and sends each back.
fn echo(port: &mut UdpPort, count: usize) {
    let bell = Doorbell::new().unwrap();
    let start = Instant::now();
    let mut received = 0;
    while received < count {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{received} of {count} arrived: {:?}",
            port.stats()
        );
        let mut burst = Burst::new();
        port.recv(&mut burst);
        received += burst.len();
        if burst.is_empty() {
            port.wait(bell.fd(), Duration::from_millis(100)).unwrap();
        }
        for frame in burst {
            let frame = turn_around(port, frame);
            port.send(frame);
        }
        port.flush();
    }
    assert_eq!(port.frames.free(), port.frames.total(), "every frame came back");
}

fn exchange(port: &mut UdpPort, client: &UdpSocket, server: SocketAddr) {
    client.connect(server).unwrap(); // so that only a reply from the asked address is received
    client.send(b"question").unwrap();
    echo(port, 1);
    let mut reply = [0; 64];
    let len = client.recv(&mut reply).unwrap();
    assert_eq!(&reply[..len], b"question");
}

#[test]
fn both_families_are_answered_from_the_socket_that_was_asked() {
    let mut port = open(&["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]);
    for (at, from) in [(0, "127.0.0.1:0"), (1, "[::1]:0"), (2, "127.0.0.1:0"), (0, "127.0.0.1:0")] {
        let server = local(&port, at);
        exchange(&mut port, &client(from), server);
    }
    let stats = port.stats();
    assert_eq!((stats.sent, stats.send_failed, stats.rx_dropped), (4, 0, 0));
}

#[test]
fn a_wildcard_replies_from_the_address_that_was_asked() {
    let mut port = open(&["0.0.0.0:0", "[::]:0"]);
    for address in ["127.0.0.1", "127.0.0.53", "127.9.8.7"] {
        let server = SocketAddr::new(address.parse().unwrap(), local(&port, 0).port());
        exchange(&mut port, &client("127.0.0.1:0"), server);
    }
    let server = SocketAddr::new("::1".parse().unwrap(), local(&port, 1).port());
    exchange(&mut port, &client("[::1]:0"), server);
}

#[test]
fn frames_look_as_if_they_came_from_a_wire() {
    let mut port = open(&["0.0.0.0:0"]);
    let client = client("127.0.0.1:0");
    let server = SocketAddr::new("127.0.0.77".parse().unwrap(), local(&port, 0).port());
    client.send_to(b"hello", server).unwrap();
    port.wait(Doorbell::new().unwrap().fd(), Duration::from_secs(5)).unwrap();
    let mut burst = Burst::new();
    port.recv(&mut burst);
    let frame = burst.pop().unwrap();
    let packet = port.frames.packet(&frame).to_vec();
    port.frames.release(frame);
    let packet = etherparse::SlicedPacket::from_ethernet(&packet).unwrap();
    let Some(etherparse::TransportSlice::Udp(udp)) = &packet.transport else { panic!("{packet:?}") };
    assert_eq!(udp.payload(), b"hello");
    assert_eq!(udp.source_port(), client.local_addr().unwrap().port());
    assert_eq!(udp.destination_port(), server.port());
    let ip = packet.net.as_ref().and_then(|net| net.ipv4_ref()).unwrap().header();
    assert_eq!(IpAddr::from(ip.source_addr()), client.local_addr().unwrap().ip());
    assert_eq!(IpAddr::from(ip.destination_addr()), server.ip());
}

#[test]
fn bursts_are_received_whole_and_in_order() {
    const COUNT: u32 = 200; // what the default buffer of the client holds
    let mut port = open(&["127.0.0.1:0"]);
    let client = client("127.0.0.1:0");
    client.connect(local(&port, 0)).unwrap();
    (0..COUNT).for_each(|n| assert_eq!(client.send(&n.to_be_bytes()).unwrap(), 4));
    echo(&mut port, COUNT as usize);
    for n in 0..COUNT {
        let mut reply = [0; 4];
        client.recv(&mut reply).unwrap();
        assert_eq!(u32::from_be_bytes(reply), n);
    }
    let stats = port.stats();
    assert_eq!(stats.sent, u64::from(COUNT));
    assert!(stats.syscalls < 20, "in batches, as runs: {stats:?}");
}

/// Answers `count` datagrams of a batch, and returns the port's statistics.
fn answer(port: &mut UdpPort, count: usize, mut change: impl FnMut(usize, &mut [u8])) -> PortStats {
    let mut burst = Burst::new();
    while burst.len() < count {
        port.recv(&mut burst);
    }
    for (number, frame) in burst.into_iter().enumerate() {
        let mut frame = turn_around(port, frame);
        change(number, port.frames.buffer(&mut frame));
        port.send(frame);
    }
    port.flush();
    assert_eq!(port.frames.free(), port.frames.total(), "every frame came back");
    port.stats()
}

#[test]
fn replies_of_all_lengths_reach_their_clients() {
    for address in ["127.0.0.1", "::1"] {
        let mut port = open(&[&SocketAddr::new(address.parse().unwrap(), 0).to_string()]);
        let server = local(&port, 0);
        let clients: Vec<_> = (0..4).map(|_| client(&SocketAddr::new(server.ip(), 0).to_string())).collect();
        for number in 0..BURST {
            let message = [number as u8; 200];
            clients[number % 4].send_to(&message[..100 + number / 4 % 3], server).unwrap();
        }
        let calls = port.stats().syscalls;
        let stats = answer(&mut port, BURST, |_, _| {});
        assert_eq!((stats.sent, stats.send_failed), (BURST as u64, 0));
        assert!(stats.syscalls - calls <= 6, "the replies are 12 runs in one call: {stats:?}");
        for (at, client) in clients.iter().enumerate() {
            let mut seen: Vec<_> = (0..BURST / 4)
                .map(|_| {
                    let mut reply = [0; 300];
                    let len = client.recv(&mut reply).unwrap();
                    assert!(reply[..len].iter().all(|byte| *byte == reply[0]));
                    (usize::from(reply[0]), len)
                })
                .collect();
            seen.sort_unstable();
            let expected = (0..BURST / 4).map(|nth| (4 * nth + at, 100 + nth % 3));
            assert!(seen.into_iter().eq(expected));
        }
    }
}

#[test]
fn runs_of_a_wildcard_leave_from_the_address_that_was_asked() {
    let mut port = open(&["0.0.0.0:0", "[::]:0"]);
    for (at, addresses) in [(0, ["127.0.0.1", "127.0.0.53"]), (1, ["::1", "::1"])] {
        // Connected sockets: only a reply from the asked address is received.
        let clients = addresses.map(|address| {
            let server = SocketAddr::new(address.parse().unwrap(), local(&port, at).port());
            let client = client(if at == 0 { "127.0.0.1:0" } else { "[::1]:0" });
            client.connect(server).unwrap();
            (0..8).for_each(|_| assert_eq!(client.send(b"question").unwrap(), 8));
            client
        });
        answer(&mut port, 16, |_, _| {});
        for client in clients {
            (0..8).for_each(|_| assert_eq!(client.recv(&mut [0; 16]).unwrap(), 8));
        }
    }
}

/// One client asks two addresses of the server from one port.
#[test]
fn a_run_has_one_source() {
    let mut port = open(&["0.0.0.0:0"]);
    let (client, own) = (client("127.0.0.1:0"), local(&port, 0).port());
    let servers = ["127.0.0.1", "127.0.0.2"].map(|server| SocketAddr::new(server.parse().unwrap(), own));
    (0..8).for_each(|number| {
        assert_eq!(client.send_to(&[number; 20], servers[usize::from(number) % 2]).unwrap(), 20)
    });
    answer(&mut port, 8, |_, _| {});
    for _ in 0..8 {
        let mut reply = [0; 20];
        let (_, from) = client.recv_from(&mut reply).unwrap();
        assert_eq!(from, servers[usize::from(reply[0]) % 2]);
    }
}

#[test]
fn replies_of_a_run_that_is_refused_are_sent_one_by_one() {
    let mut port = open(&["127.0.0.1:0"]);
    let clients = [client("127.0.0.1:0"), client("127.0.0.1:0")];
    for number in 0..12 {
        clients[number % 2].send_to(b"hello", local(&port, 0)).unwrap();
    }
    // Two replies of the first client's run, and its first, are to port 0, which the kernel refuses.
    let stats = answer(&mut port, 12, |number, frame| {
        if matches!(number, 0 | 2 | 4) {
            frame[36..38].fill(0);
        }
    });
    assert_eq!((stats.sent, stats.send_failed), (9, 3));
    assert!((0..3).all(|_| clients[0].recv(&mut [0; 16]).is_ok()));
    assert!((0..6).all(|_| clients[1].recv(&mut [0; 16]).is_ok()));
}

#[test]
fn replies_wait_until_all_of_a_batch_are_there() {
    let mut port = open(&["127.0.0.1:0"]);
    let client = client("127.0.0.1:0");
    client.connect(local(&port, 0)).unwrap();
    // A port that was idle asks for few at first.
    for count in [8, 16, 32, 64, 2 * BURST + 1] {
        (0..count).for_each(|_| assert_eq!(client.send(b"question").unwrap(), 8));
        let calls = port.stats().syscalls;
        let mut left = count;
        while left > 0 {
            let mut burst = Burst::new();
            port.recv(&mut burst);
            left -= burst.len();
            for frame in burst {
                let frame = turn_around(&mut port, frame);
                port.send(frame);
            }
            port.flush();
            if left > 0 {
                client.set_nonblocking(true).unwrap();
                assert_eq!(client.recv(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
                client.set_nonblocking(false).unwrap();
            }
        }
        assert!(port.stats().syscalls - calls <= 4, "{count} received in few calls, and sent in one");
        (0..count).for_each(|_| assert_eq!(client.recv(&mut [0; 16]).unwrap(), 8));
    }
}

#[test]
fn a_busy_socket_does_not_starve_another() {
    let mut port = open(&["127.0.0.1:0", "127.0.0.2:0"]);
    let (busy, quiet) = (client("127.0.0.1:0"), client("127.0.0.1:0"));
    for _ in 0..2 * BATCH {
        busy.send_to(b"x", local(&port, 0)).unwrap();
    }
    quiet.send_to(b"y", local(&port, 1)).unwrap();
    for _ in 0..BATCH / BURST {
        let mut burst = Burst::new();
        port.recv(&mut burst);
        burst.into_iter().for_each(|frame| {
            let frame = turn_around(&mut port, frame);
            port.send(frame);
        });
        port.flush();
    }
    let mut reply = [0; 4];
    assert_eq!(quiet.recv(&mut reply).unwrap(), 1, "answered although the busy socket had full bursts");
}

#[test]
fn what_does_not_fit_a_frame_is_dropped_and_counted() {
    let mut port = open(&["127.0.0.1:0"]);
    let client = client("127.0.0.1:0");
    client.send_to(&[0; 3000], local(&port, 0)).unwrap();
    client.connect(local(&port, 0)).unwrap();
    client.send(b"after").unwrap();
    echo(&mut port, 1);
    assert_eq!(port.stats().rx_dropped, 1);
}

#[test]
fn an_overrun_buffer_is_counted() {
    let mut port = open(&["127.0.0.1:0"]);
    sockopt::set_socket_recv_buffer_size(&port.sockets[0].fd, 4096).unwrap();
    let client = client("127.0.0.1:0");
    (0..200).for_each(|_| assert!(client.send_to(&[0; 100], local(&port, 0)).is_ok()));
    let mut burst = Burst::new();
    port.recv(&mut burst);
    let received = burst.len() as u64;
    burst.into_iter().for_each(|frame| port.frames.release(frame));
    assert_eq!(received + port.stats().rx_ring_full, 200);
    assert_eq!(port.stats().rx_ring_full, 200 - received, "counted once");
}

#[test]
fn a_reply_that_cannot_be_sent_costs_no_other() {
    let mut port = open(&["127.0.0.1:0"]);
    let clients = [client("127.0.0.1:0"), client("127.0.0.1:0"), client("127.0.0.1:0")];
    for client in &clients {
        client.send_to(b"hello", local(&port, 0)).unwrap();
    }
    let mut burst = Burst::new();
    while burst.len() < clients.len() {
        port.recv(&mut burst);
    }
    for (n, frame) in burst.into_iter().enumerate() {
        let mut frame = turn_around(&mut port, frame);
        if n == 1 {
            port.frames.buffer(&mut frame)[36..38].fill(0); // to port 0: the kernel refuses
        }
        port.send(frame);
    }
    // A frame that is not from this port has no socket to send from.
    let mut stray = port.frames.alloc().unwrap();
    stray.set_len(60);
    port.frames.buffer(&mut stray)[..60].fill(0xee);
    port.send(stray);
    port.flush();
    let stats = port.stats();
    assert_eq!((stats.sent, stats.send_failed), (2, 2));
    assert_eq!(port.frames.free(), port.frames.total());
    for client in [&clients[0], &clients[2]] {
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
    }
}

#[test]
fn opening_fails_with_the_address_the_reason_and_the_remedy() {
    let fails = |listen: &[SocketAddr], frames| UdpPort::open(listen, frames).err().unwrap().to_string();
    let any = "127.0.0.1:0".parse().unwrap();
    assert!(fails(&[], FRAMES).contains("at least one"));
    assert!(fails(&[any; LISTEN_MAX + 1], FRAMES).contains("at most 16"));
    assert!(fails(&[any], FRAMES_MIN - 1).contains("at least 128"));

    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let message = fails(&[taken], FRAMES);
    assert!(message.contains(&format!("sport = :{}", taken.port())), "{message}");
    assert!(matches!(probe(&[taken]), Err(UdpError::InUse { address }) if address == taken));
}

#[test]
fn a_probe_finds_sockets_that_would_share() {
    let port = open(&["127.0.0.1:0"]);
    let address = local(&port, 0);
    let sibling = UdpPort::open(&[address], FRAMES).unwrap();
    assert!(matches!(probe(&[address]), Err(UdpError::InUse { .. })));
    drop((port, sibling));
    probe(&[address]).unwrap();
}

#[test]
fn ports_that_share_an_address_answer_all() {
    let mut ports = vec![open(&["127.0.0.1:0"])];
    let address = local(&ports[0], 0);
    ports.push(UdpPort::open(&[address], FRAMES).unwrap());
    let clients: Vec<UdpSocket> = (0..64).map(|_| client("127.0.0.1:0")).collect();
    clients.iter().for_each(|client| assert_eq!(client.send_to(b"hi", address).unwrap(), 2));
    let mut answered = [0; 2];
    for (port, answered) in ports.iter_mut().zip(&mut answered) {
        let mut burst = Burst::new();
        port.recv(&mut burst);
        *answered = burst.len();
        burst.into_iter().for_each(|frame| {
            let frame = turn_around(port, frame);
            port.send(frame);
        });
        port.flush();
    }
    assert_eq!(answered.iter().sum::<usize>(), 64);
    assert!(answered.iter().all(|count| *count > 0), "spread by client: {answered:?}");
    clients.iter().for_each(|client| assert_eq!(client.recv(&mut [0; 8]).unwrap(), 2));
}

/// A send buffer fills only while something holds packets back, such as a neighbour that does not
/// tell its MAC address.
#[test]
fn a_full_send_buffer_keeps_replies_and_their_order() {
    const LENGTHS: u8 = 25; // as many runs, of four replies each
    netns::run(|| {
        let mut port = open(&["10.9.0.1:0"]);
        // The smallest possible buffer: a few small datagrams.
        sockopt::set_socket_send_buffer_size_force(&port.sockets[0].fd, 0).unwrap();
        let server = local(&port, 0);
        for n in 0..100u8 {
            let mut frame = port.frames.alloc().unwrap();
            let buffer = port.frames.buffer(&mut frame);
            let len = 1 + usize::from(n % LENGTHS);
            packet::address(buffer, "10.9.0.2:99".parse().unwrap(), server, len, Checksums::Unused).unwrap();
            DatagramOrigin { socket: 0, scope: 0 }.write(buffer);
            buffer[42] = n;
            frame.set_len(42 + len);
            let frame = turn_around(&mut port, frame);
            port.send(frame);
        }
        port.flush();
        let first = port.stats();
        let kept = port.sockets[0].backlog.len() as u64;
        assert_eq!(first.sent + kept, 100);
        assert!(kept > 0 && first.tx_ring_full == 1 && first.send_failed == 0, "{first:?}");
        assert_eq!(port.frames.free() + kept as usize, port.frames.total());

        let wire = CaptureSocket::open();
        netns::ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev near");
        let bell = Doorbell::new().unwrap();
        while !port.sockets[0].backlog.is_empty() {
            port.wait(bell.fd(), Duration::from_secs(5)).unwrap();
            port.flush();
        }
        assert_eq!(port.stats().sent, 100);
        assert_eq!(port.frames.free(), port.frames.total());
        // A veth pair hands on runs as they are.
        let runs = wire.take(usize::from(LENGTHS));
        let replies = runs.iter().flat_map(|packet| {
            let message = &packet[42..][..usize::from(u16::from_be_bytes([packet[38], packet[39]])) - 8];
            message.chunks_exact(1 + usize::from(message[0] % LENGTHS)).map(|reply| reply[0])
        });
        let mut order: Vec<u8> = replies.collect();
        order.sort_by_key(|n| n % LENGTHS); // stable: those of a length stay in order
        let by_length = (0..LENGTHS).flat_map(|len| (0..4).map(move |nth| len + nth * LENGTHS));
        assert!(order.iter().copied().eq(by_length), "{order:?}");
        assert!(wire.is_empty());
    });
}
