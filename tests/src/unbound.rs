//! Unbound, a caching forwarder: the peer that ringdns is compared with.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Host, Process};

const START: Duration = Duration::from_secs(30);

/// `unbound` in the foreground with one thread, forwarding everything to one upstream, without validation.
pub struct Unbound {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Unbound {
    #[track_caller]
    pub fn forward(host: &Host, address: SocketAddr, upstream: SocketAddr) -> Self {
        let folder = match tempfile::Builder::new().prefix("ringdns-unbound-").tempdir() {
            Ok(folder) => folder,
            Err(error) => panic!("a folder for unbound: {error}"),
        };
        let file = folder.path().join("unbound.conf");
        if let Err(error) = std::fs::write(&file, configuration(folder.path(), address, upstream)) {
            panic!("{}: {error}", file.display());
        }
        let process = host.spawn("unbound", [Path::new("-d"), Path::new("-c"), &file]);
        process.wait_for_line("start of service", START);
        Self { process, address, _folder: folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configuration(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "server:
  num-threads: 1
  interface: {listen}@{port}
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  chroot: \"\"
  directory: \"{folder}\"
  username: \"\"
  pidfile: \"\"
  use-syslog: no
  logfile: \"\"
  verbosity: 1
  module-config: \"iterator\"
  do-not-query-localhost: no
  msg-cache-size: 64m
  rrset-cache-size: 128m
remote-control:
  control-enable: no
forward-zone:
  name: \".\"
  forward-addr: {upstream_ip}@{upstream_port}
",
        listen = address.ip(),
        port = address.port(),
        upstream_ip = upstream.ip(),
        upstream_port = upstream.port(),
    )
}
