//! Tests of the AF_XDP port behind the real steering program: it receives queries from a kernel
//! socket at the other end of the cable, turns them around in place and sends them back.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use ringdns_abi::Verdict;
use ringdns_dataplane::{
    doorbell::Doorbell,
    frame::{Frame, Place},
    packet::Envelope,
    port::{
        Burst, Port,
        xsk::{Mode, Request, Rings, XskConfig, XskPort},
    },
};
use ringdns_testkit::{CLIENT_V4, CLIENT_V6, Lab, LabOptions, SERVER_V4, SERVER_V6};
use ringdns_xdp::{AttachMode, Attachment, SteerConfig, Steering};
use rustix::net::sockopt;

/// Number of frames, and of those that the kernel holds.
const FRAMES: usize = 2048;
const FILL: usize = 1024;
/// Most frames that are sent without checking what has arrived: no more than a veth queue holds.
const STEP: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);
/// VLAN that the program is told to take.
const VLAN: u16 = 53;

fn listen() -> [SocketAddr; 2] {
    [(SERVER_V4, 53).into(), (SERVER_V6, 53).into()]
}

fn config(mode: Request) -> XskConfig {
    XskConfig {
        mode,
        frames: FRAMES as u32,
        rings: Rings { rx: 1024, tx: 64, fill: FILL as u32, completion: 64 },
        ..XskConfig::new("vs", 0)
    }
}

/// Port in place of a server, and two sockets of a client.
struct Rig<'a> {
    lab: &'a Lab,
    steering: Steering,
    attachment: Attachment,
    port: XskPort,
    v4: UdpSocket,
    v6: UdpSocket,
}

/// Runs `test` inside the server's namespace.
fn with_rig(options: LabOptions, config: &XskConfig, test: impl FnOnce(&mut Rig<'_>) + Send) {
    let Some(lab) = Lab::with(options) else { return };
    let lab = &lab;
    let client = |from: SocketAddr, to: SocketAddr| {
        lab.client().enter(|| {
            let socket = UdpSocket::bind(from).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
            socket
        })
    };
    let v4 = client((CLIENT_V4, 0).into(), listen()[0]);
    let v6 = client((CLIENT_V6, 0).into(), listen()[1]);
    lab.server().enter(|| {
        let mode = if config.mode == Request::Generic { AttachMode::Generic } else { AttachMode::Auto };
        let interface = config.interface.as_str();
        let mut steering = Steering::load(&SteerConfig {
            interface,
            listen: &listen(),
            vlans: &[VLAN],
            prefixes: &[],
            mode,
        })
        .expect("the program");
        let port = XskPort::open(config).expect("the port");
        steering.add_socket(config.queue, port.fd()).expect("the socket in its map");
        let attachment = steering.attach().expect("the program on its interface");
        let mut rig = Rig { lab, steering, attachment, port, v4, v6 };
        test(&mut rig);
    });
}

impl Rig<'_> {
    /// Sends numbered queries from the client and receives them, without returning frames to the
    /// kernel.
    fn receive(&mut self, numbers: Range<u16>) -> Vec<Frame> {
        let mut frames = Vec::new();
        let wanted = numbers.len();
        for n in numbers {
            self.v4.send(&n.to_be_bytes()).unwrap();
            if usize::from(n) % STEP == STEP - 1 {
                self.take(&mut frames, usize::from(n).min(wanted - 1) + 1);
            }
        }
        self.take(&mut frames, wanted);
        frames
    }

    fn take(&mut self, frames: &mut Vec<Frame>, wanted: usize) {
        let bell = Doorbell::new().unwrap();
        let start = Instant::now();
        while frames.len() < wanted {
            assert!(start.elapsed() < PATIENCE, "{} of {wanted}: {:?}", frames.len(), self.port.stats());
            let mut burst = Burst::new();
            self.port.recv(&mut burst);
            if burst.is_empty() {
                self.port.wait(bell.fd(), PATIENCE / 100).unwrap();
            }
            frames.extend(burst);
        }
    }

    /// Swaps the addresses of frames, with unchanged messages, and queues them.
    fn answer(&mut self, frames: Vec<Frame>) {
        for mut frame in frames {
            let checksums = self.port.checksums();
            let memory = self.port.frames();
            let (envelope, len) = Envelope::open(memory.packet(&frame), checksums).expect("a good datagram");
            let sealed = envelope.seal(memory.buffer(&mut frame), len, None);
            frame.set_len(sealed);
            self.port.send(frame);
        }
    }

    /// Flushes until all frames are sent and returned. Returns the number of flushes.
    fn flush_all(&mut self) -> usize {
        let mut flushes = 0;
        loop {
            self.port.flush();
            flushes += 1;
            if self.port.frames().count(Place::Tx) == 0 {
                return flushes;
            }
            assert!(flushes < 10_000, "frames stay on their way: {:?}", self.port.stats());
        }
    }

    /// Checks that the client gets all replies in order.
    fn replied(&self, numbers: Range<u16>) {
        for n in numbers {
            let mut reply = [0; 16];
            let len = self.v4.recv(&mut reply).expect("a reply");
            assert_eq!(&reply[..len], n.to_be_bytes());
        }
    }

    fn nothing_is_lost(&mut self) {
        let count = |place| self.port.frames().count(place);
        assert_eq!(
            [Place::Free, Place::Fill, Place::Held, Place::Tx].map(count),
            [FRAMES - FILL, FILL, 0, 0]
        );
        let stats = self.port.stats();
        assert_eq!((stats.bad_descriptors, stats.tx_invalid_descs, stats.rx_invalid_descs), (0, 0, 0));
        assert_eq!(stats.send_failed, 0);
    }
}

