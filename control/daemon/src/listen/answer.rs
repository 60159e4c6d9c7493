//! Answer to a message over TCP: at once if it is known, else when it is resolved.

use super::{Ends, Listener, MESSAGE_MAX, framing::append};
use ringdns_dataplane::{
    clock::{self, Nanos},
    dns::{
        header,
        option::{OPT_MAX, Options},
        query::{Query, Reject},
        reply::{self, ReplyLimits},
    },
    log::{AnswerSource, Logged, Outcome, Protocol},
    packet::mapped,
    policy::{Asker, QueryPolicy},
};
use ringdns_dnstap::Kind;
use ringdns_resolver::{Asked, AwaitedAnswer, Client, Resolved};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Time at which messages are received, and the policy for them.
#[derive(Clone)]
pub(super) struct Moment {
    /// Time by the clock of the control plane.
    at: Nanos,
    /// Unix time, wrapping.
    unix: u32,
    policy: Arc<QueryPolicy>,
}

/// Answer that follows later.
pub(super) enum Later {
    /// Answer to a query in flight.
    Answer(Box<LaterAnswer>),
    /// Reply to a NOTIFY.
    Notify(Vec<u8>, IpAddr),
}

/// Query in flight.
pub(super) struct LaterAnswer {
    /// Header and question.
    head: Vec<u8>,
    query: Query,
    ends: Ends,
    moment: Moment,
    is_tapped: bool,
    answer: AwaitedAnswer,
}

/// Query that is being answered.
struct Question<'a> {
    /// Header and question.
    head: &'a [u8],
    query: &'a Query,
    ends: Ends,
    moment: &'a Moment,
    /// Whether dnstap output has the query.
    is_tapped: bool,
    options: Options<'a>,
}

impl Listener {
    /// Returns the current time and policy.
    pub(super) fn moment(&self) -> Moment {
        let clock = self.resolver.clock();
        Moment { at: clock.nanos(), unix: clock.unix() as u32, policy: self.policy.load_full() }
    }

    /// Answers a message: appends the reply to `out`, if there is one. Returns a task if the answer
    /// is not known yet.
    pub(super) fn answer(
        &self,
        message: &[u8],
        ends: Ends,
        moment: &Moment,
        out: &mut Vec<u8>,
    ) -> Option<Later> {
        let tap = self.tap.get().filter(|tap| tap.picks_tcp());
        if let Some(tap) = tap {
            tap.note_tcp(Kind::ClientQuery, (ends.client, ends.server), moment.at, message);
        }
        let is_tapped = tap.is_some();
        let (client, policy) = (ends.client.ip(), &moment.policy);
        let mut query = Query::default();
        let (verdict, options) = policy.read(message, &mut query, &moment.asker(client));
        // Only what a reply needs: padding must not take memory until the answer is there.
        let head = message.get(..header::LEN + query.question_len()).unwrap_or(message);
        let resolved = match verdict {
            Ok(()) => {
                let asking = Client { address: client, group: policy.groups.of(client) };
                match self.resolver.ask_for(Some(asking), &query.key) {
                    Asked::Known(resolved) => Ok(resolved),
                    Asked::Awaited(answer) => {
                        let (head, moment) = (head.to_vec(), moment.clone());
                        let later = LaterAnswer { head, query, ends, moment, is_tapped, answer };
                        return Some(Later::Answer(Box::new(later)));
                    }
                }
            }
            Err(Reject::Notify) => return Some(Later::Notify(message.to_vec(), client)),
            Err(reject) => Err(reject),
        };
        let options = self.with_keepalive(options, &query);
        let question = Question { head, query: &query, ends, moment, is_tapped, options };
        self.reply(&question, resolved, moment.at, out);
        None
    }

    /// Waits for an answer, and puts the reply into `replies`, or nothing if there is none.
    pub(super) async fn answer_later(&self, later: Later, replies: mpsc::Sender<Vec<u8>>) {
        let mut out = Vec::new();
        match later {
            Later::Notify(message, client) => {
                match self.notified(&message, client).await {
                    Some(reply) => append(&mut out, &reply, reply.len(), |_| reply.len()),
                    None => self.counters.dropped.inc(),
                }
                if replies.send(out).await.is_err() {
                    self.counters.abandoned.inc();
                }
            }
            Later::Answer(later) => {
                let LaterAnswer { head, query, ends, moment, is_tapped, answer } = *later;
                let resolved = answer.wait().await;
                // Wait for room before building the reply: the answer that waits is shared with the
                // host tier.
                let Ok(room) = replies.reserve().await else { return self.counters.abandoned.inc() };
                let options = moment.policy.options(&query, &moment.asker(ends.client.ip()));
                let options = self.with_keepalive(options, &query);
                let question =
                    Question { head: &head, query: &query, ends, moment: &moment, is_tapped, options };
                self.reply(&question, Ok(resolved), self.resolver.clock().nanos(), &mut out);
                room.send(out);
            }
        }
    }

