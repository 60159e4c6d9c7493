//! Configuration of the resolver. It may change while questions are in flight: each keeps the one
//! that it began with.

use crate::upstream::choice::Upstreams;
use crate::{dns64::Dns64, local::LocalNames, rebinding::Rebinding, validate::Validator};
use ringdns_config::{Config, DnssecConfig};
use ringdns_dataplane::{clock::Clock, labels::Labels};
use siphasher::sip::SipHasher13;
use std::{hash::Hasher, sync::Arc};

/// Configuration in the form that the resolver uses.
pub(super) struct ResolverSetup {
    pub local: LocalNames,
    pub upstreams: Arc<Upstreams>,
    /// Protection against DNS rebinding; `None`: there is none.
    pub rebinding: Option<Rebinding>,
    /// DNS64; `None`: there is none.
    pub dns64: Option<Dns64>,
    /// Validator of answers; `None`: answers are not validated here.
    pub validator: Option<Arc<Validator>>,
    dnssec: DnssecConfig,
    /// Hash of the settings that answers depend on: upstreams and validation.
    pub fingerprint: u64,
}

impl ResolverSetup {
    /// Returns the setup for `config`. Parts that are unchanged since `before` are kept, with all
    /// that they have learned.
    pub fn new(config: &Config, labels: &Labels, clock: Clock, before: Option<&ResolverSetup>) -> Self {
        let dnssec = &config.dnssec;
        // The trust anchor file may have changed meanwhile.
        let same = |before: &&ResolverSetup| before.dnssec == *dnssec && dnssec.trust_anchor_file.is_none();
        let validator = match before.filter(same) {
            Some(before) => before.validator.clone(),
            None => Validator::new(dnssec, clock.unix()).map(Arc::new),
        };
        let known = before.map(|before| &*before.upstreams);
        let upstreams = Upstreams::new(&config.upstreams, &config.resolver, labels, known);
        ResolverSetup {
            local: LocalNames::new(config.local.special_names, config.local.canary_names),
            upstreams: Arc::new(upstreams),
            rebinding: Rebinding::new(&config.rebinding),
            dns64: Dns64::new(&config.dns64),
            validator,
            dnssec: dnssec.clone(),
            fingerprint: fingerprint(config),
        }
    }
}

fn fingerprint(config: &Config) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(format!("{:?} {:?}", config.upstreams, config.dnssec).as_bytes());
    hasher.finish()
}
