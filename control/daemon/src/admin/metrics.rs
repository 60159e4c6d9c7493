//! Every counter of the process, in Prometheus' text format.

use super::{Service, exposition::Text};
use crate::{nic::LinkState, panics, process::resource_usage};
use ringdns_api::ListState;
use ringdns_common::counters::Total;
use ringdns_dataplane::{
    group::Group,
    port::PortStats,
    stats::{Counter, DropReason, StatsSnapshot},
};
use ringdns_resolver::{policy::ListCounters, tier::SharedTier};
use std::{collections::BTreeMap, sync::Arc};

/// Returns all metrics.
pub fn text(service: &Service) -> String {
    let mut text = Text::default();
    workers(service, &mut text);
    if let Some(verdicts) = (service.verdicts)() {
        let name = "ringdns_xdp_packets_total";
        text.head(name, "counter", "Packets that the XDP program has seen, by verdict.");
        for (verdict, n) in verdicts.iter() {
            text.line(name, &[("verdict", &verdict.name())], n);
        }
    }
    if let Some(by_xdp) = service.receiving.is_by_xdp() {
        let up = service.receiving.link() == LinkState::Up;
        text.gauge("ringdns_interface_by_xdp", "Whether AF_XDP is in use (1) or lost (0).", u8::from(by_xdp));
        text.gauge("ringdns_interface_link_up", "Whether the link of server.interface is up.", u8::from(up));
        text.totals("ringdns_interface", &service.receiving.counters.totals());
    }
    let host = service.resolver.host();
    let (used, capacity) = host.bytes();
    text.gauge("ringdns_host_entries", "Entries in the host cache.", host.len());
    text.gauge("ringdns_host_bytes", "Bytes used by the host cache.", used);
    text.gauge("ringdns_host_capacity_bytes", "Capacity of the host cache in bytes.", capacity);
    text.totals("ringdns_host", &host.counters.totals());
    text.gauge(
        "ringdns_resolver_under_way",
        "Questions in flight to upstreams.",
        service.resolver.under_way(),
    );
    text.gauge(
        "ringdns_resolver_range_bytes",
        "Bytes used by validated denials that answer other questions (RFC 8198).",
        service.resolver.range_bytes(),
    );
    text.totals("ringdns_resolver", &service.resolver.counters.totals());
    text.gauge(
        "ringdns_resolver_capped_zones",
        "Zones capped at this moment because of floods of random names.",
        service.resolver.capped_zones().len(),
    );
    text.gauge("ringdns_bans", "Prefixes banned at this moment.", service.bans.len());
    text.totals("ringdns_bans", &service.bans.counters.totals());
    firewall(service, &mut text);
    lists(service, &mut text);
    list_states(service, &mut text);
    trust_points(service, &mut text);
    text.totals("ringdns_sweep", &service.sweeper.counters.totals());
    if let Some(snapshot) = &service.snapshot {
        text.gauge("ringdns_snapshot_entries", "Entries in the snapshot on disk.", snapshot.entries());
        text.totals("ringdns_snapshot", &snapshot.counters.totals());
    }
    if let Some(fleet) = &service.fleet {
        text.gauge("ringdns_fleet_up", "Whether Redis is healthy and in use.", u8::from(fleet.is_up()));
        text.gauge("ringdns_fleet_queued", "Answers that wait to be stored in Redis.", fleet.queued());
        text.gauge(
            "ringdns_fleet_keys",
            "Answers in the index of Redis when this appliance last changed it.",
            fleet.keys(),
        );
        text.totals("ringdns_fleet", &fleet.counters.totals());
    }
    text.totals("ringdns_listener", &(service.listeners)());
    text.totals("ringdns_api", &service.api.totals());
    if let Some(log) = &service.log {
        text.totals("ringdns_query_log", &log.counters.totals());
        if let Some(names) = log.client_names() {
            for gauge in names.gauges() {
                text.gauge(&format!("ringdns_client_names_{}", gauge.name), gauge.doc, gauge.value);
            }
            text.totals("ringdns_client_names", &names.totals());
        }
        text.gauge("ringdns_query_log_taps", "Open taps of the query log (GET /log/tap).", log.taps.len());
        let sums = log.ledger.sums();
        text.totals("ringdns_query_log_rows", &sums.totals());
        for gauge in sums.gauges() {
            text.gauge(&format!("ringdns_query_log_rows_{}", gauge.name), gauge.doc, gauge.value);
        }
    }
    upstreams(service, &mut text);
    process(&mut text);
    let name = "ringdns_panics_total";
    text.head(name, "counter", "Panics: defects of ringdnsd, each of which ended one task or thread.");
    text.line(name, &[], panics::count());
    text.gauge("ringdns_uptime_seconds", "Seconds since the start of ringdnsd.", service.clock.secs());
    text.finish()
}

