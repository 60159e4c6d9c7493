//! Search for the causes of a difference between the verdicts of ringdns and of Unbound.

use crate::{
    amend::drop_signatures,
    case::{Case, Heard, Judged, Peer, Verdict, alike, ours},
    differences::RULES,
    server::{Message, YXDOMAIN},
    unbound::Checking,
    zone::rtype,
};
use ringdns_dnssec::{Name, ProvenAnswer};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Validator that is right where two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Either,
    Ringdns,
    Unbound,
}

/// Cause of a difference, which has to prove itself: both judge once more.
#[derive(Clone, Copy)]
pub enum Cause {
    /// Unbound gives the same YXDOMAIN if nothing that it hears is signed, so it has not validated.
    Unvalidated,
    /// Unbound refuses one of the questions that it has asked also with CD=1, so that its validator
    /// has no part in the refusal.
    Unresolved,
    /// Irregular answers of the upstream, which this validator alone minds: once they are amended,
    /// the difference is gone.
    Amended(Who, Amendment),
    /// Unbound answers with aliases that lead back to one of them, which ringdns refuses.
    Circle,
    /// Records that mislead Unbound: once they are gone, so is the difference.
    Misled(Amendment),
    /// Response code that Unbound does not compare with the proof: with another code, its verdict
    /// has that other code, is the same for the rest, and is that of ringdns.
    PassedCode(Amendment),
    /// Records that this validator alone minds: they can go one by one without a change of the other
    /// one's verdict, and once they all are gone, the difference is, too.
    Needless(Who),
    /// Way of Unbound that ringdns does not go, with questions of its own: once ringdns goes it, the
    /// difference is gone.
    Asked(Amendment),
}

/// A validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Ringdns,
    Unbound,
}

/// Change of the upstream's answer to a question of a case.
pub type Amendment = fn(&Case, &Name, u16, &mut Message);

/// A class of differences.
pub struct Rule {
    pub class: &'static str,
    pub right: Right,
    /// Section of an RFC, or the choice that was made.
    pub reason: &'static str,
    /// Any of them may be the cause; the first counts.
    pub causes: &'static [Cause],
}

/// Most causes of one difference.
const TOGETHER: usize = 5;

/// Whether two verdicts after an amendment tell its validator's mind: only a question that is not
/// asked may cost an answer.
fn gains(before: &Verdict, after: &Verdict) -> bool {
    before.is_err() || after.is_ok()
}

fn differ_in_code(one: &Verdict, other: &Verdict) -> bool {
    let (Ok(one), Ok(other)) = (one, other) else { return false };
    let recoded = ProvenAnswer { rcode: other.rcode, ..one.clone() };
    one.rcode != other.rcode && alike(&Ok(recoded), &Ok(other.clone()))
}

impl Cause {
    /// Judges an amended case. Returns it if the cause takes part in the difference.
    fn amended(self, peer: &Peer<'_>, judged: &Judged) -> Option<Judged> {
        let (Cause::Amended(_, amendment)
        | Cause::Misled(amendment)
        | Cause::PassedCode(amendment)
        | Cause::Asked(amendment)) = self
        else {
            return None;
        };
        let mut case = judged.case.clone();
        case.amendments.push(amendment);
        // Without a change of what they hear, they do not change their minds.
        if judged.heard_in(&case) == judged.heard_in(&judged.case) {
            return None;
        }
        let amended = peer.judge(case);
        let we_stay = alike(&amended.ours, &judged.ours);
        let they_stay = alike(&amended.theirs, &judged.theirs);
        let holds = match self {
            Cause::Amended(Who::Ringdns, _) => they_stay && gains(&judged.ours, &amended.ours),
            Cause::Amended(Who::Unbound, _) => we_stay && gains(&judged.theirs, &amended.theirs),
            Cause::Misled(_) => judged.theirs.is_ok() && amended.is_alike(),
            Cause::PassedCode(_) => amended.is_alike() && differ_in_code(&amended.theirs, &judged.theirs),
            _ => they_stay,
        };
        holds.then_some(amended)
    }

