//! Readings of the parts of the process, as problems.

use super::super::Service;
use crate::{
    panics,
    problems::{Found, HostProblems},
};
use ringdns_api::ProblemKind as Kind;
use ringdns_common::units::counted;
use ringdns_resolver::tier::SharedTier;

/// Returns the problems of all parts.
pub(super) fn all(service: &Service, host: &HostProblems) -> Vec<Found> {
    let mut found = reception(service);
    found.extend(host.list());
    found.extend(upstreams(service));
    found.extend(stores(service));
    found.extend(lists(service));
    found.extend(configuration(service));
    found.extend(panics::notice().map(|text| Found::whole(Kind::Panicked, text)));
    found
}

fn reception(service: &Service) -> Vec<Found> {
    let interface = service.config.server.interface.as_deref();
    if let Some(reason) = service.receiving.obstacle() {
        return vec![Found::new(Kind::NoReception, interface.unwrap_or_default(), reason)];
    }
    match (service.receiving.is_by_xdp(), interface) {
        (Some(true), _) | (None, None) => Vec::new(),
        // Whoever names an interface expects AF_XDP.
        (Some(false), _) | (None, Some(_)) => {
            let text = service.receiving.to_string();
            vec![Found::new(Kind::XdpLost, interface.unwrap_or_default(), text)]
        }
    }
}

fn upstreams(service: &Service) -> Vec<Found> {
    let upstreams = service.resolver.upstreams();
    let mut found: Vec<Found> = service.resolver.silent_zones().into_iter().map(silent_zone).collect();
    for upstream in upstreams.iter() {
        let label = &upstream.label;
        if let Some(reason) = upstream.distrust.reason() {
            let text = format!("upstream {label} is not asked: {reason}");
            found.push(Found::new(Kind::UpstreamNotTrusted, label, text));
        } else if upstream.health().is_silent() {
            let text = format!("upstream {label} does not answer, and is asked again now and then");
            found.push(Found::new(Kind::UpstreamSilent, label, text));
        }
    }
    // Clients choose these names, and problems are shown to all who may read metrics.
    let capped = service.resolver.capped_zones().len() as u64;
    found.extend((capped > 0).then(|| {
        let zones = counted(capped, "zone is", "zones are");
        let text = format!(
            "{zones} flooded with random names, of which a capped number is resolved (`ringctl policy floods`)"
        );
        Found::whole(Kind::ZoneFlooded, text)
    }));
    found
}

/// Returns the problem of a zone, or of all names outside of such zones, of which no upstream answers;
/// with the groups of clients behind it, if these have upstreams of their own.
fn silent_zone(zone: String) -> Found {
    match &*zone {
        "." => Found::whole(Kind::NoUpstream, "no upstream answers: only what is in the cache is answered"),
        _ if zone.starts_with(". ") => {
            let clients = zone.trim_start_matches(". ");
            let text = format!("no upstream answers {clients}: only what is in the cache is answered");
            Found::new(Kind::ZoneSilent, zone, text)
        }
        _ => {
            let text = format!("no upstream of {zone} answers: only what is in the cache is answered of it");
            Found::new(Kind::ZoneSilent, zone, text)
        }
    }
}

/// Returns the problems of Redis, of the query log, of dnstap and of the snapshot.
fn stores(service: &Service) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(fleet) = &service.fleet
        && !fleet.is_up()
    {
        let address = fleet.address();
        let text = format!(
            "Redis at {address} cannot be used: upstreams are asked for what it would have, and purges reach the \
             other appliances once it is back"
        );
        found.push(Found::new(Kind::RedisLost, address, text));
    }
    if let Some(log) = &service.log {
        if let Some(reason) = log.ledger.clickhouse.reason() {
            let text = format!("the query log is kept on disk, because ClickHouse {reason}");
            found.push(Found::whole(Kind::ClickhouseFailing, text));
        }
        let lost = log.ledger.spool.reason();
        found.extend(lost.map(|reason| Found::whole(Kind::QueryLogLost, reason)));
    }
    if let Some((tap, reason)) = service.tap.as_ref().and_then(|tap| Some((tap, tap.fault.reason()?))) {
        let text = format!("dnstap messages are lost: the reader at {} {reason}", tap.target());
        found.push(Found::new(Kind::DnstapLost, tap.target(), text));
    }
    if let Some(reason) = service.snapshot.as_ref().and_then(|snapshot| snapshot.fault.reason()) {
        let text = format!(
            "cache.snapshot_file: {reason}. A restart would begin with the last snapshot that was written. Check the \
             folder, its owner, and the free space on the disk"
        );
        found.push(Found::whole(Kind::SnapshotFailing, text));
    }
    found
}

fn lists(service: &Service) -> Vec<Found> {
    let degraded = service.lists.degraded().into_iter();
    let mut found: Vec<_> = degraded.map(|(name, text)| Found::new(Kind::ListDegraded, name, text)).collect();
    let broken = service.lists.broken_overrides();
    found
        .extend(broken.map(|reason| {
            Found::whole(Kind::OverridesBroken, format!("no override is in effect: {reason}"))
        }));
    found
}

fn configuration(service: &Service) -> Vec<Found> {
    let refused = service.reloader.fault.reason().map(|reason| {
        let text = format!("the configuration before the last reload stays in effect: {reason}");
        Found::whole(Kind::ConfigRefused, text)
    });
    let waiting = service.reloader.waits_for_restart();
    let pending = (!waiting.is_empty()).then(|| {
        let tables = waiting.into_iter().map(|table| format!("[{table}]")).collect::<Vec<_>>().join(", ");
        let text = format!("{tables} has changed, and takes effect with the next restart of ringdnsd");
        Found::whole(Kind::RestartPending, text)
    });
    refused.into_iter().chain(pending).collect()
}
