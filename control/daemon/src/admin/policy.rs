//! Lists: their states, and the verdict on a question with the rule that decides; banned prefixes.

use super::{
    Service, SharedService,
    guard::{ApiError, Parameters, Turns},
};
use crate::verdict::{Judges, TestedQuestion};
use axum::{Json, extract::State};
use ringdns_api::{BanView, FloodView, ListRefresh, ListStatus, PolicyTest};
use ringdns_dataplane::group::Group;
use serde::Deserialize;
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};
use tokio::task::spawn_blocking;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestQuery {
    name: String,
    #[serde(rename = "type")]
    rtype: Option<String>,
    client: Option<IpAddr>,
    group: Option<String>,
}

/// Answers with the verdict on a question. Reads the list's file for the rule's place, so one
/// request at a time is answered.
pub(super) async fn test(
    State(service): SharedService,
    Parameters(query): Parameters<TestQuery>,
) -> Result<Json<PolicyTest>, ApiError> {
    let question = TestedQuestion::parse(&query.name, query.rtype.as_deref()).map_err(ApiError::bad)?;
    let (group, client) = (group_of(&service, &query)?, query.client);
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

impl TestQuery {
    /// Returns the name, as it is given.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the type, as it is given.
    pub(super) fn rtype(&self) -> Option<&str> {
        self.rtype.as_deref()
    }

    /// Returns the address of the client.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }
}

/// Returns the group that a request asks about: that of a client, or one by its name.
pub(super) fn group_of(service: &Service, query: &TestQuery) -> Result<Group, ApiError> {
    match (query.client, &query.group) {
        (None, None) => Ok(Group::DEFAULT),
        (Some(client), None) => Ok(service.reloader.group_of(client)),
        (None, Some(name)) => service.reloader.group_named(name).ok_or_else(|| {
            ApiError::bad(format!("there is no group {name:?}. [[client_group]] tables have their names"))
        }),
        (Some(_), Some(_)) => Err(ApiError::bad("give either client or group")),
    }
}

/// Answers with the state of each list. URLs may contain keys of subscribers, so only the owner of the
/// socket can read them.
pub(super) async fn lists(State(service): SharedService) -> Json<Vec<ListStatus>> {
    Json(service.lists.status())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshQuery {
    name: Option<String>,
}

/// Downloads a list or reads its file, or does so for all of them, and answers with the results.
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
pub(super) async fn bans(State(service): SharedService) -> Json<Vec<BanView>> {
    Json(service.bans.list())
}

/// Answers with the zones that are capped because of floods of random names.
pub(super) async fn floods(State(service): SharedService) -> Json<Vec<FloodView>> {
    Json(service.resolver.capped_zones())
}
