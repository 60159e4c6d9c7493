//! One attempt of an inquiry: a question on its way to one upstream.

use super::{
    Landing,
    inquiry::{AfterFailure, CourseView, Inquiry},
};
use crate::upstream::{
    AskError, Upstream,
    alias::Alias,
    attempt::{Attempt, Hedge, HintStep},
    exchange::{self, Hint, Ignored, Judged, Manner},
    probe, stream,
    turn::{Departure, Turn},
};
use ringdns_common::counters::Counter;
use ringdns_config::Transport;
use ringdns_dataplane::{
    clock::Nanos,
    dns::answer::Answer,
    log::{AnswerSource, Tier},
};
use rustix::io::Errno;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Place of an attempt among those of its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptRole {
    /// The only one in progress.
    First,
    /// Made beside a slow one.
    Hedge,
    /// Made beside one that had a hint.
    Hurried,
}

/// Question on its way to one upstream.
pub struct UpstreamAttempt {
    inquiry: Arc<Inquiry>,
    pub upstream: Arc<Upstream>,
    pub number: usize,
    pub(super) began: Instant,
    until: Instant,
    /// Time at which another upstream is asked too; `None`: never, or it has been.
    hedge: Option<Instant>,
    /// Whether this is the one question that tries an upstream after its back-off.
    trial: bool,
    role: AttemptRole,
    pub(super) manner: Manner,
    /// Whether the query was sent again with the newest cookie.
    renewed: bool,
    /// First hint that came from the upstream, or from somebody who guessed port and ID.
    hint: Option<Hint>,
    /// First error that the kernel reported.
    unreachable: Option<Errno>,
    /// Whether it went over a connection because somebody guesses IDs at its port.
    exposed: bool,
}

impl UpstreamAttempt {
    /// Returns an attempt to ask an upstream, by its number.
    pub fn new(inquiry: Arc<Inquiry>, number: usize, role: AttemptRole, now: Instant) -> Box<Self> {
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
        if is_last_round && inquiry.respelled.load(Relaxed) {
            // Something on the way may change letters, and TCP did not help.
            manner = manner.in_plain_letters();
        }
        Box::new(UpstreamAttempt {
            began: now,
            until: deadline.min(now + upstream.timeout),
            hedge: if others { upstream.hedge_after().map(|after| now + after) } else { None },
            trial,
            role,
            inquiry,
            upstream,
            number,
            manner,
            renewed: false,
            hint: None,
            unreachable: None,
            exposed: false,
        })
    }

    /// Asks the upstream. Returns the attempt if that is not possible.
    pub fn send(self: Box<Self>) -> Result<(), (Box<dyn Attempt>, AskError)> {
        match self.upstream.transport {
            Transport::Udp => {
                let upstream = self.upstream.clone();
                upstream.sockets.ask(&upstream, self)
            }
            _ => {
                self.turn_to_stream();
                Ok(())
            }
        }
    }

