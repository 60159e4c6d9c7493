//! Every counter of the process, as JSON.

use super::{Service, metrics::blocked};
use crate::{nic::LinkState, process::resource_usage};
use ringdns_common::counters::Total;
use ringdns_dataplane::{
    punt::Link,
    stats::{Counter, DropReason, StatsSnapshot},
};
use ringdns_querylog::{LogCounters, QueryLog};
use ringdns_resolver::{policy::ListCounters, tier::SharedTier};
use serde_json::{Map, Value, json};

/// Returns all counters of the process.
pub fn all(service: &Service) -> Value {
    let mut sum = StatsSnapshot::default();
    for link in &service.links {
        sum.merge(&link.stats.snapshot());
    }
    let host = service.resolver.host();
    let (used, capacity) = host.bytes();
    json!({
        "uptime_secs": service.clock.secs(),
        "process": resource_usage().ok(),
        "total": worker(&sum),
        "workers": service.links.iter().map(|link| one(link)).collect::<Vec<_>>(),
        "interface": service.receiving.is_by_xdp().map(|by_xdp| json!({
            "by_xdp": by_xdp,
            "link_up": service.receiving.link() == LinkState::Up,
            "counters": totals(service.receiving.counters.totals()),
        })),
        "xdp": (service.verdicts)().map(|verdicts| {
            verdicts.iter().map(|(verdict, n)| (verdict.name().to_owned(), n.into())).collect::<Map<_, _>>()
        }),
        "host": {
            "entries": host.len(), "bytes": used, "capacity": capacity,
            "counters": totals(host.counters.totals()),
        },
        "resolver": {
            "under_way": service.resolver.under_way(),
            "range_bytes": service.resolver.range_bytes(),
            "capped_zones": service.resolver.capped_zones().len(),
            "counters": totals(service.resolver.counters.totals()),
        },
        "trust_anchors": totals(service.resolver.anchor_counters.totals()),
        "sweeps": totals(service.sweeper.counters.totals()),
        "snapshot": service.snapshot.as_ref().map(|snapshot| json!({
            "entries": snapshot.entries(),
            "counters": totals(snapshot.counters.totals()),
        })),
        "fleet": service.fleet.as_ref().map(|fleet| json!({
            "up": fleet.is_up(),
            "queued": fleet.queued(),
            "keys": fleet.keys(),
            "counters": totals(fleet.counters.totals()),
        })),
        "upstreams": service.resolver.upstreams().iter().map(|upstream| json!({
            "address": upstream.label.clone(),
            "put_back": upstream.is_put_back(service.clock.nanos()),
            "round_trip_us": upstream.health().round_trip.as_micros() as u64,
            "counters": totals(upstream.counters.totals()),
        })).collect::<Vec<_>>(),
        "bans": { "active": service.bans.len(), "counters": totals(service.bans.counters.totals()) },
        "names": service.firewall.as_ref().and_then(|firewall| firewall.names.as_ref()).map(|names| json!({
            "entries": names.len(),
            "counters": totals(names.counters.totals()),
        })),
        "nftset": service.firewall.as_ref().and_then(|firewall| firewall.sets.as_ref()).map(|sets| {
            totals(sets.counters.totals())
        }),
        "lists": lists(service),
        "listeners": totals((service.listeners)()),
        "api": totals(service.api.totals()),
        "captures": totals(service.captures.counters.totals()),
        "dnstap": service.tap.as_ref().map(|tap| {
            let sums = tap.sums();
            let lost: Map<_, _> = sums.losses().map(|(reason, lost)| (reason.to_owned(), lost.into())).into_iter().collect();
            json!({
                "connected": tap.is_connected(),
                "offered": sums.offered,
                "lost": lost,
                "in_hand": sums.in_hand(),
                "counters": totals(tap.counters.totals()),
            })
        }),
        "query_log": service.log.as_ref().map(|log| query_log(log, service, &sum)),
    })
}

