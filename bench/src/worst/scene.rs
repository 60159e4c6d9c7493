//! Bursts of a candidate's packets through a processor with the candidate's set-up.

use super::genome::Genome;
use crate::{
    instructions::{Meter, form::Form, template::Template},
    stage::{Ip, Stage},
};
use anyhow::{Result, ensure};
use ringdns_dataplane::{
    cache::BYTES_MIN,
    checksum::Checksums,
    clock::{Nanos, Secs},
    log::{Line, LogConfig, Protocol},
    port::BURST,
    process::{Recorder, Verdict},
    stats::{Counter, DropReason, StatsSnapshot},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Time of all packets, in seconds.
pub const NOW: Secs = 600;
/// Times at which fresh and stale answers were received: their TTL is 300 s.
const RECEIVED: [Secs; 2] = [595, 0];
/// Size of the cache, in bytes.
const CACHE: usize = 8 * BYTES_MIN;
/// Bursts before the count.
const WARM_BURSTS: usize = 2;
/// Bursts that are counted.
const BURSTS: usize = 2;
/// Most bursts until a client is over its limit.
const LIMIT_BURSTS: usize = 400;
/// INFO-CODE of the answers of a list (RFC 8914 section 4.16).
pub const BLOCKED: u16 = 15;
/// Batches of the query log.
const BATCHES: usize = 2;

/// Returns the time at which the answer to packets of a form was received.
pub fn received(form: &Form) -> Secs {
    RECEIVED[usize::from(form.is_stale)]
}

/// Kind of outcome of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Answers from the cache.
    Hit,
    /// Answers from the cache, to queries with cookies.
    Cookie,
    /// Replies without a look into the cache, or none.
    Refused,
}

/// Processor with the set-up of a candidate.
pub struct Scene<'a> {
    genome: &'a Genome,
    stage: Stage,
    log: Option<(Recorder, Arc<Line>)>,
    checksums: Checksums,
    /// Packets of each form.
    templates: Vec<Template>,
    /// Number of the next packet.
    number: usize,
}

impl<'a> Scene<'a> {
    /// Returns a processor with the set-up of a candidate, and brings clients over their limits.
    pub fn new(genome: &'a Genome) -> Result<Self> {
        let mut stage = Stage::new(CACHE)?;
        stage.processor.set_policy(Arc::new(genome.site.policy()?));
        stage.processor.set_time(Nanos::from(NOW) * 1_000_000_000);
        let log = genome.site.log.sieve()?.map(|sieve| {
            let line = Arc::new(Line::new(BATCHES));
            let config = LogConfig { line: line.clone(), sieve: Arc::new(sieve), seed: 1 };
            (Recorder::new(config, Protocol::Udp), line)
        });
        let checksums = genome.site.checksums.checksums();
        let templates = genome.packets.iter().map(|form| Template::new(form, NOW)).collect::<Result<_>>()?;
        let mut scene = Scene { genome, stage, log, checksums, templates, number: 0 };
        scene.bring_over_limit()?;
        Ok(scene)
    }

    /// Sends plain queries of a client until it is over its limit, if the set-up wants that.
    fn bring_over_limit(&mut self) -> Result<()> {
        let Some(client) = self.genome.site.limit.client_over() else { return Ok(()) };
        for ip in [Ip::V4, Ip::V6] {
            let over = |counters: StatsSnapshot| {
                let refused = counters.get(Counter::LimitDryRun) + counters.get(Counter::Slipped);
                refused + counters.dropped(DropReason::Limited)
            };
            let before = over(self.stage.counters());
            let form = Form { ip, ..Form::default() };
            if let Some((query, answer)) = form.answered(0, received(&form))? {
                self.stage.processor.cache().insert(&query.key, &answer, NOW);
            }
            let packet = form.packet_of(&client, 0, NOW)?;
            let mut bursts = 0;
            while over(self.stage.counters()) == before {
                ensure!(bursts < LIMIT_BURSTS, "the client does not come to its limit");
                bursts += 1;
                (0..BURST).for_each(|nth| self.stage.load(nth, &packet));
                self.stage.run_as(NOW, self.checksums);
            }
        }
        Ok(())
    }

