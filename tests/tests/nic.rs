//! Tests of the interface's life while ringdnsd runs: it disappears and returns, its XDP program is
//! detached, its link goes down. Answers continue where possible, and log, status, `/readyz` and
//! counters report the state.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringdns_testkit::{
    CLIENT_V6, Client, DNS_V4, DNS_V6, Host, Lab, LabOptions, Query, Ringdnsd, SERVER_V6, Settings, Upstream,
    ask_over_tcp, sums, until,
};
use serde_json::Value;

/// Address on the server itself, which exists while the interface does not.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53);

/// Time after which a test fails: longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const LOST: &str = "AF_XDP on vs is lost: ";
const BACK: &str = "AF_XDP on vs is back after ";

fn settings(upstream: &Upstream) -> Settings {
    let mut settings = Settings { server: "mode = \"copy\"".to_owned(), ..Settings::xdp(upstream.address()) };
    settings.listen.push(LOOPBACK.to_string());
    settings
}

/// A ringdnsd in a lab with its upstream.
struct Scene {
    lab: Lab,
    ringdnsd: Ringdnsd,
    upstream: Upstream,
    /// Number of new names asked for so far.
    names: u32,
}

impl Scene {
    fn up(queues: u32, adapt: impl FnOnce(&mut Settings)) -> Option<Self> {
        let lab = Lab::with(LabOptions { queues, vlan: None })?;
        let upstream = Upstream::answering(lab.server());
        let mut settings = settings(&upstream);
        adapt(&mut settings);
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        Some(Scene { lab, ringdnsd, upstream, names: 0 })
    }