fn echoes_both_families(rig: &mut Rig<'_>) {
    for socket in [rig.v4.try_clone().unwrap(), rig.v6.try_clone().unwrap()] {
        for message in [&b"x"[..], &[7; 1200]] {
            socket.send(message).unwrap();
            let mut frames = Vec::new();
            rig.take(&mut frames, 1);
            rig.answer(frames);
            rig.flush_all();
            let mut reply = [0; 1500];
            let len = socket.recv(&mut reply).expect("a reply, from the address that was asked");
            assert_eq!(&reply[..len], message);
        }
    }
    assert_eq!(rig.steering.verdicts().unwrap().get(Verdict::Redirected), 4);
    let stats = rig.port.stats();
    assert_eq!((stats.sent, stats.kick_failed, stats.rx_dropped), (4, 0, 0));
    rig.nothing_is_lost();
}

#[test]
fn datagrams_come_and_go_under_a_program_in_the_driver() {
    with_rig(LabOptions::default(), &config(Request::Auto), |rig| {
        assert_eq!(rig.attachment, Attachment::Driver);
        assert_eq!(rig.port.opened().mode, Mode::Copy);
        echoes_both_families(rig);
    });
}

#[test]
fn datagrams_come_and_go_under_a_generic_program() {
    with_rig(LabOptions::default(), &config(Request::Generic), |rig| {
        assert_eq!(rig.attachment, Attachment::Generic { refusal: None });
        assert_eq!(rig.port.opened().mode, Mode::Copy);
        echoes_both_families(rig);
    });
}

#[test]
fn datagrams_come_and_go_under_a_vlan_tag() {
    let options = LabOptions { vlan: Some(VLAN), ..LabOptions::default() };
    with_rig(options, &config(Request::Auto), echoes_both_families);
}

#[test]
fn answers_beyond_the_ring_wait_their_turn() {
    with_rig(LabOptions::default(), &config(Request::Auto), |rig| {
        const COUNT: u16 = 900;
        let frames = rig.receive(0..COUNT);
        assert_eq!(frames.len(), usize::from(COUNT));
        rig.answer(frames);
        let flushes = rig.flush_all();
        assert_eq!(flushes, usize::from(COUNT).div_ceil(64) + 1, "a ring each, and one to reclaim the last");
        assert_eq!(rig.port.stats().tx_ring_full as usize, flushes - 2);
        rig.replied(0..COUNT);
        rig.nothing_is_lost();
    });
}

