//! ringdnsd and its tools, as they are shipped: built once, started with their own configuration.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Host, Process, SERVER_V4, SERVER_V6, sources::source};

/// Time to wait, longer than anything takes on a busy host.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings that are written into the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Vec<String>,
    /// Interface for AF_XDP; `None`: kernel sockets.
    pub interface: Option<String>,
    pub upstreams: Vec<SocketAddr>,
    /// More lines of `[server]`.
    pub server: String,
    /// More tables of the configuration.
    pub tables: String,
    /// More lines of `[control]`.
    pub control: String,
}

impl Settings {
    /// Returns settings for the server of a lab, with AF_XDP in native mode and no fallback.
    pub fn xdp(upstream: SocketAddr) -> Self {
        Self {
            interface: Some("vs".to_owned()),
            server: "mode = \"copy\"\nfallback = false".to_owned(),
            ..Self::sockets(upstream)
        }
    }

    /// Returns settings for the server of a lab, with kernel sockets.
    pub fn sockets(upstream: SocketAddr) -> Self {
        Self {
            listen: vec![format!("{SERVER_V4}:53"), format!("[{SERVER_V6}]:53")],
            interface: None,
            upstreams: vec![upstream],
            server: String::new(),
            // Little memory, so that a test does not spend time on allocating it.
            tables: "[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"16MiB\"".to_owned(),
            control: String::new(),
        }
    }

    /// Returns settings for one worker that listens at one address, with kernel sockets.
    pub fn loopback(listen: SocketAddr, upstream: SocketAddr) -> Self {
        Self { listen: vec![listen.to_string()], server: "workers = 1".to_owned(), ..Self::sockets(upstream) }
    }

    /// Returns the configuration, with this control socket.
    pub fn text(&self, socket: &Path) -> String {
        let interface = self.interface.as_ref().map(|name| format!("interface = {name:?}\n"));
        let upstream = |address: &SocketAddr| format!("[[upstream]]\naddress = \"{address}\"\n");
        format!(
            "[server]\nlisten = {:?}\n{}{}\n{}{}\n[control]\nsocket = {socket:?}\n{}\n",
            self.listen,
            interface.unwrap_or_default(),
            self.server,
            self.upstreams.iter().map(upstream).collect::<String>(),
            self.tables,
            self.control,
        )
    }
}

/// A running ringdnsd. It serves from its creation on, and ends by SIGTERM on drop.
pub struct Ringdnsd {
    process: Process,
    folder: TempDir,
}

impl Ringdnsd {
    #[track_caller]
    pub fn start(host: &Host, settings: &Settings) -> Self {
        Self::start_behind(host, settings, &[])
    }

    /// Starts one behind `wrapper`: a command that takes privileges away and runs the command after
    /// it.
    #[track_caller]
    pub fn start_behind(host: &Host, settings: &Settings, wrapper: &[&str]) -> Self {
        Self::begin(prepared(host, |socket| settings.text(socket), wrapper))
    }

    /// Starts one with the text that `configuration` returns for the path of the control socket.
    #[track_caller]
    pub fn start_from(host: &Host, configuration: impl Fn(&Path) -> String) -> Self {
        Self::begin(prepared(host, configuration, &[]))
    }

    #[track_caller]
    fn begin((folder, command): (TempDir, Command)) -> Self {
        let process = Process::spawn("ringdnsd", command);
        process.wait_for_line(" ready ", PATIENCE);
        Self { process, folder }
    }

    /// Waits until its clock reaches the next whole second. Returns that moment, at most slightly
    /// late.
    #[track_caller]
    pub fn next_second(&self) -> Instant {
        let uptime = || match self.uptime() {
            Ok(seconds) => seconds,
            Err(error) => panic!("{}: {error}", self.socket().display()),
        };
        let first = uptime();
        while uptime() == first {
            std::thread::sleep(Duration::from_millis(2));
        }
        Instant::now()
    }

    fn uptime(&self) -> io::Result<u64> {
        let (_, body) = self.get("/v1/status")?;
        let status: Option<Value> = serde_json::from_str(&body).ok();
        let seconds = status.and_then(|status| status.get("uptime_secs")?.as_u64());
        seconds.ok_or_else(|| io::Error::other(body))
    }

