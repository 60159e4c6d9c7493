//! Tests of the whole process over kernel sockets on loopback: ringdnsd, ringctl, an upstream.

use ringdns_common::names;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use ringdns_testkit::{Say, Seen, Upstream, program};

/// Time after which a test fails; nothing takes that long.
const LIMIT: Duration = Duration::from_secs(10);

/// A running ringdnsd; killed when dropped.
struct Daemon {
    process: Child,
    listen: SocketAddr,
    folder: TempDir,
    _log: std::thread::JoinHandle<()>,
}

impl Daemon {
    /// Starts ringdnsd, and waits until it reports that it is ready, and its addresses.
    fn start(upstream: SocketAddr, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = configure(&folder, upstream, more);
        let mut process = ringdnsd(&config).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready =
            log.by_ref().map(Result::unwrap).find(|line| line.contains(" ready ")).expect("no ready line");
        let (_, rest) = ready.split_once("listen=[").unwrap();
        let listen = rest.split_once(']').unwrap().0.parse().unwrap();
        // Keep reading: ringdnsd would otherwise write to a closed pipe.
        let log = std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Daemon { process, listen, folder, _log: log }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    fn ringctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("ringctl"));
        command.arg("--socket").arg(self.socket()).args(arguments).output().unwrap()
    }

    /// Returns the output of `ringctl`, which must succeed.
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.ringctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns a number of `ringctl --json stats`, by its path.
    fn stat(&self, path: &str) -> u64 {
        let stats: serde_json::Value = serde_json::from_str(&self.told(&["--json", "stats"])).unwrap();
        stats
            .pointer(path)
            .and_then(|n| n.as_u64())
            .unwrap_or_else(|| panic!("no number {path} in {stats:#}"))
    }

    async fn ask(&self, id: u16, name: &str) -> Vec<u8> {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&query(id, name), self.listen).await.unwrap();
        let mut reply = [0; 2048];
        let (len, _) = timeout(LIMIT, client.recv_from(&mut reply)).await.expect("no answer").unwrap();
        reply[..len].to_vec()
    }

    /// Stops ringdnsd and returns its exit status.
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(!self.socket().exists(), "its control socket is left behind");
        status.code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ringdnsd(config: &Path) -> Command {
    let mut command = Command::new(program("ringdnsd"));
    command.arg("--config").arg(config);
    command
}

