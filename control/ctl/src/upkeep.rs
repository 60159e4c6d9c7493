//! Requests that change what is cached or in effect: purges, downloads of lists, reloads.

use crate::{
    print::{print_as, show_refreshed, time_of},
    talk::{Ringdnsd, escape},
};
use anyhow::bail;
use clap::Args;
use hyper::Method;
use ringdns_api::{ListDifference, ListRefresh, LogFilter, Purged, Reloaded};
use ringdns_common::units::{TimeSpan, counted};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Time that downloads of lists may take; ringdnsd gives up a request after as long.
const DOWNLOADS: Duration = Duration::from_secs(3_600);

/// Downloads lists. Fails if one of them was not renewed.
pub async fn refresh(ringdnsd: &Ringdnsd, json: bool, name: Option<String>) -> anyhow::Result<()> {
    let name = name.map(|name| format!("?name={}", escape(&name))).unwrap_or_default();
    let path = format!("/v1/policy/refresh{name}");
    let body = ringdnsd.ask_within(DOWNLOADS, Method::POST, &path).await?;
    print_as(json, &body, show_refreshed)?;
    let results: Vec<ListRefresh> = serde_json::from_slice(&body)?;
    let failed = results.iter().filter(|result| result.error.is_some()).count();
    match failed {
        0 => Ok(()),
        _ => bail!("{} not renewed", counted(failed as u64, "list was", "lists were")),
    }
}

/// Removes names from the caches.
pub async fn purge(
    ringdnsd: &Ringdnsd,
    json: bool,
    name: Option<String>,
    suffix: Option<String>,
) -> anyhow::Result<()> {
    let what = match (name, suffix) {
        (Some(name), _) => format!("name={}", escape(&name)),
        (None, Some(suffix)) => format!("suffix={}", escape(&suffix)),
        (None, None) => "all=true".to_owned(),
    };
    let body = ringdnsd.ask(Method::POST, &format!("/v1/cache/purge?{what}")).await?;
    print_as(json, &body, show_purged)
}

/// Shows the result of a purge.
pub fn show_purged(purged: Purged, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "removed {} from the host cache, and what the workers had of the same names",
        counted(purged.removed, "entry", "entries")
    )?;
    match purged.told {
        Some(true) => writeln!(out, "the other appliances of the fleet have been told"),
        Some(false) => writeln!(out, "the other appliances will be told when Redis can be reached"),
        None => Ok(()),
    }
}

/// Reloads the configuration.
pub async fn reload(ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
    let body = ringdnsd.ask(Method::POST, "/v1/reload").await?;
    print_as(json, &body, |Reloaded { applied, needs_restart, reasons, lists }, out| {
        if applied.is_empty() && needs_restart.is_empty() {
            return writeln!(out, "nothing has changed");
        }
        for table in applied {
            writeln!(out, "[{table}] is in effect")?;
        }
        for table in needs_restart {
            let reason = reasons.get(&table).map(|reason| format!(": {reason}")).unwrap_or_default();
            writeln!(out, "[{table}] has changed; restart ringdnsd to apply it{reason}")?;
        }
        for ListDifference { name, changes } in lists {
            writeln!(out, "{name}: +{} -{} rules", changes.added, changes.removed)?;
        }
        Ok(())
    })
}

/// Options of `ringctl logging`.
#[derive(Args)]
pub struct Logging {
    /// Levels. Absent: show those in effect.
    filter: Option<String>,
    /// Go back after this time: 5m, 1h, a day at most. Absent: with the next start.
    #[arg(long = "for", value_name = "TIME", requires = "filter")]
    time: Option<TimeSpan>,
    /// Go back now.
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
}

/// Shows or changes the levels of the log.
pub async fn logging(ringdnsd: &Ringdnsd, json: bool, logging: &Logging) -> anyhow::Result<()> {
    let body = match (&logging.filter, logging.reset) {
        (None, false) => ringdnsd.get("/v1/logging").await?,
        (None, true) => ringdnsd.ask(Method::POST, "/v1/logging").await?,
        (Some(filter), _) => {
            let time = logging.time.map(|time| format!("&seconds={}", time.0.as_secs())).unwrap_or_default();
            let path = format!("/v1/logging?filter={}{time}", escape(filter));
            ringdnsd.ask(Method::POST, &path).await?
        }
    };
    print_as(json, &body, |LogFilter { filter, until }, out| match until {
        Some(until) => writeln!(out, "{filter}, until {}", time_of(until)),
        None => writeln!(out, "{filter}"),
    })
}
