//! Why something is not genuine, as exactly as an extended error can say (RFC 8914).

use super::{
    ask::{self, WORK},
    extended::{
        BOGUS, DNSKEY_MISSING, EXPIRED_BEFORE_VALID, NO_ZONE_KEY_BIT, RRSIGS_MISSING, SIGNATURE_EXPIRED,
        SIGNATURE_NOT_YET_VALID, UNSUPPORTED_DIGEST, UNSUPPORTED_KEY,
    },
    proof::{Unproven, rrset, signature, signatures_of},
};
use crate::resolver::Resolver;
use hickory_net::proto::{
    dnssec::{
        Proof, Verifier,
        rdata::{DNSKEY, DNSSECRData, DS},
    },
    op::Message,
    rr::{Name, RData, Record, RecordType, SerialNumber},
};
use std::sync::Arc;

/// What is wrong with the signatures of an RRset, without a look at keys.
pub fn fault(of: &(Name, RecordType), section: &[Record]) -> Option<u16> {
    let now = SerialNumber::new(WORK.with(|work| work.clock.unix()) as u32);
    let signatures: Vec<_> = signatures_of(of, section).map(|signature| signature.input()).collect();
    match &signatures[..] {
        [] => Some(RRSIGS_MISSING),
        all if all.iter().all(|signature| signature.sig_expiration < signature.sig_inception) => {
            Some(EXPIRED_BEFORE_VALID)
        }
        all if all.iter().all(|signature| signature.sig_expiration < now) => Some(SIGNATURE_EXPIRED),
        all if all.iter().all(|signature| signature.sig_inception > now) => Some(SIGNATURE_NOT_YET_VALID),
        _ => None,
    }
}

/// What is wrong with the signatures that there are of a section.
pub fn fault_of_any(section: &[Record]) -> Option<u16> {
    section
        .iter()
        .filter(|record| signature(record).is_some())
        .find_map(|record| fault(&rrset(record), section))
}

/// Why an RRset is not believed.
pub async fn not_genuine(resolver: &Arc<Resolver>, of: &(Name, RecordType), section: &[Record]) -> Unproven {
    if let Some(fault) = fault(of, section) {
        return Unproven::Bogus(fault);
    }
    let Some(signature) = signatures_of(of, section).next().map(|signature| signature.input()) else {
        return Unproven::Bogus(BOGUS);
    };
    let zone = &signature.signer_name;
    // They may be had later.
    let keys = match ask::fetch(resolver, zone, RecordType::DNSKEY, false).await {
        Ok((message, _)) => message.answers,
        Err(failed) => return failed,
    };
    let keys: Vec<&DNSKEY> = keys.iter().filter_map(key).collect();
    let with_tag =
        |tag| move |key: &&&DNSKEY| key.calculate_key_tag().is_ok_and(|calculated| calculated == tag);
    let mut signers = keys.iter().filter(with_tag(signature.key_tag)).peekable();
    if signers.peek().is_none() {
        return Unproven::Bogus(DNSKEY_MISSING);
    }
    if signers.all(|key| !key.zone_key()) {
        return Unproven::Bogus(NO_ZONE_KEY_BIT);
    }
    let ds = match ask::fetch(resolver, zone, RecordType::DS, false).await {
        Ok((message, _)) => message.answers,
        Err(failed) => return failed,
    };
    let ds: Vec<&DS> = ds.iter().filter_map(digest).collect();
    let known =
        |ds: &&DS| keys.iter().any(|key| with_tag(ds.key_tag())(&key) && key.algorithm() == ds.algorithm());
    Unproven::Bogus(if ds.is_empty() || ds.iter().any(known) { BOGUS } else { DNSKEY_MISSING })
}

/// What is not understood of the signatures of a zone that counts as unsigned.
pub async fn unsupported(resolver: &Arc<Resolver>, response: &Message) -> Option<u16> {
    let zone = [&response.answers, &response.authorities].into_iter().find_map(|section| {
        let mut insecure = section.iter().filter(|record| record.proof == Proof::Insecure);
        let signature = insecure.find_map(|record| signatures_of(&rrset(record), section).next())?;
        Some(signature.input().signer_name.clone())
    })?;
    let (message, _) = ask::fetch(resolver, &zone, RecordType::DS, false).await.ok()?;
    let ds: Vec<&DS> = message.answers.iter().filter_map(digest).collect();
    if ds.is_empty() {
        return None;
    }
    let known: Vec<_> = ds.iter().filter(|ds| ds.algorithm().is_supported()).collect();
    let digests = known.iter().any(|ds| ds.digest_type().is_supported());
    if known.is_empty() { Some(UNSUPPORTED_KEY) } else { (!digests).then_some(UNSUPPORTED_DIGEST) }
}

fn key(record: &Record) -> Option<&DNSKEY> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::DNSKEY(key)) => Some(key),
        _ => None,
    }
}

fn digest(record: &Record) -> Option<&DS> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::DS(ds)) => Some(ds),
        _ => None,
    }
}
