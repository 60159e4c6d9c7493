//! `ringctl cache list`: entries of the host cache, as they arrive.

use crate::{
    print::printable,
    table::{WIDTH, folded, shortened, terminal_width},
    talk::{Lines, Ringdnsd, escape},
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Empty};
use hyper::{Method, body::Bytes};
use ringdns_api::EntryView;
use std::io::{self, BufWriter, Write};

/// Options of `ringctl cache list`.
#[derive(Args)]
pub struct List {
    /// Show only this name.
    #[arg(long)]
    name: Option<String>,
    /// Show only this name and all names below it.
    #[arg(long, conflicts_with = "name")]
    suffix: Option<String>,
    /// Show only this record type.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    rtype: Option<String>,
    /// Show only entries in this state.
    #[arg(long)]
    state: Option<State>,
    /// Show only entries with at least this recent demand.
    #[arg(long, value_name = "NUMBER")]
    demand: Option<u16>,
    /// Sort: 1,000 entries are shown, or the number of --limit, which is 10,000 at most.
    #[arg(long)]
    sort: Option<Order>,
    /// Most entries to show.
    #[arg(short = 'n', long)]
    limit: Option<u64>,
    /// Show the records of each entry, too.
    #[arg(long)]
    records: bool,
}

/// State of an entry.
#[derive(Clone, Copy, ValueEnum)]
enum State {
    /// Within its TTL.
    Fresh,
    /// Expired, and may still be given if no new answer comes.
    Stale,
    /// Expired, and removed by the next sweep.
    Expired,
}

/// Order of the entries.
#[derive(Clone, Copy, ValueEnum)]
enum Order {
    /// Names in order, a zone before the names below it.
    Name,
    /// Entries in most demand first.
    Demand,
    /// Oldest entries first.
    Age,
    /// Entries that expire soonest first.
    Left,
    /// Largest entries first.
    Bytes,
}

impl List {
    /// Prints the entries.
    pub async fn print(&self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let mut lines = Lines::of(ringdnsd.open(Method::GET, &self.path(json), body).await?);
        let mut out = BufWriter::new(io::stdout().lock());
        let width = terminal_width();
        if !json {
            writeln!(out, "{}", head(width.unwrap_or(WIDTH)))?;
        }
        while let Some(line) = lines.next().await? {
            if json {
                out.write_all(line)?;
                writeln!(out)?;
                continue;
            }
            let entry = serde_json::from_slice(line).and_then(|line| serde_json::from_value(printable(line)));
            let entry: EntryView =
                entry.context("ringdnsd's answer cannot be read: use the ringctl of its version")?;
            show_row(&entry, width, &mut out)?;
        }
        Ok(out.flush()?)
    }

    /// Returns the path of the request.
    fn path(&self, json: bool) -> String {
        let word = |name: &str, value: Option<String>| {
            value.map(|value| format!("&{name}={}", escape(&value))).unwrap_or_default()
        };
        let value = |value: clap::builder::PossibleValue| value.get_name().to_owned();
        let parts = [
            word("name", self.name.clone()),
            word("suffix", self.suffix.clone()),
            word("type", self.rtype.clone()),
            word("state", self.state.and_then(|state| state.to_possible_value()).map(value)),
            word("demand", self.demand.map(|demand| demand.to_string())),
            word("sort", self.sort.and_then(|order| order.to_possible_value()).map(value)),
            word("limit", self.limit.map(|limit| limit.to_string())),
        ];
        format!("/v1/cache/list?records={}{}", json || self.records, parts.concat())
    }
}

/// Returns the line above the entries.
pub fn head(width: usize) -> String {
    row("NAME", ["TYPE", "FLAGS", "RCODE", "AGE", "LEFT", "DEMAND", "BYTES"], Some(width))
}

/// Returns a line: a name, and the rest in columns at the right. On a terminal, a name that is too long
/// lacks its middle.
fn row(name: &str, cells: [&str; 7], width: Option<usize>) -> String {
    let [rtype, flags, rcode, age, left, demand, bytes] = cells;
    let rest = format!(" {rtype:<5} {flags:<5} {rcode:<8} {age:>6} {left:>6} {demand:>6} {bytes:>5}");
    let room = width.unwrap_or(WIDTH).saturating_sub(rest.chars().count());
    match width {
        Some(_) => format!("{:<room$}{rest}", shortened(name, room)),
        None => format!("{name:<room$}{rest}"),
    }
}

/// Shows an entry, and its records if there are some.
pub fn show_row(entry: &EntryView, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let flags = [(entry.dnssec_ok, "DO"), (entry.checking_disabled, "CD")];
    let flags: Vec<_> = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    let left = match &*entry.state {
        "fresh" => entry.fresh_secs.to_string(),
        state => state.to_owned(),
    };
    let [age, demand, bytes] =
        [u64::from(entry.age_secs), entry.demand.into(), entry.bytes as u64].map(|number| number.to_string());
    let cells = [&entry.rtype, &*flags.join(","), &entry.rcode, &age, &left, &demand, &bytes];
    writeln!(out, "{}", row(&entry.name, cells, width).trim_end())?;
    entry.records.iter().try_for_each(|record| {
        let line = format!("    {record}\n");
        out.write_all(width.map_or_else(|| line.clone(), |width| folded(&line, width)).as_bytes())
    })
}
