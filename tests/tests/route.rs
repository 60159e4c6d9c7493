//! Tests of routes that follow `/readyz`: BIRD and ExaBGP announce an address while ringdnsd is ready,
//! to a router that is a BIRD of its own. A stop withdraws first, goes on answering, and stops then.

use ringdns_testkit::{
    CLIENT_V4, Client, DNS_V4, Host, Lab, Process, Query, Ringdnsd, SERVER_V4, Say, Settings, Upstream,
    until_within,
};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;

/// Time for routers to find each other, and for a change to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Address that is announced.
const ANYCAST: &str = "192.0.2.53/32";

/// Returns a file of deploy/anycast.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/anycast").join(name)
}

/// A BIRD in the foreground.
struct Bird {
    _process: Process,
    socket: PathBuf,
    _folder: TempDir,
}

impl Bird {
    fn start(host: &Host, configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("bird.conf"), folder.path().join("bird.ctl"));
        fs::write(&file, configuration).unwrap();
        let arguments = ["-f", "-c", file.to_str().unwrap(), "-s", socket.to_str().unwrap()];
        let process = host.spawn("bird", arguments);
        let status = || Command::new("birdc").arg("-s").arg(&socket).args(["show", "status"]).output();
        until_within(PATIENCE, "BIRD listens", || status().unwrap().status.success().then_some(()));
        Bird { _process: process, socket, _folder: folder }
    }

    fn tell(&self, words: &[&str]) -> String {
        let socket = self.socket.to_str().unwrap();
        Host::local().run("birdc", [&["-s", socket], words].concat())
    }
}

/// Starts the router at the client's end of the cable.
fn router(lab: &Lab) -> Bird {
    let configuration = format!(
        "router id {CLIENT_V4};\nprotocol device {{ }}\nprotocol bgp ringdns {{\n  local {CLIENT_V4} as 64513;\n  \
         neighbor {SERVER_V4} as 64512;\n  connect delay time 1;\n  ipv4 {{ import all; export none; }};\n}}\n"
    );
    Bird::start(lab.client(), &configuration)
}

/// Waits until the router knows the address, or does not.
#[track_caller]
fn is_announced(router: &Bird, announced: bool) {
    until_within(PATIENCE, &format!("announced: {announced}"), || {
        (router.tell(&["show", "route"]).contains(ANYCAST) == announced).then_some(())
    });
}

/// Lets a route follow a ringdnsd through loss and return of its upstream, and through a stop.
fn follow(lab: &Lab, router: &Bird, begin: impl FnOnce(&Ringdnsd) -> Process) {
    let answers = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::start(lab.server(), {
        let answers = answers.clone();
        move |seen| Vec::from_iter(answers.load(Relaxed).then(|| Say::Send(seen.query.answer(300))))
    });
    let control = "drain = \"8s\"\nready_hold_down = \"1s\"".to_owned();
    let settings = Settings { control, ..Settings::xdp(upstream.address()) };
    let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let client = Client::of(lab.client(), DNS_V4);
    let _hook = begin(&ringdnsd);
    is_announced(router, true);
    answers.store(false, Relaxed);
    (0..3).for_each(|nth| assert_eq!(client.ask(&Query::a(&format!("www.n{nth}.example"))).rcode(), 2));
    is_announced(router, false);
    answers.store(true, Relaxed);
    is_announced(router, true);

    ringdnsd.process().signal(Signal::TERM);
    is_announced(router, false);
    // Clients whose packets are on their way get their answers all the same.
    assert_eq!(client.ask(&Query::a("late.example")).rcode(), 0);
    ringdnsd.process().wait_for_line("stopping signal=\"SIGTERM\"", PATIENCE);
    assert!(ringdnsd.terminate().success());
}

#[test]
fn a_route_of_bird_follows_readiness() {
    let Some(lab) = Lab::up() else { return };
    let router = router(&lab);
    let (server, client) = (SERVER_V4.to_string(), CLIENT_V4.to_string());
    let configuration = fs::read_to_string(example("bird.conf")).unwrap();
    let configuration = configuration.replace("198.51.100.10", &server).replace("198.51.100.1", &client);
    let bird = Bird::start(
        lab.server(),
        &configuration.replace("as 64513;", "as 64513;\n    connect delay time 1;"),
    );
    follow(&lab, &router, |ringdnsd| {
        let mut command = lab.server().command(example("bird-route.sh"));
        let ringctl = ringdnsd.ctl_command();
        let words = ringctl.get_args().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        command.arg("ringdns");
        command.env("RINGCTL", format!("{} {words}", ringctl.get_program().display()));
        command.env("BIRDC", format!("birdc -s {}", bird.socket.display()));
        Process::spawn("bird-route.sh", command)
    });
}

#[test]
fn a_route_of_exabgp_follows_readiness() {
    let Some(lab) = Lab::up() else { return };
    let router = router(&lab);
    let folder = tempfile::tempdir().unwrap();
    follow(&lab, &router, |ringdnsd| {
        let ringctl = ringdnsd.ctl_command();
        let words = ringctl.get_args().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        let file = folder.path().join("exabgp.conf");
        let configuration = fs::read_to_string(example("exabgp.conf")).unwrap();
        let configuration = configuration
            .replace("198.51.100.10", &SERVER_V4.to_string())
            .replace("198.51.100.1", &CLIENT_V4.to_string())
            .replace(
                "/usr/share/ringdns/anycast/exabgp-route.sh",
                example("exabgp-route.sh").to_str().unwrap(),
            );
        fs::write(&file, configuration).unwrap();
        let mut command = lab.server().command("exabgp");
        command.arg(&file).env("RINGCTL", format!("{} {words}", ringctl.get_program().display()));
        for (key, value) in [("api.cli", "false"), ("daemon.user", "root"), ("log.destination", "stderr")] {
            command.env(format!("exabgp.{key}"), value);
        }
        Process::spawn("exabgp", command)
    });
}
