//! Problems: conditions that an operator should know of while they last. They have one source, which
//! `ringctl status` and `check`, `/readyz` and the metrics share.
//!
//! Each part logs when its state changes. This module only says what is so at a moment.

mod readiness;
mod sources;

use super::Service;
use crate::problems::{Found, HostProblems};
use parking_lot::Mutex;
use readiness::Readiness;
use ringdns_api::{Problem, ProblemKind};
use ringdns_config::ControlConfig;
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Instant};

/// Current problems, with the times at which they were first seen.
pub struct Problems {
    host: Arc<HostProblems>,
    /// Unix times.
    begun: Mutex<BTreeMap<(ProblemKind, String), u64>>,
    readiness: Mutex<Readiness>,
}

impl Problems {
    /// Returns the problems of a process. Those that need a watch of their own are in `host`.
    pub fn new(host: Arc<HostProblems>, control: &ControlConfig) -> Self {
        let readiness = Mutex::new(Readiness::new(control));
        Problems { host, begun: Mutex::default(), readiness }
    }

    /// Returns what is so at this moment, the gravest first.
    pub fn of(&self, service: &Service) -> Vec<Problem> {
        self.since(sources::all(service, &self.host), service.clock.unix())
    }

    /// Returns the reason why ringdnsd is not ready to serve clients, if it is not.
    pub fn obstacle(&self, service: &Service) -> Option<String> {
        let found = sources::all(service, &self.host);
        self.readiness.lock().obstacle(&found, Instant::now())
    }

    /// Looks, so that the times at which problems begin, and the hold-down, are known though nobody asks.
    pub fn look(&self, service: &Service) {
        let found = sources::all(service, &self.host);
        self.readiness.lock().obstacle(&found, Instant::now());
        self.since(found, service.clock.unix());
    }

    fn since(&self, found: Vec<Found>, now: u64) -> Vec<Problem> {
        let mut begun = self.begun.lock();
        let before = std::mem::take(&mut *begun);
        let mut problems = Vec::with_capacity(found.len());
        for Found { kind, subject, text } in found {
            let of = (kind, subject.clone());
            let since = before.get(&of).copied().unwrap_or(now);
            begun.insert(of, since);
            problems.push(Problem { kind, severity: kind.severity(), subject, text, since });
        }
        problems.sort_by_key(|problem| Reverse(problem.severity));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProblemKind::{NoUpstream, RedisLost, RestartPending, UpstreamSilent};
    use std::time::Duration;

    fn problems() -> Problems {
        let control = ringdns_config::Config::parse(
            "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:5301\"\n",
            std::path::Path::new("ringdns.toml"),
        );
        Problems::new(Arc::default(), &control.unwrap().control)
    }

    #[test]
    fn a_problem_keeps_its_time_until_it_is_over_and_the_gravest_comes_first() {
        let problems = problems();
        let (slow, all) = (Found::new(UpstreamSilent, "udp://a", "x"), Found::whole(NoUpstream, "y"));
        let pending = Found::whole(RestartPending, "z");
        let told = |found: &[&Found], now| {
            let problems = problems.since(found.iter().map(|found| (*found).clone()).collect(), now);
            problems.into_iter().map(|problem| (problem.kind, problem.since)).collect::<Vec<_>>()
        };
        assert_eq!(told(&[&pending, &slow], 10), [(UpstreamSilent, 10), (RestartPending, 10)]);
        assert_eq!(
            told(&[&pending, &slow, &all], 20),
            [(NoUpstream, 20), (UpstreamSilent, 10), (RestartPending, 10)]
        );
        assert_eq!(told(&[&all], 30), [(NoUpstream, 20)]);
        assert_eq!(told(&[&slow], 40), [(UpstreamSilent, 40)]);
        let other = Found::new(UpstreamSilent, "udp://b", "x");
        assert_eq!(told(&[&slow, &other], 50), [(UpstreamSilent, 40), (UpstreamSilent, 50)]);
    }

    #[test]
    fn readiness_asks_for_what_the_configuration_names() {
        let problems = problems();
        let now = Instant::now();
        let obstacle = |found: &[Found], after| {
            problems.readiness.lock().obstacle(found, now + Duration::from_secs(after))
        };
        assert_eq!(obstacle(&[Found::whole(RedisLost, "gone")], 0), None);
        assert_eq!(obstacle(&[Found::whole(NoUpstream, "silent")], 1).as_deref(), Some("silent"));
        assert_eq!(obstacle(&[], 1), None, "there is no hold-down by default");
    }
}
