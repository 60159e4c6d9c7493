//! Lists: their states, and the verdict on a question with the rule that decides; banned prefixes.

use super::{
    Service, SharedService,
    caller::Caller,
    guard::{ApiError, Parameters, Turns},
};
use crate::verdict::{Judges, TestedQuestion};
use axum::{Extension, Json, extract::State};
use ringdns_api::{BanView, FloodView, ListRefresh, ListStatus, PolicyTest, Role};
use ringdns_dataplane::group::Group;
use serde::Deserialize;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TestQuery {
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
}

/// Answers with the verdict on a question. Reads the list's file for the rule's place, so one
/// request at a time is answered.
#[utoipa::path(
    get,
    path = "/v1/policy/test",
    operation_id = "policy_test",
    params(TestQuery),
    responses((status = 200, description = "Answer", body = PolicyTest)),
)]
pub(super) async fn test(
    State(service): SharedService,
    Parameters(query): Parameters<TestQuery>,
) -> Result<Json<PolicyTest>, ApiError> {
    let question = TestedQuestion::parse(&query.name, query.rtype.as_deref()).map_err(ApiError::bad)?;
    let (group, client) = (group_of(&service, query.client, query.group.as_deref())?, query.client);
    verdict(&service, question, client, group).await.map(Json)
}

/// Returns the verdict on a question of a client of `group`.
pub(super) async fn verdict(
    service: &Arc<Service>,
    question: TestedQuestion,
    client: Option<IpAddr>,
    group: Group,
) -> Result<PolicyTest, ApiError> {
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let service = service.clone();
    let testing = spawn_blocking(move || {
        let _turn = turn;
        let (local, engines) = (service.resolver.local_data(), service.resolver.safe_search());
        let policy = service.resolver.policy();
        let lists = policy.as_ref().map(|policy| policy.policies());
        let judges = Judges { local: local.as_deref(), safe_search: engines.as_deref(), lists };
        let group = (group, service.reloader.name_of_group(group));
        judges.test(&question, (client, group), |list, found| {
            service.reloader.place_of_rule(list, &question.name, question.qtype, found)
        })
    });
    testing.await.map_err(ApiError::failed)
}

/// Returns the group that a request asks about: that of a client, or one by its name.
pub(super) fn group_of(
    service: &Service,
    client: Option<IpAddr>,
    group: Option<&str>,
) -> Result<Group, ApiError> {
    match (client, group) {
        (None, None) => Ok(Group::DEFAULT),
        (Some(client), None) => Ok(service.reloader.group_of(client)),
        (None, Some(name)) => service.reloader.group_named(name).ok_or_else(|| {
            ApiError::bad(format!("there is no group {name:?}. [[client_group]] tables have their names"))
        }),
        (Some(_), Some(_)) => Err(ApiError::bad("give either client or group")),
    }
}

/// Answers with the state of each list. URLs may contain keys of subscribers, so callers who may only read
/// see their hosts alone.
#[utoipa::path(
    get,
    path = "/v1/policy/lists",
    operation_id = "lists",
    responses((status = 200, description = "Answer", body = Vec<ListStatus>)),
)]
pub(super) async fn lists(
    State(service): SharedService,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<ListStatus>> {
    let mut lists = service.lists.status();
    if caller.role() < Some(Role::Operate) {
        for list in &mut lists {
            let shown = without_key(&list.source);
            list.last_error = list.last_error.take().map(|error| error.replace(&list.source, &shown));
            list.source = shown;
        }
    }
    Json(lists)
}

/// Returns a path, or the scheme and the host of a URL.
fn without_key(source: &str) -> String {
    let Some((scheme, rest)) = source.split_once("://") else { return source.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/…")
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshQuery {
    /// Name of the list; absent: all.
    name: Option<String>,
}

/// Downloads a list or reads its file, or does so for all of them, and answers with the results.
#[utoipa::path(
    post,
    path = "/v1/policy/refresh",
    operation_id = "refresh_lists",
    params(RefreshQuery),
    responses((status = 200, description = "Answer", body = Vec<ListRefresh>)),
)]
pub(super) async fn refresh(
    State(service): SharedService,
    Parameters(query): Parameters<RefreshQuery>,
) -> Result<Json<Vec<ListRefresh>>, ApiError> {
    let results = service.lists.refresh(query.name.as_deref()).await;
    results.map(Json).ok_or_else(|| {
        let name = query.name.unwrap_or_default();
        ApiError::bad(format!("no list from a file or a URL is called {name:?}: see GET /v1/policy/lists"))
    })
}

/// Answers with the banned prefixes.
#[utoipa::path(
    get,
    path = "/v1/policy/bans",
    operation_id = "bans",
    responses((status = 200, description = "Answer", body = Vec<BanView>)),
)]
pub(super) async fn bans(State(service): SharedService) -> Json<Vec<BanView>> {
    Json(service.bans.list())
}

/// Answers with the zones that are capped because of floods of random names.
#[utoipa::path(
    get,
    path = "/v1/policy/floods",
    operation_id = "floods",
    responses((status = 200, description = "Answer", body = Vec<FloodView>)),
)]
pub(super) async fn floods(State(service): SharedService) -> Json<Vec<FloodView>> {
    Json(service.resolver.capped_zones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_urls_are_not_shown() {
        for (source, shown) in [
            ("/etc/ringdns/ads.txt", "/etc/ringdns/ads.txt"),
            ("configuration", "configuration"),
            ("https://lists.example/key/ads.txt", "https://lists.example/…"),
            ("https://user:key@lists.example:8443?key=1", "https://lists.example:8443/…"),
            ("axfr://[2001:db8::1]:53/rpz.example", "axfr://[2001:db8::1]:53/…"),
        ] {
            assert_eq!(without_key(source), shown);
        }
    }
}
