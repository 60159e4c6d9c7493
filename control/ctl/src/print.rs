//! Text output: ringdnsd's answers formatted for people.

use crate::{
    table::{Table, folded, terminal_width},
    talk::Ringdnsd,
};
use anyhow::Context;
use ringdns_api::{
    BanView, DaemonStatus, EntryView, FloodView, ListChanges, ListRefresh, ListStatus, NameView, PolicyTest,
    Problem, RedisSweep, Report, ResourceUsage, Sweeps, Swept, Times, Told, TrustPointStatus, UpstreamStatus,
};
use ringdns_common::{printable::Printable, units::counted};
use serde_json::Value;
use std::io::{self, Write};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(super) fn print_as<T: serde::de::DeserializeOwned>(
    json: bool,
    body: &[u8],
    show: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    if json {
        let mut out = io::stdout().lock();
        out.write_all(body)?;
        return Ok(writeln!(out)?);
    }
    Ok(write_screen(&screen(body, show)?)?)
}

/// Returns the text that shows an answer.
pub(super) fn screen<T: serde::de::DeserializeOwned>(
    body: &[u8],
    show: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<String> {
    let read = serde_json::from_slice(body).and_then(|body| serde_json::from_value(printable(body)));
    let mut text = Vec::new();
    show(read.context("ringdnsd's answer cannot be read: use the ringctl of its version")?, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Prints a text. On a terminal, lines that are too long continue below.
pub(super) fn write_screen(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match terminal_width() {
        Some(width) => out.write_all(folded(text, width).as_bytes()),
        None => out.write_all(text.as_bytes()),
    }
}

/// Asks for a path, and prints the answer.
pub(super) async fn ask_and_print<T: serde::de::DeserializeOwned>(
    ringdnsd: &Ringdnsd,
    json: bool,
    path: &str,
    show: impl FnOnce(T, &mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    print_as(json, &ringdnsd.get(path).await?, show)
}

/// Escapes all texts of an answer: they come from servers and clients of ringdnsd, and go to a
/// terminal.
pub(super) fn printable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(Printable(text).to_string()),
        Value::Array(values) => values.into_iter().map(printable).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (Printable(name).to_string(), printable(value))).collect()
        }
        other => other,
    }
}

pub(super) fn show_status(status: DaemonStatus, out: &mut dyn Write) -> io::Result<()> {
    let state = match &status.obstacle {
        _ if status.ready => "answering queries",
        Some(obstacle) => &format!("NOT ready: {obstacle}"),
        None => "NOT ready",
    };
    let (hours, minutes) = (status.uptime_secs / 3600, status.uptime_secs / 60 % 60);
    writeln!(out, "ringdnsd {} (pid {}): {state}", status.version, status.pid)?;
    let mut line = |name: &str, text: String| writeln!(out, "{name:<11}{text}");
    line("up", format!("{hours} h {minutes} min {} s", status.uptime_secs % 60))?;
    line("receiving", status.receiving)?;
    for Problem { severity, text, since, .. } in status.problems {
        line("problem", format!("{}: {text}, since {}", severity.label(), time_of(since)))?;
    }
    line("workers", status.workers.to_string())?;
    if let Some(ResourceUsage { resident_bytes, allocated_bytes, open_files, cpu_secs, .. }) = status.process
    {
        let [resident, allocated] = [resident_bytes, allocated_bytes].map(|bytes| bytes >> 20);
        let memory = format!("{resident} MiB of memory ({allocated} MiB allocated)");
        line("resources", format!("{memory}, {open_files} open files, {cpu_secs:.0} s of CPU time"))?;
    }
    line("listening", status.listen.join(", "))?;
    for upstream in &status.upstreams {
        let state = if upstream.put_back { "in back-off after failures" } else { "in use" };
        let time = match &upstream.times {
            Times { count: 0, .. } => "no answer yet".to_owned(),
            Times { p50_us, p99_us, .. } => {
                format!("answers in {} ms, 99 % of them in {} ms", millis(*p50_us), millis(*p99_us))
            }
        };
        line("upstream", format!("{}: {state}, {time}", upstream.address))?;
    }
    status.trust_points.iter().try_for_each(|point| line("anchors", trust_point(point)))
}

/// Describes the keys of a zone whose trust anchors are managed, without those that are gone.
fn trust_point(point: &TrustPointStatus) -> String {
    let keys = point.keys.iter().filter(|key| key.state != "removed").map(|key| match key.until {
        Some(until) => format!("key {} {} until {}", key.tag, key.state, time_of(until)),
        None => format!("key {} {}", key.tag, key.state),
    });
    let refreshed = match point.refreshed {
        Some(refreshed) => format!("refreshed {}", time_of(refreshed)),
        None => "not refreshed since the start".to_owned(),
    };
    let keys: Vec<_> = keys.collect();
    format!("{}: {}; {refreshed}", point.zone, keys.join(", "))
}

