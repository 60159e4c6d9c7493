//! Lookup and purge of entries in the host cache.

use super::{
    SharedService,
    caller::Caller,
    guard::{ApiError, Parameters, Turns},
    listing::EntryState,
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use hickory_proto::serialize::binary::BinDecodable;
use ringdns_api::{EntryView, Purged, Refused};
use ringdns_common::names;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, key::Asked, reply::Age},
};
use ringdns_fleet::BegunPurge;
use ringdns_resolver::{
    host::{Entry, Purge, StoredKey},
    message::{Message, Record},
};
use serde::Deserialize;
use std::{sync::LazyLock, time::Duration};
use tokio::time::timeout;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryQuery {
    /// Domain name.
    name: String,
    /// Record type; absent: all.
    #[serde(rename = "type")]
    rtype: Option<String>,
}

/// Answers with all entries of a name, of one type or of all types.
#[utoipa::path(
    get,
    path = "/v1/cache/entry",
    operation_id = "cache_entry",
    params(EntryQuery),
    responses(
        (status = 200, description = "Answer", body = Vec<EntryView>),
        (status = 404, description = "Nothing of this name", body = Refused),
    ),
)]
pub(super) async fn entry(
    State(service): SharedService,
    Parameters(query): Parameters<EntryQuery>,
) -> Result<Json<Vec<EntryView>>, ApiError> {
    let name = names::name(&query.name).map_err(ApiError::bad)?;
    let rtype = query.rtype.as_deref().map(names::record_type).transpose().map_err(ApiError::bad)?;
    // A name may have an entry of each of 65,536 types: no work for a thread that serves misses.
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let now = service.clock.secs();
    let host = service.resolver.host().clone();
    let finding = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let found = host.entries_of(&name, rtype);
        found.iter().map(|(key, entry)| view(key, entry, now, true)).collect::<Vec<_>>()
    });
    let found = finding.await.map_err(ApiError::failed)?;
    if found.is_empty() {
        let rtype = query.rtype.map(|rtype| format!(" of type {rtype}")).unwrap_or_default();
        return Err(ApiError(StatusCode::NOT_FOUND, format!("{:?}{rtype} is not in the cache", query.name)));
    }
    Ok(Json(found))
}

/// Returns an entry of the host cache at `now`, with its records or without.
pub(super) fn view(key: &StoredKey, entry: &Entry, now: Secs, has_records: bool) -> EntryView {
    let answer = &entry.answer;
    let asked = key.asked();
    EntryView {
        name: names::display(asked.name()),
        rtype: names::type_name(asked.qtype()),
        dnssec_ok: asked.dnssec_ok(),
        checking_disabled: asked.checking_disabled(),
        rcode: names::rcode_text(answer.status.rcode().into()),
        state: EntryState::of(entry, now).label().to_owned(),
        age_secs: now.saturating_sub(answer.received),
        fresh_secs: answer.expires().saturating_sub(now),
        left_secs: answer.dead().saturating_sub(now),
        bytes: answer.wire.len(),
        demand: entry.demand.get(now),
        records: if has_records { records(asked, answer) } else { Vec::new() },
    }
}

/// Returns the records as text, those that the library cannot show in the form for unknown types
/// (RFC 3597 section 5).
fn records(asked: Asked<'_>, answer: &Answer) -> Vec<String> {
    let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
    let message = key.and_then(|key| Message::of(&key, answer, Age::Fresh(0)));
    let Some(Message { answers, authorities, additionals, .. }) = message else {
        return vec![format!("{} bytes that cannot be shown", answer.wire.len())];
    };
    [answers, authorities, additionals].into_iter().flatten().map(|record| text_of(&record)).collect()
}

fn text_of(record: &Record) -> String {
    let mut alone = Vec::new();
    alone.extend_from_slice(&record.spelled);
    for word in [record.rtype, record.class, (record.ttl >> 16) as u16, record.ttl as u16] {
        alone.extend_from_slice(&word.to_be_bytes());
    }
    alone.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
    alone.extend_from_slice(&record.rdata);
    match hickory_proto::rr::Record::from_bytes(&alone) {
        Ok(decoded) if !record.rdata.is_empty() => decoded.to_string(),
        _ => {
            let (owner, rtype) = (names::display(&record.spelled), names::type_name(record.rtype));
            let hex: String = record.rdata.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = format!(
                "{owner} {} CLASS{} {rtype} \\# {} {hex}",
                record.ttl,
                record.class,
                record.rdata.len()
            );
            text.trim_end().to_owned()
        }
    }
}

/// Parameters of a purge. Exactly one of the three must be given.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PurgeQuery {
    /// Name to purge.
    name: Option<String>,
    /// Name to purge with all names below it.
    suffix: Option<String>,
    /// Whether to purge everything.
    #[serde(default)]
    all: bool,
}

/// Time that an answer waits until the fleet has been told.
const TELLING: Duration = Duration::from_millis(500);

/// Purges the host cache, the workers' caches, the snapshot and the fleet.
#[utoipa::path(
    post,
    path = "/v1/cache/purge",
    operation_id = "cache_purge",
    params(PurgeQuery),
    responses((status = 200, description = "Answer", body = Purged)),
)]
pub(super) async fn purge(
    State(service): SharedService,
    Extension(caller): Extension<Caller>,
    Parameters(query): Parameters<PurgeQuery>,
) -> Result<Json<Purged>, ApiError> {
    let purge = match (&query.name, &query.suffix, query.all) {
        (Some(name), None, false) => Purge::Name(names::name(name).map_err(ApiError::bad)?),
        (None, Some(suffix), false) => Purge::Suffix(names::name(suffix).map_err(ApiError::bad)?),
        (None, None, true) => Purge::All,
        _ => return Err(ApiError::bad("give exactly one of name=, suffix= and all=true")),
    };
    // A purge walks the whole store: one at a time.
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let (host, fleet) = (service.resolver.host().clone(), service.fleet.clone());
    let snapshot = service.snapshot.clone();
    let who = caller.who().await.unwrap_or_else(|| "anyone".into());
    // A purge runs to its end even if the client hangs up.
    let purging = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        host.note_purge(&purge, &who);
        let begun = fleet.map(|fleet| fleet.begin_purge(&purge));
        let removed = host.purge(&purge);
        let forgotten = snapshot.map_or(Ok(()), |snapshot| snapshot.forget());
        (removed, begun.map(BegunPurge::done), forgotten)
    });
    let (removed, telling, forgotten) = purging.await.map_err(ApiError::failed)?;
    forgotten.map_err(|error| {
        let file = "cache.snapshot_file cannot be removed";
        ApiError::failed(format!(
            "purged until the next start, but {file}: {error}. Remove it by hand and purge again"
        ))
    })?;
    tracing::info!(removed, name = query.name, suffix = query.suffix, all = query.all, "purged");
    let told = match telling {
        Some(telling) => Some(timeout(TELLING, telling).await.is_ok_and(|told| told.is_ok())),
        None => None,
    };
    Ok(Json(Purged { removed, told }))
}
