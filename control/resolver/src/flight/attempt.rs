//! One attempt of an inquiry: a question on its way to one upstream.

use super::{
    Landing,
    inquiry::{CourseView, Inquiry},
};
use crate::upstream::{
    AskError, Upstream,
    alias::Alias,
    attempt::{Attempt, Hedge},
    exchange::{self, Ignored, Judged, Manner},
    stream,
    turn::Turn,
};
use ringdns_common::counters::Counter;
use ringdns_config::Transport;
use ringdns_dataplane::{
    clock::Nanos,
    dns::answer::Answer,
    log::{AnswerSource, Tier},
};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Question on its way to one upstream.
pub struct UpstreamAttempt {
    inquiry: Arc<Inquiry>,
    pub upstream: Arc<Upstream>,
    pub number: usize,
    began: Instant,
    until: Instant,
    /// Time at which another upstream is asked too; `None`: never, or it has been.
    hedge: Option<Instant>,
    /// Whether this is the one question that tries an upstream after its back-off.
    trial: bool,
    /// Whether another attempt was in progress before this one.
    second: bool,
    manner: Manner,
    /// Whether the query was sent again with the newest cookie.
    renewed: bool,
    /// Whether a hint to the query was followed.
    hinted: bool,
}

impl UpstreamAttempt {
    /// Returns an attempt to ask an upstream, by its number. `second`: beside another attempt.
    pub fn new(inquiry: Arc<Inquiry>, number: usize, second: bool, now: Instant) -> Box<Self> {
        let upstream = inquiry.landing.upstreams().get(number).clone();
        let clock = inquiry.landing.clock();
        let CourseView { deadline, others, is_last_round } = inquiry.view();
        let trial = upstream.health.lock().asked(clock.nanos());
        let key = &inquiry.landing.key;
        let mut manner = match upstream.transport {
            Transport::Udp => Manner::over_udp(&upstream, key, clock),
            _ => Manner::over_stream(&upstream, key, clock),
        };
        if is_last_round && inquiry.wrong_cookie.load(Relaxed) {
            // RFC 7873 section 5.3: after responses with a wrong cookie, the query may go without.
            manner = manner.without_cookie();
        }
        Box::new(UpstreamAttempt {
            began: now,
            until: deadline.min(now + upstream.timeout),
            hedge: if others { upstream.hedge_after().map(|after| now + after) } else { None },
            trial,
            inquiry,
            upstream,
            number,
            second,
            manner,
            renewed: false,
            hinted: false,
        })
    }

    /// Asks the upstream. Returns the attempt if that is not possible.
    pub fn send(self: Box<Self>, turn: &mut Turn) -> Result<(), (Box<dyn Attempt>, AskError)> {
        match self.upstream.transport {
            Transport::Udp => {
                let upstream = self.upstream.clone();
                upstream.sockets.ask(&upstream, self, turn)
            }
            _ => {
                self.turn_to_stream();
                Ok(())
            }
        }
    }

    /// Asks the same upstream again, in the time that is left for it.
    fn send_again(self: Box<Self>, turn: &mut Turn) {
        if let Err((attempt, error)) = self.send(turn) {
            attempt.hear(Err(error), Instant::now(), turn);
        }
    }

    fn conclude(self, heard: Result<(Answer, Option<Box<Alias>>), AskError>, now: Instant, turn: &mut Turn) {
        self.settle(&heard.as_ref().map(drop), now);
        match heard {
            Ok((answer, alias)) => {
                let took = now.saturating_duration_since(self.began).as_micros();
                let source = AnswerSource {
                    tier: Tier::Upstream,
                    upstream: self.upstream.number,
                    upstream_us: u32::try_from(took).unwrap_or(u32::MAX),
                };
                if self.inquiry.arrive(answer, alias, source, turn) && self.second {
                    self.upstream.counters.hedges_won.inc();
                }
            }
            Err(error) => {
                tracing::debug!(
                    upstream = %self.upstream.label, question = %self.inquiry.landing.key, %error, "attempt failed"
                );
                self.inquiry.give_up(self.number, &error, now, turn);
            }
        }
    }

    /// Notes whether an answer came to a query with EDNS, or only to one without.
    fn note_edns(&self, now: Nanos) {
        let Upstream { edns, label, .. } = &*self.upstream;
        let name = self.inquiry.landing.key.asked().name();
        if self.manner.edns {
            edns.works();
        } else if edns.allows(name, now) && edns.chokes(name, now) {
            tracing::warn!(
                upstream = %label,
                "answers nothing with EDNS; it is asked without EDNS, and so without DNSSEC, for a minute"
            );
        }
    }

    /// Asks the same upstream over its stream transport, in the time that is left for it.
    pub fn turn_to_stream(mut self: Box<Self>) {
        let Landing { key, .. } = &self.inquiry.landing;
        let manner = Manner::over_stream(&self.upstream, key, self.inquiry.landing.clock());
        self.manner = if self.manner.edns { manner } else { manner.without_edns() };
        tokio::spawn(async move {
            let heard =
                timeout_at(self.until, self.heard_over_stream()).await.unwrap_or(Err(AskError::Timeout));
            self.hear(heard, Instant::now(), &mut Turn::default());
        });
    }

