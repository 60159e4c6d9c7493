//! Search in the part of the query log that is on this host.

use super::{
    SharedService,
    filter::FilterQuery,
    guard::{ApiError, Parameters, Turns},
};
use axum::{Json, extract::State, http::StatusCode};
use ringdns_api::Refused;
use ringdns_common::names;
use ringdns_dataplane::access::AccessList;
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
    /// Name of the question, or of an ancestor.
    suffix: Option<String>,
    /// Address or prefix of clients.
    client: Option<String>,
    /// Type of the questions, such as AAAA.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// Outcome: hit, stale, miss, failure, rejected or blocked.
    outcome: Option<String>,
    /// Response code of the answers, such as NXDOMAIN.
    rcode: Option<String>,
    /// Greatest age in seconds.
    since: Option<u32>,
    /// Most rows: 1 to 1000.
    #[serde(default = "rows")]
    #[param(minimum = 1, maximum = 1000)]
    last: usize,
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
    params(RowsQuery),
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
    let name = query.name.as_deref().map(show::name).transpose();
    let RowsQuery { suffix, client, rtype, outcome, rcode, .. } = query;
    let [client, rtype, outcome, rcode] = [client, rtype, outcome, rcode].map(Clone::clone);
    let exchanges = FilterQuery { client, suffix: None, rtype, outcome, rcode }.filter()?;
    let clients = exchanges.client.map(|prefix| AccessList::new(&[prefix], &[])).transpose();
    Ok(Filter {
        name: name.map_err(|error| ApiError::bad(format!("name: {error}")))?,
        suffix: suffix
            .as_deref()
            .map(show::name)
            .transpose()
            .map_err(|error| ApiError::bad(format!("suffix: {error}")))?,
        clients: clients.map_err(ApiError::bad)?,
        since_ms: query.since.map(|seconds| now - i64::from(seconds) * 1000),
        rtype: exchanges.qtype.map(names::type_name),
        outcome: exchanges.outcome.map(|outcome| outcome.label().to_owned()),
        rcode: exchanges.rcode.map(names::rcode_text),
    })
}
