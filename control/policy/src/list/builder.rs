//! Building of a list, rule by rule.

use super::{
    Class, Counts, List, ListedClients,
    addresses::AddressRulesBuilder,
    patterns::{PATTERNS_BYTES_MAX, Patterns, check},
    special::{RULES_A_NAME_MAX, Special},
};
use crate::{
    names::{Mark, NameKey, Reach, Sign, TableBuilder},
    rule::{Effect, Rule, RuleAnswer, Subject},
};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Most problems that a builder keeps. The number of all of them is kept as well.
pub const PROBLEMS_MAX: usize = 1_000;

/// Most different addresses and aliases whose rules without conditions have a table each. Rules with
/// another one are in the exact map.
const CLASSES_MAX: usize = 8;

/// Most regular expressions of a list.
const PATTERNS_MAX: usize = 10_000;

/// Most different sets of clients that rules of a list are for. They bound the time in which clients are
/// told apart.
pub const CLIENT_SETS_MAX: usize = 64;

/// Error about a rule that a list cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Name that is not in wire format.
    #[error("its name is longer than 255 bytes or has an empty label. Correct the name")]
    Name,
    /// Regular expression that is refused.
    #[error("its regular expression is refused: {0}. Simplify it, or remove it")]
    Pattern(String),
    /// Regular expressions that are too large together.
    #[error(
        "the list's regular expressions up to this one take more than {PATTERNS_BYTES_MAX} bytes, or are more \
         than {PATTERNS_MAX}. Write rules about names instead"
    )]
    Patterns,
    /// Too many rules with conditions about one name.
    #[error("its name has {RULES_A_NAME_MAX} rules with conditions already. Merge them")]
    TooMany,
    /// Too many sets of clients.
    #[error(
        "the list has rules for {CLIENT_SETS_MAX} different sets of clients ('client') already. Let rules be for \
         the same clients, or use client groups"
    )]
    Clients,
    /// Too many rules.
    #[error("the list has 16 million rules already. Split it")]
    Full,
}

/// Rule that a list does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of the line, from 1 on.
    pub line: u32,
    /// Reason.
    pub error: RuleError,
}

/// Rules on their way into a [`List`].
///
/// Beside the rules of the list, a builder needs memory for an eighth of them at most.
#[derive(Debug)]
pub struct ListBuilder {
    key: NameKey,
    plain: TableBuilder,
    classes: Vec<(Effect, bool, TableBuilder)>,
    special: Special,
    patterns: Vec<Rule>,
    pattern_lines: Vec<u32>,
    answers: AddressRulesBuilder,
    clients: AddressRulesBuilder,
    client_sets: Vec<ListedClients>,
    /// Hashes of the rules in `special` and `patterns`.
    known: HashSet<u128>,
    counts: Counts,
    problems: Vec<Problem>,
    problems_total: usize,
    depths: u128,
    by_labels: bool,
}

impl ListBuilder {
    /// Returns a builder without rules. All lists of a policy have the same key.
    pub fn new(key: NameKey) -> Self {
        ListBuilder {
            key,
            plain: TableBuilder::default(),
            classes: Vec::new(),
            special: Special::default(),
            patterns: Vec::new(),
            pattern_lines: Vec::new(),
            answers: AddressRulesBuilder::default(),
            clients: AddressRulesBuilder::default(),
            client_sets: Vec::new(),
            known: HashSet::new(),
            counts: Counts::default(),
            problems: Vec::new(),
            problems_total: 0,
            depths: 0,
            by_labels: false,
        }
    }

    /// Lets the rule with the most labels decide, whether it allows or blocks, as in a response policy
    /// zone.
    pub fn decide_by_labels(&mut self) {
        self.by_labels = true;
    }

    /// Adds the rule of a line, with numbers from 1 on. A rule that is refused becomes a problem.
    pub fn push(&mut self, line: u32, mut rule: Rule) {
        let pushed = match self.share_clients(line, &mut rule) {
            Ok(()) => self.push_subject(line, rule),
            Err(error) => Err(error),
        };
        if let Err(error) = pushed {
            self.problem(line, error);
        }
    }

