//! Knot DNS as the primary of a policy zone.

use ringdns_testkit::{Host, Process, free_address};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Beginning of a policy zone.
pub const APEX: &str =
    "$ORIGIN rpz.example.\n@ 300 SOA ns.example. hostmaster.example. 1 3600 600 86400 60\n@ NS ns.example.\n";

/// Knot DNS as the primary of a policy zone, with a key.
pub struct Primary {
    folder: tempfile::TempDir,
    address: SocketAddr,
    host: Host,
    process: Process,
}

impl Primary {
    /// Starts the primary with the version 1 of the zone `rpz.example`.
    pub fn start(host: Host, rules: &str) -> Self {
        Self::notifying(host, rules, None)
    }

    /// Starts the primary, which tells one server of changes.
    pub fn notifying(host: Host, rules: &str, server: Option<SocketAddr>) -> Self {
        let address = free_address(&host);
        Self::with(host, address, rules, server, "key: transfer.example")
    }

    /// Starts the primary at an address.
    pub fn at(host: Host, address: SocketAddr, rules: &str) -> Self {
        Self::with(host, address, rules, None, "key: transfer.example")
    }

    /// Starts the primary, which needs no key.
    pub fn open(host: Host, rules: &str) -> Self {
        let address = free_address(&host);
        Self::with(host, address, rules, None, "address: 127.0.0.0/8")
    }

    fn with(host: Host, address: SocketAddr, rules: &str, server: Option<SocketAddr>, may: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let (remote, notify) = match server {
            Some(server) => {
                let (ip, port) = (server.ip(), server.port());
                let remote =
                    format!("remote:\n- id: ringdns\n  address: {ip}@{port}\n  key: transfer.example\n");
                (remote, "  notify: ringdns\n")
            }
            None => (String::new(), ""),
        };
        let configuration = format!(
            "server:\n  rundir: {path}\n  listen: {}@{}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
             log:\n- target: stdout\n  any: info\n\
             database:\n  storage: {path}\n\
             key:\n- id: transfer.example\n  algorithm: hmac-sha256\n  secret: {SECRET}\n\
             {remote}acl:\n- id: transfers\n  {may}\n  action: transfer\n\
             template:\n- id: default\n  storage: {path}\n  semantic-checks: off\n  journal-content: changes\n\
             \x20 zonefile-load: difference\n  zonefile-sync: -1\n\
             zone:\n- domain: rpz.example\n  file: rpz.zone\n  acl: transfers\n{notify}",
            address.ip(),
            address.port(),
        );
        fs::write(folder.path().join("knot.conf"), configuration).unwrap();
        fs::write(folder.path().join("rpz.zone"), zone_text(1, rules)).unwrap();
        fs::write(folder.path().join("key"), SECRET).unwrap();
        let process = host.spawn("knotd", [Path::new("--config"), &folder.path().join("knot.conf")]);
        process.wait_for_line("server started", Duration::from_secs(60));
        Primary { folder, address, host, process }
    }

    /// Serves another version of the zone.
    pub fn change(&self, serial: u32, rules: &str) {
        fs::write(self.folder.path().join("rpz.zone"), zone_text(serial, rules)).unwrap();
        let socket = self.folder.path().join("knot.sock");
        self.host.run("knotc", ["-b", "-s", socket.to_str().unwrap(), "zone-reload", "rpz.example"]);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the folder with the copies of `Primary::table`.
    pub fn lists(&self) -> PathBuf {
        self.folder.path().join("lists")
    }

    /// Returns the file with the secret.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Returns the tables of a configuration that transfers the zone.
    pub fn table(&self) -> String {
        let (address, key) = (self.address, self.key());
        let lists = self.lists();
        format!(
            "[[blocklist]]\nname = \"feed\"\nsource = \"axfr://{address}/rpz.example\"\nformat = \"rpz\"\n\
             tsig_name = \"transfer.example\"\ntsig_file = {key:?}\n\n[lists]\ndir = {lists:?}\n"
        )
    }

    /// Returns the tables of a configuration that transfers the zone without a key.
    pub fn table_without_key(&self) -> String {
        let table = self.table();
        table.lines().filter(|line| !line.starts_with("tsig_")).map(|line| format!("{line}\n")).collect()
    }
}

/// Secret of the key in Base64.
pub const SECRET: &str = "YSBzZWNyZXQgb2YgYSB0cmFuc2ZlciwgMzIgYnl0ZXM=";

fn zone_text(serial: u32, rules: &str) -> String {
    APEX.replace(". 1 3600", &format!(". {serial} 3600")) + rules
}