    /// Returns the number of log lines that contain `words`.
    fn said(&self, words: &str) -> usize {
        self.ringdnsd.process().output().lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until the log has `times` lines that contain `words`.
    #[track_caller]
    fn hears(&self, words: &str, times: usize) {
        until(&format!("{words:?} was logged {times} times"), || (self.said(words) >= times).then_some(()));
        assert_eq!(self.said(words), times, "{}", self.ringdnsd.process().output());
    }

    /// Returns a query for a name that was not asked for before.
    fn new_name(&mut self) -> Query {
        self.names += 1;
        Query::a(&format!("name{}.example", self.names)).id(self.names as u16)
    }

    /// Checks that hits and misses over UDP and TCP are answered at `server`, as seen from `host`.
    #[track_caller]
    fn is_answered(&mut self, host: fn(&Lab) -> &Host, server: SocketAddr) {
        let miss = self.new_name();
        // A route may appear a moment later than the link.
        let host = host(&self.lab);
        let client = Client::of(host, server);
        until(&format!("{server} answers"), || client.ask_within(&miss, Duration::from_millis(500)));
        assert_eq!(client.ask(&miss).rcode(), 0);
        assert_eq!(ask_over_tcp(host, server, &[miss])[0].rcode(), 0);
    }

    /// Checks that clients and this host are answered, and that AF_XDP receives.
    #[track_caller]
    fn is_by_xdp(&mut self) {
        // Queries on a queue without a worker go through the kernel.
        let seen = |stats: &Value| {
            sums::count(&stats["xdp"]["redirected"]) + sums::count(&stats["xdp"]["no_socket"])
        };
        let before = seen(&self.ringdnsd.stats());
        self.is_answered(Lab::client, DNS_V4);
        self.is_answered(Lab::client, DNS_V6);
        self.is_answered(Lab::server, LOOPBACK);
        let status = self.ringdnsd.told(&["status"]);
        assert!(
            status.contains("answering queries\n") && status.contains("AF_XDP on vs, queues: "),
            "{status}"
        );
        assert_eq!(self.ringdnsd.readyz(), (true, "ok\n".to_owned()));
        let stats = self.ringdnsd.stats();
        assert!(seen(&stats) >= before + 4 && sums::count(&stats["xdp"]["redirected"]) > 0, "{stats:#}");
        assert_eq!(stats["interface"]["by_xdp"], true, "{stats:#}");
    }

    /// Checks that AF_XDP is lost, and that the reason is reported. Clients are answered over
    /// kernel sockets where the interface exists.
    #[track_caller]
    fn is_lost(&mut self, why: &str, readyz: Result<(), &str>) {
        let status = self.ringdnsd.told(&["status"]);
        for word in ["kernel sockets, because AF_XDP on vs was lost ", why] {
            assert!(status.contains(word), "no {word:?} in {status}");
        }
        let (ready, said) = self.ringdnsd.readyz();
        match readyz {
            Ok(()) => assert!(ready && status.contains("): answering queries"), "{said}; {status}"),
            Err(why) => {
                assert!(!ready && said.contains(why), "{said}");
                assert!(status.contains("NOT ready: ") && status.contains(why), "{status}");
            }
        }
        assert_eq!(self.ringdnsd.stats()["interface"]["by_xdp"], false);
        self.is_answered(Lab::server, LOOPBACK);
    }

    /// Checks that every query has an outcome, none is in flight, and every answer was sent or
    /// counted as lost.
    #[track_caller]
    fn sums_close(&mut self) {
        let stats = self.ringdnsd.settled();
        sums::queries_close(&stats["total"]);
        until("each answer was sent or is known to be lost, and each frame is in one place", || {
            sums::ports_close(&self.ringdnsd.stats()).then_some(())
        });
        let lost = self.said(LOST);
        assert_eq!(self.ringdnsd.terminate().code(), Some(0), "{}", self.ringdnsd.process().output());
        assert_eq!(self.said(LOST), lost, "detaching its own program is not a loss");
        assert!(self.upstream.asked() as u64 >= u64::from(self.names), "each name was a miss");
    }

    /// Runs `act` while clients keep asking for one name. Each answer must be right.
    fn under_load<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let hit = Query::a("www.example").id(u16::MAX);
        let clients =
            [(self.lab.client(), DNS_V4), (self.lab.client(), DNS_V6), (self.lab.server(), LOOPBACK)]
                .map(|(host, server)| Client::of(host, server));
        let stop = &AtomicBool::new(false);
        thread::scope(|scope| {
            let asking = clients.map(|client| {
                let hit = &hit;
                scope.spawn(move || {
                    let mut answered = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let Some(reply) = client.ask_within(hit, Duration::from_millis(5)) else { continue };
                        assert_eq!((reply.rcode(), reply.answers()), (0, 1));
                        answered += 1;
                        thread::sleep(Duration::from_millis(1));
                    }
                    answered
                })
            });
            // Ends the clients even on a panic.
            let _ending = Ending(stop);
            let done = act(self);
            stop.store(true, Ordering::Relaxed);
            let answered = asking.map(|thread| thread.join().expect("only right answers"));
            assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");
            done
        })
    }

    /// Makes the cable anew with `queues` queues; calls `before_up` before both ends are set up.
    fn make_cable(&self, queues: u32, before_up: impl FnOnce(&Self)) {
        self.lab.make_cable(queues, self.ringdnsd.process().pid(), || before_up(self));
    }
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_interface_that_is_made_anew_is_attached_to_again() {
    let Some(mut scene) = Scene::up(1, |_| {}) else { return };
    scene.is_by_xdp();
    scene.under_load(|scene| {
        for round in 1..=3 {
            scene.lab.remove_cable();
            scene.hears(LOST, round);
            scene.hears("Clients behind it get no answers until it is back", round);
            scene.is_lost("the interface was removed", Err("interface vs is gone"));
            scene.make_cable(1, |_| {});
            scene.hears(BACK, round);
            scene.is_by_xdp();
        }
    });
    let stats = scene.ringdnsd.stats();
    let counters = &stats["interface"]["counters"];
    assert_eq!((&counters["lost"], &counters["regained"]), (&3.into(), &3.into()), "{stats:#}");
    assert!(sums::count(&stats["workers"][0]["hit"]) > 0, "{stats:#}");
    scene.sums_close();
}