#[test]
fn a_stalled_worker_loses_only_what_is_counted() {
    with_rig(LabOptions::default(), &config(Request::Auto), |rig| {
        const COUNT: u64 = 3000;
        for n in 0..COUNT {
            rig.v4.send(&(n as u16).to_be_bytes()).unwrap();
            if n % STEP as u64 == 0 {
                std::thread::sleep(Duration::from_millis(1)); // let the veth queue run dry
            }
        }
        let redirected = rig.steering.verdicts().unwrap().get(Verdict::Redirected);
        let mut frames = Vec::new();
        rig.take(&mut frames, FILL);
        let mut burst = Burst::new();
        rig.port.recv(&mut burst);
        assert!(burst.is_empty(), "no more than there were chunks for");
        let stats = rig.port.stats();
        let lost = stats.rx_ring_full + stats.rx_dropped;
        assert_eq!(redirected, FILL as u64 + lost, "{stats:?}");
        rig.answer(frames);
        rig.flush_all();
        rig.replied(0..FILL as u16);
        rig.nothing_is_lost();

        // The port works as before.
        let frames = rig.receive(0..200);
        rig.answer(frames);
        rig.flush_all();
        rig.replied(0..200);
        rig.nothing_is_lost();
    });
}

#[test]
fn a_link_that_goes_down_and_up_loses_no_frame() {
    with_rig(LabOptions::default(), &config(Request::Auto), |rig| {
        for round in 0..3 {
            let frames = rig.receive(0..200);
            rig.lab.server().run("ip", ["link", "set", "vs", "down"]);
            rig.answer(frames);
            rig.port.flush();
            rig.port.flush();
            assert_eq!(rig.port.stats().kick_failed, 2 * (round + 1));
            assert_eq!(rig.port.frames().count(Place::Tx), 200, "kept while the link is down");

            rig.lab.server().run("ip", ["link", "set", "vs", "up"]);
            rig.flush_all();
            rig.replied(0..200);
            rig.nothing_is_lost();
        }
        let frames = rig.receive(0..200);
        rig.answer(frames);
        rig.flush_all();
        rig.replied(0..200);
        assert_eq!(rig.port.stats().sent, 800);
    });
}

#[test]
fn each_queue_has_a_port_of_its_own() {
    let options = LabOptions { queues: 2, ..LabOptions::default() };
    with_rig(options, &config(Request::Auto), |rig| {
        let second = XskConfig { queue: 1, ..config(Request::Auto) };
        let mut second = XskPort::open(&second).expect("the second port");
        rig.steering.add_socket(1, second.fd()).expect("the second socket");
        let sockets: Vec<UdpSocket> = rig.lab.client().enter(|| {
            (0..32)
                .map(|_| {
                    let socket = UdpSocket::bind((CLIENT_V4, 0)).unwrap();
                    socket.connect(listen()[0]).unwrap();
                    socket
                })
                .collect()
        });
        sockets.iter().for_each(|socket| assert_eq!(socket.send(b"hello").unwrap(), 5));
        let start = Instant::now();
        let (mut on_first, mut on_second) = (0, 0);
        while on_first + on_second < sockets.len() {
            assert!(start.elapsed() < PATIENCE, "{on_first} and {on_second} arrived");
            for (port, count) in [(&mut rig.port, &mut on_first), (&mut second, &mut on_second)] {
                let mut burst = Burst::new();
                port.recv(&mut burst);
                *count += burst.len();
                burst.into_iter().for_each(|frame| port.frames().release(frame));
                port.flush();
            }
        }
        assert!(on_first > 0 && on_second > 0, "spread over both: {on_first} and {on_second}");
    });
}
