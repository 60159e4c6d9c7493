//! Comparison of AF_XDP with the kernel: crafted frames are sent to one ringdnsd over AF_XDP and to
//! another over kernel sockets. Whatever one answers and the other does not has a rule that explains
//! it.
//!
//!     RINGDNS_FRAMES=100000 cargo test --release -p ringdns-tests --test strict -- --nocapture

mod craft;
mod facts;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use craft::{Dice, crafted, plain};
use facts::Facts;
use ringdns_testkit::{Host, Lab, Ringdnsd, Say, Settings, Upstream, sums::count};
use wire::Wire;

/// Environment variable with the number of frames to send.
const FRAMES: &str = "RINGDNS_FRAMES";
/// Number of frames without it.
const SHORT: usize = 4_000;
/// Number of frames that are sent before answers are awaited; a veth queue holds 256.
const BATCH: usize = 64;
/// Attempts to see a difference again before it counts: a queue may lose a frame.
const ATTEMPTS: usize = 3;
/// Seed of the frames.
const SEED: u64 = 15;

/// ringdnsd in a lab of its own, and the client's end of its cable.
struct Side {
    wire: Wire,
    ringdnsd: Ringdnsd,
    _upstream: Upstream,
    _lab: Lab,
}

impl Side {
    fn up(adapt: impl FnOnce(&mut Settings)) -> Option<Self> {
        let lab = Lab::up()?;
        let server = lab.server();
        give_addresses(server);
        // Longer than the test, so that no answer waits for an upstream.
        let upstream = Upstream::start(server, |seen| vec![Say::Send(seen.query.answer(86_400))]);
        let mut settings = Settings::sockets(upstream.address());
        settings.listen = vec!["0.0.0.0:53".to_owned(), "[::]:53".to_owned()];
        settings.tables += "\n[access]\nallow = [\"0.0.0.0/0\", \"::/0\"]";
        adapt(&mut settings);
        let ringdnsd = Ringdnsd::start(server, &settings);
        let wire = Wire::open(lab.client());
        Some(Side { wire, ringdnsd, _upstream: upstream, _lab: lab })
    }

    /// Sends frames, the IDs of whose queries are their positions. Returns those that were answered.
    fn answered(&self, frames: &[Vec<u8>]) -> BTreeSet<u16> {
        frames.iter().for_each(|frame| self.wire.send(frame));
        let mut answered = BTreeSet::new();
        // Plain queries over both ways and both families: their answers come last.
        let last: BTreeMap<u16, Vec<u8>> =
            (0..4u16).map(|way| (LAST + way, plain(LAST + way, way))).collect();
        for _ in 0..ATTEMPTS {
            let missing = last.iter().filter(|(id, _)| !answered.contains(*id));
            missing.for_each(|(_, frame)| self.wire.send(frame));
            while !last.keys().all(|id| answered.contains(id)) {
                let Some(id) = self.wire.next_answer() else { break };
                answered.insert(id);
            }
            if last.keys().all(|id| answered.contains(id)) {
                answered.retain(|id| *id < LAST);
                return answered;
            }
        }
        panic!("plain queries are not answered: {answered:?}\n{}", self.ringdnsd.process().output());
    }
}

/// First ID of the queries behind a batch.
const LAST: u16 = 0xff00;

/// Gives the server more addresses, and sends all its answers to the client's MAC address: with
/// neighbours to be found, the kernel would lose answers that AF_XDP sends.
fn give_addresses(server: &Host) {
    let ip = |words: &str| server.run("ip", words.split(' '));
    ip("address add 10.53.0.4/32 dev vs");
    ip("-6 address add fd53::4/128 dev vs nodad");
    ip("route add local 192.0.2.0/24 dev lo");
    ip("-6 route add local 2001:db8:53::/64 dev lo");
    ip("route add 10.53.0.1 dev vs");
    ip("route del 10.53.0.0/24 dev vs");
    ip("route add default via 10.53.0.1 dev vs");
    ip("-6 route add fd53::1 dev vs");
    ip("-6 route del fd53::/64 dev vs");
    ip("-6 route add default via fd53::1 dev vs");
}