/// Adds the addresses of names that firewalls know.
fn firewall(service: &Service, text: &mut Text) {
    let Some(firewall) = &service.firewall else { return };
    if let Some(names) = &firewall.names {
        text.gauge("ringdns_names_entries", "Pairs of an address and a name that are kept.", names.len());
        text.totals("ringdns_names", &names.counters.totals());
    }
    if let Some(sets) = &firewall.sets {
        text.totals("ringdns_nftset", &sets.counters.totals());
    }
}

/// Adds the resource usage of the process, under Prometheus' standard names where there are any.
fn process(text: &mut Text) {
    let Ok(taken) = resource_usage() else { return };
    text.gauge("process_resident_memory_bytes", "Resident memory in bytes.", taken.resident_bytes);
    text.gauge("process_virtual_memory_bytes", "Virtual memory in bytes.", taken.virtual_bytes);
    text.gauge("ringdns_allocated_bytes", "Bytes allocated and not yet freed.", taken.allocated_bytes);
    text.gauge("process_open_fds", "Open files and sockets.", taken.open_files);
    if let Some(most) = taken.open_files_max {
        text.gauge("process_max_fds", "Most files and sockets that may be open.", most);
    }
    text.gauge("process_threads", "Threads of the process.", taken.threads);
    let name = "process_cpu_seconds_total";
    text.head(name, "counter", "CPU time since the start in seconds.");
    text.line(name, &[], taken.cpu_secs);
}

/// Adds the lists. Counters of a list outlive it.
fn lists(service: &Service, text: &mut Text) {
    let counts = service.resolver.list_counts().all();
    if counts.is_empty() {
        return;
    }
    let name = "ringdns_blocked_total";
    text.head(name, "counter", "Answers that a list gave to the clients of a group, from all tiers.");
    let groups = service.reloader.group_names();
    for (list, counters) in &counts {
        for (group, count) in blocked(service, counters, &groups) {
            text.line(name, &[("list", list), ("group", &group)], count);
        }
    }
    let name = "ringdns_list_dry_run_total";
    text.head(name, "counter", "Cache misses that a list with dry_run = true would have answered.");
    for (list, counters) in &counts {
        text.line(name, &[("list", list)], counters.dry_run.get());
    }
    let Some(policy) = service.resolver.policy() else { return };
    let name = "ringdns_list_entries";
    text.head(name, "gauge", "Rules of a list.");
    for list in policy.policies().all().block_lists() {
        text.line(name, &[("list", &list.name)], list.list.counts().rules);
    }
}

/// Adds the states of all lists.
fn list_states(service: &Service, text: &mut Text) {
    let lists = service.lists.status();
    if lists.is_empty() {
        return;
    }
    let name = "ringdns_list_state";
    text.head(name, "gauge", "Whether a list is fresh, stale or degraded.");
    for list in &lists {
        for state in ListState::ALL {
            let is_it = u8::from(list.state == state);
            text.line(name, &[("list", &list.name), ("state", &state.label())], is_it);
        }
    }
    let name = "ringdns_list_last_success_timestamp_seconds";
    text.head(name, "gauge", "Unix time at which a list was read, or last confirmed by its server.");
    for list in &lists {
        if let Some(success) = list.last_success {
            text.line(name, &[("list", &list.name)], success);
        }
    }
}

/// Returns the answers of a list to the clients of each group, from all tiers. A group may have several
/// numbers.
pub(super) fn blocked<'a>(
    service: &Service,
    counters: &ListCounters,
    names: &'a [Arc<str>],
) -> BTreeMap<&'a str, u64> {
    let mut blocked = BTreeMap::new();
    for (name, (number, count)) in names.iter().zip(counters.blocked.iter().enumerate()) {
        let group = Group::new(number).zip(counters.number);
        let of_workers = group.map_or(0, |(group, list)| {
            service.links.iter().map(|link| link.stats.lists.get(list, group)).sum::<u64>()
        });
        *blocked.entry(&**name).or_default() += count.get() + of_workers;
    }
    blocked
}

