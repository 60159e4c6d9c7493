//! Probe of an upstream that did not answer several questions about one domain: is it down, or only
//! that domain's servers?
//!
//! Whoever has a domain can let its servers be silent, and must not be able to put a working
//! upstream in back-off by that.

use crate::upstream::{
    AskError, Upstream,
    attempt::{Attempt, Hedge, HintStep},
    exchange::{self, Hint, Ignored, JudgeRules, Judged, Manner},
    stream,
    turn::Turn,
};
use ringdns_common::{counters::Counter, names};
use ringdns_config::Transport;
use ringdns_dataplane::dns::{key::Key, rtype};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Question about the name servers of the root. A resolver knows them, and another server refuses
/// to tell: both answer at once.
struct Probe {
    upstream: Arc<Upstream>,
    key: Key,
    rules: JudgeRules,
    manner: Manner,
    began: Instant,
    until: Instant,
    /// Whether the upstream has responded in a way that proves nothing of the question.
    heard: bool,
}

/// Sends a probe. Its result decides whether the upstream is put in back-off.
pub fn begin(upstream: &Arc<Upstream>, rules: &JudgeRules) {
    let Some(key) = names::key(&[0], rtype::NS, false, false) else { return };
    let over_udp = upstream.transport == Transport::Udp;
    let manner = if over_udp {
        Manner::over_udp(upstream, &key, rules.clock)
    } else {
        Manner::over_stream(upstream, &key, rules.clock)
    };
    let began = Instant::now();
    let until = began + upstream.timeout;
    upstream.counters.probes.inc();
    let probe = Box::new(Probe {
        upstream: upstream.clone(),
        key,
        rules: *rules,
        manner,
        began,
        until,
        heard: false,
    });
    if over_udp {
        if let Err((probe, error)) = upstream.sockets.ask(upstream, probe) {
            probe.hear(Err(error), began, &mut Turn::default());
        }
        return;
    }
    tokio::spawn(async move {
        let asking = stream::ask(&probe.upstream, &probe.key, &probe.rules, probe.manner);
        let heard = timeout_at(until, asking).await.unwrap_or(Err(AskError::Timeout));
        probe.hear(heard, Instant::now(), &mut Turn::default());
    });
}

impl Attempt for Probe {
    fn began(&self) -> Instant {
        self.began
    }

    fn until(&self) -> Instant {
        self.until
    }

    fn due(&self) -> Instant {
        self.until
    }

    fn overdue(&mut self, _: Instant) -> Option<Arc<dyn Hedge>> {
        None
    }

    fn write_query(&self, id: u16, to: &mut Vec<u8>) {
        exchange::write_query(&self.upstream, &self.key, self.manner, id, to);
    }

    fn judge(&self, response: &[u8]) -> Result<Judged, &Counter> {
        let counters = &self.upstream.counters;
        exchange::judge(&self.upstream, &self.key, &self.rules, self.manner, response).map_err(|ignored| {
            match ignored {
                Ignored::NotResponse => &counters.ignored_not_response,
                Ignored::WrongQuestion => &counters.ignored_wrong_question,
                Ignored::WrongCookie => &counters.ignored_wrong_cookie,
            }
        })
    }

    fn hinted(&mut self, hint: Hint) -> Option<(Arc<dyn Hedge>, HintStep)> {
        self.heard |= !matches!(hint, Hint::Unreachable(_));
        None
    }

    fn expose(self: Box<Self>) {
        // Somebody guesses at its port: it tells nothing any more.
        self.upstream.health.lock().probed(None, self.rules.clock.nanos());
    }

    fn settle(&self, _: &Result<(), &AskError>, _: Instant) {}

    fn hear(self: Box<Self>, heard: Result<Judged, AskError>, _: Instant, _: &mut Turn) {
        let works = match heard {
            Ok(_) | Err(AskError::Failure(..)) => Some(true),
            Err(AskError::NoSocket(_)) => None,
            Err(_) => Some(self.heard),
        };
        self.upstream.health.lock().probed(works, self.rules.clock.nanos());
    }
}
