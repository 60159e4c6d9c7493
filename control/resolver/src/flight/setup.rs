//! What the configuration says of the resolver. It may change while questions are under way: each keeps the one that it began with.

use crate::upstream::choice::Upstreams;
use crate::{local::LocalNames, validate::Validator};
use ringdns_common::labels::Labels;
use ringdns_config::{Config, Dnssec};
use siphasher::sip::SipHasher13;
use std::{hash::Hasher, sync::Arc};

/// A configuration, as the resolver has it.
pub(super) struct Setup {
    pub local: LocalNames,
    pub upstreams: Arc<Upstreams>,
    /// `None`: nothing is validated here.
    pub validator: Option<Arc<Validator>>,
    dnssec: Dnssec,
    /// Of what an answer depends on: who is asked for it, and what is validated.
    pub fingerprint: u64,
}

impl Setup {
    /// That of `config`. What is in it as it was `before` goes on, with all that it knows.
    pub fn new(config: &Config, labels: &Labels, before: Option<&Setup>) -> Self {
        let dnssec = &config.dnssec;
        // A file may have changed meanwhile.
        let same = |before: &&Setup| before.dnssec == *dnssec && dnssec.trust_anchor_file.is_none();
        let validator = match before.filter(same) {
            Some(before) => before.validator.clone(),
            None => Validator::new(dnssec).map(Arc::new),
        };
        let known = before.map(|before| &*before.upstreams);
        let upstreams = Upstreams::new(&config.upstreams, &config.resolver, labels, known);
        Setup {
            local: LocalNames::new(config.local.special_names),
            upstreams: Arc::new(upstreams),
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
