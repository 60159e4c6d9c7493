//! `ringbench differential`: sends the same queries to ringdnsd and to other resolvers before one
//! upstream, and checks that each difference between their replies has a known reason.

mod ask;
mod probe;
mod reply;
mod rules;
mod table;
mod twist;

use crate::{
    compare::server::{Contestant, Description, Programs, Running, UPSTREAM},
    lab::{SERVER, await_answer},
    names::Questions,
    output,
    upstream::{Upstream, world::World},
};
use anyhow::{Context, Result, bail, ensure};
use probe::{GROUP, Probe};
use reply::{Difference, Reply};
use ringdns_testkit::Lab;
use rules::Rules;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use table::{Found, Table};

/// Asks ringdnsd, Unbound, PowerDNS Recursor and Knot Resolver the same queries, and classifies the
/// differences.
///
/// All servers forward to one upstream that knows a small Internet. Each query is asked twice: a
/// miss, then a hit. Fails if a difference has no rule in bench/differential/rules.toml. Needs root
/// and `deploy/setup.sh test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of queries.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub queries: u32,
    /// File of zones, one a line. Default: made-up zones.
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    /// Seed of the random draws.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only these peers, by the name of their file in bench/differential.
    #[arg(long = "only", value_name = "NAME")]
    pub only: Vec<String>,
    /// File of rules instead of bench/differential/rules.toml.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// The ringdnsd to ask. Default: the one beside this program.
    #[arg(long, value_name = "FILE")]
    pub ringdnsd: Option<PathBuf>,
    /// Also write the table, as Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write all classes with examples, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print this many examples of each class as well.
    #[arg(long, default_value_t = 0)]
    pub examples: usize,
}

/// Servers: ringdnsd on its rings first, with which the others are compared.
const SERVERS: [(&str, &str); 5] = [
    ("ringdnsd", include_str!("../../differential/ringdnsd.toml")),
    ("ringdnsd-sockets", include_str!("../../differential/ringdnsd-sockets.toml")),
    ("unbound", include_str!("../../differential/unbound.toml")),
    ("pdns-recursor", include_str!("../../differential/pdns-recursor.toml")),
    ("knot-resolver", include_str!("../../differential/knot-resolver.toml")),
];

/// Prefix of the names of this project's servers.
const OURS: &str = "ringdnsd";
/// Upstream, as a server that can be compared with too.
const ORIGIN: &str = "upstream";
/// All peers together, where they agree.
const ALL: &str = "all";

/// Queries that are asked once, and then again, before the next batch: so many that some seconds
/// lie between the two.
const BATCH: usize = 500 * GROUP;
/// Time within which a started server must answer.
const START: Duration = Duration::from_secs(20);

/// Running server.
struct Peer {
    name: String,
    /// Whether this is no ringdnsd.
    is_other: bool,
    address: SocketAddr,
    running: Running,
}

/// `ringbench differential`.
pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let rules = Rules::read(args.rules.as_deref())?;
    let apexes = apexes(args)?;
    let world = || World::new(apexes.iter().map(String::as_str));
    let probes = probe::draw(&world()?, &apexes, args.queries as usize, args.seed)?;

    let lab = Lab::up().context("making a lab needs root")?;
    let upstream = lab.server().enter(|| Upstream::saying(world()?, UPSTREAM))?;
    let first = Instant::now();
    let mut peers = start(args, &lab)?;
    let mut table = Table::new(&rules);
    for batch in probes.chunks(BATCH) {
        let truth = lab.server().enter(|| ask::all(UPSTREAM, batch))?;
        let asked = Instant::now();
        for again in [false, true] {
            let said = lab.client().enter(|| ask_all(&peers, batch))?;
            for peer in &mut peers {
                peer.running.server.check()?;
            }
            // A server that was asked early may have held its records for this long.
            let ages = Ages { batch: asked.elapsed(), run: first.elapsed() };
            let replies: Vec<_> = peers.iter().zip(said).collect();
            compare(batch, &replies, &truth, ages, again, &mut table);
        }
        eprintln!("{} of {} queries", table.queries(), probes.len());
    }
    for peer in peers {
        peer.running.server.stop()?;
    }
    drop(upstream);
    drop(lab);

    let text = table.render(args, began.elapsed());
    print!("{text}");
    output::text(args.markdown.as_deref(), &text)?;
    output::json(args.json.as_deref(), &table.json())?;
    let unexplained = table.unexplained();
    ensure!(unexplained == 0, "{unexplained} differences are unexplained: see the last table of the report");
    Ok(())
}

