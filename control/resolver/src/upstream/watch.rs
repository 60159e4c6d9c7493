//! Watch on the upstreams: logs which of them fall silent and answer again, and probes the silent
//! ones, since a question that would find out may not come for hours.

use crate::upstream::{Upstream, choice::Upstreams, exchange::JudgeRules, probe};
use std::{collections::HashMap, sync::Arc};
use tokio::time::{Duration, Instant};

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Upstreams and zones that were silent at the last look.
#[derive(Default)]
pub struct UpstreamWatch {
    /// Time at which each was first seen to be silent, by its label.
    upstreams: HashMap<String, Instant>,
    /// Zones of which no upstream answered.
    zones: Vec<String>,
}

impl UpstreamWatch {
    /// Looks at the upstreams. Of `zones` no upstream answers.
    pub fn look(&mut self, upstreams: &Upstreams, zones: Vec<String>, rules: &JudgeRules) {
        let before = std::mem::take(&mut self.upstreams);
        for upstream in upstreams.iter() {
            let since = before.get(&upstream.label);
            if !self.look_at(upstream, since.copied(), rules)
                && let Some(since) = since
            {
                let secs = since.elapsed().as_secs();
                upstream.counters.state_changes.inc();
                tracing::info!(upstream = %upstream.label, after_secs = secs, "upstream answers again");
            }
        }
        for zone in zones.iter().filter(|zone| !self.zones.contains(zone)) {
            tracing::warn!(
                %zone,
                "no upstream answers: what is not in the cache gets SERVFAIL, or an expired answer"
            );
        }
        for zone in self.zones.iter().filter(|zone| !zones.contains(zone)) {
            tracing::info!(%zone, "upstreams answer again");
        }
        self.zones = zones;
    }

    /// Looks at one upstream, silent `since` then. Returns whether it is silent now.
    fn look_at(&mut self, upstream: &Arc<Upstream>, since: Option<Instant>, rules: &JudgeRules) -> bool {
        let (silent, probe) = {
            let mut health = upstream.health.lock();
            (health.is_silent(), health.probe_again(rules.clock.nanos()))
        };
        if probe {
            probe::begin(upstream, rules);
        }
        if silent {
            let since = since.unwrap_or_else(|| {
                upstream.counters.state_changes.inc();
                tracing::warn!(upstream = %upstream.label, "upstream does not answer: it is in back-off");
                Instant::now()
            });
            self.upstreams.insert(upstream.label.clone(), since);
        }
        silent
    }
}
