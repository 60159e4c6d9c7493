//! Who is compared, and how each is started.

use super::SERVER_CORE;
use crate::lab::{Lab, SERVER, SERVER_INTERFACE, Server, Side};
use anyhow::{Context, Result, ensure};
use std::{
    fmt, fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Where the upstream of all caches serves, on the server's loopback.
pub const UPSTREAM: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5301));

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Contestant {
    /// The constant answer over AF_XDP: `ringbench responder`.
    Responder,
    /// ringdnsd over AF_XDP.
    RingdnsXdp,
    /// ringdnsd over kernel sockets.
    RingdnsKernel,
    /// Unbound with one thread.
    Unbound,
}

/// The programs to run.
#[derive(Debug)]
pub struct Programs {
    /// This one.
    pub ringbench: PathBuf,
    ringdnsd: PathBuf,
    /// For configurations; removed at the end.
    folder: TempDir,
}

impl Programs {
    /// Finds `ringdnsd` beside this program, unless it is said where it is.
    pub fn find(ringdnsd: Option<PathBuf>) -> Result<Self> {
        let ringbench = std::env::current_exe().context("cannot find this program's own file")?;
        let ringdnsd = ringdnsd.unwrap_or_else(|| ringbench.with_file_name("ringdnsd"));
        ensure!(
            ringdnsd.exists(),
            "there is no {}: build it with the same profile (cargo build --package ringdns-control), or say where it is \
             (--ringdnsd)",
            ringdnsd.display()
        );
        let folder = tempfile::Builder::new().prefix("ringbench-").tempdir();
        Ok(Programs { ringbench, ringdnsd, folder: folder.context("cannot make a temporary folder")? })
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        let written = fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Contestant {
    /// All, in the order of the table.
    pub const ALL: [Contestant; 4] =
        [Contestant::Responder, Contestant::RingdnsXdp, Contestant::RingdnsKernel, Contestant::Unbound];

    /// Whether there is a cache to warm.
    pub fn has_cache(self) -> bool {
        self != Contestant::Responder
    }

    /// Starts it in the lab, on its core.
    pub fn start(self, lab: &Lab, programs: &Programs, nice: i8) -> Result<Server> {
        let mut command = lab.command(Side::Server, SERVER_CORE, "nice");
        command.args(["-n", &nice.to_string()]);
        self.arguments(&mut command, programs)?;
        Server::start(&self.to_string(), command)
    }

    fn arguments(self, command: &mut Command, programs: &Programs) -> Result<()> {
        match self {
            Contestant::Responder => {
                let listen = SERVER.to_string();
                command.arg(&programs.ringbench);
                command.args(["responder", "--interface", SERVER_INTERFACE, "--listen", &listen]);
            }
            Contestant::RingdnsXdp => {
                let config =
                    programs.write("xdp.toml", &ringdns(Some(SERVER_INTERFACE), programs.folder.path()))?;
                command.arg(&programs.ringdnsd).arg("--config").arg(config);
            }
            Contestant::RingdnsKernel => {
                let config = programs.write("kernel.toml", &ringdns(None, programs.folder.path()))?;
                command.arg(&programs.ringdnsd).arg("--config").arg(config);
            }
            Contestant::Unbound => {
                let config = programs.write("unbound.conf", &unbound(programs.folder.path()))?;
                command.args(["unbound", "-d", "-c"]).arg(config);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Contestant::Responder => "bare AF_XDP responder",
            Contestant::RingdnsXdp => "ringdnsd, AF_XDP",
            Contestant::RingdnsKernel => "ringdnsd, kernel sockets",
            Contestant::Unbound => "Unbound, one thread",
        })
    }
}

fn ringdns(interface: Option<&str>, folder: &Path) -> String {
    let interface =
        interface.map_or_else(String::new, |name| format!("interface = \"{name}\"\nfallback = false\n"));
    let socket = folder.join("control.sock");
    format!(
        "[server]\nlisten = [\"{SERVER}\"]\n{interface}\n\
         [[upstream]]\naddress = \"{UPSTREAM}\"\n\n\
         [control]\nsocket = \"{}\"\n",
        socket.display()
    )
}

/// One thread, everything that is asked for fits its caches, and no work that the others do not do: no validation, no
/// module but the iterator, no log, and no records in the answer that were not asked for.
fn unbound(folder: &Path) -> String {
    let Some((address, port)) = SERVER.is_ipv4().then(|| (SERVER.ip(), SERVER.port())) else {
        return String::new();
    };
    let (upstream, upstream_port) = (UPSTREAM.ip(), UPSTREAM.port());
    format!(
        "server:
  num-threads: 1
  interface: {address}@{port}
  access-control: 0.0.0.0/0 allow
  chroot: \"\"
  username: \"\"
  directory: \"{}\"
  pidfile: \"\"
  use-syslog: no
  verbosity: 0
  module-config: \"iterator\"
  do-not-query-localhost: no
  minimal-responses: yes
  msg-cache-size: 128m
  rrset-cache-size: 256m
  so-rcvbuf: 4m
remote-control:
  control-enable: no
forward-zone:
  name: \".\"
  forward-addr: {upstream}@{upstream_port}
",
        folder.display()
    )
}
