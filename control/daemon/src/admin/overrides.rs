//! Overrides and pauses of lists.

use super::{
    Service, SharedService,
    guard::{ApiError, Parameters},
};
use crate::lists::OverrideError;
use axum::{Json, extract::State};
use ringdns_api::{Override, OverrideAction, Overrides, Pause};
use serde::Deserialize;
use std::{net::IpAddr, sync::Arc};
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

/// Longest time that an override may be given, in seconds: ten years. Without a time, it stays.
const SECONDS_MAX: u64 = 10 * 366 * 86_400;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideQuery {
    /// Domain name; all names below it are meant, too.
    name: String,
    /// Whether to block or to allow it.
    #[param(inline)]
    action: OverrideAction,
    /// Group of clients; absent: all.
    group: Option<String>,
    /// Time after which it ends; absent: it stays.
    #[param(minimum = 1, maximum = 316_223_999)]
    seconds: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct NameQuery {
    /// Domain name.
    name: String,
    /// Group of clients; absent: all.
    group: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseQuery {
    /// Group of clients; absent: all.
    group: Option<String>,
    /// Address of one client.
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
    /// Time after which it ends; absent: it stays.
    #[param(minimum = 1, maximum = 316_223_999)]
    seconds: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeQuery {
    /// Group of clients; absent: all.
    group: Option<String>,
    /// Address of one client.
    #[param(value_type = Option<String>)]
    client: Option<IpAddr>,
}

/// Answers with all overrides and pauses.
#[utoipa::path(
    get,
    path = "/v1/policy/overrides",
    operation_id = "overrides",
    responses((status = 200, description = "Answer", body = Overrides)),
)]
pub(super) async fn list(State(service): SharedService) -> Json<Overrides> {
    Json(service.lists.overrides())
}

/// Blocks or allows a name.
#[utoipa::path(
    post,
    path = "/v1/policy/override",
    operation_id = "override",
    params(OverrideQuery),
    responses((status = 200, description = "Answer", body = Override)),
)]
pub(super) async fn add(
    State(service): SharedService,
    Parameters(query): Parameters<OverrideQuery>,
) -> Result<Json<Override>, ApiError> {
    let seconds = checked(query.seconds)?;
    let OverrideQuery { name, action, group, .. } = query;
    let added =
        change(service, move |service| service.lists.add_override(&name, action, group, seconds)).await?;
    tracing::info!(
        name = added.name,
        group = added.group,
        until = added.until,
        "override: {:?}",
        added.action
    );
    Ok(Json(added))
}

/// Removes the override for a name.
#[utoipa::path(
    post,
    path = "/v1/policy/clear",
    operation_id = "clear_override",
    params(NameQuery),
    responses((status = 200, description = "Answer", body = bool, content_type = "application/json")),
)]
pub(super) async fn clear(
    State(service): SharedService,
    Parameters(query): Parameters<NameQuery>,
) -> Result<Json<bool>, ApiError> {
    let (name, group) = (query.name.clone(), query.group.clone());
    let cleared =
        change(service, move |service| service.lists.clear_override(&name, group.as_deref())).await?;
    if cleared {
        tracing::info!(name = query.name, group = query.group, "override cleared");
    }
    Ok(Json(cleared))
}

/// Lets no list decide.
#[utoipa::path(
    post,
    path = "/v1/policy/pause",
    operation_id = "pause",
    params(PauseQuery),
    responses((status = 200, description = "Answer", body = Pause)),
)]
pub(super) async fn pause(
    State(service): SharedService,
    Parameters(query): Parameters<PauseQuery>,
) -> Result<Json<Pause>, ApiError> {
    let seconds = checked(query.seconds)?;
    check_clients(query.group.as_ref(), query.client)?;
    let pause =
        change(service, move |service| service.lists.pause(query.group, query.client, seconds)).await?;
    tracing::info!(group = pause.group, client = pause.client, until = pause.until, "lists are paused");
    Ok(Json(pause))
}

/// Ends a pause.
#[utoipa::path(
    post,
    path = "/v1/policy/resume",
    operation_id = "resume",
    params(ResumeQuery),
    responses((status = 200, description = "Answer", body = bool, content_type = "application/json")),
)]
pub(super) async fn resume(
    State(service): SharedService,
    Parameters(query): Parameters<ResumeQuery>,
) -> Result<Json<bool>, ApiError> {
    let ResumeQuery { group, client } = query;
    check_clients(group.as_ref(), client)?;
    let of = group.clone();
    let resumed = change(service, move |service| service.lists.resume(of, client)).await?;
    if resumed {
        let client = client.map(tracing::field::display);
        tracing::info!(group, client, "lists are in effect again");
    }
    Ok(Json(resumed))
}

fn check_clients(group: Option<&String>, client: Option<IpAddr>) -> Result<(), ApiError> {
    match (group, client) {
        (Some(_), Some(_)) => Err(ApiError::bad("give either client or group")),
        _ => Ok(()),
    }
}

/// Makes a change on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    service: Arc<Service>,
    change: impl FnOnce(&Service) -> Result<T, OverrideError> + Send + 'static,
) -> Result<T, ApiError> {
    let changed = spawn_blocking(move || change(&service)).await.map_err(ApiError::failed)?;
    changed.map_err(|error| match error {
        OverrideError::File { .. } | OverrideError::Broken(_) => ApiError::failed(error),
        OverrideError::Name(_)
        | OverrideError::Group(_)
        | OverrideError::Clients(_)
        | OverrideError::TooMany => ApiError::bad(error),
    })
}

fn checked(seconds: Option<u64>) -> Result<Option<u64>, ApiError> {
    match seconds {
        Some(0) => Err(ApiError::bad("seconds must be 1 or more")),
        Some(SECONDS_MAX..) => {
            Err(ApiError::bad("ten years at most. Leave the time out for one without end"))
        }
        seconds => Ok(seconds),
    }
}
