//! The daemon.

#![forbid(unsafe_code)]

use clap::Parser;
use ringdns_config::{Config, reference};
use ringdns_daemon::{daemon, preflight, reload::Source};
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tracing_subscriber::EnvFilter;

/// A miss allocates and frees a dozen times, and answers live for minutes: glibc's arenas grow by a system call for each
/// handful of them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A DNS cache at the speed of the link.
///
/// Exit status: 0 when it was asked to stop, or with --check when the configuration is accepted; 2 when the
/// configuration is refused, for what it says or because this machine cannot give what it asks for (a port in use, a missing
/// capability): nothing was attached then; 1 when it could not go on.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "print_config_reference")]
    config: Option<PathBuf>,
    /// Only say whether the configuration would be accepted. Disturbs no ringdnsd at work.
    #[arg(long)]
    check: bool,
    /// Print docs/configuration.md.
    #[arg(long, hide = true)]
    print_config_reference: bool,
}

const FAILED: u8 = 1;
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(path) = arguments.config else {
        print!("{}", reference::markdown());
        return ExitCode::SUCCESS;
    };
    log_to_stderr();
    let (config, source) = match load(&path) {
        Ok(loaded) => loaded,
        Err(refusal) => {
            eprintln!("ringdnsd: {refusal}");
            return ExitCode::from(REFUSED);
        }
    };
    if arguments.check {
        println!("{}: accepted", path.display());
        return ExitCode::SUCCESS;
    }
    match daemon::run(config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(if error.is_refusal() { REFUSED } else { FAILED })
        }
    }
}

/// Reads the configuration, and checks it against the machine.
fn load(path: &Path) -> Result<(Config, Source), String> {
    let (config, source) = Source::load(path).map_err(|error| error.to_string())?;
    preflight::check(&config).map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok((config, source))
}

/// Logs what `RUST_LOG` asks for; `info` without it. Whatever aya warns of comes as an error of ours, in one line.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,aya=error"));
    let stderr = std::io::stderr;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
}
