//! Answers that follow from what is known of other names: no upstream is asked, and the host tier does
//! not keep them, so that a flood of made-up names displaces nothing there.

use super::{Resolver, setup::ResolverSetup};
use crate::{message::Message, resolved::Resolved, validate::Validator, watch::SYNTHESIZED};
use ringdns_common::names;
use ringdns_config::NxdomainCut;
use ringdns_dataplane::{
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
    log::{AnswerSource, Tier},
};
use ringdns_dnssec::{Name, Response, denies_name};
use std::sync::Arc;

impl Resolver {
    /// Returns the memory of validated denials that answer other questions, in bytes.
    pub fn range_bytes(&self) -> usize {
        let own = self.setup.load().validator.as_ref().map_or(0, |validator| validator.range_bytes());
        own + self.views().iter().map(|view| view.range_bytes()).sum::<usize>()
    }

    /// Returns an answer that follows from validated denials and wildcards of other questions (RFC
    /// 8198), or from the NXDOMAIN of a name above (RFC 8020). `validator`: the answer is to be validated.
    pub(super) fn denied(
        &self,
        setup: &ResolverSetup,
        validator: Option<&Arc<Validator>>,
        key: &Key,
        generation: u64,
    ) -> Option<Resolved> {
        let by_ranges = || {
            let made = validator?.made(key, &self.rules, self.host.generations())?;
            // Another zone of the public tree has no say about names that an upstream of their own
            // answers for.
            (!setup.upstreams.has_zone_of(key.asked())).then_some(made)
        };
        let (answer, counter) = match by_ranges() {
            Some(answer) if answer.counts[0] > 0 => (answer, &self.counters.expanded),
            Some(answer) => (answer, &self.counters.synthesised),
            None => (self.below_nxdomain(setup, validator, key)?, &self.counters.below_nxdomain),
        };
        counter.inc();
        let source = AnswerSource::of(Tier::Host);
        Some(Resolved { source, known: false, ..self.host_answer(Arc::new(answer), generation) })
    }

    /// Returns the NXDOMAIN of a name above, as the answer to this question.
    fn below_nxdomain(
        &self,
        setup: &ResolverSetup,
        validator: Option<&Arc<Validator>>,
        key: &Key,
    ) -> Option<Answer> {
        let asked = key.asked();
        if self.nxdomain_cut == NxdomainCut::Off || asked.checking_disabled() {
            return None;
        }
        let now = self.clock().secs();
        let is_secure = self.nxdomain_cut == NxdomainCut::Secure;
        let (above, known) = self.host.nxdomain_above(key, is_secure, now)?;
        // Where nothing is validated, or by a trust anchor between the two, the zones above do not
        // count.
        let counts = match validator {
            Some(validator) => validator.has_same_anchor(above, asked.name()),
            None => !is_secure || setup.validator.is_none(),
        };
        if !counts {
            return None;
        }
        let above = names::key(above, asked.qtype(), asked.dnssec_ok(), false)?;
        if !setup.upstreams.are_the_same_for(asked, above.asked()) {
            return None;
        }
        let message = Message::of(&above, &known, known.age(true, now, 0))?.asked_by(key)?.to_bytes()?;
        // A client that validates needs a proof for this name, too.
        if asked.dnssec_ok() {
            let response = Response::parse(&message).ok()?;
            denies_name(&response, &Name::from_wire(asked.name())?).then_some(())?;
        }
        let ttl = TtlRules { min: 0, ..self.rules.ttl };
        let answer = Answer::from_response(&message, key, &ttl, now, true).ok()?;
        (answer.ttl > 0).then_some(Answer { ede: known.ede.or(Some(SYNTHESIZED)), ..answer })
    }
}
