//! Tokens of the API, and the changes that callers asked for.

use crate::{print::print_as, talk::Ringdnsd};
use anyhow::{anyhow, bail};
use clap::{Subcommand, ValueEnum};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use ringdns_api::AuditRecord;
use ringdns_common::printable::Printable;
use serde_json::json;
use std::io::{self, Write};

/// Random bytes of a token.
const BYTES: usize = 32;
/// Beginning of a token, by which people and programs that look for leaked secrets know it.
const PREFIX: &str = "ringdns_";

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it with its line for control.tokens_file.
    ///
    /// Nothing is stored: append the line to the file, run `ringctl reload`, and give the token to whom it
    /// is for. The file has the SHA-256 alone, so the token cannot be shown again.
    New {
        /// Name of the holder, which the audit log shows: letters, digits, ".", "-", "_" and "@".
        #[arg(long)]
        name: String,
        /// Requests that it is good for.
        #[arg(long)]
        role: TokenRole,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TokenRole {
    /// Requests that show something, names and clients included.
    Read,
    /// Requests that change something, too.
    Operate,
}

impl TokenCommand {
    /// Makes a token.
    pub fn run(&self, json: bool) -> anyhow::Result<()> {
        let TokenCommand::New { name, role } = self;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            bail!(
                "{name:?} is no name of a token: use up to 64 letters, digits, \".\", \"-\", \"_\" and \"@\""
            );
        }
        let mut random = [0; BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| anyhow!("the kernel gives no random bytes"))?;
        let token = format!("{PREFIX}{}", hex(&random));
        let role = match role {
            TokenRole::Read => "read",
            TokenRole::Operate => "operate",
        };
        let line = format!("{name} {role} {}", hex(digest(&SHA256, token.as_bytes()).as_ref()));
        let mut out = io::stdout().lock();
        match json {
            true => writeln!(out, "{}", json!({ "token": token, "line": line }))?,
            false => writeln!(out, "token: {token}\nline:  {line}")?,
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prints the last changes.
pub async fn audit(ringdnsd: &Ringdnsd, json: bool, last: usize) -> anyhow::Result<()> {
    let body = ringdnsd.get(&format!("/v1/audit?last={last}")).await?;
    print_as(json, &body, show_audit)
}

/// Shows changes.
pub fn show_audit(records: Vec<AuditRecord>, out: &mut dyn Write) -> io::Result<()> {
    records.iter().try_for_each(|record| writeln!(out, "{}", Printable(line(record))))
}

fn line(record: &AuditRecord) -> String {
    let AuditRecord { time, who, peer, what, parameters, status, error } = record;
    let peer = peer.as_ref().map(|peer| format!(" from {peer}")).unwrap_or_default();
    let query = if parameters.is_empty() { String::new() } else { format!("?{parameters}") };
    let result = match (status, error) {
        (0, _) => "the caller left".to_owned(),
        (200, None) => "done".to_owned(),
        (status, None) => status.to_string(),
        (status, Some(error)) => format!("{status}: {error}"),
    };
    format!("{time} {who}{peer}: {what}{query}: {result}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let mut record = AuditRecord {
            time: "2026-01-02T03:04:05Z".into(),
            who: "token:ops".into(),
            peer: Some("192.0.2.1:9".into()),
            what: "/v1/cache/purge".into(),
            parameters: "all=true".into(),
            status: 200,
            error: None,
        };
        let begin = "2026-01-02T03:04:05Z token:ops from 192.0.2.1:9: /v1/cache/purge?all=true: ";
        assert_eq!(line(&record), format!("{begin}done"));
        (record.status, record.error) = (403, Some("no".into()));
        assert_eq!(line(&record), format!("{begin}403: no"));
        (record.status, record.error) = (0, None);
        assert_eq!(line(&record), format!("{begin}the caller left"));
    }
}
