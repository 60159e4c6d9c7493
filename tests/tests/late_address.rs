//! Tests of listen addresses that this host gets while ringdnsd runs, loses and gets again.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ringdns_testkit::{
    Client, DNS_V4, Lab, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, program, sums, until,
};
use tempfile::NamedTempFile;

/// Virtual addresses of the server. The first is also that of the HTTP API.
const LATE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 53, 0, 9)), IpAddr::V6(Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, 0, 9))];

fn dns(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 53)
}

/// A ringdnsd that listens on an address of the server and on two that it does not have yet.
struct Scene {
    lab: Lab,
    ringdnsd: Ringdnsd,
    _upstream: Upstream,
    names: u16,
    /// File of the tokens, as long as there is one.
    _tokens: Option<NamedTempFile>,
}

impl Scene {
    fn up(settings: fn(SocketAddr) -> Settings) -> Option<Self> {
        let lab = Lab::up()?;
        let upstream = Upstream::answering(lab.server());
        let mut settings = settings(upstream.address());
        settings.listen = [DNS_V4, dns(LATE[0]), dns(LATE[1])].map(|address| address.to_string()).into();
        let tokens = NamedTempFile::new().expect("a file");
        fs::write(&tokens, format!("grafana read {}\n", "00".repeat(32))).expect("a file");
        settings.control = format!("http = \"{}:8053\"\ntokens_file = {:?}", LATE[0], tokens.path());
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        Some(Scene { lab, ringdnsd, _upstream: upstream, names: 0, _tokens: Some(tokens) })
    }

    /// Waits until the log has `times` lines that contain `words`.
    #[track_caller]
    fn hears(&self, words: &str, times: usize) {
        let said = || self.ringdnsd.process().output().matches(words).count();
        until(&format!("{words:?} was logged {times} times"), || (said() >= times).then_some(()));
        assert_eq!(said(), times, "{}", self.ringdnsd.process().output());
    }

    /// Checks that a miss and a hit are answered over UDP, and a hit over TCP.
    #[track_caller]
    fn answers_at(&mut self, address: SocketAddr) {
        self.names += 1;
        let query = Query::a(&format!("name{}.example", self.names)).id(self.names);
        let client = Client::of(self.lab.client(), address);
        for _ in 0..2 {
            assert_eq!((client.ask(&query).rcode(), client.ask(&query).answers()), (0, 1), "{address}");
        }
        assert_eq!(ask_over_tcp(self.lab.client(), address, &[query])[0].rcode(), 0, "{address}");
    }

    /// Checks that ringdnsd is ready, and that its status names these addresses as absent.
    #[track_caller]
    fn is_ready_without(&self, absent: &[IpAddr]) {
        let status = self.ringdnsd.told(&["status"]);
        assert!(status.contains("answering queries\n"), "{status}");
        for address in LATE {
            let told = status.contains(&format!("no interface has {address}: "));
            assert_eq!(told, absent.contains(&address), "{status}");
        }
        assert_eq!(self.ringdnsd.readyz(), (true, "ok\n".to_owned()));
    }

    /// Adds and removes the addresses twice.
    #[track_caller]
    fn come_and_go(&mut self) {
        self.is_ready_without(&LATE);
        self.answers_at(DNS_V4);
        for round in 1..=2 {
            LATE.iter().for_each(|address| self.hears(&format!("no interface has {address}: "), round));
            for address in LATE {
                self.lab.server().give_address("vs", address);
                self.hears(&format!("an interface has {address} now"), round);
            }
            LATE.iter().for_each(|address| self.answers_at(dns(*address)));
            self.is_ready_without(&[]);
            for address in LATE {
                let prefix = format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 });
                self.lab.server().run("ip", ["address", "del", &prefix, "dev", "vs"]);
                self.hears(&format!("no interface has {address}: "), round + 1);
            }
            self.is_ready_without(&LATE);
            self.answers_at(DNS_V4);
        }
        sums::queries_close(&self.ringdnsd.settled()["total"]);
        assert_eq!(self.ringdnsd.terminate().code(), Some(0), "{}", self.ringdnsd.process().output());
    }
}

#[test]
fn late_addresses_are_served_over_af_xdp() {
    let Some(mut scene) = Scene::up(Settings::xdp) else { return };
    scene.come_and_go();
}

#[test]
fn late_addresses_are_steered_to_af_xdp() {
    let Some(mut scene) = Scene::up(Settings::xdp) else { return };
    scene.lab.server().give_address("vs", LATE[0]);
    scene.hears(&format!("an interface has {} now", LATE[0]), 1);
    // The program gets to know the address by an event of its own.
    until("queries to the late address take the fast path", || {
        let before = scene.ringdnsd.stat("/xdp/redirected");
        scene.answers_at(dns(LATE[0]));
        (scene.ringdnsd.stat("/xdp/redirected") >= before + 4).then_some(())
    });
}

#[test]
fn late_addresses_are_served_over_kernel_sockets() {
    let Some(mut scene) = Scene::up(Settings::sockets) else { return };
    scene.come_and_go();
}

/// A host that starts has tentative IPv6 addresses for a second or two.
#[test]
fn a_tentative_address_is_no_reason_to_fail() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let server = lab.server();
    // Otherwise it may be built while the address is tentative.
    program("ringdnsd");
    // The address stays tentative for some eight seconds.
    server.run("sysctl", ["-qw", "net.ipv6.conf.vs.dad_transmits=8"]);
    server.run("ip", ["address", "add", &format!("{}/64", LATE[1]), "dev", "vs"]);
    let listen = vec![dns(LATE[1]).to_string()];
    let settings = Settings { listen, ..Settings::sockets(upstream.address()) };
    let ringdnsd = Ringdnsd::start(server, &settings);
    let mut scene = Scene { ringdnsd, lab, _upstream: upstream, names: 0, _tokens: None };
    scene.hears(&format!("no interface has {}: ", LATE[1]), 1);
    scene.hears(&format!("an interface has {} now", LATE[1]), 1);
    scene.answers_at(dns(LATE[1]));
}

#[test]
fn a_check_accepts_late_addresses_and_names_them() {
    let Some(lab) = Lab::up() else { return };
    let listen = LATE.map(|address| dns(address).to_string()).into();
    let settings = Settings { listen, ..Settings::sockets(SocketAddr::from(([127, 0, 0, 1], 9))) };
    let (code, said) = Ringdnsd::check(lab.server(), &settings, &[]);
    assert_eq!(code, 0, "{said}");
    for address in LATE {
        assert!(said.contains(&format!("no interface has {address}: ")), "{said}");
    }
}
