//! Answers that were known before this process began.

use super::Resolver;
use crate::host::StoredKey;
use crate::{
    resolved::is_failure,
    upstream::exchange::{self, Rules},
};
use ringdns_common::{message::grow_older, names};
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
};
use std::sync::Arc;

/// What became of an answer that was known before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the host tier.
    Taken,
    /// It cannot be given out any more.
    TooOld,
    /// There is another one.
    Known,
    /// It is none, or none that is kept.
    Unfit,
    /// There was a purge meanwhile.
    Purged,
}

impl Resolver {
    /// Of what answers depend on in the configuration as it is now. What was kept under another one is of no use.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.setup.load().fingerprint
    }

    /// Whether an answer is worth keeping for a process to come. What nobody is asked for is not, nor is a failure; and what is
    /// validated here is not either: nobody's word is taken for that, and what it is proven with is kept.
    pub(crate) fn may_keep(&self, key: &StoredKey, answer: &Answer) -> bool {
        let asked = key.asked();
        let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
        !is_failure(answer) && key.is_some_and(|key| self.may_restore(&key))
    }

    fn may_restore(&self, key: &Key) -> bool {
        !self.is_local(key)
            && !self.setup.load().validator.as_ref().is_some_and(|validator| validator.concerns(key))
    }

    /// Files an answer that was received `age` seconds ago, was fresh for `ttl` from then on, and might be given out for `stale` more. It is
    /// judged as an upstream's is. Nothing is filed if there was a purge since the host tier was at `generation`.
    pub(crate) fn restore(
        &self,
        key: &Key,
        message: &[u8],
        (age, ttl, stale): (Secs, Secs, Secs),
        ede: Option<u16>,
        generation: u64,
    ) -> Kept {
        let grace = stale.saturating_sub(age.saturating_sub(ttl)).min(self.rules.ttl.stale);
        if age >= ttl && grace == 0 {
            return Kept::TooOld;
        }
        if self.host.peek(key).is_some() {
            return Kept::Known;
        }
        let mut message = message.to_vec();
        if !self.may_restore(key) || grow_older(&mut message, key.asked(), age).is_none() {
            return Kept::Unfit;
        }
        // How long it is kept at least was decided when it was received; else it would never end.
        let setup = self.setup.load();
        let rules = Rules { ttl: TtlRules { min: 0, ..self.rules.ttl }, ..self.rules };
        let trusted = setup.upstreams.iter().all(|upstream| upstream.trusted);
        // What an alias at its end leads to would have to be asked for.
        let Some((answer, None)) = exchange::judge_kept(key, &rules, trusted, &message) else {
            return Kept::Unfit;
        };
        let now = self.clock().secs();
        let fresh = answer.ttl.min(ttl.saturating_sub(age));
        let ahead = (u64::from(ttl) * u64::from(rules.ttl.ahead) / 100) as Secs;
        let answer = match fresh {
            0 if grace == 0 || now == 0 => return Kept::TooOld,
            // One that has been fresh until now.
            0 => Answer { received: now - 1, ttl: 1, ahead: 0, stale: grace, ede, ..answer },
            _ => Answer { ttl: fresh, ahead, stale: grace, ede, ..answer },
        };
        if self.host.insert(key, Arc::new(answer), generation) { Kept::Taken } else { Kept::Purged }
    }
}
