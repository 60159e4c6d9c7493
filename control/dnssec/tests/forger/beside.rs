//! Unbound's validator beside ringdns': both judge the same answers, and each difference is filed
//! under a rule.

use crate::{
    data,
    differences::{Amendment, Cause, RULES, Right, Rule, Who},
    forge::{Change, TYPES, To, changes},
    lie,
    server::{LONG_LABEL, Message},
    unbound::{Unbound, serve},
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
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Instant,
};

/// Number of examples that are shown of each kind of difference.
const EXAMPLES: usize = 10;

/// Most causes of one difference.
const TOGETHER: usize = 4;

/// Answer of a validator, or the extended error that it refuses with.
pub type Verdict = Result<ProvenAnswer, u16>;

/// A question, and an upstream that answers it and all questions behind it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: Name,
    pub qtype: u16,
    pub changes: Vec<(To, Change)>,
    /// Amendments of the changed answers.
    pub amendments: Vec<Amendment>,
}

impl Case {
    /// Returns the upstream's answer, which depends on the question alone.
    pub fn said(&self, name: &Name, rtype: u16) -> Message {
        let mut message = self.changed(name, rtype);
        self.amendments.iter().for_each(|amend| amend(self, name, rtype, &mut message));
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

/// Two verdicts on a case, and the questions that led there.
pub struct Judged {
    pub case: Case,
    pub ours: Verdict,
    pub theirs: Verdict,
    pub we_asked: Vec<(Name, u16)>,
    pub they_asked: Vec<(Name, u16)>,
}

impl Judged {
    /// Whether both answer with the same records.
    pub fn same_records(&self) -> bool {
        match (&self.ours, &self.theirs) {
            (Ok(ours), Ok(theirs)) => data(&ours.answers) == data(&theirs.answers),
            _ => false,
        }
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
fn alike(one: &Verdict, other: &Verdict) -> bool {
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
fn ours(case: &Case) -> (Verdict, Vec<(Name, u16)>) {
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

/// Unbound, and the case that its upstream answers for.
struct Peer {
    unbound: Unbound,
    case: Arc<Mutex<Case>>,
    asked: Arc<Mutex<Vec<(Name, u16)>>>,
}

impl Peer {
    fn start() -> Self {
        let none = Case { name: Name::root(), qtype: rtype::A, changes: Vec::new(), amendments: Vec::new() };
        let (case, asked) = (Arc::new(Mutex::new(none)), Arc::new(Mutex::new(Vec::new())));
        let (of, by) = (case.clone(), asked.clone());
        let upstream = serve(move |name, rtype| {
            by.lock().unwrap().push((name.clone(), rtype));
            of.lock().unwrap().said(name, rtype)
        });
        Peer { unbound: Unbound::start(upstream), case, asked }
    }

    fn judge(&self, case: Case) -> Judged {
        self.unbound.forget();
        *self.case.lock().unwrap() = case.clone();
        self.asked.lock().unwrap().clear();
        let theirs = self.unbound.judge(&case.name, case.qtype);
        let they_asked = self.asked.lock().unwrap().clone();
        let (ours, we_asked) = ours(&case);
        Judged { case, ours, theirs, we_asked, they_asked }
    }
}

/// Returns at most `most` rules, from number `from` on, that explain a difference together, after
/// one that the verdicts show.
fn explain(peer: &Peer, judged: &Judged, from: usize, most: usize) -> Option<Vec<&'static Rule>> {
    if let Some(seen) = RULES.iter().find(|rule| matches!(rule.cause, Cause::Seen(fits) if fits(judged))) {
        return Some(vec![seen]);
    }
    let rules = RULES.iter().enumerate().skip(from);
    rules.filter(|_| most > 0).find_map(|(at, rule)| {
        let (Cause::Amended(_, amendment) | Cause::Asked(amendment)) = rule.cause else { return None };
        let mut case = judged.case.clone();
        case.amendments.push(amendment);
        let amended = peer.judge(case);
        // Only a question that is not asked may cost an answer.
        let gains = |before: &Verdict, after: &Verdict| before.is_err() || after.is_ok();
        let (ours, theirs) = (alike(&amended.ours, &judged.ours), alike(&amended.theirs, &judged.theirs));
        let holds = match rule.cause {
            Cause::Amended(Who::Ringdns, _) => theirs && gains(&judged.ours, &amended.ours),
            Cause::Amended(Who::Unbound, _) => ours && gains(&judged.theirs, &amended.theirs),
            Cause::Asked(_) => theirs,
            Cause::Seen(_) => false,
        };
        let more = match holds {
            true if alike(&amended.ours, &amended.theirs) => Some(vec![]),
            true => explain(peer, &amended, at + 1, most - 1),
            false => None,
        }?;
        Some([vec![rule], more].concat())
    })
}

/// Returns all honest answers, then `number` forgeries, the same in every run.
fn cases(number: usize) -> impl Iterator<Item = Case> {
    let names = FORGER.names.iter();
    let honest = names.flat_map(|name| {
        TYPES.map(|qtype| Case { name: name.clone(), qtype, changes: Vec::new(), amendments: Vec::new() })
    });
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let strategy = (0..FORGER.names.len(), 0..TYPES.len(), changes());
    let forged = (0..number).map(move |_| {
        let (name, qtype, changes) = strategy.new_tree(&mut runner).unwrap().current();
        Case { name: FORGER.names[name].clone(), qtype: TYPES[qtype], changes, amendments: Vec::new() }
    });
    honest.chain(forged)
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Ok(verdict) if verdict.secure => "secure",
        Ok(_) => "unsigned",
        Err(_) => "refused",
    }
}

/// Compares the verdicts on all honest answers and as many forgeries as `RINGDNS_BESIDE` says;
/// without it, does nothing.
#[test]
fn unbound_judges_the_same_or_the_reason_is_known() {
    let Ok(number) = std::env::var("RINGDNS_BESIDE") else { return };
    let peer = Peer::start();
    let begin = Instant::now();
    let (mut total, mut believed, mut agreed) = (0, 0, BTreeMap::<_, usize>::new());
    let (mut classes, mut unexplained) = (BTreeMap::<Vec<_>, usize>::new(), Vec::new());
    for case in cases(number.parse().unwrap()) {
        let judged = peer.judge(case);
        total += 1;
        assert_eq!(judged.our_lie(), None, "{:?}", judged.case);
        believed += usize::from(judged.their_lie().is_some());
        if alike(&judged.ours, &judged.theirs) {
            *agreed.entry(kind(&judged.ours)).or_default() += 1;
        } else if let Some(rules) = (0..=TOGETHER).find_map(|most| explain(&peer, &judged, 0, most)) {
            assert!(rules.iter().all(|rule| rule.right != Right::Unbound), "ringdns is wrong");
            *classes.entry(rules.iter().map(|rule| rule.class).collect()).or_default() += 1;
        } else {
            unexplained.push(judged);
        }
    }
    println!("{total} answers in {:.0?}, alike: {agreed:?}", begin.elapsed());
    println!("Unbound believes {believed} lies");
    for rule in RULES {
        let with = |(names, _): &(&Vec<_>, &usize)| names.contains(&rule.class);
        let count: usize = classes.iter().filter(with).map(|(_, count)| count).sum();
        println!("| {} | {count} | {:?} | {} |", rule.class, rule.right, rule.reason);
    }
    let several = classes.iter().filter(|(names, _)| names.len() > 1).map(|(_, count)| count);
    println!("{} differences, {} of several causes", classes.values().sum::<usize>(), several.sum::<usize>());
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for judged in &unexplained {
        let lies = [judged.our_lie(), judged.their_lie()].map(|lie| lie.is_some());
        kinds.entry((kind(&judged.ours), kind(&judged.theirs), lies)).or_default().push(judged);
    }
    for ((ours, theirs, lies), all) in kinds {
        println!("\n==== {} times {ours} here, {theirs} there, lies {lies:?}", all.len());
        all.into_iter().take(EXAMPLES).for_each(print);
    }
    assert!(unexplained.is_empty(), "{} differences fit no rule", unexplained.len());
}

fn print(judged: &Judged) {
    let Judged { case, ours, theirs, we_asked, they_asked } = judged;
    println!("\n{:?} {}: {:?}", case.name, case.qtype, case.changes);
    let said = case.said(&case.name, case.qtype);
    println!("  said: {} {} | {}", said.rcode, brief(&said.answers), brief(&said.authorities));
    for (who, verdict, asked, lie) in
        [("ours", ours, we_asked, judged.our_lie()), ("theirs", theirs, they_asked, judged.their_lie())]
    {
        let lie = lie.unwrap_or("no lie");
        match verdict {
            Ok(verdict) => {
                let (rcode, answers) = (verdict.rcode, data(&verdict.answers));
                let answers =
                    answers.into_iter().map(|(owner, rtype, rdata)| Rr { owner, rtype, ttl: 0, rdata });
                println!(
                    "  {who}: {}, {lie}: {rcode} {}",
                    kind(&Ok(verdict.clone())),
                    brief(&answers.collect::<Vec<_>>())
                );
            }
            Err(why) => println!("  {who}: refused, EDE {why}"),
        }
        let asked: BTreeSet<_> = asked.iter().map(|(name, rtype)| format!("{name:?}/{rtype}")).collect();
        println!("    asked {asked:?}");
    }
}

/// Returns owners, types and targets.
fn brief(records: &[Rr]) -> String {
    let one = |rr: &Rr| {
        let more = match rr.rtype {
            rtype::CNAME | rtype::DNAME => format!("->{:?}", Name::from_wire(&rr.rdata)),
            rtype::RRSIG => format!("={}", u16::from_be_bytes([rr.rdata[0], rr.rdata[1]])),
            _ => String::new(),
        };
        format!("{:?}/{}{more} ", rr.owner, rr.rtype)
    };
    records.iter().map(one).collect::<String>().replace(LONG_LABEL, "LONG")
}