/// Returns the answers of each list by group of clients, and the questions of its dry run.
fn lists(service: &Service) -> Map<String, Value> {
    let (groups, counts) = (service.reloader.group_names(), service.resolver.list_counts().all());
    let of_list = |counters: &ListCounters| {
        let blocked = blocked(service, counters, &groups);
        let blocked = blocked.into_iter().map(|(group, count)| (group.to_string(), count.into()));
        json!({ "blocked": blocked.collect::<Map<_, _>>(), "dry_run": counters.dry_run.get() })
    };
    counts.iter().map(|(list, counters)| (list.to_string(), of_list(counters))).collect()
}

/// Returns the sums of the query log over workers and TCP: `recorded = handed_on + unlogged +
/// unwanted + dropped + in_hand`.
fn query_log(log: &QueryLog, service: &Service, workers: &StatsSnapshot) -> Value {
    let LogCounters {
        tcp_recorded, tcp_excluded, tcp_full, handed_on, writer_full, unlogged, unwanted, ..
    } = &log.counters;
    let no_batch = workers.get(Counter::LogNoBatch);
    let ended = [handed_on, unlogged, unwanted, tcp_full, writer_full]
        .map(|counter| counter.get())
        .iter()
        .sum::<u64>();
    let recorded = workers.get(Counter::LogRecorded) + tcp_recorded.get();
    json!({
        "recorded": recorded,
        "excluded": workers.get(Counter::LogExcluded) + tcp_excluded.get(),
        "handed_on": handed_on.get(),
        "unlogged": unlogged.get(),
        "unwanted": unwanted.get(),
        "dropped": { "no_batch": no_batch, "tcp_full": tcp_full.get(), "writer_full": writer_full.get() },
        "in_hand": recorded as i64 - (ended + no_batch) as i64,
        "taps": log.taps.len(),
        "client_names": log.client_names().map(|names| {
            let mut counts = totals(names.gauges());
            counts.extend(totals(names.totals()));
            counts
        }),
        "counters": totals(log.counters.totals()),
        // State of the rows handed on, if rows are kept.
        "rows": service.config.shipping.as_ref().map(|_| {
            let sums = log.ledger.sums();
            let mut rows = totals(sums.totals());
            rows.extend(totals(sums.gauges()));
            rows.insert("unaccounted".into(), sums.unaccounted().into());
            rows
        }),
    })
}

fn totals(totals: Vec<Total>) -> Map<String, Value> {
    totals.into_iter().map(|total| (total.name.to_owned(), total.value.into())).collect()
}

/// Returns a worker's counters. `unaccounted` is 0 if their sums close.
fn worker(snapshot: &StatsSnapshot) -> Map<String, Value> {
    let counters = Counter::ALL.iter().map(|c| (c.label().to_owned(), snapshot.get(*c).into()));
    let dropped = DropReason::ALL.iter().map(|r| (r.label().to_owned(), snapshot.dropped(*r).into()));
    let mut worker: Map<String, Value> = counters.collect();
    worker.insert("dropped".into(), Value::Object(dropped.collect()));
    worker.insert("unaccounted".into(), snapshot.unaccounted().into());
    worker.insert("punts_waiting".into(), snapshot.punts_waiting().into());
    worker
}

fn one(link: &Link) -> Value {
    let published = link.port.read();
    let [free, fill, held, tx] = published.frames;
    let mut value = worker(&link.stats.snapshot());
    value.insert("worker".into(), link.worker.into());
    value.insert("punts_queued".into(), link.queued().into());
    value.insert("port".into(), Value::Object(totals(published.port.totals())));
    value.insert("frames".into(), json!({ "free": free, "fill": fill, "held": held, "tx": tx }));
    let cache = published.cache;
    value.insert(
        "cache".into(),
        json!({
            "entries": cache.entries, "used": cache.used, "removed": cache.removed, "capacity": cache.capacity,
        }),
    );
    Value::Object(value)
}