    async fn heard_over_stream(&mut self) -> Result<Judged, AskError> {
        let UpstreamAttempt { inquiry, upstream, hedge, .. } = self;
        let Inquiry { landing, .. } = &**inquiry;
        let mut asking = std::pin::pin!(stream::ask(upstream, &landing.key, landing.rules(), self.manner));
        if let Some(at) = hedge.take() {
            tokio::select! {
                biased;
                heard = &mut asking => return heard,
                () = sleep_until(at) => inquiry.clone().hedge(Instant::now(), &mut Turn::default()),
            }
        }
        asking.await
    }
}

impl Attempt for UpstreamAttempt {
    fn began(&self) -> Instant {
        self.began
    }

    fn until(&self) -> Instant {
        self.until
    }

    fn due(&self) -> Instant {
        self.hedge.map_or(self.until, |hedge| hedge.min(self.until))
    }

    fn overdue(&mut self, now: Instant) -> Option<Arc<dyn Hedge>> {
        self.hedge.take_if(|hedge| *hedge <= now).map(|_| self.inquiry.clone() as Arc<dyn Hedge>)
    }

    fn write_query(&self, id: u16, to: &mut Vec<u8>) {
        exchange::write_query(&self.upstream, &self.inquiry.landing.key, self.manner, id, to);
    }

    fn judge(&self, response: &[u8]) -> Result<Judged, &Counter> {
        let Inquiry { landing, .. } = &*self.inquiry;
        let counters = &self.upstream.counters;
        exchange::judge(&self.upstream, &landing.key, landing.rules(), self.manner, response).map_err(
            |ignored| match ignored {
                Ignored::NotResponse => &counters.ignored_not_response,
                Ignored::WrongQuestion => &counters.ignored_wrong_question,
                Ignored::WrongCookie => {
                    self.inquiry.wrong_cookie.store(true, Relaxed);
                    &counters.ignored_wrong_cookie
                }
            },
        )
    }

    fn hinted(&mut self) -> Option<(Arc<dyn Hedge>, usize)> {
        let first = !std::mem::replace(&mut self.hinted, true);
        first.then(|| (self.inquiry.clone() as Arc<dyn Hedge>, self.number))
    }

    fn hear(mut self: Box<Self>, heard: Result<Judged, AskError>, now: Instant, turn: &mut Turn) {
        let counters = &self.upstream.counters;
        let said = match heard {
            Err(error) => Err(error),
            Ok(Judged::Answer(answer, alias)) => Ok((answer, alias)),
            Ok(Judged::Failure(rcode, ede)) => Err(AskError::Failure(rcode, ede)),
            // A connection brings no hints.
            Ok(Judged::Malformed | Judged::Hint(_)) => Err(AskError::Malformed),
            Ok(Judged::Truncated) => {
                counters.truncated.inc();
                return self.turn_to_stream();
            }
            Ok(Judged::Respelled) => {
                self.upstream.respells();
                return self.turn_to_stream();
            }
            Ok(Judged::CookieMissing) => {
                counters.cookie_missing.inc();
                return self.turn_to_stream();
            }
            Ok(Judged::BadCookie) if self.renewed => return self.turn_to_stream(),
            Ok(Judged::BadCookie) => {
                counters.cookie_renewed.inc();
                self.renewed = true;
                return self.send_again(turn);
            }
            Ok(Judged::NoEdns) => {
                counters.without_edns.inc();
                self.manner = self.manner.without_edns();
                return self.send_again(turn);
            }
        };
        (*self).conclude(said, now, turn);
    }

    fn settle(&self, heard: &Result<(), &AskError>, now: Instant) {
        let clock = self.inquiry.landing.clock();
        let Upstream { counters, health, .. } = &*self.upstream;
        if self.hinted && matches!(heard, Err(AskError::Timeout)) {
            // The upstream has responded: with a hint.
            return;
        }
        let (counter, works) = match heard {
            Ok(()) => (&counters.answers, Some(true)),
            // The upstream is reachable and has trouble with this name.
            Err(AskError::Failure(..)) => (&counters.failures, Some(true)),
            Err(AskError::Timeout) => (&counters.timeouts, Some(false)),
            Err(AskError::Unreachable(_)) => (&counters.unreachable, Some(false)),
            Err(AskError::Malformed) => (&counters.malformed, Some(false)),
            Err(AskError::Http(_)) => (&counters.http_failures, Some(false)),
            Err(AskError::NoSocket(_)) => (&counters.no_socket, None),
        };
        counter.inc();
        let took = now - self.began;
        match works {
            Some(true) => {
                self.upstream.answered(took);
                if heard.is_ok() {
                    self.note_edns(clock.nanos());
                }
            }
            Some(false) => health.lock().failed(self.trial, clock.nanos(), took),
            None => {}
        }
    }
}
