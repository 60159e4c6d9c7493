//! Known differences between the verdicts of ringdns and of Unbound, and their causes.

use crate::{
    beside::{Case, Judged},
    data, end_of_aliases,
    server::{Message, NOERROR, YXDOMAIN},
    wire::{TREE, honest},
    zone::{Rr, rtype},
};
use ringdns_dnssec::{Name, ProvenAnswer, ProvenRecord};

/// Validator that is right where two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Either,
    Ringdns,
    Unbound,
}

/// Cause of a difference.
#[derive(Clone, Copy)]
pub enum Cause {
    /// Property of the verdicts.
    Seen(fn(&Judged) -> bool),
    /// Irregular answers of the upstream, which this validator alone minds: once they are amended,
    /// the difference is gone.
    Amended(Who, Amendment),
    /// Questions that Unbound asks and ringdns does not: once ringdns has their answers, the
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
    pub cause: Cause,
}

pub const RULES: &[Rule] = &[
    Rule {
        class: "unresolved",
        right: Right::Either,
        reason: "Unbound's resolver discards a response that says nothing of the name, or has malformed RDATA, before validation",
        cause: Cause::Seen(|judged| judged.theirs.as_ref().is_err_and(|why| *why == 0)),
    },
    Rule {
        class: "yxdomain",
        right: Right::Ringdns,
        reason: "Unbound passes YXDOMAIN without validation; its proof is the signed DNAME record (RFC 6672 section 2.2)",
        cause: Cause::Seen(|judged| judged.theirs.as_ref().is_ok_and(|theirs| theirs.rcode == YXDOMAIN)),
    },
    Rule {
        class: "rcode-of-records",
        right: Right::Ringdns,
        reason: "The response code is not signed. ringdns sends the one that the records prove, Unbound the one that came",
        cause: Cause::Seen(|judged| match (&judged.ours, &judged.theirs) {
            (Ok(ours), Ok(theirs)) => {
                ours.rcode != theirs.rcode && ours.secure == theirs.secure && judged.same_records()
            }
            _ => false,
        }),
    },
    Rule {
        class: "alias-of-dname",
        right: Right::Ringdns,
        reason: "An alias made by a signed DNAME record needs no signature (RFC 6672 section 5.3.1); Unbound wants one if the alias or a DNAME was asked for",
        cause: Cause::Seen(|judged| {
            let has = |ours: &ProvenAnswer, rtype| ours.answers.iter().any(|rr| rr.rtype == rtype);
            matches!(judged.case.qtype, rtype::CNAME | rtype::DNAME)
                && judged.theirs.is_err()
                && judged.ours.as_ref().is_ok_and(|ours| has(ours, rtype::DNAME) && has(ours, rtype::CNAME))
        }),
    },
    Rule {
        class: "alias-for-ds",
        right: Right::Ringdns,
        reason: "An alias at the apex of a zone does not answer for the DS records, which are the parent's (RFC 4035 section 3.1.4.1); Unbound follows it",
        cause: Cause::Seen(|judged| {
            let is_alias =
                |rr: &ProvenRecord| rr.rtype == rtype::CNAME && rr.owner == judged.case.name.as_wire();
            judged.case.qtype == rtype::DS
                && judged.theirs.as_ref().is_ok_and(|theirs| theirs.answers.iter().any(is_alias))
                && judged.their_lie().is_some()
        }),
    },
    Rule {
        class: "may-be-unsigned",
        right: Right::Either,
        reason: "An unsigned delegation may be in a span of opt-out (RFC 5155 section 9.2), so ringdns takes what is said of the name as unsigned. Unbound refuses it because other records of the response are signed",
        cause: Cause::Seen(|judged| {
            let Case { name, qtype, .. } = &judged.case;
            judged.theirs.is_err()
                && judged.ours.as_ref().is_ok_and(|ours| {
                    let last = end_of_aliases(name, *qtype, &data(&ours.answers));
                    let zone = TREE.zone_for(&last, *qtype);
                    !ours.secure && zone.uses_opt_out() && !zone.exists(&last)
                })
        }),
    },
    Rule {
        class: "target-asked",
        right: Right::Either,
        reason: "Unbound asks for the target of each alias, ringdns takes it from the response if that has the proofs",
        cause: Cause::Asked(ask_each_target),
    },
    Rule {
        class: "orphan-signature",
        right: Right::Either,
        reason: "Unbound refuses a response with a signature of no RRset, ringdns leaves it out",
        cause: Cause::Amended(Who::Unbound, drop_orphans),
    },
    Rule {
        class: "signature-elsewhere",
        right: Right::Either,
        reason: "A signature belongs in the section of its RRset (RFC 4035 section 3.1.1); Unbound also takes it from another one",
        cause: Cause::Amended(Who::Ringdns, unite_signatures),
    },
    Rule {
        class: "denial-elsewhere",
        right: Right::Either,
        reason: "Denials belong in the authority section (RFC 4035 section 3.1.3); Unbound also takes those of the answer section",
        cause: Cause::Amended(Who::Ringdns, |_, _, _, message| {
            let is_denial =
                |rr: &mut Rr| matches!(covered(rr).unwrap_or(rr.rtype), rtype::NSEC | rtype::NSEC3);
            message.authorities.extend(message.answers.extract_if(.., is_denial));
        }),
    },
    Rule {
        class: "proof-elsewhere",
        right: Right::Either,
        reason: "DS records belong in the answer section (RFC 1035 section 4.1). Unbound caches those of the authority section, and finds them when it asks again",
        cause: Cause::Amended(Who::Ringdns, |case, name, rtype, message| {
            if is_proof(case, name, rtype) {
                move_to_answer(case, name, rtype, message);
            }
        }),
    },
    Rule {
        class: "set-elsewhere",
        right: Right::Either,
        reason: "As proof-elsewhere, for the records that were asked for",
        cause: Cause::Amended(Who::Ringdns, move_to_answer),
    },
    Rule {
        class: "asked-again",
        right: Right::Either,
        reason: "ringdns asks for an alias alone if the response with its target has no proof of the alias",
        cause: Cause::Amended(Who::Unbound, lend_proof),
    },
    Rule {
        class: "alias-beside-data",
        right: Right::Either,
        reason: "An alias has no other data (RFC 1034 section 3.6.2). Of a name with both, Unbound keeps both, ringdns the data",
        cause: Cause::Amended(Who::Unbound, drop_aliases_beside),
    },
    Rule {
        class: "two-aliases",
        right: Right::Either,
        reason: "A name has one alias (RFC 2181 section 10.1). Unbound takes the first, ringdns refuses",
        cause: Cause::Amended(Who::Ringdns, keep_first_alias),
    },
    Rule {
        class: "signed-from-above",
        right: Right::Either,
        reason: "A signature by a zone above the one that has the name (RFC 4035 section 5.3.1): ringdns judges by it, and misses the proof of a wildcard; Unbound takes the records as unsigned",
        cause: Cause::Amended(Who::Ringdns, drop_foreign_signatures),
    },
    Rule {
        class: "signed-from-outside",
        right: Right::Either,
        reason: "A false signature on records of an unsigned zone: Unbound refuses them, ringdns ignores it",
        cause: Cause::Amended(Who::Unbound, drop_foreign_signatures),
    },
    Rule {
        class: "needless-in-proofs",
        right: Right::Either,
        reason: "As needless-authority and needless-answer, in responses for DS and DNSKEY",
        cause: Cause::Amended(Who::Unbound, |case, name, rtype, message| {
            if is_proof(case, name, rtype) {
                drop_false_authority(case, name, rtype, message);
                drop_false_answers(case, name, rtype, message);
            }
        }),
    },
    Rule {
        class: "needless-authority",
        right: Right::Either,
        reason: "Unbound refuses a response with any invalid record in its authority section, ringdns leaves the record out (RFC 4035 section 3.2.3 wants either for AD)",
        cause: Cause::Amended(Who::Unbound, drop_false_authority),
    },
    Rule {
        class: "beside-the-chain",
        right: Right::Either,
        reason: "Unbound refuses a response for invalid records of names that no alias leads to; ringdns leaves them out",
        cause: Cause::Amended(Who::Unbound, drop_beside_chain),
    },
    Rule {
        class: "needless-answer",
        right: Right::Either,
        reason: "Records in the answer section that are no part of the chain: ringdns leaves them out",
        cause: Cause::Amended(Who::Unbound, drop_false_answers),
    },
    Rule {
        class: "rcode-of-proofs",
        right: Right::Either,
        reason: "The response code is not signed. Unbound wants one that fits the records of a response for DS or DNSKEY; ringdns ignores it",
        cause: Cause::Amended(Who::Unbound, |case, name, rtype, message| {
            if is_proof(case, name, rtype) {
                message.rcode = honest(name, rtype).rcode;
            }
        }),
    },
    Rule {
        class: "rcode",
        right: Right::Either,
        reason: "The response code is not signed. Unbound wants one that fits the records, ringdns sends the one that they prove",
        cause: Cause::Amended(Who::Unbound, |_, name, rtype, message| {
            let is_answer = |rr: &Rr| (&rr.owner, rr.rtype) == (name, rtype);
            let is_answered = message.answers.iter().any(is_answer);
            message.rcode = if is_answered { NOERROR } else { honest(name, rtype).rcode };
        }),
    },
    Rule {
        class: "denial-of-another-zone",
        right: Right::Either,
        reason: "A signed denial of another zone beside a name of an unsigned zone: Unbound judges the name by it, ringdns by the DS records",
        cause: Cause::Amended(Who::Unbound, |_, name, rtype, message| {
            let zone = &TREE.zone_for(name, rtype).origin;
            message.authorities.retain(|rr| rr.owner.is_at_or_below(zone));
        }),
    },
];

