//! Local validation (RFC 4033 to 4035): `ringdns-dnssec` judges, and the resolver asks the
//! upstreams.
//!
//! A question is asked upstream with DO=1 and CD=1, and so are the questions for the records that
//! prove its answer: DNSKEY and DS. These are questions like any other: they are kept in the host
//! tier, resolved once at a time, and handed unchanged to clients that set CD. The proven records
//! are made into the answer to the client's own question, so that every answer kept for CD=0 has
//! been validated.
//!
//! Work for an answer is bounded: its time here; questions, signatures and hashes in
//! `ringdns-dnssec`.

mod anchors;
mod ask;
mod managed;
mod ranges;
mod reply;
mod standings;

use crate::{
    resolved::Resolved,
    upstream::{Failed, exchange::JudgeRules},
};
use arc_swap::ArcSwap;
use ask::Ask;
pub use managed::AnchorCounters;
use managed::ManagedAnchors;
use ranges::KnownRanges;
use ringdns_api::TrustPointStatus;
use ringdns_common::names;
use ringdns_config as config;
use ringdns_dataplane::{
    clock::Clock,
    dns::{CLASS_IN, answer::Answer, key::Key},
    log::AnswerSource,
};
use ringdns_dnssec::{Anchors, Name, Unproven, ede::INDETERMINATE};
use standings::Standings;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Most time for validation, with questions to upstreams. Clients give up after some five seconds.
const TIME_MAX: Duration = Duration::from_secs(4);

/// Extended error: no upstream answered (RFC 8914).
const NO_REACHABLE_AUTHORITY: u16 = 22;

/// Result of a validation.
pub enum Validity {
    /// The answer is signed, and proven from a trust anchor on.
    Secure(Answer),
    /// The answer is from a zone that is proven to be unsigned.
    Insecure(Answer),
    /// The answer is false or unproven, for this reason (extended error of RFC 8914).
    Bogus(u16),
    /// Upstreams gave no answer, or not all records for its proof.
    Failed(Failed),
}

/// The resolver, as the validator asks it.
pub trait Asks: Sync {
    /// Returns the generations of the caches.
    fn generations(&self) -> &ringdns_dataplane::purge::Generations;

    /// Returns the clock that answers are aged by.
    fn clock(&self) -> Clock;

    /// Returns the answer to a question, from the host tier or from upstreams; `renew`: not an
    /// answer that is due for renewal.
    fn current(&self, key: &Key, renew: bool) -> impl Future<Output = Resolved> + Send;

    /// Returns an answer from upstreams that is newer than the one in the host tier; `None`: there
    /// is none.
    fn anew(&self, key: &Key) -> impl Future<Output = Option<Resolved>> + Send;

    /// Whether a question is about a special-use name, which no upstream is asked for.
    fn is_local(&self, key: &Key) -> bool;
}

/// Validator of answers.
pub struct Validator {
    trust: ArcSwap<Trust>,
    /// `None`: trust anchors do not change.
    managed: Option<ManagedAnchors>,
    /// Names at and below which nothing is validated.
    insecure: Vec<Name>,
    /// Whether validated denials answer other questions (RFC 8198).
    aggressive: bool,
}

/// Trust anchors, and what follows from them.
struct Trust {
    anchors: Anchors,
    standings: Standings,
    /// Denials by which other questions are answered.
    ranges: KnownRanges,
}

impl Trust {
    fn new(anchors: Anchors) -> Arc<Self> {
        Arc::new(Trust { anchors, standings: Standings::default(), ranges: KnownRanges::default() })
    }
}

/// Key of the configuration for the file with initial trust anchors.
const INITIAL: &str = "dnssec.trust_anchor_file";
/// Key of the configuration for the file with managed trust anchors.
pub const MANAGED: &str = "dnssec.managed_anchor_file";

/// Checks that the files with trust anchors can be used. Returns the name of the key whose file
/// cannot, and the reason.
pub fn check(config: &config::DnssecConfig) -> Result<(), (&'static str, String)> {
    load(config, 0).map(drop)
}

/// Reads trust anchors, and those that are managed; `now`: Unix time.
fn load(
    config: &config::DnssecConfig,
    now: u64,
) -> Result<(Anchors, Option<ManagedAnchors>), (&'static str, String)> {
    let initial = anchors::trust_anchors(config.trust_anchor_file.as_deref());
    let initial = initial.map_err(|error| (INITIAL, error))?;
    let Some(path) = &config.managed_anchor_file else { return Ok((initial, None)) };
    let failed = |error| (MANAGED, format!("{}: {error}", path.display()));
    let managed = ManagedAnchors::load(path, &initial, now).map_err(failed)?;
    Ok((managed.anchors(), Some(managed)))
}

