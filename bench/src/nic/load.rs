//! Source of the queries: a second port of this host in a namespace of its own, or another host.

use super::{Kit, subject::Running};
use crate::{
    lab,
    put_back::{self, PutBack},
    report::figure,
    run::xdp::interface::{Counters, Device},
};
use anyhow::{Context, Result, ensure};
use ringdns_doctor::nic::{class, is_enabled};
use ringdns_testkit::Host;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde_json::Value;
use std::{
    fs,
    io::{Read, Seek},
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

/// Address of the NIC under test when the peer is a port of this host. It is in the network
/// reserved for benchmarks (RFC 2544), so it collides with no other host.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 53, 2);
/// Address of the peer port.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 53, 1);
const PREFIX: u8 = 30;

/// Source of the queries.
#[derive(Debug)]
pub enum Peer {
    /// A port of this host, in a network namespace.
    Port(Port),
    /// Another host, at this address, where an operator starts a generator.
    Host(IpAddr),
}

/// Port of this host that acts as the other host.
#[derive(Debug)]
pub struct Port {
    host: Host,
    interface: String,
    /// MAC address of the NIC under test.
    server_mac: String,
    core: usize,
    /// Whether the generator in the kernel works on this port; otherwise queries come from kernel
    /// sockets.
    in_kernel: bool,
}

/// Result of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Queries a second: sent (a port) or arrived (a host).
    pub queries_per_second: f64,
    /// Answers a second.
    pub answers_per_second: f64,
    /// Share of the queries without an answer, in percent.
    pub unanswered_percent: f64,
    /// Answers from start to end, including the time before the load was steady.
    #[serde(skip)]
    pub answers: f64,
    /// Latency in microseconds at the quantiles 0.5, 0.99 and 0.999, as measured by the generator.
    pub latency_micros: Option<[f64; 3]>,
}

impl Outcome {
    fn new(queries_per_second: f64, answers_per_second: f64, answers: f64) -> Self {
        let answered = answers_per_second / queries_per_second.max(f64::MIN_POSITIVE);
        let unanswered_percent = 100.0 * (1.0 - answered).clamp(0.0, 1.0);
        Outcome { queries_per_second, answers_per_second, unanswered_percent, answers, latency_micros: None }
    }
}

/// Time within which the first answer must leave a server: a driver may take its link down for
/// seconds.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
const CHECK: Duration = Duration::from_millis(20);

impl Port {
    /// Moves `interface` into a namespace of its own, and gives both ends an address.
    pub fn set_up(nic: &str, interface: &str, core: usize, put_back: &mut PutBack) -> Result<Self> {
        let namespace = format!("ringbench-nic-{}", std::process::id());
        let (name, own) = (namespace.as_str(), std::process::id().to_string());
        let address = class(nic).join("address");
        let server_mac =
            fs::read_to_string(&address).with_context(|| format!("cannot read {}", address.display()))?;
        if is_enabled(interface) {
            put_back
                .run(&["ip", "link", "set", interface, "down"], &["ip", "link", "set", interface, "up"])?;
        }
        put_back.run(&["ip", "netns", "add", name], &["ip", "netns", "delete", name])?;
        put_back.run(
            &["ip", "link", "set", interface, "netns", name],
            &["ip", "-n", name, "link", "set", interface, "netns", &own],
        )?;
        let client = format!("{CLIENT}/{PREFIX}");
        let server = format!("{SERVER}/{PREFIX}");
        // These settings go away with the namespace.
        put_back::run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        put_back::run(&["ip", "-n", name, "link", "set", interface, "up"])?;
        put_back::run(&["ip", "-n", name, "address", "add", &client, "dev", interface])?;
        put_back.run(
            &["ip", "address", "add", &server, "dev", nic],
            &["ip", "address", "delete", &server, "dev", nic],
        )?;
        let server_mac = server_mac.trim().to_owned();
        let host = Host::namespace(namespace);
        Ok(Port { host, interface: interface.into(), server_mac, core, in_kernel: true })
    }

    /// Returns a ringbench command on the generator's core, in the port's namespace.
    fn command(&self, kit: &Kit) -> Command {
        let mut command = lab::on_core(&self.host, self.core, &kit.programs.ringbench);
        command.stdin(Stdio::null()).env("RUST_BACKTRACE", "0");
        command
    }

    /// Tries the generator in the kernel on a server. If it does not work on this port, kernel
    /// sockets take its place, and the reason is returned.
    pub fn choose_generator(&mut self, kit: &Kit, running: &mut Running<'_>) -> Result<Option<String>> {
        self.wait_for_answer(kit, running)?;
        match self.generate(kit, Some(1000.0), Duration::from_millis(500)) {
            Ok(outcome) if outcome.answers > 0.0 => return Ok(None),
            Ok(_) => self.in_kernel = false,
            Err(error) => {
                kit.check_stop()?;
                self.in_kernel = false;
                return Ok(Some(format!("{error:#}")));
            }
        }
        Ok(Some("its queries are not answered".into()))
    }

