//! Paths that a configuration names, for the sandbox.

use crate::{Config, DnstapTarget, ListSource, UpstreamConfig, settings};
use std::path::{Path, PathBuf};

/// Use that ringdnsd makes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathUse {
    /// Reads a file, or connects to a socket, which others may replace.
    File,
    /// Writes a file, or makes a socket, in the path's folder.
    WrittenFile,
    /// Reads and writes files in a folder.
    WrittenFolder,
}

/// Path that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPath {
    /// Key that names it.
    pub key: String,
    /// The path.
    pub path: PathBuf,
    /// Use of it.
    pub used: PathUse,
}

impl NamedPath {
    /// Whether a reload takes over another value of the key.
    pub fn is_taken_over(&self) -> bool {
        let table = self.key.split(['.', '[']).next().unwrap_or_default();
        settings::restart_reason(table).is_none() || self.key == "control.tokens_file"
    }
}

/// Collected paths.
#[derive(Default)]
struct Paths(Vec<NamedPath>);

impl Paths {
    fn add(&mut self, key: impl Into<String>, path: &Path, used: PathUse) {
        self.0.push(NamedPath { key: key.into(), path: path.to_owned(), used });
    }

    fn read(&mut self, key: impl Into<String>, path: Option<&PathBuf>) {
        if let Some(path) = path {
            self.add(key, path, PathUse::File);
        }
    }

    fn source(&mut self, table: &str, i: usize, source: &ListSource) {
        match source {
            ListSource::File(path) => self.add(format!("{table}[{i}].source"), path, PathUse::File),
            ListSource::Zone(zone) => {
                self.read(format!("{table}[{i}].tsig_file"), zone.tsig.as_ref().map(|key| &key.file));
            }
            ListSource::Url { .. } => {}
        }
    }
}

impl Config {
    /// Returns the paths of files, folders and sockets that ringdnsd uses because a key names them, or by
    /// a key's default.
    pub fn paths(&self) -> Vec<NamedPath> {
        let mut paths = Paths::default();
        paths.add("control.socket", &self.control.socket, PathUse::WrittenFile);
        paths.read("control.tokens_file", self.control.tokens_file.as_ref());
        if let Some(path) = &self.control.audit_log {
            paths.add("control.audit_log", path, PathUse::WrittenFile);
        }
        if let Some(DnstapTarget::Unix(path)) = self.dnstap.as_ref().map(|dnstap| &dnstap.target) {
            paths.add("dnstap.socket", path, PathUse::File);
        }
        self.paths_of_names(&mut paths);
        self.paths_of_resolution(&mut paths);
        self.paths_of_rows(&mut paths);
        paths.0
    }

    /// Adds the paths of lists and local data.
    fn paths_of_names(&self, paths: &mut Paths) {
        let lists = &self.lists;
        for (i, list) in lists.block.iter().enumerate() {
            paths.source("blocklist", i, &list.source);
        }
        for (i, list) in lists.allow.iter().enumerate() {
            if let Some(source) = &list.source {
                paths.source("allowlist", i, source);
            }
        }
        paths.add("lists.dir", &lists.fetch.dir, PathUse::WrittenFolder);
        paths.add("lists.overrides_file", &lists.fetch.overrides_file, PathUse::WrittenFile);
        paths.read("lists.tls_ca_file", lists.fetch.tls_ca_file.as_ref());
        for (i, path) in self.local.hosts_files.iter().enumerate() {
            paths.add(format!("local.hosts_files[{i}]"), path, PathUse::File);
        }
        for (i, zone) in self.local.zones.iter().enumerate() {
            paths.read(format!("local_zone[{i}].file"), zone.file.as_ref());
        }
        for (i, path) in self.client_names.lease_files.iter().enumerate() {
            paths.add(format!("client_names.lease_files[{i}]"), path, PathUse::File);
        }
    }

    /// Adds the paths of upstreams, validation and caches.
    fn paths_of_resolution(&self, paths: &mut Paths) {
        for (i, upstream) in self.upstreams.iter().enumerate() {
            let UpstreamConfig { transport, .. } = upstream;
            let ca_file = transport.tls().and_then(|tls| tls.ca_file.as_ref());
            paths.read(format!("upstream[{i}].tls_ca_file"), ca_file);
        }
        paths.read("cookies.secret_file", self.cookies.secret_file.as_ref());
        paths.read("dnssec.trust_anchor_file", self.dnssec.trust_anchor_file.as_ref());
        if let Some(path) = &self.dnssec.managed_anchor_file {
            paths.add("dnssec.managed_anchor_file", path, PathUse::WrittenFile);
        }
        if let Some(snapshot) = &self.snapshot {
            paths.add("cache.snapshot_file", &snapshot.file, PathUse::WrittenFile);
        }
        if let Some(redis) = &self.redis {
            let files = &redis.server.files;
            paths.read("redis.password_file", files.password.as_ref());
            paths.read("redis.tls_ca_file", files.ca.as_ref());
            if let Some([certificate, key]) = &files.identity {
                paths.add("redis.tls_cert_file", certificate, PathUse::File);
                paths.add("redis.tls_key_file", key, PathUse::File);
            }
        }
    }

