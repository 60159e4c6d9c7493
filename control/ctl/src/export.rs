//! Exports of service times and profiles, to files.

use crate::{
    Histogram, HistogramFormat, Profile,
    talk::{Ringdnsd, escape},
};
use anyhow::Context;
use hyper::Method;
use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

/// Time that ringdnsd may take to resolve the names of functions, which it does once for each.
const PROFILE_PATIENCE: Duration = Duration::from_secs(60);

/// Exports service times.
pub async fn export_histogram(ringdnsd: &Ringdnsd, export: Histogram) -> anyhow::Result<()> {
    let Histogram::Export { format, outcome, upstream, output } = export;
    let format = match format {
        HistogramFormat::Text => "text",
        HistogramFormat::Log => "log",
    };
    let outcome = outcome.map(|outcome| format!("&outcome={}", escape(&outcome))).unwrap_or_default();
    let upstream = upstream.map(|address| format!("&upstream={}", escape(&address))).unwrap_or_default();
    let body = ringdnsd.get(&format!("/v1/histogram?format={format}{outcome}{upstream}")).await?;
    match output {
        Some(path) => fs::write(&path, &body).with_context(|| format!("writing {}", path.display())),
        None => Ok(io::stdout().write_all(&body)?),
    }
}

/// Writes a profile.
pub async fn take_profile(ringdnsd: &Ringdnsd, profile: Profile) -> anyhow::Result<()> {
    let (path, takes, output) = match profile {
        Profile::Heap { output } => ("/v1/debug/pprof/heap".to_owned(), 0, output),
        Profile::Cpu { seconds, output } => {
            (format!("/v1/debug/pprof/profile?seconds={seconds}"), seconds, output)
        }
    };
    let patience = PROFILE_PATIENCE + Duration::from_secs(takes.into());
    let body = ringdnsd.ask_within(patience, Method::GET, &path).await?;
    fs::write(&output, &body).with_context(|| format!("writing {}", output.display()))?;
    Ok(writeln!(io::stdout(), "{}: {} bytes", output.display(), body.len())?)
}