    fn push_subject(&mut self, line: u32, rule: Rule) -> Result<(), RuleError> {
        match &rule.subject {
            Subject::Regex(pattern) => {
                self.check_pattern(pattern)?;
                self.push_pattern(line, rule);
                Ok(())
            }
            Subject::Exact(name) => self.push_named(name, Reach::Exact, &rule),
            Subject::Suffix(name) => self.push_named(name, Reach::Suffix, &rule),
            Subject::Below(name) => self.push_named(name, Reach::Below, &rule),
            Subject::Answer(_) | Subject::Client(_) => self.push_address(&rule),
        }
    }

    /// Lets rules for the same clients share the set of these.
    fn share_clients(&mut self, line: u32, rule: &mut Rule) -> Result<(), RuleError> {
        let Some(clients) = &mut rule.clients else { return Ok(()) };
        match self.client_sets.iter().find(|known| known.clients == *clients) {
            Some(known) => *clients = known.clients.clone(),
            None if self.client_sets.len() >= CLIENT_SETS_MAX => return Err(RuleError::Clients),
            None => self.client_sets.push(ListedClients { clients: clients.clone(), line }),
        }
        Ok(())
    }

    /// Returns the list, and the rules that it does not have: the first [`PROBLEMS_MAX`], and the
    /// number of all.
    pub fn finish(mut self) -> (List, Vec<Problem>, usize) {
        let (patterns, without_room) = Patterns::new(std::mem::take(&mut self.patterns));
        let kept = self.pattern_lines.len().saturating_sub(without_room);
        self.counts.regex -= without_room;
        self.counts.rules -= without_room;
        for line in self.pattern_lines.split_off(kept) {
            self.problem(line, RuleError::Patterns);
        }
        let mut content = self.key.hasher128();
        self.by_labels.hash(&mut content);
        let mut counts = self.counts;
        let mut finish = |builder: TableBuilder| {
            let (table, duplicates) = builder.finish();
            counts.duplicates += duplicates;
            counts.rules -= duplicates;
            table
        };
        let plain = finish(self.plain);
        let mut classes: Vec<Class> = self
            .classes
            .into_iter()
            .map(|(effect, important, builder)| Class { effect, important, table: finish(builder) })
            .collect();
        classes.sort_unstable_by(|a, b| (&a.effect, a.important).cmp(&(&b.effect, b.important)));
        let mut finish_addresses = |builder: AddressRulesBuilder| {
            let (rules, duplicates) = builder.finish();
            counts.duplicates += duplicates;
            counts.rules -= duplicates;
            rules
        };
        let (answers, clients) = (finish_addresses(self.answers), finish_addresses(self.clients));
        for rules in [&answers, &clients] {
            content.write_usize(rules.len());
            rules.iter().for_each(|rule| rule.hash(&mut content));
        }
        plain.entries().for_each(|entry| content.write_u64(entry));
        for class in &classes {
            (&class.effect, class.important).hash(&mut content);
            class.table.entries().for_each(|entry| content.write_u64(entry));
        }
        // A sum does not depend on the order.
        let special = self.known.iter().fold(0u128, |sum, hash| sum.wrapping_add(*hash));
        self.special.shrink();
        let rules = || self.special.rules().chain(patterns.rules());
        // Rules that were refused may have been the only ones for their clients.
        let used: HashSet<_> = rules().filter_map(|rule| rule.clients.as_ref().map(Arc::as_ptr)).collect();
        self.client_sets.retain(|set| used.contains(&Arc::as_ptr(&set.clients)));
        let list = List {
            key: self.key,
            plain,
            classes,
            special: self.special,
            patterns,
            answers,
            clients,
            client_sets: self.client_sets.into(),
            counts,
            content: content.finish128().as_u128().wrapping_add(special),
            depths: self.depths,
            by_labels: self.by_labels,
        };
        (list, self.problems, self.problems_total)
    }

