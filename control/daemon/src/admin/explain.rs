//! Explanation of what would become of a query, from the access list to upstreams. Nothing is asked of
//! anybody but the workers, and nothing changes.

use super::{
    Service, SharedService, cache,
    caller::Caller,
    guard::{ApiError, Parameters, Turns},
    misses, policy,
};
use crate::verdict::TestedQuestion;
use axum::{Extension, Json, extract::State};
use ringdns_api::{EntryView, Explained, ExplainedUpstream, ExplainedWorker, PolicyTest, Role};
use ringdns_common::names;
use ringdns_dataplane::{
    clock::Secs,
    dns::key::Key,
    group::Group,
    inspection::{Inspected, Inspection},
    policy::{QueryPolicy, Refusal},
    punt::Link,
};
use ringdns_resolver::flight::explain::Explanation;
use serde::Deserialize;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use utoipa::IntoParams;

/// Time that a worker may take to look: it does so at once if it sleeps, else once a second.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// Time between two looks whether it has.
const PACE: Duration = Duration::from_millis(10);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// Domain name.
    name: String,
    /// Record type; absent: A.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// Address of the client, which decides its group.
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// Group of the client.
    group: Option<String>,
    /// Whether the client sets DO.
    #[serde(default)]
    dnssec_ok: bool,
    /// Whether the client sets CD.
    #[serde(default)]
    checking_disabled: bool,
}

/// Explains a query. Workers take up to a second to say what they have, so one request at a time is
/// answered.
#[utoipa::path(
    get,
    path = "/v1/explain",
    operation_id = "explain",
    params(ExplainQuery),
    responses((status = 200, description = "Answer", body = Explained)),
)]
pub(super) async fn explain(
    State(service): SharedService,
    Extension(caller): Extension<Caller>,
    Parameters(query): Parameters<ExplainQuery>,
) -> Result<Json<Explained>, ApiError> {
    let shows_names = caller.require(Role::Operate).is_ok();
    let question = TestedQuestion::parse(&query.name, query.rtype.as_deref()).map_err(ApiError::bad)?;
    let ExplainQuery { dnssec_ok, checking_disabled, client, .. } = query;
    let key = names::key(&question.name, question.qtype, dnssec_ok, checking_disabled);
    let key = key.ok_or_else(|| ApiError::bad(format!("{:?} is no question", query.name)))?;
    let group = policy::group_of(&service, client, query.group.as_deref())?;
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let _turn = TURNS.take().await?;
    let verdict = policy::verdict(&service, question, client, group).await?;
    let workers = workers(&service, &key, group).await;
    let known = service.resolver.explain(&key, group);
    let now = service.clock.secs();
    let policy = service.reloader.policy();
    let mut explained = Explained {
        verdict: String::new(),
        client: client.map(|client| client.to_string()),
        access: access(&policy, client).to_owned(),
        banned: client.and_then(|client| banned(&service, client)),
        policy: verdict,
        workers,
        host: known.entries.iter().map(|(key, entry)| cache::view(key, entry, now, true)).collect(),
        misses: known.misses.iter().map(|miss| misses::view(miss, service.clock, shows_names)).collect(),
        special: known.is_special,
        zone: known.zone.clone(),
        upstreams: upstreams(&service, &known),
        capped: known.capped,
    };
    explained.verdict = sentence(&explained, (dnssec_ok, checking_disabled));
    Ok(Json(explained))
}

/// Returns the treatment of a client by the access list.
fn access(policy: &QueryPolicy, client: Option<IpAddr>) -> &'static str {
    match (client, policy.refusal) {
        (Some(client), Refusal::Drop) if !policy.access.allows(client.to_canonical()) => "dropped",
        (Some(client), Refusal::Answer) if !policy.access.allows(client.to_canonical()) => "refused",
        _ => "allowed",
    }
}

fn banned(service: &Service, client: IpAddr) -> Option<String> {
    service.bans.prefix_of(client).map(|prefix| prefix.to_string())
}

/// Asks all workers what they have for a question.
async fn workers(service: &Service, key: &Key, group: Group) -> Vec<ExplainedWorker> {
    let ask = |link: &Arc<Link>| {
        let inspection = Inspection { key: key.clone(), group, found: None };
        let asked = link.inspections.ask(Box::new(inspection));
        link.bell().ring();
        asked
    };
    let mut told: Vec<_> = service.links.iter().map(|link| (link, ask(link), None)).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (link, asked, answer) in &mut told {
            if *asked && answer.is_none() {
                *answer = link.inspections.collect(key, group);
            }
        }
        let is_complete = told.iter().all(|(_, asked, answer)| !asked || answer.is_some());
        if is_complete || Instant::now() >= deadline {
            break;
        }
        sleep(PACE).await;
    }
    let now = service.clock.secs();
    let one = |(link, _, answer): (&Arc<Link>, bool, Option<Box<Inspection>>)| {
        worker(link.worker, answer.map(|answer| answer.found), now)
    };
    told.into_iter().map(one).collect()
}

