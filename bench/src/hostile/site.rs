//! Place of an attack: a lab with clients of several prefixes, scripted upstreams, and a server
//! that forwards to them.

use crate::{
    check::{Wrong, check},
    compare::server::{Contestant, Programs, Running, UPSTREAM},
    lab::{CLIENT_INTERFACE, SERVER, await_answer},
    names::Questions,
    options,
    question::wire_name,
    upstream::{Answerer, Answering, Over},
};
use anyhow::{Context, Result, ensure};
use ringdns_testkit::{Host, Lab, Say, Seen, Upstream};
use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

/// Zone of the names that the judge asks for. Its upstream answers at once.
pub const GOOD_ZONE: &str = "good.example";
/// Zone whose upstream, which has no other zones, never answers.
pub const SILENT_ZONE: &str = "silent.example";
/// Zone that never gets an answer from the upstream of all other zones.
pub const QUIET_ZONE: &str = "quiet.example";
/// Start of the names of zones that never get an answer from the upstream of all other zones:
/// `many0.example` and so on.
pub const QUIET_ZONES: &str = "many";
/// Zone whose names are attacked.
pub const ATTACKED_ZONE: &str = "attacked.example";
/// Address in forged answers (TEST-NET-3).
pub const FORGED: [u8; 4] = [203, 0, 113, 66];
/// Upstream of the silent zone, as in bench/hostile/*.toml.
pub const SILENT_UPSTREAM: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 3), 5302));
/// Source address of the attacker.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 1);
/// Source addresses of an attacker who has several, each in a prefix of its own.
pub const ATTACKERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 54, 1, 1),
    Ipv4Addr::new(10, 54, 2, 1),
    Ipv4Addr::new(10, 54, 3, 1),
    Ipv4Addr::new(10, 54, 4, 1),
];
/// Source address of the client whose queries are judged.
pub const JUDGE: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 1);
/// Prefix of all client addresses outside of the link's own.
const CLIENTS: &str = "10.54.0.0/15";
/// Prefix of forged addresses, each of which the client host may send from.
const FORGED_CLIENTS: &str = "10.54.128.0/17";

/// Time within which a started server must answer.
const START: Duration = Duration::from_secs(20);

/// Gives the lab's client host all client addresses.
pub fn add_clients(lab: &Lab) {
    for address in ATTACKERS.iter().chain([&JUDGE]) {
        lab.client().run("ip", ["address", "add", &format!("{address}/32"), "dev", CLIENT_INTERFACE]);
    }
    lab.client().run("ip", ["route", "add", "local", FORGED_CLIENTS, "dev", "lo"]);
    lab.server().run("ip", ["route", "add", CLIENTS, "via", "10.53.0.1"]);
}

/// Returns this many forged source addresses.
pub fn forged_clients(count: u16) -> Vec<Ipv4Addr> {
    (0..count).map(|nth| Ipv4Addr::new(10, 54, 128 | (nth >> 8) as u8, nth as u8)).collect()
}

/// Source of true answers.
#[derive(Clone, Debug)]
pub struct Truth(Arc<Answerer>);

impl Truth {
    /// Returns the source of true answers.
    pub fn new() -> Result<Self> {
        let args = options::parse(&[]).context("the upstream's defaults")?;
        Ok(Truth(Arc::new(Answerer::new(&args, Arc::default())?)))
    }

    /// Returns the true answer to a query.
    pub fn answer(&self, seen: &Seen) -> Vec<u8> {
        let over = match seen.over {
            ringdns_testkit::Over::Udp => Over::Udp,
            ringdns_testkit::Over::Tcp => Over::Tcp,
        };
        let mut reply = Vec::new();
        self.0.answer(&seen.query, over, &mut reply);
        reply
    }
}

/// Outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The true answer, in time.
    Right,
    /// An answer with other data.
    Forged,
    /// A failure, or an answer without data.
    Failed,
    /// No answer in time.
    Unanswered,
}

impl Judgement {
    /// Returns the outcome that a reply to `question` is; `None` if it answers another question.
    pub fn of(reply: &[u8], question: &[u8]) -> Option<Self> {
        match check(reply, question, true) {
            Ok(said) if said.rcode == 0 && !said.truncated && reply[6..8] != [0, 0] => Some(Judgement::Right),
            Ok(_) => Some(Judgement::Failed),
            Err(Wrong::Question) => None,
            Err(_) => Some(Judgement::Forged),
        }
    }
}

/// Returns the share of outcomes that are `wanted`, in percent.
pub fn share(outcomes: &[Judgement], wanted: Judgement) -> f64 {
    let count = outcomes.iter().filter(|outcome| **outcome == wanted).count();
    100.0 * count as f64 / outcomes.len().max(1) as f64
}

