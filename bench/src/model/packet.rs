//! Cost of a packet besides its answer: rings, system calls, the kernel's copies, the driver.

use super::hit::{Contents, HitModel, Point};
use crate::report::group;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// Path of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Kernel sockets.
    Sockets,
    /// AF_XDP with the kernel's copies.
    Copy,
    /// AF_XDP into and out of the NIC's own buffers.
    ZeroCopy,
    /// A cache in the XDP program, and XDP_TX.
    InDriver,
}

/// Range in nanoseconds. A single number if it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Zero-copy rings, nanoseconds for a packet in and out. Not of this project, and not measured
/// here.
///
/// Lower end: a driver that rewrites a packet and sends it back, alone, 10 million a second on a
/// core (Linux commit 764cbccef8c9, 2016, mlx4). Upper end: Open vSwitch between two NICs over
/// AF_XDP, 7.3 million a second (its commit 0e365ba8b40f, 2019, Xeon E5-2620 v3), whole switch
/// included, on a core for the kernel's part and one for its own.
pub const ZERO_COPY: Range = Range { low: 100.0, high: 274.0 };

/// XDP_TX, nanoseconds for a packet in and out. Lower end: the same commit as above. Upper end: the
/// veth pair of this project's trial, with both of its ends and the load (1.62 million a second on
/// one core).
pub const IN_DRIVER: Range = Range { low: 100.0, high: 617.0 };

/// Factor by which an eBPF program may need more time for a hit's instructions: no vectors, and
/// bounds checks for the verifier.
const EBPF: Range = Range { low: 1.0, high: 2.0 };

impl Mode {
    /// All modes, the most expensive first.
    pub const ALL: [Mode; 4] = [Mode::Sockets, Mode::Copy, Mode::ZeroCopy, Mode::InDriver];

    /// Returns the name of the mode.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Sockets => "kernel sockets",
            Mode::Copy => "AF_XDP, copy",
            Mode::ZeroCopy => "AF_XDP, zero-copy (estimate)",
            Mode::InDriver => "in the driver (estimate)",
        }
    }

    /// Returns the source of the mode's figures.
    pub fn source(self) -> &'static str {
        match self {
            Mode::Sockets | Mode::Copy => "measured here: veth",
            Mode::ZeroCopy => "estimate: drivers and switches of others",
            Mode::InDriver => "estimate: drivers of others, a trial on veth",
        }
    }
}

/// Measurements of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Measured {
    cpu_nanos: f64,
    rate: f64,
}

/// Saturation of a comparison, and its number of names.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Number of names, all cached.
    pub names: usize,
    results: Value,
}

impl Compared {
    /// Parses the output of `ringbench compare --json`.
    pub fn new(names: usize, results: Value) -> Self {
        Compared { names, results }
    }

    /// Returns the share of its core that the bare responder had: the rest went to other work. On
    /// an idle machine it is all.
    fn core(&self) -> f64 {
        self.server("responder").map_or(1.0, |bare| (bare.rate * bare.cpu_nanos / 1e9).min(1.0))
    }

    fn server(&self, name: &str) -> Option<Measured> {
        let server = &self.results["measures"]["saturation"]["servers"][name];
        let median = |figure: &str| server[figure]["median"].as_f64();
        Some(Measured { cpu_nanos: median("cpu_nanos_per_answer")?, rate: median("answers_per_second")? })
    }
}

/// Cost of a packet besides its answer, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct PacketModel {
    /// AF_XDP in copy mode: cost in the bare responder, including its own few instructions.
    pub copy: f64,
    /// Turn of a worker without the processor, from the counts; its rings are part of `copy`.
    pub turn: f64,
    /// Kernel sockets; `None` if they were not measured.
    pub sockets: Option<f64>,
}

impl PacketModel {
    /// Fits the costs to the first comparison: copy mode from the bare responder, sockets from
    /// ringdnsd over them. `turn` is a worker's turn without the processor, in nanoseconds.
    pub fn fit(first: &Compared, hits: &HitModel, what: &Contents, turn: f64) -> Result<Self> {
        let bare = first.server("responder").context(
            "the comparison lacks the bare responder at saturation: ringbench compare --measure saturation --json",
        )?;
        let sockets =
            first.server("ringdnsd-kernel").map(|server| server.cpu_nanos - hits.nanos(what) - turn);
        Ok(PacketModel { copy: bare.cpu_nanos, turn, sockets })
    }

    /// Returns the nanoseconds of an answer on a core.
    pub fn answer(&self, mode: Mode, hits: &HitModel, what: &Contents) -> Option<Range> {
        let plain = |packet: f64| packet + self.turn + hits.nanos(what);
        let one = |nanos: f64| Range { low: nanos, high: nanos };
        match mode {
            Mode::Sockets => self.sockets.map(|sockets| one(plain(sockets))),
            Mode::Copy => Some(one(plain(self.copy))),
            Mode::ZeroCopy => Some(Range { low: plain(ZERO_COPY.low), high: plain(ZERO_COPY.high) }),
            // One packet at a time: at worst no load overlaps with another's.
            Mode::InDriver => Some(Range {
                low: IN_DRIVER.low + (EBPF.low - 1.0) * hits.near() + hits.nanos(what),
                high: IN_DRIVER.high + EBPF.high * hits.near() + hits.waits(what),
            }),
        }
    }

