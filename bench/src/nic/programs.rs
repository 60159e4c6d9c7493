//! Programs that take part in trials.

use crate::{compare::server::there, lab::Server};
use anyhow::{Context, Result, ensure};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Time within which the upstream must print its address.
const UPSTREAM_START: Duration = Duration::from_secs(10);
const CHECK: Duration = Duration::from_millis(20);

/// Paths of the programs that take part.
#[derive(Debug)]
pub struct Programs {
    /// Path of `ringbench`, this program.
    pub ringbench: PathBuf,
    /// Path of `ringdnsd`.
    pub ringdnsd: PathBuf,
    /// Path of `ringctl`, which reads ringdnsd's counters.
    pub ringctl: PathBuf,
}

impl Programs {
    /// Finds ringdnsd and ringctl beside this program.
    pub fn find() -> Result<Self> {
        let ringbench = std::env::current_exe().context("cannot find this program's own file")?;
        let beside = |name: &str| there(ringbench.with_file_name(name));
        let (ringdnsd, ringctl) = (beside("ringdnsd")?, beside("ringctl")?);
        Ok(Programs { ringdnsd, ringctl, ringbench })
    }

    /// Returns the versions of the programs, and of the tools that change settings.
    pub fn versions(&self) -> Vec<String> {
        let version = |program: &Path, option: &str| {
            let output = Command::new(program).arg(option).output().ok()?;
            let name = program.file_name()?.to_string_lossy();
            Some(format!("{name}: {}", String::from_utf8_lossy(&output.stdout).lines().next()?.trim()))
        };
        let own = [(self.ringbench.as_path(), "--version"), (&self.ringdnsd, "--version")];
        let tools = [(Path::new("ethtool"), "--version"), (Path::new("ip"), "-V")];
        own.into_iter().chain(tools).filter_map(|(program, option)| version(program, option)).collect()
    }

    /// Starts the upstream that ringdnsd forwards to.
    pub fn start_upstream(&self) -> Result<(Server, SocketAddr)> {
        let mut command = Command::new(&self.ringbench);
        command.args(["upstream", "--ttl=86400", "--listen=127.0.0.1:0"]);
        let mut server = Server::start("the upstream", command)?;
        let deadline = Instant::now() + UPSTREAM_START;
        loop {
            let said = server.said();
            if let Some(address) =
                said.lines().find_map(|line| line.strip_prefix("serving on ")?.parse().ok())
            {
                return Ok((server, address));
            }
            server.check()?;
            ensure!(Instant::now() < deadline, "the upstream did not start within {UPSTREAM_START:?}");
            thread::sleep(CHECK);
        }
    }
}
