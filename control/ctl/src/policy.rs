//! `ringctl policy`: verdicts of the lists, the lists, names, bans and floods.

use crate::{
    offline::OfflineTest,
    overrides::{self, GroupChoice},
    print::{ask_and_print, show_bans, show_floods, show_lists, show_names, show_policy_test},
    talk::{Ringdnsd, escape},
    upkeep,
};
use clap::Subcommand;
use std::{net::IpAddr, path::PathBuf};

/// Subcommands of `ringctl policy`.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Show the names that were blocked or allowed by `ringctl block` and `allow`, and the pauses.
    Overrides,
    /// Remove what `ringctl block` or `allow` said of a name.
    Clear {
        /// Domain name.
        name: String,
        #[command(flatten)]
        choice: GroupChoice,
    },
    /// Show whether a name is resolved, allowed or blocked, and by which rule.
    ///
    /// The rule's file is read for its place: if it has changed since the last reload, the rule may
    /// not be found in it.
    Test {
        /// Domain name.
        name: String,
        /// Record type.
        #[arg(short = 't', long = "type", default_value = "A")]
        rtype: String,
        /// Address of the client that asks, which decides its group.
        #[arg(long, conflicts_with = "group")]
        client: Option<IpAddr>,
        /// Group of the client that asks.
        #[arg(long)]
        group: Option<String>,
        /// Judge by this configuration and its files, without a running ringdnsd. Of lists that are
        /// downloaded, the last copies in lists.dir are used.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show each list with its state, the number of its rules, and the error of its last download.
    Lists,
    /// Download lists now, or read them from their files, and wait for the result. Those that have not
    /// changed stay as they are.
    Refresh {
        /// Name of the list. Absent: all lists from files and URLs.
        name: Option<String>,
    },
    /// Show the names that resolved to an address, while clients may use it. names.entries keeps them.
    Names {
        /// Address.
        address: IpAddr,
    },
    /// Show the prefixes whose queries over UDP are dropped for a time, since they are far above the
    /// rate limit.
    Bans,
    /// Show the zones that are capped because of floods of random names.
    Floods,
}

impl PolicyCommand {
    /// Does what the command says.
    pub async fn run(self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        match self {
            PolicyCommand::Test { name, rtype, client, group, config: Some(config) } => {
                let test = OfflineTest { name: &name, rtype: &rtype, client, group: group.as_deref() };
                test.print(&config, json)
            }
            PolicyCommand::Test { name, rtype, client, group, config: None } => {
                let (name, rtype) = (escape(&name), escape(&rtype));
                let client = client.map(|client| format!("&client={client}")).unwrap_or_default();
                let group = group.map(|group| format!("&group={}", escape(&group))).unwrap_or_default();
                let path = format!("/v1/policy/test?name={name}&type={rtype}{client}{group}");
                ask_and_print(ringdnsd, json, &path, show_policy_test).await
            }
            PolicyCommand::Overrides => overrides::list(ringdnsd, json).await,
            PolicyCommand::Clear { name, choice } => overrides::clear(ringdnsd, json, &name, &choice).await,
            PolicyCommand::Lists => ask_and_print(ringdnsd, json, "/v1/policy/lists", show_lists).await,
            PolicyCommand::Refresh { name } => upkeep::refresh(ringdnsd, json, name).await,
            PolicyCommand::Names { address } => {
                ask_and_print(ringdnsd, json, &format!("/v1/names?address={address}"), show_names).await
            }
            PolicyCommand::Bans => ask_and_print(ringdnsd, json, "/v1/policy/bans", show_bans).await,
            PolicyCommand::Floods => ask_and_print(ringdnsd, json, "/v1/policy/floods", show_floods).await,
        }
    }
}