    /// Returns the name of the generator.
    pub fn generator(&self) -> &'static str {
        if self.in_kernel { "XDP in the kernel, one core" } else { "kernel sockets, one core" }
    }

    fn generate(&self, kit: &Kit, qps: Option<f64>, time: Duration) -> Result<Outcome> {
        let mut command = self.command(kit);
        command.args(["run", "--json", "--quiet", "--target", &kit.listen.to_string()]);
        command.args([format!("--count={}", kit.names), format!("--duration={}", time.as_secs_f64())]);
        if self.in_kernel {
            command.args(["--backend=xdp", "--interface", &self.interface, "--server-mac", &self.server_mac]);
            command.arg(format!("--cores={}", self.core));
        }
        if let Some(qps) = qps {
            command.arg(format!("--qps={qps:.0}"));
        }
        let report = finish(kit, command).context("the generator failed")?;
        outcome(&serde_json::from_slice(&report).context("the generator's report is not JSON")?)
    }

    /// Asks every name once over sockets, so that it is cached.
    fn warm(&self, kit: &Kit) -> Result<()> {
        let mut command = self.command(kit);
        command.args(["run", "--warm", "--quiet", "--window=200", "--qps=1000", "--duration=0.1"]);
        command.args(["--target", &kit.listen.to_string(), &format!("--count={}", kit.names)]);
        finish(kit, command).context("the names could not be asked once each").map(drop)
    }

    fn wait_for_answer(&self, kit: &Kit, running: &mut Running<'_>) -> Result<()> {
        self.host.enter(|| {
            lab::await_answer(kit.listen, FIRST_ANSWER, || {
                kit.check_stop()?;
                running.check()
            })
        })
    }
}

/// Runs a generator until it ends or the trials are stopped, and returns its output.
fn finish(kit: &Kit, mut command: Command) -> Result<Vec<u8>> {
    let temporary = || tempfile::tempfile().context("cannot make a temporary file");
    let (mut printed, mut said) = (temporary()?, temporary()?);
    let mut child = command.stdout(printed.try_clone()?).stderr(said.try_clone()?).spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if kit.check_stop().is_err() {
            // The process may just have ended.
            let _ = kill_process(Pid::from_child(&child), Signal::INT);
            break child.wait()?;
        }
        thread::sleep(CHECK);
    };
    kit.check_stop()?;
    let (mut output, mut complaints) = (Vec::new(), String::new());
    printed.rewind()?;
    printed.read_to_end(&mut output)?;
    said.rewind()?;
    said.read_to_string(&mut complaints)?;
    ensure!(status.success(), "{}", complaints.trim());
    Ok(output)
}

/// Reads a report of `ringbench run --json`.
fn outcome(report: &Value) -> Result<Outcome> {
    let figure = |pointer: &str| figure(report, pointer);
    let sent = || Ok::<f64, anyhow::Error>(figure("/sent/queries")? / figure("/seconds")?);
    let queries = figure("/traffic/queries_per_second").or_else(|_| sent())?;
    let micros =
        |name: &str| Ok::<f64, anyhow::Error>(figure(&format!("/listed/latency_ns/{name}"))? / 1000.0);
    let latency = [micros("p50")?, micros("p99")?, micros("p99.9")?];
    let outcome = Outcome::new(queries, figure("/answers_per_second")?, figure("/received/responses")?);
    Ok(Outcome { latency_micros: Some(latency), ..outcome })
}

impl Peer {
    /// Waits until the first answer leaves, and until the names are cached.
    pub fn warm_up(&self, kit: &Kit, running: &mut Running<'_>) -> Result<()> {
        match self {
            Peer::Port(port) => {
                port.wait_for_answer(kit, running)?;
                port.warm(kit)?;
                // Each worker fetches the names that it has not seen from the host cache.
                port.generate(kit, None, kit.time / 4).map(drop)
            }
            Peer::Host(address) => {
                let began = Instant::now();
                while running.counted().map_or(0, |counted| counted.answers) == 0 {
                    kit.check_stop()?;
                    running.check()?;
                    ensure!(
                        began.elapsed() < FIRST_ANSWER,
                        "no query of {address} was answered within {FIRST_ANSWER:?}: is its generator still running?"
                    );
                    thread::sleep(CHECK);
                }
                kit.nap(kit.time / 2)
            }
        }
    }

