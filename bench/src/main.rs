//! `ringbench`: load generator, synthetic upstream and comparison runs for ringdns.

#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use ringdns_bench::{
    compare, differential, faults, fleet, flood, gate, hostile, instructions, micro, nic, ramp, responder,
    run, storm, upstream, worst,
};
use ringdns_manual::Section;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

#[derive(Debug, Parser)]
#[command(name = "ringbench", version, about, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Compare(compare::Args),
    Differential(differential::Args),
    Faults(faults::Args),
    Fleet(fleet::Args),
    FloodSim(flood::Args),
    Gate(gate::Args),
    Hostile(hostile::Args),
    /// Does one of the pieces of work whose instructions `gate` counts.
    #[command(hide = true)]
    Instructions(instructions::Args),
    Micro(micro::Args),
    Nic(nic::Args),
    Ramp(Box<ramp::Args>),
    Responder(responder::Args),
    Run(Box<run::Args>),
    Storm(Box<storm::Args>),
    Upstream(Box<upstream::Args>),
    Worst(worst::Args),
    /// Writes the manual pages and completions into a folder, as they lie in /usr/share.
    #[command(hide = true)]
    WriteShare {
        /// Folder.
        folder: PathBuf,
    },
}

/// Exit status of a run that found what it looks for, or could not be done.
const FAILED: u8 = 1;

/// Ends the process quietly when a report cannot be printed because its reader is gone, as with
/// `ringbench … | head`: `print!` panics then.
fn end_with_reader() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            std::process::exit(0);
        }
        default(panic);
    }));
}

fn main() -> ExitCode {
    end_with_reader();
    match run_command(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `ringbench … | head`: the reader has what it wants.
            let is_broken = |cause: &(dyn std::error::Error + 'static)| {
                cause
                    .downcast_ref::<io::Error>()
                    .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
            };
            if error.chain().any(is_broken) {
                return ExitCode::SUCCESS;
            }
            // No backtrace, whatever RUST_BACKTRACE says: the causes tell what to do.
            let _ = writeln!(io::stderr(), "ringbench: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run_command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Compare(args) => compare::run(&args),
        Command::Differential(args) => differential::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::FloodSim(args) => flood::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Hostile(args) => hostile::run(&args),
        Command::Instructions(args) => instructions::main(&args),
        Command::Micro(args) => micro::run(&args),
        Command::Nic(args) => nic::run(&args),
        Command::Ramp(args) => ramp::run(&args),
        Command::Responder(args) => responder::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Upstream(args) => upstream::run(&args),
        Command::Worst(args) => worst::run(&args),
        Command::WriteShare { folder } => ringdns_manual::write(&Cli::command(), Section::Users, &folder)
            .with_context(|| format!("cannot write into {}", folder.display())),
    }
}
