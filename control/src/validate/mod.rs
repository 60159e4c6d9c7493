//! Local validation (RFC 4033 to 4035), by hickory's validator over the resolver's own way to the upstreams.
//!
//! A question is asked upstream with DO=1 and CD=1, and so is what proves its answer: DNSKEY, DS and NS. These are questions like
//! any other: kept in the host tier, each asked once at a time, handed through as they are to clients that set CD. What
//! is proven is made into the answer to the client's own question, so that whatever is kept for CD=0 has been validated.
//!
//! What may be spent on an answer is bounded: time, questions, RRsets and signatures, by [`ask::Work`] and the constants here and in
//! the modules. The validator bounds keys with the same tag to 2 (KeyTrap, CVE-2023-50387) and how deep it goes to 26 questions.
//! NSEC3 records with many iterations are not hashed (RFC 9276, CVE-2023-50868).

mod ask;
mod extended;
mod proof;
mod runtime;
mod why;

use crate::{
    config,
    resolver::{Resolver, Rules, is_proof, upstream::Failed},
};
use ask::{Ask, WORK, Work};
use extended::{BOGUS, INDETERMINATE, NO_REACHABLE_AUTHORITY, UNSUPPORTED_ITERATIONS};
use hickory_net::{
    DnsError, DnsHandle, NetError,
    dnssec::DnssecDnsHandle,
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::{DnsRequestOptions, Message, Query},
        rr::{Name, RData, RecordType},
        serialize::binary::BinDecodable,
    },
    xfer::FirstAnswer,
};
use proof::{Proven, Unproven};
use ringdns_dataplane::{
    dns::{CLASS_IN, answer::Answer, key::Key},
    log::Source,
};
use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::timeout;

/// How long validation may take, questions to upstreams included. Clients give up after some five seconds.
const TIME_MAX: Duration = Duration::from_secs(4);
/// Aliases that are followed from one name to the next.
const ALIASES_MAX: usize = 11;
/// RRsets that were found to be genuine or not, and are not looked at again while they last: a few megabytes, used by the keys
/// of zones above all.
const REMEMBERED: usize = 16_384;
/// And no longer than this, since signatures expire. Those of the answer itself are looked at each time.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// Nor those that are not genuine: as long as a failure by default, so that a zone that was mended is found so.
const BOGUS_FOR: Duration = Duration::from_secs(5);
/// More iterations of NSEC3 make a zone count as unsigned where NSEC3 is needed (RFC 9276 section 3.2; BIND and Knot Resolver
/// have the same limit).
const ITERATIONS_MAX: u16 = 50;

/// Finds out whether answers are genuine.
pub struct Validator {
    handle: DnssecDnsHandle<Ask>,
    /// Names on the wire, lowercased, at and below which nothing is validated.
    insecure: Vec<Vec<u8>>,
}

/// The keys that are believed.
pub fn trust_anchors(file: Option<&Path>) -> Result<TrustAnchors, String> {
    let Some(path) = file else { return Ok(TrustAnchors::default()) };
    let anchors = TrustAnchors::from_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if anchors.is_empty() {
        return Err(format!("{}: there is no DNSKEY record of the root in it", path.display()));
    }
    Ok(anchors)
}

impl Validator {
    /// One that asks by way of `resolver`; `None` if nothing is to be validated.
    pub fn new(config: &config::Dnssec, resolver: Weak<Resolver>) -> Option<Self> {
        if !config.validate {
            return None;
        }
        // The file was read at the start. If it is gone since, nothing is believed.
        let anchors = trust_anchors(config.trust_anchor_file.as_deref()).unwrap_or_else(|error| {
            tracing::error!("dnssec.trust_anchor_file: {error}");
            TrustAnchors::empty()
        });
        let handle = DnssecDnsHandle::with_trust_anchor(Ask(resolver), Arc::new(anchors))
            .nsec3_iteration_limits(Some(ITERATIONS_MAX), Some(u16::MAX))
            .negative_validation_ttl(Duration::ZERO..=BOGUS_FOR)
            .positive_validation_ttl(Duration::ZERO..=REMEMBERED_FOR)
            .validation_cache_size(REMEMBERED);
        Some(Validator { handle, insecure: config.insecure.clone() })
    }

    /// Whether the answer to this question is to be validated.
    pub fn concerns(&self, key: &Key) -> bool {
        let asked = key.asked();
        !asked.checking_disabled() && asked.qclass() == CLASS_IN && !self.exempts(asked.name())
    }

    /// Whether a name is at or below one where nothing is validated.
    fn exempts(&self, mut name: &[u8]) -> bool {
        while !self.insecure.is_empty() {
            if self.insecure.iter().any(|insecure| insecure == name) {
                return true;
            }
            match name.split_first() {
                Some((&len @ 1.., rest)) => name = rest.get(usize::from(len)..).unwrap_or_default(),
                _ => break,
            }
        }
        false
    }

    /// The validated answer to a question that this [concerns](Validator::concerns), and who had it, whoever had what proves it;
    /// `renew`: a newer one than there is.
    pub async fn answer(
        &self,
        resolver: &Arc<Resolver>,
        rules: &Rules,
        key: &Key,
        renew: bool,
    ) -> (Result<Answer, Failed>, Source) {
        let finding = async {
            let found = timeout(TIME_MAX, self.find(resolver, rules, key, renew)).await;
            (found, WORK.with(|work| work.source.get()).unwrap_or_default())
        };
        let (found, source) = WORK.scope(Work::new(resolver.clock()), finding).await;
        let late = Unproven::Failed(Failed::Upstreams(NO_REACHABLE_AUTHORITY));
        let counters = &resolver.counters;
        let answer = match found.unwrap_or(Err(late)) {
            Ok((answer, secure)) => {
                if secure { &counters.validated_secure } else { &counters.validated_insecure }.inc();
                Ok(answer)
            }
            Err(Unproven::Bogus(code)) => {
                counters.validated_bogus.inc();
                tracing::debug!(question = %key, code, "bogus");
                Err(Failed::Upstreams(code))
            }
            Err(Unproven::Failed(failed)) => Err(failed),
        };
        (answer, source)
    }

