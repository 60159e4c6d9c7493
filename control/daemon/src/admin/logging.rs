//! Levels of the log.

use super::{ApiError, Parameters, SharedService};
use axum::{Json, extract::State};
use ringdns_api::LogFilter;
use serde::Deserialize;
use utoipa::IntoParams;

/// Longest time of a change in seconds: a day. After that, it is forgotten rather than wanted.
const SECONDS_MAX: u64 = 86_400;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LevelsQuery {
    /// Levels, as in RUST_LOG; absent: the usual ones.
    filter: Option<String>,
    /// Time after which the usual levels return.
    #[param(minimum = 1, maximum = 86400)]
    seconds: Option<u64>,
}

/// Shows the levels.
#[utoipa::path(
    get,
    path = "/v1/logging",
    operation_id = "logging",
    responses((status = 200, description = "Answer", body = LogFilter)),
)]
pub(super) async fn show(State(service): SharedService) -> Json<LogFilter> {
    Json(service.levels.filter())
}

/// Changes the levels, or goes back to the usual ones.
#[utoipa::path(
    post,
    path = "/v1/logging",
    operation_id = "set_logging",
    params(LevelsQuery),
    responses((status = 200, description = "Answer", body = LogFilter)),
)]
pub(super) async fn set(
    State(service): SharedService,
    Parameters(query): Parameters<LevelsQuery>,
) -> Result<Json<LogFilter>, ApiError> {
    if query.seconds.is_some_and(|seconds| !(1..=SECONDS_MAX).contains(&seconds)) {
        return Err(ApiError::bad(format!("seconds must be from 1 to {SECONDS_MAX}")));
    }
    let until = query.seconds.map(|seconds| service.clock.unix() + seconds);
    let set = match &query.filter {
        Some(filter) => service.levels.set(filter, until),
        None => service.levels.reset(),
    };
    let set = set.map_err(ApiError::bad)?;
    tracing::info!(filter = set.filter, until = set.until, "levels of the log have changed");
    Ok(Json(set))
}