    /// Adds the paths of the query log.
    fn paths_of_rows(&self, paths: &mut Paths) {
        paths.read("query_log.key_file", self.query_log.key_file.as_ref());
        if let Some(shipping) = &self.shipping {
            paths.add("query_log.spool_dir", &shipping.spool_dir, PathUse::WrittenFolder);
            if let Some(server) = &shipping.clickhouse {
                paths.read("clickhouse.password_file", server.password_file.as_ref());
                paths.read("clickhouse.tls_ca_file", server.tls_ca_file.as_ref());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{tables::RawConfig, testing::parse};
    use std::{collections::BTreeSet, fs};

    const PATHS: &str = r#"
        [server]
        listen = ["127.0.0.1:5300"]
        [[upstream]]
        address = "tls://127.0.0.1:5301#resolver.example"
        tls_ca_file = "/p/0"
        [local]
        hosts_files = ["/p/1"]
        [[local_zone]]
        name = "home.arpa"
        file = "/p/2"
        [[blocklist]]
        name = "ads"
        source = "/p/3"
        [[blocklist]]
        name = "feed"
        format = "rpz"
        source = "axfr://192.0.2.1/rpz.example"
        tsig_name = "key.example"
        tsig_file = "/p/4"
        [[allowlist]]
        name = "ours"
        source = "/p/5"
        [lists]
        dir = "/p/6"
        overrides_file = "/p/7"
        tls_ca_file = "/p/8"
        [client_names]
        lease_files = ["/p/9"]
        [cookies]
        secret_file = "/p/10"
        [dnssec]
        validate = true
        trust_anchor_file = "/p/11"
        managed_anchor_file = "/p/12"
        [cache]
        snapshot_file = "/p/13"
        [query_log]
        enabled = true
        spool_dir = "/p/14"
        [clickhouse]
        url = "https://127.0.0.1:8443"
        password_file = "/p/15"
        tls_ca_file = "/p/16"
        [control]
        socket = "/p/17"
        audit_log = "/p/18"
        [dnstap]
        socket = "/p/19"
    "#;

    /// Tables that exclude some of the above. Their files have to exist: `parse` reads those of Redis.
    const OTHERS: &str = r#"
        [server]
        listen = ["127.0.0.1:5300"]
        [[upstream]]
        address = "127.0.0.1:5301"
        [redis]
        url = "rediss://127.0.0.1:6379"
        password_file = "FOLDER/password"
        tls_ca_file = "FOLDER/ca.pem"
        tls_cert_file = "FOLDER/cert.pem"
        tls_key_file = "FOLDER/key.pem"
        [query_log]
        enabled = true
        privacy = "hash"
        key_file = "FOLDER/key"
        [control]
        tokens_file = "FOLDER/tokens"
    "#;

    #[test]
    fn every_path_is_named_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["appliance.example".to_owned()]).unwrap();
        let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
        for (name, text) in [
            ("password", "secret"),
            ("ca.pem", &certificate),
            ("cert.pem", &certificate),
            ("key.pem", &key),
            ("key", "0123456789abcdef0123456789abcdef"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let others = OTHERS.replace("FOLDER", &folder.path().display().to_string());
        for text in [PATHS, &others] {
            let paths = parse(text).unwrap_or_else(|error| panic!("{:#?}", error.lines())).paths();
            let written: BTreeSet<_> =
                text.split('"').filter(|text| text.starts_with('/')).map(PathBuf::from).collect();
            let named: BTreeSet<_> = paths.iter().map(|named| named.path.clone()).collect();
            assert!(named.is_superset(&written), "{paths:#?}");
            for NamedPath { key, path, .. } in paths.iter().filter(|named| written.contains(&named.path)) {
                let place = crate::error::place_of(text, key).0.expect(key);
                let line = text.lines().nth(place.line - 1).unwrap();
                assert!(line.contains(path.to_str().unwrap()), "{key} is not {line:?}");
            }
        }
    }

    /// The sandbox would forbid the file of a key that is missing here.
    #[test]
    fn keys_that_name_paths_are_in_a_sample() {
        let is_path = |name: &str| {
            let mut ends = ["file", "files", "dir", "socket", "source", "audit_log"].into_iter();
            ends.any(|end| name == end || name.ends_with(&format!("_{end}")))
        };
        for table in RawConfig::tables() {
            let header = table.header.trim_matches(['[', ']']);
            for key in table.keys.iter().filter(|key| is_path(key.name) && key.kind != "boolean") {
                let written =
                    [PATHS, OTHERS].into_iter().flat_map(|text| text.split("\n        [")).any(|part| {
                        let (name, keys) = part.split_once(']').unwrap_or_default();
                        name.trim_start_matches('[') == header
                            && keys.contains(&format!("\n        {} = ", key.name))
                    });
                assert!(written, "{header}.{} names a path: add it to Config::paths()", key.name);
            }
        }
    }
}
