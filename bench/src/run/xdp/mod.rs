//! Generator in the kernel: an XDP program writes queries into recycled frames and sends them
//! straight out of an interface, and another counts the answers that come back. A core makes
//! several million queries a second this way, so that the server is the bottleneck, and not the
//! generator.

pub(crate) mod interface;
mod mixture;
mod programs;

use super::{Plan, rings::Clients, udp::pin};
use crate::report::series::{Interval, Series};
use crate::{report::Traffic, tally::Tally};
use anyhow::{Context, Result, anyhow, bail, ensure};
use interface::{Counters, Device, parse_mac};
use mixture::Mixture;
use nix::sys::{pthread::pthread_kill, signal::Signal};
use programs::{Board, Programs, Snapshot};
use ringdns_abi::generator::Flow;
use std::{
    net::SocketAddr,
    os::unix::thread::JoinHandleExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Options of the XDP generator.
#[derive(Clone, Debug, clap::Args)]
pub struct XdpArgs {
    /// Interface that queries leave by and answers come back to (xdp, rings).
    #[arg(long, required_if_eq_any([("backend", "xdp"), ("backend", "rings")]))]
    pub interface: Option<String>,
    /// MAC address of the server, or of the router before it. Default: from the neighbour table
    /// (xdp, rings).
    #[arg(long, value_name = "MAC", value_parser = parse_mac)]
    pub server_mac: Option<[u8; 6]>,
    /// First source port (xdp, rings).
    #[arg(long, default_value_t = 10_000)]
    pub first_port: u16,
    /// Binary logarithm of the number of source ports (xdp, rings).
    #[arg(long, default_value_t = 6)]
    pub ports_log2: u32,
    /// Ask from all addresses of this prefix in turn; the server must have a route back to them (rings).
    #[arg(long, value_name = "PREFIX")]
    pub clients: Option<Clients>,
    /// Longest delay of a query, in microseconds; later ones are never sent, so that queries that
    /// the generator missed while it was off its core do not reach the server as a burst (xdp).
    #[arg(long, default_value_t = 200)]
    pub max_lag_us: u64,
}

/// Results of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Counts from start to end.
    pub tally: Tally,
    /// Traffic over the interface while the load was steady.
    pub traffic: Traffic,
}

/// Time after which the load is steady: the kernel takes about 20 ms to set up a run.
const RAMP: Duration = Duration::from_millis(300);
/// Time to wait for the last answers.
const DRAIN: Duration = Duration::from_millis(200);
/// Time between two replacements of random names that were asked.
const RENEWAL: Duration = Duration::from_millis(5);

/// Runs the plan and returns the results.
pub fn run(plan: &Plan, args: &XdpArgs, target: SocketAddr, series: &Series) -> Result<Outcome> {
    let name = args.interface.as_deref().context("--backend xdp needs an --interface")?;
    let device = Device::find(name, target.ip())?;
    let flow = Flow {
        source_mac: device.mac,
        destination_mac: args.server_mac.map_or_else(|| device.neighbour(target.ip()), Ok)?,
        source: device.address,
        server: target,
        first_port: args.first_port,
        ports_log2: args.ports_log2,
    };
    let mut mixture = Mixture::new(plan)?;
    let (mut programs, mut board) = Programs::load(&flow, &device, &mixture)?;
    board.set_pace(plan.qps, Duration::from_micros(args.max_lag_us))?;
    board.write(&mut mixture)?;
    let _attached = programs.attach_sink(&device)?;
    device.wait_for_link()?;

    let generator = Generator::start(programs, &plan.udp.cores)?;
    let mut sampler = Sampler::start(series)?;
    let traffic = watch(plan, &device, &mut board, &mut mixture, &generator, &mut sampler);
    generator.stop()?;
    let traffic = traffic?;
    thread::sleep(DRAIN);
    let totals = board.snapshot_whole()?;
    ensure!(
        totals.progress.failed == 0,
        "{} queries could not be built: this is a bug in ringbench",
        totals.progress.failed
    );
    Ok(Outcome { tally: totals.tally()?, traffic })
}

