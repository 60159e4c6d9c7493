//! `ringctl explain`: what would become of a query.

use crate::{
    print::{print_as, show_entry, time_of},
    talk::{Ringdnsd, escape},
};
use clap::Args;
use ringdns_api::{Explained, ExplainedWorker, RulePlace};
use std::{
    io::{self, Write},
    net::IpAddr,
};

/// Options of `ringctl explain`.
#[derive(Args)]
pub struct Explain {
    /// Domain name.
    name: String,
    /// Record type.
    #[arg(default_value = "A")]
    rtype: String,
    /// Address of the client that asks.
    #[arg(long, conflicts_with = "group")]
    client: Option<IpAddr>,
    /// Group of the client that asks.
    #[arg(long)]
    group: Option<String>,
    /// The client sets DO: it wants DNSSEC records.
    #[arg(long)]
    dnssec: bool,
    /// The client sets CD: it checks DNSSEC itself.
    #[arg(long)]
    cd: bool,
}

impl Explain {
    /// Asks and prints.
    pub async fn print(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        let (name, rtype) = (escape(&self.name), escape(&self.rtype));
        let client = self.client.map(|client| format!("&client={client}")).unwrap_or_default();
        let group = self.group.as_ref().map(|group| format!("&group={}", escape(group))).unwrap_or_default();
        let flags = format!("&dnssec_ok={}&checking_disabled={}", self.dnssec, self.cd);
        let path = format!("/v1/explain?name={name}&type={rtype}{client}{group}{flags}");
        let body = ringdnsd.get(&path).await?;
        print_as(json, &body, show)
    }
}

/// Shows an explanation.
pub fn show(explained: Explained, out: &mut dyn Write) -> io::Result<()> {
    let Explained { verdict, policy, .. } = &explained;
    writeln!(out, "{} {}: {verdict}", policy.name, policy.rtype)?;
    let client = explained.client.as_deref().unwrap_or("any");
    let banned = explained.banned.as_ref().map(|prefix| format!(", {prefix} is banned")).unwrap_or_default();
    writeln!(out, "client     {client}, group {}, {}{banned}", policy.group, explained.access)?;
    let list = policy.list.as_ref().map(|list| format!(" by {list:?}")).unwrap_or_default();
    let answer = policy.answer.as_ref().map(|answer| format!(": {answer}")).unwrap_or_default();
    writeln!(out, "policy     {}{list}{answer}", policy.action)?;
    if let Some(RulePlace { file, line, text }) = &policy.rule {
        writeln!(out, "           {file}:{line}: {text}")?;
    }
    for list in &policy.dry_run {
        writeln!(out, "           {list:?} would answer, but for dry_run")?;
    }
    for worker in &explained.workers {
        writeln!(out, "worker {:<3} {}", worker.worker, state(worker))?;
    }
    match (explained.host.is_empty(), explained.special) {
        (true, true) => writeln!(out, "host       special-use name: answered here, without an upstream")?,
        (true, false) => writeln!(out, "host       absent")?,
        (false, _) => {}
    }
    for entry in &explained.host {
        show_entry(entry, out)?;
    }
    for miss in &explained.misses {
        let flags = match (miss.dnssec_ok, miss.checking_disabled) {
            (false, false) => "",
            (true, false) => " with DO",
            (false, true) => " with CD",
            (true, true) => " with DO and CD",
        };
        writeln!(out, "last miss  {}{flags}: {}", time_of(miss.at), miss.text)?;
    }
    writeln!(out, "upstreams  of {}", explained.zone)?;
    for upstream in &explained.upstreams {
        let state = match upstream.back_off_ms {
            0 => "in use".to_owned(),
            left => format!("in back-off for {} s", left.div_ceil(1_000)),
        };
        writeln!(out, "           {}: {state}", upstream.address)?;
    }
    if let Some(zone) = &explained.capped {
        writeln!(out, "           {zone} is capped: it is flooded with random names")?;
    }
    Ok(())
}

fn state(worker: &ExplainedWorker) -> String {
    let rcode = worker.rcode.as_deref().unwrap_or_default();
    let list = if worker.by_list { ", of a list" } else { "" };
    match &*worker.state {
        "fresh" => {
            format!("fresh: {rcode}, {} s old, {} s left{list}", worker.age_secs, worker.fresh_secs)
        }
        "stale" => format!("expired: {rcode}, {} s old{list}", worker.age_secs),
        other => other.to_owned(),
    }
}
