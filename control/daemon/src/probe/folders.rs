//! Folders that ringdnsd writes to.

use super::{
    CheckSeverity::{Error, Unchecked, Warning},
    Finding,
};
use crate::preflight::writable;
use ringdns_config::{Config, ListSource, ListsConfig, Problem};
use std::{fs, path::Path};

/// User of the unit that the package has.
const SERVICE_USER: &str = "ringdns";

/// Checks the folders of files that ringdnsd writes.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |severity, key: &str, folder: Option<&Path>, loss: &str| {
        let Some(Err(reason)) = folder.map(writable) else { return };
        let remedy = format!("{loss}: give a folder that ringdnsd may write to");
        findings.push((severity, Problem::new(key, reason, remedy)));
    };
    if let Some(shipping) = &config.shipping {
        look(Error, "query_log.spool_dir", Some(&shipping.spool_dir), "The query log cannot be written");
    }
    if let Some(snapshot) = &config.snapshot {
        look(Warning, "cache.snapshot_file", snapshot.file.parent(), "No snapshot will be written");
    }
    if config.dnssec.validate {
        let file = config.dnssec.managed_anchor_file.as_deref();
        let loss = "The next change of a zone's keys will not be learnt";
        look(Warning, "dnssec.managed_anchor_file", file.and_then(Path::parent), loss);
    }
    let fetch = &config.lists.fetch;
    if downloads(&config.lists) {
        look(Warning, "lists.dir", Some(&fetch.dir), "Downloaded lists will not be kept");
    }
    let loss = "`ringctl block`, `allow` and `pause` will be refused";
    look(Warning, "lists.overrides_file", fetch.overrides_file.parent(), loss);
    if rustix::process::geteuid().is_root() && is_user(SERVICE_USER) {
        let reason =
            format!("as root, it is not known whether the user {SERVICE_USER} may read and write all that");
        let remedy = format!("Run `runuser -u {SERVICE_USER} -- ringdnsd --check` too");
        findings.push((Unchecked, Problem::new("", reason, remedy)));
    }
    findings
}

/// Whether lists are downloaded.
fn downloads(lists: &ListsConfig) -> bool {
    let is_remote = |source: &ListSource| !matches!(source, ListSource::File(_));
    lists.block.iter().any(|list| is_remote(&list.source))
        || lists.allow.iter().filter_map(|list| list.source.as_ref()).any(is_remote)
}

fn is_user(name: &str) -> bool {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().any(|line| line.split(':').next() == Some(name))
}
