//! Tests of the load generator's programs: the queries that they write, the answers that they
//! count, and both together at full speed over a cable.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapError, PerCpuArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use ringdns_abi::{
    Verdict,
    generator::{
        CONFIG_MAP, Config, FRAME_LEN, Flow, GENERATE_PROGRAM, LATENCIES_MAP, ORDER_MAP, PROGRESS_MAP,
        Progress, RECEIVED_MAP, Received, SINK_PROGRAM, TEMPLATES_MAP, Template, bucket_start,
    },
};
use ringdns_testkit::Lab;
use ringdns_xdp::{AttachMode, SteerConfig, Steering};
use rustix::net::netdevice::name_to_index;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/generator.bpf.o");

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

const HEADER: &[u8] = b"\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";

/// Returns queries for names of every length that matters: the root, odd and even ones, and one of
/// 255 bytes.
fn queries() -> Vec<Vec<u8>> {
    let longest =
        [[b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(3), b"\x3d".to_vec(), vec![b'y'; 61]].concat();
    let names: [&[u8]; 4] = [b"", b"\x01a", b"\x07example\x03com", &longest];
    names.iter().map(|name| [HEADER, name, b"\x00\x00\x01\x00\x01"].concat()).collect()
}

fn flow(family: u8) -> Flow {
    let (source, server) = match family {
        4 => ("10.53.0.1", "10.53.0.2:53"),
        _ => ("fd53::1", "[fd53::2]:53"),
    };
    Flow {
        // The addresses that deploy/lab.sh assigns.
        source_mac: [2, 0, 0, 0, 0x53, 1],
        destination_mac: [2, 0, 0, 0, 0x53, 2],
        source: source.parse().unwrap(),
        server: server.parse().unwrap(),
        first_port: 49_152,
        ports_log2: 3,
    }
}

struct Generator {
    programs: Ebpf,
    config: Config,
}

impl Generator {
    /// Returns a generator that sends `queries` in turn.
    fn new(flow: &Flow, queries: &[Vec<u8>], interface: u32) -> Self {
        let count = queries.len() as u32;
        let mut programs = EbpfLoader::new()
            .map_max_entries(TEMPLATES_MAP, count)
            .map_max_entries(ORDER_MAP, count)
            .load(OBJECT)
            .expect("the object");
        let mut templates: Array<_, Template> = map(&mut programs, TEMPLATES_MAP);
        for (index, query) in (0..).zip(queries) {
            templates.set(index, Template::new(query).expect("a query"), 0).expect("a template");
        }
        let mut order: Array<_, u32> = map(&mut programs, ORDER_MAP);
        for index in 0..count {
            order.set(index, index, 0).expect("an order");
        }
        let config = Config { order_len: count, interface, ..Config::new(flow).expect("a flow") };
        let mut generator = Self { programs, config };
        generator.configure(config);
        for name in [GENERATE_PROGRAM, SINK_PROGRAM] {
            generator.program(name).load().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        generator
    }

    fn configure(&mut self, config: Config) {
        self.config = config;
        map::<Array<_, Config>>(&mut self.programs, CONFIG_MAP).set(0, config, 0).expect("a configuration");
    }

    fn program(&mut self, name: &str) -> &mut Xdp {
        self.programs.program_mut(name).expect(name).try_into().expect("an XDP program")
    }

    /// Runs a program once. Returns the action and the resulting frame.
    fn run(&mut self, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; 2048];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = self.program(name).test_run(options).expect("a test run");
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Runs the generator on live frames in `slots` slots.
    fn run_live(&mut self, slots: u32) {
        let frame = [0; FRAME_LEN];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = slots;
        options.attrs = TestRunAttrs::new().xdp_live_frames(64);
        self.program(GENERATE_PROGRAM).test_run(options).expect("live frames");
    }

    fn progress(&mut self) -> Progress {
        map::<Array<_, Progress>>(&mut self.programs, PROGRESS_MAP).get(&0, 0).expect("a progress")
    }

    /// Returns the counters of the sink over all CPUs.
    fn received(&mut self) -> Received {
        let received: PerCpuArray<_, Received> = map(&mut self.programs, RECEIVED_MAP);
        let mut sum = Received::default();
        for cpu in received.get(&0, 0).expect("counters").iter() {
            sum.answers += cpu.answers;
            sum.unmatched += cpu.unmatched;
            sum.truncated += cpu.truncated;
            sum.bytes += cpu.bytes;
            sum.passed += cpu.passed;
            sum.rcodes.iter_mut().zip(cpu.rcodes).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    /// Returns the number of answers in each bucket, over all CPUs.
    fn latencies(&mut self) -> Vec<u64> {
        let latencies: PerCpuArray<_, u64> = map(&mut self.programs, LATENCIES_MAP);
        latencies.iter().map(|bucket| bucket.expect("a bucket").iter().sum()).collect()
    }
}

fn map<'a, M>(programs: &'a mut Ebpf, name: &str) -> M
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    M::try_from(programs.map_mut(name).expect(name)).expect(name)
}

/// Returns the query in a frame, with its ID set to zero, after checking everything around it.
fn query_in(frame: &[u8], flow: &Flow) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(frame).expect("a packet");
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP: {packet:?}") };
    let header = udp.to_header();
    let (source, server, checksum) = match packet.net.as_ref().expect("IP") {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            let checksum = header.calc_checksum_ipv4_raw(ip.source, ip.destination, udp.payload());
            (ip.source.into(), SocketAddr::new(ip.destination.into(), udp.destination_port()), checksum)
        }
        NetSlice::Ipv6(ip) => {
            let ip = ip.header().to_header();
            let checksum = header.calc_checksum_ipv6_raw(ip.source, ip.destination, udp.payload());
            (ip.source.into(), SocketAddr::new(ip.destination.into(), udp.destination_port()), checksum)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(header.checksum, checksum.expect("a length that fits"), "UDP checksum");
    assert_eq!((source, server), (flow.source, flow.server));
    assert_eq!((&frame[..6], &frame[6..12]), (&flow.destination_mac[..], &flow.source_mac[..]));
    [&[0, 0], &udp.payload()[2..]].concat()
}

/// Returns a server's answer to a query: addresses swapped, flags and RCODE set.
fn answer_to(query: &[u8], flags: [u8; 2]) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(query).expect("a packet");
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
    let mut message = udp.payload().to_vec();
    message[2..4].copy_from_slice(&flags);
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0x53, 2], [2, 0, 0, 0, 0x53, 1])
        .ipv4(ip.header().destination(), ip.header().source(), 64)
        .udp(udp.destination_port(), udp.source_port())
        .write(&mut frame, &message)
        .unwrap();
    frame
}

