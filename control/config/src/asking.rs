//! Checks of the options for querying upstreams: `[resolver]`, `[refresh]`, and the zones of
//! `[[upstream]]`.

use super::{
    DnssecConfig, RefreshConfig, ResolverConfig, UpstreamConfig,
    bounds::{secs, within},
    error::Problem,
    raw::{RawDnssec, RawRefresh, RawResolver},
};
use ringdns_common::names;
use ringdns_common::units::TimeSpan;

/// Most renewals of a sweep in flight at once. The resolver leaves a quarter of its questions in
/// flight to renewals of all kinds.
const IN_FLIGHT_MAX: usize = 1024;

pub fn resolver(raw: RawResolver) -> Result<ResolverConfig, Problem> {
    if let Some(hedge @ (..50 | 100..)) = raw.hedge {
        let reason = format!("{hedge} is not from 50 to 99");
        let remedy = "Give 95, so that one query in twenty is asked twice, or remove the key";
        return Err(Problem::new("resolver.hedge", reason, remedy));
    }
    Ok(ResolverConfig {
        strategy: raw.strategy,
        hedge: raw.hedge.map(f64::from),
        randomize_case: raw.randomize_case,
        cookies: raw.cookies,
    })
}

pub fn refresh(raw: RawRefresh) -> Result<RefreshConfig, Problem> {
    let Some(ahead) = u8::try_from(raw.ahead).ok().filter(|ahead| *ahead <= 50) else {
        let reason = format!("{} percent is more than half", raw.ahead);
        return Err(Problem::new("refresh.ahead", reason, "Give 1 to 50, or 0 for never; 10 is usual"));
    };
    let every = [TimeSpan::secs(1), TimeSpan::secs(600)];
    let sweep_every =
        within("refresh.sweep_every", raw.sweep_every, every, "Give \"1s\" to \"10m\"; \"15s\" is usual")?;
    let window = [TimeSpan::secs(0), TimeSpan::secs(3_600)];
    let remedy = "Give \"1s\" to \"1h\", or \"0s\" for none; twice sweep_every is right";
    let sweep_window = secs(within("refresh.sweep_window", raw.sweep_window, window, remedy)?);
    if raw.sweep_demand == 0 {
        let remedy = "Give 1 or more; to renew nothing, set sweep_window = \"0s\"";
        return Err(Problem::new(
            "refresh.sweep_demand",
            "with 0, answers without any request would be renewed",
            remedy,
        ));
    }
    if !(1..=IN_FLIGHT_MAX).contains(&raw.sweep_in_flight) {
        let reason = format!("{} is not possible", raw.sweep_in_flight);
        let remedy = format!("Give 1 to {IN_FLIGHT_MAX}; to renew nothing, set sweep_window = \"0s\"");
        return Err(Problem::new("refresh.sweep_in_flight", reason, remedy));
    }
    Ok(RefreshConfig {
        ahead,
        per_second: (raw.per_second > 0).then_some(raw.per_second),
        sweep_every,
        sweep_window,
        sweep_demand: raw.sweep_demand,
        sweep_in_flight: raw.sweep_in_flight,
    })
}

pub fn dnssec(raw: RawDnssec) -> Result<DnssecConfig, Problem> {
    if let Some(file) = &raw.managed_anchor_file {
        let refused = |reason: &str, remedy: &str| Problem::new("dnssec.managed_anchor_file", reason, remedy);
        if file.is_empty() || file.ends_with('/') {
            let remedy = "Write \"/var/lib/ringdns/trust-anchors\"";
            return Err(refused("this is not the path of a file", remedy));
        }
        if raw.trust_anchor_file.as_ref() == Some(file) {
            let reason = "this is dnssec.trust_anchor_file, which has another format";
            return Err(refused(reason, "Give the path of a file of its own, which ringdnsd creates"));
        }
    }
    Ok(DnssecConfig {
        validate: raw.validate,
        trust_anchor_file: raw.trust_anchor_file.map(Into::into),
        managed_anchor_file: raw.managed_anchor_file.map(Into::into),
        insecure: zones("dnssec.insecure", &raw.insecure)?,
    })
}

/// Parses zones into names on the wire.
pub fn zones(key: &str, texts: &[String]) -> Result<Vec<Vec<u8>>, Problem> {
    let zone = |(i, text): (usize, &String)| {
        names::name(text).map_err(|error| {
            let remedy = "Write \"corp.example\", without a scheme or an asterisk";
            Problem::new(format!("{key}[{i}]"), error.to_string(), remedy)
        })
    };
    texts.iter().enumerate().map(zone).collect()
}

/// Checks that no upstream is listed twice, because statistics are kept by its address.
pub fn are_different(upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    for (at, upstream) in upstreams.iter().enumerate() {
        let label = upstream.label();
        if upstreams[..at].iter().any(|other| other.label() == label) {
            let remedy =
                "Remove one of the two, and put all its zones into the other (\".\" is all other names)";
            return Err(Problem::new(
                format!("upstream[{at}].address"),
                format!("{label} is listed twice"),
                remedy,
            ));
        }
    }
    Ok(())
}

/// Checks that every name has an upstream.
pub fn covers_all(upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    let all = |upstream: &UpstreamConfig| {
        upstream.zones.is_empty() || upstream.zones.iter().any(|zone| **zone == [0])
    };
    if upstreams.iter().any(all) {
        return Ok(());
    }
    let remedy = "Add an [[upstream]] without zones for all other names";
    Err(Problem::new("upstream", "every upstream has zones, so other names have no upstream", remedy))
}
