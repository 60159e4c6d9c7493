//! Attachment of the steering program to a NIC: it is attached last, is removed however the process
//! ends, and never replaces another program.

#[path = "../../../ebpf/abi/tests/fixtures/mod.rs"]
mod fixtures;

use std::{
    env,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use aya::programs::{TestRun as _, TestRunOptions};
use ringdns_abi::Verdict;
use ringdns_testkit::{Host, Lab, LabOptions, Process, SERVER_V4, until};
use ringdns_xdp::{AttachMode, Attachment, Gate, SteerConfig, SteerError, Steering};
use rustix::{
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
    process::Signal,
};

const NIC: &str = "vs";
const PATIENCE: Duration = Duration::from_secs(10);

fn load(interface: &str, mode: AttachMode) -> Result<Steering, SteerError> {
    let listen = fixtures::listen();
    Steering::load(&SteerConfig { interface, listen: &listen, vlans: &[], prefixes: &[], mode })
}

fn attached(mode: AttachMode) -> (Steering, Attachment) {
    let mut steering = load(NIC, mode).expect("the program loads");
    let attachment = steering.attach().expect("the program attaches");
    (steering, attachment)
}

/// Whether the interface runs an XDP program, as `ip link` sees it.
fn has_program(host: &Host, interface: &str) -> bool {
    let links = host.run("ip", ["-json", "link", "show", "dev", interface]);
    let links: serde_json::Value = serde_json::from_str(&links).expect("JSON from ip");
    links[0].get("xdp").is_some()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not so after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

// ----------- Going
// ----------------------------------------------------------------------------------------------------

#[test]
fn drop_and_detach_take_the_program_off() {
    let Some(lab) = Lab::up() else { return };
    let host = lab.server();
    host.enter(|| {
        let mut steering = load(NIC, AttachMode::Driver).expect("the program loads");
        assert!(!has_program(host, NIC), "loading alone must not attach");
        for _ in 0..2 {
            assert_eq!(steering.attach().expect("the program attaches"), Attachment::Driver);
            assert!(has_program(host, NIC));
            steering.detach();
            wait_until("detached", || !has_program(host, NIC));
        }
        steering.attach().expect("the program attaches");
        drop(steering);
        wait_until("detached by drop", || !has_program(host, NIC));
    });
}

#[test]
fn a_killed_process_leaves_no_program() {
    let Some(lab) = Lab::up() else { return };
    let host = lab.server();
    let mut process = start(host, "attaches_and_waits", &[]);
    process.wait_for_line("attached: driver", PATIENCE);
    assert!(has_program(host, NIC));

    process.signal(Signal::KILL);
    process.wait_for_exit(PATIENCE);
    wait_until("detached by the kernel", || !has_program(host, NIC));
    // The next program can be attached.
    host.enter(|| drop(attached(AttachMode::Driver)));
}

/// Starts one of the tests below in a process of its own on `host`. `wrapper` is a command to run
/// it under.
fn start(host: &Host, test: &str, wrapper: &[&str]) -> Process {
    let this =
        env::current_exe().expect("the path of this test").into_os_string().into_string().expect("in UTF-8");
    let arguments = ["--ignored", "--exact", "--nocapture", test];
    let line: Vec<&str> = wrapper.iter().copied().chain([this.as_str()]).chain(arguments).collect();
    host.spawn(line[0], &line[1..])
}

#[test]
#[ignore = "a_killed_process_leaves_no_program runs it as the process that it kills"]
fn attaches_and_waits() {
    let (_steering, attachment) = attached(AttachMode::Auto);
    println!("attached: {attachment}");
    // Longer than the test waits, but not forever, in case the test itself is killed.
    thread::sleep(6 * PATIENCE);
}

// ----------- Shut gates
// -----------------------------------------------------------------------------------------------

#[test]
fn another_program_is_left_alone() {
    let Some(lab) = Lab::up() else { return };
    lab.server().enter(|| {
        let (mut first, _) = attached(AttachMode::Driver);
        // The kernel returns EBUSY for the same mode and EEXIST for the other; neither may make
        // Auto try another mode.
        for mode in [AttachMode::Driver, AttachMode::Generic, AttachMode::Auto] {
            let error = load(NIC, mode).expect("the program loads").attach().expect_err("the NIC is taken");
            assert!(matches!(error, SteerError::Occupied { .. }), "{mode:?}: {error}");
        }
        assert!(has_program(lab.server(), NIC));
        let error = first.attach().expect_err("it is attached already");
        assert!(matches!(error, SteerError::Occupied { .. }), "{error}");
    });
}

#[test]
fn a_driver_without_xdp_gets_the_generic_mode() {
    let Some(lab) = Lab::up() else { return };
    let host = lab.server();
    // Loopback has no native XDP.
    host.enter(|| {
        let mut steering = load("lo", AttachMode::Auto).expect("the program loads");
        let Attachment::Generic { refusal: Some(reason) } = steering.attach().expect("some mode") else {
            panic!("loopback has native XDP now?");
        };
        assert!(reason.contains("Operation not supported"), "{reason}");
        assert!(has_program(host, "lo"));
        drop(steering);

        let error =
            load("lo", AttachMode::Driver).expect("the program loads").attach().expect_err("no native XDP");
        assert!(matches!(&error, SteerError::NoDriverMode { interface, .. } if interface == "lo"), "{error}");

        let mut steering = load("lo", AttachMode::Generic).expect("the program loads");
        assert_eq!(steering.attach().expect("generic mode"), Attachment::Generic { refusal: None });
    });
}

#[test]
fn a_driver_that_refuses_for_its_settings_gets_the_generic_mode() {
    let Some(lab) = Lab::with(LabOptions { queues: 2, ..LabOptions::default() }) else { return };
    // veth wants to receive on as many queues as its peer transmits on.
    lab.server().run("ethtool", ["-L", NIC, "rx", "1"]);
    lab.server().enter(|| {
        let error =
            load(NIC, AttachMode::Driver).expect("the program loads").attach().expect_err("too few queues");
        let message = error.to_string();
        assert!(
            message.contains("No space left") && message.contains("driver veth, 1 receive queue, MTU 1500"),
            "{message}"
        );
        let (_steering, attachment) = attached(AttachMode::Auto);
        assert!(matches!(attachment, Attachment::Generic { refusal: Some(_) }), "{attachment}");
    });
}

#[test]
fn frames_beyond_a_page_are_no_reason_to_refuse() {
    let Some(lab) = Lab::up() else { return };
    // Without a program for several buffers, veth wants what its peer sends to fit one page.
    lab.client().run("ip", ["link", "set", "dev", "vc", "mtu", "9000"]);
    lab.server().enter(|| {
        let (steering, attachment) = attached(AttachMode::Driver);
        assert!(steering.takes_frags(), "this kernel has such programs");
        assert_eq!(attachment, Attachment::Driver);
    });
}

#[test]
fn missing_capabilities_are_named() {
    let Some(lab) = Lab::up() else { return };
    for (bounds, expected) in [
        ("-all,+bpf,+net_admin,+perfmon,+net_raw", "loaded and attached"),
        ("-all,+bpf,+net_admin,+net_raw", "lacks CAP_PERFMON"),
        ("-all,+net_admin,+perfmon,+net_raw", "lacks CAP_BPF"),
        ("-all,+bpf,+net_admin,+perfmon", "lacks CAP_NET_RAW"),
        ("-all", "lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_NET_RAW"),
    ] {
        let bounding_set = format!("--bounding-set={bounds}");
        let mut process = start(lab.server(), "says_how_loading_went", &["setpriv", &bounding_set]);
        process.wait_for_exit(PATIENCE);
        assert!(process.output().contains(expected), "{bounds}:\n{}", process.output());
    }
}

#[test]
#[ignore = "missing_capabilities_are_named runs it with fewer capabilities"]
fn says_how_loading_went() {
    match load(NIC, AttachMode::Driver).and_then(|mut steering| steering.attach()) {
        Ok(_) => println!("loaded and attached"),
        Err(error) => {
            println!("{error}");
            assert!(matches!(error, SteerError::Shut { gate: Gate::Capabilities(_), .. }), "{error:?}");
        }
    }
}

// ----------- Packets
// --------------------------------------------------------------------------------------------------

/// In native and in generic mode, without a socket, every packet reaches the kernel and is counted
/// by its verdict.
#[test]
fn the_kernel_gets_what_is_not_steered() {
    let Some(lab) = Lab::up() else { return };
    for mode in [AttachMode::Driver, AttachMode::Generic] {
        let (steering, server) = lab.server().enter(|| {
            // A process that another test begins has the socket of the first turn open, until it runs
            // its program.
            let server = until("port 53 is free", || UdpSocket::bind((SERVER_V4, 53)).ok());
            server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            (attached(mode).0, server)
        });
        let before = steering.verdicts().expect("counters");
        lab.client().enter(|| {
            let client = UdpSocket::bind("0.0.0.0:0").expect("a port");
            for _ in 0..10 {
                client.send_to(b"a query", (SERVER_V4, 53)).expect("sent");
            }
            // Nobody listens: the answer is a reset, and it comes from the server's kernel.
            let server: SocketAddr = (SERVER_V4, 53).into();
            TcpStream::connect_timeout(&server, PATIENCE).expect_err("nobody listens");
        });
        let mut buffer = [0; 64];
        for _ in 0..10 {
            let length = server.recv(&mut buffer).expect("a query that the kernel got");
            assert_eq!(&buffer[..length], b"a query");
        }
        let after = steering.verdicts().expect("counters");
        let counted = |verdict| after.get(verdict) - before.get(verdict);
        assert_eq!((counted(Verdict::NoSocket), counted(Verdict::Tcp)), (10, 1), "{mode:?}");
        assert_eq!(counted(Verdict::Redirected), 0, "{mode:?}");
    }
}

#[test]
fn each_queue_has_its_own_socket() {
    let Some(lab) = Lab::with(LabOptions { queues: 2, ..LabOptions::default() }) else { return };
    set_mac(lab.server(), FIXTURES_MAC);
    lab.server().enter(|| {
        // Attached, because the driver has queues for XDP only then.
        let (mut steering, _) = attached(AttachMode::Driver);
        let socket = socket(AddressFamily::XDP, SocketType::RAW, None).expect("an AF_XDP socket");
        steering.add_socket(1, socket.as_fd()).expect("a place in the map");

        let query = fixtures::all().swap_remove(0);
        assert_eq!(query.verdict, Verdict::Redirected, "{}", query.name);
        let before = steering.verdicts().expect("counters");
        run_on_queue(&mut steering, 0, &query.frame);
        let between = steering.verdicts().expect("counters");
        run_on_queue(&mut steering, 1, &query.frame);
        let after = steering.verdicts().expect("counters");
        assert_eq!(between.get(Verdict::NoSocket) - before.get(Verdict::NoSocket), 1);
        assert_eq!(after.get(Verdict::Redirected) - between.get(Verdict::Redirected), 1);
    });
}

/// A NIC in promiscuous mode receives frames to other hosts. The addresses of other devices of this
/// host, such as macvlan, are its own, and a new address counts after the next look.
#[test]
fn frames_to_another_host_are_left_to_the_kernel() {
    let Some(lab) = Lab::up() else { return };
    let query = fixtures::all().swap_remove(0);
    let verdict = |steering: &mut Steering| {
        let before = steering.verdicts().expect("counters");
        lab.server().enter(|| run_on_queue(steering, 0, &query.frame));
        let after = steering.verdicts().expect("counters");
        let counted = |verdict: &Verdict| after.get(*verdict) > before.get(*verdict);
        Verdict::ALL.into_iter().find(counted)
    };
    let look = |steering: &mut Steering| lab.server().enter(|| steering.look_at_host()).expect("the map");
    let (mut steering, _) = lab.server().enter(|| attached(AttachMode::Driver));
    assert_eq!(verdict(&mut steering), Some(Verdict::OtherLinkAddress));
    set_mac(lab.server(), FIXTURES_MAC);
    look(&mut steering);
    assert_eq!(verdict(&mut steering), Some(Verdict::NoSocket));
    set_mac(lab.server(), "02:00:00:00:00:99");
    look(&mut steering);
    assert_eq!(verdict(&mut steering), Some(Verdict::OtherLinkAddress));
    let macvlan = ["link", "add", "link", NIC, "name", "mv0", "address", FIXTURES_MAC, "type", "macvlan"];
    lab.server().run("ip", macvlan);
    look(&mut steering);
    assert_eq!(verdict(&mut steering), Some(Verdict::OtherLinkAddress), "the device is down");
    lab.server().run("ip", ["link", "set", "mv0", "up"]);
    look(&mut steering);
    assert_eq!(verdict(&mut steering), Some(Verdict::NoSocket));
}

/// MAC address to which the fixtures are sent.
const FIXTURES_MAC: &str = "02:00:00:00:00:02";

fn set_mac(host: &Host, mac: &str) {
    host.run("ip", ["link", "set", NIC, "address", mac]);
}

/// Runs the program on `frame` as if it had come in on `queue` of the NIC.
fn run_on_queue(steering: &mut Steering, queue: u32, frame: &[u8]) {
    let any = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let interface = name_to_index(&any, NIC).expect("the NIC");
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, frame.len() as u32, 0, interface, queue, 0].map(u32::to_ne_bytes).concat();
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = Some(&context);
    steering.program().expect("the program").test_run(options).expect("a test run");
}
