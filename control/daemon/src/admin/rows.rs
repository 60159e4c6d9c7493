//! Search in the part of the query log that is on this host.

use super::{
    SharedService,
    filter::FilterQuery,
    guard::{ApiError, Parameters, Turns},
};
use axum::{Json, extract::State, http::StatusCode};
use ringdns_api::Refused;
use ringdns_querylog::show::{self, Filter, LogEntry};
use serde::{Deserialize, Serialize};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

/// Most rows of an answer.
const ROWS_MAX: usize = 1000;
/// Time after which no further segment is read.
const SEARCH_TIME: Duration = Duration::from_secs(5);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RowsQuery {
    /// Name of the question.
    name: Option<String>,
    /// Greatest age in seconds.
    since: Option<u32>,
    /// Most rows: 1 to 1000.
    #[serde(default = "rows")]
    #[param(minimum = 1, maximum = 1000)]
    last: usize,
    // Whatever is no field of either struct is refused.
    #[serde(flatten)]
    #[param(ignore)]
    filter: FilterQuery,
}

fn rows() -> usize {
    100
}

/// Rows of the query log that match.
#[derive(Serialize, ToSchema)]
pub(super) struct FoundRows {
    /// Rows, the latest first, as `ringctl log --json` has them.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<LogEntry>,
    /// Whether older rows were left out: there were enough, or the search took 5 s.
    is_cut: bool,
    /// Segments that are damaged, and whose rows are missing.
    damaged: usize,
}

/// Answers with the last rows of the query log on this host's disk that match. They reveal which client asks
/// for what, so a role is needed.
#[utoipa::path(
    get,
    path = "/v1/log/rows",
    operation_id = "log_rows",
    params(RowsQuery, FilterQuery),
    responses(
        (status = 200, description = "Answer", body = FoundRows),
        (status = 409, description = "A part that this needs is not configured", body = Refused),
    ),
)]
pub(super) async fn search(
    State(service): SharedService,
    Parameters(query): Parameters<RowsQuery>,
) -> Result<Json<FoundRows>, ApiError> {
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let Some(shipping) = &service.config.shipping else {
        let reason = "the query log is not kept on this host: set query_log.spool_dir";
        return Err(ApiError(StatusCode::CONFLICT, reason.into()));
    };
    if !(1..=ROWS_MAX).contains(&query.last) {
        return Err(ApiError::bad(format!("last={}: use 1 to {ROWS_MAX}", query.last)));
    }
    let filter = filter(&query, service.clock.epoch_millis())?;
    let folder = shipping.spool_dir.clone();
    let turn = TURNS.take().await?;
    let searching = spawn_blocking(move || {
        let _turn = turn;
        let deadline = Instant::now() + SEARCH_TIME;
        let found = show::latest(&folder, &filter, query.last, || Instant::now() < deadline);
        found.map_err(|error| ApiError::failed(format!("{}: {error}", folder.display())))
    });
    let show::Found { rows, is_cut, damaged } = searching.await.map_err(ApiError::failed)??;
    Ok(Json(FoundRows { rows, is_cut, damaged }))
}

/// Returns the filter that the parameters describe, at this Unix time in milliseconds.
fn filter(query: &RowsQuery, now: i64) -> Result<Filter, ApiError> {
    let name = query.name.as_deref().map(show::name).transpose().map_err(ApiError::bad)?;
    let since_ms = query.since.map(|seconds| now - i64::from(seconds) * 1000);
    Ok(Filter { name, since_ms, ..query.filter.filter()?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;

    fn parse(parameters: &str) -> Option<RowsQuery> {
        let uri = format!("/v1/log/rows?{parameters}").parse().unwrap();
        Query::try_from_uri(&uri).ok().map(|Query(query)| query)
    }

    #[test]
    fn a_search_has_the_filter_of_a_tap_and_more() {
        let query = parse(
            "name=WWW.example&suffix=Example&client=192.0.2.0/24&type=aaaa&outcome=hit&rcode=nxdomain\
             &since=10&last=5",
        );
        let query = query.unwrap();
        let Filter { name, suffix, client, since_ms, rtype, outcome, rcode } =
            filter(&query, 100_000).unwrap();
        let texts = [name, suffix, rtype, outcome, rcode].map(Option::unwrap);
        assert_eq!(texts, ["www.example.", "example.", "AAAA", "hit", "NXDOMAIN"]);
        assert_eq!((client, since_ms), (Some("192.0.2.0/24".parse().unwrap()), Some(90_000)));
        assert_eq!(query.last, 5);
        assert_eq!(parse("").unwrap().last, 100);
        for wrong in ["nmae=a", "last=many", "since=-1", "suffix=a&suffix=b"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        for wrong in ["name=a..b", "suffix=a..b", "outcome=good", "client=somebody"] {
            assert!(filter(&parse(wrong).unwrap(), 0).is_err(), "{wrong}");
        }
    }
}