    async fn find(
        &self,
        resolver: &Arc<Resolver>,
        rules: &Rules,
        key: &Key,
        renew: bool,
    ) -> Result<(Answer, bool), Unproven> {
        const MALFORMED: Unproven = Unproven::Bogus(INDETERMINATE);
        let asked = key.asked();
        let name = Name::from_bytes(asked.name()).map_err(|_| MALFORMED)?;
        let qtype = RecordType::from(asked.qtype());
        let (mut message, said) = ask::fetch(resolver, &name, qtype, renew).await?;
        let proven = self.prove(resolver, &name, qtype, &message).await?;
        let wanted = |rtype: RecordType| {
            asked.dnssec_ok() || !is_proof(rtype) || rtype == qtype || qtype == RecordType::ANY
        };
        let Proven { answers, authorities, code, secure, ede } = proven;
        message.metadata.response_code = code;
        message.metadata.authentic_data = secure;
        message.answers = answers.into_iter().filter(|record| wanted(record.record_type())).collect();
        message.authorities = authorities.into_iter().filter(|record| wanted(record.record_type())).collect();
        message.additionals.clear();
        message.edns = None;
        let bytes = message.to_vec().map_err(|_| MALFORMED)?;
        let answer = Answer::from_response(&bytes, key, &rules.ttl, rules.clock.secs(), true);
        answer.map(|answer| (Answer { ede: ede.or(said), ..answer }, secure)).map_err(|_| MALFORMED)
    }

    /// Proves a response, aliases followed.
    async fn prove(
        &self,
        resolver: &Arc<Resolver>,
        name: &Name,
        qtype: RecordType,
        message: &Message,
    ) -> Result<Proven, Unproven> {
        let is_alias = alias_of(message, name, qtype).is_some();
        if !is_alias {
            return self.prove_one(resolver, name, qtype, message).await;
        }
        let is_whole = message.answers.iter().any(|record| record.record_type() == qtype);
        // Of a response with proofs of several names, only those for the first are understood.
        if is_whole && !message.answers.iter().any(proof::is_expanded) {
            let proven = proof::prove(&self.handle, resolver, name, qtype, message).await;
            if !matches!(proven, Err(Unproven::Bogus(_))) {
                return proven;
            }
        }
        self.prove_links(resolver, name, qtype).await
    }

    /// Proves each alias from a name on as a question of its own.
    async fn prove_links(
        &self,
        resolver: &Arc<Resolver>,
        name: &Name,
        qtype: RecordType,
    ) -> Result<Proven, Unproven> {
        let mut links = Vec::new();
        let (mut name, mut proofs, mut secure, mut ede) = (name.clone(), Vec::new(), true, None);
        for _ in 0..=ALIASES_MAX {
            let (message, _) = ask::fetch(resolver, &name, qtype, false).await?;
            let next = alias_of(&message, &name, qtype);
            let exempt = ask::key_for(&name, qtype)
                .is_some_and(|key| self.exempts(key.asked().name()) || resolver.is_local(&key));
            let last = match next {
                _ if exempt => Proven::as_it_came(message, None),
                None => self.prove_one(resolver, &name, qtype, &message).await?,
                Some(target) => {
                    let (message, _) = ask::fetch(resolver, &name, RecordType::CNAME, false).await?;
                    let link = self.prove_one(resolver, &name, RecordType::CNAME, &message).await?;
                    (secure, ede) = (secure & link.secure, ede.or(link.ede));
                    links.extend(link.answers);
                    proofs.extend(link.authorities);
                    name = target;
                    continue;
                }
            };
            links.extend(last.answers);
            proofs.extend(last.authorities);
            return Ok(Proven {
                answers: links,
                authorities: proofs,
                secure: secure && last.secure,
                ede: ede.or(last.ede),
                ..last
            });
        }
        Err(Unproven::Bogus(BOGUS))
    }

    /// Proves a response in which all proofs are about one name.
    async fn prove_one(
        &self,
        resolver: &Arc<Resolver>,
        name: &Name,
        qtype: RecordType,
        message: &Message,
    ) -> Result<Proven, Unproven> {
        let proven = proof::prove(&self.handle, resolver, name, qtype, message).await;
        if !matches!(proven, Err(Unproven::Bogus(_))) {
            return proven;
        }
        // The validator takes a zone for signed if too many iterations of NSEC3 are to prove that it is not.
        let excesses = WORK.with(|work| work.excesses.take());
        for zone in excesses.iter().filter(|zone| zone.zone_of(name)) {
            let query = Query::query(zone.clone(), RecordType::DS);
            let said = self.handle.lookup(query, DnsRequestOptions::default()).first_answer().await;
            if let Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. })) = said {
                return Ok(Proven::as_it_came(message.clone(), Some(UNSUPPORTED_ITERATIONS)));
            }
        }
        proven
    }
}

/// What a name is an alias of, where that is not what was asked for.
fn alias_of(message: &Message, name: &Name, qtype: RecordType) -> Option<Name> {
    if matches!(qtype, RecordType::CNAME | RecordType::ANY) {
        return None;
    }
    message.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some(target.0.clone()),
        _ => None,
    })
}