    /// Measures with `qps` queries a second, or with as many as the generator makes. Another host
    /// sends at its own rate.
    pub fn measure(&self, kit: &Kit, running: &Running<'_>, qps: Option<f64>) -> Result<Outcome> {
        match self {
            Peer::Port(port) => port.generate(kit, qps, kit.time),
            Peer::Host(_) => {
                let device = Device::find(&kit.nic.interface, kit.listen.ip())?;
                let before = (running.counted()?, device.counters()?, Instant::now());
                kit.nap(kit.time)?;
                let after = (running.counted()?, device.counters()?, Instant::now());
                let seconds = (after.0.when - before.0.when).as_secs_f64();
                ensure!(seconds > 0.0, "the server printed no new counters within {:?}", kit.time);
                let answers = (after.0.answers - before.0.answers) as f64;
                let queries = match (after.0.queries, before.0.queries) {
                    (Some(after), Some(before)) => (after - before) as f64 / seconds,
                    _ => answers / seconds,
                };
                let arrived = arrived(before.1, after.1, after.2 - before.2);
                // Some drivers leave zero-copy packets out of the interface's counters.
                Ok(Outcome::new(arrived.max(queries), answers / seconds, answers))
            }
        }
    }

    /// Whether the rate of the peer's queries can be set.
    pub fn can_be_paced(&self) -> bool {
        matches!(self, Peer::Port(_))
    }
}

fn arrived(before: Counters, after: Counters, time: Duration) -> f64 {
    after.rx_packets.saturating_sub(before.rx_packets) as f64 / time.as_secs_f64()
}

impl Kit {
    /// Sleeps, and fails if a signal asks for the end of the run.
    pub(super) fn nap(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.check_stop()?;
            thread::sleep(left.min(CHECK));
        }
        Ok(())
    }

    /// Fails if a signal asked for the end of the run.
    pub(super) fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Relaxed), "interrupted");
        Ok(())
    }
}

/// Returns the commands for another host. An operator starts one of them there, and queries come
/// for `seconds`.
pub fn commands(listen: &str, mac: Option<&str>, names: u32, seconds: u64, qps: Option<f64>) -> Vec<String> {
    let qps_of = |option: &str| qps.map_or(String::new(), |qps| format!(" {option}{qps:.0}"));
    let mac = mac.map_or(String::new(), |mac| format!(" --server-mac {mac}"));
    let (ip, port) = listen.rsplit_once(':').unwrap_or((listen, "53"));
    let ip = ip.trim_matches(['[', ']']);
    vec![
        format!(
            "ringbench run --backend xdp --interface PORT --target {listen}{mac} --count {names} --duration {seconds}{}",
            qps_of("--qps ")
        ),
        format!("seq -f 'n%06g.rb.example A' 0 {} > queries.txt", names - 1),
        format!("kxdpgun -t {seconds}{} -p {port} -i queries.txt {ip}", qps_of("-Q ")),
        format!("dnsperf -s {ip} -p {port} -d queries.txt -l {seconds} -c 16 -T 4{}", qps_of("-Q ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reports_of_both_generators_are_read() {
        let mut report = json!({
            "seconds": 2.0, "sent": { "queries": 2000 }, "received": { "responses": 1800 }, "answers_per_second": 900.0,
            "listed": { "latency_ns": { "p50": 1500, "p99": 20_000, "p99.9": 30_000 } },
        });
        let of_sockets = outcome(&report).unwrap();
        assert_eq!((of_sockets.queries_per_second, of_sockets.answers_per_second), (1000.0, 900.0));
        assert_eq!(of_sockets.latency_micros, Some([1.5, 20.0, 30.0]));
        assert!((of_sockets.unanswered_percent - 10.0).abs() < 1e-9);
        report["traffic"] = json!({ "queries_per_second": 1800.0 });
        assert_eq!(outcome(&report).unwrap().unanswered_percent, 50.0);
        assert!(outcome(&json!({})).unwrap_err().to_string().contains("lacks"));
    }

    #[test]
    fn more_answers_than_queries_is_no_negative_loss() {
        assert_eq!(Outcome::new(100.0, 101.0, 101.0).unanswered_percent, 0.0);
        assert_eq!(Outcome::new(0.0, 0.0, 0.0).unanswered_percent, 100.0);
    }

    #[test]
    fn commands_for_the_peer_are_complete() {
        let all = commands("[2001:db8::53]:53", Some("02:00:00:00:53:02"), 10_000, 300, Some(1e6)).join("\n");
        for part in [
            "--target [2001:db8::53]:53 --server-mac 02:00:00:00:53:02 --count 10000 --duration 300 --qps 1000000",
            "0 9999 > queries.txt",
            "kxdpgun -t 300 -Q 1000000 -p 53 -i queries.txt 2001:db8::53",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert!(!commands("192.0.2.1:53", None, 10, 3, None).join("\n").contains("qps"));
    }
}