/// Number of aliases that are followed.
const ALIASES: usize = 11;

/// Replaces what a response says of the targets of aliases by the responses to questions for them.
fn ask_each_target(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    if rtype != case.qtype || matches!(rtype, rtype::CNAME | rtype::DNSKEY) {
        return;
    }
    let (mut at, mut said) = (name.clone(), std::mem::take(message));
    for _ in 0..ALIASES {
        message.rcode = said.rcode;
        let Some(target) = target(&at, &said.answers).filter(|target| *target != at) else { break };
        said.answers.retain(|rr| {
            let rtype = covered(rr).unwrap_or(rr.rtype);
            rr.owner == at && rtype == rtype::CNAME || at.is_below(&rr.owner) && rtype == rtype::DNAME
        });
        drop_orphans(case, &at, rtype, &mut said);
        message.answers.append(&mut said.answers);
        message.authorities.append(&mut said.authorities);
        said = case.changed(&target, rtype);
        at = target;
    }
    message.answers.append(&mut said.answers);
    message.authorities.append(&mut said.authorities);
}

/// Whether a question is asked for the proof of an answer.
fn is_proof(case: &Case, name: &Name, rtype: u16) -> bool {
    (name, rtype) != (&case.name, case.qtype) && matches!(rtype, rtype::DS | rtype::DNSKEY)
}

