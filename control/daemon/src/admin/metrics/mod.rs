//! Every counter of the process, as families of metrics.

mod overview;

use super::{Service, exposition::Families};
use crate::{
    nic::LinkState,
    panics,
    process::{resource_usage, worker_usage},
};
use ringdns_api::{ListState, ProblemKind};
use ringdns_common::{counters::Total, shared_core};
use ringdns_dataplane::{
    group::Group,
    latency::Latencies,
    port::PortStats,
    stats::{Counter, DropReason, StatsSnapshot},
};
use ringdns_resolver::{policy::ListCounters, tier::SharedTier};
use std::{collections::BTreeMap, sync::Arc};

/// Returns all metrics.
pub fn families(service: &Service, latencies: &Latencies) -> Families {
    let mut families = Families::default();
    overview::add(service, latencies, &mut families);
    workers(service, &mut families);
    worker_threads(&mut families);
    if let Some(verdicts) = (service.verdicts)() {
        let name = "ringdns_xdp_packets_total";
        families.counters(name, "Packets that the XDP program has seen, by verdict.");
        for (verdict, n) in verdicts.iter() {
            families.sample(&[("verdict", &verdict.name())], n);
        }
    }
    if let Some(by_xdp) = service.receiving.is_by_xdp() {
        let up = service.receiving.link() == LinkState::Up;
        families.gauge("ringdns_interface_by_xdp", "Whether AF_XDP is in use (1) or lost (0).", by_xdp);
        families.gauge("ringdns_interface_link_up", "Whether the link of server.interface is up.", up);
        families.totals("ringdns_interface", &service.receiving.counters.totals());
    }
    let host = service.resolver.host();
    let (used, capacity) = host.bytes();
    families.gauge("ringdns_host_entries", "Entries in the host cache.", host.len());
    families.gauge("ringdns_host_bytes", "Bytes used by the host cache.", used);
    families.gauge("ringdns_host_capacity_bytes", "Capacity of the host cache in bytes.", capacity);
    families.totals("ringdns_host", &host.counters.totals());
    families.gauge(
        "ringdns_resolver_under_way",
        "Questions in flight to upstreams.",
        service.resolver.under_way(),
    );
    families.gauge(
        "ringdns_resolver_range_bytes",
        "Bytes used by validated denials that answer other questions (RFC 8198).",
        service.resolver.range_bytes(),
    );
    families.totals("ringdns_resolver", &service.resolver.counters.totals());
    families.gauge(
        "ringdns_resolver_capped_zones",
        "Zones capped at this moment because of floods of random names.",
        service.resolver.capped_zones().len(),
    );
    families.gauge("ringdns_bans", "Prefixes banned at this moment.", service.bans.len());
    families.totals("ringdns_bans", &service.bans.counters.totals());
    firewall(service, &mut families);
    lists(service, &mut families);
    list_states(service, &mut families);
    trust_points(service, &mut families);
    families.totals("ringdns_sweep", &service.sweeper.counters.totals());
    if let Some(snapshot) = &service.snapshot {
        families.gauge("ringdns_snapshot_entries", "Entries in the snapshot on disk.", snapshot.entries());
        families.totals("ringdns_snapshot", &snapshot.counters.totals());
    }
    if let Some(fleet) = &service.fleet {
        families.gauge("ringdns_fleet_up", "Whether Redis is healthy and in use.", fleet.is_up());
        families.gauge("ringdns_fleet_queued", "Answers that wait to be stored in Redis.", fleet.queued());
        families.gauge(
            "ringdns_fleet_keys",
            "Answers in the index of Redis when this appliance last changed it.",
            fleet.keys(),
        );
        families.totals("ringdns_fleet", &fleet.counters.totals());
    }
    families.totals("ringdns_listener", &(service.listeners)());
    families.totals("ringdns_api", &service.api.totals());
    if let Some(log) = &service.log {
        families.totals("ringdns_query_log", &log.counters.totals());
        if let Some(names) = log.client_names() {
            for gauge in names.gauges() {
                families.gauge(&format!("ringdns_client_names_{}", gauge.name), gauge.doc, gauge.value);
            }
            families.totals("ringdns_client_names", &names.totals());
        }
        families.gauge(
            "ringdns_query_log_taps",
            "Open taps of the query log (GET /v1/log/tap).",
            log.taps.len(),
        );
        let sums = log.ledger.sums();
        families.totals("ringdns_query_log_rows", &sums.totals());
        for gauge in sums.gauges() {
            families.gauge(&format!("ringdns_query_log_rows_{}", gauge.name), gauge.doc, gauge.value);
        }
    }
    families.totals("ringdns_captures", &service.captures.counters.totals());
    dnstap(service, &mut families);
    upstreams(service, &mut families);
    problems(service, &mut families);
    process(&mut families);
    families.counter(
        "ringdns_panics_total",
        "Panics: defects of ringdnsd, each of which ended one task or thread.",
        panics::count(),
    );
    families.gauge("ringdns_uptime_seconds", "Seconds since the start of ringdnsd.", service.clock.secs());
    families
}

