//! Readiness: whether clients should be sent here.

use crate::problems::Found;
use ringdns_api::ProblemKind;
use ringdns_config::{ControlConfig, Requirement};
use std::time::{Duration, Instant};

/// State of readiness.
pub struct Readiness {
    requires: Vec<Requirement>,
    hold_down: Duration,
    /// Time at which something that is required was last missing.
    last_missing: Option<Instant>,
}

impl Readiness {
    /// Returns the readiness that a configuration asks for.
    pub fn new(control: &ControlConfig) -> Self {
        Readiness {
            requires: control.ready_requires.clone(),
            hold_down: control.ready_hold_down,
            last_missing: None,
        }
    }

    /// Returns the reason why clients should not be sent here at `now`, if there is one.
    pub(super) fn obstacle(&mut self, found: &[Found], now: Instant) -> Option<String> {
        let missing = |required: &dyn Fn(ProblemKind) -> bool| {
            found.iter().find(|found| required(found.kind)).map(|found| found.text.clone())
        };
        let always = |kind| matches!(kind, ProblemKind::NoReception | ProblemKind::WorkerStuck);
        let asked = |kind| self.requires.iter().any(|requirement| is_missing(*requirement, kind));
        if let Some(reason) = missing(&always).or_else(|| missing(&asked)) {
            self.last_missing = Some(now);
            return Some(reason);
        }
        let left = self.hold_down.checked_sub(now.saturating_duration_since(self.last_missing?))?;
        (!left.is_zero()).then(|| {
            let secs = left.as_secs_f64().ceil();
            format!("all is well again, and has to stay so for {secs} s more (control.ready_hold_down)")
        })
    }
}

/// Whether a problem of a kind means that something required is missing.
fn is_missing(requirement: Requirement, kind: ProblemKind) -> bool {
    match requirement {
        Requirement::Upstream => kind == ProblemKind::NoUpstream,
        Requirement::Zones => kind == ProblemKind::ZoneSilent,
        Requirement::Xdp => kind == ProblemKind::XdpLost,
        Requirement::Redis => kind == ProblemKind::RedisLost,
        Requirement::QueryLog => {
            matches!(kind, ProblemKind::QueryLogLost | ProblemKind::ClickhouseFailing)
        }
        Requirement::Lists => matches!(kind, ProblemKind::ListDegraded | ProblemKind::OverridesBroken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProblemKind::*;

    #[test]
    fn each_requirement_is_missing_with_its_problems_and_no_others() {
        let all = [
            (Requirement::Upstream, vec![NoUpstream]),
            (Requirement::Zones, vec![ZoneSilent]),
            (Requirement::Xdp, vec![XdpLost]),
            (Requirement::Redis, vec![RedisLost]),
            (Requirement::QueryLog, vec![ClickhouseFailing, QueryLogLost]),
            (Requirement::Lists, vec![ListDegraded, OverridesBroken]),
        ];
        for (requirement, kinds) in all {
            let mut readiness =
                Readiness { requires: vec![requirement], hold_down: Duration::ZERO, last_missing: None };
            let now = Instant::now();
            let missing = ProblemKind::ALL
                .iter()
                .filter(|kind| readiness.obstacle(&[Found::whole(**kind, "x")], now).is_some());
            let mut expected = vec![NoReception, WorkerStuck];
            expected.extend(kinds);
            expected.sort_unstable();
            let mut missing: Vec<_> = missing.copied().collect();
            missing.sort_unstable();
            assert_eq!(missing, expected, "{requirement:?}");
        }
    }

    #[test]
    fn readiness_returns_after_the_hold_down_and_a_relapse_begins_it_anew() {
        let mut readiness = Readiness {
            requires: vec![Requirement::Upstream],
            hold_down: Duration::from_secs(10),
            last_missing: None,
        };
        let start = Instant::now();
        let mut at = |secs, found: &[Found]| readiness.obstacle(found, start + Duration::from_secs(secs));
        let silent = [Found::whole(NoUpstream, "silent")];
        assert_eq!(at(0, &[]), None, "a start is no relapse");
        assert_eq!(at(1, &silent).as_deref(), Some("silent"));
        assert!(at(10, &[]).unwrap().contains("for 1 s more"));
        assert_eq!(at(10, &silent).as_deref(), Some("silent"));
        assert!(at(19, &[]).is_some());
        assert_eq!(at(20, &[]), None);
        assert_eq!(at(21, &[]), None);
    }
}