fn workers(service: &Service, text: &mut Text) {
    let read: Vec<_> = service
        .links
        .iter()
        .map(|link| (link.worker.to_string(), link.stats.snapshot(), link.port.read()))
        .collect();
    for counter in Counter::ALL {
        let name = format!("ringdns_worker_{}_total", counter.label());
        text.head(&name, "counter", counter.doc());
        for (worker, stats, _) in &read {
            text.line(&name, &[("worker", worker)], stats.get(*counter));
        }
    }
    let name = "ringdns_worker_dropped_total";
    text.head(name, "counter", "Received frames that a worker dropped, by reason.");
    for (worker, stats, _) in &read {
        for reason in DropReason::ALL {
            text.line(name, &[("worker", worker), ("reason", &reason.label())], stats.dropped(*reason));
        }
    }
    let name = "ringdns_rate_limited_total";
    text.head(name, "counter", "Queries over the rate limit, by action.");
    let mut all = StatsSnapshot::default();
    read.iter().for_each(|(_, stats, _)| all.merge(stats));
    for (action, count) in [
        ("drop", all.dropped(DropReason::Limited)),
        ("slip", all.get(Counter::Slipped)),
        ("dry_run", all.get(Counter::LimitDryRun)),
    ] {
        text.line(name, &[("action", &action)], count);
    }
    let ports: Vec<_> = read.iter().map(|(_, _, published)| published.port.totals()).collect();
    for (at, Total { name, doc, .. }) in PortStats::default().totals().into_iter().enumerate() {
        let name = format!("ringdns_port_{name}_total");
        text.head(&name, "counter", doc);
        for ((worker, ..), totals) in read.iter().zip(&ports) {
            text.line(&name, &[("worker", worker)], totals[at].value);
        }
    }
    for (name, doc) in [
        ("ringdns_cache_entries", "Entries in a worker cache."),
        ("ringdns_cache_used_bytes", "Bytes used by a worker cache."),
        ("ringdns_cache_capacity_bytes", "Capacity of a worker cache in bytes."),
    ] {
        text.head(name, "gauge", doc);
        for (worker, _, published) in &read {
            let cache = published.cache;
            let value = match name {
                "ringdns_cache_entries" => cache.entries,
                "ringdns_cache_used_bytes" => cache.used,
                _ => cache.capacity,
            };
            text.line(name, &[("worker", worker)], value);
        }
    }
}

/// Adds the trust anchors that are managed, if any are.
fn trust_points(service: &Service, text: &mut Text) {
    let points = service.resolver.trust_points();
    if points.is_empty() {
        return;
    }
    let name = "ringdns_trust_anchor_keys";
    text.head(name, "gauge", "Keys of a zone whose trust anchors are managed, by state.");
    for point in &points {
        for state in ["pending", "valid", "missing", "revoked", "removed"] {
            let count = point.keys.iter().filter(|key| key.state == state).count();
            text.line(name, &[("zone", &point.zone), ("state", &state)], count);
        }
    }
    let name = "ringdns_trust_anchor_refreshed_timestamp_seconds";
    text.head(name, "gauge", "Unix time of the last successful refresh of a zone's trust anchors.");
    for point in &points {
        if let Some(refreshed) = point.refreshed {
            text.line(name, &[("zone", &point.zone)], refreshed);
        }
    }
    text.totals("ringdns_trust_anchor", &service.resolver.anchor_counters.totals());
}

fn upstreams(service: &Service, text: &mut Text) {
    let read: Vec<_> = service
        .resolver
        .upstreams()
        .iter()
        .map(|upstream| (upstream.label.clone(), upstream.clone()))
        .collect();
    let Some((_, first)) = read.first() else { return };
    for (at, total) in first.counters.totals().iter().enumerate() {
        let name = format!("ringdns_upstream_{}_total", total.name);
        text.head(&name, "counter", total.doc);
        for (address, upstream) in &read {
            text.line(&name, &[("upstream", address)], upstream.counters.totals()[at].value);
        }
    }
    let name = "ringdns_upstream_round_trip_seconds";
    text.head(name, "gauge", "Smoothed round-trip time of an upstream in seconds.");
    for (address, upstream) in &read {
        text.line(name, &[("upstream", address)], upstream.health().round_trip.as_secs_f64());
    }
    let name = "ringdns_upstream_put_back";
    text.head(name, "gauge", "Whether an upstream is in back-off after failures.");
    for (address, upstream) in &read {
        let put_back = upstream.is_put_back(service.clock.nanos());
        text.line(name, &[("upstream", address)], u8::from(put_back));
    }
    let name = "ringdns_upstream_answer_seconds";
    text.head(name, "histogram", "Time until an upstream answered or reported a failure, in seconds.");
    for (address, upstream) in &read {
        text.histogram(name, address, &upstream.times());
    }
}
