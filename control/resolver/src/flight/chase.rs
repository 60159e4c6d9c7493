//! Aliases that lead to names which the answering upstream does not serve.
//!
//! An upstream for a zone is often an authoritative server: for `www.corp.example CNAME
//! www.public.example` it gives the alias, and no records of the target. The target is resolved
//! like any other question, by the upstreams for such names, and the answers are joined.
//!
//! These *hops* have a lane of their own, since questions in the other lanes may wait for hops, and
//! a hop waits for none. So two names that are aliases of each other cannot wait for each other;
//! the loop is detected here.

use super::{Landing, Origin, Resolver, Waiter};
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

/// Most hops followed for one name.
const HOPS_MAX: usize = 8;
/// TTL of the records of an expired answer that had to be used, in seconds (RFC 8767 section 4).
const STALE_TTL: Secs = 30;
/// Extended errors (RFC 8914): the response cannot be used; no upstream answered.
const NETWORK_ERROR: u16 = 23;
const NO_REACHABLE_AUTHORITY: u16 = 22;

/// Returns the whole answer that begins with `first` and continues at `target`.
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
            // A failure that must not be remembered says nothing about the question.
            let remembered = answer.ttl > 0;
            let said = Failed::Upstreams(answer.ede.unwrap_or(NO_REACHABLE_AUTHORITY));
            return Err(if remembered { said } else { Failed::Ourselves });
        }
        ede = ede.or(answer.ede);
        let now = resolver.clock().secs();
        let part = message(&target, answer, hop.age(now, STALE_TTL)).ok_or(JUNK)?;
        join(&mut whole, part);
        // Catches loops, and names that do not belong to the answer.
        let end = scrub::scrub(&mut whole, key.asked().dnssec_ok()).map_err(|scrub::Endless| JUNK)?.leads_to;
        // An answer that may be kept is whole.
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

/// Appends the answer for the target of the aliases. The target's answer determines the response
/// code and the proofs.
fn join(whole: &mut Message, part: Message) {
    whole.answers.extend(part.answers);
    whole.authorities = part.authorities;
    whole.additionals = part.additionals;
    whole.metadata.response_code = part.metadata.response_code;
    whole.metadata.authentic_data &= part.metadata.authentic_data;
}

/// Builds the message that an answer came in, with TTLs lowered by the time passed since.
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
    /// Returns the answer to a question that follows an alias. An answer that ends in another alias
    /// has a TTL of 0.
    async fn hop(self: &Arc<Self>, key: &Key) -> Resolved {
        let (sender, receiver) = oneshot::channel();
        {
            let mut turn = Turn::default();
            if let Some(resolved) = self.lookup(key, &mut turn) {
                return resolved;
            }
            self.board_for(Origin::Hop, key, Some(Waiter::Client(sender)), &mut turn);
        }
        receiver.await.unwrap_or_else(|_| self.refusal())
    }
}
