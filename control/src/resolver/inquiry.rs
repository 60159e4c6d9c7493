//! A flight's way through the upstreams: whom it asks, how often, and what it makes of what they say.
//!
//! It has no task of its own. It lies with the socket that its query went out over, and goes on when something is heard
//! there; only what is asked over a stream waits in a task.

use super::{
    Landing, Turn,
    exchange::{self, Judged},
    stream,
    upstream::{AskError, Failed, Upstream},
};
use crate::{config::Transport, counters::Counter};
use ringdns_dataplane::dns::{
    answer::{Answer, ResponseError},
    rcode,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a question may take in all. Clients give up after some five seconds.
const TOTAL: Duration = Duration::from_secs(3);
/// How often one upstream is asked the same question: RFC 9520 section 3.1 allows three times.
const ROUNDS: usize = 3;

/// A question on its way.
pub struct Inquiry {
    landing: Landing,
    deadline: Instant,
    /// The upstreams that this round has left, the next one last.
    order: Vec<usize>,
    /// Those that said nothing in this round: a packet may have been lost. Other errors would only come again.
    again: Vec<usize>,
    rounds: usize,
    verdict: Failed,
    /// Which upstream is asked, since when, and until when.
    asked: usize,
    began: Instant,
    until: Instant,
    /// Whether it is the one question that tries an upstream that had been put back.
    trial: bool,
}

impl Inquiry {
    /// Asks the first upstream.
    pub fn begin(landing: Landing, turn: &mut Turn) {
        let now = Instant::now();
        let inquiry = Inquiry {
            deadline: now + TOTAL,
            order: landing.upstreams().order(landing.clock().nanos()),
            again: Vec::new(),
            rounds: ROUNDS,
            verdict: Failed::Ourselves,
            asked: 0,
            began: now,
            until: now,
            trial: false,
            landing,
        };
        Box::new(inquiry).proceed(now, turn);
    }

    /// Asks the next upstream, or ends without an answer.
    fn proceed(mut self: Box<Self>, mut now: Instant, turn: &mut Turn) {
        while let Some(upstream) = self.next(now) {
            if upstream.transport != Transport::Udp {
                return self.turn_to_stream();
            }
            let error = match upstream.sockets.ask(&upstream, self, turn) {
                Ok(()) => return,
                Err((back, error)) => {
                    self = back;
                    error
                }
            };
            now = Instant::now();
            self.settle(&Err(&error), now);
            self.weigh(&error);
        }
        let verdict = self.verdict;
        self.landing.land(Err(verdict), turn);
    }

    /// Whom to ask next; `None` if there is nobody or no time left.
    fn next(&mut self, now: Instant) -> Option<Arc<Upstream>> {
        while self.order.is_empty() {
            self.rounds -= 1;
            if self.rounds == 0 || self.again.is_empty() {
                return None;
            }
            std::mem::swap(&mut self.order, &mut self.again);
            self.order.reverse();
        }
        if now >= self.deadline {
            return None;
        }
        self.asked = self.order.pop()?;
        let upstream = self.upstream().clone();
        self.began = now;
        self.until = self.deadline.min(now + upstream.timeout);
        self.trial = upstream.health.lock().asked(self.landing.clock().nanos());
        Some(upstream)
    }

    /// The upstream that is asked.
    fn upstream(&self) -> &Arc<Upstream> {
        self.landing.upstreams().get(self.asked)
    }

    /// Since when.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// And until when.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Appends the query, with this ID.
    pub fn write_query(&self, id: u16, to: &mut Vec<u8>) {
        exchange::write_query(self.upstream(), &self.landing.key, id, to);
    }

    /// What a response says whose ID is the query's: `None`, that it does not fit and TCP must be used; or under which
    /// counter it is to be ignored.
    pub fn judge(&self, response: &[u8]) -> Result<Result<Option<Answer>, AskError>, &Counter> {
        let counters = &self.upstream().counters;
        match exchange::judge(self.upstream(), &self.landing.key, self.landing.rules(), response) {
            Ok(Judged::Answer(answer)) => Ok(Ok(Some(answer))),
            Ok(Judged::Truncated) => Ok(Ok(None)),
            Ok(Judged::Failure(rcode)) => Ok(Err(AskError::Failure(rcode))),
            Err(ResponseError::Malformed) => Ok(Err(AskError::Malformed)),
            Err(ResponseError::Short | ResponseError::NotResponse) => Err(&counters.ignored_not_response),
            Err(ResponseError::OtherQuestion) => Err(&counters.ignored_wrong_question),
        }
    }

    /// The upstream has said this, or nothing in time.
    pub fn hear(self: Box<Self>, heard: Result<Option<Answer>, AskError>, now: Instant, turn: &mut Turn) {
        match heard {
            Ok(Some(answer)) => self.conclude(Ok(answer), now, turn),
            Ok(None) => {
                self.upstream().counters.truncated.inc();
                self.turn_to_stream();
            }
            Err(error) => self.conclude(Err(error), now, turn),
        }
    }

    fn conclude(mut self: Box<Self>, heard: Result<Answer, AskError>, now: Instant, turn: &mut Turn) {
        self.settle(&heard.as_ref().map(drop), now);
        match heard {
            Ok(answer) => self.landing.land(Ok(answer), turn),
            Err(error) => {
                self.weigh(&error);
                self.proceed(now, turn);
            }
        }
    }

    /// Counts what the upstream did, and how it does.
    fn settle(&self, heard: &Result<(), &AskError>, now: Instant) {
        let Upstream { counters, health, .. } = &**self.upstream();
        let (counter, works) = match heard {
            Ok(()) => (&counters.answers, Some(true)),
            // It is there, and has trouble with this name.
            Err(AskError::Failure(_)) => (&counters.failures, Some(true)),
            Err(AskError::Timeout) => (&counters.timeouts, Some(false)),
            Err(AskError::Unreachable(_)) => (&counters.unreachable, Some(false)),
            Err(AskError::Malformed) => (&counters.malformed, Some(false)),
            Err(AskError::Http(_)) => (&counters.http_failures, Some(false)),
            Err(AskError::NoSocket(_)) => (&counters.no_socket, None),
        };
        counter.inc();
        match works {
            Some(true) => health.lock().answered(now - self.began),
            Some(false) => health.lock().failed(self.trial, self.landing.clock().nanos()),
            None => {}
        }
    }

    /// What it means for the question that its upstream did not answer it.
    fn weigh(&mut self, error: &AskError) {
        if let AskError::Failure(rcode) = error {
            self.verdict = Failed::Upstreams(*rcode);
            return;
        }
        tracing::debug!(upstream = %self.upstream().label, question = %self.landing.key, %error, "asking the next");
        if matches!(error, AskError::NoSocket(_)) {
            return;
        }
        if self.verdict == Failed::Ourselves {
            self.verdict = Failed::Upstreams(rcode::SERVFAIL);
        }
        if matches!(error, AskError::Timeout) {
            self.again.push(self.asked);
        }
    }

    /// Asks the same upstream over its stream, in what time is left of it.
    fn turn_to_stream(self: Box<Self>) {
        tokio::spawn(async move {
            let asking = stream::ask(self.upstream(), &self.landing.key, self.landing.rules());
            let heard = timeout_at(self.until, asking).await.unwrap_or(Err(AskError::Timeout));
            self.conclude(heard, Instant::now(), &mut Turn::default());
        });
    }
}
