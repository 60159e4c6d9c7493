//! Flights whose answers are validated: other flights bring what is to be proven.

use super::{Flight, Landing, Turn, upstream::Failed};
use crate::validate::Validator;
use ringdns_dataplane::{dns::answer::Answer, log::Source};
use std::sync::Arc;

/// A question on its way. However it ends, it lands.
pub struct Validated {
    landing: Landing,
    flight: Option<Flight>,
}

impl Validated {
    /// Begins to look for the answer; `renew`: for a newer one than there is.
    pub fn begin(landing: Landing, flight: Flight, renew: bool, validator: Arc<Validator>) {
        let mut validated = Validated { landing, flight: Some(flight) };
        tokio::spawn(async move {
            let Landing { resolver, key, .. } = &validated.landing;
            let (found, source) = validator.answer(resolver, &resolver.rules, key, renew).await;
            validated.land(found, source);
        });
    }

    fn land(&mut self, found: Result<Answer, Failed>, source: Source) {
        if let Some(flight) = self.flight.take() {
            self.landing.land(&flight, found, source, false, &mut Turn::default());
        }
    }
}

impl Drop for Validated {
    fn drop(&mut self) {
        self.land(Err(Failed::Ourselves), Source::default());
    }
}