    /// Asks the upstream, in the time that is left for it.
    fn send_again(self: Box<Self>, turn: &mut Turn) {
        if let Err((attempt, error)) = self.send() {
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
                    list: None,
                };
                if self.inquiry.arrive(answer, alias, source, turn) && self.role == AttemptRole::Hedge {
                    self.upstream.counters.hedges_won.inc();
                }
            }
            Err(error) => {
                tracing::debug!(
                    upstream = %self.upstream.label, question = %self.inquiry.landing.key, %error, "attempt failed"
                );
                // What does not fit in a datagram does not fit in the next one either.
                let truncated = matches!(self.hint, Some(Hint::Truncated | Hint::BareTruncated));
                let again = self.exposed || !truncated && self.inquiry.may_recover(self.number, &error);
                let then = AfterFailure { again, hurry: self.is_on_trust() };
                self.inquiry.give_up(self.number, &error, then, now, turn);
            }
        }
    }

    /// Returns the error of a query that had no answer in time.
    fn reason_of_silence(&self) -> AskError {
        match (self.hint, self.unreachable) {
            (Some(Hint::Malformed), _) => AskError::Malformed,
            (None, Some(errno)) => AskError::Unreachable(errno.into()),
            _ => AskError::Timeout,
        }
    }

    /// Whether this error was counted when it was a hint.
    fn was_counted(&self, heard: &Result<(), &AskError>) -> bool {
        match heard {
            Err(AskError::Malformed) => self.hint == Some(Hint::Malformed),
            Err(AskError::Unreachable(_)) => self.unreachable.is_some() && !self.manner.is_over_stream(),
            _ => false,
        }
    }

    /// Whether an upstream for UDP is asked over TCP because of a datagram that may be forged.
    fn is_on_trust(&self) -> bool {
        let hurried = self.exposed || self.role == AttemptRole::Hurried;
        hurried && self.manner.is_over_stream() && self.upstream.transport == Transport::Udp
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

impl Departure for UpstreamAttempt {
    fn depart(mut self: Box<Self>, turn: &mut Turn) {
        // It may have waited for the end of the turn.
        self.began = Instant::now();
        self.send_again(turn);
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

    fn hinted(&mut self, hint: Hint) -> Option<(Arc<dyn Hedge>, HintStep)> {
        let first = match hint {
            // An ICMP error can be forged without the ID, so it must not use up the other hint.
            Hint::Unreachable(errno) => self.unreachable.replace(errno).is_none(),
            _ => self.hint.is_none(),
        };
        if !first {
            return None;
        }
        hint.counter(&self.upstream.counters).inc();
        if !matches!(hint, Hint::Unreachable(_)) {
            self.hint = Some(hint);
        }
        if hint == Hint::Respelled {
            self.inquiry.respelled.store(true, Relaxed);
            self.upstream.respells(self.inquiry.landing.clock().nanos());
        }
        let hurried = self.role == AttemptRole::Hurried;
        let edns = self.manner.edns;
        let step = HintStep { hint, number: self.number, began: self.began, hurried, edns };
        Some((self.inquiry.clone() as Arc<dyn Hedge>, step))
    }

    fn expose(mut self: Box<Self>) {
        self.exposed = true;
        // It has begun anew. Its time was spent on a port that is known.
        self.until = self.inquiry.view().deadline.min(Instant::now() + self.upstream.timeout);
        self.turn_to_stream();
    }

    fn hear(mut self: Box<Self>, heard: Result<Judged, AskError>, now: Instant, turn: &mut Turn) {
        let counters = &self.upstream.counters;
        let said = match heard {
            Err(AskError::Timeout) => Err(self.reason_of_silence()),
            Err(error) => Err(error),
            Ok(Judged::Answer(answer, alias)) => {
                if self.manner.tests_letters() {
                    self.upstream.repeats_letters();
                }
                Ok((answer, alias))
            }
            Ok(Judged::Failure(rcode, ede)) => Err(AskError::Failure(rcode, ede)),
            // A connection brings no hints, and those of a datagram are followed beside it.
            Ok(Judged::Malformed | Judged::Hint(_)) => Err(AskError::Malformed),
            Ok(Judged::BadCookie) if self.renewed => return self.turn_to_stream(),
            Ok(Judged::BadCookie) => {
                counters.cookie_renewed.inc();
                self.renewed = true;
                return self.send_again(turn);
            }
            Ok(Judged::NoEdns) => {
                counters.without_edns.inc();
                self.manner = self.manner.without_edns();
                // What a connection brought is not asked for again where it can be forged.
                return if self.manner.is_over_stream() {
                    self.turn_to_stream()
                } else {
                    self.send_again(turn)
                };
            }
        };
        (*self).conclude(said, now, turn);
    }

    fn settle(&self, heard: &Result<(), &AskError>, now: Instant) {
        let clock = self.inquiry.landing.clock();
        let Upstream { counters, health, .. } = &*self.upstream;
        if self.hint.is_some() && matches!(heard, Err(AskError::Timeout)) {
            // The upstream has responded: with a hint.
            return;
        }
        let took = now - self.began;
        let had_time = took >= self.upstream.timeout || !self.inquiry.landing.is_hasty();
        let (counter, works) = match heard {
            Ok(()) => (&counters.answers, Some(true)),
            // The upstream is reachable and has trouble with this name.
            Err(AskError::Failure(..)) => (&counters.failures, Some(true)),
            Err(AskError::Timeout) => (&counters.timeouts, had_time.then_some(false)),
            Err(AskError::Unreachable(_)) => (&counters.unreachable, Some(false)),
            Err(AskError::Malformed) => (&counters.malformed, Some(false)),
            Err(AskError::Http(_)) => (&counters.http_failures, Some(false)),
            Err(AskError::NoSocket(_)) => (&counters.no_socket, None),
        };
        if !self.was_counted(heard) {
            counter.inc();
        }
        match works {
            Some(true) => {
                self.upstream.answered(took);
                if heard.is_ok() {
                    self.note_edns(clock.nanos());
                }
            }
            // A forger must not be able to put an upstream in back-off that is not asked over TCP.
            Some(false) if self.is_on_trust() => {}
            Some(false) => {
                let landing = &self.inquiry.landing;
                let name = landing.key.asked().name();
                let mut health = health.lock();
                if !health.failed(self.trial, clock.nanos(), took, name) {
                    return;
                }
                if landing.upstreams().iter().len() > 1 {
                    drop(health);
                    probe::begin(&self.upstream, landing.rules());
                } else {
                    // Nobody gains by the back-off of an only upstream.
                    health.probed(Some(false), clock.nanos());
                }
            }
            None => {}
        }
    }
}
