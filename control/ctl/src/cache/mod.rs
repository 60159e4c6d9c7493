//! `ringctl cache`: entries of the host cache.

pub mod list;
pub mod transfer;

use crate::{
    print::{ask_and_print, show_entry},
    talk::{Ringdnsd, escape},
    upkeep,
};
use clap::Subcommand;
use list::List;
use ringdns_api::EntryView;
use std::{io::Write, path::PathBuf};

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
    /// List entries: those of a name, below a name, of a type, in a state or in demand.
    ///
    /// FLAGS are those of the clients that the answer is for: DO, CD. AGE is the time since the answer was
    /// received, and LEFT the time until it expires, in seconds; "stale": it has expired, and may still be
    /// given. DEMAND is the number of recent questions: it halves every two minutes. With --json, one
    /// object per line, records included.
    List(List),
    /// Write the entries into a file, those in most demand first if there is no room for all.
    ///
    /// Not in it: answers about special-use names, failures, answers that were validated here, and those
    /// for groups of clients with upstreams of their own. The file tells what people asked for: only its
    /// owner may read it.
    Dump {
        /// File to write, which is replaced; "-": standard output.
        file: PathBuf,
    },
    /// Read a dump into the host cache.
    ///
    /// Entries are as old as they were. No entry replaces one that is there. A dump that is damaged, of
    /// other upstreams, of another [dnssec] or from the future is refused as a whole; single entries that
    /// are too old or do not answer their question are counted.
    Load {
        /// File to read; "-": standard input.
        file: PathBuf,
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
            CacheCommand::List(list) => list.print(ringdnsd, json).await,
            CacheCommand::Dump { file } => transfer::dump(ringdnsd, json, &file).await,
            CacheCommand::Load { file } => transfer::load(ringdnsd, json, &file).await,
            CacheCommand::Purge { name, suffix, .. } => upkeep::purge(ringdnsd, json, name, suffix).await,
        }
    }
}