fn covered(rr: &Rr) -> Option<u16> {
    (rr.rtype == rtype::RRSIG).then(|| u16::from_be_bytes([rr.rdata[0], rr.rdata[1]]))
}

/// Returns the target of a name by its alias, or by the DNAME record above it.
fn target(at: &Name, answers: &[Rr]) -> Option<Name> {
    if let Some(alias) = answers.iter().find(|rr| rr.owner == *at && rr.rtype == rtype::CNAME) {
        return Name::from_wire(&alias.rdata);
    }
    let dname = answers.iter().find(|rr| at.is_below(&rr.owner) && rr.rtype == rtype::DNAME)?;
    let labels: Vec<_> = at.labels().take(at.label_count() - dname.owner.label_count()).collect();
    labels.iter().rev().try_fold(Name::from_wire(&dname.rdata)?, |to, label| to.prepend(label))
}

/// Moves signatures to the section of their set.
fn unite_signatures(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let has = |section: &[Rr], rr: &Rr, rtype: u16| {
        section.iter().any(|set| (&set.owner, set.rtype) == (&rr.owner, rtype))
    };
    let Message { answers, authorities, .. } = message;
    let (first, second) = (answers.clone(), authorities.clone());
    let is_astray = |rr: &Rr, here: &[Rr], there: &[Rr]| {
        covered(rr).is_some_and(|rtype| !has(here, rr, rtype) && has(there, rr, rtype))
    };
    answers.retain(|rr| !is_astray(rr, &first, &second));
    authorities.retain(|rr| !is_astray(rr, &second, &first));
    authorities.extend(first.iter().filter(|rr| is_astray(rr, &first, &second)).cloned());
    answers.extend(second.iter().filter(|rr| is_astray(rr, &second, &first)).cloned());
}