fn configure(folder: &TempDir, upstream: SocketAddr, more: &str) -> PathBuf {
    let path = folder.path().join("ringdns.toml");
    let socket = folder.path().join("control.sock");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n[[upstream]]\naddress = \"{upstream}\"\n\
         [cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"1MiB\"\n\
         [control]\nsocket = {:?}\n{more}",
        socket.to_str().unwrap()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Returns a query for the A record of a name, with its letter case.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.') {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    names::query_message(&wire, [1, 1], id, 0x0100, None)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_resolved_cached_shown_purged_and_asked_for_again() {
    let fake = Upstream::with_ttl(300);
    let daemon = Daemon::start(fake.address(), "");

    let miss = daemon.ask(1, "www.example.com").await;
    assert_eq!((&miss[..2], miss[3] & 0x0f), (&[0, 1][..], 0));
    assert_eq!(miss.last_chunk::<4>(), Some(&[192, 0, 2, 1]));
    let hit = daemon.ask(2, "WWW.Example.COM").await;
    assert_eq!(hit[12..][..17], query(2, "WWW.Example.COM")[12..][..17], "the client's own letter case");
    assert_eq!((fake.asked(), daemon.stat("/total/hit"), daemon.stat("/total/punt_answered")), (1, 1, 1));

    // Over TCP: from the host tier.
    let mut tcp = TcpStream::connect(daemon.listen).await.unwrap();
    let question = query(3, "www.example.com");
    tcp.write_all(&[&(question.len() as u16).to_be_bytes(), &question[..]].concat()).await.unwrap();
    let len = timeout(LIMIT, tcp.read_u16()).await.unwrap().unwrap();
    assert_eq!((usize::from(len), fake.asked()), (miss.len(), 1));

    let shown = daemon.told(&["cache", "get", "www.example.com"]);
    assert!(shown.contains("192.0.2.1"), "{shown}");
    daemon.told(&["cache", "purge", "--suffix", "example.com"]);
    assert_eq!(daemon.stat("/host/entries"), 0);
    daemon.ask(4, "www.example.com").await;
    assert_eq!(fake.asked(), 2, "the worker gave a purged answer");

    assert_eq!(daemon.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_times_of_hits_and_misses_are_exported() {
    let fake = Upstream::with_ttl(300);
    let daemon = Daemon::start(fake.address(), "");
    for id in 0..5 {
        daemon.ask(id, "www.example.com").await;
    }
    let count = |outcome: &str| {
        let text = daemon.told(&["histogram", "export", "--outcome", outcome]);
        let total = text.lines().find_map(|line| line.split_once("Total count")).expect("a total count").1;
        total.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
    };
    assert_eq!((count("hit"), count("miss"), count("stale")), (4, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_are_shown_with_their_zones_state_and_times() {
    let fake = Upstream::with_ttl(300);
    // It takes so long that its times are not rounded to zero.
    let slow = |seen: &Seen| {
        std::thread::sleep(Duration::from_millis(2));
        vec![Say::Send(seen.query.answer(300))]
    };
    let corp = Upstream::local(slow);
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let zone = |address: SocketAddr, zone: &str| {
        format!("[[upstream]]\naddress = \"{address}\"\nzones = [{zone:?}]\n")
    };
    let silent_address = silent.local_addr().unwrap();
    let zones =
        zone(corp.address(), "corp.example") + &zone(silent_address, "dead.example") + "timeout = \"20ms\"\n";
    let daemon = Daemon::start(fake.address(), &zones);
    for (id, name) in ["www.example.com", "www.corp.example", "mail.corp.example"].into_iter().enumerate() {
        daemon.ask(id as u16, name).await;
    }
    let rows = |table: &str| -> Vec<Vec<String>> {
        table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let address = format!("udp://{}", corp.address());
    let table = daemon.told(&["upstreams"]);
    let [heads, others, corp_row, dead] = &rows(&table)[..] else { panic!("{table}") };
    assert!(heads.len() == 12 && [others, corp_row, dead].iter().all(|row| row.len() == 12), "{table}");
    assert_eq!(others[1..8], ["udp", "others", "up", "1", "1", "0", "0"], "{table}");
    assert_eq!(corp_row[..8], [&address, "udp", "corp.example.", "up", "2", "2", "0", "0"], "{table}");
    assert_eq!(dead[1..], ["udp", "dead.example.", "up", "0", "0", "0", "0", "0.0", "0.0", "0.0", "0.0"]);
    let [rtt, p50, p90, p99] = [8, 9, 10, 11].map(|at| corp_row[at].parse::<f64>().unwrap());
    assert!(rtt >= 2.0 && p50 >= 2.0 && p50 <= p90 && p90 <= p99, "{table}");

    // An upstream that failed to answer three queries in a row is in back-off for at least a
    // second.
    let mut asked = 0;
    let gone = timeout(LIMIT, async {
        loop {
            daemon.ask(asked, &format!("{asked}.dead.example")).await;
            asked += 1;
            let table = daemon.told(&["upstreams"]);
            let dead = rows(&table).swap_remove(3);
            if dead[3] != "up" {
                break dead;
            }
        }
    });
    let gone = gone.await.expect("it is never left alone");
    let left: f64 = gone[3].strip_prefix("back-off:").unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!(left > 0.0 && left <= 30.0, "{gone:?}");
    assert!(gone[6].parse::<u16>().unwrap() >= 3 && gone[5] == "0" && gone[11] == "0.0", "{gone:?}");

    let json: serde_json::Value = serde_json::from_str(&daemon.told(&["--json", "upstreams"])).unwrap();
    assert_eq!((&json[1]["times"]["count"], &json[1]["zones"][0]), (&2.into(), &"corp.example.".into()));
    let status = daemon.told(&["status"]);
    assert!(status.contains("99 % of them in"), "{status}");

    let text = daemon.told(&["histogram", "export", "--upstream", &address]);
    assert!(text.contains("Total count    =            2]"), "{text}");
    let refused = daemon.ringctl(&["histogram", "export", "--upstream", "udp://192.0.2.9:53"]);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(&address),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_misses_at_once_are_all_answered() {
    let fake = Upstream::with_ttl(300);
    let daemon = Daemon::start(fake.address(), "");
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    const ASKED: u16 = 500;
    let mut seen = std::collections::HashSet::new();
    let mut reply = [0; 2048];
    for first in (0..ASKED).step_by(50) {
        for id in first..first + 50 {
            client.send_to(&query(id, &format!("{id}.example")), daemon.listen).await.unwrap();
        }
        for _ in 0..50 {
            timeout(LIMIT, client.recv_from(&mut reply)).await.expect("no answer").unwrap();
            seen.insert([reply[0], reply[1]]);
        }
    }
    assert_eq!((seen.len(), fake.asked()), (usize::from(ASKED), usize::from(ASKED)));
    assert_eq!(daemon.stat("/total/unaccounted") + daemon.stat("/total/punts_waiting"), 0);
}

#[tokio::test]
async fn a_dead_upstream_means_servfail_and_no_more() {
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    dead.connect(dead.local_addr().unwrap()).unwrap();
    let daemon = Daemon::start(dead.local_addr().unwrap(), "");
    let reply = daemon.ask(1, "www.example.com").await;
    assert_eq!(reply[3] & 0x0f, 2);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_refused_configuration_exits_2_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = configure(&folder, "127.0.0.1:9".parse().unwrap(), "htp = \"x\"\n");
    for check in [&["--check"][..], &[]] {
        let output = ringdnsd(&path).args(check).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("ringdns.toml:11: control.htp: unknown field"), "{message}");
    }
    let path = configure(&folder, "127.0.0.1:9".parse().unwrap(), "");
    assert_eq!(ringdnsd(&path).arg("--check").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_port_in_use_exits_1_and_a_working_daemon_is_not_disturbed() {
    let daemon = Daemon::start("127.0.0.1:9".parse().unwrap(), "");
    let folder = tempfile::tempdir().unwrap();
    let path = configure(&folder, "127.0.0.1:9".parse().unwrap(), "");
    let text = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:0", &daemon.listen.to_string());
    std::fs::write(&path, &text).unwrap();
    assert_eq!(
        ringdnsd(&path).arg("--check").output().unwrap().status.code(),
        Some(0),
        "--check takes no ports"
    );
    let output = ringdnsd(&path).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("Address already in use") && message.contains("ss -ltnp"), "{message}");

    // With the same control socket and other ports, the first ringdnsd keeps the socket.
    let text = text.replace(&daemon.listen.to_string(), "127.0.0.1:0");
    let own = folder.path().join("control.sock");
    std::fs::write(&path, text.replace(own.to_str().unwrap(), daemon.socket().to_str().unwrap())).unwrap();
    let output = ringdnsd(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(daemon.told(&["status"]).contains("answering queries"));
}
