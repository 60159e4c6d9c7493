//! Tests of the whole process over kernel sockets on loopback: ringdnsd, ringctl, an upstream.

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::Path,
    process::Command,
    time::Duration,
};

use ringdns_testkit::{
    Client, Host, Process, Query, Reply, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address,
    privilege, program, until,
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, mknodat},
    process::Signal,
};

/// Address at which nobody is asked.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A running ringdnsd, and a client.
struct Daemon {
    ringdnsd: Ringdnsd,
    listen: SocketAddr,
    client: Client,
}

impl Daemon {
    fn start(upstream: SocketAddr, tables: &str) -> Self {
        let host = Host::local();
        let listen = free_address(&host);
        let mut settings = Settings::loopback(listen, upstream);
        settings.tables += &format!("\n{tables}");
        Daemon { ringdnsd: Ringdnsd::start(&host, &settings), listen, client: Client::of(&host, listen) }
    }

    fn ask(&self, name: &str) -> Reply {
        self.client.ask(&Query::a(name))
    }
}

/// Runs ringdnsd, which exits by itself, with this configuration. Returns its exit status and what
/// it says.
fn exit_of(folder: &Path, text: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let path = folder.join("ringdns.toml");
    std::fs::write(&path, text).unwrap();
    let output =
        Command::new(program("ringdnsd")).arg("--config").arg(path).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_name_is_resolved_cached_shown_purged_and_asked_for_again() {
    let upstream = Upstream::answering(&Host::local());
    let mut daemon = Daemon::start(upstream.address(), "");
    let asked = |times| assert_eq!(upstream.asked(), times);

    let miss = daemon.ask("www.example.com");
    assert_eq!((miss.rcode(), miss.addresses()), (0, vec![Ipv4Addr::new(192, 0, 2, 1)]));
    let query = Query::a("WWW.Example.COM");
    assert!(daemon.client.ask(&query).repeats(&query), "the client's own letter case");
    asked(1);
    assert_eq!(["hit", "punt_answered"].map(|name| daemon.ringdnsd.stat(&format!("/total/{name}"))), [1, 1]);

    // Over TCP: from the host tier.
    let replies = ask_over_tcp(&Host::local(), daemon.listen, &[Query::a("www.example.com")]);
    assert_eq!(replies[0].addresses(), miss.addresses());
    asked(1);

    let shown = daemon.ringdnsd.told(&["cache", "get", "www.example.com"]);
    assert!(shown.contains("192.0.2.1"), "{shown}");
    daemon.ringdnsd.told(&["cache", "purge", "--suffix", "example.com"]);
    assert_eq!(daemon.ringdnsd.stat("/host/entries"), 0);
    daemon.ask("www.example.com");
    asked(2);

    assert_eq!(daemon.ringdnsd.terminate().code(), Some(0));
    assert!(!daemon.ringdnsd.socket().exists(), "its control socket is left behind");
}

#[test]
fn service_times_of_hits_and_misses_are_exported() {
    let upstream = Upstream::answering(&Host::local());
    let daemon = Daemon::start(upstream.address(), "");
    (0..5).for_each(|_| drop(daemon.ask("www.example.com")));
    let count = |outcome: &str| {
        let text = daemon.ringdnsd.told(&["histogram", "export", "--outcome", outcome]);
        let total = text.lines().find_map(|line| line.split_once("Total count")).expect("a total count").1;
        total.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    assert_eq!((count("hit"), count("miss"), count("stale")), (4, 1, 0));
}

#[test]
fn upstreams_are_shown_with_their_zones_state_and_times() {
    let others = Upstream::answering(&Host::local());
    // It takes so long that its times are not rounded to zero.
    let corp = Upstream::local(|seen| {
        std::thread::sleep(Duration::from_millis(2));
        vec![Say::Send(seen.query.answer(300))]
    });
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let zone = |address: SocketAddr, zone: &str| {
        format!("[[upstream]]\naddress = \"{address}\"\nzones = [{zone:?}]\n")
    };
    let silent_address = silent.local_addr().unwrap();
    let zones =
        zone(corp.address(), "corp.example") + &zone(silent_address, "dead.example") + "timeout = \"20ms\"\n";
    let daemon = Daemon::start(others.address(), &zones);
    for name in ["www.example.com", "www.corp.example", "mail.corp.example"] {
        daemon.ask(name);
    }
    // Columns that do not fit continue in another table, whose first column is the same.
    let rows = |text: &str| -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for table in text.trim_end().split("\n\n") {
            for (nth, line) in table.lines().enumerate() {
                let cells = line.split_whitespace().map(str::to_owned);
                match rows.get_mut(nth) {
                    Some(row) => row.extend(cells.skip(1)),
                    None => rows.push(cells.collect()),
                }
            }
        }
        rows
    };
    let address = format!("udp://{}", corp.address());
    let table = daemon.ringdnsd.told(&["upstreams"]);
    let [heads, others, corp_row, dead] = &rows(&table)[..] else { panic!("{table}") };
    assert!(heads.len() == 13 && [others, corp_row, dead].iter().all(|row| row.len() == 13), "{table}");
    assert_eq!(others[1..9], ["udp", "others", "all", "up", "1", "1", "0", "0"], "{table}");
    assert_eq!(corp_row[..9], [&address, "udp", "corp.example.", "all", "up", "2", "2", "0", "0"], "{table}");
    assert_eq!(
        dead[1..],
        ["udp", "dead.example.", "all", "up", "0", "0", "0", "0", "0.0", "0.0", "0.0", "0.0"]
    );
    let [rtt, p50, p90, p99] = [9, 10, 11, 12].map(|at| corp_row[at].parse::<f64>().unwrap());
    assert!(rtt >= 2.0 && p50 >= 2.0 && p50 <= p90 && p90 <= p99, "{table}");

    // An upstream that failed to answer three queries in a row is in back-off for at least a
    // second.
    let mut asked = 0;
    let gone = until("it is left alone", || {
        daemon.ask(&format!("{asked}.dead.example"));
        asked += 1;
        let dead = rows(&daemon.ringdnsd.told(&["upstreams"])).swap_remove(3);
        (dead[4] != "up").then_some(dead)
    });
    let left: f64 = gone[4].strip_prefix("back-off:").unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!(left > 0.0 && left <= 30.0, "{gone:?}");
    assert!(gone[7].parse::<u16>().unwrap() >= 3 && gone[6] == "0" && gone[12] == "0.0", "{gone:?}");

    let json: serde_json::Value =
        serde_json::from_str(&daemon.ringdnsd.told(&["--json", "upstreams"])).unwrap();
    assert_eq!((&json[1]["times"]["count"], &json[1]["zones"][0]), (&2.into(), &"corp.example.".into()));
    let status = daemon.ringdnsd.told(&["status"]);
    assert!(status.contains("99 % of them in"), "{status}");

    let text = daemon.ringdnsd.told(&["histogram", "export", "--upstream", &address]);
    assert!(text.contains("Total count    =            2]"), "{text}");
    let refused = daemon.ringdnsd.ctl(&["histogram", "export", "--upstream", "udp://192.0.2.9:53"]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(&address),
        "{refused:?}"
    );
}

#[test]
fn many_misses_at_once_are_all_answered() {
    let upstream = Upstream::answering(&Host::local());
    let daemon = Daemon::start(upstream.address(), "");
    const ASKED: u16 = 500;
    let mut seen = HashSet::new();
    for first in (0..ASKED).step_by(50) {
        for id in first..first + 50 {
            daemon.client.send(&Query::a(&format!("{id}.example")).id(id).wire());
        }
        for _ in 0..50 {
            seen.insert(daemon.client.receive(Duration::from_secs(10)).expect("an answer").id());
        }
    }
    assert_eq!((seen.len(), upstream.asked()), (usize::from(ASKED), usize::from(ASKED)));
    let total = &daemon.ringdnsd.stats()["total"];
    assert_eq!((&total["unaccounted"], &total["punts_waiting"]), (&0.into(), &0.into()), "{total:#}");
}

#[test]
fn a_dead_upstream_means_servfail_and_no_more() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    dead.connect(dead.local_addr().unwrap()).unwrap();
    let mut daemon = Daemon::start(dead.local_addr().unwrap(), "");
    assert_eq!(daemon.ask("www.example.com").rcode(), 2);
    assert_eq!(daemon.ringdnsd.terminate().code(), Some(0));
}