/// Adds the messages of dnstap, if there is a reader.
fn dnstap(service: &Service, families: &mut Families) {
    let Some(tap) = &service.tap else { return };
    families.totals("ringdns_dnstap", &tap.counters.totals());
    let sums = tap.sums();
    families.counter(
        "ringdns_dnstap_offered_total",
        "Packets and messages over TCP to be told to the dnstap reader: sent, unfit, lost or in hand.",
        sums.offered,
    );
    families.counters("ringdns_dnstap_lost_total", "dnstap messages lost, by reason.");
    for (reason, lost) in sums.losses() {
        families.sample(&[("reason", &reason)], lost);
    }
    families.gauge("ringdns_dnstap_connected", "Whether a dnstap reader is connected.", tap.is_connected());
}

/// Adds the number of problems of each kind, and the state of the configuration.
fn problems(service: &Service, families: &mut Families) {
    let problems = service.problems.of(service);
    let name = "ringdns_problems";
    families.gauges(name, "Problems at this moment, by kind: docs/operation.md has their meanings.");
    for kind in ProblemKind::ALL {
        let count = problems.iter().filter(|problem| problem.kind == *kind).count();
        families.sample(&[("kind", &kind.label()), ("severity", &kind.severity().label())], count);
    }
    let is_accepted = service.reloader.fault.reason().is_none();
    families.gauge(
        "ringdns_config_last_reload_successful",
        "Whether the configuration was accepted when it was last read.",
        is_accepted,
    );
    families.gauge(
        "ringdns_config_restart_pending",
        "Tables of the configuration whose changes take effect with the next restart.",
        service.reloader.waits_for_restart().len(),
    );
    let is_ready = service.obstacle().is_none();
    families.gauge("ringdns_ready", "Whether /readyz answers 200.", is_ready);
}

/// Adds the addresses of names that firewalls know.
fn firewall(service: &Service, families: &mut Families) {
    let Some(firewall) = &service.firewall else { return };
    if let Some(names) = &firewall.names {
        families.gauge("ringdns_names_entries", "Pairs of an address and a name that are kept.", names.len());
        families.totals("ringdns_names", &names.counters.totals());
    }
    if let Some(sets) = &firewall.sets {
        families.totals("ringdns_nftset", &sets.counters.totals());
    }
}

/// Adds the resource usage of the process, under Prometheus' standard names where there are any.
fn process(families: &mut Families) {
    let Ok(taken) = resource_usage() else { return };
    families.gauge("process_resident_memory_bytes", "Resident memory in bytes.", taken.resident_bytes);
    families.gauge("process_virtual_memory_bytes", "Virtual memory in bytes.", taken.virtual_bytes);
    families.gauge("ringdns_allocated_bytes", "Bytes allocated and not yet freed.", taken.allocated_bytes);
    families.gauge("process_open_fds", "Open files and sockets.", taken.open_files);
    if let Some(most) = taken.open_files_max {
        families.gauge("process_max_fds", "Most files and sockets that may be open.", most);
    }
    families.gauge("process_threads", "Threads of the process.", taken.threads);
    let name = "process_cpu_seconds_total";
    families.counters(name, "CPU time since the start in seconds.");
    families.sample(&[], taken.cpu_secs);
    families.counter(
        "ringdns_control_yields_total",
        "Times that the control plane yielded a core that it shares with a worker.",
        shared_core::YIELDS.get(),
    );
}

