//! Servers' turns: each server is started, warmed, measured and stopped, round by round.

use super::{
    Args, GENERATOR_CORE, SERVER_CORE,
    sample::{Load, Sample, SampleParts},
    server::{Contestant, Kind, Programs, Running, UPSTREAM},
};
use crate::{
    lab::{CLIENT_INTERFACE, SERVER, SERVER_INTERFACE, Server, await_answer, on_core},
    names::{Questions, SUFFIX},
    options, priority,
    report::of_generator,
    run::{self, Plan, udp},
};
use anyhow::{Context, Result, ensure};
use ringdns_testkit::Lab;
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    ffi::OsStr,
    net::UdpSocket,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Time within which a started server must answer.
const START: Duration = Duration::from_secs(20);
/// Suffix of random names. The upstream answers NXDOMAIN for them, so that the RCODE alone tells a
/// random name from a listed one: the generator in the kernel looks at no names.
pub const RANDOM_SUFFIX: &str = "random.example";

/// Lab, upstream and servers of a comparison.
pub struct Bout<'a> {
    /// Arguments of `ringbench compare`.
    pub args: &'a Args,
    /// Servers to compare.
    pub contestants: &'a [Contestant],
    programs: &'a Programs,
    stop: &'a Arc<AtomicBool>,
    lab: &'a Lab,
    upstream: Server,
    /// Answers a second of the upstream alone, asked from the other core.
    pub upstream_rate: f64,
    names: Questions,
    /// Seed of the next load. No two loads may ask the same random names: the second would hit the
    /// cache.
    seed: Cell<u64>,
    remarks: RefCell<Vec<String>>,
}

/// Started server, and its place in the comparison.
pub struct Turn<'b> {
    /// Comparison that this turn belongs to.
    pub bout: &'b Bout<'b>,
    /// Server under test.
    pub contestant: &'b Contestant,
    /// Process of the server.
    pub running: Running,
}

/// Results of the servers' turns: for each server its index among the contestants, and a figure a
/// round.
pub type Rounds<T> = Vec<(usize, Vec<T>)>;

impl<'a> Bout<'a> {
    /// Starts the upstream and measures its rate.
    pub fn begin(
        args: &'a Args,
        contestants: &'a [Contestant],
        programs: &'a Programs,
        stop: &'a Arc<AtomicBool>,
        lab: &'a Lab,
    ) -> Result<Self> {
        let own = programs.ringbench.as_os_str();
        // The upstream shares its core with the generator, which never sleeps: without priority,
        // misses would wait for the generator.
        let ahead = priority::ahead(2);
        let mut command = on_core(lab.server(), GENERATOR_CORE, &ahead[0]);
        command.args(&ahead[1..]).arg(own).args(["upstream", "--ttl=86400", "--negative-ttl=86400"]);
        command.args(["--nxdomain-suffix", RANDOM_SUFFIX, "--listen", &UPSTREAM.to_string()]);
        let mut bout = Bout {
            args,
            contestants,
            programs,
            stop,
            lab,
            upstream: Server::start("the upstream (with priority)", command)?,
            upstream_rate: 0.0,
            names: Questions::made_up(args.names as usize, SUFFIX, 1)?,
            seed: Cell::new(1),
            remarks: RefCell::default(),
        };
        if let Some(remark) = priority::remark() {
            bout.remark(remark);
        }
        let deadline = Instant::now() + START;
        while bout.served().is_err() {
            bout.upstream.check()?;
            bout.check_stop()?;
            ensure!(Instant::now() < deadline, "the upstream does not answer");
        }
        let target = UPSTREAM.to_string();
        let load = ["run", "--json", "--quiet", "--target", &target, "--duration=0.5", "--window=256"];
        let report = bout.generate(on_core(bout.lab.server(), SERVER_CORE, own), &load)?;
        bout.upstream_rate = report["answers_per_second"].as_f64().unwrap_or(0.0);
        Ok(bout)
    }

    /// Ends the upstream.
    pub fn end(self) -> Result<()> {
        self.upstream.stop().map(drop)
    }

    /// Fails if a signal asked for the end of the run.
    pub fn check_stop(&self) -> Result<()> {
        ensure!(!self.stop.load(Relaxed), "interrupted");
        Ok(())
    }