/// The sample starts on a host that has nothing but a loopback interface.
#[test]
fn the_sample_starts_as_written_on_any_host() {
    if !privilege::granted() {
        return;
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/ringdns.toml");
    let bare = "ip link set lo up && mount -t tmpfs none /run && exec \"$0\" --config \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", bare]).arg(program("ringdnsd")).arg(sample);
    let ringdnsd = Process::spawn("ringdnsd", command);
    ringdnsd.wait_for_line(" ready ", Duration::from_secs(20));
    let there = |program: &Path, arguments: &[&str]| {
        let pid = ringdnsd.pid().to_string();
        let mut command = Command::new("nsenter");
        let output =
            command.args(["--net", "--mount", "--target", &pid]).arg(program).args(arguments).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let status = there(&program("ringctl"), &["status"]);
    assert!(status.contains("answering queries") && status.contains("127.0.0.1:5300"), "{status}");
    let question = ["@127.0.0.1", "-p", "5300", "+short", "localhost", "A"];
    assert_eq!(there(Path::new("kdig"), &question).trim(), "127.0.0.1");
    let over_tcp = [&["+tcp"][..], &question].concat();
    assert_eq!(there(Path::new("kdig"), &over_tcp).trim(), "127.0.0.1");
    let log = ringdnsd.output();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_refused_configuration_exits_2_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        Settings::loopback(free_address(&Host::local()), NOBODY).text(&folder.path().join("control.sock"));
    let line = good.lines().count() + 1;
    for check in [&["--check"][..], &[]] {
        let (code, message) = exit_of(folder.path(), &format!("{good}htp = \"x\"\n"), check);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(&format!("ringdns.toml:{line}:7: control.htp: unknown key")), "{message}");
    }
    let (code, message) = exit_of(folder.path(), &good, &["--check"]);
    assert_eq!(code, Some(0), "{message}");
}

