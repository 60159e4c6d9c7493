//! `ringctl cache`: entries of the host cache.

use crate::{
    print::{ask_and_print, show_entry},
    talk::{Ringdnsd, escape},
    upkeep,
};
use clap::Subcommand;
use ringdns_api::EntryView;
use std::io::Write;

/// Subcommands of `ringctl cache`.
#[derive(Subcommand)]
pub enum CacheCommand {
    /// Show the entries of a name.
    Get {
        /// Domain name.
        name: String,
        /// Show only this record type.
        rtype: Option<String>,
    },
    /// Remove a name, a name and all names below it, or everything.
    #[command(group = clap::ArgGroup::new("what").required(true))]
    Purge {
        /// Domain name to remove.
        #[arg(group = "what")]
        name: Option<String>,
        /// Remove this name and all names below it.
        #[arg(long, group = "what")]
        suffix: Option<String>,
        /// Remove all entries.
        #[arg(long, group = "what")]
        all: bool,
    },
}

impl CacheCommand {
    /// Does what the command says.
    pub async fn run(self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        match self {
            CacheCommand::Get { name, rtype } => {
                let rtype = rtype.map(|rtype| format!("&type={}", escape(&rtype))).unwrap_or_default();
                let path = format!("/v1/cache/entry?name={}{rtype}", escape(&name));
                let show = |entries: Vec<EntryView>, out: &mut dyn Write| {
                    entries.iter().try_for_each(|entry| show_entry(entry, out))
                };
                ask_and_print(ringdnsd, json, &path, show).await
            }
            CacheCommand::Purge { name, suffix, .. } => upkeep::purge(ringdnsd, json, name, suffix).await,
        }
    }
}
