//! Questions in flight whose answers are validated. Other questions bring the records for the
//! proof.

use super::{Landing, Resolver, flights::Flight};
use crate::validate::{Asks, Validator, Validity};
use crate::{
    resolved::Resolved,
    upstream::{Failed, turn::Turn},
};
use ringdns_dataplane::{
    clock::Clock,
    dns::{answer::Answer, key::Key},
    log::AnswerSource,
};
use std::sync::Arc;

/// Question whose answer is validated. However it ends, it lands.
pub struct Validated {
    landing: Landing,
    flight: Option<Flight>,
}

impl Validated {
    /// Begins to resolve and validate the question; `renew`: for an answer newer than the known
    /// one.
    pub fn begin(landing: Landing, flight: Flight, renew: bool, validator: Arc<Validator>) {
        let mut validated = Validated { landing, flight: Some(flight) };
        tokio::spawn(async move {
            let Landing { resolver, key, .. } = &validated.landing;
            let (verdict, source) = validator.answer(resolver, &resolver.rules, key, renew).await;
            let found = match verdict {
                Validity::Secure(answer) => {
                    resolver.counters.validated_secure.inc();
                    Ok(answer)
                }
                Validity::Insecure(answer) => {
                    resolver.counters.validated_insecure.inc();
                    Ok(answer)
                }
                Validity::Bogus(code) => {
                    resolver.counters.validated_bogus.inc();
                    Err(Failed::Upstreams(code))
                }
                Validity::Failed(failed) => Err(failed),
            };
            validated.land(found, source);
        });
    }

    fn land(&mut self, found: Result<Answer, Failed>, source: AnswerSource) {
        if let Some(flight) = self.flight.take() {
            self.landing.land(flight, found, source, false, &mut Turn::default());
        }
    }
}

impl Drop for Validated {
    fn drop(&mut self) {
        self.land(Err(Failed::Ourselves), AnswerSource::default());
    }
}

impl Asks for Arc<Resolver> {
    fn generations(&self) -> &ringdns_dataplane::purge::Generations {
        self.host.generations()
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    async fn current(&self, key: &Key, renew: bool) -> Resolved {
        Resolver::current(self, key, renew).await
    }

    async fn anew(&self, key: &Key) -> Option<Resolved> {
        Resolver::anew(self, key).await
    }

    fn is_local(&self, key: &Key) -> bool {
        Resolver::is_local(self, key)
    }
}
