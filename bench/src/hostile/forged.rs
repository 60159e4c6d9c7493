//! Datagrams before the truth: forged answers with every ID, and malformed ones with the right ID.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    judge::Questioning,
    site::{ATTACKED_ZONE, FORGED, Judgement, Site, ZoneSuffix, share},
};
use anyhow::Result;
use rand::seq::SliceRandom;
use ringdns_testkit::{Asked, Over, Query, Say, Seen};
use std::{sync::Mutex, time::Duration};

/// Time after which the truth comes, in near misses: so that all forgeries come before.
const TRUTH_AFTER_ALL: Duration = Duration::from_millis(300);
/// Time after which the truth comes after a malformed datagram.
const TRUTH_AFTER: Duration = Duration::from_millis(200);
/// Names that are attacked with every ID: one a second, as each takes 65,536 datagrams.
const ALL_IDS: Questioning = Questioning { zone: ATTACKED_ZONE, names: 10, rate: 1.0 };
/// Names that are attacked with a malformed datagram.
const MALFORMED: Questioning = Questioning { zone: ATTACKED_ZONE, names: 20, rate: 40.0 };

//----------- Near misses ------------------------------------------------------

/// Returns the attack with forged answers to the right port with every ID.
pub fn near_misses() -> Vec<Attack> {
    let rows = [
        AttackRow::new("near misses: every ID at the right port, poisoned", Unit::Poisoned, 0.0),
        AttackRow::new("near misses: answered with the truth", Unit::Answered, 90.0),
    ];
    let course = |site: &Site<'_>| {
        let truth = site.truth.clone();
        let outcomes = attacked(site, ALL_IDS, move |seen| {
            let mut says = vec![Say::SendAfter(TRUTH_AFTER_ALL, truth.answer(seen))];
            let mut ids: Vec<u16> = (0..=u16::MAX).collect();
            ids.shuffle(&mut rand::rng());
            says.extend(ids.into_iter().map(|id| Say::Send(forgery(&seen.query, id))));
            says
        })?;
        Ok(vec![share(&outcomes, Judgement::Forged), share(&outcomes, Judgement::Right)])
    };
    vec![Attack::new(AttackGroup::NearMisses, true, rows, course)]
}

/// Returns a forged answer of an attacker who knows the question, but neither the ID nor the letter
/// case of the query.
fn forgery(query: &Asked, id: u16) -> Vec<u8> {
    let mut message = Asked(query.to_ascii_lowercase()).address(FORGED);
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

//----------- Malformed datagrams ----------------------------------------------

const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const TC: u16 = 0x0200;

/// Maker of a malformed datagram for a query.
type Make = fn(&Asked) -> Vec<u8>;

/// Kinds of malformed datagrams.
const KINDS: [(&str, Make); 9] = [
    ("no bytes", |_| Vec::new()),
    ("half a header", |query| query.address(FORGED)[..6].to_vec()),
    ("the query itself (QR=0)", |query| query.to_vec()),
    ("no question", |query| without_question(query, 0)),
    ("garbage after the header", |query| {
        let mut message = query.address(FORGED);
        message[12..].fill(0xff);
        message
    }),
    ("FORMERR without a question", |query| without_question(query, FORMERR)),
    ("SERVFAIL without a question", |query| without_question(query, SERVFAIL)),
    ("TC=1 with another question", |query| other_question(query).response(TC, &[])),
    ("an answer to another question", |query| other_question(query).address(FORGED)),
];

/// Returns an attack for each kind of malformed datagram.
pub fn malformed() -> Vec<Attack> {
    let attack = |(kind, make): (&str, Make)| {
        let row = AttackRow::new(format!("before the truth: {kind}"), Unit::Answered, 100.0);
        let course = move |site: &Site<'_>| {
            let truth = site.truth.clone();
            let outcomes = attacked(site, MALFORMED, move |seen| {
                vec![Say::Send(make(&seen.query)), Say::SendAfter(TRUTH_AFTER, truth.answer(seen))]
            })?;
            Ok(vec![share(&outcomes, Judgement::Right)])
        };
        Attack::new(AttackGroup::Malformed, true, [row], course)
    };
    KINDS.into_iter().map(attack).collect()
}

/// Returns a header alone, with the query's ID.
fn without_question(query: &Asked, rcode: u16) -> Vec<u8> {
    let mut message = query.response(rcode, &[]);
    message.truncate(12);
    // QDCOUNT
    message[4..6].fill(0);
    message
}

/// Returns the query of the same ID for another name.
fn other_question(query: &Asked) -> Asked {
    Asked(Query::a("other.example").id(query.id()).wire())
}

//----------- Course -----------------------------------------------------------

/// Asks for attacked names. Datagrams of the upstream are those that `script` returns; over TCP it
/// answers with the truth.
fn attacked(
    site: &Site<'_>,
    questions: Questioning,
    script: impl Fn(&Seen) -> Vec<Say> + Send + Sync + 'static,
) -> Result<Vec<Judgement>> {
    let zone = ZoneSuffix::new(ATTACKED_ZONE)?;
    // One attack at a time: the script of a later query must not delay the truth of an earlier one.
    let script = Mutex::new(script);
    let _upstream = site.upstream(move |seen| {
        let is_attacked = seen.over == Over::Udp && zone.covers(seen);
        is_attacked.then(|| script.lock().map(|script| script(seen)).unwrap_or_default())
    });
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let outcomes = questions.run(site)?;
    server.server.stop()?;
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_testkit::Reply;

    fn query() -> Asked {
        Asked(Query::a("aBc.attacked.example").id(0x1234).edns(1232).wire())
    }

    #[test]
    fn a_forger_knows_neither_the_id_nor_the_letter_case() {
        let reply = Reply(forgery(&query(), 7));
        assert_eq!((reply.id(), reply.addresses()), (7, vec![FORGED.into()]));
        assert!(reply.repeats(&Query::a("abc.attacked.example")));
    }

    #[test]
    fn malformed_datagrams_have_the_right_id_and_never_answer_the_question() {
        let question = Query::a("aBc.attacked.example").question();
        for (kind, make) in KINDS {
            let message = make(&query());
            assert!(message.len() < 2 || message[..2] == [0x12, 0x34], "{kind}");
            let is_response = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
            let answers = is_response && message.len() > 12 && message[12..].starts_with(&question);
            assert!(!answers, "{kind}");
        }
    }

    #[test]
    fn what_lacks_a_question_says_so() {
        for rcode in [0, FORMERR, SERVFAIL] {
            let message = without_question(&query(), rcode);
            assert_eq!((message.len(), &message[4..]), (12, &[0; 8][..]));
            assert_eq!(u16::from(message[3] & 0xf), rcode);
        }
    }
}