    /// Returns whether `/readyz` reports that queries of clients are answered, and its text.
    #[track_caller]
    pub fn readyz(&self) -> (bool, String) {
        match self.get("/readyz") {
            Ok((200, body)) => (true, body),
            Ok((503, body)) => {
                let reason = serde_json::from_str(&body).ok().map(|body: Value| body["error"].clone());
                (false, reason.as_ref().and_then(Value::as_str).unwrap_or(&body).to_owned())
            }
            other => panic!("/readyz: {other:?}"),
        }
    }

    /// Returns status code and body of a route of the API. Needs no process of its own, which would
    /// take time.
    pub fn get(&self, route: &str) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {route} HTTP/1.1\r\nHost: ringdnsd\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let parts = response.split_once("\r\n\r\n").and_then(|(head, body)| {
            let code = head.split(' ').nth(1)?.parse().ok()?;
            Some((code, body.to_owned()))
        });
        parts.ok_or_else(|| io::Error::other(response))
    }

    /// Runs `ringdnsd --check`. Returns its exit status and its output.
    #[track_caller]
    pub fn check(host: &Host, settings: &Settings, wrapper: &[&str]) -> (i32, String) {
        let (_folder, mut command) = prepared(host, |socket| settings.text(socket), wrapper);
        command.arg("--check");
        let mut process = Process::spawn("ringdnsd", command);
        let status = process.wait_for_exit(PATIENCE);
        (status.code().unwrap_or(-1), process.output())
    }

    /// Starts one that is expected to exit by itself, behind a wrapper. Returns its exit status and
    /// its output.
    #[track_caller]
    pub fn refused(host: &Host, settings: &Settings, wrapper: &[&str]) -> (i32, String) {
        let (_folder, command) = prepared(host, |socket| settings.text(socket), wrapper);
        let mut process = Process::spawn("ringdnsd", command);
        let status = process.wait_for_exit(PATIENCE);
        (status.code().unwrap_or(-1), process.output())
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the path of the control socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    /// Returns a ringctl command, ready for its arguments.
    #[track_caller]
    pub fn ctl_command(&self) -> Command {
        let mut command = Command::new(program("ringctl"));
        command.arg("--socket").arg(self.socket());
        command
    }

    /// Runs ringctl.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.ctl_command();
        command.args(arguments);
        match command.output() {
            Ok(output) => output,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// Returns the output of ringctl. Panics unless it succeeds.
    #[track_caller]
    pub fn told(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "ringctl {arguments:?}: {}", said(&output.stderr));
        said(&output.stdout)
    }

    /// Returns all counters.
    #[track_caller]
    pub fn stats(&self) -> Value {
        let told = self.told(&["--json", "stats"]);
        match serde_json::from_str(&told) {
            Ok(stats) => stats,
            Err(error) => panic!("ringctl --json stats: {error}: {told}"),
        }
    }

    /// Returns one counter, by its JSON pointer.
    #[track_caller]
    pub fn stat(&self, pointer: &str) -> u64 {
        let stats = self.stats();
        match stats.pointer(pointer).and_then(Value::as_u64) {
            Some(count) => count,
            None => panic!("no counter {pointer} in {stats:#}"),
        }
    }

    /// Returns all counters, once every packet has its outcome and no punt waits for an answer.
    #[track_caller]
    pub fn settled(&self) -> Value {
        until("all packets are accounted for and no punt waits", || {
            let stats = self.stats();
            let zero = |name| stats["total"][name] == 0;
            (zero("unaccounted") && zero("punts_waiting")).then_some(stats)
        })
    }

    /// Writes a new configuration. It applies from the next reload or start on.
    #[track_caller]
    pub fn configure(&self, configuration: impl Fn(&Path) -> String) {
        let text = configuration(&self.socket());
        if let Err(error) = std::fs::write(self.folder.path().join("ringdns.toml"), text) {
            panic!("writing its configuration: {error}");
        }
    }

    /// Kills ringdnsd, as a crash would, and waits until it is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait_for_exit(PATIENCE);
    }

    /// Asks ringdnsd to stop, and waits until it has.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait_for_exit(PATIENCE)
    }
}