#[test]
fn af_xdp_answers_what_kernel_sockets_answer() {
    let wanted = std::env::var(FRAMES).map_or(SHORT, |text| text.parse().expect("a number of frames"));
    let by_xdp = |settings: &mut Settings| {
        settings.interface = Some("vs".to_owned());
        settings.server = "mode = \"copy\"\nfallback = false".to_owned();
    };
    let Some(xdp) = Side::up(by_xdp) else { return };
    let Some(kernel) = Side::up(|settings| settings.server = "workers = 1".to_owned()) else { return };
    // The first answers come from the upstream.
    for side in [&xdp, &kernel] {
        side.answered(&[]);
        side.answered(&[]);
    }
    let mut dice = Dice::new(SEED);
    let mut table = Table::default();
    while table.sent < wanted {
        let size = BATCH.min(wanted - table.sent);
        let frames: Vec<Vec<u8>> = (0..size).map(|id| crafted(&mut dice, id as u16)).collect();
        let (one, other) = (xdp.answered(&frames), kernel.answered(&frames));
        table.sent += size;
        table.both += one.intersection(&other).count();
        for id in one.symmetric_difference(&other) {
            let frame = &frames[usize::from(*id)];
            match difference(&xdp, &kernel, frame, *id) {
                None => table.not_again += 1,
                Some(by_xdp) => table.add(frame, by_xdp),
            }
        }
    }
    println!("{table}");
    let stats = xdp.ringdnsd.stats();
    println!("verdicts: {:#}", stats["xdp"]);
    assert!(table.unexplained.is_empty(), "seed {SEED}: differences without a rule");
    assert!(table.both * 10 > table.sent && table.both * 10 < 9 * table.sent, "frames of one kind only");
    assert!(table.not_again * 100 < table.sent, "too many frames were lost to compare");
    for verdict in [
        "redirected",
        "not_ip",
        "vlan_too_deep",
        "fragment",
        "ip_options",
        "extension_header",
        "bad_length",
        "group_address",
        "own_source",
        "martian_source",
        "group_source",
        "other_link_address",
        "other_vlan",
        "not_local",
        "other_address_or_port",
    ] {
        assert!(count(&stats["xdp"][verdict]) > 0, "no frame got the verdict {verdict}");
    }
}

/// Sends one frame again. Returns whether AF_XDP answers it and the kernel does not (`true`), or the
/// other way round (`false`); `None`: both do or neither does.
fn difference(xdp: &Side, kernel: &Side, frame: &[u8], id: u16) -> Option<bool> {
    let alone = [frame.to_vec()];
    for _ in 0..ATTEMPTS {
        let (one, other) = (xdp.answered(&alone).contains(&id), kernel.answered(&alone).contains(&id));
        if one == other {
            return None;
        }
    }
    Some(xdp.answered(&alone).contains(&id))
}

/// Result of the comparison.
#[derive(Default)]
struct Table {
    sent: usize,
    both: usize,
    /// Differences that were not seen again.
    not_again: usize,
    /// Number of differences under each rule.
    rules: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

impl Table {
    fn add(&mut self, frame: &[u8], by_xdp: bool) {
        match Facts::of(frame).rule(by_xdp) {
            Some(rule) => *self.rules.entry(rule).or_default() += 1,
            None => {
                let side = if by_xdp { "AF_XDP" } else { "the kernel" };
                let bytes: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                self.unexplained.push(format!("only {side} answers {bytes}"));
            }
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Table { sent, both, not_again, rules, unexplained } = self;
        let explained: usize = rules.values().sum();
        let neither = sent - both - explained - not_again - unexplained.len();
        writeln!(f, "{sent} frames: {both} answered by both, {neither} by neither, {explained} by one:")?;
        for (rule, count) in rules {
            writeln!(f, "{count:8} {rule}")?;
        }
        writeln!(f, "{not_again:8} lost once, and not again")?;
        write!(f, "{:8} without a rule", unexplained.len())?;
        unexplained.iter().take(20).try_for_each(|line| write!(f, "\n{line}"))
    }
}
