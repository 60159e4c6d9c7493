//! Exports of profiles, to files.

use crate::talk::Ringdnsd;
use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// Time that ringdnsd may take to resolve the names of functions, which it does once for each.
const PROFILE_PATIENCE: Duration = Duration::from_secs(60);

/// Subcommands of `ringctl profile`.
#[derive(Subcommand)]
pub enum Profile {
    /// Write a profile of the memory in use, by allocating function.
    Heap {
        /// Write to this file.
        #[arg(short, long, default_value = "heap.pprof")]
        output: PathBuf,
    },
    /// Write a profile of the CPU time used from now on, by function.
    Cpu {
        /// Duration in seconds.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=300))]
        seconds: u32,
        /// Write to this file.
        #[arg(short, long, default_value = "cpu.pprof")]
        output: PathBuf,
    },
}

impl Profile {
    /// Writes a profile.
    pub async fn take(self, ringdnsd: &Ringdnsd) -> anyhow::Result<()> {
        let (path, takes, output) = match self {
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
}