#[test]
fn queries_are_whole_and_in_order() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    for family in [4, 6] {
        let (flow, queries) = (flow(family), queries());
        let mut generator = Generator::new(&flow, &queries, 1);
        let mut seen = Vec::new();
        // A recycled frame: full of old data, and of any length.
        for (turn, length) in (0..100).zip([FRAME_LEN, 60, 1000, 14].into_iter().cycle()) {
            let (action, frame) = generator.run(GENERATE_PROGRAM, &vec![0xaa; length]);
            assert_eq!(action, XDP_REDIRECT);
            assert_eq!(query_in(&frame, &flow), queries[turn % queries.len()], "turn {turn}, IPv{family}");
            let packet = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP") };
            let id = u16::from_be_bytes([udp.payload()[0], udp.payload()[1]]);
            seen.push((id, udp.source_port()));
        }
        // Eight ports take turns, then the ID goes up.
        let expected = (0..100u16).map(|turn| (turn / 8, 49_152 + turn % 8));
        assert!(seen.into_iter().eq(expected));
        assert_eq!(generator.progress(), Progress { sequence: 100, sent: 100, ..Progress::default() });
    }
}

/// One query in 65,536 has a checksum that computes to zero, and must be sent as 0xffff (RFC 768).
#[test]
fn no_query_is_without_a_checksum() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let flow = Flow { ports_log2: 0, ..flow(4) };
    let mut generator = Generator::new(&flow, &queries()[..1], 1);
    // Each ID once: exactly one gives that checksum.
    let mut ones = 0;
    for _ in 0..=u16::MAX {
        let (_, frame) = generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
        assert_ne!(frame[40..42], [0, 0]);
        ones += u32::from(frame[40..42] == [0xff, 0xff]);
    }
    assert_eq!(ones, 1);
}

