//! Configuration of the resolver. It may change while questions are in flight: each keeps the one
//! that it began with.

use super::Resolver;
use crate::upstream::{
    choice::Upstreams,
    watch::{self, UpstreamWatch},
};
use crate::{dns64::Dns64, local::LocalNames, rebinding::Rebinding, validate::Validator};
use ringdns_config::{Config, DnssecConfig};
use ringdns_dataplane::clock::Clock;
use siphasher::sip::SipHasher13;
use std::{hash::Hasher, sync::Arc};
use tokio::time::sleep;

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
    /// Returns the setup for `config` and the upstreams of clients without upstreams of their own. Parts
    /// that are unchanged since `before` are kept, with all that they have learned.
    pub fn new(config: &Config, upstreams: Upstreams, clock: Clock, before: Option<&ResolverSetup>) -> Self {
        let dnssec = &config.dnssec;
        // The trust anchor file may have changed meanwhile.
        let same = |before: &&ResolverSetup| before.dnssec == *dnssec && dnssec.trust_anchor_file.is_none();
        let validator = match before.filter(same) {
            Some(before) => before.validator.clone(),
            None => Validator::new(dnssec, clock.unix()).map(Arc::new),
        };
        Self::of(config, upstreams, validator)
    }

    /// Returns the setup for groups of clients whose upstreams are others than those of `common`.
    /// `before`: theirs and the common one before that.
    pub fn beside(
        config: &Config,
        upstreams: Upstreams,
        common: &ResolverSetup,
        before: Option<(&ResolverSetup, &ResolverSetup)>,
    ) -> Self {
        let is_same =
            |(_, before): &(&ResolverSetup, &ResolverSetup)| match (&before.validator, &common.validator) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (before, now) => before.is_none() && now.is_none(),
            };
        let validator = match before.filter(is_same) {
            Some((own, _)) => own.validator.clone(),
            None => common.validator.as_ref().map(|validator| Arc::new(validator.beside())),
        };
        Self::of(config, upstreams, validator)
    }

    fn of(config: &Config, upstreams: Upstreams, validator: Option<Arc<Validator>>) -> Self {
        ResolverSetup {
            local: LocalNames::new(config.local.special_names, config.local.canary_names),
            upstreams: Arc::new(upstreams),
            rebinding: Rebinding::new(&config.rebinding),
            dns64: Dns64::new(&config.dns64),
            validator,
            dnssec: config.dnssec.clone(),
            fingerprint: fingerprint(config),
        }
    }
}

impl Resolver {
    /// Takes over `config`: upstreams, validation and special-use names. Questions in flight keep
    /// the configuration that they began with.
    pub fn set_up(&self, config: &Config) {
        self.caps.set(config.resolver.zone_misses, self.clock().nanos());
        let before = self.setup();
        let known = self.everything.load_full();
        let everything =
            Arc::new(Upstreams::new(&config.upstreams, &config.resolver, &self.labels, Some(&known)));
        if let Some(reader) = self.reader.get() {
            everything.tell(reader);
        }
        let common = everything.for_group(&config.upstreams, &[]);
        let setup = ResolverSetup::new(config, common, self.clock, Some(&before));
        let is_void = setup.rebinding != before.rebinding || setup.dns64 != before.dns64;
        self.setup.store(Arc::new(setup));
        self.everything.store(everything.clone());
        // Last: who sees the new generation sees the new upstreams.
        if self.set_views(config, &everything, &before) || is_void {
            self.host.begin_verdicts();
        }
    }

    /// Returns all upstreams.
    pub fn upstreams(&self) -> Arc<Upstreams> {
        self.everything.load_full()
    }

    /// Watches the upstreams until the task is dropped: logs which of them fall silent, and probes
    /// these.
    pub async fn watch_upstreams(self: Arc<Self>) {
        let mut watch = UpstreamWatch::default();
        loop {
            watch.look(&self.upstreams(), self.silent_zones(), &self.rules);
            sleep(watch::PERIOD).await;
        }
    }
}

fn fingerprint(config: &Config) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(format!("{:?} {:?}", config.upstreams, config.dnssec).as_bytes());
    hasher.finish()
}
