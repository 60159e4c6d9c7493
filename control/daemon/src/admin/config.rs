//! Requests about the configuration in effect.

use super::{
    SharedService,
    guard::{ApiError, Turns},
};
use axum::{Json, extract::State};
use ringdns_api::{ConfigDifference, ConfigView};
use ringdns_common::units::Bytes;
use serde_json::json;
use std::sync::LazyLock;
use tokio::task::spawn_blocking;

/// Shows the configuration in effect, with the sizes that were lowered to what fits.
#[utoipa::path(
    get,
    path = "/v1/config",
    operation_id = "config",
    responses((status = 200, description = "Answer", body = ConfigView)),
)]
pub(super) async fn show(State(service): SharedService) -> Json<ConfigView> {
    let mut view = service.reloader.view();
    let cache = &service.config.cache;
    if let Some(shown) = view.effective.get_mut("cache").and_then(|table| table.as_object_mut()) {
        for (key, bytes, is_given) in [
            ("bytes_per_worker", cache.bytes_per_worker, cache.worker_given),
            ("host_bytes", cache.host_bytes, cache.host_given),
        ] {
            if !is_given {
                shown.insert(key.to_owned(), json!(Bytes(bytes).to_string()));
            }
        }
    }
    Json(view)
}

/// Compares the configuration in effect with its file.
#[utoipa::path(
    get,
    path = "/v1/config/diff",
    operation_id = "config_diff",
    responses((status = 200, description = "Answer", body = Vec<ConfigDifference>)),
)]
pub(super) async fn diff(State(service): SharedService) -> Result<Json<Vec<ConfigDifference>>, ApiError> {
    // Like a reload, it waits for others; more that wait would each take a thread.
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let comparing = spawn_blocking(move || {
        let _turn = turn;
        service.reloader.compare()
    });
    comparing.await.map_err(ApiError::failed)?.map(Json).map_err(ApiError::bad)
}
