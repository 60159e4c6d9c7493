//! `ringbench`: load generator, synthetic upstream and comparison runs for ringdns.

#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use ringdns_bench::{
    compare, differential, faults, fleet, flood, gate, hostile, instructions, micro, nic, ramp, responder,
    run, upstream,
};

#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
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
    Upstream(Box<upstream::Args>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
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
        Command::Upstream(args) => upstream::run(&args),
    }
}
