//! A question to both validators, ringdns' and Unbound's, with a forger behind them.

use crate::{
    data,
    explain::Amendment,
    forge::{Change, TYPES, To, changes},
    lie,
    server::Message,
    unbound::{Checking, Unbound},
    wire::{ANCHORS, FORGER, TREE, honest},
    zone::{NOW, Rr, rtype},
};
use futures_util::FutureExt;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use ringdns_dnssec::{Name, ProvenAnswer, Response, ResponseSource, Standing, Unproven, validate};
use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, RwLock},
};

/// Answer of a validator, or the extended error that it refuses with.
pub type Verdict = Result<ProvenAnswer, u16>;

/// A question, and an upstream that answers it and all questions behind it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Number in the order of all cases.
    pub number: usize,
    pub name: Name,
    pub qtype: u16,
    pub changes: Vec<(To, Change)>,
    /// Amendments of the changed answers.
    pub amendments: Vec<Amendment>,
    /// Records that the amended answers to these questions lose.
    pub without: Vec<(Name, u16, Rr)>,
}

impl Case {
    /// Returns the upstream's answer, which depends on the question alone.
    pub fn said(&self, name: &Name, rtype: u16) -> Message {
        let mut message = self.changed(name, rtype);
        for (at, amend) in self.amendments.iter().enumerate() {
            // What an amendment takes from other answers has been amended before.
            let before = Case { amendments: self.amendments[..at].to_vec(), ..self.clone() };
            amend(&before, name, rtype, &mut message);
        }
        for (.., rr) in self.without.iter().filter(|(of, by, _)| (of, *by) == (name, rtype)) {
            message.answers.retain(|kept| kept != rr);
            message.authorities.retain(|kept| kept != rr);
        }
        message
    }

    /// Returns the upstream's answer without amendments.
    pub fn changed(&self, name: &Name, rtype: u16) -> Message {
        let to = match rtype {
            _ if (name, rtype) == (&self.name, self.qtype) => To::First,
            rtype::DS => To::Ds,
            rtype::DNSKEY => To::Keys,
            _ => To::First,
        };
        let mut message = honest(name, rtype);
        for (_, change) in self.changes.iter().filter(|(of, _)| *of == to || *of == To::All) {
            FORGER.apply(&TREE, name, change, &mut message);
        }
        message
    }
}

/// Answers of an upstream by question.
pub type Heard = BTreeMap<(Name, u16), Message>;

/// Two verdicts on a case, and the questions that led there.
#[derive(Clone)]
pub struct Judged {
    pub case: Case,
    pub ours: Verdict,
    pub theirs: Verdict,
    pub we_asked: Vec<(Name, u16)>,
    pub they_asked: Vec<(Name, u16)>,
}

impl Judged {
    /// Whether the verdicts are alike.
    pub fn is_alike(&self) -> bool {
        alike(&self.ours, &self.theirs)
    }

    /// Returns what the upstream of another case says to the questions of both.
    pub fn heard_in(&self, case: &Case) -> Heard {
        let asked = self.we_asked.iter().chain(&self.they_asked);
        asked.map(|(name, rtype)| ((name.clone(), *rtype), case.said(name, *rtype))).collect()
    }

    fn lie(&self, verdict: &Verdict) -> Option<&'static str> {
        lie(&self.case.name, self.case.qtype, verdict.as_ref().ok()?)
    }

    pub fn our_lie(&self) -> Option<&'static str> {
        self.lie(&self.ours)
    }

    pub fn their_lie(&self) -> Option<&'static str> {
        self.lie(&self.theirs)
    }
}

/// Whether two verdicts are alike. The reason for a refusal does not matter.
pub fn alike(one: &Verdict, other: &Verdict) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            (one.rcode, one.secure, data(&one.answers)) == (other.rcode, other.secure, data(&other.answers))
        }
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// Source of our validator's responses.
struct Source<'a> {
    case: &'a Case,
    standings: Mutex<HashMap<Name, Standing>>,
    asked: Mutex<Vec<(Name, u16)>>,
}

impl ResponseSource for Source<'_> {
    type Error = ();

    async fn ask(&self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<()>> {
        self.asked.lock().unwrap().push((name.clone(), rtype));
        Ok(Arc::new(Response::parse(&self.case.said(name, rtype).to_wire())?))
    }

    fn recall(&self, zone: &Name) -> Option<Standing> {
        self.standings.lock().unwrap().get(zone).cloned()
    }

    fn remember(&self, zone: &Name, standing: &Standing, _: u32) {
        self.standings.lock().unwrap().insert(zone.clone(), standing.clone());
    }

    fn is_exempt(&self, _: &Name, _: u16) -> bool {
        false
    }
}

