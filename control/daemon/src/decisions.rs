//! Labels and decisions of lists for the query log.

use crate::client_names::ClientNames;
use ringdns_dataplane::group::Group;
use ringdns_policy::policy::Verdict;
use ringdns_querylog::{
    LogLabels,
    client_name::ClientNaming,
    decision::{Decisions, RuleDecision},
};
use ringdns_resolver::Resolver;
use std::sync::Arc;

/// Returns the labels of numbers in records, and the sources of decisions and of clients' names.
pub fn log_labels(resolver: &Arc<Resolver>, clients: Option<Arc<ClientNames>>) -> LogLabels {
    LogLabels {
        upstreams: resolver.labels().clone(),
        lists: resolver.list_counts().labels().clone(),
        clients: clients.map(|clients| clients as Arc<dyn ClientNaming>),
        decisions: Some(Arc::new(ListDecisions(resolver.clone()))),
    }
}

/// Lists in effect, as the query log asks them.
struct ListDecisions(Arc<Resolver>);

impl Decisions for ListDecisions {
    fn decide(&self, name: &[u8], qtype: u16, group: Group) -> Option<RuleDecision> {
        let policy = self.0.policy()?;
        let Verdict::Blocked(blocked) = policy.policies().of(group).judge(name, qtype) else { return None };
        let rule = blocked.rule.text(name);
        Some(RuleDecision { list: blocked.list.name.to_string(), rule, ede: blocked.list.ede })
    }
}
