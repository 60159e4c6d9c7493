//! Redis with a replica, and Sentinels that can swap their roles.

use rustix::process::Signal;
use tempfile::TempDir;

use crate::redis::{START, folder};
use crate::{Host, Process, free_port, until};

/// Name of the master in the Sentinels.
const MASTER: &str = "mymaster";
const SENTINELS: usize = 3;
/// Time that a master is silent before Sentinels consider it down, in milliseconds. A machine that
/// stands still for less must not cause a failover.
const DOWN_AFTER: u32 = 2000;
/// Time after which Sentinels try a failover again, in milliseconds.
const FAILOVER_TIMEOUT: u32 = 6000;

/// A master, its replica, and three Sentinels, on loopback.
pub struct Sentinels {
    host: Host,
    redis: Vec<Server>,
    sentinels: Vec<Server>,
    killed: Option<usize>,
}

struct Server {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Server {
    #[track_caller]
    fn start(host: &Host, port: u16, lines: &str, sentinel: bool) -> Self {
        let folder = folder();
        let file = folder.path().join("redis.conf");
        let text = format!("bind 127.0.0.1\nport {port}\ndir {:?}\n{lines}", folder.path());
        if let Err(error) = std::fs::write(&file, text) {
            panic!("{}: {error}", file.display());
        }
        Self { process: Self::spawn(host, &folder, sentinel), port, folder }
    }

    #[track_caller]
    fn spawn(host: &Host, folder: &TempDir, sentinel: bool) -> Process {
        let file = folder.path().join("redis.conf");
        let arguments = [file.as_os_str(), "--sentinel".as_ref()];
        let process = host.spawn("redis-server", &arguments[..if sentinel { 2 } else { 1 }]);
        process.wait_for_line(if sentinel { "+monitor master" } else { "eady to accept connections" }, START);
        process
    }
}

impl Sentinels {
    #[track_caller]
    pub fn start(host: &Host) -> Self {
        let plain = "save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n";
        let master = Server::start(host, free_port(host), plain, false);
        let replica = format!("{plain}replicaof 127.0.0.1 {}\n", master.port);
        let replica = Server::start(host, free_port(host), &replica, false);
        let lines = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {MASTER} {DOWN_AFTER}\n\
             sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT}\n",
            master.port
        );
        let sentinels = (0..SENTINELS).map(|_| Server::start(host, free_port(host), &lines, true)).collect();
        let all = Self { host: host.clone(), redis: vec![master, replica], sentinels, killed: None };
        all.all_know_all();
        all
    }

    /// Waits until a failover is possible.
    #[track_caller]
    pub fn all_know_all(&self) {
        for sentinel in &self.sentinels {
            until("the Sentinels know of each other and of the replica", || {
                let told = self.cli(sentinel.port, &["SENTINEL", "MASTER", MASTER]);
                let lines: Vec<_> = told.lines().collect();
                let field = |name: &str| {
                    let at = lines.iter().position(|line| *line == name)?;
                    lines.get(at + 1).copied()
                };
                let others = (SENTINELS - 1).to_string();
                let known = field("num-slaves") == Some("1")
                    && field("num-other-sentinels") == Some(&others)
                    && field("flags") == Some("master");
                known.then_some(())
            });
        }
        until("the replica has what the master has", || {
            // A failover may have begun before the last start.
            let master = self.redis[self.master()].port;
            self.cli(master, &["INFO", "replication"]).contains("state=online").then_some(())
        });
    }

    /// Returns the lines for `[redis]`.
    pub fn settings(&self) -> String {
        let urls: Vec<_> =
            self.sentinels.iter().map(|server| format!("redis://127.0.0.1:{}", server.port)).collect();
        format!("sentinel = {urls:?}\nmaster = {MASTER:?}\n")
    }

    /// Returns the number of the master among the two servers.
    #[track_caller]
    pub fn master(&self) -> usize {
        until("the Sentinels know a master", || {
            let told = self.cli(self.sentinels[0].port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
            self.redis.iter().position(|server| told.ends_with(&format!("\n{}", server.port)))
        })
    }

    /// Makes a Sentinel swap the roles of the two servers, once it accepts the replica.
    #[track_caller]
    pub fn fail_over(&self, by: usize) {
        let port = self.sentinels[by].port.to_string();
        until("the Sentinel agrees", || {
            let mut command = self.host.command("redis-cli");
            command.args(["-e", "-p", &port, "SENTINEL", "FAILOVER", MASTER]);
            command.output().is_ok_and(|output| output.status.success()).then_some(())
        });
    }

    /// Returns the process of one of the two servers.
    pub fn process(&self, nth: usize) -> &Process {
        &self.redis[nth].process
    }

    /// Returns the process of a Sentinel.
    pub fn sentinel(&self, nth: usize) -> &Process {
        &self.sentinels[nth].process
    }

    /// Kills one of the two servers, as a crash would.
    #[track_caller]
    pub fn kill9(&mut self, nth: usize) {
        self.killed = Some(nth);
        self.redis[nth].process.signal(Signal::KILL);
        self.redis[nth].process.wait_for_exit(START);
    }

    /// Starts a killed server again. Sentinels make it a replica.
    #[track_caller]
    pub fn start_again(&mut self, nth: usize) {
        let process = Server::spawn(&self.host, &self.redis[nth].folder, false);
        self.redis[nth].process = process;
    }

    /// Starts the server killed last again, whichever is the master by now.
    #[track_caller]
    pub fn start_killed_again(&mut self) {
        if let Some(nth) = self.killed.take() {
            self.start_again(nth);
        }
    }

    /// Returns the output of `redis-cli` for one of the two servers.
    #[track_caller]
    pub fn of(&self, nth: usize, arguments: &[&str]) -> String {
        self.cli(self.redis[nth].port, arguments)
    }

    #[track_caller]
    fn cli(&self, port: u16, arguments: &[&str]) -> String {
        let port = port.to_string();
        let words = ["-e", "-p", &port].into_iter().chain(arguments.iter().copied());
        self.host.run("redis-cli", words).trim_end().to_owned()
    }
}
