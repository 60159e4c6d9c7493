//! `ringctl block`, `allow`, `pause`, `resume`, `policy overrides` and `policy clear`.

use crate::{
    print::print_as,
    talk::{Ringdnsd, escape},
};
use hyper::Method;
use ringdns_api::{Override, OverrideAction, Overrides, Pause};
use ringdns_common::{printable::Printable, units::TimeSpan};
use std::{
    io::{self, Write},
    net::IpAddr,
};

/// Clients and time of an override.
#[derive(clap::Args)]
pub struct Extent {
    /// End after this time: "30m", "1h", "2d". Without it, it stays until it is cleared.
    #[arg(long = "for", value_name = "TIME")]
    time: Option<TimeSpan>,
    /// Only for clients of this group; "default" is that of clients in no other.
    #[arg(long)]
    group: Option<String>,
}

/// Clients of an override.
#[derive(clap::Args)]
pub struct GroupChoice {
    /// Only for clients of this group.
    #[arg(long)]
    group: Option<String>,
}

/// Clients and time of a pause.
#[derive(clap::Args)]
pub struct Pausing {
    #[command(flatten)]
    extent: Extent,
    /// Only for the client with this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "group")]
    client: Option<IpAddr>,
}

/// Clients of a pause.
#[derive(clap::Args)]
pub struct PauseChoice {
    #[command(flatten)]
    group: GroupChoice,
    /// Only for the client with this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "group")]
    client: Option<IpAddr>,
}

impl Extent {
    /// Returns the parameters of a request, each with `&` in front.
    fn parameters(&self) -> String {
        let seconds = self.time.map(|time| format!("&seconds={}", time.0.as_secs())).unwrap_or_default();
        seconds + &group(self.group.as_deref())
    }
}

fn group(group: Option<&str>) -> String {
    group.map(|group| format!("&group={}", escape(group))).unwrap_or_default()
}

fn client(client: Option<IpAddr>) -> String {
    client.map(|client| format!("&client={}", escape(&client.to_string()))).unwrap_or_default()
}

/// Blocks or allows a name.
pub async fn add(
    ringdnsd: &Ringdnsd,
    json: bool,
    action: OverrideAction,
    name: &str,
    extent: &Extent,
) -> anyhow::Result<()> {
    let word = match action {
        OverrideAction::Block => "block",
        OverrideAction::Allow => "allow",
    };
    let path = format!("/v1/policy/override?name={}&action={word}{}", escape(name), extent.parameters());
    let body = ringdnsd.ask(Method::POST, &path).await?;
    print_as(json, &body, |entry: Override, out| show(&entry, out))
}

/// Removes the override for a name.
pub async fn clear(ringdnsd: &Ringdnsd, json: bool, name: &str, choice: &GroupChoice) -> anyhow::Result<()> {
    let path = format!("/v1/policy/clear?name={}{}", escape(name), group(choice.group.as_deref()));
    let body = ringdnsd.ask(Method::POST, &path).await?;
    print_as(json, &body, |cleared: bool, out| {
        writeln!(
            out,
            "{}",
            if cleared { "cleared: lists decide again" } else { "there was no such override" }
        )
    })
}

/// Pauses the lists.
pub async fn pause(ringdnsd: &Ringdnsd, json: bool, pausing: &Pausing) -> anyhow::Result<()> {
    let parameters = pausing.extent.parameters() + &client(pausing.client);
    let body = ringdnsd.ask(Method::POST, &format!("/v1/policy/pause?{}", first(&parameters))).await?;
    print_as(json, &body, |pause: Pause, out| show_pause(&pause, out))
}

/// Ends a pause.
pub async fn resume(ringdnsd: &Ringdnsd, json: bool, choice: &PauseChoice) -> anyhow::Result<()> {
    let parameters = group(choice.group.group.as_deref()) + &client(choice.client);
    let body = ringdnsd.ask(Method::POST, &format!("/v1/policy/resume?{}", first(&parameters))).await?;
    print_as(json, &body, |resumed: bool, out| {
        writeln!(out, "{}", if resumed { "lists decide again" } else { "they were not paused" })
    })
}

/// Returns parameters without the `&` in front.
fn first(parameters: &str) -> &str {
    parameters.strip_prefix('&').unwrap_or(parameters)
}

/// Shows all overrides and pauses.
pub async fn list(ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
    let body = ringdnsd.get("/v1/policy/overrides").await?;
    print_as(json, &body, show_all)
}

/// Shows pauses and overrides.
pub fn show_all(Overrides { overrides, pauses }: Overrides, out: &mut dyn Write) -> io::Result<()> {
    if overrides.is_empty() && pauses.is_empty() {
        return writeln!(out, "none");
    }
    pauses.iter().try_for_each(|pause| show_pause(pause, out))?;
    overrides.iter().try_for_each(|entry| show(entry, out))
}

fn show(entry: &Override, out: &mut dyn Write) -> io::Result<()> {
    let word = match entry.action {
        OverrideAction::Block => "blocked",
        OverrideAction::Allow => "allowed",
    };
    let extent = extent(entry.group.as_deref(), entry.until.as_deref());
    writeln!(out, "{} and names below it are {word}{extent}", Printable(&entry.name))
}

fn show_pause(pause: &Pause, out: &mut dyn Write) -> io::Result<()> {
    let client = pause.client.as_ref().map(|client| format!(" for the client {}", Printable(client)));
    let extent = extent(pause.group.as_deref(), pause.until.as_deref());
    writeln!(out, "no list decides{}{extent}", client.unwrap_or_default())
}

fn extent(group: Option<&str>, until: Option<&str>) -> String {
    let group = group.map(|group| format!(" for the group {group:?}")).unwrap_or_default();
    group + &until.map(|until| format!(" until {until}")).unwrap_or_default()
}
