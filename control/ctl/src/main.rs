//! `ringctl`: sends HTTP requests to a running ringdnsd over its Unix socket or over TCP, and prints the
//! answers as text or JSON.

#![forbid(unsafe_code)]

mod cache;
mod capture;
mod command;
mod config;
mod doctor;
mod explain;
mod filter;
mod histogram;
mod history;
mod log;
mod monitor;
mod offline;
mod overrides;
mod policy;
mod print;
mod profile;
mod progress;
mod report;
mod row;
#[cfg(test)]
mod screens;
mod table;
mod talk;
mod tap;
#[cfg(test)]
mod testing;
mod tokens;
mod top;
mod upkeep;

use clap::Parser;
use command::Command;
use ringdns_common::printable::Printable;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use talk::Ringdnsd;

/// Watch and control a running ringdnsd.
///
/// Exit codes: 0 on success; 1 if ringdnsd refused the request, could not be reached, or has no
/// such entry; 2 if the command line is wrong. `ringctl check` and `ringctl doctor` have their own.
#[derive(Parser)]
#[command(name = "ringctl", version, max_term_width = 80)]
struct Arguments {
    /// Path of ringdnsd's control.socket.
    #[arg(long, global = true, default_value = "/run/ringdns/control.sock")]
    socket: PathBuf,
    /// URL of ringdnsd's control.http, such as http://127.0.0.1:8053, in place of the socket.
    #[arg(long, global = true, conflicts_with = "socket")]
    url: Option<String>,
    /// File whose first line is the token for --url.
    #[arg(long, global = true, requires = "url", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print ringdnsd's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// Returns the ringdnsd that they name.
    fn ringdnsd(&self) -> anyhow::Result<Ringdnsd> {
        Ringdnsd::at(self.socket.clone(), self.url.as_deref(), self.token_file.as_deref())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return wrong_command_line(&error),
    };
    let failure = arguments.command.failure();
    match run(arguments).await {
        Ok(code) => code,
        // `ringctl … | head`: the reader has what it wants.
        Err(error) if is_end_of_reader(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // A refused configuration has one problem a line.
            for line in format!("{error:#}").lines() {
                // Standard error may be gone too.
                let _ = writeln!(io::stderr(), "ringctl: {}", Printable(line));
            }
            failure
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let ringdnsd = arguments.ringdnsd()?;
    arguments.command.run(&ringdnsd, arguments.json).await
}

/// Prints what is wrong with a command line, or the help that it asks for, and returns the exit code:
/// `check` and `doctor` promise one of their own.
fn wrong_command_line(error: &clap::Error) -> ExitCode {
    // The reader may be gone.
    let _ = error.print();
    let is_check = || std::env::args_os().skip(1).any(|argument| argument == "check" || argument == "doctor");
    match u8::try_from(error.exit_code()).unwrap_or(1) {
        0 => ExitCode::SUCCESS,
        _ if is_check() => ExitCode::from(monitor::UNKNOWN),
        code => ExitCode::from(code),
    }
}

/// Whether the reader of standard output has closed it. A connection to ringdnsd that breaks is
/// another error.
fn is_end_of_reader(error: &anyhow::Error) -> bool {
    let is_broken = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_broken) && !error.chain().any(|cause| cause.is::<hyper::Error>())
}
