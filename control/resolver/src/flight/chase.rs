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
    message::{Message, scrub},
    resolved::Resolved,
    upstream::{Failed, alias::Alias, turn::Turn},
};
use ringdns_dataplane::{
    clock::Secs,
    dns::{answer::Answer, key::Key},
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
    let mut whole = Message::of(key, first, age).ok_or(JUNK)?;
    let mut ede = first.ede;
    for _ in 0..HOPS_MAX {
        let hop = resolver.hop(&target).await;
        let Resolved { answer, .. } = &hop;
        if answer.status.is_failure() {
            // A failure that must not be remembered says nothing about the question.
            let remembered = answer.ttl > 0;
            let said = Failed::Upstreams(answer.ede.unwrap_or(NO_REACHABLE_AUTHORITY));
            return Err(if remembered { said } else { Failed::Ourselves });
        }
        ede = ede.or(answer.ede);
        let now = resolver.clock().secs();
        let part = Message::of(&target, answer, hop.age(now, STALE_TTL)).ok_or(JUNK)?;
        whole.join(part);
        // Catches loops, and names that do not belong to the answer.
        let end = scrub::scrub(&mut whole, key.asked().dnssec_ok()).map_err(|scrub::Endless| JUNK)?.leads_to;
        // An answer that may be kept is whole.
        match end.filter(|_| answer.ttl == 0).and_then(|to| Alias::new(key, &to, false)) {
            Some(next) if next.target != target => target = next.target,
            _ => {
                let bytes = whole.to_bytes().ok_or(JUNK)?;
                let answer = Answer::from_response(&bytes, key, &landing.rules().ttl, now, true);
                return answer.map(|answer| Answer { ede, ..answer }).map_err(|_| JUNK);
            }
        }
    }
    Err(JUNK)
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
            self.board_for(Origin::Hop, key, Some(Waiter::Client { to: sender, address: None }), &mut turn);
        }
        receiver.await.unwrap_or_else(|_| self.refusal())
    }
}
