//! The generators that are held against each other: how each is started, and what it says.

use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// A generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Ours, over kernel sockets, a window of queries in flight.
    Udp,
    /// Ours, over rings, a window of queries in flight.
    Rings,
    /// Ours, over rings, more than anybody can answer.
    RingsFlood,
    /// Ours, in the kernel, more than anybody can answer.
    Xdp,
    /// Kernel sockets, a window of queries in flight.
    Dnsperf,
    /// AF_XDP, more than anybody can answer.
    Kxdpgun,
    /// Kernel sockets.
    Flame,
}

/// What a tool is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Task<'t> {
    /// Whole seconds.
    pub seconds: u32,
    /// Queries a second; as many as it can when absent.
    pub qps: Option<u32>,
    /// A file of `NAME TYPE` lines, and how many.
    pub names: &'t Path,
    /// How many names that has.
    pub count: u32,
}

/// What a tool said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Claims {
    /// Answers a second.
    pub answers: Option<f64>,
    /// Its middle latency in nanoseconds: the median where it has one, else the mean.
    pub latency: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
}

impl Tool {
    /// All, in the order of the table.
    pub const ALL: [Tool; 7] =
        [Tool::Xdp, Tool::Rings, Tool::RingsFlood, Tool::Kxdpgun, Tool::Udp, Tool::Dnsperf, Tool::Flame];

    /// Those that time answers.
    pub const TIMING: [Tool; 5] = [Tool::Xdp, Tool::Rings, Tool::Udp, Tool::Dnsperf, Tool::Flame];

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Tool::Udp => "ringbench udp",
            Tool::Rings => "ringbench rings",
            Tool::RingsFlood => "ringbench rings, flooding",
            Tool::Xdp => "ringbench xdp, flooding",
            Tool::Dnsperf => "dnsperf",
            Tool::Kxdpgun => "kxdpgun, flooding",
            Tool::Flame => "flame",
        }
    }

    /// What it looks at in an answer.
    pub fn checks(self) -> &'static str {
        match self {
            Tool::Udp | Tool::Rings | Tool::RingsFlood => "ID, question, case, RCODE; time of each",
            Tool::Xdp => "ID, port, RCODE; time of each",
            Tool::Dnsperf => "ID, RCODE; time of each",
            Tool::Kxdpgun => "RCODE; counts only",
            Tool::Flame => "ID, RCODE; time of each",
        }
    }

    /// Its program, if it is installed.
    pub fn find(self, ringbench: &Path) -> Option<PathBuf> {
        let name = match self {
            Tool::Udp | Tool::Rings | Tool::RingsFlood | Tool::Xdp => return Some(ringbench.into()),
            Tool::Dnsperf => "dnsperf",
            Tool::Kxdpgun => "kxdpgun",
            // Not `flamethrower`, which in Debian is a program that copies disks.
            Tool::Flame => "flame",
        };
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
        folders.push("/usr/sbin".into());
        folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// Adds its arguments to its command.
    pub fn arguments(self, command: &mut Command, task: Task<'_>, target: (&str, u16), interface: &str) {
        let Task { seconds, qps, names, count } = task;
        let seconds = seconds.to_string();
        let (address, port) = (target.0, target.1.to_string());
        let rate = qps.map(|qps| qps.to_string());
        match self {
            Tool::Udp | Tool::Rings | Tool::RingsFlood | Tool::Xdp => {
                let backend = match self {
                    Tool::Udp => "udp",
                    Tool::Xdp => "xdp",
                    _ => "rings",
                };
                command.args(["run", "--quiet", "--json", "--backend", backend, "--duration", &seconds]);
                command.args(["--target", &format!("{address}:{port}"), "--count", &count.to_string()]);
                if self != Tool::Udp {
                    command.args(["--interface", interface]);
                }
                let flood = (self == Tool::RingsFlood).then(|| FLOOD.to_string());
                match rate.or(flood) {
                    Some(rate) => command.args(["--qps", &rate]),
                    None => command.args(["--window", WINDOW]),
                };
            }
            Tool::Dnsperf => {
                command.args([
                    "-s",
                    address,
                    "-p",
                    &port,
                    "-l",
                    &seconds,
                    "-T",
                    "1",
                    "-c",
                    "4",
                    "-q",
                    DNSPERF_WINDOW,
                ]);
                command.arg("-d").arg(names);
                if let Some(rate) = rate {
                    command.args(["-Q", &rate]);
                }
            }
            Tool::Kxdpgun => {
                let rate = rate.unwrap_or_else(|| FLOOD.to_string());
                command
                    .args(["-t", &seconds, "-Q", &rate, "-p", &port, "-I", interface, "-i"])
                    .arg(names)
                    .arg(address);
            }
            Tool::Flame => {
                let of_file = [OsString::from("-g"), "file".into(), "-f".into(), names.into()];
                command.args([address, "-p", &port, "-l", &seconds, "-v", "1"]).args(of_file);
                // Its default is ten senders of ten queries each second; without delay, they send as answers come.
                match rate {
                    Some(rate) => command.args(["-Q", &rate, "-c", "1"]),
                    None => command.args(["-d", "1", "-q", "500", "-c", "20"]),
                };
            }
        }
    }

    /// Reads what it said.
    pub fn read(self, said: &str) -> Result<Claims> {
        let claims = match self {
            Tool::Udp | Tool::Rings | Tool::RingsFlood | Tool::Xdp => ours(said)?,
            Tool::Dnsperf => Claims {
                answers: number_after(said, "Queries per second:"),
                latency: number_after(said, "Average Latency (s):").map(|seconds| seconds * 1e9),
                p99: None,
            },
            Tool::Kxdpgun => Claims {
                answers: number_after(said, "total replies:").and(in_brackets(said)),
                ..Claims::default()
            },
            Tool::Flame => Claims {
                answers: number_after(said, "avg r qps   :"),
                latency: number_after(said, "avg resp    :").map(|ms| ms * 1e6),
                p99: None,
            },
        };
        let nothing = claims.answers.is_none() && claims.latency.is_none();
        (!nothing).then_some(claims).with_context(|| format!("{} said nothing of use:\n{said}", self.title()))
    }
}