/// Returns one line per upstream. Times are in milliseconds: the smoothed round trip, and
/// percentiles since the start.
pub(super) fn show_upstreams(upstreams: &[UpstreamStatus], width: usize) -> String {
    let heads = [
        "ADDRESS", "PROTOCOL", "ZONES", "GROUPS", "STATE", "QUERIES", "ANSWERS", "TIMEOUTS", "ERRORS", "RTT",
        "P50", "P90", "P99",
    ];
    let lines = upstreams.iter().map(|upstream| {
        let zones = if upstream.zones.is_empty() { "others".to_owned() } else { upstream.zones.join(",") };
        let groups = if upstream.groups.is_empty() { "all".to_owned() } else { upstream.groups.join(",") };
        let state = match upstream.back_off_ms {
            0 => "up".to_owned(),
            left => format!("back-off:{:.1}s", left as f64 / 1000.0),
        };
        let counts = [upstream.queries, upstream.answers, upstream.timeouts, upstream.errors];
        let times = &upstream.times;
        let took = [upstream.round_trip_us, times.p50_us, times.p90_us, times.p99_us];
        let words = [upstream.address.clone(), upstream.protocol.clone(), zones, groups, state];
        words.into_iter().chain(counts.map(|count| count.to_string())).chain(took.map(millis)).collect()
    });
    Table::new(&heads, 5).rows(lines).fit(width)
}

/// Prints one line per sweep, the newest last, then the sum of the last day: for the host cache,
/// and for Redis if there is one.
pub(super) fn show_sweeps(
    Sweeps { host, fleet }: Sweeps,
    width: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let heads = [
        "BEGAN", "SEEN", "STALE", "DEAD", "NEAR", "RENEWED", "SAME", "FAILED", "UNASKED", "PUT-OFF", "OVER",
        "SETTLED", "WALK", "TOOK",
    ];
    show_swept(heads, &host, (width, out), |report| {
        let Report { seen, stale, near, renewed, unchanged, failed, skipped, removed, .. } = report;
        let counts = [
            *seen,
            *stale,
            removed.dead,
            *near,
            *renewed,
            *unchanged,
            *failed,
            skipped.unasked,
            skipped.put_off,
            skipped.over_budget,
            skipped.settled,
        ];
        let took = [millis(report.walk_us), report.took_ms.to_string()];
        counts.map(|count| count.to_string()).into_iter().chain(took).collect()
    })?;
    let Some(fleet) = fleet else { return Ok(()) };
    writeln!(out, "\nof Redis, by this appliance")?;
    let heads = ["BEGAN", "KEPT", "SEEN", "ENDED", "LEAST", "IDLE", "ORPHANS", "CUT-SHORT", "TOOK"];
    show_swept(heads, &fleet, (width, out), |sweep| {
        let RedisSweep { kept, seen, ended, least, idle, orphans, cut_short, took_ms, .. } = *sweep;
        let counts = [kept, seen, ended, least, idle, orphans, cut_short, took_ms];
        counts.map(|count| count.to_string()).into()
    })
}

fn show_swept<R: Swept, const N: usize>(
    heads: [&str; N],
    told: &Told<R>,
    (width, out): (usize, &mut dyn Write),
    cells: impl Fn(&R) -> Vec<String>,
) -> io::Result<()> {
    let line = |began: String, sweep: &R| [vec![began], cells(sweep)].concat();
    let sum = line(format!("all {}", told.sweeps), &told.sum);
    let lines = told.last.iter().map(|sweep| line(time_of(sweep.at()), sweep));
    write!(out, "{}", Table::new(&heads, 1).rows(lines.chain([sum])).fit(width))
}

/// Formats a Unix time in UTC as in RFC 3339, or as a number if it is out of range.
pub(super) fn time_of(unix: u64) -> String {
    let time = i64::try_from(unix).ok().and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| unix.to_string())
}

/// Formats microseconds as milliseconds.
pub(super) fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1000.0)
}

/// Prints counters as `path.to.counter  value`, so that they can be grepped.
pub(super) fn show_counters(value: &Value, path: &str, all: bool, out: &mut dyn Write) -> io::Result<()> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| show_counters(value, &below(name), all, out))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| show_counters(value, &below(&at.to_string()), all, out)),
        Value::Null => Ok(()),
        Value::Number(n) if n.as_f64() == Some(0.0) && !all => Ok(()),
        Value::String(text) if text.len() > 29 => writeln!(out, "{path}  {text}"),
        Value::String(text) => writeln!(out, "{path:<50} {text}"),
        other => writeln!(out, "{path:<50} {other:>16}"),
    }
}