    /// Returns the measurements with the predictions that follow from the first comparison.
    pub fn points(
        &self,
        compared: &[Compared],
        hits: &HitModel,
        contents: impl Fn(usize) -> Contents,
    ) -> Vec<Point> {
        let mut points = Vec::new();
        for (nth, comparison) in compared.iter().enumerate() {
            let what = contents(comparison.names);
            let names = group(comparison.names as u64);
            let servers = [
                ("responder", "bare responder", Some(self.copy), nth == 0),
                (
                    "ringdnsd",
                    "ringdnsd, AF_XDP copy",
                    self.answer(Mode::Copy, hits, &what).map(|r| r.low),
                    false,
                ),
                (
                    "ringdnsd-kernel",
                    "ringdnsd, sockets",
                    self.answer(Mode::Sockets, hits, &what).map(|r| r.low),
                    nth == 0,
                ),
            ];
            for (name, title, predicted, fitted) in servers {
                let (Some(measured), Some(predicted)) = (comparison.server(name), predicted) else {
                    continue;
                };
                let point = |what: &str, measured, predicted, fitted| Point {
                    what: format!("{title}, {names} names: {what}"),
                    fitted,
                    measured,
                    predicted,
                };
                points.push(point("ns of processor an answer", measured.cpu_nanos, predicted, fitted));
                // A server has the same share of its core as the bare responder had in the same
                // rounds.
                let rate = comparison.core() * 1e9 / predicted;
                points.push(point("answers/s", measured.rate, rate, name == "responder"));
            }
        }
        points
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::model::hit::tests::micro;
    use serde_json::json;

    /// Returns a comparison in which copies cost 1000 ns and sockets 3000, with hits of 30 ns.
    pub fn compared() -> Compared {
        let server = |nanos: f64| json!({ "cpu_nanos_per_answer": { "median": nanos }, "answers_per_second": { "median": 1e9 / nanos } });
        let servers = json!({ "responder": server(1000.0), "ringdnsd": server(1050.0), "ringdnsd-kernel": server(3050.0) });
        Compared::new(10_000, json!({ "measures": { "saturation": { "servers": servers } } }))
    }

    #[test]
    fn a_packet_costs_what_is_left_of_the_measured() {
        let micro = micro();
        let hits = HitModel::fit(&micro, 500.0).unwrap();
        let what = hits.contents(&micro, 10_000, 0.0);
        let model = PacketModel::fit(&compared(), &hits, &what, 5.0).unwrap();
        let copy = model.answer(Mode::Copy, &hits, &what).unwrap();
        assert!((copy.low - 1005.0 - hits.nanos(&what)).abs() < 1e-9 && copy.low == copy.high);
        let sockets = model.answer(Mode::Sockets, &hits, &what).unwrap();
        assert!((sockets.low - 3050.0).abs() < 1e-9, "{sockets:?}");
        let points = model.points(&[compared()], &hits, |names| hits.contents(&micro, names, 0.0));
        assert_eq!(points.iter().filter(|point| point.fitted).count(), 3);
        assert!(points.iter().all(|point| point.error().abs() < 5.0), "{points:?}");
        for mode in [Mode::ZeroCopy, Mode::InDriver] {
            let Range { low, high } = model.answer(mode, &hits, &what).unwrap();
            assert!(100.0 < low && low < high, "an estimate has a range");
        }
    }

    #[test]
    fn rates_are_of_the_part_of_the_core_that_was_left() {
        let mut half = compared();
        for server in ["responder", "ringdnsd", "ringdnsd-kernel"] {
            let rate = &mut half.results["measures"]["saturation"]["servers"][server]["answers_per_second"]["median"];
            *rate = json!(rate.as_f64().unwrap() / 2.0);
        }
        let micro = micro();
        let hits = HitModel::fit(&micro, 500.0).unwrap();
        let model = PacketModel::fit(&half, &hits, &hits.contents(&micro, 10_000, 0.0), 5.0).unwrap();
        let points = model.points(&[half], &hits, |names| hits.contents(&micro, names, 0.0));
        assert!(points.iter().all(|point| point.error().abs() < 5.0), "{points:?}");
    }

    #[test]
    fn without_a_yardstick_nothing_is_said() {
        let micro = micro();
        let hits = HitModel::fit(&micro, 500.0).unwrap();
        let empty = Compared::new(10_000, json!({}));
        assert!(PacketModel::fit(&empty, &hits, &hits.contents(&micro, 10_000, 0.0), 5.0).is_err());
    }
}