/// Moves the records that were asked for to the answer section.
fn move_to_answer(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let is_end = |rr: &Rr| rr.owner == *name || rtype == case.qtype;
    let is_asked = |rr: &mut Rr| is_end(rr) && covered(rr).unwrap_or(rr.rtype) == rtype;
    message.answers.extend(message.authorities.extract_if(.., is_asked));
}

/// Adds the response to a question for the alias alone.
fn lend_proof(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let is_alias = |rr: &Rr| rr.owner == *name && covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    if rtype != case.qtype || rtype == rtype::CNAME || !message.answers.iter().any(is_alias) {
        return;
    }
    let alone = case.changed(name, rtype::CNAME);
    message.answers.retain(|rr| !is_alias(rr));
    message.answers.splice(..0, alone.answers.into_iter().filter(is_alias));
    message.authorities.extend(alone.authorities);
}

fn drop_aliases_beside(case: &Case, _: &Name, _: u16, message: &mut Message) {
    let has_data: Vec<_> =
        message.answers.iter().filter(|rr| rr.rtype == case.qtype).map(|rr| rr.owner.clone()).collect();
    let is_alias = |rr: &Rr| covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
    message.answers.retain(|rr| case.qtype == rtype::CNAME || !is_alias(rr) || !has_data.contains(&rr.owner));
}

fn drop_orphans(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let all = [&message.answers[..], &message.authorities[..]].concat();
    let is_orphan = |rr: &Rr| {
        covered(rr).is_some_and(|rtype| !all.iter().any(|set| (&set.owner, set.rtype) == (&rr.owner, rtype)))
    };
    message.answers.retain(|rr| !is_orphan(rr));
    message.authorities.retain(|rr| !is_orphan(rr));
}

fn keep_first_alias(_: &Case, _: &Name, _: u16, message: &mut Message) {
    let mut seen = Vec::new();
    message.answers.retain(|rr| {
        if rr.rtype != rtype::CNAME {
            return true;
        }
        let is_new = !seen.contains(&rr.owner);
        seen.push(rr.owner.clone());
        is_new
    });
}

/// Removes what the tree does not say, what has lost its signature, and the denial of what is there.
fn drop_false_authority(case: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let Message { answers, authorities: honest, .. } = honest(name, rtype);
    let is_asked = |rr: &Rr| (&rr.owner, rr.rtype) == (name, rtype);
    if message.answers.iter().any(is_asked) && !answers.iter().any(is_asked) {
        message.authorities.clear();
    }
    message.authorities.retain(|rr| honest.contains(rr));
    let is_signed = |rr: &Rr, among: &[Rr]| {
        among.iter().any(|signature| signature.owner == rr.owner && covered(signature) == Some(rr.rtype))
    };
    let left = message.authorities.clone();
    let has_lost = |rr: &Rr| is_signed(rr, &honest) && !is_signed(rr, &left);
    message.authorities.retain(|rr| rr.rtype == rtype::RRSIG || !has_lost(rr));
    drop_orphans(case, name, rtype, message);
}

fn drop_false_answers(_: &Case, name: &Name, rtype: u16, message: &mut Message) {
    let honest = honest(name, rtype).answers;
    message.answers.retain(|rr| honest.contains(rr));
}

/// Removes signatures by zones other than the one that has the record.
fn drop_foreign_signatures(_: &Case, _: &Name, _: u16, message: &mut Message) {
    message.answers.retain(|rr| match covered(rr) {
        Some(rtype) => rr.rdata[18..].starts_with(TREE.zone_for(&rr.owner, rtype).origin.as_wire()),
        None => true,
    });
}

/// Removes records of names that are neither the one asked for nor at the end of an alias of it.
fn drop_beside_chain(_: &Case, name: &Name, _: u16, message: &mut Message) {
    let mut chain = vec![name.clone()];
    for _ in 0..ALIASES {
        chain.extend(target(&chain[chain.len() - 1], &message.answers));
    }
    let makes = |rr: &Rr| {
        let is_dname = covered(rr).unwrap_or(rr.rtype) == rtype::DNAME;
        is_dname && chain.iter().any(|at| at.is_below(&rr.owner))
    };
    message.answers.retain(|rr| chain.contains(&rr.owner) || makes(rr));
}
