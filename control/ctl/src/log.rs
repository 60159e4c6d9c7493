//! `ringctl log`: the part of the query log that is on this host.

use crate::filter::FilterArgs;
use anyhow::{Context, bail};
use clap::Args;
use ringdns_common::{
    printable::Printable,
    units::{TimeSpan, counted},
};
use ringdns_dataplane::clock::Clock;
use ringdns_segment::show;
use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

/// Options of `ringctl log`.
#[derive(Args)]
pub struct Log {
    /// Path of ringdnsd's query_log.spool_dir.
    #[arg(long, default_value = "/var/lib/ringdns/query-log")]
    spool_dir: PathBuf,
    /// Show only queries for this name.
    #[arg(long, conflicts_with = "suffix")]
    name: Option<String>,
    /// Show only queries no older than this: 90s, 10m, 1h, 7d.
    #[arg(long)]
    since: Option<TimeSpan>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Log {
    /// Prints the rows that it names.
    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        let since_ms = self.since.map(|since| Clock::start().epoch_millis() - since.0.as_millis() as i64);
        let name = self.name.as_deref().map(show::name).transpose()?;
        let filter = show::Filter { name, since_ms, ..self.filter.exchanges()?.into() };
        let mut out = BufWriter::new(io::stdout().lock());
        let row = |entry: &show::LogEntry| {
            if !json {
                return writeln!(out, "{}", Printable(entry));
            }
            serde_json::to_writer(&mut out, entry)?;
            writeln!(out)
        };
        let mut damaged = 0;
        let told = show::each(&self.spool_dir, &filter, row, |path, damage| {
            damaged += 1;
            let line = format!("ringctl: {}: {damage}", path.display());
            // Standard error may be gone.
            let _ = writeln!(io::stderr(), "{}", Printable(line));
        });
        told.and_then(|()| out.flush()).with_context(|| {
            let folder = self.spool_dir.display();
            format!("{folder}: is it the query_log.spool_dir of ringdnsd, and are you its user or root?")
        })?;
        if damaged > 0 {
            let are = if damaged == 1 { "is" } else { "are" };
            let segments = counted(damaged, "segment", "segments");
            bail!("{segments} {are} damaged; the rows of the other segments are above");
        }
        Ok(())
    }
}
