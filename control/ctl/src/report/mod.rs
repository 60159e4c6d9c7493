//! `ringctl report`: an archive for those who help. It has no secrets and, unless asked for, no names that
//! clients asked for and no addresses of clients.

mod redact;
#[cfg(test)]
mod tests;

use crate::{doctor::Place, talk::Ringdnsd};
use anyhow::Context;
use clap::Args;
use flate2::{Compression, write::GzEncoder};
use redact::{Secrets, anonymous};
use ringdns_api::{AuditRecord, ConfigView, DaemonStatus, ProblemKind};
use ringdns_common::{files, mask::mask};
use ringdns_config::settings;
use ringdns_dataplane::clock::Clock;
use ringdns_doctor::{host::Host, nic::Nic};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};
use tar::{Builder, Header};
use toml::Table;

/// Name of the folder in the archive.
const FOLDER: &str = "ringdns-report";
/// Lines of the log.
const LOG_LINES: &str = "1000";
/// Changes of the audit log.
const AUDIT_LINES: usize = 100;

/// Options of `ringctl report`.
#[derive(Args)]
pub struct SupportReport {
    #[command(flatten)]
    place: Place,
    /// Archive to write (tar, gzip). Absent: ringdns-report-TIME.tar.gz in this folder.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Include names that clients asked for, their addresses, and the log as it is.
    #[arg(long)]
    with_names: bool,
}

