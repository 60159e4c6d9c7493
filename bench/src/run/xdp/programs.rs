//! Two programs of the generator in the kernel, and the maps that they share with this process.

use super::{interface::Device, mixture::Mixture};
use crate::{report::series::Interval, tally::Tally};
use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, MapError, PerCpuArray},
    programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode, links::FdLink},
};
use ringdns_abi::generator::{
    BUCKETS, CONFIG_MAP, Config, FRAME_LEN, Flow, GENERATE_PROGRAM, LATENCIES_MAP, ORDER_MAP, PROGRESS_MAP,
    Progress, RECEIVED_MAP, Received, SINK_PROGRAM, TEMPLATES_MAP, Template, bucket_start,
};
use std::{io, time::Duration};

/// Output of `ebpf/build.sh`. Committed, so that a build needs no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../ebpf/generator.bpf.o");

/// Number of frames that the kernel processes at a time.
const BATCH: u32 = 64;

/// Loaded programs.
pub struct Programs(Ebpf);

/// Sink on its interface; dropping it detaches the program.
pub struct Attached(#[expect(dead_code, reason = "held for its drop")] FdLink);

impl Programs {
    /// Loads the programs, with maps of the size that `mixture` needs, and configures them. They send nothing yet.
    pub fn load(flow: &Flow, device: &Device, mixture: &Mixture<'_>) -> Result<(Self, Board)> {
        let order = mixture.order().len() as u32;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(TEMPLATES_MAP, mixture.templates())
            .map_max_entries(ORDER_MAP, order)
            .load(OBJECT)
            .context(
                "the kernel refuses the generator's maps: run as root, or with CAP_BPF and CAP_NET_ADMIN",
            )?;
        for name in [GENERATE_PROGRAM, SINK_PROGRAM] {
            let loaded = program(&mut ebpf, name)?.load();
            loaded.with_context(|| {
                format!("the kernel refuses the program {name}: run as root, on Linux 5.18 or later")
            })?;
        }
        let board = Board {
            config: Config { order_len: order, interface: device.index, ..Config::new(flow)? },
            config_map: take(&mut ebpf, CONFIG_MAP)?,
            templates: take(&mut ebpf, TEMPLATES_MAP)?,
            order: take(&mut ebpf, ORDER_MAP)?,
            progress: take(&mut ebpf, PROGRESS_MAP)?,
            received: take(&mut ebpf, RECEIVED_MAP)?,
            latencies: take(&mut ebpf, LATENCIES_MAP)?,
        };
        Ok((Programs(ebpf), board))
    }

    /// Lets the sink count the answers that arrive at `device`.
    pub fn attach_sink(&mut self, device: &Device) -> Result<Attached> {
        let sink = program(&mut self.0, SINK_PROGRAM)?;
        let attached =
            sink.attach_to_if_index(device.index, XdpMode::Driver).and_then(|link| sink.take_link(link));
        let link = attached.with_context(|| {
            format!(
                "{} does not accept an XDP program: does it have one already (`ip link`), or no driver mode?",
                device.name
            )
        })?;
        Ok(Attached(link.try_into().context("the kernel has no XDP links: Linux 5.9 or later is needed")?))
    }

    /// Generates on the calling thread's core, until a signal comes, or for four billion slots.
    pub fn generate(&self) -> Result<()> {
        let frame = [0; FRAME_LEN];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = u32::MAX;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        let program: &Xdp = self
            .0
            .program(GENERATE_PROGRAM)
            .and_then(|program| program.try_into().ok())
            .context("the generator's object lacks its program: rebuild it with ebpf/build.sh")?;
        match program.test_run(options) {
            Ok(_) => Ok(()),
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::Interrupted => {
                Ok(())
            }
            Err(error) => Err(error)
                .context("the kernel does not run programs on live frames: Linux 5.18 or later is needed"),
        }
    }
}

/// Maps of the programs: templates, and counters.
pub struct Board {
    config: Config,
    config_map: Array<MapData, Config>,
    templates: Array<MapData, Template>,
    order: Array<MapData, u32>,
    progress: Array<MapData, Progress>,
    received: PerCpuArray<MapData, Received>,
    latencies: PerCpuArray<MapData, u64>,
}

impl Board {
    /// Sets the rate of the queries, and their longest delay.
    pub fn set_pace(&mut self, qps: Option<f64>, max_lag: Duration) -> Result<()> {
        self.config.interval_ns = qps.map_or(0, |qps| (1e9 / qps).max(1.0) as u64);
        self.config.max_lag_ns = max_lag.as_nanos() as u64;
        self.config_map.set(0, self.config, 0).context("cannot configure the generator")
    }

    /// Writes all templates and their order.
    pub fn write(&mut self, mixture: &mut Mixture<'_>) -> Result<()> {
        for index in 0..mixture.templates() {
            self.set_template(mixture, index)?;
        }
        for (position, template) in (0..).zip(mixture.order()) {
            self.order.set(position, template, 0).context("cannot write the generator's order")?;
        }
        Ok(())
    }

    /// Replaces the random names that the program has passed when it is at `sequence`.
    pub fn renew(&mut self, mixture: &mut Mixture<'_>, sequence: u64) -> Result<()> {
        for index in mixture.passed(sequence) {
            self.set_template(mixture, index)?;
        }
        Ok(())
    }

    fn set_template(&mut self, mixture: &mut Mixture<'_>, index: u32) -> Result<()> {
        self.templates
            .set(index, mixture.template(index)?, 0)
            .context("cannot write the generator's templates")
    }

    /// Returns the counters so far, over all cores.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut sum = Snapshot { latencies: vec![0; BUCKETS as usize], ..Snapshot::default() };
        sum.progress = self.progress.get(&0, 0)?;
        for of in self.received.get(&0, 0)?.iter() {
            let Received { answers, unmatched, truncated, bytes, passed, rcodes } = *of;
            let to = &mut sum.received;
            to.answers += answers;
            to.unmatched += unmatched;
            to.truncated += truncated;
            to.bytes += bytes;
            to.passed += passed;
            to.rcodes.iter_mut().zip(rcodes).for_each(|(to, count)| *to += count);
        }
        Ok(sum)
    }

    /// Returns the counters with latencies: one system call for each bucket.
    pub fn snapshot_whole(&self) -> Result<Snapshot> {
        let mut sum = self.snapshot()?;
        for (index, bucket) in (0..).zip(&mut sum.latencies) {
            *bucket = self.latencies.get(&index, 0)?.iter().sum();
        }
        Ok(sum)
    }
}

