//! `ringbench nic`: what a NIC makes of ringdns, in every mode that its driver has.

mod ethtool;
mod facts;

use anyhow::{Result, ensure};
use facts::{Host, Nic};

/// Tells what decides how fast this host's NIC is under ringdns: driver, queues, rings, RSS, offloads, interrupts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The interface.
    #[arg(long)]
    pub interface: String,
}

/// `ringbench nic`.
pub fn run(args: &Args) -> Result<()> {
    let Args { interface } = args;
    ensure!(
        facts::class(interface).exists(),
        "there is no interface \"{interface}\" in this network namespace: see `ip link`"
    );
    let (nic, host) = (Nic::read(interface), Host::read());
    println!("| {interface} | |\n| --- | --- |\n{nic}{host}");
    nic.advice().iter().for_each(|advice| println!("- {advice}"));
    Ok(())
}
