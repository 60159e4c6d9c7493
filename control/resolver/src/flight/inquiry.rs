//! Inquiry: a question's way through the upstreams: which are asked, how often, and the use of
//! their responses.
//!
//! An inquiry has no task of its own. Its attempts are held by the sockets that their queries were
//! sent over, and continue when a response arrives there; only questions over streams wait in a
//! task. There is one attempt at a time, or two when the first takes longer than its upstream
//! usually does (hedging).

use super::{
    Landing, Lane,
    attempt::{AttemptRole, UpstreamAttempt},
    chase,
    flights::Flight,
};
use crate::upstream::{
    AskError, Failed,
    alias::Alias,
    attempt::{Hedge, HintStep},
    exchange::Hint,
    turn::Turn,
};
use parking_lot::Mutex;
use ringdns_dataplane::{
    dns::answer::Answer,
    log::{AnswerSource, Tier},
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
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
    /// Whether a response had another client's cookie. Something between here and the upstream may
    /// repeat old ones.
    pub(super) wrong_cookie: AtomicBool,
    /// Whether a response had other letters than the query.
    pub(super) respelled: AtomicBool,
}

/// Progress of an inquiry, as a new attempt needs to know it.
pub(super) struct CourseView {
    pub deadline: Instant,
    /// Whether other upstreams are left, and none has been asked for hedging.
    pub others: bool,
    /// Whether upstreams are asked for the last time.
    pub is_last_round: bool,
}

/// Consequences of a failed attempt.
pub(super) struct AfterFailure {
    /// Whether the upstream may be asked again.
    pub again: bool,
    /// Whether the next upstream is asked although another attempt is in progress.
    pub hurry: bool,
}

/// Progress of an inquiry.
struct Course {
    /// Question in flight; `None`: it has landed.
    flight: Option<Flight>,
    deadline: Instant,
    /// Upstreams left in this round, the next one last.
    order: Vec<usize>,
    /// Upstreams that did not respond in this round: a packet may have been lost, or another of
    /// their addresses may respond. Other errors would recur.
    again: Vec<usize>,
    rounds: usize,
    /// Number of attempts in progress.
    under_way: usize,
    hedged: bool,
    /// Whether an upstream was asked again at once because the kernel reported an error.
    repeated: bool,
    /// Whether an answer arrived whose alias is being followed.
    followed: bool,
    /// Whether the question has less than all the time.
    hasty: bool,
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

    /// Takes account of an upstream's error for the result of the question. `again`: the upstream
    /// may be asked again.
    fn weigh(&mut self, number: usize, error: &AskError, again: bool) {
        self.under_way -= 1;
        if again && !self.again.contains(&number) {
            self.again.push(number);
        }
        let ede = match error {
            // The upstream is reachable and has trouble with this name, so its error is worth most.
            // That it did not understand the query is our fault and not the client's; so is
            // REFUSED, which the client would take for its own (RFC 9520 section 2.2).
            AskError::Failure(_, ede) => {
                self.verdict = Failed::Upstreams(ede.unwrap_or(NETWORK_ERROR));
                return;
            }
            AskError::NoSocket(_) => return,
            AskError::Timeout if self.hasty => return,
            AskError::Timeout => NO_REACHABLE_AUTHORITY,
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
            deadline: Instant::now() + landing.time,
            order: landing.upstreams().order(landing.key.asked(), landing.clock().nanos()),
            again: Vec::new(),
            rounds: ROUNDS,
            under_way: 0,
            hedged: false,
            repeated: false,
            followed: false,
            hasty: landing.is_hasty(),
            verdict: Failed::Ourselves,
        };
        Arc::new(Inquiry {
            landing,
            course: Mutex::new(course),
            wrong_cookie: AtomicBool::new(false),
            respelled: AtomicBool::new(false),
        })
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
        self.course.lock().deadline = Instant::now() + self.landing.time;
    }

    /// Asks the first upstream.
    pub fn begin(self: Arc<Self>, turn: &mut Turn) {
        self.proceed(Instant::now(), turn);
    }

    /// Asks the next upstream at the end of the turn, or ends without an answer.
    fn proceed(self: Arc<Self>, now: Instant, turn: &mut Turn) {
        let next = self.course.lock().next(now);
        if let Some(number) = next {
            return turn.send(UpstreamAttempt::new(self, number, AttemptRole::First, now));
        }
        let (verdict, under_way) = {
            let course = self.course.lock();
            (course.verdict, course.under_way)
        };
        if under_way > 0 {
            return;
        }
        self.land(Err(verdict), AnswerSource::default(), false, turn);
    }

    /// Whether an upstream with this error may respond if it is asked again.
    pub(super) fn may_recover(&self, number: usize, error: &AskError) -> bool {
        match error {
            AskError::Timeout => true,
            AskError::Unreachable(_) => self.landing.upstreams().get(number).addresses.len() > 1,
            _ => false,
        }
    }

    pub(super) fn view(&self) -> CourseView {
        let course = self.course.lock();
        CourseView {
            deadline: course.deadline,
            others: !course.hedged && !course.order.is_empty(),
            is_last_round: course.rounds == 1,
        }
    }

    /// Sends a query beside that of another attempt.
    fn send_second(self: &Arc<Self>, attempt: Box<UpstreamAttempt>, now: Instant, turn: &mut Turn) {
        let number = attempt.number;
        if let Err((attempt, error)) = attempt.send() {
            attempt.settle(&Err(&error), now);
            let then = AfterFailure { again: self.may_recover(number, &error), hurry: false };
            self.give_up(number, &error, then, now, turn);
        }
    }

    /// Handles a failed attempt. Asks the next upstream, unless another attempt is in progress.
    pub(super) fn give_up(
        self: &Arc<Self>,
        number: usize,
        error: &AskError,
        then: AfterFailure,
        now: Instant,
        turn: &mut Turn,
    ) {
        let proceeds = {
            let mut course = self.course.lock();
            course.weigh(number, error, then.again);
            course.under_way == 0 || then.hurry && !course.order.is_empty()
        };
        if proceeds {
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
            self.landing.land(flight, fetched, source, share, turn);
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
        let attempt = UpstreamAttempt::new(self.clone(), number, AttemptRole::Hedge, now);
        attempt.upstream.counters.hedges.inc();
        self.send_second(attempt, now, turn);
    }

    fn follow(self: Arc<Self>, step: HintStep, now: Instant, turn: &mut Turn) {
        let HintStep { hint, number, began, hurried, edns } = step;
        let unreachable = matches!(hint, Hint::Unreachable(_));
        let next = {
            let mut course = self.course.lock();
            if now >= course.deadline || course.followed || course.flight.is_none() {
                return;
            }
            let others = hint.tells_of_failure() && !course.order.is_empty();
            let next = if others { course.next(now) } else { None };
            // A flood of ICMP errors must not become one of queries.
            if next.is_none() && unreachable && (hurried || std::mem::replace(&mut course.repeated, true)) {
                return;
            }
            course.under_way += usize::from(next.is_none());
            next
        };
        let number = next.unwrap_or(number);
        let mut attempt = UpstreamAttempt::new(self.clone(), number, AttemptRole::Hurried, now);
        if next.is_some() || unreachable {
            return self.send_second(attempt, now, turn);
        }
        attempt.began = began;
        if !edns || hint == Hint::NoEdns {
            attempt.manner = attempt.manner.without_edns();
        }
        if hint == Hint::NoEdns {
            self.send_second(attempt, now, turn);
        } else {
            attempt.turn_to_stream();
        }
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.land(Err(Failed::Ourselves), AnswerSource::default(), false, &mut Turn::default());
    }
}