    fn push_named(&mut self, name: &[u8], reach: Reach, rule: &Rule) -> Result<(), RuleError> {
        let (fingerprint, labels) = self.key.fingerprint(name).ok_or(RuleError::Name)?;
        let sign = if rule.effect == Effect::Allow { Sign::Allow } else { Sign::Block };
        if rule.is_plain() {
            let mark = Mark::new(reach, sign);
            self.plain.push(fingerprint, labels, mark).map_err(|_| RuleError::Full)?;
        } else if let Some(class) = self.class(rule) {
            // The class has the effect: the sign says only that there is a rule.
            let mark = Mark::new(reach, Sign::Block);
            class.push(fingerprint, labels, mark).map_err(|_| RuleError::Full)?;
        } else if !self.known.insert(self.hash(rule)) {
            self.counts.duplicates += 1;
            self.count(&rule.subject);
            return Ok(());
        } else {
            let pushed = self.special.push(fingerprint, labels, rule.clone());
            if pushed.is_none() {
                self.known.remove(&self.hash(rule));
                return Err(RuleError::TooMany);
            }
            self.counts.special += 1;
        }
        self.depths |= 1 << (labels & 127);
        self.counts.rules += 1;
        self.count(&rule.subject);
        Ok(())
    }

    /// Adds a rule about addresses, which has no conditions in any format.
    fn push_address(&mut self, rule: &Rule) -> Result<(), RuleError> {
        let pushed = match rule.subject {
            Subject::Answer(prefix) => self.answers.push(prefix, &rule.effect),
            Subject::Client(prefix) => self.clients.push(prefix, &rule.effect),
            Subject::Exact(_) | Subject::Suffix(_) | Subject::Below(_) | Subject::Regex(_) => None,
        };
        pushed.ok_or(RuleError::Full)?;
        self.counts.rules += 1;
        self.count(&rule.subject);
        Ok(())
    }

    /// Returns the table for rules without conditions that have the effect of `rule`.
    fn class(&mut self, rule: &Rule) -> Option<&mut TableBuilder> {
        if rule.has_conditions() {
            return None;
        }
        let known = self.classes.iter().position(|class| class.0 == rule.effect && class.1 == rule.important);
        let at = match known {
            Some(at) => at,
            None if has_value(&rule.effect)
                && self.classes.iter().filter(|class| has_value(&class.0)).count() >= CLASSES_MAX =>
            {
                return None;
            }
            None => {
                self.classes.push((rule.effect.clone(), rule.important, TableBuilder::default()));
                self.classes.len() - 1
            }
        };
        self.classes.get_mut(at).map(|class| &mut class.2)
    }

    fn check_pattern(&self, pattern: &str) -> Result<(), RuleError> {
        if self.patterns.len() >= PATTERNS_MAX {
            return Err(RuleError::Patterns);
        }
        check(pattern).map_err(RuleError::Pattern)
    }

    fn push_pattern(&mut self, line: u32, rule: Rule) {
        self.counts.regex += 1;
        if !self.known.insert(self.hash(&rule)) {
            self.counts.duplicates += 1;
            return;
        }
        self.counts.rules += 1;
        self.patterns.push(rule);
        self.pattern_lines.push(line);
    }

    fn count(&mut self, subject: &Subject) {
        match subject {
            Subject::Exact(_) => self.counts.exact += 1,
            Subject::Suffix(_) => self.counts.suffix += 1,
            Subject::Below(_) => self.counts.below += 1,
            Subject::Regex(_) => self.counts.regex += 1,
            Subject::Answer(_) => self.counts.answers += 1,
            Subject::Client(_) => self.counts.clients += 1,
        }
    }

    fn hash(&self, rule: &Rule) -> u128 {
        let mut hasher: SipHasher13 = self.key.hasher128();
        rule.hash(&mut hasher);
        hasher.finish128().as_u128()
    }

    fn problem(&mut self, line: u32, error: RuleError) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { line, error });
        }
    }
}

/// Whether there may be any number of different effects of this kind.
fn has_value(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Answer(RuleAnswer::Address(_) | RuleAnswer::Alias(_) | RuleAnswer::AliasBelow(_))
    )
}
