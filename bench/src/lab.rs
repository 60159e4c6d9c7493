//! The two-host lab of `deploy/lab.sh`, and the programs that run in it: whatever is started here ends here.

use anyhow::{Context, Result, bail, ensure};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The interface of the client's end of the cable.
pub const CLIENT_INTERFACE: &str = "vc";
/// The interface of the server's end.
pub const SERVER_INTERFACE: &str = "vs";
/// Where servers serve.
pub const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 53, 0, 2), 53));

/// Which of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// 10.53.0.1 on `vc`.
    Client,
    /// 10.53.0.2 on `vs`.
    Server,
}

/// A lab; taken down when dropped, with all that still runs in it.
#[derive(Debug)]
pub struct Lab {
    script: PathBuf,
    name: String,
}

impl Lab {
    /// Makes a lab of its own name with the script at `script`.
    pub fn up(script: &Path) -> Result<Self> {
        ensure!(
            script.exists(),
            "there is no {}: run this from the top of the repository, or say where lab.sh is (--lab)",
            script.display()
        );
        // Made first, so that what a failing `up` left is taken down.
        let lab = Lab { script: script.into(), name: format!("ringbench-{}", std::process::id()) };
        lab.run("up")?;
        Ok(lab)
    }

    fn run(&self, verb: &str) -> Result<()> {
        let output = Command::new(&self.script).args(["--name", &self.name, verb]).output();
        let output = output.with_context(|| format!("cannot run {}", self.script.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {verb} failed: {}", self.script.display(), said.trim());
        Ok(())
    }

    fn namespace(&self, side: Side) -> String {
        match side {
            Side::Client => format!("{}-client", self.name),
            Side::Server => format!("{}-server", self.name),
        }
    }

    /// A command that will run on one of the hosts, on one core. Its process is the program itself.
    pub fn command(&self, side: Side, core: usize, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side), "taskset", "--cpu-list", &core.to_string()]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Takes off an XDP program that a server left on its interface when it ended.
    pub fn clear_xdp(&self) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.namespace(Side::Server), "link", "set", "dev", SERVER_INTERFACE, "xdp", "off"]);
        let output = ip.output().context("cannot run ip: is iproute2 installed?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "cannot take an XDP program off {SERVER_INTERFACE}: {}",
            said.trim()
        );
        Ok(())
    }

    /// Runs `work` on a thread inside one of the hosts: the sockets that it opens are that host's.
    pub fn inside<T: Send>(&self, side: Side, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(&self.namespace(side), work)
    }
}

/// Runs `work` on a thread inside a network namespace: the sockets that it opens are of that namespace.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let namespace = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("cannot enter {}: is this root?", path.display()))?;
            work()
        });
        match inside.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.run("down") {
            eprintln!("the lab {} is still up: {error:#}", self.name);
        }
    }
}

/// How long a process may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program that stays; ended when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: File,
}

/// Time on the processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Spent running.
    pub ran: Duration,
    /// Spent ready to run, while others had the core.
    pub waited: Duration,
}

impl Usage {
    /// Since an earlier time.
    pub fn since(self, before: Usage) -> Usage {
        Usage { ran: self.ran.saturating_sub(before.ran), waited: self.waited.saturating_sub(before.waited) }
    }
}

impl Server {
    /// Starts `command`, with its output in a file that is shown if it ends early.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let log = tempfile::tempfile().context("cannot make a temporary file")?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {name}: is it installed (deploy/setup.sh bench)?"))?;
        Ok(Server { name: name.into(), child, log })
    }

    /// Fails if it does not run any more.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; it said:\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// What its threads have had of the processors: what the kernel did meanwhile in their name is part of it,
    /// interrupts of the network among that, unless the kernel accounts for those apart.
    pub fn usage(&self) -> Result<Usage> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut usage = Usage::default();
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {}", tasks.display()))? {
            // A thread that ends while we look has done nothing that matters.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let mut words = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
            usage.ran += Duration::from_nanos(words.next().unwrap_or(0));
            usage.waited += Duration::from_nanos(words.next().unwrap_or(0));
        }
        Ok(usage)
    }

    /// The memory that it has, in bytes: its own pages, and its share of those that it has in common with others (PSS).
    pub fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kibibytes.with_context(|| format!("{path} has no Pss"))? << 10)
    }

    /// Ends it, waits until it has ended, and returns what it said.
    pub fn stop(mut self) -> Result<String> {
        self.check()?;
        self.end()?;
        Ok(self.said())
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end when asked to, and was killed; it said:\n{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Returns the output of the server so far.
    pub fn said(&self) -> String {
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        // The process writes where the file's position is: it must not move.
        loop {
            match self.log.read_at(&mut block, bytes.len() as u64) {
                Ok(0) => return String::from_utf8_lossy(&bytes).into_owned(),
                Ok(read) => bytes.extend(&block[..read]),
                Err(error) => return format!("(its output cannot be read: {error})"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}
