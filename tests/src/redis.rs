//! Redis, the tier that a fleet shares.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Host, Process};

const START: Duration = Duration::from_secs(30);

/// `redis-server` in the foreground on a Unix socket of its own, that keeps nothing on disk.
pub struct Redis {
    process: Process,
    folder: TempDir,
}

impl Redis {
    #[track_caller]
    pub fn start() -> Self {
        match tempfile::Builder::new().prefix("ringdns-redis-").tempdir() {
            Ok(folder) => Self::start_in(folder),
            Err(error) => panic!("a folder for redis-server: {error}"),
        }
    }

    /// One at the place of another that has ended.
    #[track_caller]
    pub fn start_in(folder: TempDir) -> Self {
        let socket = socket_in(folder.path());
        let arguments =
            ["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"].map(Path::new);
        let more = [Path::new("--dir"), folder.path(), Path::new("--unixsocket"), &socket];
        let process = Host::local().spawn("redis-server", arguments.into_iter().chain(more));
        process.wait_for_line("ready to accept connections", START);
        Self { process, folder }
    }

    /// Kills it. What is left is the place where it was.
    #[track_caller]
    pub fn kill9(mut self) -> TempDir {
        self.process.signal(rustix::process::Signal::KILL);
        self.process.wait_for_exit(START);
        self.folder
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// For `[redis] url`.
    pub fn url(&self) -> String {
        url_in(&self.folder)
    }

    /// What `redis-cli` prints. Panics unless it succeeds.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "redis-cli {arguments:?}: {said}");
        said
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Host::local().command("redis-cli");
        command.arg("-s").arg(socket_in(self.folder.path())).args(arguments);
        match command.output() {
            Ok(output) => output,
            Err(error) => panic!("{command:?}: {error}; deploy/setup.sh installs what tests need"),
        }
    }

    /// All keys, in order.
    #[track_caller]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.cli(&["--scan"]).lines().map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

/// For `[redis] url`, of one that is to be started in a folder.
pub fn url_in(folder: &TempDir) -> String {
    format!("redis+unix://{}", socket_in(folder.path()).display())
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}