pub(super) fn show_entry(entry: &EntryView, out: &mut dyn Write) -> io::Result<()> {
    let flags = [(entry.dnssec_ok, " DO"), (entry.checking_disabled, " CD")];
    let flags: String = flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    let EntryView { name, rtype, rcode, state, age_secs, fresh_secs, left_secs, bytes, .. } = entry;
    writeln!(
        out,
        "{name} {rtype}{flags}: {rcode}, {state}, {age_secs} s old, fresh for {fresh_secs} s, \
         usable for {left_secs} s, {}",
        counted(*bytes as u64, "byte", "bytes")
    )?;
    entry.records.iter().try_for_each(|record| writeln!(out, "    {record}"))
}

/// Shows the verdict of the lists, and the rule that decides on a line of its own.
pub(super) fn show_policy_test(test: PolicyTest, out: &mut dyn Write) -> io::Result<()> {
    let PolicyTest { name, rtype, group, action, list, answer, rule, dry_run } = test;
    let by = list.map(|list| format!(" by list {list:?}")).unwrap_or_default();
    let answered = answer.map(|answer| format!(": {answer}")).unwrap_or_default();
    writeln!(out, "{} {rtype}: {action}{by}{answered}", Printable(name))?;
    if group != "default" && !group.is_empty() {
        writeln!(out, "for clients of the group {group:?}")?;
    }
    match rule {
        Some(rule) => writeln!(out, "{}:{}: {}", Printable(rule.file), rule.line, Printable(rule.text))?,
        None if !by.is_empty() => writeln!(out, "its rule is not in the list's file: has the file changed?")?,
        None => {}
    }
    for list in dry_run {
        writeln!(out, "list {list:?} would block it, had it no dry_run")?;
    }
    Ok(())
}

/// Shows each list with its state, and the error of its last download on a line of its own.
pub(super) fn show_lists(lists: Vec<ListStatus>, out: &mut dyn Write) -> io::Result<()> {
    if lists.is_empty() {
        return writeln!(out, "no lists are configured");
    }
    for ListStatus { name, source, rules, state, last_success, last_error } in lists {
        let rules = counted(rules, "rule", "rules");
        let since = last_success.map_or_else(|| "never".into(), time_of);
        writeln!(out, "{name}: {}, {rules}, {since}, {source}", state.label())?;
        if let Some(error) = last_error {
            writeln!(out, "    not renewed: {error}")?;
        }
    }
    Ok(())
}

/// Shows the results of renewals.
pub(super) fn show_refreshed(results: Vec<ListRefresh>, out: &mut dyn Write) -> io::Result<()> {
    if results.is_empty() {
        return writeln!(out, "no list is from a file or a URL");
    }
    for ListRefresh { name, changes, error } in results {
        match (error, changes) {
            (Some(error), _) => writeln!(out, "{name}: not renewed: {error}")?,
            (None, Some(ListChanges { added, removed })) => {
                writeln!(out, "{name}: +{added} -{removed} rules")?
            }
            (None, None) => writeln!(out, "{name}: unchanged")?,
        }
    }
    Ok(())
}

/// Shows the names of an address.
pub(super) fn show_names(names: Vec<NameView>, out: &mut dyn Write) -> io::Result<()> {
    if names.is_empty() {
        return writeln!(out, "no name is known");
    }
    names
        .into_iter()
        .try_for_each(|NameView { name, left_secs }| writeln!(out, "{} {left_secs} s left", Printable(name)))
}

/// Shows the banned prefixes.
pub(super) fn show_bans(bans: Vec<BanView>, out: &mut dyn Write) -> io::Result<()> {
    if bans.is_empty() {
        return writeln!(out, "no prefix is banned");
    }
    bans.iter()
        .try_for_each(|BanView { prefix, left_secs }| writeln!(out, "{prefix:<43} {left_secs:>5} s left"))
}

/// Shows the zones that are capped.
pub(super) fn show_floods(floods: Vec<FloodView>, out: &mut dyn Write) -> io::Result<()> {
    if floods.is_empty() {
        return writeln!(out, "no zone is capped");
    }
    floods.iter().try_for_each(|FloodView { zone, per_second, refused, lasts_secs }| {
        writeln!(out, "{zone:<43} {per_second:>8} a second, {refused} refused in {lasts_secs} s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TXT record may hold any bytes, and its server is anybody.
    #[test]
    fn no_record_controls_the_terminal() {
        let evil = "x. 60 IN TXT \"\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\nforged\"";
        let body = serde_json::json!({ "error": evil, evil: [evil, 5, null, { "a": evil }] });
        let shown = printable(body);
        let text = "x. 60 IN TXT \"\\u{1b}]0;title\\u{7}\\u{9b}2J\\u{202e}\\nforged\"";
        let expected = serde_json::json!({ "error": text, text: [text, 5, null, { "a": text }] });
        assert_eq!(shown, expected);
    }
}
