//! Data plane without a network: packets with queries, answers to fill caches with, and bursts to
//! process.

use crate::{
    names::Questions,
    options,
    query::{QUERY_MAX, Template},
    upstream::{Answerer, Answering, Over},
};
use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use ringdns_dataplane::{
    access::AccessList,
    cache::{Cache, KeyedHash},
    checksum::Checksums,
    clock::{Nanos, Secs},
    dns::{
        answer::{Answer, TtlRules},
        cookie::Cookies,
        query::Query,
    },
    frame::{Frame, Frames},
    group::{ClientGroups, Group},
    limiter::LimitConfig,
    policy::QueryPolicy,
    port::{BURST, Burst},
    prefix::Prefix,
    process::{AnswerConfig, Fates, Processor, Recorder, TurnTally, Verdict},
    stats::{StatsSnapshot, WorkerStats},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rules of all measurements here: the server's defaults.
pub const RULES: AnswerConfig = AnswerConfig { udp_limit: 1232, stale_ttl: 30, stale_at_once: true };

const TTL_RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 10_800, stale: 86_400, ahead: 0 };

/// Returns the policy: the server's defaults, except that only `allow` may ask and that the secret
/// is the same in every run.
pub fn policy(allow: &[&str]) -> Result<Arc<QueryPolicy>> {
    let allow = allow.iter().map(|prefix| prefix.parse()).collect::<Result<Vec<Prefix>, _>>()?;
    let cookies = Some(Cookies::new([7; 16], None));
    Ok(Arc::new(QueryPolicy { access: AccessList::new(&allow, &[])?, cookies, ..QueryPolicy::default() }))
}

/// Returns limits of clients that all packets of a measurement together are below.
pub fn limit() -> Result<LimitConfig> {
    Ok(LimitConfig {
        per_second: 200,
        burst: 1 << 20,
        slip: 2,
        exempt: AccessList::new(&[], &[])?,
        groups: None,
        dry_run: false,
        flood_times: 10,
    })
}

/// Prefixes of the default access list that cover the clients here.
pub const ALLOW: &[&str] = &["10.0.0.0/8", "fc00::/7"];

/// Number of the group that has upstreams of its own.
pub const OWN_UPSTREAMS: usize = 1;

/// Seeds of the cache's hash, the same in every run, so that counts repeat.
pub const HASH_SEEDS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// IP version of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Returns the template of queries made with the command line's `options`.
pub fn template(options: &[&str]) -> Result<Template> {
    Template::new(&options::parse(options)?, 1)
}

/// Returns the answerer of a synthetic upstream started with `options`.
pub fn answerer(options: &[&str]) -> Result<Answerer> {
    Answerer::new(&options::parse(options)?, Arc::default())
}

/// Returns a query as a packet, with checksums.
pub fn packet(template: &Template, question: &[u8], ip: Ip) -> Result<Vec<u8>> {
    let mut message = [0; QUERY_MAX];
    let len = template.write(&mut message, 0x1234, question, 0);
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0x53, 1], [2, 0, 0, 0, 0x53, 2]);
    let headers = match ip {
        Ip::V4 => link.ipv4([10, 53, 0, 1], [10, 53, 0, 2], 64),
        Ip::V6 => {
            let address = |host| [0xfd, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
            link.ipv6(address(1), address(2), 64)
        }
    };
    let headers = headers.udp(40_000, 53);
    let mut packet = Vec::with_capacity(headers.size(len));
    headers.write(&mut packet, &message[..len]).context("cannot write a packet")?;
    // IEEE 802.3: no frame is shorter.
    packet.resize(packet.len().max(60), 0);
    Ok(packet)
}

/// Answer as the control plane hands it to a worker, with its key.
pub struct Filed {
    /// Query that is the key.
    pub query: Query,
    /// Answer under that key.
    pub answer: Answer,
}

/// Returns the answer to a question, passed through the wire format and checks of an upstream's
/// answer.
pub fn answer(template: &Template, answerer: &Answerer, question: &[u8], now: Secs) -> Result<Filed> {
    let mut message = [0; QUERY_MAX];
    let len = template.write(&mut message, 0, question, 0);
    let mut query = Query::default();
    let parsed = query.parse(&message[..len]);
    ensure!(parsed.is_ok(), "the data plane rejects the query: {parsed:?}");
    let mut reply = Vec::new();
    ensure!(answerer.answer(&message[..len], Over::Tcp, &mut reply), "the upstream gives no answer");
    let answer = Answer::from_response(&reply, &query.key, &TTL_RULES, now, false)
        .context("the data plane rejects the upstream's answer")?;
    Ok(Filed { query, answer })
}

/// Inserts the answers to all questions.
pub fn fill(
    cache: &mut Cache,
    questions: &Questions,
    template: &Template,
    answerer: &Answerer,
) -> Result<()> {
    for index in 0..questions.len() as u32 {
        let Filed { query, answer } = answer(template, answerer, questions.get(index), 0)?;
        cache.insert(&query.key, &answer, 0);
    }
    Ok(())
}

