//! What the validator finds out about a response, and what is made of it.

use super::{
    ask::{self, Ask, WORK},
    extended::{BOGUS, INDETERMINATE, NSEC_MISSING, UNSUPPORTED_ITERATIONS},
    why,
};
use crate::resolver::{Resolver, upstream::Failed};
use data_encoding::BASE32_DNSSEC;
use hickory_net::{
    DnsError, DnsHandle, NetError,
    dnssec::DnssecDnsHandle,
    proto::{
        dnssec::{
            Proof,
            rdata::{DNSSECRData, NSEC3, RRSIG},
        },
        op::{DnsRequestOptions, Message, Query, ResponseCode},
        rr::{Name, RData, Record, RecordType},
        serialize::binary::BinDecodable,
    },
    xfer::FirstAnswer,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// RRsets of a response that are looked at; what has more is not believed.
const RRSETS_MAX: usize = 64;

/// What can be answered with.
pub struct Proven {
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub code: ResponseCode,
    /// Whether all of it is signed, rather than proven to be unsigned.
    pub secure: bool,
    /// Why it counts as unsigned though it is not, as an extended error.
    pub ede: Option<u16>,
}

impl Proven {
    /// A response of which nothing is to be proven.
    pub fn as_it_came(message: Message, ede: Option<u16>) -> Self {
        let code = message.metadata.response_code;
        Proven { answers: message.answers, authorities: message.authorities, code, secure: false, ede }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub enum Unproven {
    /// It is not genuine; an extended error says why.
    Bogus(u16),
    /// It could not be had, or not be found out.
    Failed(Failed),
}

/// Proof and TTL of each RRset.
type Proofs = HashMap<(Name, RecordType), (Proof, u32)>;

/// Proves a response in which all proofs are about one name.
pub async fn prove(
    handle: &DnssecDnsHandle<Ask>,
    resolver: &Arc<Resolver>,
    name: &Name,
    qtype: RecordType,
    message: &Message,
) -> Result<Proven, Unproven> {
    WORK.with(|work| work.failed.set(None));
    let proven = match verify(handle, name, qtype, message).await {
        Ok(verified) => check(resolver, name, message, verified).await,
        Err(unproven) => Err(unproven),
    };
    match proven {
        // It is not known to be false if what proves it could not be had.
        Err(Unproven::Bogus(code)) => {
            Err(WORK.with(|work| work.failed.take()).unwrap_or(Unproven::Bogus(code)))
        }
        proven => proven,
    }
}

/// What the validator says of a response.
struct Verified {
    /// The response, in which each record has its proof.
    response: Message,
    /// Whether all that is missing from it is proven to be, rather than proven to be unproven.
    denied: bool,
    ede: Option<u16>,
}

async fn verify(
    handle: &DnssecDnsHandle<Ask>,
    name: &Name,
    qtype: RecordType,
    message: &Message,
) -> Result<Verified, Unproven> {
    let sections = || message.answers.iter().chain(&message.authorities);
    if sections().map(rrset).collect::<HashSet<_>>().len() > RRSETS_MAX {
        return Err(Unproven::Bogus(INDETERMINATE));
    }
    let query = Query::query(name.clone(), qtype);
    let (response, proof) = match handle.lookup(query, DnsRequestOptions::default()).first_answer().await {
        Ok(response) => (response.into_message(), Proof::Secure),
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => (response.into_message(), proof),
        Err(error) => {
            tracing::debug!(%name, %qtype, %error, "not validated");
            return Err(Unproven::Bogus(INDETERMINATE));
        }
    };
    match proof {
        Proof::Secure => Ok(Verified { response, denied: true, ede: None }),
        Proof::Insecure => {
            let ede = ask::iterates_too_often(message).then_some(UNSUPPORTED_ITERATIONS);
            Ok(Verified { response, denied: false, ede })
        }
        // The validator of hickory-net 0.26 wants a denial for each answer to ANY.
        _ if is_whole(name, qtype, &response) => Ok(Verified { response, denied: true, ede: None }),
        _ => {
            let is_proof =
                |record: &&Record| matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3);
            let false_proofs = || {
                let mut proofs = response.authorities.iter().filter(is_proof);
                proofs.any(|record| record.proof != Proof::Secure)
            };
            let code = why::fault_of_any(&message.authorities)
                .unwrap_or_else(|| if false_proofs() { BOGUS } else { NSEC_MISSING });
            Err(Unproven::Bogus(code))
        }
    }
}

/// Whether a response answers its question without a denial of anything, or with one that suffices.
fn is_whole(name: &Name, qtype: RecordType, response: &Message) -> bool {
    let answers =
        |record: &Record| record.name == *name && (qtype == RecordType::ANY || record.record_type() == qtype);
    let expanded = response.answers.iter().any(is_expanded);
    response.answers.iter().any(answers) && (!expanded || expansions_are_proven(response))
}

/// Takes from a response what is proven of it.
async fn check(
    resolver: &Arc<Resolver>,
    name: &Name,
    message: &Message,
    verified: Verified,
) -> Result<Proven, Unproven> {
    let Verified { response, denied, ede } = verified;
    let mut secure = denied;
    let proofs = proofs_of(&response.answers);
    let mut answers = message.answers.clone();
    for record in &mut answers {
        let of = rrset(record);
        match proofs.get(&of) {
            Some((Proof::Secure, ttl)) => record.ttl = lifetime(record, *ttl, &message.answers)?,
            Some((Proof::Insecure, _)) => secure = false,
            // It is all that was asked for, and nothing signs it.
            None if record.record_type() == RecordType::RRSIG => secure = false,
            _ if is_synthesised(record, &response.answers) => {}
            _ => return Err(why::not_genuine(resolver, &of, &message.answers).await),
        }
    }
    let proofs = proofs_of(&response.authorities);
    let mut authorities = Vec::new();
    for record in &message.authorities {
        let mut record = record.clone();
        let of = rrset(&record);
        match proofs.get(&of) {
            Some((Proof::Secure, ttl)) => record.ttl = lifetime(&record, *ttl, &message.authorities)?,
            Some((Proof::Insecure, _)) if answers.is_empty() => secure = false,
            Some((Proof::Insecure, _)) if !secure => {}
            // It is no part of an answer that there is.
            _ if !answers.is_empty() => continue,
            _ => return Err(why::not_genuine(resolver, &of, &message.authorities).await),
        }
        authorities.push(record);
    }
    if answers.is_empty() && !secure && denied && !is_of_unsigned_zone(name, &response) {
        return Err(Unproven::Bogus(NSEC_MISSING));
    }
    let nothing = answers.is_empty() && authorities.is_empty();
    secure &= !nothing && !is_opted_out(name, &response);
    let ede = match ede {
        None if !secure => why::unsupported(resolver, &response).await,
        ede => ede,
    };
    Ok(Proven { answers, authorities, code: message.metadata.response_code, secure, ede })
}

/// Whether a denial is by a zone that the name is in, and that has nothing to prove it with. hickory-net 0.26 takes any unsigned
/// record for that.
fn is_of_unsigned_zone(name: &Name, response: &Message) -> bool {
    response.authorities.iter().any(|record| {
        record.record_type() == RecordType::SOA
            && record.proof == Proof::Insecure
            && record.name.zone_of(name)
    })
}

/// Whether something may be there all the same, unsigned: NSEC3 with opt-out leaves out what is delegated without DS, so that a
/// denial by what it covers is no proof (RFC 5155 section 9.2).
fn is_opted_out(name: &Name, response: &Message) -> bool {
    let proofs = response.authorities.iter().filter_map(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => Some((&record.name, nsec3)),
        _ => None,
    });
    // What is said of the name itself is signed.
    let is_of_name = |(owner, nsec3): (&Name, &NSEC3)| {
        let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations());
        hash.is_ok_and(|hash| {
            let label = BASE32_DNSSEC.encode(hash.as_ref());
            owner.iter().next().is_some_and(|first| first.eq_ignore_ascii_case(label.as_bytes()))
        })
    };
    proofs.clone().any(|(_, nsec3)| nsec3.opt_out()) && !proofs.clone().any(is_of_name)
}