#[test]
fn a_command_line_may_take_the_place_of_a_file() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let (upstream, listen) = (Upstream::answering(&host), free_address(&host));
    let socket = folder.path().join("control.sock");
    let mut command = host.command(program("ringdnsd"));
    command.args(["--listen", &listen.to_string(), "--upstream", &upstream.address().to_string()]);
    command.arg("--socket").arg(&socket);
    let daemon = Process::spawn("ringdnsd", command);
    daemon.wait_for_line(" ready ", Duration::from_secs(20));
    assert_eq!(Client::of(&host, listen).ask(&Query::a("www.example")).rcode(), 0);
    let ctl = |word: &str| {
        Command::new(program("ringctl")).arg("--socket").arg(&socket).arg(word).output().unwrap()
    };
    let refused = ctl("reload");
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && reason.contains("the configuration is that of the command line"),
        "{reason}"
    );
    assert_eq!(ctl("check").status.code(), Some(0), "that is no problem of the configuration");
    let wrong =
        host.command(program("ringdnsd")).args(["--listen", "::1", "--upstream", "x"]).output().unwrap();
    let reason = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{reason}");
    assert!(reason.starts_with("ringdnsd: command line: server.listen[0]: \"::1\""), "{reason}");
}

#[test]
fn a_port_in_use_exits_3_and_a_working_daemon_is_not_disturbed() {
    let daemon = Daemon::start(NOBODY, "");
    let folder = tempfile::tempdir().unwrap();
    let text = |listen, socket: &Path| Settings::loopback(listen, NOBODY).text(socket);
    let in_use = text(daemon.listen, &folder.path().join("control.sock"));
    assert_eq!(exit_of(folder.path(), &in_use, &["--check"]).0, Some(0), "--check takes no ports");
    let (code, message) = exit_of(folder.path(), &in_use, &[]);
    assert_eq!(code, Some(3), "{message}");
    assert!(message.contains("Address already in use") && message.contains("ss -ltnp"), "{message}");

    // With the same control socket and other ports, the first ringdnsd keeps the socket.
    let other = text(free_address(&Host::local()), &daemon.ringdnsd.socket());
    let (code, message) = exit_of(folder.path(), &other, &[]);
    assert_eq!(code, Some(3), "{message}");
    assert!(daemon.ringdnsd.told(&["status"]).contains("answering queries"));
}

/// A service manager may ask for a reload while ringdnsd starts.
#[test]
fn a_reload_that_is_asked_for_before_the_start_does_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringdns.toml");
    // It waits for its configuration as long as the test wants.
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut command = Command::new(program("ringdnsd"));
    command.arg("--check").arg("--config").arg(&path);
    let mut ringdnsd = Process::spawn("ringdnsd", command);
    let flags = OFlags::NONBLOCK.bits() as i32;
    let open = || OpenOptions::new().write(true).custom_flags(flags).open(&path).ok();
    let mut file = until("ringdnsd reads its configuration", open);
    ringdnsd.signal(Signal::HUP);
    let text = Settings::loopback(free_address(&Host::local()), NOBODY);
    // A ringdnsd that has ended reads nothing, which its exit status tells better.
    let _ = file.write_all(text.text(&folder.path().join("control.sock")).as_bytes());
    drop(file);
    let status = ringdnsd.wait_for_exit(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{status} {}", ringdnsd.output());
}

#[test]
fn a_log_on_a_full_disk_takes_nothing_from_dns() {
    let (host, upstream) = (Host::local(), Upstream::with_ttl(300));
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_address(&host));
    let [path, socket] = ["ringdns.toml", "control.sock"].map(|file| folder.path().join(file));
    fs::write(&path, Settings::loopback(listen, upstream.address()).text(&socket)).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>/dev/full", "sh"]);
    command.arg(program("ringdnsd")).arg("--config").arg(&path);
    let mut ringdnsd = Process::spawn("ringdnsd", command);
    until("its API is there", || UnixStream::connect(&socket).ok());
    for name in ["before.example", "after.example"] {
        let query = Query::a(name);
        assert_eq!(ask_over_tcp(&host, listen, std::slice::from_ref(&query))[0].rcode(), 0);
        assert_eq!(Client::of(&host, listen).ask(&query).rcode(), 0);
        // A reload is logged.
        ringdnsd.signal(Signal::HUP);
    }
    let mut ringctl = Command::new(program("ringctl"));
    let status = ringctl.arg("--socket").arg(&socket).arg("status").output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("answering queries\n"), "{status}");
    assert_eq!(ringdnsd.stop().unwrap().code(), Some(0));
}
