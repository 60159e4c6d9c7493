//! Unbound's validator beside ringdns': both judge the same answers, and each difference is filed
//! under a rule.

use crate::{
    case::{Case, Judged, Known, Peer, Verdict, cases, honest_count},
    data,
    differences::RULES,
    explain::{Right, Rule, explain},
    server::LONG_LABEL,
    unbound::Unbound,
    zone::{Rr, rtype},
};
use ringdns_dnssec::Name;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, sync_channel},
    },
    time::Instant,
};

/// Number of unexplained differences that are shown.
const EXAMPLES: usize = 100;

/// Number of cases between two lines about the progress.
const PROGRESS: usize = 10_000;

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Ok(verdict) if verdict.secure => "secure",
        Ok(_) => "unsigned",
        Err(_) => "refused",
    }
}

/// Verdicts so far.
struct Tally {
    begin: Instant,
    total: usize,
    /// Lies that Unbound believes.
    believed: usize,
    agreed: BTreeMap<&'static str, usize>,
    /// Differences by the classes of their causes, and those among them where Unbound alone refuses.
    classes: BTreeMap<Vec<&'static str>, [usize; 2]>,
    unexplained: usize,
}

impl Tally {
    fn new() -> Self {
        let (agreed, classes) = (BTreeMap::new(), BTreeMap::new());
        let (total, believed, unexplained) = (0, 0, 0);
        Tally { begin: Instant::now(), total, believed, agreed, classes, unexplained }
    }

    fn add(&mut self, judged: &Judged, rules: Option<Vec<&'static Rule>>) {
        self.total += 1;
        self.believed += usize::from(judged.their_lie().is_some());
        if judged.is_alike() {
            *self.agreed.entry(kind(&judged.ours)).or_default() += 1;
        } else if let Some(rules) = rules {
            let counts = self.classes.entry(rules.iter().map(|rule| rule.class).collect()).or_default();
            counts[0] += 1;
            counts[1] += usize::from(judged.ours.is_ok() && judged.theirs.is_err());
        } else {
            self.unexplained += 1;
            if self.unexplained <= EXAMPLES {
                print(judged);
            }
        }
        if self.total.is_multiple_of(PROGRESS) {
            let Tally { begin, total, unexplained, .. } = self;
            println!("{total} judged in {:.0?}, {unexplained} differences unexplained", begin.elapsed());
        }
    }

    fn print(&self) {
        println!("{} answers in {:.0?}, alike: {:?}", self.total, self.begin.elapsed(), self.agreed);
        println!("Unbound believes {} lies", self.believed);
        for Rule { class, right, reason, .. } in RULES {
            let [all, refused] = self.sum(|names| names.contains(class));
            println!("| {class} | {all} | {refused} | {right:?} | {reason} |");
        }
        let ([all, refused], [several, _]) = (self.sum(|_| true), self.sum(|names| names.len() > 1));
        println!("{all} differences, {several} of several causes; in {refused} Unbound alone refuses");
    }

    fn sum(&self, counts: impl Fn(&[&str]) -> bool) -> [usize; 2] {
        let of = self.classes.iter().filter(|(names, _)| counts(names)).map(|(_, counts)| counts);
        of.fold([0; 2], |sum, counts| [sum[0] + counts[0], sum[1] + counts[1]])
    }
}

/// Compares the verdicts on all honest answers and as many forgeries as `RINGDNS_BESIDE` says, or
/// on the cases of these numbers, for example `7000..7001`; without it, does nothing.
#[test]
fn unbound_judges_the_same_or_the_reason_is_known() {
    let Ok(wanted) = std::env::var("RINGDNS_BESIDE") else { return };
    let (first, end) = match wanted.split_once("..") {
        Some((first, end)) => (first.parse().unwrap(), end.parse().unwrap()),
        None => (0, honest_count() + wanted.parse::<usize>().unwrap()),
    };
    let tally = Mutex::new(Tally::new());
    let known = Known::default();
    let work = |cases: Arc<Mutex<Receiver<Case>>>| {
        let peer = Peer { unbound: Unbound::start(), known: &known };
        while let Ok(case) = { cases.lock().unwrap().recv() } {
            let judged = peer.judge(case);
            assert_eq!(judged.our_lie(), None, "{:?}", judged.case);
            let rules = if judged.is_alike() { None } else { explain(&peer, &judged) };
            let is_wrong = rules.iter().flatten().any(|rule| rule.right == Right::Unbound);
            assert!(!is_wrong, "ringdns is wrong: {:?}", judged.case);
            tally.lock().unwrap().add(&judged, rules);
        }
    };
    // One of a pair waits while the other one works.
    let peers = std::thread::available_parallelism().unwrap().get() * 2;
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(peers);
        let receiver = Arc::new(Mutex::new(receiver));
        for receiver in std::iter::repeat_n(receiver, peers) {
            scope.spawn(|| work(receiver));
        }
        // The sender fails if no worker is left, whose panic then ends the test.
        let _ = cases().take(end).skip(first).try_for_each(|case| sender.send(case));
    });
    let tally = tally.into_inner().unwrap();
    tally.print();
    println!("Unbound has heard {} different things", known.len());
    assert_eq!(tally.unexplained, 0, "differences that fit no rule");
}

fn print(judged: &Judged) {
    let Judged { case, ours, theirs, we_asked, they_asked } = judged;
    println!("\n{}: {:?} {}: {:?}", case.number, case.name, case.qtype, case.changes);
    for ((name, rtype), said) in judged.heard_in(case) {
        let (answers, authorities) = (brief(&said.answers), brief(&said.authorities));
        println!("  {name:?} {rtype}: {} {answers} | {authorities}", said.rcode);
    }
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
