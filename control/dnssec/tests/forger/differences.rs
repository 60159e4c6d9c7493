//! Known differences between the verdicts of ringdns and of Unbound.

use crate::{
    amend::*,
    explain::{Cause, Right, Rule, Who},
    server::{NOERROR, NXDOMAIN, YXDOMAIN},
    wire::{TREE, honest},
    zone::{Rr, rtype},
};

/// All classes of differences. Of several that explain one, the first counts.
pub const RULES: &[Rule] = &[
    Rule {
        class: "unresolved",
        right: Right::Either,
        reason: "Unbound's resolver discards a response that says nothing of the name, or has malformed RDATA, before validation: it also does with CD=1",
        causes: &[Cause::Unresolved],
    },
    Rule {
        class: "yxdomain",
        right: Right::Ringdns,
        reason: "Unbound passes YXDOMAIN without validation, and does so if nothing at all is signed; its proof is the signed DNAME record (RFC 6672 section 2.2)",
        causes: &[Cause::Unvalidated],
    },
    Rule {
        class: "alias-of-dname",
        right: Right::Ringdns,
        reason: "An alias made by a signed DNAME record needs no signature (RFC 6672 section 5.3.1); Unbound wants one if the alias or a DNAME was asked for, and is content once the alias has one",
        causes: &[Cause::Amended(Who::Unbound, sign_made_alias)],
    },
    Rule {
        class: "alias-for-ds",
        right: Right::Ringdns,
        reason: "An alias at the apex of a zone does not answer for the DS records, which are the parent's (RFC 4035 section 3.1.4.1); Unbound follows it",
        causes: &[Cause::Misled(|case, name, rtype, message| {
            let is_alias = |rr: &Rr| rr.owner == *name && covered(rr).unwrap_or(rr.rtype) == rtype::CNAME;
            let is_asked = (name, rtype) == (&case.name, rtype::DS) && is_zone(name);
            message.answers.retain(|rr| !(is_asked && is_alias(rr)));
        })],
    },
    Rule {
        class: "dname-from-above",
        right: Right::Ringdns,
        reason: "A DNAME record belongs to the zone of its owner, which must sign it (RFC 4035 section 5.3.1). Unbound judges the response by the zone of the name asked for, and takes an unsigned DNAME record of a signed zone above an unsigned one",
        causes: &[Cause::Misled(drop_dnames_from_above)],
    },
    Rule {
        class: "may-be-unsigned",
        right: Right::Either,
        reason: "An unsigned delegation may be in a span of opt-out (RFC 5155 sections 9.2 and 12.2), so ringdns takes what is said of the name as unsigned. Unbound refuses it because other records of the response, or an alias in place of the DS records, are signed, and takes it without them",
        causes: &[Cause::Amended(Who::Unbound, tell_of_delegation)],
    },
    Rule {
        class: "target-asked",
        right: Right::Either,
        reason: "Unbound asks for the target of each alias, ringdns takes it from the response if that has the proofs",
        causes: &[Cause::Asked(ask_each_target)],
    },
    Rule {
        class: "orphan-signature",
        right: Right::Either,
        reason: "Unbound refuses a response with a signature of no RRset, ringdns leaves it out: what is bogus is an RRset, not a response (RFC 4035 section 4.3)",
        causes: &[Cause::Amended(Who::Unbound, drop_orphans)],
    },
    Rule {
        class: "signature-elsewhere",
        right: Right::Either,
        reason: "A signature belongs in the section of its RRset (RFC 4035 section 3.1.1); Unbound also takes it from another one",
        causes: &[
            Cause::Amended(Who::Ringdns, unite_signatures),
            Cause::Amended(Who::Ringdns, take_signatures_to_answer),
        ],
    },
    Rule {
        class: "denial-elsewhere",
        right: Right::Either,
        reason: "Denials belong in the authority section (RFC 4035 section 3.1.3); Unbound also takes those of the answer section",
        causes: &[Cause::Amended(Who::Ringdns, |_, _, _, message| {
            message.authorities.extend(message.answers.extract_if(.., |rr| is_denial(rr)));
        })],
    },
    Rule {
        class: "proof-elsewhere",
        right: Right::Either,
        reason: "DS records belong in the answer section (RFC 1035 section 4.1). Unbound also takes those of the authority section",
        causes: &[Cause::Amended(Who::Ringdns, |case, name, rtype, message| {
            if is_proof(case, name, rtype) {
                move_to_answer(case, name, rtype, message);
            }
        })],
    },
    Rule {
        class: "set-elsewhere",
        right: Right::Either,
        reason: "As proof-elsewhere, for the records that were asked for",
        causes: &[Cause::Amended(Who::Ringdns, move_to_answer)],
    },
    Rule {
        class: "ds-as-referral",
        right: Right::Either,
        reason: "As proof-elsewhere and set-elsewhere. Unbound takes a response with the DS records in its authority section for a referral, and drops all other records",
        causes: &[Cause::Amended(Who::Ringdns, keep_ds_alone)],
    },
    Rule {
        class: "asked-again",
        right: Right::Either,
        reason: "ringdns asks for an alias alone if the response with its target has no proof of the alias",
        causes: &[Cause::Amended(Who::Unbound, lend_proof)],
    },
    Rule {
        class: "alias-beside-data",
        right: Right::Either,
        reason: "An alias has no other data (RFC 1034 section 3.6.2). Of a name with both, Unbound keeps both, ringdns the data",
        causes: &[Cause::Amended(Who::Unbound, drop_aliases_beside)],
    },
    Rule {
        class: "data-beside-alias",
        right: Right::Either,
        reason: "As alias-beside-data, where the data is false: Unbound follows the alias, ringdns refuses",
        causes: &[Cause::Amended(Who::Ringdns, drop_data_beside)],
    },
    Rule {
        class: "alias-made-anew",
        right: Right::Either,
        reason: "Unbound makes the alias of a DNAME record itself and drops the one that came (RFC 6672 section 3.1); ringdns takes it as one that the DNAME record does not make, which needs a signature",
        causes: &[Cause::Asked(drop_aliases_below_dname)],
    },
    Rule {
        class: "denial-of-wildcard",
        right: Right::Ringdns,
        reason: "A denial that is signed under a wildcard is that of the wildcard, and proves nothing of the names that it matches (RFC 4592 section 4.7; RFC 4035 section 5.3.1 for one above the signer's zone). Unbound takes it, ringdns does once the name itself is signed",
        causes: &[Cause::Amended(Who::Ringdns, sign_denials_of_names)],
    },
    Rule {
        class: "wildcard-above",
        right: Right::Ringdns,
        reason: "NXDOMAIN needs the denial of the wildcard at the closest encloser (RFC 4035 section 5.4). At the end of an alias, Unbound takes that of a wildcard further above, so names that a wildcard matches do not exist",
        causes: &[Cause::Misled(drop_denials_above_encloser)],
    },
    Rule {
        class: "two-aliases",
        right: Right::Either,
        reason: "A name has one alias (RFC 2181 section 10.1). Unbound takes the first, ringdns refuses",
        causes: &[Cause::Amended(Who::Ringdns, keep_first_alias)],
    },
    Rule {
        class: "signed-from-above",
        right: Right::Either,
        reason: "A signature by a zone above the one that has the name (RFC 4035 section 5.3.1): ringdns judges by it, and misses the proof of a wildcard; Unbound takes the records as unsigned",
        causes: &[Cause::Amended(Who::Ringdns, drop_foreign_signatures)],
    },
    Rule {
        class: "signed-from-outside",
        right: Right::Either,
        reason: "A signature by another zone on records of an unsigned zone: Unbound refuses them; ringdns ignores it, as its signer does not have the records (RFC 4035 section 5.3.1)",
        causes: &[Cause::Amended(Who::Unbound, drop_foreign_signatures)],
    },
    Rule {
        class: "needless-in-proofs",
        right: Right::Either,
        reason: "As needless-authority and needless-answer, in responses for DS and DNSKEY (RFC 4035 section 5.2 asks for the DS RRset or its denial alone)",
        causes: &[Cause::Amended(Who::Unbound, |case, name, rtype, message| {
            if is_proof(case, name, rtype) {
                drop_false_authority(case, name, rtype, message);
                drop_false_answers(case, name, rtype, message);
            }
        })],
    },
    Rule {
        class: "needless-authority",
        right: Right::Either,
        reason: "Unbound refuses a response with any invalid record in its authority section, ringdns leaves the record out (RFC 4035 section 3.2.3 wants either for AD; section 4.3: what is bogus is an RRset, not a response)",
        causes: &[Cause::Amended(Who::Unbound, drop_false_authority)],
    },
    Rule {
        class: "beside-the-chain",
        right: Right::Either,
        reason: "Unbound refuses a response for invalid records of names that no alias leads to; ringdns leaves them out, as in needless-authority",
        causes: &[Cause::Amended(Who::Unbound, drop_beside_chain)],
    },
    Rule {
        class: "needless-answer",
        right: Right::Either,
        reason: "Unbound refuses a response for other invalid records of its answer section that are no part of the chain; ringdns leaves them out, as in needless-authority",
        causes: &[Cause::Amended(Who::Unbound, drop_false_answers)],
    },
    Rule {
        class: "rcode-of-proofs",
        right: Right::Either,
        reason: "The response code is not signed. Unbound wants one that fits the records of a response for DS or DNSKEY; ringdns ignores it",
        causes: &[
            Cause::Amended(Who::Unbound, |case, name, rtype, message| {
                if is_proof(case, name, rtype) {
                    message.rcode = honest(name, rtype).rcode;
                }
            }),
            Cause::Amended(Who::Unbound, |case, name, rtype, message| {
                if is_proof(case, name, rtype) && is_zone(name) {
                    message.rcode = honest(name, rtype).rcode;
                }
            }),
        ],
    },
    Rule {
        class: "rcode-passed",
        right: Right::Ringdns,
        reason: "The response code is not signed. Unbound passes the one that came beside a proof of another; ringdns sends the one that the records prove, or refuses",
        causes: &[
            Cause::PassedCode(give_code::<NOERROR>),
            Cause::PassedCode(give_code::<NXDOMAIN>),
            Cause::PassedCode(give_code::<YXDOMAIN>),
        ],
    },
    Rule {
        class: "rcode",
        right: Right::Either,
        reason: "The response code is not signed. Unbound refuses one that does not fit the records; ringdns sends the one that they prove",
        causes: &[
            Cause::Amended(Who::Unbound, give_code::<NOERROR>),
            Cause::Amended(Who::Unbound, give_code::<NXDOMAIN>),
        ],
    },
    Rule {
        class: "secure-by-opt-out",
        right: Right::Ringdns,
        reason: "A denial by a span of opt-out does not make an answer authentic (RFC 5155 section 9.2). Unbound sets AD if the response code, which is not signed, is NOERROR for an alias to a name that does not exist; it does not with NXDOMAIN",
        causes: &[Cause::Misled(tell_of_no_name)],
    },
    Rule {
        class: "denial-of-another-zone",
        right: Right::Either,
        reason: "A signed denial of another zone beside a name of an unsigned zone, or the proof of an alias from a wildcard that leads there: Unbound judges the name by it, ringdns by the DS records",
        causes: &[
            Cause::Amended(Who::Unbound, |_, name, rtype, message| {
                let zone = &TREE.zone_for(name, rtype).origin;
                message.authorities.retain(|rr| rr.owner.is_at_or_below(zone));
            }),
            Cause::Amended(Who::Unbound, sign_aliases_of_names),
        ],
    },
    Rule {
        class: "delegation-told",
        right: Right::Either,
        reason: "Unbound takes the parent's denial of DS records from a response about a name of the unsigned zone, ringdns from the response to a question for the DS records alone",
        causes: &[Cause::Amended(Who::Ringdns, lend_denials_of_ds)],
    },
    Rule {
        class: "sections",
        right: Right::Either,
        reason: "As signature-elsewhere, denial-elsewhere and set-elsewhere, for all records of all responses at once",
        causes: &[Cause::Amended(Who::Ringdns, sort_sections)],
    },
    Rule {
        class: "from-cache",
        right: Right::Either,
        reason: "Unbound takes a denial of its first response from its cache, in place of a false one that comes with the target of an alias; ringdns judges each response by itself",
        causes: &[Cause::Amended(Who::Ringdns, lend_authority)],
    },
    Rule {
        class: "circle",
        right: Right::Ringdns,
        reason: "Aliases that lead back to one of them are an error (RFC 1034 section 3.6.2). Unbound passes them on, ringdns refuses them",
        causes: &[Cause::Circle],
    },
    Rule {
        class: "denial-leads-out",
        right: Right::Ringdns,
        reason: "The next name of an NSEC record is one of its zone (RFC 4034 section 4.1.1). Unbound takes a record whose next name is of another one",
        causes: &[Cause::Amended(Who::Ringdns, lead_denials_back)],
    },
    Rule {
        class: "encloser-of-wildcard",
        right: Right::Either,
        reason: "Of an answer made from a wildcard, ringdns wants the proof that no closer name exists (RFC 4035 section 5.3.4), Unbound also that this proof does not deny the name that the wildcard is below. Only the holder of the zone's key can sign both",
        causes: &[Cause::Amended(Who::Unbound, add_encloser)],
    },
    Rule {
        class: "needless-here",
        right: Right::Either,
        reason: "Other records that the verdict of ringdns does not need: without them, Unbound comes to the same",
        causes: &[Cause::Needless(Who::Unbound)],
    },
    Rule {
        class: "needless-there",
        right: Right::Either,
        reason: "Other records that the verdict of Unbound does not need: without them, ringdns comes to the same",
        causes: &[Cause::Needless(Who::Ringdns)],
    },
];
