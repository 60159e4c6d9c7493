//! Decisions of lists, which rows tell of.

use ringdns_dataplane::group::Group;

/// Rule that decided on a question, as the lists have it when the row is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleDecision {
    /// Name of the list.
    pub list: String,
    /// The rule.
    pub rule: String,
    /// Extended error of the list's answers (RFC 8914).
    pub ede: Option<u16>,
}

/// Source of decisions. Records have no room for rules, and answers from caches do not know theirs, so
/// the collector asks again, for blocked questions alone.
pub trait Decisions: Send + Sync {
    /// Returns the decision on a question, with its name in wire format and lowercased, of a client
    /// of `group`; `None`: no rule is about the name itself.
    fn decide(&self, name: &[u8], qtype: u16, group: Group) -> Option<RuleDecision>;
}