/// The TTL of a record that was proven: it ends with the signatures of its RRset (RFC 4035 section 5.3.3).
fn lifetime(record: &Record, proven: u32, section: &[Record]) -> Result<u32, Unproven> {
    let of = rrset(record);
    // What was proven a while ago may have expired since.
    if let Some(fault) = why::fault(&of, section) {
        return Err(Unproven::Bogus(fault));
    }
    let now = WORK.with(|work| work.clock.unix()) as u32;
    let left = |signature: &RRSIG| signature.input().sig_expiration.get().wrapping_sub(now);
    let last = signatures_of(&of, section).map(left).filter(|left| *left <= i32::MAX as u32).max();
    Ok(record.ttl.min(proven).min(last.unwrap_or(0)))
}

/// The RRset that a record belongs to, a signature to the one that it signs.
pub fn rrset(record: &Record) -> (Name, RecordType) {
    let covered = signature(record).map_or(record.record_type(), |signature| signature.input().type_covered);
    (record.name.clone(), covered)
}

/// The signatures of an RRset.
pub fn signatures_of<'a>(of: &(Name, RecordType), section: &'a [Record]) -> impl Iterator<Item = &'a RRSIG> {
    section.iter().filter_map(signature_and_owner).filter_map(move |(owner, signature)| {
        (*owner == of.0 && signature.input().type_covered == of.1).then_some(signature)
    })
}

