//! Lists: their states, and the verdict on a question with the rule that decides; banned prefixes.

use super::{
    Service, SharedService,
    guard::{ApiError, Parameters, Turns},
};
use axum::{Json, extract::State};
use ringdns_api::{BanView, FloodView, ListRefresh, ListStatus, PolicyTest};
use ringdns_common::names;
use ringdns_dataplane::{dns::rtype, group::Group};
use ringdns_policy::{data::LocalData, list::Kind, policy::Verdict, rule::RuleAnswer};
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
    let name = names::name(&query.name).map_err(ApiError::bad)?;
    let qtype = query.rtype.as_deref().map_or(Ok(rtype::A), names::record_type).map_err(ApiError::bad)?;
    let group = group_of(&service, &query)?;
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let testing = spawn_blocking(move || {
        let _turn = turn;
        let mut test = PolicyTest {
            name: names::display(&name),
            rtype: names::type_name(qtype),
            group: service.reloader.name_of_group(group),
            action: "resolve".into(),
            list: None,
            answer: None,
            rule: None,
            dry_run: Vec::new(),
        };
        let answers =
            |data: Option<Arc<LocalData>>| data.is_some_and(|data| data.answer(&name, qtype).is_some());
        if answers(service.resolver.local_data()) {
            test.action = "local".into();
            return test;
        }
        let is_engine = answers(service.resolver.safe_search());
        if is_engine {
            test.action = "safe_search".into();
        }
        let Some(policy) = service.resolver.policy() else { return test };
        let policy = policy.policies().of(group);
        test.dry_run = policy.would_block(&name, qtype).iter().map(|list| list.name.to_string()).collect();
        let (list, mut rule) = match policy.judge(&name, qtype) {
            Verdict::Pass => return test,
            Verdict::Allowed(allowed) => {
                if !is_engine {
                    test.action = "allow".into();
                }
                (allowed.list, allowed.rule)
            }
            Verdict::Blocked(blocked) => {
                test.action = "block".into();
                test.answer = Some(answer(blocked.answer));
                (&*blocked.list.name, blocked.rule)
            }
        };
        // All clients for whom the rules are the same have one policy, made for one of their prefixes.
        let zone = policy.block_lists().iter().find(|zone| *zone.name == *list);
        if let (Kind::Client(_), Some(client), Some(zone)) = (rule.kind, query.client, zone)
            && let Some(prefix) = zone.list.clients().longest(client, u8::MAX)
            && let Some(own) = zone.list.find_client(prefix, qtype)
        {
            rule = own;
        }
        test.list = Some(list.to_owned());
        test.rule = service.reloader.place_of_rule(list, &name, qtype, &rule);
        test
    });
    testing.await.map(Json).map_err(ApiError::failed)
}

/// Returns the group that a request asks about: that of a client, or one by its name.
fn group_of(service: &Service, query: &TestQuery) -> Result<Group, ApiError> {
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

/// Downloads a list, or all of them, and answers with the results.
pub(super) async fn refresh(
    State(service): SharedService,
    Parameters(query): Parameters<RefreshQuery>,
) -> Result<Json<Vec<ListRefresh>>, ApiError> {
    let results = service.lists.refresh(query.name.as_deref()).await;
    results.map(Json).ok_or_else(|| {
        let name = query.name.unwrap_or_default();
        ApiError::bad(format!("no list that is downloaded is called {name:?}: see GET /policy/lists"))
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

/// Returns an answer as the configuration has it.
fn answer(answer: &RuleAnswer) -> String {
    match answer {
        RuleAnswer::NxDomain => "nxdomain".into(),
        RuleAnswer::NoData => "nodata".into(),
        RuleAnswer::Refused => "refused".into(),
        RuleAnswer::Drop => "drop".into(),
        RuleAnswer::TcpOnly => "tcp-only".into(),
        RuleAnswer::Null => "null".into(),
        RuleAnswer::Address(address) => address.to_string(),
        RuleAnswer::Alias(name) => names::display(name),
        RuleAnswer::AliasBelow(name) => format!("*.{}", names::display(name)),
    }
}
