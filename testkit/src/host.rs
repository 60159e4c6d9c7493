//! A host on which commands run: a network namespace, or the real host.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Process, until};

#[derive(Clone, Debug)]
pub struct Host {
    namespace: Option<String>,
}

impl Host {
    /// Returns the real host, without a namespace: for tests that loopback suffices for, and
    /// without root.
    pub fn local() -> Self {
        Self { namespace: None }
    }

    /// Returns the host that a network namespace is.
    pub fn namespace(name: String) -> Self {
        Self { namespace: Some(name) }
    }

    /// Returns a command that runs on this host. Its process is the program itself, so signals
    /// reach the program.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and returns its standard output. Panics unless it succeeds.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> String {
        let mut command = self.command(program);
        command.args(arguments);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => panic!("{program}: {error}; deploy/setup.sh installs what tests need"),
        };
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// Starts a long-running program.
    #[track_caller]
    pub fn spawn<A: AsRef<OsStr>>(&self, program: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        let mut command = self.command(program);
        command.args(arguments);
        Process::spawn(program, command)
    }

    /// Gives `device`, which is up, an address. Returns once packets to it are delivered.
    ///
    /// The kernel adds the local route of an IPv6 address from a work queue, later than the address
    /// itself. On a busy host, that takes tens of milliseconds, in which a socket can be bound but
    /// packets to it are dropped.
    #[track_caller]
    pub fn give_address(&self, device: &str, address: impl Into<IpAddr>) {
        match address.into() {
            IpAddr::V4(address) => {
                self.run("ip", ["address", "replace", &format!("{address}/24"), "dev", device]);
            }
            IpAddr::V6(address) => {
                let prefix = format!("{address}/64");
                self.run("ip", ["address", "replace", &prefix, "dev", device, "nodad"]);
                let route = format!("{:032x} 80", u128::from(address));
                self.enter(|| {
                    until(&format!("{address} on {device} has its local route"), || {
                        let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").ok()?;
                        routes.lines().any(|line| line.starts_with(&route)).then_some(())
                    });
                });
            }
        }
    }

    /// Leaves the host 64 ports for sockets without a port of their own, and takes every other pair
    /// of them for UDP: TCP gets numbers that UDP cannot have. For hosts of a lab.
    #[track_caller]
    pub fn take_half_of_udp(&self) -> Vec<UdpSocket> {
        const FIRST: u16 = 40_000;
        const PORTS: u16 = 64;
        // The kernel prefers ports of one parity, so pairs are taken.
        let taken = (FIRST..FIRST + PORTS).filter(|port| port % 4 < 2);
        let take = || -> io::Result<Vec<UdpSocket>> {
            let range = format!("{FIRST} {}", FIRST + PORTS - 1);
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)?;
            taken.map(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port))).collect()
        };
        match self.enter(take) {
            Ok(sockets) => sockets,
            Err(error) => panic!("ports of {:?}: {error}", self.namespace),
        }
    }

    /// Runs `work` on a thread inside the host's namespace: the sockets that it opens belong to the
    /// host, and continue to.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Some(name) = &self.namespace else { return work() };
        let path = Path::new("/run/netns").join(name);
        let outcome = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = match File::open(&path) {
                    Ok(namespace) => namespace,
                    Err(error) => panic!("{}: {error}", path.display()),
                };
                if let Err(error) =
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                {
                    panic!("entering {}: {error}", path.display());
                }
                work()
            });
            inside.join()
        });
        // The thread's own message is in the output; its payload is passed on as this thread's.
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