/// More than a core sends or answers.
const FLOOD: u32 = 5_000_000;
/// In flight over kernel sockets and rings: the veth queue holds 256, and what is with the server comes on top.
const WINDOW: &str = "250";
/// dnsperf loses queries on a veth pair with more.
const DNSPERF_WINDOW: &str = "200";

fn ours(said: &str) -> Result<Claims> {
    let report: Value = serde_json::from_str(said).context("ringbench's report is no JSON")?;
    let quantile = |name: &str| report["listed"]["latency_ns"][name].as_f64();
    Ok(Claims {
        answers: report["answers_per_second"].as_f64(),
        latency: quantile("p50"),
        p99: quantile("p99"),
    })
}

/// The number that follows a label.
fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = text.split(label).nth(1)?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// kxdpgun's rate of replies: `total replies: 100 (50 pps) (100%)`.
fn in_brackets(said: &str) -> Option<f64> {
    number_after(said.split("total replies:").nth(1)?, "(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_read() {
        let said = "Statistics:\n\n  Queries sent:         2000\n  Queries completed:    2000 (100.00%)\n  \
                    Queries per second:   999.123456\n\n  Average Latency (s):  0.001052 (min 0.001003, max 0.002)\n";
        let claims = Tool::Dnsperf.read(said).unwrap();
        assert_eq!(claims, Claims { answers: Some(999.123456), latency: Some(1_052_000.0), p99: None });
    }

    #[test]
    fn what_kxdpgun_says_is_read() {
        let said = "total queries:     1308250 (654125 pps)\ntotal replies:     1290890 (645445 pps) (98%)\n";
        assert_eq!(Tool::Kxdpgun.read(said).unwrap().answers, Some(645_445.0));
        assert!(Tool::Kxdpgun.read("cannot load").is_err());
    }

    #[test]
    fn what_flame_says_is_read() {
        let said = "------\nrun id      : 1\nruntime     : 2.0 s\ntotal sent  : 4000\ntotal rcvd  : 4000\nmin resp    : 1.0 ms\n\
                    avg resp    : 1.1 ms\nmax resp    : 2 ms\navg r qps   : 1990\navg s qps   : 2000\navg pkt     : 52 bytes\n";
        let claims = Tool::Flame.read(said).unwrap();
        assert_eq!(claims, Claims { answers: Some(1990.0), latency: Some(1_100_000.0), p99: None });
    }

    #[test]
    fn what_we_say_is_read() {
        let said = r#"{"answers_per_second": 5.5, "listed": {"latency_ns": {"p50": 7, "p99": 9}}}"#;
        let claims = Tool::Udp.read(said).unwrap();
        assert_eq!(claims, Claims { answers: Some(5.5), latency: Some(7.0), p99: Some(9.0) });
    }
}