/// Returns the zones to ask about.
fn apexes(args: &Args) -> Result<Vec<String>> {
    let wanted = (args.queries as usize).div_ceil(GROUP);
    let Some(path) = &args.names else {
        return Ok((0..wanted)
            .map(|nth| format!("zone-{nth}.{}", ["com", "net", "org", "co.uk"][nth % 4]))
            .collect());
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    // A name such as "co.uk", above others of the list, would be a zone that lacks those.
    Ok(names.take(wanted).map(str::to_ascii_lowercase).collect())
}

/// Starts all servers, and waits until each answers.
fn start(args: &Args, lab: &Lab) -> Result<Vec<Peer>> {
    let programs = Programs::find(args.ringdnsd.clone())?;
    if let Some(unknown) = args.only.iter().find(|name| SERVERS.iter().all(|(known, _)| known != name)) {
        bail!("no peer is called \"{unknown}\"");
    }
    let mut peers = Vec::new();
    for (nth, (name, text)) in SERVERS.into_iter().enumerate() {
        let description =
            Description::parse(name, text).with_context(|| format!("bench/differential/{name}.toml"))?;
        let is_other = !description.is_ours();
        if is_other && !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        let contestant = Contestant::find(description, &programs).map_err(anyhow::Error::msg)?;
        let address = SocketAddr::new(SERVER.ip(), SERVER.port() + 100 * nth as u16);
        let running = contestant.start_at(address, lab, &programs, &Questions::default(), 0)?;
        eprintln!("{name}: {}", contestant.version);
        peers.push(Peer { name: name.into(), is_other, address, running });
    }
    for peer in &mut peers {
        let Running { server, .. } = &mut peer.running;
        lab.client().enter(|| await_answer(peer.address, START, || server.check()))?;
    }
    Ok(peers)
}

/// Asks all servers at once, from a thread each.
fn ask_all(peers: &[Peer], batch: &[Probe]) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            peers.iter().map(|peer| scope.spawn(move || ask::all(peer.address, batch))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(said) => said,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

/// Replies to a batch, by query; `None` for a query without a reply.
type Said = Vec<Option<Vec<u8>>>;

/// Longest times for which a server may have held records.
#[derive(Clone, Copy)]
struct Ages {
    batch: Duration,
    run: Duration,
}

fn compare(
    batch: &[Probe],
    replies: &[(&Peer, Said)],
    truth: &Said,
    ages: Ages,
    again: bool,
    table: &mut Table<'_>,
) {
    for (nth, probe) in batch.iter().enumerate() {
        let limit = probe.limit();
        // Names outside of all zones are asked for in every batch.
        let is_elsewhere = ["label:other", "twist:long-name"].iter().any(|tag| probe.tags.contains(*tag));
        let age = if is_elsewhere { ages.run } else { ages.batch };
        let age = age.as_secs() as u32 + 1;
        let read = |said: &Said| Reply::read(said[nth].as_deref(), limit);
        let [(_, ours), others @ ..] = replies else { return };
        let ours = read(ours);
        let mut found: Vec<Found> = Vec::new();
        // The upstream is compared only for queries that a forwarder would send it.
        let truth = Some((ORIGIN, false, truth)).filter(|_| !probe.is_odd());
        let said = others.iter().map(|(peer, said)| (peer.name.as_str(), peer.is_other, said));
        for (name, is_vote, said) in said.chain(truth) {
            let differences = ours.differences(&read(said), age).into_iter();
            found.extend(differences.map(|difference| Found { peer: name.into(), is_vote, difference }));
        }
        let peers = others.iter().filter(|(peer, _)| peer.is_other).count();
        for found in gathered(found, peers) {
            table.add(probe, found, again);
        }
        if !again {
            table.count(probe);
        }
    }
}

/// Merges a difference that is the same from all peers into one from [`ALL`]: there ringdns is
/// alone.
fn gathered(found: Vec<Found>, peers: usize) -> Vec<Found> {
    let key = |found: &Found| {
        let Difference { field, ours, theirs, .. } = &found.difference;
        (*field, ours.clone(), theirs.clone())
    };
    let mut votes: BTreeMap<_, usize> = BTreeMap::new();
    for found in found.iter().filter(|found| found.is_vote) {
        *votes.entry(key(found)).or_default() += 1;
    }
    votes.retain(|_, count| *count == peers && peers > 1);
    let mut gathered = Vec::new();
    for mut found in found {
        if found.is_vote
            && let Some(left) = votes.get_mut(&key(&found))
        {
            *left -= 1;
            if *left > 0 {
                continue;
            }
            found.peer = ALL.into();
        }
        gathered.push(found);
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Answering, Over};

    fn found(peer: &str, theirs: &str) -> Found {
        let difference = Difference {
            field: reply::Field::Rcode,
            ours: "NOERROR".into(),
            theirs: theirs.into(),
            detail: String::new(),
        };
        Found { peer: peer.into(), is_vote: peer != ORIGIN, difference }
    }

    #[test]
    fn who_is_alone_is_told_so_and_the_upstream_has_no_vote() {
        let names = |found: Vec<Found>, peers| {
            gathered(found, peers).into_iter().map(|found| found.peer).collect::<Vec<_>>()
        };
        let all = vec![found("a", "SERVFAIL"), found("b", "SERVFAIL"), found(ORIGIN, "SERVFAIL")];
        assert_eq!(names(all.clone(), 2), [ALL, ORIGIN]);
        assert_eq!(names(all, 3), ["a", "b", ORIGIN]);
        assert_eq!(names(vec![found("a", "SERVFAIL"), found("b", "REFUSED")], 2), ["a", "b"]);
        assert_eq!(names(vec![found("a", "SERVFAIL")], 1), ["a"], "one peer is not all of them");
    }

    #[test]
    fn servers_and_rules_that_come_along_are_sound_and_none_excuses_our_own() {
        for (name, text) in SERVERS {
            assert_eq!(Description::parse(name, text).unwrap().is_ours(), name.starts_with(OURS));
        }
        for rule in Rules::read(None).unwrap().iter() {
            for peer in &rule.peers {
                let is_other = |(name, _): &(&str, &str)| name == peer && !name.starts_with(OURS);
                let is_group = ["*", rules::OTHERS, ALL, ORIGIN].contains(&peer.as_str());
                assert!(is_group || SERVERS.iter().any(is_other), "{}: {peer}", rule.class);
            }
        }
    }

    #[test]
    fn queries_are_the_same_each_time_and_of_many_kinds() {
        let apexes = ["example.com".to_owned(), "example.org".to_owned()];
        let world = World::new(apexes.iter().map(String::as_str)).unwrap();
        let probes = probe::draw(&world, &apexes, 4000, 7).unwrap();
        let again = probe::draw(&world, &apexes, 4000, 7).unwrap();
        assert!(probes.iter().zip(&again).all(|(one, other)| one.message == other.message));
        let with = |tag: &str| probes.iter().filter(|probe| probe.tags.contains(tag)).count();
        for tag in ["A", "TYPE65534", "do", "cd", "rd0", "tcp", "nxdomain", "nodata", "alias", "over-1232"] {
            assert!(with(tag) > 20, "{tag}: {}", with(tag));
        }
        assert!(with("twist:two-opts") > 0 && with("twist:trailing") > 0);
        // The upstream answers every query that is not odd; without that there is nothing to
        // compare.
        let mut reply = Vec::new();
        for probe in probes.iter().filter(|probe| !probe.is_odd()) {
            assert!(world.answer(&probe.message, Over::Udp, &mut reply), "{}", probe.text);
            assert!(reply.len() <= probe.limit(), "{}: {} bytes", probe.text, reply.len());
        }
    }
}