/// Returns what a worker has. `answer`: `None` if it did not tell.
fn worker(worker: usize, answer: Option<Option<Inspected>>, now: Secs) -> ExplainedWorker {
    let state = match &answer {
        None => "unknown",
        Some(None) => "absent",
        Some(Some(found)) if found.is_purged => "purged",
        Some(Some(found)) if now < found.expires => "fresh",
        Some(Some(_)) => "stale",
    };
    let found = answer.flatten();
    let rcode = |found: &Inspected| names::rcode_text(found.rcode.into());
    ExplainedWorker {
        worker,
        state: state.to_owned(),
        age_secs: found.map_or(0, |found| now.saturating_sub(found.received)),
        fresh_secs: found.map_or(0, |found| found.expires.saturating_sub(now)),
        rcode: found.as_ref().map(rcode),
        by_list: found.is_some_and(|found| found.list.is_some()),
    }
}

fn upstreams(service: &Service, known: &Explanation) -> Vec<ExplainedUpstream> {
    let now = service.clock.nanos();
    let one = |upstream: &Arc<ringdns_resolver::upstream::Upstream>| {
        let health = upstream.health();
        ExplainedUpstream {
            address: upstream.label.clone(),
            back_off_ms: health.until.saturating_sub(now).div_ceil(1_000_000),
            round_trip_us: health.round_trip.as_micros() as u64,
        }
    };
    known.upstreams.iter().map(one).collect()
}

/// Returns the sentence that says what answers a client that sets these flags, DO and CD.
fn sentence(explained: &Explained, flags: (bool, bool)) -> String {
    let Explained { policy, workers, host, upstreams, .. } = explained;
    let first = if let Some(prefix) = &explained.banned {
        Some(format!("the XDP program drops queries over UDP from {prefix}: it is banned"))
    } else {
        match &*explained.access {
            "refused" => Some("the access list does not allow this client: it gets REFUSED".to_owned()),
            "dropped" => Some("the access list does not allow this client: its query is dropped".to_owned()),
            _ => None,
        }
    };
    first.or_else(|| by_policy(policy)).unwrap_or_else(|| {
        let all = workers.iter();
        let of = |state: &str| all.clone().filter(|worker| worker.state == state).count();
        let (fresh, stale) = (of("fresh"), of("stale"));
        let is_host =
            |state: &str| host.iter().any(|entry: &EntryView| is_of(entry, flags) && entry.state == state);
        if fresh > 0 {
            return format!("{fresh} of {} workers answer from their caches", workers.len());
        }
        if explained.special {
            return "this host answers: no upstream is asked for such names".to_owned();
        }
        if is_host("fresh") {
            return "the host cache answers, and the worker keeps the answer".to_owned();
        }
        let asked: Vec<_> = upstreams.iter().map(|upstream| upstream.address.clone()).collect();
        let asked = match (&explained.capped, asked.is_empty()) {
            (Some(zone), _) => {
                format!("questions of {zone} are capped, and few of them are asked of an upstream")
            }
            (None, true) => "no upstream is configured for this name: SERVFAIL".to_owned(),
            (None, false) => format!("asked of {}", asked.join(", or ")),
        };
        match stale > 0 || is_host("stale") {
            true => {
                format!("there is an expired answer, which is given if no new one comes in time; {asked}")
            }
            false => format!("no cache has it; {asked}"),
        }
    })
}

/// Whether an entry is for clients that set these flags, DO and CD.
fn is_of(entry: &EntryView, flags: (bool, bool)) -> bool {
    (entry.dnssec_ok, entry.checking_disabled) == flags
}

fn by_policy(policy: &PolicyTest) -> Option<String> {
    match &*policy.action {
        "local" => Some("local data answers".to_owned()),
        "safe_search" => Some("safe search answers with an alias".to_owned()),
        "block" => {
            let (list, answer) = (policy.list.as_deref(), policy.answer.as_deref());
            let (list, answer) = (list.unwrap_or_default(), answer.unwrap_or_default());
            Some(format!("list {list:?} answers: {answer}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_tell_is_not_one_without_an_answer() {
        let found =
            Inspected { received: 90, expires: 150, dead: 1_000, rcode: 3, list: None, is_purged: false };
        let state = |answer, now| {
            let told = worker(1, answer, now);
            (told.state, told.age_secs, told.fresh_secs)
        };
        assert_eq!(state(None, 100), ("unknown".into(), 0, 0));
        assert_eq!(state(Some(None), 100), ("absent".into(), 0, 0));
        assert_eq!(state(Some(Some(found)), 100), ("fresh".into(), 10, 50));
        assert_eq!(state(Some(Some(found)), 150), ("stale".into(), 60, 0));
        let purged = Inspected { is_purged: true, ..found };
        assert_eq!(state(Some(Some(purged)), 100), ("purged".into(), 10, 50));
        assert_eq!(worker(1, Some(Some(found)), 100).rcode.as_deref(), Some("NXDOMAIN"));
    }
}