/// Creates a folder with a configuration. Returns it with the command that starts ringdnsd with
/// that.
#[track_caller]
fn prepared(host: &Host, configuration: impl Fn(&Path) -> String, wrapper: &[&str]) -> (TempDir, Command) {
    let written = || {
        let folder = tempfile::Builder::new().prefix("ringdns-ringdnsd-").tempdir()?;
        let socket = socket_in(folder.path());
        std::fs::write(folder.path().join("ringdns.toml"), configuration(&socket))?;
        std::io::Result::Ok(folder)
    };
    let folder = match written() {
        Ok(folder) => folder,
        Err(error) => panic!("a folder for ringdnsd: {error}"),
    };
    let words = wrapper.iter().map(PathBuf::from).chain([program("ringdnsd")]).collect::<Vec<_>>();
    let mut command = host.command(&words[0]);
    // The tests wait for lines of its log.
    command.env_remove("RUST_LOG");
    command.args(&words[1..]).arg("--config").arg(folder.path().join("ringdns.toml"));
    (folder, command)
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Returns a `ringbench` command on `host`, ready for its arguments.
#[track_caller]
pub fn ringbench(host: &Host) -> Command {
    host.command(program("ringbench"))
}

/// Returns a wrapper that denies a system call to the command after it; `arguments` are those of
/// `src/bin/deny.rs`.
#[track_caller]
pub fn deny(arguments: &[&str]) -> Vec<String> {
    let tool = program("deny").display().to_string();
    std::iter::once(tool).chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
}

/// Returns a wrapper that starts the wall clock of the command after it at a Unix time.
#[track_caller]
pub fn from_time(unix: u64) -> Vec<String> {
    // `@`: the clock goes on from there.
    with_clock(&[format!("FAKETIME=@{unix}"), "FAKETIME_FMT=%s".to_owned(), "TZ=UTC".to_owned()])
}

/// Returns a wrapper with which the wall clock of the command after it is off by the seconds in a
/// file, such as `+3600`. The file is read once a second.
#[track_caller]
pub fn from_clock_file(file: &Path) -> Vec<String> {
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
    with_clock(&[file, "FAKETIME_CACHE_DURATION=1".to_owned()])
}

/// Returns a wrapper for a wall clock that libfaketime gives. Monotonic clocks, and so timers, are
/// those of the host: Rust's `SystemTime` asks the C library, which libfaketime stands before, but
/// ringdnsd asks the kernel for the time since boot.
#[track_caller]
fn with_clock(variables: &[String]) -> Vec<String> {
    // The dynamic linker replaces `$LIB` by the folder of libraries of this processor.
    const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    assert!(libraries.any(|library| library.exists()), "no {LIBRARY}; deploy/setup.sh installs libfaketime");
    let always = [
        format!("LD_PRELOAD={LIBRARY}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        // Times of files stay as they are.
        "NO_FAKE_STAT=1".to_owned(),
    ];
    std::iter::once("env".to_owned()).chain(always).chain(variables.iter().cloned()).collect()
}

/// Calls `look` until it returns something. Panics if it returns nothing for long.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// Calls `look` until it returns something. Panics if it returns nothing for `patience`.
#[track_caller]
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} until {what}");
        std::thread::yield_now();
    }
}

/// Returns the path of a program of the workspace, built in the profile of the running test.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(folder) => folder.join(name),
        Err(error) => panic!("building {name}: {error}"),
    }
}

/// Builds the programs beside the running test, and returns their folder.
fn build() -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    // TARGET/PROFILE/deps/TEST
    let mut above = test.ancestors().skip(2);
    let (Some(folder), Some(target)) = (above.next(), above.next()) else {
        return Err(format!("{} is in no target folder", test.display()));
    };
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => return Err(format!("{} is no profile's folder", folder.display())),
    };
    let manifest = source("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The whole workspace, as deploy/test.sh builds it: with other features, the same crates would be built once more.
    command.args(["build", "--locked", "--quiet", "--workspace", "--bins", "--profile"]);
    command.arg(profile).arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target);
    // Cargo tells a test which package it belongs to. Build scripts that look at these variables would
    // run again, and everything that depends on them would be built again.
    for (name, _) in std::env::vars_os() {
        let of_package = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_CRATE_", "CARGO_BIN_", "CARGO_PRIMARY_"];
        if of_package.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            command.env_remove(name);
        }
    }
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(folder.to_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
