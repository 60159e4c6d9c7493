//! Busiest names, zones and clients.

use super::{
    SharedService,
    guard::{ApiError, Parameters},
};
use crate::busiest::MINUTES;
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use ringdns_api::{Ranking, RankingKind, Refused};
use serde::Deserialize;
use utoipa::IntoParams;

/// Most rows of an answer.
const ROWS_MAX: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RankingQuery {
    /// Number of minutes, with the present one: 1 to 60.
    #[serde(default = "minutes")]
    #[param(minimum = 1, maximum = 60)]
    minutes: u32,
    /// Most rows: 1 to 1000.
    #[serde(default = "rows")]
    #[param(minimum = 1, maximum = 1000)]
    last: usize,
}

fn minutes() -> u32 {
    5
}

fn rows() -> usize {
    20
}

/// Answers with the busiest names, zones or clients of the last minutes. They tell what people asked
/// for, so a role is needed.
#[utoipa::path(
    get,
    path = "/v1/top/{kind}",
    operation_id = "top",
    params(("kind" = RankingKind, Path, description = "Kind"), RankingQuery),
    responses(
        (status = 200, description = "Answer", body = Ranking),
        (status = 404, description = "Nothing of this name", body = Refused),
    ),
)]
pub(super) async fn ranking(
    State(service): SharedService,
    kind: Result<Path<String>, PathRejection>,
    Parameters(query): Parameters<RankingQuery>,
) -> Result<Json<Ranking>, ApiError> {
    // A path that is no UTF-8 would be refused in plain text.
    let Path(kind) = kind.map_err(|rejection| ApiError::bad(rejection.body_text()))?;
    let kind = RankingKind::ALL.into_iter().find(|known| known.label() == kind).ok_or_else(|| {
        let reason = format!("there is no ranking of {kind:?}: use names, clients, zones or nxdomain");
        ApiError(StatusCode::NOT_FOUND, reason)
    })?;
    if !(1..=MINUTES).contains(&query.minutes) {
        return Err(ApiError::bad(format!("minutes={}: use 1 to {MINUTES}", query.minutes)));
    }
    if !(1..=ROWS_MAX).contains(&query.last) {
        return Err(ApiError::bad(format!("last={}: use 1 to {ROWS_MAX}", query.last)));
    }
    Ok(Json(service.busiest.ranking(kind, query.minutes, query.last)))
}
