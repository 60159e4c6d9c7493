//! A rule of a list, as all formats express it.

use crate::clients::{Client, ClientSet};
use ringdns_dataplane::prefix::Prefix;
use std::{net::IpAddr, sync::Arc};

/// Domain name in wire format, lowercased.
pub type WireName = Box<[u8]>;

/// Names that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The name itself.
    Exact(WireName),
    /// The name and all names below it.
    Suffix(WireName),
    /// All names below the name, without itself.
    Below(WireName),
    /// Names whose text form, lowercased and without the last dot, the expression matches somewhere.
    Regex(Box<str>),
    /// Names whose answer has an address in the prefix.
    Answer(Prefix),
    /// All names, for clients in the prefix.
    Client(Prefix),
}

/// Effect of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The question is answered as the list says.
    Block,
    /// No list blocks the question.
    Allow,
    /// The question gets an answer that the rule itself chooses.
    Answer(RuleAnswer),
}

/// Answer that a rule chooses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAnswer {
    /// The name does not exist.
    NxDomain,
    /// The name has no records of the type.
    NoData,
    /// RCODE REFUSED.
    Refused,
    /// No answer at all.
    Drop,
    /// An empty answer over UDP that makes the client ask over TCP, where the question is resolved.
    TcpOnly,
    /// The null address: 0.0.0.0 and ::. Questions of other types get no data.
    Null,
    /// An address. Questions of other types get no data. A name's rules of this kind, as many as it
    /// has addresses, are one answer together.
    Address(IpAddr),
    /// An alias to another name, which is resolved.
    Alias(WireName),
    /// An alias to the name that the rule is applied to, continued by this one.
    AliasBelow(WireName),
}

/// Types of questions that a rule applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Types {
    /// All types.
    #[default]
    All,
    /// Only these.
    Only(Vec<u16>),
    /// All but these.
    Except(Vec<u16>),
}

/// Rule of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Names that the rule is about.
    pub subject: Subject,
    /// Effect on questions about them.
    pub effect: Effect,
    /// Whether the rule beats rules that are not important, also those that allow.
    pub important: bool,
    /// Types of questions that it applies to.
    pub types: Types,
    /// Names to which it does not apply, nor to names below them.
    pub except: Vec<WireName>,
    /// Clients for whom alone it applies.
    pub clients: Option<Arc<ClientSet>>,
}

impl Rule {
    /// Returns a rule without conditions.
    pub fn new(subject: Subject, effect: Effect) -> Self {
        Rule { subject, effect, important: false, types: Types::All, except: Vec::new(), clients: None }
    }

    /// Whether the rule has no conditions and the answer of its list, as nearly all rules.
    pub fn is_plain(&self) -> bool {
        !self.important && !self.has_conditions() && !matches!(self.effect, Effect::Answer(_))
    }

    /// Whether the rule applies to some questions only for the names that it is about.
    pub(crate) fn has_conditions(&self) -> bool {
        self.types != Types::All || !self.except.is_empty() || self.clients.is_some()
    }

    /// Whether the rule applies to a question of clients for one of the names that it is about.
    pub(crate) fn applies(&self, name: &[u8], qtype: u16, client: Client) -> bool {
        self.types.include(qtype)
            && !self.except.iter().any(|above| is_within(name, above))
            && self.clients.as_ref().is_none_or(|clients| clients.has(client))
    }
}

impl Types {
    /// Whether a rule applies to questions of a type.
    pub fn include(&self, qtype: u16) -> bool {
        match self {
            Types::All => true,
            Types::Only(types) => types.contains(&qtype),
            Types::Except(types) => !types.contains(&qtype),
        }
    }
}

/// Whether `name` is `above` or a name below it.
fn is_within(name: &[u8], above: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > above.len() {
        let label = rest.first().map_or(0, |len| usize::from(*len));
        rest = rest.get(label + 1..).unwrap_or_default();
    }
    rest == above
}