#[test]
fn answers_are_counted_for_what_they_are() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let mut generator = Generator::new(&flow(4), &queries(), 1);
    let mut bytes = 0;
    // NOERROR, NXDOMAIN, REFUSED, and NOERROR with TC.
    for flags in [[0x81, 0x80], [0x81, 0x83], [0x81, 0x85], [0x83, 0x80]] {
        let (_, query) = generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
        let answer = answer_to(&query, flags);
        assert_eq!(generator.run(SINK_PROGRAM, &answer), (XDP_DROP, answer.clone()));
        bytes += answer.len() as u64;
        // A second answer to the same query.
        assert_eq!(generator.run(SINK_PROGRAM, &answer).0, XDP_DROP);
    }
    let mut rcodes = [0; 16];
    (rcodes[0], rcodes[3], rcodes[5]) = (2, 1, 1);
    let expected = Received { answers: 4, unmatched: 4, truncated: 1, bytes, passed: 0, rcodes };
    assert_eq!(generator.received(), expected);
    assert_eq!(generator.latencies().iter().sum::<u64>(), 4);
}

#[test]
fn what_is_no_answer_is_left_to_the_kernel() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let mut generator = Generator::new(&flow(4), &queries(), 1);
    let (_, query) = generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
    let answer = answer_to(&query, [0x81, 0x80]);
    let changed = |at: usize, to: u8| {
        let mut frame = answer.clone();
        frame[at] = to;
        frame
    };
    let others = [
        ("a query", query.clone()),
        ("ARP", changed(13, 0x06)),
        ("TCP", changed(23, 6)),
        ("from another port", changed(35, 54)),
        ("to another port", changed(36, 0x10)),
        ("no answer flag", changed(44, 0x01)),
        ("cut short", answer[..50].to_vec()),
    ];
    for (name, frame) in &others {
        assert_eq!(generator.run(SINK_PROGRAM, frame), (XDP_PASS, frame.clone()), "{name}");
    }
    let expected = Received { passed: others.len() as u64, ..Received::default() };
    assert_eq!(generator.received(), expected);
}

/// Slots without an order are counted, and nothing is sent.
#[test]
fn an_empty_order_sends_nothing() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let mut generator = Generator::new(&flow(4), &queries(), 1);
    for order_len in [0, 1000] {
        generator.configure(Config { order_len, ..generator.config });
        for _ in 0..8 {
            generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
        }
    }
    // An order of length 0 has nothing to send; of one of 1000, the map has four empty entries.
    let expected = Progress { sequence: 16, failed: 16, ..Progress::default() };
    assert_eq!(generator.progress(), expected);
}

#[test]
fn queries_keep_to_their_schedule() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    const INTERVAL: Duration = Duration::from_micros(50);
    let mut generator = Generator::new(&flow(4), &queries(), 1);
    let config = generator.config;
    generator.configure(Config {
        interval_ns: INTERVAL.as_nanos() as u64,
        max_lag_ns: Duration::from_millis(1).as_nanos() as u64,
        ..config
    });
    let begin = Instant::now();
    let mut slots = 0;
    while begin.elapsed() < Duration::from_millis(200) {
        generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
        slots += 1;
    }
    let due = begin.elapsed().as_nanos() / INTERVAL.as_nanos();
    let progress = generator.progress();
    assert_eq!(progress.sent + progress.idle + progress.failed, slots);
    // Never ahead of schedule; behind by at most the time of the first and the last slot.
    let scheduled = u128::from(progress.sent + progress.skipped);
    assert!(
        scheduled <= due + 1 && scheduled + 400 >= due,
        "{scheduled} scheduled, {due} were due: {progress:?}"
    );
}