    /// Judges a case without the records that the other validator does not need for its answer.
    fn reduced(self, peer: &Peer<'_>, judged: &Judged) -> Option<Judged> {
        let Cause::Needless(who) = self else { return None };
        let mut reduced = judged.case.clone();
        let (before, other) = match who {
            Who::Ringdns => (&judged.ours, &judged.theirs),
            Who::Unbound => (&judged.theirs, &judged.ours),
        };
        other.as_ref().ok()?;
        for ((name, rtype), said) in judged.heard_in(&judged.case) {
            for rr in [said.answers, said.authorities].concat() {
                reduced.without.push((name.clone(), rtype, rr));
                let after = match who {
                    Who::Ringdns => peer.theirs(&reduced).0,
                    Who::Unbound => ours(&reduced).0,
                };
                if !alike(&after, other) {
                    reduced.without.pop();
                }
            }
        }
        let reduced = peer.judge(reduced);
        let after = if who == Who::Ringdns { &reduced.ours } else { &reduced.theirs };
        gains(before, after).then_some(reduced)
    }

    /// Whether the cause explains all of a difference without an amendment.
    fn explains(self, peer: &Peer<'_>, judged: &Judged) -> bool {
        match self {
            Cause::Unvalidated => {
                let mut case = judged.case.clone();
                case.amendments.push(|_, _, _, message| drop_signatures(message));
                judged.theirs.as_ref().is_ok_and(|theirs| theirs.rcode == YXDOMAIN)
                    && alike(&peer.judge(case).theirs, &judged.theirs)
            }
            Cause::Unresolved if judged.theirs.as_ref().is_err_and(|why| *why == 0) => {
                let asked: BTreeSet<_> = judged.they_asked.iter().collect();
                asked.into_iter().any(|(name, rtype)| {
                    let said = |name: &Name, rtype| judged.case.said(name, rtype);
                    peer.unbound.judge(name, *rtype, Checking::Disabled, said).is_err()
                })
            }
            Cause::Circle => {
                let records = judged.theirs.iter().flat_map(|theirs| &theirs.answers);
                let aliases: BTreeMap<_, _> = records
                    .filter(|record| record.rtype == rtype::CNAME)
                    .map(|record| (&record.owner, &record.rdata))
                    .collect();
                let start = judged.case.name.as_wire().to_vec();
                let chain = std::iter::successors(Some(&start), |at| aliases.get(at).copied());
                judged.ours.is_err() && chain.take(aliases.len() + 2).count() > aliases.len() + 1
            }
            _ => false,
        }
    }
}

/// Returns the fewest rules that explain a difference together.
pub fn explain(peer: &Peer<'_>, judged: &Judged) -> Option<Vec<&'static Rule>> {
    let mut seen: HashSet<Heard> = HashSet::new();
    let mut open = vec![(Vec::new(), judged.clone())];
    let mut closed = Vec::new();
    let with = |path: &[_], rule| [path, &[rule]].concat();
    for _ in 0..TOGETHER {
        for (path, judged) in std::mem::take(&mut open) {
            for (rule, cause) in causes() {
                if cause.explains(peer, &judged) {
                    return Some(with(&path, rule));
                }
                match cause.amended(peer, &judged) {
                    Some(amended) if amended.is_alike() => return Some(with(&path, rule)),
                    Some(amended) if seen.insert(amended.heard_in(&amended.case)) => {
                        open.push((with(&path, rule), amended));
                    }
                    _ => {}
                }
            }
            closed.push((path, judged));
        }
    }
    // These take dozens of verdicts each.
    closed.iter().chain(&open).find_map(|(path, judged)| {
        let is_last = |cause: Cause| cause.reduced(peer, judged).is_some_and(|reduced| reduced.is_alike());
        causes().find(|(_, cause)| is_last(*cause)).map(|(rule, _)| with(path, rule))
    })
}

/// Returns the causes of all rules.
fn causes() -> impl Iterator<Item = (&'static Rule, Cause)> {
    RULES.iter().flat_map(|rule| rule.causes.iter().map(move |cause| (rule, *cause)))
}
