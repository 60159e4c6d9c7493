//! Aliases that lead out of what an upstream answers for.
//!
//! An upstream for a zone is often an authoritative server: of `www.corp.example CNAME www.public.example` it says the alias and
//! nothing of its target. That is asked for as any question is, of whom is asked for such names, and the answers are made one.
//!
//! The flights of these *hops* are kept apart from others, since one of those may wait for them: a hop waits for nobody. So two
//! names that are aliases of each other cannot wait for each other; it is seen here that they go round in a circle.

use super::{Asker, Landing, Resolver, Waiter};
use crate::{
    resolved::Resolved,
    upstream::{Failed, alias::Alias, is_answer, scrub, turn::Turn},
};
use hickory_proto::op::Message;
use ringdns_common::message;
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, header, key::Key, reply::Age},
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Upstreams that are asked in turn along the aliases of one name.
const HOPS_MAX: usize = 8;
/// What is left to an expired answer that had to do (RFC 8767 section 4).
const STALE_TTL: Secs = 30;
/// Extended errors (RFC 8914): what came is of no use; nobody answered.
const NETWORK_ERROR: u16 = 23;
const NO_REACHABLE_AUTHORITY: u16 = 22;

/// The whole answer that begins with `first` and goes on at `target`.
pub async fn follow(landing: &Landing, first: &Answer, mut target: Key) -> Result<Answer, Failed> {
    const JUNK: Failed = Failed::Upstreams(NETWORK_ERROR);
    let Landing { resolver, key, .. } = landing;
    resolver.counters.followed.inc();
    let age = first.age(false, resolver.clock().secs(), STALE_TTL);
    let mut whole = message(key, first, age).ok_or(JUNK)?;
    let mut ede = first.ede;
    for _ in 0..HOPS_MAX {
        let hop = resolver.hop(&target).await;
        let Resolved { answer, .. } = &hop;
        if !is_answer(answer.status.rcode()) {
            // What must not be remembered says something about us.
            let remembered = answer.ttl > 0;
            let said = Failed::Upstreams(answer.ede.unwrap_or(NO_REACHABLE_AUTHORITY));
            return Err(if remembered { said } else { Failed::Ourselves });
        }
        ede = ede.or(answer.ede);
        let now = resolver.clock().secs();
        let part = message(&target, answer, hop.age(now, STALE_TTL)).ok_or(JUNK)?;
        join(&mut whole, part);
        // Names that come again, or other names.
        let end = scrub::scrub(&mut whole, key.asked().dnssec_ok()).map_err(|scrub::Endless| JUNK)?.leads_to;
        // One that may be kept is whole.
        match end.filter(|_| answer.ttl == 0).and_then(|to| Alias::new(key, &to, false)) {
            Some(next) if next.target != target => target = next.target,
            _ => {
                let bytes = whole.to_vec().map_err(|_| JUNK)?;
                let answer = Answer::from_response(&bytes, key, &landing.rules().ttl, now, true);
                return answer.map(|answer| Answer { ede, ..answer }).map_err(|_| JUNK);
            }
        }
    }
    Err(JUNK)
}

/// Appends an answer about where the aliases of another lead. It says what there is and what is proven at the end.
fn join(whole: &mut Message, part: Message) {
    whole.answers.extend(part.answers);
    whole.authorities = part.authorities;
    whole.additionals = part.additionals;
    whole.metadata.response_code = part.metadata.response_code;
    whole.metadata.authentic_data &= part.metadata.authentic_data;
}

/// An answer as the message that it came in, but for TTLs that have passed since.
fn message(key: &Key, answer: &Answer, age: Age) -> Option<Message> {
    let mut bytes = Vec::with_capacity(header::LEN + key.question().len() + answer.wire.len());
    let flags = header::QR | header::RD | answer.status.flags();
    let [answers, authorities, additionals] = answer.counts;
    for word in [0, flags, 1, answers, authorities, additionals] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(key.question());
    bytes.extend_from_slice(&answer.wire);
    for at in &answer.ttls {
        let at = usize::from(u16::from_le_bytes(*at));
        let ttl = bytes.get_mut(at..)?.first_chunk_mut::<4>()?;
        *ttl = match age {
            Age::New(passed) | Age::Fresh(passed) => u32::from_be_bytes(*ttl).saturating_sub(passed),
            Age::Stale(left) => left,
        }
        .to_be_bytes();
    }
    message::decode(&bytes).ok()
}

impl Resolver {
    /// The answer to a question on the way along aliases. One that leads on itself comes with a TTL of 0.
    async fn hop(self: &Arc<Self>, key: &Key) -> Resolved {
        let (sender, receiver) = oneshot::channel();
        {
            let mut turn = Turn::default();
            if let Some(resolved) = self.lookup(key, &mut turn) {
                return resolved;
            }
            self.board_for(Asker::Hop, key, Some(Waiter::Client(sender)), &mut turn);
        }
        receiver.await.unwrap_or_else(|_| self.refusal())
    }
}