/// Adds the lists. Counters of a list outlive it.
fn lists(service: &Service, families: &mut Families) {
    let counts = service.resolver.list_counts().all();
    if counts.is_empty() {
        return;
    }
    let name = "ringdns_blocked_total";
    families.counters(name, "Answers that a list gave to the clients of a group, from all tiers.");
    let groups = service.reloader.group_names();
    for (list, counters) in &counts {
        for (group, count) in blocked(service, counters, &groups) {
            families.sample(&[("list", list), ("group", &group)], count);
        }
    }
    let name = "ringdns_list_dry_run_total";
    families.counters(name, "Cache misses that a list with dry_run = true would have answered.");
    for (list, counters) in &counts {
        families.sample(&[("list", list)], counters.dry_run.get());
    }
    let Some(policy) = service.resolver.policy() else { return };
    let name = "ringdns_list_entries";
    families.gauges(name, "Rules of a list.");
    for list in policy.policies().all().block_lists() {
        families.sample(&[("list", &list.name)], list.list.counts().rules);
    }
}

/// Adds the states of all lists.
fn list_states(service: &Service, families: &mut Families) {
    let lists = service.lists.status();
    if lists.is_empty() {
        return;
    }
    let name = "ringdns_list_state";
    families.gauges(name, "Whether a list is fresh, stale or degraded.");
    for list in &lists {
        for state in ListState::ALL {
            let is_it = list.state == state;
            families.sample(&[("list", &list.name), ("state", &state.label())], is_it);
        }
    }
    let name = "ringdns_list_last_success_timestamp_seconds";
    families.gauges(name, "Unix time at which a list was read, or last confirmed by its server.");
    for list in &lists {
        if let Some(success) = list.last_success {
            families.sample(&[("list", &list.name)], success);
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

fn workers(service: &Service, families: &mut Families) {
    let read: Vec<_> = service
        .links
        .iter()
        .map(|link| (link.worker.to_string(), link.stats.snapshot(), link.port.read()))
        .collect();
    for counter in Counter::ALL {
        let name = format!("ringdns_worker_{}_total", counter.label());
        families.counters(&name, counter.doc());
        for (worker, stats, _) in &read {
            families.sample(&[("worker", worker)], stats.get(*counter));
        }
    }
    let name = "ringdns_worker_dropped_total";
    families.counters(name, "Received frames that a worker dropped, by reason.");
    for (worker, stats, _) in &read {
        for reason in DropReason::ALL {
            families.sample(&[("worker", worker), ("reason", &reason.label())], stats.dropped(*reason));
        }
    }
    let name = "ringdns_rate_limited_total";
    families.counters(name, "Queries over the rate limit, by action.");
    let mut all = StatsSnapshot::default();
    read.iter().for_each(|(_, stats, _)| all.merge(stats));
    for (action, count) in [
        ("drop", all.dropped(DropReason::Limited)),
        ("slip", all.get(Counter::Slipped)),
        ("dry_run", all.get(Counter::LimitDryRun)),
    ] {
        families.sample(&[("action", &action)], count);
    }
    let ports: Vec<_> = read.iter().map(|(_, _, published)| published.port.totals()).collect();
    for (at, Total { name, doc, .. }) in PortStats::default().totals().into_iter().enumerate() {
        let name = format!("ringdns_port_{name}_total");
        families.counters(&name, doc);
        for ((worker, ..), totals) in read.iter().zip(&ports) {
            families.sample(&[("worker", worker)], totals[at].value);
        }
    }
    let name = "ringdns_port_frames";
    families.gauges(
        name,
        "Frames of a worker's packet memory, by place: free, in the fill ring, held, in the TX ring.",
    );
    for (worker, _, published) in &read {
        for (place, frames) in ["free", "fill", "held", "tx"].iter().zip(published.frames) {
            families.sample(&[("worker", worker), ("place", place)], frames);
        }
    }
    for (name, doc) in [
        ("ringdns_cache_entries", "Entries in a worker cache."),
        ("ringdns_cache_used_bytes", "Bytes used by a worker cache."),
        ("ringdns_cache_capacity_bytes", "Capacity of a worker cache in bytes."),
    ] {
        families.gauges(name, doc);
        for (worker, _, published) in &read {
            let cache = published.cache;
            let value = match name {
                "ringdns_cache_entries" => cache.entries,
                "ringdns_cache_used_bytes" => cache.used,
                _ => cache.capacity,
            };
            families.sample(&[("worker", worker)], value);
        }
    }
}

/// Adds processor time, waits and page faults of workers' threads: what makes hits late and is no packet.
fn worker_threads(families: &mut Families) {
    let Ok(workers) = worker_usage() else { return };
    let name = "ringdns_worker_cpu_seconds_total";
    families.counters(
        name,
        "Processor time of a worker's thread in seconds; one that spins uses all of its core.",
    );
    for usage in &workers {
        families.sample(&[("worker", &usage.worker)], usage.cpu_secs);
    }
    let name = "ringdns_worker_preempted_total";
    families.counters(name, "Times that the kernel took the core away from a worker, to run something else.");
    for usage in &workers {
        families.sample(&[("worker", &usage.worker)], usage.preempted);
    }
    let name = "ringdns_worker_page_faults_total";
    families.counters(
        name,
        "Page faults that a worker waited for: of memory not populated ahead (minor), or of a disk (major).",
    );
    for usage in &workers {
        for (kind, faults) in [("minor", usage.minor_faults), ("major", usage.major_faults)] {
            families.sample(&[("worker", &usage.worker), ("kind", &kind)], faults);
        }
    }
}

/// Adds the trust anchors that are managed, if any are.
fn trust_points(service: &Service, families: &mut Families) {
    let points = service.resolver.trust_points();
    if points.is_empty() {
        return;
    }
    let name = "ringdns_trust_anchor_keys";
    families.gauges(name, "Keys of a zone whose trust anchors are managed, by state.");
    for point in &points {
        for state in ["pending", "valid", "missing", "revoked", "removed"] {
            let count = point.keys.iter().filter(|key| key.state == state).count();
            families.sample(&[("zone", &point.zone), ("state", &state)], count);
        }
    }
    let name = "ringdns_trust_anchor_refreshed_timestamp_seconds";
    families.gauges(name, "Unix time of the last successful refresh of a zone's trust anchors.");
    for point in &points {
        if let Some(refreshed) = point.refreshed {
            families.sample(&[("zone", &point.zone)], refreshed);
        }
    }
    families.totals("ringdns_trust_anchor", &service.resolver.anchor_counters.totals());
}

fn upstreams(service: &Service, families: &mut Families) {
    let read: Vec<_> = service
        .resolver
        .upstreams()
        .iter()
        .map(|upstream| (upstream.label.clone(), upstream.clone()))
        .collect();
    let Some((_, first)) = read.first() else { return };
    for (at, total) in first.counters.totals().iter().enumerate() {
        let name = format!("ringdns_upstream_{}_total", total.name);
        families.counters(&name, total.doc);
        for (address, upstream) in &read {
            families.sample(&[("upstream", address)], upstream.counters.totals()[at].value);
        }
    }
    let name = "ringdns_upstream_round_trip_seconds";
    families.gauges(name, "Smoothed round-trip time of an upstream in seconds.");
    for (address, upstream) in &read {
        families.sample(&[("upstream", address)], upstream.health().round_trip.as_secs_f64());
    }
    families
        .gauges("ringdns_upstream_up", "Whether an upstream answers: not, once it was found to be silent.");
    for (address, upstream) in &read {
        families.sample(&[("upstream", address)], !upstream.health().is_silent());
    }
    let name = "ringdns_upstream_put_back";
    families.gauges(name, "Whether an upstream is in back-off after failures.");
    for (address, upstream) in &read {
        let put_back = upstream.is_put_back(service.clock.nanos());
        families.sample(&[("upstream", address)], put_back);
    }
    let name = "ringdns_upstream_answer_seconds";
    families.histograms(name, "Time until an upstream answered or reported a failure, in seconds.");
    for (address, upstream) in &read {
        families.sample(&[("upstream", address)], &upstream.times());
    }
}