#[test]
fn an_interface_that_was_moved_away_is_attached_to_again_when_it_is_back() {
    let Some(mut scene) = Scene::up(1, |_| {}) else { return };
    let elsewhere = scene.lab.client().spawn("sleep", ["600"]);
    scene.under_load(|scene| {
        for round in 1..=2 {
            let (client, server) = (scene.lab.client().clone(), scene.lab.server().clone());
            server.run("ip", ["link", "set", "dev", "vs", "netns", &elsewhere.pid().to_string()]);
            scene.hears(LOST, round);
            scene.is_lost("moved to another network namespace", Err("interface vs is gone"));
            let moved = client.run("ip", ["-details", "link", "show", "dev", "vs"]);
            assert!(!moved.contains("prog/xdp"), "the program moved with the interface: {moved}");

            let pid = scene.ringdnsd.process().pid().to_string();
            client.run("ip", ["link", "set", "dev", "vs", "netns", &pid]);
            // The interface comes with its link down, so it is not tried yet.
            until("it is seen", || scene.ringdnsd.readyz().1.contains("is down").then_some(()));
            scene.is_lost("moved to another network namespace", Err("the link of vs is down"));
            scene.lab.configure_server_end();
            scene.hears(BACK, round);
            scene.is_by_xdp();
        }
    });
    scene.sums_close();
}

/// Checks an interface that returns before its absence can be seen.
#[test]
fn an_interface_that_was_away_for_a_moment_is_attached_to_again() {
    let Some(mut scene) = Scene::up(1, |_| {}) else { return };
    let elsewhere = scene.lab.client().spawn("sleep", ["600"]);
    let pid = scene.ringdnsd.process().pid().to_string();
    scene.ringdnsd.process().freeze();
    scene.lab.server().run("ip", ["link", "set", "dev", "vs", "netns", &elsewhere.pid().to_string()]);
    scene.lab.client().run("ip", ["link", "set", "dev", "vs", "netns", &pid]);
    scene.lab.configure_server_end();
    scene.ringdnsd.process().signal(rustix::process::Signal::CONT);
    scene.hears(BACK, 1);
    scene.is_by_xdp();
    scene.sums_close();
}

#[test]
fn a_program_that_somebody_detached_is_attached_again() {
    let Some(mut scene) = Scene::up(1, |_| {}) else { return };
    scene.under_load(|scene| {
        for round in 1..=2 {
            scene.lab.detach_program();
            scene.hears(LOST, round);
            scene.is_lost("the XDP program was detached by somebody else", Ok(()));
            scene.hears(BACK, round);
            scene.is_by_xdp();
        }
    });
    scene.sums_close();
}

/// Checks that the workers of the queues serve over kernel sockets with their caches, as without
/// AF_XDP.
#[test]
fn while_afxdp_is_lost_the_workers_of_the_queues_serve() {
    let Some(mut scene) = Scene::up(2, |settings| settings.server += "\nfallback = false") else { return };
    let holder_listens = vec!["127.0.0.1:5353".to_owned()];
    let holder = Settings { listen: holder_listens, ..Settings::xdp(scene.upstream.address()) };
    let hit = Query::a("www.example");
    Client::of(scene.lab.client(), DNS_V4).ask(&hit);
    scene.lab.remove_cable();
    scene.hears(LOST, 1);
    // Another process takes the interface before it is up.
    let mut other = None;
    scene.make_cable(2, |scene| other = Some(Ringdnsd::start(scene.lab.server(), &holder)));
    scene.hears("AF_XDP on vs cannot be attached again yet: ", 1);
    scene.is_lost("it cannot be attached again yet: ", Err("server.fallback = false"));
    let asked = scene.upstream.asked();
    let served = until("each worker has served over its socket", || {
        // Each query uses a port of its own, so that the kernel spreads them.
        for _ in 0..8 {
            assert_eq!(Client::of(scene.lab.client(), DNS_V4).ask(&hit).rcode(), 0);
        }
        let stats = scene.ringdnsd.stats();
        let hits = [0, 1, 2].map(|worker| sums::count(&stats["workers"][worker]["hit"]));
        hits.iter().all(|hits| *hits > 0).then_some(hits)
    });
    assert_eq!(scene.upstream.asked(), asked, "a worker lost its cache, and the host's: {served:?}");
    scene.hears("AF_XDP on vs cannot be attached again yet: ", 1);

    drop(other);
    scene.hears(BACK, 1);
    scene.is_by_xdp();
    scene.sums_close();
}