    /// Returns the options of a reply, with the idle time for a client that asks for it.
    fn with_keepalive<'a>(&self, options: Options<'a>, query: &Query) -> Options<'a> {
        let is_asked = query.edns.is_some_and(|edns| edns.keepalive);
        Options { keepalive: is_asked.then(|| in_tenths(self.bounds.idle)), ..options }
    }

    /// Appends the reply at the time `now` to `out`, unless there is none, and tells those who count.
    fn reply(
        &self,
        question: &Question<'_>,
        resolved: Result<Resolved, Reject<'_>>,
        now: Nanos,
        out: &mut Vec<u8>,
    ) {
        let Question { head, query, moment, options, .. } = *question;
        let limits = ReplyLimits { reply: MESSAGE_MAX, advertise: self.rules.udp_limit, options };
        let start = out.len();
        let counter = match &resolved {
            Ok(Resolved { is_withheld: true, .. }) => &self.counters.withheld,
            Ok(resolved) => {
                let list = resolved.source.list.and_then(|list| moment.policy.name_of_list(list));
                let view = resolved.answer.view().by(list);
                let room = (head.len() + view.wire.len() + OPT_MAX).min(MESSAGE_MAX);
                let age = resolved.age(clock::secs(now), self.rules.stale_ttl);
                append(out, head, room, |buffer| {
                    reply::answer(buffer, head.len(), query, view, age, &limits).len
                });
                &self.counters.answered
            }
            Err(reject) => {
                append(out, head, head.len() + OPT_MAX, |buffer| {
                    reply::reject(buffer, query, *reject, &limits)
                });
                if out.len() > start { &self.counters.rejected } else { &self.counters.dropped }
            }
        };
        counter.inc();
        if let Some(reply) = out.get(start + 2..) {
            self.tell(question, resolved, now, reply);
        }
    }

    /// Tells those who count and log of a reply.
    fn tell(
        &self,
        question: &Question<'_>,
        resolved: Result<Resolved, Reject<'_>>,
        now: Nanos,
        reply: &[u8],
    ) {
        let Question { query, ends, moment, is_tapped, .. } = *question;
        let client = ends.client.ip();
        if let Some(tap) = self.tap.get().filter(|_| is_tapped) {
            tap.note_tcp(Kind::ClientResponse, (ends.client, ends.server), moment.at, reply);
        }
        let (rcode, outcome, source) = match &resolved {
            Ok(resolved) => self.outcome(resolved, now),
            Err(reject) => (reject.rcode(), Outcome::Rejected, AnswerSource::default()),
        };
        // Without a question, the key is an empty one, and its type 0.
        self.census.share(client.is_ipv6(), query.key.asked().qtype(), rcode);
        if let Some(busiest) = self.busiest.get() {
            busiest.tell_tcp(mapped(client), &query.key, query.question_len(), rcode);
        }
        let Some(log) = &self.log else { return };
        let end = self.resolver.clock().nanos();
        log.note_tcp(
            query,
            Logged {
                at: moment.at,
                client: mapped(client),
                question: &[],
                protocol: Protocol::Tcp,
                outcome,
                rcode,
                answer_bytes: reply.len() as u16,
                service_ns: u32::try_from(end.saturating_sub(moment.at)).unwrap_or(u32::MAX),
                source,
            },
        );
    }

    /// Returns response code, outcome and source of an answer for the query log.
    fn outcome(&self, resolved: &Resolved, now: Nanos) -> (u16, Outcome, AnswerSource) {
        let rcode = resolved.answer.status.rcode();
        let age = resolved.age(clock::secs(now), self.rules.stale_ttl);
        (rcode.into(), resolved.source.outcome(rcode, age), resolved.source)
    }
}

impl Moment {
    fn asker(&self, client: IpAddr) -> Asker {
        Asker { client, connected: true, now: self.unix }
    }
}

/// Returns a time in units of 100 ms, as in the edns-tcp-keepalive option (RFC 7828 section 3.1).
fn in_tenths(time: Duration) -> u16 {
    u16::try_from(time.as_millis() / 100).unwrap_or(u16::MAX)
}