/// At full speed over a cable, every frame that is sent arrives whole, whatever became of the frame
/// before it, and the limit is kept to the exact query.
#[test]
fn live_frames_arrive_whole() {
    const QUERIES: u64 = 200_000;
    let Some(lab) = Lab::up() else { return };
    for family in [4, 6] {
        let flow = flow(family);
        let steering = lab.server().enter(|| {
            let config = SteerConfig {
                interface: "vs",
                listen: &[flow.server],
                vlans: &[],
                prefixes: &[],
                mode: AttachMode::Driver,
            };
            let mut steering = Steering::load(&config).expect("the program loads");
            steering.attach().expect("the program attaches");
            steering
        });
        let (progress, elapsed) = lab.client().enter(|| {
            let any = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let interface = name_to_index(&any, "vc").expect("vc");
            let mut generator = Generator::new(&flow, &queries(), interface);
            let config = Config { limit: QUERIES, ..generator.config };
            generator.configure(config);
            generator.program(SINK_PROGRAM).attach("vc", XdpMode::Driver).expect("the sink attaches");
            let begin = Instant::now();
            generator.run_live(QUERIES as u32 + 1000);
            (generator.progress(), begin.elapsed())
        });
        let expected = Progress { sequence: QUERIES, sent: QUERIES, idle: 1000, ..Progress::default() };
        assert_eq!(progress, expected);
        let verdicts = steering.verdicts().expect("counters");
        let arrived = verdicts.get(Verdict::NoSocket);
        println!("IPv{family}: {QUERIES} sent in {elapsed:?}, {arrived} arrived");
        // The cable may lose frames when the receiver is slow, but every frame that it delivers is
        // a query or not ours.
        assert!(arrived > QUERIES / 100, "{arrived} of {QUERIES} arrived");
        for verdict in [Verdict::BadLength, Verdict::OtherDestination, Verdict::IpOptions, Verdict::Fragment]
        {
            assert_eq!(verdicts.get(verdict), 0, "{}", verdict.name());
        }
    }
}

/// Full round trip: queries in live frames, answers from a kernel socket, and the sink at the end
/// of the cable.
#[test]
fn answers_come_back_to_the_sink() {
    const QUERIES: u64 = 200;
    let Some(lab) = Lab::up() else { return };
    let flow = flow(4);
    let server = lab.server().enter(|| UdpSocket::bind(flow.server).expect("port 53"));
    server.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut message = [0; 512];
            for _ in 0..QUERIES {
                let (length, client) = server.recv_from(&mut message).expect("a query");
                message[2] |= 0x80;
                server.send_to(&message[..length], client).expect("an answer");
            }
        });
        lab.client().enter(|| {
            let any = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let interface = name_to_index(&any, "vc").expect("vc");
            let mut generator = Generator::new(&flow, &queries(), interface);
            generator.configure(Config {
                limit: QUERIES,
                interval_ns: Duration::from_micros(500).as_nanos() as u64,
                max_lag_ns: Duration::from_millis(1).as_nanos() as u64,
                ..generator.config
            });
            generator.program(SINK_PROGRAM).attach("vc", XdpMode::Driver).expect("the sink attaches");
            while generator.progress().sent < QUERIES {
                generator.run_live(100_000);
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while generator.received().answers < QUERIES && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let received = generator.received();
            assert_eq!((received.answers, received.unmatched, received.rcodes[0]), (QUERIES, 0, QUERIES));
            assert_eq!(generator.latencies().iter().sum::<u64>(), QUERIES);
        });
    });
}

#[test]
fn latency_is_in_the_bucket_of_the_time_that_passed() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let mut generator = Generator::new(&flow(4), &queries(), 1);
    let (_, query) = generator.run(GENERATE_PROGRAM, &[0; FRAME_LEN]);
    let sent = Instant::now();
    let pause = Duration::from_millis(20);
    std::thread::sleep(pause);
    generator.run(SINK_PROGRAM, &answer_to(&query, [0x81, 0x80]));
    let at_most = sent.elapsed() + Duration::from_millis(20);
    let bucket = generator.latencies().iter().position(|&count| count == 1).expect("one answer") as u32;
    let (from, to) = (bucket_start(bucket), bucket_start(bucket + 1));
    assert!(u128::from(to) > pause.as_nanos() && u128::from(from) < at_most.as_nanos(), "{from} to {to} ns");
}
