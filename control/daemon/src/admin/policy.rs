//! Verdict of the lists on a question, and the rule that decides; banned prefixes.

use super::{
    SharedService,
    guard::{ApiError, Parameters, Turns},
};
use axum::{Json, extract::State};
use ringdns_api::{BanView, PolicyTest};
use ringdns_common::names;
use ringdns_dataplane::dns::rtype;
use ringdns_policy::{policy::Verdict, rule::RuleAnswer};
use serde::Deserialize;
use std::sync::LazyLock;
use tokio::task::spawn_blocking;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestQuery {
    name: String,
    #[serde(rename = "type")]
    rtype: Option<String>,
}

/// Answers with the verdict on a question. Reads the list's file for the rule's place, so one
/// request at a time is answered.
pub(super) async fn test(
    State(service): SharedService,
    Parameters(query): Parameters<TestQuery>,
) -> Result<Json<PolicyTest>, ApiError> {
    let name = names::name(&query.name).map_err(ApiError::bad)?;
    let qtype = query.rtype.as_deref().map_or(Ok(rtype::A), names::record_type).map_err(ApiError::bad)?;
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let turn = TURNS.take().await?;
    let testing = spawn_blocking(move || {
        let _turn = turn;
        let mut test = PolicyTest {
            name: names::display(&name),
            rtype: names::type_name(qtype),
            action: "resolve".into(),
            list: None,
            answer: None,
            rule: None,
            dry_run: Vec::new(),
        };
        let Some(policy) = service.resolver.policy() else { return test };
        let policy = policy.policy();
        test.dry_run = policy.would_block(&name, qtype).iter().map(|list| list.name.to_string()).collect();
        let (list, rule) = match policy.judge(&name, qtype) {
            Verdict::Pass => return test,
            Verdict::Allowed(allowed) => {
                test.action = "allow".into();
                (allowed.list, allowed.rule)
            }
            Verdict::Blocked(blocked) => {
                test.action = "block".into();
                test.answer = Some(answer(blocked.answer));
                (&*blocked.list.name, blocked.rule)
            }
        };
        test.list = Some(list.to_owned());
        test.rule = service.reloader.place_of_rule(list, &name, qtype, &rule);
        test
    });
    testing.await.map(Json).map_err(ApiError::failed)
}

/// Answers with the banned prefixes.
pub(super) async fn bans(State(service): SharedService) -> Json<Vec<BanView>> {
    Json(service.bans.list())
}

/// Returns an answer as the configuration has it.
fn answer(answer: &RuleAnswer) -> String {
    match answer {
        RuleAnswer::NxDomain => "nxdomain".into(),
        RuleAnswer::NoData => "nodata".into(),
        RuleAnswer::Refused => "refused".into(),
        RuleAnswer::Drop => "drop".into(),
        RuleAnswer::Null => "null".into(),
        RuleAnswer::Address(address) => address.to_string(),
        RuleAnswer::Alias(name) => names::display(name),
    }
}