impl Validator {
    /// Returns a validator, or `None` if validation is off. `now`: Unix time.
    pub fn new(config: &config::DnssecConfig, now: u64) -> Option<Self> {
        if !config.validate {
            return None;
        }
        // The files were readable at the start. If one is gone since, nothing is trusted: an anchor
        // without keys.
        let (anchors, managed) = load(config, now).unwrap_or_else(|(key, error)| {
            tracing::error!("{key}: {error}");
            (Anchors::unknown_root(), None)
        });
        let insecure = config.insecure.iter().filter_map(|name| Name::from_wire(name)).collect();
        let aggressive = config.aggressive;
        Some(Validator { trust: ArcSwap::new(Trust::new(anchors)), managed, insecure, aggressive })
    }

    /// Returns a validator with the same trust anchors that has learnt nothing yet, for the answers of
    /// other upstreams. It asks for no keys of managed zones, and [follows](Validator::follow) this one.
    pub fn beside(&self) -> Self {
        let trust = ArcSwap::new(Trust::new(self.trust.load().anchors.clone()));
        Validator { trust, managed: None, insecure: self.insecure.clone(), aggressive: self.aggressive }
    }

    /// Takes over the trust anchors of another validator.
    pub fn follow(&self, other: &Validator) {
        let other = other.trust.load();
        if self.trust.load().anchors != other.anchors {
            self.trust.store(Trust::new(other.anchors.clone()));
        }
    }

    /// Asks for the keys of managed zones that are due, and trusts them from then on as RFC 5011
    /// says.
    pub async fn refresh_anchors(&self, resolver: &impl Asks, counters: &AnchorCounters) {
        let Some(managed) = &self.managed else { return };
        managed.refresh(resolver, counters).await;
        let anchors = managed.anchors();
        if self.trust.load().anchors != anchors {
            self.trust.store(Trust::new(anchors));
        }
        managed.save(counters).await;
    }

    /// Returns the states of managed keys.
    pub fn trust_points(&self) -> Vec<TrustPointStatus> {
        self.managed.as_ref().map(ManagedAnchors::status).unwrap_or_default()
    }

    /// Whether the answer to this question is to be validated.
    pub fn concerns(&self, key: &Key) -> bool {
        let asked = key.asked();
        let exempt = || {
            Name::from_wire(asked.name()).is_some_and(|name| self.exempts(&self.trust.load().anchors, &name))
        };
        !asked.checking_disabled() && asked.qclass() == CLASS_IN && (self.insecure.is_empty() || !exempt())
    }

    /// Whether a name is at or below one where nothing is validated, and no trust anchor is closer
    /// (RFC 7646 section 2).
    fn exempts(&self, anchors: &Anchors, name: &Name) -> bool {
        let above = self.insecure.iter().filter(|insecure| name.is_at_or_below(insecure));
        let closest = above.map(Name::label_count).max();
        closest.is_some_and(|closest| anchors.labels_above(name).is_none_or(|anchor| anchor <= closest))
    }

    /// Returns the verdict on a question that this [concerns](Validator::concerns), and the source
    /// of its answer, whatever the source of the proof; `renew`: for an answer newer than the known
    /// one.
    pub async fn answer(
        &self,
        resolver: &impl Asks,
        rules: &JudgeRules,
        key: &Key,
        renew: bool,
    ) -> (Validity, AnswerSource) {
        let ask = Ask::new(self, resolver);
        let found = timeout(TIME_MAX, self.find(&ask, rules, key, renew)).await;
        let late = Unproven::Failed(Failed::Upstreams(NO_REACHABLE_AUTHORITY));
        let verdict = match found.unwrap_or(Err(late)) {
            Ok((answer, true)) => Validity::Secure(answer),
            Ok((answer, false)) => Validity::Insecure(answer),
            Err(Unproven::Bogus(code)) => {
                tracing::debug!(question = %key, code, "bogus");
                Validity::Bogus(code)
            }
            Err(Unproven::Failed(failed)) => Validity::Failed(failed),
        };
        (verdict, ask.source())
    }

    async fn find(
        &self,
        ask: &Ask<'_, impl Asks>,
        rules: &JudgeRules,
        key: &Key,
        renew: bool,
    ) -> Result<(Answer, bool), Unproven<Failed>> {
        const MALFORMED: Unproven<Failed> = Unproven::Bogus(INDETERMINATE);
        let asked = key.asked();
        let name = Name::from_wire(asked.name()).ok_or(MALFORMED)?;
        let (response, said) = ask.fetch(&name, asked.qtype(), renew).await?;
        let now = rules.clock.unix() as u32;
        let verdict =
            ringdns_dnssec::validate(ask, &ask.trust.anchors, now, &name, asked.qtype(), response).await?;
        if !verdict.denials.is_empty() {
            ask.trust.ranges.learn(&verdict.denials, ask.generation, rules.clock.secs());
        }
        let message = reply::message(key, &verdict).ok_or(MALFORMED)?;
        let answer = Answer::from_response(&message, key, &rules.ttl, rules.clock.secs(), true);
        let answer = answer.map_err(|_| MALFORMED)?;
        Ok((Answer { ede: verdict.ede.or(said), ..answer }, verdict.secure))
    }
}

/// Returns the question for a record that is part of a proof.
fn key_for(name: &Name, qtype: u16) -> Option<Key> {
    names::key(name.as_wire(), qtype, true, true)
}
