//! Trials: each server in each setting, one after the other.

use super::{
    Kit,
    load::{Outcome, Peer},
    setting::{Mode, Setting, Tuning},
    subject::{Running, Subject, is_as_asked},
};
use crate::{put_back::PutBack, report::group};
use anyhow::{Context, Result, ensure};
use procfs::CurrentSI;
use ringdns_doctor::{ethtool, host::Host};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Trial of a server in a setting.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Setting of the trial.
    pub setting: Setting,
    /// Server under trial.
    pub subject: Subject,
    /// Mode of reception that the server reported.
    pub reached: Option<String>,
    /// Measurements, round by round.
    pub rounds: Vec<Round>,
    /// Reason why nothing was measured, or no more.
    pub failure: Option<String>,
}

/// Turn of a server in a setting.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Sample with as many queries as the generator makes, or as the other host sends.
    pub saturation: Sample,
    /// Sample with half of the answers at saturation, if the generator's rate can be set.
    pub paced: Option<Sample>,
    /// Counters of the server and of the NIC for queries that were not answered from the cache.
    pub others: BTreeMap<String, u64>,
}

/// Answers under a load, and their cost.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Queries, answers, latency.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Processor time of the server's threads for each answer, in nanoseconds.
    pub server_cpu_nanos: f64,
    /// Processor time of all cores but the generator's for each answer, in nanoseconds, interrupts included.
    pub host_cpu_nanos: f64,
}

/// Order and extent of the trials.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Modes to try.
    pub modes: Vec<Mode>,
    /// Tunings to try, besides none.
    pub tunings: Vec<Tuning>,
    /// Turns of each server in each setting.
    pub rounds: u16,
    /// Whether tunings are tried only in the first mode that works.
    pub quick: bool,
}

impl Schedule {
    /// Returns all settings.
    pub fn settings(&self) -> Vec<Setting> {
        Setting::all(&self.modes, &self.tunings)
    }

    /// Returns the largest possible number of turns.
    pub fn turns(&self) -> u32 {
        let tuned_modes = if self.quick { 1 } else { self.modes.len() };
        let plain = self.modes.len();
        let settings = plain + Setting::all(&self.modes[..tuned_modes], &self.tunings).len() - tuned_modes;
        2 * settings as u32 * u32::from(self.rounds)
    }
}

/// Trials, and ringdnsd's logs in each setting.
#[derive(Debug, Default)]
pub struct Trials {
    /// Trials in the order in which they ran.
    pub all: Vec<Trial>,
    /// Log of ringdnsd, by the name of the setting.
    pub logs: BTreeMap<String, String>,
}

impl Trials {
    /// Runs the schedule, and calls `keep` after each turn. Fails only when interrupted, or when
    /// `keep` fails.
    pub fn run(
        &mut self,
        kit: &Kit,
        peer: &Peer,
        schedule: &Schedule,
        mut keep: impl FnMut(&Trials) -> Result<()>,
    ) -> Result<()> {
        let host = Host::read();
        for round in 1..=schedule.rounds {
            let mut tuned = None;
            for setting in schedule.settings() {
                let is_tuned = setting.tuning != Tuning::None;
                if is_tuned && !self.works(setting.mode) {
                    continue;
                }
                if is_tuned && schedule.quick && *tuned.get_or_insert(setting.mode) != setting.mode {
                    continue;
                }
                if let Some(obstacle) = setting.obstacle(&kit.nic, &host, kit.queues) {
                    if round == 1 {
                        println!("{setting}: left out, {obstacle}");
                        self.leave_out(setting, obstacle);
                    }
                    continue;
                }
                self.in_setting(kit, peer, setting, &mut keep)?;
            }
        }
        Ok(())
    }

    /// Whether ringdnsd or the responder was measured in a mode as it is.
    fn works(&self, mode: Mode) -> bool {
        let plain = Setting { mode, tuning: Tuning::None };
        self.all.iter().any(|trial| trial.setting == plain && !trial.rounds.is_empty())
    }

