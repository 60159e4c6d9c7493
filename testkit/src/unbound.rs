//! Unbound, a caching forwarder: the server that ringdns is compared with.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Host, Process};

const START: Duration = Duration::from_secs(30);

/// `unbound` in the foreground with one thread. It forwards everything to one upstream, and
/// validates only if requested.
pub struct Unbound {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Unbound {
    #[track_caller]
    pub fn forward(host: &Host, address: SocketAddr, upstream: SocketAddr) -> Self {
        Self::start(host, address, |folder| {
            let interface = format!("  interface: {}@{}\n", address.ip(), address.port());
            Ok(configuration(&folder.display().to_string(), &interface)
                + &format!(
                    "forward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
                    upstream.ip(),
                    upstream.port()
                ))
        })
    }

    /// Starts one that validates with the trust anchors in a file. It treats NSEC3 with more than
    /// 50 iterations as insecure.
    #[track_caller]
    pub fn validating(host: &Host, address: SocketAddr, upstream: SocketAddr, anchors: &Path) -> Self {
        Self::start(host, address, |folder| {
            let interface = format!("  interface: {}@{}\n", address.ip(), address.port());
            let more = format!(
                "  trust-anchor-file: \"{}\"\n  val-nsec3-keysize-iterations: \"1024 50 2048 50 4096 50\"\n  \
                 ede: yes\nforward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
                anchors.display(),
                upstream.ip(),
                upstream.port()
            );
            let text = configuration(&folder.display().to_string(), &interface);
            let text = text.replace("\"iterator\"", "\"validator iterator\"");
            Ok(format!("{text}server:\n{more}"))
        })
    }

    /// Starts `unbound` with TLS at `tls` and HTTPS at `https`, under the name in the certificate.
    /// It knows `www.example`, 192.0.2.1, and everything below `wild.example`, 192.0.2.9.
    #[track_caller]
    pub fn encrypted(host: &Host, tls: SocketAddr, https: SocketAddr, certificate: &str, key: &str) -> Self {
        Self::start(host, tls, |folder| {
            std::fs::write(folder.join("certificate.pem"), certificate)?;
            std::fs::write(folder.join("key.pem"), key)?;
            let interfaces = format!(
                "  interface: {}@{}\n  tls-port: {}\n  interface: {}@{}\n  https-port: {}\n",
                tls.ip(),
                tls.port(),
                tls.port(),
                https.ip(),
                https.port(),
                https.port(),
            );
            let folder = folder.display();
            Ok(configuration(&folder.to_string(), &interfaces)
                + &format!(
                    "server:
  tls-service-pem: \"{folder}/certificate.pem\"
  tls-service-key: \"{folder}/key.pem\"
  local-zone: \"example.\" static
  local-data: \"www.example. 300 A 192.0.2.1\"
  local-zone: \"wild.example.\" redirect
  local-data: \"wild.example. 300 A 192.0.2.9\"
"
                ))
        })
    }

    #[track_caller]
    fn start(host: &Host, address: SocketAddr, write: impl FnOnce(&Path) -> io::Result<String>) -> Self {
        let written = || {
            let folder = tempfile::Builder::new().prefix("ringdns-unbound-").tempdir()?;
            let text = write(folder.path())?;
            std::fs::write(folder.path().join("unbound.conf"), text)?;
            io::Result::Ok(folder)
        };
        let folder = match written() {
            Ok(folder) => folder,
            Err(error) => panic!("a folder for unbound: {error}"),
        };
        let file = folder.path().join("unbound.conf");
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

fn configuration(folder: &str, interfaces: &str) -> String {
    format!(
        "server:
  num-threads: 1
{interfaces}  access-control: 0.0.0.0/0 allow
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
"
    )
}
