//! Restores answers that were known before this process began.

use super::Resolver;
use crate::{
    host::StoredKey,
    upstream::exchange::{self, JudgeRules},
    watch,
};
use ringdns_common::{message::grow_older, names};
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
    log::{AnswerSource, Tier},
};
use std::sync::Arc;

/// Outcome of restoring an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// The answer is in the host tier.
    Taken,
    /// The answer can no longer be served.
    TooOld,
    /// The host tier has an answer already.
    Known,
    /// The message does not answer the question, or such answers are not kept.
    Unfit,
    /// A purge came meanwhile.
    Purged,
}

impl Resolver {
    /// Returns a fingerprint of the settings that answers depend on. Answers kept under other
    /// settings are not used.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.setup.load().fingerprint
    }

    /// Whether an answer is worth keeping for a later process. Not persisted: special-use names,
    /// failures, and answers validated here. The latter must be validated again; the records that
    /// prove them are kept.
    pub(crate) fn may_keep(&self, key: &StoredKey, answer: &Answer) -> bool {
        let asked = key.asked();
        let key = names::key(asked.name(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled());
        !answer.status.is_failure() && key.is_some_and(|key| self.may_restore(&key))
    }

    fn may_restore(&self, key: &Key) -> bool {
        !self.is_local(key)
            && !self.setup.load().validator.as_ref().is_some_and(|validator| validator.concerns(key))
    }

    /// Puts an answer into the host tier that was received `age` seconds ago, was fresh for `ttl`
    /// from then on, and might be served as stale for `stale` more. It is judged like an upstream's
    /// response. It is not stored if a purge came since the host tier was at `generation`.
    pub(crate) fn restore(
        &self,
        key: &Key,
        message: &[u8],
        (age, ttl, stale): (Secs, Secs, Secs),
        ede: Option<u16>,
        generation: u64,
    ) -> RestoreOutcome {
        let grace = stale.saturating_sub(age.saturating_sub(ttl)).min(self.rules.ttl.stale);
        if age >= ttl && grace == 0 {
            return RestoreOutcome::TooOld;
        }
        if self.host.peek(key).is_some() {
            return RestoreOutcome::Known;
        }
        let mut message = message.to_vec();
        if !self.may_restore(key) || grow_older(&mut message, key.asked(), age).is_none() {
            return RestoreOutcome::Unfit;
        }
        // The minimum TTL was applied when the answer was received; applied again and again, the
        // answer would never expire.
        let setup = self.setup.load();
        let rules = JudgeRules { ttl: TtlRules { min: 0, ..self.rules.ttl }, ..self.rules };
        let trusted = setup.upstreams.iter().all(|upstream| upstream.trusted);
        // An answer that ends in an alias is incomplete: its target would have to be resolved.
        let Some((answer, None)) = exchange::judge_kept(key, &rules, trusted, &message) else {
            return RestoreOutcome::Unfit;
        };
        let now = self.clock().secs();
        let fresh = answer.ttl.min(ttl.saturating_sub(age));
        let ahead = (u64::from(ttl) * u64::from(rules.ttl.ahead) / 100) as Secs;
        let answer = match fresh {
            0 if grace == 0 || now == 0 => return RestoreOutcome::TooOld,
            // As if the answer had been fresh until now.
            0 => Answer { received: now - 1, ttl: 1, ahead: 0, stale: grace, ede, ..answer },
            _ => Answer { ttl: fresh, ahead, stale: grace, ede, ..answer },
        };
        let answer = Arc::new(answer);
        if self.host.insert(key, answer.clone(), generation) {
            self.watch_restored(key, answer, generation);
            RestoreOutcome::Taken
        } else {
            RestoreOutcome::Purged
        }
    }

    /// Tells firewalls of an answer that was restored. Nobody waits for that: clients had it before.
    fn watch_restored(&self, key: &Key, answer: Arc<Answer>, generation: u64) {
        let Some(watch) = self.watch.get() else { return };
        let resolved = self.answered(answer, generation, true, AnswerSource::of(Tier::Host));
        drop(watch::show(&**watch, key, &self.policed(key, resolved), self.clock().secs()));
    }
}