    /// Adds a remark for the readers of a table.
    pub fn remark(&self, remark: String) {
        let mut remarks = self.remarks.borrow_mut();
        if !remarks.contains(&remark) {
            eprintln!("note: {remark}");
            remarks.push(remark);
        }
    }

    /// Returns the remarks made since the last call.
    pub fn take_remarks(&self) -> Vec<String> {
        self.remarks.take()
    }

    /// Gives each server that `takes_part` its turn in each round. A peer that fails has no more
    /// turns, and a remark says so; a failure of our own servers ends the run.
    pub fn rounds<T>(
        &self,
        rounds: u16,
        takes_part: impl Fn(&Contestant) -> bool,
        mut measure: impl FnMut(&mut Turn<'_>) -> Result<T>,
    ) -> Result<Rounds<T>> {
        let chosen = (0..self.contestants.len()).filter(|index| takes_part(&self.contestants[*index]));
        let mut found: Rounds<T> = chosen.map(|index| (index, Vec::new())).collect();
        let mut out = vec![false; found.len()];
        for round in 0..usize::from(rounds) {
            // Each round begins with another server, so that no server always follows the same one.
            for nth in 0..found.len() {
                let at = (nth + round) % found.len();
                if out[at] {
                    continue;
                }
                let contestant = &self.contestants[found[at].0];
                let title = &contestant.description.title;
                match self.turn(contestant, &mut measure) {
                    Ok(figure) => found[at].1.push(figure),
                    Err(error) => {
                        self.check_stop()?;
                        if contestant.description.is_ours() {
                            return Err(error.context(format!("{title}, round {}", round + 1)));
                        }
                        out[at] = true;
                        self.remark(format!(
                            "{title} is out from round {} on: {}",
                            round + 1,
                            in_a_line(&error)
                        ));
                    }
                }
            }
        }
        Ok(found)
    }

    fn turn<T>(
        &self,
        contestant: &Contestant,
        measure: impl FnOnce(&mut Turn<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check_stop()?;
        // Knot DNS leaves its XDP program behind, and the next server would find the interface
        // taken.
        self.lab.server().run("ip", ["link", "set", "dev", SERVER_INTERFACE, "xdp", "off"]);
        let mut running = contestant.start(self.lab, self.programs, &self.names, self.args.nice)?;
        self.wait_until_it_answers(&mut running.server)?;
        let mut turn = Turn { bout: self, contestant, running };
        let figure = measure(&mut turn)?;
        turn.running.server.stop()?;
        Ok(figure)
    }

    fn wait_until_it_answers(&self, server: &mut Server) -> Result<()> {
        self.lab.client().enter(|| {
            await_answer(SERVER, START, || {
                ensure!(!self.stop.load(Relaxed), "interrupted");
                server.check()
            })
        })
    }

    /// Returns the number of queries that the upstream has served so far.
    pub fn served(&self) -> Result<u64> {
        const QUERY: &[u8] = b"\x53\x53\x01\0\0\x01\0\0\0\0\0\0\x06served\x09ringbench\0\0\x10\0\x03";
        self.lab.server().enter(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket")?;
            socket.set_read_timeout(Some(Duration::from_millis(200)))?;
            socket.send_to(QUERY, UPSTREAM).context("cannot ask the upstream")?;
            let mut answer = [0; 512];
            let length =
                socket.recv(&mut answer).context("the upstream does not say how many queries it served")?;
            let text = String::from_utf8_lossy(&answer[..length]);
            let count = text
                .split_once("udp=")
                .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
            count.context("the upstream's answer holds no count of served queries")
        })
    }

    /// Returns a command in the client's host, on the generator's core.
    pub fn client(&self, program: impl AsRef<OsStr>) -> Command {
        on_core(self.lab.client(), GENERATOR_CORE, program)
    }

    /// Returns arguments for a load over the interface, from the kernel.
    pub fn arguments(&self, load: &Load) -> Vec<String> {
        let mut arguments = self.socket_arguments(self.args.names, load.seconds, load.qps);
        arguments.extend([
            "--backend=xdp".into(),
            format!("--interface={CLIENT_INTERFACE}"),
            format!("--random-share={}", load.random_share),
            format!("--random-suffix={RANDOM_SUFFIX}"),
        ]);
        arguments
    }

    /// Returns arguments for a load over kernel sockets: the first `count` names.
    pub fn socket_arguments(&self, count: u32, seconds: f64, qps: Option<f64>) -> Vec<String> {
        self.seed.set(self.seed.get() + 1);
        let mut arguments = ["run", "--json", "--quiet"].map(String::from).to_vec();
        arguments.extend([
            format!("--target={SERVER}"),
            format!("--count={count}"),
            format!("--duration={seconds}"),
            format!("--seed={}", self.seed.get()),
        ]);
        arguments.extend(qps.map(|qps| format!("--qps={qps:.0}")));
        arguments
    }

    /// Runs `ringbench` by `command` with `arguments`, and reads its report.
    pub fn generate(&self, mut command: Command, arguments: &[impl AsRef<OsStr>]) -> Result<Value> {
        let report = of_generator(command.args(arguments));
        self.check_stop()?;
        report
    }

    /// Returns this program as a generator in the client's host.
    pub fn generator(&self) -> Command {
        let mut command = self.client("nice");
        command.args(["-n", &self.args.nice.to_string()]).arg(&self.programs.ringbench);
        command
    }

    /// Returns the generator with priority over every other program on its core.
    pub fn urgent_generator(&self) -> Command {
        let ahead = priority::ahead(1);
        let mut command = self.client(&ahead[0]);
        command.args(&ahead[1..]).arg(&self.programs.ringbench);
        command
    }
}

impl Turn<'_> {
    /// Asks the first `count` names once, and verifies each answer. Servers without a cache have
    /// the names already.
    pub fn warm(&self, count: u32) -> Result<()> {
        if self.contestant.description.kind == Kind::Constant {
            return Ok(());
        }
        let (target, count) = (format!("--target={SERVER}"), format!("--count={count}"));
        let args: run::Args = options::parse(&["--verify-data", "--window=400", &target, &count])?;
        let mut plan = Plan::new(&args.load, &args.query, &args.udp)?;
        plan.stop = self.bout.stop.clone();
        let sockets = udp::Udp { target: SERVER, sockets: args.udp.sockets };
        self.bout.lab.client().enter(|| udp::warm(&plan, SERVER, &sockets))?;
        self.bout.check_stop()
    }