/// Files of an archive, with their texts.
#[derive(Default)]
struct Contents(Vec<(&'static str, String)>);

impl Contents {
    fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }
}

impl SupportReport {
    /// Writes the archive.
    pub async fn write(&self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        let now = Clock::start().unix();
        let path = self.output.clone().unwrap_or_else(|| format!("ringdns-report-{now}.tar.gz").into());
        files::check_replaceable(&path).with_context(|| path.display().to_string())?;
        let mut contents = Contents::default();
        self.of_host(&mut contents);
        let findings = self.place.findings(ringdnsd).await;
        // A zone's name in a problem came from clients.
        let is_named = |check: &str| self.with_names || check != ProblemKind::ZoneFlooded.label();
        let findings: Vec<_> = findings.into_iter().filter(|finding| is_named(&finding.check)).collect();
        contents.add("findings.json", serde_json::to_string_pretty(&findings)?);
        let mut secrets = Secrets::default();
        secrets.add_file(self.place.config());
        contents.add("config.toml", self.config(ringdnsd, &mut secrets).await);
        self.of_daemon(ringdnsd, &mut contents).await?;
        self.log(&mut contents);
        let file = files::create_anew(&path, 0o600)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        archive(&contents, &secrets, now, file)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}", path.display())?;
        for (name, text) in &contents.0 {
            writeln!(out, "  {name}: {} bytes", text.len())?;
        }
        Ok(())
    }

    /// Adds facts about the host.
    fn of_host(&self, contents: &mut Contents) {
        contents.add("version.txt", format!("ringctl {}\n", env!("CARGO_PKG_VERSION")));
        contents.add("host.md", format!("| host | |\n| --- | --- |\n{}", Host::read()));
        let output = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        if let Some(kernel) = output("uname", &["-a"]) {
            // The second word is the name of the host.
            let words =
                kernel.split_ascii_whitespace().enumerate().filter(|(at, _)| *at != 1).map(|(_, word)| word);
            contents.add("uname.txt", words.collect::<Vec<_>>().join(" ") + "\n");
        }
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        contents.add("cpuinfo.txt", processor.split("\n\n").next().unwrap_or_default());
        if let Some(links) = output("ip", &["-details", "-statistics", "link", "show"]) {
            contents.add("ip-link.txt", mask(&links));
        }
        if let Some(interface) = self.place.interface_of() {
            let nic = Nic::read(&interface);
            contents.add("nic.md", format!("| {interface} | |\n| --- | --- |\n{nic}"));
            if let Some(counters) = output("ethtool", &["-S", &interface]) {
                contents.add("nic-counters.txt", counters);
            }
        }
    }

    /// Returns the configuration in effect, or else that of the file, without secrets.
    async fn config(&self, ringdnsd: &Ringdnsd, secrets: &mut Secrets) -> String {
        let running = match ringdnsd.get("/v1/config").await {
            Ok(body) => serde_json::from_slice::<ConfigView>(&body).ok(),
            Err(_) => None,
        };
        let (source, written) = match running {
            Some(view) => {
                view.file.iter().for_each(|file| secrets.add_file(Path::new(file)));
                let written: Table = serde_json::from_value(view.written).unwrap_or_default();
                secrets.add_files(&toml::Value::Table(written.clone()));
                ("in effect", written)
            }
            None => {
                let path = self.place.config();
                let text = match fs::read_to_string(path) {
                    Ok(text) => text,
                    Err(error) => return format!("# {}: {error}\n", path.display()),
                };
                // The parser's message would quote the line, which may have a password.
                let Ok(tables) = toml::from_str(&text) else {
                    return format!("# {} is no TOML\n", path.display());
                };
                ("in the file", settings::masked(&tables))
            }
        };
        let shown = if self.with_names { written } else { redact::without_clients(&written) };
        let text = toml::to_string(&shown).unwrap_or_else(|error| format!("# {error}\n"));
        format!("# Configuration {source}, without secrets\n{text}")
    }

    /// Adds what a running ringdnsd says of itself.
    async fn of_daemon(&self, ringdnsd: &Ringdnsd, contents: &mut Contents) -> anyhow::Result<()> {
        let status = match ringdnsd.get("/v1/status").await {
            Ok(body) => body,
            Err(error) => {
                contents.add("ringdnsd.txt", format!("ringdnsd was not asked: {error:#}\n"));
                return Ok(());
            }
        };
        let mut status: DaemonStatus =
            serde_json::from_slice(&status).context("the status cannot be read")?;
        if !self.with_names {
            status.problems.retain(|problem| problem.kind != ProblemKind::ZoneFlooded);
        }
        contents.add("ringdnsd.txt", format!("ringdnsd {} runs\n", status.version));
        contents.add("status.json", serde_json::to_string_pretty(&status)?);
        for (name, path) in
            [("stats.json", "/v1/stats"), ("metrics.txt", "/metrics"), ("sweeps.json", "/v1/sweeps")]
        {
            match ringdnsd.get(path).await {
                Ok(body) => contents.add(name, String::from_utf8_lossy(&body)),
                Err(error) => contents.add(name, format!("{error:#}\n")),
            }
        }
        // A token that may only read is not told of changes.
        if let Ok(body) = ringdnsd.get(&format!("/v1/audit?last={AUDIT_LINES}")).await {
            let mut records: Vec<AuditRecord> = serde_json::from_slice(&body)?;
            if !self.with_names {
                for record in &mut records {
                    (record.peer, record.parameters, record.error) = (None, String::new(), None);
                }
            }
            contents.add("audit.json", serde_json::to_string_pretty(&records)?);
        }
        Ok(())
    }

    /// Adds the end of the log, if the journal has it.
    fn log(&self, contents: &mut Contents) {
        let mut command = Command::new("journalctl");
        command.args([
            "--unit=ringdnsd",
            "--no-pager",
            "--no-hostname",
            "--quiet",
            "--output=short-iso",
            "--lines",
            LOG_LINES,
        ]);
        let Ok(output) = command.output() else { return };
        if output.status.success() && !output.stdout.is_empty() {
            let log = String::from_utf8_lossy(&output.stdout);
            contents.add("log.txt", if self.with_names { log.into_owned() } else { anonymous(&log) });
        }
    }
}

/// Writes an archive, and removes secrets from each file on the way, wherever they came from.
fn archive(contents: &Contents, secrets: &Secrets, time: u64, file: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in &contents.0 {
        let text = secrets.remove(text);
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        archive.append_data(&mut header, Path::new(FOLDER).join(name), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}
