//! Names of an address.

use super::{
    SharedService,
    guard::{ApiError, Parameters},
};
use axum::{Json, extract::State, http::StatusCode};
use ringdns_api::{NameView, Refused};
use ringdns_common::names;
use serde::Deserialize;
use std::net::IpAddr;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct NamesQuery {
    /// Address.
    #[param(value_type = String)]
    address: IpAddr,
}

/// Answers with the names that clients may use an address for.
#[utoipa::path(
    get,
    path = "/v1/names",
    operation_id = "names",
    params(NamesQuery),
    responses(
        (status = 200, description = "Answer", body = Vec<NameView>),
        (status = 404, description = "Nothing of this name", body = Refused),
        (status = 409, description = "A part that this needs is not configured", body = Refused),
    ),
)]
pub(super) async fn of_address(
    State(service): SharedService,
    Parameters(query): Parameters<NamesQuery>,
) -> Result<Json<Vec<NameView>>, ApiError> {
    let names = service.firewall.as_ref().and_then(|firewall| firewall.names.as_ref()).ok_or_else(|| {
        let reason = "names of addresses are not kept. Set names.entries, and restart ringdnsd";
        ApiError(StatusCode::NOT_FOUND, reason.to_owned())
    })?;
    let found = names.of(query.address.to_canonical()).into_iter();
    let views =
        found.map(|found| NameView { name: names::display(&found.name), left_secs: found.left.into() });
    Ok(Json(views.collect()))
}