/// Returns our verdict, and the questions that it took.
pub fn ours(case: &Case) -> (Verdict, Vec<(Name, u16)>) {
    let source = Source { case, standings: Mutex::default(), asked: Mutex::default() };
    let verdict = async {
        let response = source.ask(&case.name, case.qtype).await?;
        validate(&source, &ANCHORS, NOW, &case.name, case.qtype, response).await
    };
    let verdict = verdict.now_or_never().expect("all that is asked for is there at once");
    let verdict = verdict.map_err(|why| match why {
        Unproven::Bogus(why) => why,
        Unproven::Failed(()) => unreachable!("whatever is asked for is there"),
    });
    (verdict, source.asked.into_inner().unwrap())
}

/// Verdicts of Unbound by all that it has heard. With empty caches it depends on nothing else, so
/// many forgeries come to the same: those of records that a response does not have, for example.
#[derive(Default)]
pub struct Known(RwLock<HashMap<u128, Next>>);

impl Known {
    /// Returns the number of verdicts.
    pub fn len(&self) -> usize {
        self.0.read().unwrap().values().filter(|next| matches!(next, Next::Says(_))).count()
    }
}

/// Next step of Unbound, after what it has heard so far.
#[derive(Clone)]
enum Next {
    Asks(Name, u16),
    Says(Verdict),
}

/// Unbound, and the verdicts that are known.
pub struct Peer<'a> {
    pub unbound: Unbound,
    pub known: &'a Known,
}

impl Peer<'_> {
    /// Returns Unbound's verdict, and the questions that it took.
    pub fn theirs(&self, case: &Case) -> (Verdict, Vec<(Name, u16)>) {
        let begin = after(0, &(&case.name, case.qtype));
        if let Some(known) = self.recall(case, begin) {
            return known;
        }
        let (mut asked, mut heard) = (Vec::new(), begin);
        let mut steps = Vec::new();
        let verdict = self.unbound.judge(&case.name, case.qtype, Checking::Enabled, |name, rtype| {
            asked.push((name.clone(), rtype));
            let said = case.said(name, rtype);
            steps.push((heard, Next::Asks(name.clone(), rtype)));
            heard = after(heard, &said);
            said
        });
        steps.push((heard, Next::Says(verdict.clone())));
        self.known.0.write().unwrap().extend(steps);
        (verdict, asked)
    }

    fn recall(&self, case: &Case, begin: u128) -> Option<(Verdict, Vec<(Name, u16)>)> {
        let (mut asked, mut heard) = (Vec::new(), begin);
        loop {
            match self.known.0.read().unwrap().get(&heard)?.clone() {
                Next::Says(verdict) => return Some((verdict, asked)),
                Next::Asks(name, rtype) => {
                    heard = after(heard, &case.said(&name, rtype));
                    asked.push((name, rtype));
                }
            }
        }
    }

    /// Has both validators judge a case.
    pub fn judge(&self, case: Case) -> Judged {
        let (ours, we_asked) = ours(&case);
        let (theirs, they_asked) = self.theirs(&case);
        Judged { case, ours, theirs, we_asked, they_asked }
    }
}

/// Returns a number for what was heard so far and something more.
fn after(heard: u128, more: &impl Hash) -> u128 {
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, heard, more).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    hash(0) << 64 | hash(1)
}

/// Returns all honest answers, then forgeries without end, the same in every run.
pub fn cases() -> impl Iterator<Item = Case> {
    let honest = FORGER.names.iter().flat_map(|name| TYPES.map(|qtype| (name, qtype, Vec::new())));
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let strategy = (0..FORGER.names.len(), 0..TYPES.len(), changes());
    let forged = std::iter::repeat_with(move || {
        let (name, qtype, changes) = strategy.new_tree(&mut runner).unwrap().current();
        (&FORGER.names[name], TYPES[qtype], changes)
    });
    honest.chain(forged).enumerate().map(|(number, (name, qtype, changes))| {
        let (amendments, without) = (Vec::new(), Vec::new());
        Case { number, name: name.clone(), qtype, changes, amendments, without }
    })
}

/// Returns the number of honest answers.
pub fn honest_count() -> usize {
    FORGER.names.len() * TYPES.len()
}