/// Suffix in wire form, to recognise the names below it.
pub struct ZoneSuffix(Vec<u8>);

impl ZoneSuffix {
    /// Returns the zone of this name.
    pub fn new(name: &str) -> Result<Self> {
        Ok(ZoneSuffix(wire_name(name)?))
    }

    /// Whether a query is for a name below the zone.
    pub fn covers(&self, seen: &Seen) -> bool {
        let question = seen.query.question();
        let name = &question[..question.len() - 4];
        name.len() > self.0.len() && name[name.len() - self.0.len()..].eq_ignore_ascii_case(&self.0)
    }
}

/// Place of an attack.
pub struct Site<'a> {
    lab: &'a Lab,
    programs: &'a Programs,
    contestant: &'a Contestant,
    stop: &'a AtomicBool,
    /// Source of true answers.
    pub truth: Truth,
    remarks: RefCell<Vec<String>>,
}

impl<'a> Site<'a> {
    /// Returns the site for one attack on one server.
    pub fn new(
        lab: &'a Lab,
        programs: &'a Programs,
        contestant: &'a Contestant,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let truth = Truth::new()?;
        Ok(Site { lab, programs, contestant, stop, truth, remarks: RefCell::default() })
    }

    /// Returns the host of all clients.
    pub fn clients(&self) -> &Host {
        self.lab.client()
    }

    /// Returns the host of the server and its upstreams.
    pub fn server_host(&self) -> &Host {
        self.lab.server()
    }

    /// Starts the upstream of all zones but the silent one. It answers with the truth at once where
    /// `script` returns `None`.
    pub fn upstream(&self, script: impl Fn(&Seen) -> Option<Vec<Say>> + Send + Sync + 'static) -> Upstream {
        let truth = self.truth.clone();
        Upstream::start_at(self.server_host(), UPSTREAM, move |seen| {
            script(seen).unwrap_or_else(|| vec![Say::Send(truth.answer(seen))])
        })
    }

    /// Starts the upstream of the silent zone.
    pub fn silent_upstream(&self) -> Upstream {
        Upstream::start_at(self.server_host(), SILENT_UPSTREAM, |_| Vec::new())
    }

    /// Starts the server with an empty cache, and waits until it answers. Its upstreams must run.
    pub fn server(&self) -> Result<Running> {
        let mut running = self.contestant.start(self.lab, self.programs, &Questions::default(), 0)?;
        self.clients().enter(|| {
            await_answer(SERVER, START, || {
                ensure!(!self.stop.load(Relaxed), "interrupted");
                running.server.check()
            })
        })?;
        Ok(running)
    }

    /// Adds a remark for the readers of the table.
    pub fn remark(&self, remark: String) {
        self.remarks.borrow_mut().push(format!("{}: {remark}", self.contestant.description.title));
    }

    /// Returns the remarks made so far.
    pub fn into_remarks(self) -> Vec<String> {
        self.remarks.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_testkit::{Asked, Query};

    fn seen(name: &str) -> Seen {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        Seen { query: Asked(Query::a(name).wire()), over: ringdns_testkit::Over::Udp, from }
    }

    #[test]
    fn the_truth_is_told_from_forgeries_and_failures() {
        let asked = seen("a.good.example");
        let truth = Truth::new().unwrap().answer(&asked);
        let question = Query::a("a.good.example").question();
        let outcome = |reply: &[u8]| Judgement::of(reply, &question);
        assert_eq!(outcome(&truth), Some(Judgement::Right));
        assert_eq!(outcome(&asked.query.address(FORGED)), Some(Judgement::Forged));
        assert_eq!(outcome(&asked.query.response(2, &[])), Some(Judgement::Failed));
        assert_eq!(outcome(&asked.query.response(0, &[])), Some(Judgement::Failed), "no data");
        assert_eq!(outcome(&asked.query.truncated()), Some(Judgement::Failed));
        assert_eq!(outcome(&seen("b.good.example").query.address(FORGED)), None);
    }

    #[test]
    fn shares_are_of_all_queries() {
        use Judgement::{Failed, Right, Unanswered};
        assert_eq!(share(&[Right, Failed, Unanswered, Right], Right), 50.0);
        assert_eq!(share(&[], Right), 0.0);
    }

    #[test]
    fn a_zone_covers_the_names_below_it_in_any_case() {
        let zone = ZoneSuffix::new(QUIET_ZONE).unwrap();
        assert!(zone.covers(&seen("a.QUIET.example")));
        assert!(!zone.covers(&seen("quiet.example")) && !zone.covers(&seen("a.good.example")));
    }
}
