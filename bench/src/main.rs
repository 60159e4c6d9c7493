//! `ringbench`: load generator, synthetic upstream and comparison runs for ringdns.

use clap::{Parser, Subcommand};
use ringdns_bench::{run, upstream};

#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Upstream(Box<upstream::Args>),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Upstream(args) => upstream::run(&args),
    }
}
