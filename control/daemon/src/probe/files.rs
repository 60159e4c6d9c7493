//! Files that are read later: for each connection, download or transfer.

use super::{
    CheckSeverity::{Error, Unchecked, Warning},
    Finding,
};
use ringdns_config::{Config, ListSource, Problem};
use ringdns_tls as tls;
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

/// Checks files that no start reads.
pub fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let fetch = &config.lists.fetch;
    findings.extend(fetch.tls_ca_file.as_deref().and_then(|file| authorities("lists.tls_ca_file", file)));
    for (i, list) in config.lists.block.iter().enumerate() {
        if let ListSource::Zone(zone) = &list.source
            && let Some(tsig) = &zone.tsig
        {
            findings.extend(readable(&format!("blocklist[{i}].tsig_file"), &tsig.file));
        }
    }
    if let Some([certificate, key]) =
        config.redis.as_ref().and_then(|redis| redis.server.files.identity.as_ref())
        && let Err(error) = tls::check_identity(certificate, key)
    {
        let problem = Problem::new("redis.tls_key_file", error.reason, error.remedy);
        findings.push((Error, problem));
    }
    if let Some(clickhouse) = config.shipping.as_ref().and_then(|shipping| shipping.clickhouse.as_ref()) {
        let password = clickhouse.password_file.as_deref();
        findings.extend(password.and_then(|file| readable("clickhouse.password_file", file)));
        let ca = clickhouse.tls_ca_file.as_deref();
        findings.extend(ca.and_then(|file| authorities("clickhouse.tls_ca_file", file)));
    }
    for (i, file) in config.client_names.lease_files.iter().enumerate() {
        findings.extend(readable(&format!("client_names.lease_files[{i}]"), file));
    }
    findings
}

/// Returns the reason why a file cannot be read.
fn readable(key: &str, path: &Path) -> Option<Finding> {
    let error = File::open(path).and_then(|mut file| file.read(&mut [0])).err()?;
    let severity = if error.kind() == ErrorKind::PermissionDenied { Unchecked } else { Warning };
    let remedy = "Give a file that ringdnsd may read";
    Some((severity, Problem::new(key, format!("{}: {error}", path.display()), remedy)))
}

/// Returns the reason why a file has no certificates of CAs.
fn authorities(key: &str, path: &Path) -> Option<Finding> {
    let unreadable = readable(key, path);
    unreadable.or_else(|| {
        let error = tls::client_config(Some(path), &[]).err()?;
        Some((Warning, Problem::new(key, error.reason, error.remedy)))
    })
}