fn signature_and_owner(record: &Record) -> Option<(&Name, &RRSIG)> {
    Some((&record.name, signature(record)?))
}

pub fn signature(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) => Some(signature),
        _ => None,
    }
}

/// Whether it signs what was made from a wildcard.
pub fn is_expanded(record: &Record) -> bool {
    signature(record).is_some_and(|signature| signature.input().num_labels < record.name.num_labels())
}

fn proofs_of(records: &[Record]) -> Proofs {
    let mut proofs = Proofs::new();
    for record in records.iter().filter(|record| signature(record).is_none()) {
        let (proof, ttl) = proofs.entry(rrset(record)).or_insert((record.proof, record.ttl));
        *proof = (*proof).min(record.proof);
        *ttl = (*ttl).min(record.ttl);
    }
    proofs
}

/// Whether it is the alias that a genuine DNAME record makes (RFC 6672 section 5.3.1): such have no signature.
fn is_synthesised(record: &Record, verified: &[Record]) -> bool {
    let RData::CNAME(target) = &record.data else { return false };
    verified.iter().filter(|dname| dname.proof == Proof::Secure).any(|dname| {
        let RData::Unknown { code: RecordType::DNAME, rdata } = &dname.data else { return false };
        let Ok(to) = Name::from_bytes(&rdata.anything) else { return false };
        let (owner, from) = (&record.name, &dname.name);
        if !from.zone_of(owner) || owner.num_labels() == from.num_labels() {
            return false;
        }
        let front = usize::from(owner.num_labels() - from.num_labels());
        Name::from_labels(owner.iter().take(front).chain(to.iter())).is_ok_and(|made| made == target.0)
    })
}

/// Whether all that was made from wildcards had to be (RFC 4035 section 5.3.4): an NSEC record proves that there is nothing
/// closer. hickory-net 0.26 does not see it where that record is the wildcard's own, which is most often so.
fn expansions_are_proven(verified: &Message) -> bool {
    let is_secure = |record: &&Record| signature(record).is_some() || record.proof == Proof::Secure;
    let mut expanded = verified.answers.iter().filter(|record| is_expanded(record)).peekable();
    let proves = |closer: &Name| {
        verified.authorities.iter().filter(|record| record.proof == Proof::Secure).any(|record| {
            let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else { return false };
            let (owner, next, types) = (&record.name, nsec.next_domain_name(), nsec.type_set());
            // That of a parent, or above a DNAME, says nothing about names below (RFC 6840 section 4.1).
            let leads_away = types.contains(RecordType::DNAME)
                || types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
            let is_last = next <= owner && next.zone_of(closer);
            owner < closer
                && (closer < next && !closer.zone_of(next) || is_last)
                && !(leads_away && owner.zone_of(closer))
        })
    };
    expanded.peek().is_some()
        && verified.answers.iter().all(|record| is_secure(&record))
        && expanded
            .filter_map(signature_and_owner)
            .all(|(owner, signature)| proves(&owner.trim_to(usize::from(signature.input().num_labels) + 1)))
}
