//! Knot DNS, an authoritative server: the honest upstream.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Host, Process, Zone, free_address};

/// Time that a start may take. Loading a root of 100,000 names takes two seconds on an idle core.
const START: Duration = Duration::from_secs(60);

/// `knotd` in the foreground, with its own configuration, folder and address. It serves from its
/// creation on.
pub struct Knot {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Knot {
    #[track_caller]
    pub fn serve(host: &Host, address: SocketAddr, zones: &[Zone]) -> Self {
        let folder = match write_folder(address, zones) {
            Ok(folder) => folder,
            Err(error) => panic!("a folder for knotd: {error}"),
        };
        let process = host.spawn("knotd", [Path::new("--config"), &folder.path().join("knot.conf")]);
        process.wait_for_line("server started", START);
        Self { process, address, _folder: folder }
    }

    /// Serves `zones` at a free address on the host's loopback.
    #[track_caller]
    pub fn upstream(host: &Host, zones: &[Zone]) -> Self {
        Self::serve(host, free_address(host), zones)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn write_folder(address: SocketAddr, zones: &[Zone]) -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("ringdns-knot-").tempdir()?;
    let path = folder.path().display();
    // `zone` is the last section, so that zones can be appended.
    let mut configuration = format!(
        "server:\n  rundir: {path}\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n- target: stdout\n  any: info\n\
         database:\n  storage: {path}\n\
         template:\n- id: default\n  storage: {path}\n  semantic-checks: off\n  journal-content: none\n\
         \x20 zonefile-load: whole\n  zonefile-sync: -1\n\
         zone:\n",
        address.ip(),
        address.port(),
    );
    for (number, zone) in zones.iter().enumerate() {
        configuration += &format!("- domain: {}\n  file: {number}.zone\n", zone.origin());
        std::fs::write(folder.path().join(format!("{number}.zone")), zone.text())?;
    }
    std::fs::write(folder.path().join("knot.conf"), configuration)?;
    Ok(folder)
}