#[test]
fn fewer_queues_and_as_many_as_before_are_served_when_the_interface_is_back() {
    let Some(mut scene) = Scene::up(2, |_| {}) else { return };
    for (round, queues) in [(1, 1), (2, 2), (3, 3)] {
        scene.lab.remove_cable();
        scene.hears(LOST, round);
        scene.make_cable(queues, |_| {});
        scene.hears(BACK, round);
        scene.is_by_xdp();
        let status = scene.ringdnsd.told(&["status"]);
        assert!(status.contains(&format!("queues: {},", queues.min(2))), "{status}");
        let too_many = scene.said("vs has 3 receive queues, and there are workers for 2");
        assert_eq!(too_many, usize::from(queues == 3));
        // Many ports, so that each queue receives some.
        let hit = Query::a("www.example");
        for _ in 0..16 {
            assert_eq!(Client::of(scene.lab.client(), DNS_V4).ask(&hit).rcode(), 0);
        }
    }
    scene.sums_close();
}

#[test]
fn the_link_is_said_to_go_down_and_up() {
    let Some(mut scene) = Scene::up(1, |_| {}) else { return };
    let (client, server) = (scene.lab.client().clone(), scene.lab.server().clone());
    scene.under_load(|scene| {
        // The cable's other end, and the interface itself.
        for (round, (host, end)) in [(1, (&client, "vc")), (2, (&server, "vs"))] {
            host.run("ip", ["link", "set", "dev", end, "down"]);
            scene.hears("the link of vs is down: clients behind it get no answers", round);
            assert_eq!(scene.ringdnsd.readyz(), (false, "the link of vs is down".to_owned()));
            let status = scene.ringdnsd.told(&["status"]);
            assert!(status.contains("NOT ready: the link of vs is down"), "{status}");
            assert!(status.contains("AF_XDP on vs, queues: 1"), "{status}");
            scene.is_answered(Lab::server, LOOPBACK);
            host.run("ip", ["link", "set", "dev", end, "up"]);
            // Setting a link down removes its IPv6 addresses.
            host.give_address(end, if end == "vs" { SERVER_V6 } else { CLIENT_V6 });
            scene.hears("the link of vs is up again after ", round);
            scene.is_by_xdp();
        }
    });
    assert_eq!((scene.said(LOST), scene.ringdnsd.stat("/interface/counters/link_downs")), (0, 2));
    scene.sums_close();
}

#[test]
fn a_link_that_is_down_at_the_start_is_not_waited_for() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    lab.client().run("ip", ["link", "set", "dev", "vc", "down"]);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(&upstream));
    ringdnsd.process().wait_for_line("the link of vs is down: clients behind it get no answers", PATIENCE);
    assert_eq!(ringdnsd.readyz(), (false, "the link of vs is down".to_owned()));
    lab.client().run("ip", ["link", "set", "dev", "vc", "up"]);
    ringdnsd.process().wait_for_line("the link of vs is up again after ", PATIENCE);
    let client = Client::of(lab.client(), DNS_V4);
    until("it answers", || client.ask_within(&Query::a("www.example"), Duration::from_millis(500)));
    assert_eq!(ringdnsd.readyz(), (true, "ok\n".to_owned()));
}
