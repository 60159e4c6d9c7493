//! Inquiry: a question's way through the upstreams: which are asked, how often, and the use of
//! their responses.
//!
//! An inquiry has no task of its own. Its attempts are held by the sockets that their queries were
//! sent over, and continue when a response arrives there; only questions over streams wait in a
//! task. There is one attempt at a time, or two when the first takes longer than its upstream
//! usually does (hedging).

use super::flights::Flight;
use super::{Landing, Lane, chase};
use crate::upstream::{
    AskError, Failed, Upstream,
    alias::Alias,
    attempt::{Attempt, Hedge},
    exchange::{self, Ignored, Judged, Manner},
    stream,
    turn::Turn,
};
use parking_lot::Mutex;
use ringdns_common::counters::Counter;
use ringdns_config::Transport;
use ringdns_dataplane::{
    dns::answer::Answer,
    log::{AnswerSource, Tier},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

/// Most time for a question in all. Clients give up after some five seconds.
pub const TOTAL: Duration = Duration::from_secs(3);
/// Most times that one upstream is asked the same question (RFC 9520 section 3.1 allows three).
const ROUNDS: usize = 3;

/// Extended errors (RFC 8914 sections 4.23 and 4.24): no upstream answered; the response cannot be
/// used.
const NO_REACHABLE_AUTHORITY: u16 = 22;
const NETWORK_ERROR: u16 = 23;

/// Question on its way through the upstreams. However it ends, even before an upstream is asked, it
/// lands.
pub struct Inquiry {
    pub(super) landing: Landing,
    course: Mutex<Course>,
}

/// Progress of an inquiry.
struct Course {
    /// Question in flight; `None`: it has landed.
    flight: Option<Flight>,
    deadline: Instant,
    /// Upstreams left in this round, the next one last.
    order: Vec<usize>,
    /// Upstreams that did not respond in this round: a packet may have been lost. Other errors
    /// would recur.
    again: Vec<usize>,
    rounds: usize,
    /// Number of attempts in progress.
    under_way: usize,
    hedged: bool,
    /// Whether an answer arrived whose alias is being followed.
    followed: bool,
    verdict: Failed,
}

impl Course {
    /// Returns the next upstream to ask; `None`: no upstream or no time is left.
    fn next(&mut self, now: Instant) -> Option<usize> {
        while self.order.is_empty() {
            self.rounds -= 1;
            if self.rounds == 0 || self.again.is_empty() {
                self.rounds = 1;
                return None;
            }
            std::mem::swap(&mut self.order, &mut self.again);
            self.order.reverse();
        }
        if now >= self.deadline || self.followed || self.flight.is_none() {
            return None;
        }
        self.under_way += 1;
        self.order.pop()
    }

    /// Takes account of an upstream's error for the result of the question.
    fn weigh(&mut self, number: usize, error: &AskError) {
        self.under_way -= 1;
        let ede = match error {
            // The upstream is reachable and has trouble with this name, so its error is worth most.
            // That it did not understand the query is our fault and not the client's; so is
            // REFUSED, which the client would take for its own (RFC 9520 section 2.2).
            AskError::Failure(_, ede) => {
                self.verdict = Failed::Upstreams(ede.unwrap_or(NETWORK_ERROR));
                return;
            }
            AskError::NoSocket(_) => return,
            AskError::Timeout => {
                self.again.push(number);
                NO_REACHABLE_AUTHORITY
            }
            AskError::Unreachable(_) | AskError::Malformed | AskError::Http(_) => NETWORK_ERROR,
        };
        if self.verdict == Failed::Ourselves {
            self.verdict = Failed::Upstreams(ede);
        }
    }
}

impl Inquiry {
    /// Returns an inquiry for the question of `landing`.
    pub fn new(landing: Landing, flight: Flight) -> Arc<Self> {
        let course = Course {
            flight: Some(flight),
            deadline: Instant::now() + TOTAL,
            order: landing.upstreams().order(landing.key.asked(), landing.clock().nanos()),
            again: Vec::new(),
            rounds: ROUNDS,
            under_way: 0,
            hedged: false,
            followed: false,
            verdict: Failed::Ourselves,
        };
        Arc::new(Inquiry { landing, course: Mutex::new(course) })
    }

    /// Returns the notification that a waiter without an answer has joined; `None`: there is such a
    /// waiter already, or the question has landed.
    pub fn patience(&self) -> Option<Arc<Notify>> {
        let Landing { resolver, lane, .. } = &self.landing;
        let course = self.course.lock();
        resolver.lane(*lane).patient(course.flight.as_ref()?)
    }

    /// Restarts the time limit. Call this before the inquiry begins.
    pub fn put_off(&self) {
        self.course.lock().deadline = Instant::now() + TOTAL;
    }

    /// Asks the first upstream.
    pub fn begin(self: Arc<Self>, turn: &mut Turn) {
        self.proceed(Instant::now(), turn);
    }

    /// Asks the next upstream, or ends without an answer.
    fn proceed(self: Arc<Self>, mut now: Instant, turn: &mut Turn) {
        loop {
            let next = self.course.lock().next(now);
            let Some(number) = next else { break };
            let attempt = UpstreamAttempt::new(self.clone(), number, false, now);
            let Err((attempt, error)) = attempt.send(turn) else { return };
            now = Instant::now();
            attempt.settle(&Err(&error), now);
            self.course.lock().weigh(number, &error);
        }
        let verdict = self.course.lock().verdict;
        self.land(Err(verdict), AnswerSource::default(), false, turn);
    }

    /// Handles a failed attempt. Asks the next upstream, unless another attempt is in progress.
    fn give_up(self: &Arc<Self>, number: usize, error: &AskError, now: Instant, turn: &mut Turn) {
        let alone = {
            let mut course = self.course.lock();
            course.weigh(number, error);
            course.under_way == 0
        };
        if alone {
            self.clone().proceed(now, turn);
        }
    }

    /// Lands with an answer, or follows its alias first. Returns whether it is the first answer.
    pub(super) fn arrive(
        self: &Arc<Self>,
        answer: Answer,
        alias: Option<Box<Alias>>,
        source: AnswerSource,
        turn: &mut Turn,
    ) -> bool {
        let key = &self.landing.key;
        let Some(alias) = alias.filter(|alias| alias.leads_out(key, self.landing.upstreams())) else {
            // An answer from the fleet's tier need not be stored there again.
            let share = source.tier == Tier::Upstream;
            return self.land(Ok(answer), source, share, turn);
        };
        if self.landing.lane == Lane::Hops {
            // The question that follows the alias continues; half an answer is not kept.
            return self.land(Ok(Answer { ttl: 0, stale: 0, ahead: 0, ..answer }), source, false, turn);
        }
        let deadline = {
            let mut course = self.course.lock();
            if course.flight.is_none() || std::mem::replace(&mut course.followed, true) {
                return false;
            }
            course.deadline
        };
        let inquiry = self.clone();
        tokio::spawn(async move {
            let following = chase::follow(&inquiry.landing, &answer, alias.target);
            let late = Err(Failed::Upstreams(NO_REACHABLE_AUTHORITY));
            let whole = timeout_at(deadline, following).await.unwrap_or(late);
            // The target may be in a zone for which other appliances ask another upstream, so the
            // answer is not shared.
            inquiry.land(whole, source, false, &mut Turn::default());
        });
        true
    }

    /// Lands, unless the question has landed before. Returns whether it landed now.
    fn land(
        &self,
        fetched: Result<Answer, Failed>,
        source: AnswerSource,
        share: bool,
        turn: &mut Turn,
    ) -> bool {
        let flight = self.course.lock().flight.take();
        let landed = flight.is_some();
        if let Some(flight) = flight {
            self.landing.land(&flight, fetched, source, share, turn);
        }
        landed
    }
}

impl Hedge for Inquiry {
    fn hedge(self: Arc<Self>, now: Instant, turn: &mut Turn) {
        let next = {
            let mut course = self.course.lock();
            // Only upstreams left in this round: a second round is for those that did not respond
            // in the first.
            if course.hedged || course.order.is_empty() {
                return;
            }
            course.hedged = true;
            course.next(now)
        };
        let Some(number) = next else { return };
        let attempt = UpstreamAttempt::new(self.clone(), number, true, now);
        attempt.upstream.counters.hedges.inc();
        if let Err((attempt, error)) = attempt.send(turn) {
            attempt.settle(&Err(&error), now);
            self.give_up(number, &error, now, turn);
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.land(Err(Failed::Ourselves), AnswerSource::default(), false, &mut Turn::default());
    }
}

/// Question on its way to one upstream.
struct UpstreamAttempt {
    inquiry: Arc<Inquiry>,
    upstream: Arc<Upstream>,
    number: usize,
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
}

impl UpstreamAttempt {
    fn new(inquiry: Arc<Inquiry>, number: usize, second: bool, now: Instant) -> Box<Self> {
        let upstream = inquiry.landing.upstreams().get(number).clone();
        let clock = inquiry.landing.clock();
        let (deadline, others) = {
            let course = inquiry.course.lock();
            (course.deadline, !course.hedged && !course.order.is_empty())
        };
        let trial = upstream.health.lock().asked(clock.nanos());
        let manner = match upstream.transport {
            Transport::Udp => Manner::over_udp(&upstream, clock),
            _ => Manner::over_stream(&upstream, clock),
        };
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
        })
    }

    /// Asks the upstream. Returns the attempt if that is not possible.
    fn send(self: Box<Self>, turn: &mut Turn) -> Result<(), (Box<dyn Attempt>, AskError)> {
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

    /// Asks the same upstream over its stream transport, in the time that is left for it.
    fn turn_to_stream(mut self: Box<Self>) {
        let manner = Manner::over_stream(&self.upstream, self.inquiry.landing.clock());
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
                Ignored::WrongCookie => &counters.ignored_wrong_cookie,
            },
        )
    }

    fn hear(mut self: Box<Self>, heard: Result<Judged, AskError>, now: Instant, turn: &mut Turn) {
        let counters = &self.upstream.counters;
        let said = match heard {
            Err(error) => Err(error),
            Ok(Judged::Answer(answer, alias)) => Ok((answer, alias)),
            Ok(Judged::Failure(rcode, ede)) => Err(AskError::Failure(rcode, ede)),
            Ok(Judged::Malformed) => Err(AskError::Malformed),
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
                if !self.manner.edns && heard.is_ok() && self.upstream.takes_edns(clock.nanos()) {
                    self.upstream.chokes_on_edns(clock.nanos());
                }
            }
            Some(false) => health.lock().failed(self.trial, clock.nanos(), took),
            None => {}
        }
    }
}