/// Waits until the load is steady, then measures it for the plan's duration. Replaces random names
/// that were asked.
fn watch(
    plan: &Plan,
    device: &Device,
    board: &mut Board,
    mixture: &mut Mixture<'_>,
    generator: &Generator,
    sampler: &mut Sampler<'_>,
) -> Result<Traffic> {
    let mut sleep = |time: Duration, board: &mut Board| -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until && !plan.stop.load(Relaxed) {
            ensure!(!generator.is_finished(), "the generator ended early");
            let nap = if mixture.has_random() { RENEWAL } else { 10 * RENEWAL };
            thread::sleep(nap.min(until.saturating_duration_since(Instant::now())));
            if mixture.has_random() {
                let sequence = board.snapshot()?.progress.sequence;
                board.renew(mixture, sequence)?;
            }
            sampler.look(board)?;
        }
        Ok(())
    };
    sleep(RAMP, board)?;
    let before = Sample::take(device, board)?;
    sleep(plan.duration, board)?;
    Ok(Sample::take(device, board)?.since(&before))
}

/// Sampler that makes intervals out of the programs' counters.
struct Sampler<'s> {
    series: &'s Series,
    began: Instant,
    interval: Interval,
    before: Snapshot,
}

impl<'s> Sampler<'s> {
    fn start(series: &'s Series) -> Result<Self> {
        let began = Instant::now();
        series.start(began);
        Ok(Sampler { series, began, interval: Interval::new(0)?, before: Snapshot::default() })
    }

    /// Adds the interval that has ended, if one has.
    fn look(&mut self, board: &Board) -> Result<()> {
        let index = self.series.index(self.began.elapsed().as_nanos() as u64);
        if index != self.interval.index {
            let now = board.snapshot_whole()?;
            now.since(&self.before, &mut self.interval);
            self.series.add(&self.interval);
            self.interval.begin(index);
            self.before = now;
        }
        Ok(())
    }
}

/// Values of all counters at one time.
struct Sample {
    when: Instant,
    board: Snapshot,
    counters: Counters,
}

impl Sample {
    fn take(device: &Device, board: &Board) -> Result<Self> {
        Ok(Sample { when: Instant::now(), board: board.snapshot()?, counters: device.counters()? })
    }

    fn since(&self, before: &Sample) -> Traffic {
        let seconds = (self.when - before.when).as_secs_f64();
        let rate = |now: u64, then: u64| (now - then) as f64 / seconds;
        let (now, then) = (&self.board, &before.board);
        Traffic {
            seconds,
            queries_per_second: rate(now.progress.sent, then.progress.sent),
            answers_per_second: rate(now.received.answers, then.received.answers),
            tx_packets_per_second: rate(self.counters.tx_packets, before.counters.tx_packets),
            rx_packets_per_second: rate(self.counters.rx_packets, before.counters.rx_packets),
            skipped: now.progress.skipped - then.progress.skipped,
            answer_bytes: (now.received.bytes - then.received.bytes) as f64
                / (now.received.answers - then.received.answers).max(1) as f64,
        }
    }
}

/// Thread in the kernel that generates.
struct Generator {
    thread: JoinHandle<Result<()>>,
    done: Arc<AtomicBool>,
}

impl Generator {
    fn start(programs: Programs, cores: &[usize]) -> Result<Self> {
        // A signal ends a run in the kernel; it must not end the process.
        signal_hook::flag::register(Signal::SIGUSR1 as i32, Arc::default())
            .context("cannot catch SIGUSR1")?;
        let done = Arc::new(AtomicBool::new(false));
        // Progress is counted per core, so the generator must not move.
        let core = cores.first().copied().unwrap_or(0);
        let thread = thread::Builder::new().name("generator".into()).spawn({
            let done = done.clone();
            move || {
                pin(&[core], 0)?;
                while !done.load(Relaxed) {
                    programs.generate()?;
                }
                Ok(())
            }
        })?;
        Ok(Generator { thread, done })
    }

    fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    fn stop(self) -> Result<()> {
        self.done.store(true, Relaxed);
        // The thread loses a signal that comes just before it enters the kernel, so the signal is
        // repeated.
        while !self.thread.is_finished() {
            if let Err(error) = pthread_kill(self.thread.as_pthread_t(), Signal::SIGUSR1) {
                bail!("cannot stop the generator: {error}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.thread.join().map_err(|_| anyhow!("the generator panicked: see above"))?
    }
}
