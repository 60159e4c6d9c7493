//! Findings on this host, as `ringctl doctor` has them: here without what a process in the sandbox cannot
//! see.

use super::{
    SharedService,
    guard::{ApiError, Turns},
};
use crate::probe;
use axum::{Json, extract::State};
use ringdns_api::Finding;
use ringdns_doctor::{Facts, Reach, Wanted, judge};
use std::sync::LazyLock;
use tokio::task::spawn_blocking;

/// Looks at kernel, NIC, privileges, network and files by the configuration of the start, and adds the
/// problems. Facts that the sandbox hides have the verdict `unknown`.
#[utoipa::path(
    get,
    path = "/v1/doctor",
    operation_id = "doctor",
    responses((status = 200, description = "Answer", body = Vec<Finding>)),
)]
pub(super) async fn doctor(State(service): SharedService) -> Result<Json<Vec<Finding>>, ApiError> {
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let looking = spawn_blocking(move || {
        let _turn = turn;
        let wanted = Wanted::of(&service.config);
        let problems = Some(service.problems.of(&service));
        let mut facts = Facts::gather(wanted, &[service.reloader.path()], Reach::Inside, problems);
        facts.checked = Some(probe::of_running(&service.config));
        judge(&facts)
    });
    looking.await.map_err(ApiError::failed).map(Json)
}