/// Processor and a burst of frames for it.
pub struct Stage {
    /// Processor under measurement.
    pub processor: Processor,
    frames: Frames,
    burst: Burst,
    stats: WorkerStats,
}

impl Stage {
    /// Returns a processor over a cache of `bytes`, with a burst of empty frames.
    pub fn new(bytes: usize) -> Result<Self> {
        Self::allowing(ALLOW, bytes)
    }

    /// Returns a processor for clients in `allow`.
    pub fn allowing(allow: &[&str], bytes: usize) -> Result<Self> {
        let cache = Cache::new(bytes, RULES.udp_limit, KeyedHash::with_seeds(HASH_SEEDS))
            .with_context(|| format!("no memory for a cache of {bytes} bytes: use fewer names"))?;
        let mut frames = Frames::new(BURST as u32, 256).context("no memory for frames")?;
        let burst = std::iter::from_fn(|| frames.alloc()).collect();
        let processor = Processor::new(cache, RULES, policy(allow)?);
        Ok(Stage { processor, frames, burst, stats: WorkerStats::default() })
    }

    /// Returns a processor for clients that have a limit, which all packets here together are below.
    pub fn limiting(bytes: usize) -> Result<Self> {
        let mut stage = Self::new(bytes)?;
        let policy = QueryPolicy { limit: Some(limit()?), ..QueryPolicy::clone(stage.processor.policy()) };
        stage.processor.set_policy(Arc::new(policy));
        Ok(stage)
    }

    /// Returns a processor with an access list of 1,000 prefixes, 20 groups of clients, and limits. The
    /// clients here are in the default group.
    pub fn policed(bytes: usize) -> Result<Self> {
        Self::policed_in(bytes, Group::DEFAULT)
    }

    /// Returns a processor with the same, where the clients here are in `group`.
    pub fn policed_in(bytes: usize, group: Group) -> Result<Self> {
        let mut stage = Self::limiting(bytes)?;
        // The clients here are in 10.53.0.0/22.
        let others = (0..999).map(|n| format!("172.{}.{}.0/24", 16 + n / 256, n % 256));
        let allow = std::iter::once("10.53.0.0/22".to_owned()).chain(others);
        let allow = allow.map(|prefix| prefix.parse()).collect::<Result<Vec<Prefix>, _>>()?;
        let groups = (1..=20).map(|n| {
            let prefix = format!("10.53.{n}.0/24").parse()?;
            anyhow::Ok((prefix, Group::new(n).context("a group has no number")?))
        });
        let own = std::iter::once_with(|| anyhow::Ok(("10.53.0.0/24".parse()?, group)));
        let policy = QueryPolicy {
            access: AccessList::new(&allow, &[])?,
            groups: ClientGroups::new(&groups.chain(own).collect::<Result<Vec<_>>>()?)?,
            ..QueryPolicy::clone(stage.processor.policy())
        };
        stage.processor.set_policy(Arc::new(policy));
        Ok(stage)
    }

    /// Writes a packet into the nth frame of the burst.
    pub fn load(&mut self, nth: usize, packet: &[u8]) {
        let frame: &mut Frame = &mut self.burst[nth];
        self.frames.buffer(frame)[..packet.len()].copy_from_slice(packet);
        frame.set_len(packet.len());
    }

    /// Processes the burst. This is the measured work.
    #[inline]
    pub fn run(&mut self, now: Secs) -> TurnTally {
        self.run_as(now, Checksums::Verify).1
    }

    /// Processes the burst, whose checksums are verified as `checksums` says. Returns all outcomes.
    #[inline]
    pub fn run_as(&mut self, now: Secs, checksums: Checksums) -> (Fates<'_>, TurnTally) {
        self.processor.run(now, checksums, &mut self.frames, &mut self.burst, &self.stats)
    }

    /// Processes the burst and logs the answers, as a worker does. Returns all outcomes.
    #[inline]
    pub fn run_logged(
        &mut self,
        now: Secs,
        checksums: Checksums,
        log: &mut Recorder,
    ) -> (Fates<'_>, TurnTally) {
        let Stage { processor, frames, burst, stats } = self;
        let (fates, tally) = processor.run(now, checksums, frames, burst, stats);
        let at = Nanos::from(now) * 1_000_000_000;
        log.note_burst(at, frames, burst, &fates);
        log.settle(at + 20_000, stats);
        (fates, tally)
    }

    /// Returns the counters.
    pub fn counters(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Processes the burst, and fails unless every packet became a reply.
    pub fn run_checked(&mut self, now: Secs) -> Result<()> {
        let (fates, _) =
            self.processor.run(now, Checksums::Verify, &mut self.frames, &mut self.burst, &self.stats);
        for nth in 0..self.burst.len() {
            let verdict = fates.verdict(nth);
            ensure!(
                verdict == Verdict::Reply,
                "query {nth} of the burst is not answered from the cache: {verdict:?}"
            );
        }
        Ok(())
    }
}