    /// Runs a load and returns its sample; remarks on the sample's faults.
    pub fn load(&self, load: &Load) -> Result<Sample> {
        let sample = self.try_load(load)?;
        self.remark_faults(&sample, load);
        Ok(sample)
    }

    /// Adds a remark for each fault of a sample.
    pub fn remark_faults(&self, sample: &Sample, load: &Load) {
        for fault in sample.faults(load) {
            self.remark(&fault);
        }
    }

    /// Runs a load and returns its sample, without remarks: the load may be more than the server
    /// takes.
    pub fn try_load(&self, load: &Load) -> Result<Sample> {
        let bout = self.bout;
        let (served, upstream, server) =
            (bout.served()?, bout.upstream.usage()?, self.running.server.usage()?);
        let began = Instant::now();
        let report = bout.generate(bout.generator(), &bout.arguments(load))?;
        let parts = SampleParts {
            server: self.running.server.usage()?.since(server),
            upstream: bout.upstream.usage()?.since(upstream),
            elapsed: began.elapsed(),
            served: bout.served()? - served - 1,
        };
        Sample::read(&report, parts)
    }

    /// Returns the share of the first `count` names that the server asks the upstream for again
    /// when it is asked for them again, in percent, from a sample of the names.
    pub fn forgotten(&self, count: u32) -> Result<f64> {
        let bout = self.bout;
        let served = bout.served()?;
        let report = bout.generate(bout.generator(), &bout.socket_arguments(count, 0.5, None))?;
        let asked = bout.served()?.saturating_sub(served + 1);
        let answered = report["received"]["responses"].as_f64().unwrap_or(0.0);
        ensure!(answered > 0.0, "the server no longer answers");
        Ok(100.0 * asked as f64 / answered)
    }

    /// Adds a remark about this server.
    pub fn remark(&self, remark: &str) {
        self.bout.remark(format!("{}: {remark}", self.contestant.description.title));
    }

    /// Waits until the server has finished its pending work.
    pub fn settle(&self) {
        thread::sleep(Duration::from_millis(300));
    }
}

/// Returns an error in one line of limited length, without its backtrace.
fn in_a_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    let mut line = lines.join(" ");
    if let Some((end, _)) = line.char_indices().nth(240) {
        line.truncate(end);
        line.push('…');
    }
    line
}