    fn trial(&mut self, setting: Setting, subject: Subject) -> &mut Trial {
        let found = self.all.iter().position(|trial| trial.setting == setting && trial.subject == subject);
        let at = found.unwrap_or_else(|| {
            self.all.push(Trial { setting, subject, reached: None, rounds: Vec::new(), failure: None });
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    fn leave_out(&mut self, setting: Setting, why: String) {
        for subject in [Subject::Responder, Subject::Ringdnsd] {
            self.trial(setting, subject).failure = Some(why.clone());
        }
    }

    /// Gives both servers a turn in one setting, and undoes the setting.
    fn in_setting(
        &mut self,
        kit: &Kit,
        peer: &Peer,
        setting: Setting,
        keep: &mut impl FnMut(&Trials) -> Result<()>,
    ) -> Result<()> {
        let mut put_back = PutBack::default();
        if let Err(error) = setting.apply(&kit.nic, kit.queues, &mut put_back) {
            println!("{setting}: left out, {error:#}");
            self.leave_out(setting, format!("{error:#}"));
            return put_back.put_back();
        }
        for subject in [Subject::Responder, Subject::Ringdnsd] {
            if self.trial(setting, subject).failure.is_some() {
                continue;
            }
            print!("{setting}, {subject}: ");
            // Shows the line of the turn that is about to begin.
            std::io::Write::flush(&mut std::io::stdout()).context("cannot print")?;
            let measured = self.turn(kit, peer, setting, subject);
            kit.check_stop()?;
            let trial = self.trial(setting, subject);
            match measured {
                Ok(round) => {
                    println!("{}", in_short(&round));
                    trial.rounds.push(round);
                }
                Err(error) => {
                    println!("failed: {error:#}");
                    trial.failure = Some(format!("{error:#}"));
                }
            }
            keep(self)?;
        }
        put_back.put_back()
    }

    fn turn(&mut self, kit: &Kit, peer: &Peer, setting: Setting, subject: Subject) -> Result<Round> {
        let mut running = Running::start(kit, subject, setting)?;
        self.trial(setting, subject).reached = Some(running.reached.clone());
        let measured = measure(kit, peer, setting, &mut running);
        let said = running.stop()?;
        if subject == Subject::Ringdnsd {
            self.logs.insert(setting.to_string(), said);
        }
        measured
    }
}

fn measure(kit: &Kit, peer: &Peer, setting: Setting, running: &mut Running<'_>) -> Result<Round> {
    ensure!(is_as_asked(setting.mode, &running.reached), "it started in another mode: {}", running.reached);
    peer.warm_up(kit, running)?;
    let before = troubles(kit, running)?;
    let saturation = sample(kit, peer, running, None)?;
    ensure!(saturation.outcome.answers > 0.0, "the server answered before the load, but not under it");
    let paced = if peer.can_be_paced() {
        Some(sample(kit, peer, running, Some(saturation.outcome.answers_per_second / 2.0))?)
    } else {
        None
    };
    running.check()?;
    let mut others = troubles(kit, running)?;
    for (name, count) in &mut others {
        *count = count.saturating_sub(before.get(name).copied().unwrap_or(0));
    }
    others.retain(|_, count| *count > 0);
    Ok(Round { saturation, paced, others })
}

fn sample(kit: &Kit, peer: &Peer, running: &Running<'_>, qps: Option<f64>) -> Result<Sample> {
    let (server, host) = (running.usage()?, busy(kit.generator_core)?);
    let outcome = peer.measure(kit, running, qps)?;
    let (server, host) = (running.usage()?.since(server).ran, busy(kit.generator_core)?.saturating_sub(host));
    let each = |time: Duration| time.as_nanos() as f64 / outcome.answers.max(1.0);
    Ok(Sample { server_cpu_nanos: each(server), host_cpu_nanos: each(host), outcome })
}

/// Returns the counters of the server and of the NIC that indicate trouble.
fn troubles(kit: &Kit, running: &Running<'_>) -> Result<BTreeMap<String, u64>> {
    let mut counted = running.counted()?.others;
    for (name, count) in ethtool::counters(&ethtool::ask(&["-S", &kit.nic.interface]).unwrap_or_default()) {
        if tells_of_trouble(&name) {
            counted.insert(format!("nic.{name}"), count);
        }
    }
    Ok(counted)
}

fn tells_of_trouble(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["drop", "miss", "err", "no_buf", "discard", "full", "fail", "busy"]
        .iter()
        .any(|word| name.contains(word))
}

/// Returns the time for which all cores except one have been busy since the machine started.
fn busy(except: Option<usize>) -> Result<Duration> {
    let stat = procfs::KernelStats::current().context("cannot read /proc/stat")?;
    let cores = stat.cpu_time.iter().enumerate().filter(|(core, _)| Some(*core) != except);
    let busy = cores.map(|(_, time)| {
        let interrupts = time.irq_ms().unwrap_or(0) + time.softirq_ms().unwrap_or(0);
        time.user_ms() + time.nice_ms() + time.system_ms() + interrupts
    });
    Ok(Duration::from_millis(busy.sum()))
}

/// Formats a round as a line of progress.
fn in_short(round: &Round) -> String {
    let Sample { outcome, server_cpu_nanos, .. } = &round.saturation;
    let mut line = format!(
        "{} answers/s of {} queries/s, {server_cpu_nanos:.0} ns of processor each",
        group(outcome.answers_per_second as u64),
        group(outcome.queries_per_second as u64),
    );
    if let Some(outcome) = round.paced.as_ref().map(|paced| &paced.outcome) {
        let p99 = outcome.latency_micros.map_or(0.0, |[_, p99, _]| p99);
        line += &format!("; at half, {:.2} % unanswered, p99 {p99:.0} µs", outcome.unanswered_percent);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_trouble_are_told_by_their_names() {
        for name in [
            "rx_missed_errors",
            "rx_queue_0_drops",
            "rx_no_buffer_count",
            "tx_timeout_fail",
            "rx-0.rx_xsk_buff_alloc_err",
        ] {
            assert!(tells_of_trouble(name), "{name}");
        }
        for name in ["rx_packets", "tx_queue_1_bytes", "rx_csum_good"] {
            assert!(!tells_of_trouble(name), "{name}");
        }
    }

    #[test]
    fn a_quick_schedule_has_fewer_turns() {
        let mut schedule =
            Schedule { modes: Mode::ALL.to_vec(), tunings: Tuning::ALL.to_vec(), rounds: 1, quick: false };
        assert_eq!(schedule.turns(), 24);
        schedule.quick = true;
        assert_eq!(schedule.turns(), 12);
        schedule.rounds = 3;
        assert_eq!(schedule.turns(), 36);
    }

    #[test]
    fn the_machines_cores_have_worked() {
        let (all, fewer) = (busy(None).unwrap(), busy(Some(0)).unwrap());
        assert!(all > fewer, "{all:?} {fewer:?}");
    }
}
