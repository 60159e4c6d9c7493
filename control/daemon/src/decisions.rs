//! Labels and decisions of lists for the query log.

use ringdns_dataplane::group::Group;
use ringdns_policy::policy::Verdict;
use ringdns_querylog::{
    LogLabels,
    decision::{Decisions, RuleDecision},
};
use ringdns_resolver::Resolver;
use std::sync::Arc;

/// Returns the labels of numbers in records, and the source of decisions.
pub fn log_labels(resolver: &Arc<Resolver>) -> LogLabels {
    LogLabels {
        upstreams: resolver.labels().clone(),
        lists: resolver.list_counts().labels().clone(),
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
