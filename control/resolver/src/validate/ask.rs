//! Questions of the validator: they go through the resolver, with DO=1 and CD=1.

use super::{Asks, NO_REACHABLE_AUTHORITY, Trust, Validator, key_for};
use crate::{resolved::Resolved, upstream::Failed};
use ringdns_common::message;
use ringdns_dataplane::{
    dns::{key::Key, reply::Age},
    log::{self, Tier},
};
use ringdns_dnssec::{Name, Response, ResponseSource, Standing, Unproven, ede::INDETERMINATE};
use std::sync::{Arc, OnceLock};

const UNREADABLE: Unproven<Failed> = Unproven::Bogus(INDETERMINATE);

/// Questions that validate one answer.
pub struct Ask<'a, R> {
    validator: &'a Validator,
    /// Trust anchors, and the standings that follow from them.
    pub trust: Arc<Trust>,
    resolver: &'a R,
    /// Generation in which the validation began: a purge since may cover its proofs.
    pub generation: u64,
    /// Source of the response to the first question, which is the client's.
    source: OnceLock<log::AnswerSource>,
}

impl<'a, R: Asks> Ask<'a, R> {
    /// Returns an asker that has asked nothing yet.
    pub fn new(validator: &'a Validator, resolver: &'a R) -> Self {
        let generation = resolver.generations().current();
        Ask { validator, trust: validator.trust.load_full(), resolver, generation, source: OnceLock::new() }
    }

    /// Returns the source of the response to the first question.
    pub fn source(&self) -> log::AnswerSource {
        self.source.get().copied().unwrap_or_default()
    }

    /// Returns a response, and the extended error in it. `renew`: an answer that is due for renewal
    /// is renewed.
    pub async fn fetch(
        &self,
        name: &Name,
        qtype: u16,
        renew: bool,
    ) -> Result<(Arc<Response>, Option<u16>), Unproven<Failed>> {
        let key = key_for(name, qtype).ok_or(UNREADABLE)?;
        let found = self.resolver.current(&key, renew).await;
        self.source.get_or_init(|| found.source);
        // What was known before, here or in the fleet, may be older than a purge of a name that it
        // denies beside the one that was asked for.
        let is_new = !found.known && found.source.tier == Tier::Upstream;
        let response = response(self.resolver, &key, &found)?;
        let response = response.for_ranges(is_new && self.validator.aggressive);
        Ok((Arc::new(response), found.answer.ede))
    }
}

/// Parses an answer, with the TTLs that are left of it.
pub fn response(resolver: &impl Asks, key: &Key, found: &Resolved) -> Result<Response, Unproven<Failed>> {
    let answer = &found.answer;
    if answer.status.is_failure() {
        // A failure that says nothing about the question has TTL 0.
        let ours = answer.ttl == 0 && answer.ede.is_none();
        let theirs = Failed::Upstreams(answer.ede.unwrap_or(NO_REACHABLE_AUTHORITY));
        return Err(Unproven::Failed(if ours { Failed::Ourselves } else { theirs }));
    }
    let passed = match found.age(resolver.clock().secs(), 0) {
        Age::New(passed) | Age::Fresh(passed) => passed,
        Age::Stale(_) => return Err(Unproven::Failed(Failed::Upstreams(NO_REACHABLE_AUTHORITY))),
    };
    let mut message = message::of(key.asked(), answer);
    message::grow_older(&mut message, key.asked(), passed).ok_or(UNREADABLE)?;
    Ok(Response::parse(&message)?)
}

impl<R: Asks> ResponseSource for Ask<'_, R> {
    type Error = Failed;

    async fn ask(&self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<Failed>> {
        Ok(self.fetch(name, rtype, false).await?.0)
    }

    fn recall(&self, zone: &Name) -> Option<Standing> {
        let now = self.resolver.clock().secs();
        self.trust.standings.get(zone, self.resolver.generations(), now)
    }

    fn remember(&self, zone: &Name, standing: &Standing, secs: u32) {
        let now = self.resolver.clock().secs();
        self.trust.standings.insert(zone, standing, self.generation, now, secs);
    }

    fn is_exempt(&self, name: &Name, rtype: u16) -> bool {
        let is_local = || key_for(name, rtype).is_some_and(|key| self.resolver.is_local(&key));
        self.validator.exempts(&self.trust.anchors, name) || is_local()
    }
}