/// Counters of the programs.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counters of the generator.
    pub progress: Progress,
    /// Counters of the sink.
    pub received: Received,
    /// Number of answers by latency bucket.
    latencies: Vec<u64>,
}

impl Snapshot {
    /// Adds the counts since `before` to `interval`.
    pub fn since(&self, before: &Snapshot, interval: &mut Interval) {
        interval.sent = self.progress.sent - before.progress.sent;
        interval.answered = self.received.answers - before.received.answers;
        let then = before.latencies.iter().copied().chain(std::iter::repeat(0));
        for ((index, now), then) in (0..).zip(&self.latencies).zip(then) {
            interval.latency.saturating_record_n(middle(index), (now - then) as u32);
        }
    }

    /// Returns the counts in the form of every generator.
    pub fn tally(&self) -> Result<Tally> {
        let mut tally = Tally::new()?;
        tally.names.sent = self.progress.sent;
        tally.names.answered = self.received.answers;
        for (index, count) in (0..BUCKETS).zip(&self.latencies) {
            tally.names.time_untold(middle(index), *count);
        }
        tally.rcodes = self.received.rcodes;
        tally.truncated = self.received.truncated;
        tally.unexpected = self.received.unmatched;
        Ok(tally)
    }
}

/// Returns the middle of a bucket, which is 1/32 wide.
fn middle(bucket: u32) -> u64 {
    bucket_start(bucket).midpoint(bucket_start(bucket + 1)).max(1)
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.with_context(|| {
        format!("the generator's object lacks the program {name}: rebuild it with ebpf/build.sh")
    })
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name);
    let map = map.with_context(|| {
        format!("the generator's object lacks the map {name}: rebuild it with ebpf/build.sh")
    })?;
    M::try_from(map).with_context(|| {
        format!("the generator's map {name} has another type: rebuild it with ebpf/build.sh")
    })
}