    /// Fills the cache for the next burst, and writes the burst.
    fn load(&mut self) -> Result<()> {
        let scope = self.genome.site.scope()?;
        for nth in 0..BURST {
            let form = self.genome.form(self.number);
            let at = self.number % self.templates.len();
            let (packet, message) = self.templates[at].packet(self.number);
            if let Some((query, mut answer)) = form.answered_to(message, received(form))? {
                if scope.list.is_some() {
                    answer.ede = Some(BLOCKED);
                }
                self.stage.processor.cache().insert_for(&scope, &query.key, &answer, NOW);
            }
            self.stage.load(nth, packet);
            self.number += 1;
        }
        Ok(())
    }

    /// Processes the burst. This is the measured work.
    fn run(&mut self) -> [Verdict; BURST] {
        let fates = match &mut self.log {
            Some((log, _)) => self.stage.run_logged(NOW, self.checksums, log).0,
            None => self.stage.run_as(NOW, self.checksums).0,
        };
        std::array::from_fn(|nth| fates.verdict(nth))
    }

    /// Takes the records of the log, as the control plane does.
    fn collect(&mut self) {
        let Some((_, line)) = &self.log else { return };
        while let Some(batch) = line.collect() {
            line.give_back(batch);
        }
    }

    /// Returns the number of packets answered from the cache so far.
    fn answered(&self) -> u64 {
        let counters = self.stage.counters();
        [Counter::Hit, Counter::Stale, Counter::CachedFailure]
            .map(|counter| counters.get(counter))
            .iter()
            .sum()
    }

    /// Processes a burst. Returns the class of its packets; `None` if they have none in common, or need the
    /// control plane.
    fn look(&mut self) -> Result<Option<Class>> {
        self.load()?;
        let before = self.answered();
        let verdicts = self.run();
        self.collect();
        let answered = self.answered() - before;
        let is_reply = verdicts.iter().all(|verdict| verdict.is_reply());
        let is_refused = |verdict: &Verdict| matches!(verdict, Verdict::Reply | Verdict::Drop(_));
        Ok(match answered {
            0 if verdicts.iter().all(is_refused) => Some(Class::Refused),
            answered if answered == BURST as u64 && is_reply && self.genome.has_cookie() => {
                Some(Class::Cookie)
            }
            answered if answered == BURST as u64 && is_reply => Some(Class::Hit),
            _ => None,
        })
    }

    /// Returns the class of the candidate's packets; `None` if it has none.
    pub fn class(&mut self) -> Result<Option<Class>> {
        let first = self.look()?;
        for _ in 1..WARM_BURSTS {
            if self.look()? != first {
                return Ok(None);
            }
        }
        Ok(first)
    }

    /// Processes bursts, and returns the number of packets that the meter measured.
    pub fn measure(&mut self, meter: &mut dyn Meter) -> Result<u64> {
        let class = self.class()?;
        ensure!(class.is_some(), "the packets have no class: some are answered from the cache, others not");
        for _ in 0..BURSTS {
            self.load()?;
            meter.measure(&mut || {
                std::hint::black_box(self.run());
            });
            self.collect();
        }
        Ok((BURSTS * BURST) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::{
        form::Fate,
        shapes::{COOKIE, SHAPES},
    };

    #[test]
    fn shapes_have_the_fate_that_their_form_tells() {
        for shape in SHAPES {
            let form = (shape.form)();
            let class = match form.fate {
                Fate::Hit if shape.goal == COOKIE => Class::Cookie,
                Fate::Hit => Class::Hit,
                Fate::Reply | Fate::Refused | Fate::Denied | Fate::Drop => Class::Refused,
            };
            let genome = Genome::of(form);
            assert_eq!(Scene::new(&genome).unwrap().class().unwrap(), Some(class), "{}", shape.name);
        }
    }
}
