//! Verification of RRsets with the keys of a zone (RFC 4035 section 5.3).

use crate::{
    budget::{Budget, Spent},
    crypto, ede,
    message::{Response, RrSet},
    name::Name,
    rdata::rtype,
    records::{Dnskey, Ds, Rrsig},
};

/// Most keys tried per signature, among those with its tag and algorithm (KeyTrap, CVE-2023-50387).
const KEYS_OF_SIGNATURE: usize = 2;

/// Public keys of a zone.
#[derive(Clone, Debug)]
pub struct Keys {
    pub zone: Name,
    keys: Vec<(u16, Dnskey)>,
}

impl Keys {
    pub fn new(zone: Name, keys: impl IntoIterator<Item = Dnskey>) -> Self {
        Keys { zone, keys: keys.into_iter().map(|key| (key.tag(), key)).collect() }
    }

    /// Returns the keys that match DS records of the parent.
    pub fn told_of(&self, ds: &[Ds]) -> Self {
        self.only(|tag, key| ds.iter().any(|ds| ds.is_of(&self.zone, tag, key)))
    }

    /// Returns the keys that `wanted` chooses by tag and key.
    pub fn only(&self, wanted: impl Fn(u16, &Dnskey) -> bool) -> Self {
        let keys = self.keys.iter().filter(|(tag, key)| wanted(*tag, key));
        Keys { zone: self.zone.clone(), keys: keys.cloned().collect() }
    }

    /// Returns the memory of the keys, in bytes.
    pub fn bytes(&self) -> usize {
        let key = |(_, key): &(u16, Dnskey)| size_of::<(u16, Dnskey)>() + key.rdata().len();
        size_of::<Self>() + self.zone.as_wire().len() + self.keys.iter().map(key).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn of<'a>(&'a self, signature: &Rrsig<'_>) -> impl Iterator<Item = &'a Dnskey> {
        let wanted = (signature.key_tag, signature.algorithm);
        self.keys.iter().filter(move |(tag, key)| (*tag, key.algorithm()) == wanted).map(|(_, key)| key)
    }
}

/// Properties of an RRset whose signature was verified.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Number of labels of the signed name, without a leading asterisk: fewer than the owner's if
    /// the set was expanded from a wildcard.
    labels: usize,
    /// TTL that the zone gives the set.
    pub original_ttl: u32,
    /// Seconds until the signature expires.
    pub left: u32,
}

impl Signed {
    /// Returns the highest TTL allowed (RFC 4035 section 5.3.3).
    pub fn ttl(&self) -> u32 {
        self.original_ttl.min(self.left)
    }

    /// Returns the next closer name, which must not exist, if a set with this owner was expanded
    /// from a wildcard.
    pub fn next_closer(&self, owner: &Name) -> Option<Name> {
        (self.labels < signed_labels(owner)).then(|| owner.suffix(self.labels + 1))
    }
}

/// Returns the label count in a signature of the name's own records (RFC 4034 section 3.1.3).
fn signed_labels(owner: &Name) -> usize {
    owner.label_count() - usize::from(owner.is_wildcard())
}

/// Whether a zone may sign the records of a name: DS records belong to the parent (RFC 4035 section
/// 5.2).
pub fn may_sign(zone: &Name, owner: &Name, rtype: u16) -> bool {
    if rtype == rtype::DS { owner.is_below(zone) } else { owner.is_at_or_below(zone) }
}

/// Verifies a set with the keys of a zone. Returns the extended error that describes a failure
/// best.
pub fn verify(
    response: &Response,
    set: &RrSet,
    keys: &Keys,
    now: u32,
    budget: &mut Budget,
) -> Result<Result<Signed, u16>, Spent> {
    let mut canonical = None;
    for signature in response.signatures_of(set) {
        if signature.signer != keys.zone || !is_fit(set, &signature, now) {
            continue;
        }
        let canonical = canonical.get_or_insert_with(|| {
            let mut rdata: Vec<_> =
                set.records.iter().map(|number| response.canonical_rdata(*number)).collect();
            rdata.sort_unstable();
            rdata
        });
        let message = signed_data(set, &signature, canonical);
        let for_zones = keys.of(&signature).filter(|key| key.is_for_zones());
        for key in for_zones.take(KEYS_OF_SIGNATURE) {
            budget.verification()?;
            if crypto::verify(signature.algorithm, key.key(), &message, signature.signature) {
                let left = signature.expiration.wrapping_sub(now);
                let labels = usize::from(signature.labels);
                return Ok(Ok(Signed { labels, original_ttl: signature.original_ttl, left }));
            }
        }
    }
    Ok(Err(fault(response, set, now).unwrap_or_else(|| key_fault(response, set, keys))))
}

/// Whether a signature may be verified: RFC 4035 section 5.3.1, except for the key.
fn is_fit(set: &RrSet, signature: &Rrsig<'_>, now: u32) -> bool {
    let labels = usize::from(signature.labels);
    may_sign(&signature.signer, &set.owner, set.rtype)
        // The signed name is at least as long as the zone's, otherwise the zone would sign for
        // zones above it.
        && (signature.signer.label_count()..=signed_labels(&set.owner)).contains(&labels)
        && !set.records.is_empty()
        && !is_after(signature.inception, now)
        && !is_after(now, signature.expiration)
        && !is_after(signature.inception, signature.expiration)
}

/// Whether a time is after another one, in serial number arithmetic (RFC 4034 section 3.1.5).
fn is_after(time: u32, other: u32) -> bool {
    time.wrapping_sub(other) as i32 > 0
}

/// Returns the bytes that a signature covers (RFC 4034 section 3.1.8.1).
fn signed_data(set: &RrSet, signature: &Rrsig<'_>, canonical: &[Vec<u8>]) -> Vec<u8> {
    let labels = usize::from(signature.labels);
    let wildcard = (labels < signed_labels(&set.owner)).then(|| set.owner.suffix(labels).wildcard());
    // The wildcard has fewer labels than the owner, so it is not too long.
    let owner = wildcard.flatten().unwrap_or_else(|| set.owner.clone());
    let mut data = signature.signed_head();
    for rdata in canonical {
        data.extend_from_slice(owner.as_wire());
        data.extend_from_slice(&set.rtype.to_be_bytes());
        data.extend_from_slice(&[0, 1]);
        data.extend_from_slice(&signature.original_ttl.to_be_bytes());
        data.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        data.extend_from_slice(rdata);
    }
    data
}

/// Returns the fault that all signatures of a set share, without considering keys.
pub fn fault(response: &Response, set: &RrSet, now: u32) -> Option<u16> {
    let signatures: Vec<_> = response.signatures_of(set).collect();
    match &signatures[..] {
        [] => Some(ede::RRSIGS_MISSING),
        all if all.iter().all(|signature| is_after(signature.inception, signature.expiration)) => {
            Some(ede::EXPIRED_BEFORE_VALID)
        }
        all if all.iter().all(|signature| is_after(now, signature.expiration)) => {
            Some(ede::SIGNATURE_EXPIRED)
        }
        all if all.iter().all(|signature| is_after(signature.inception, now)) => {
            Some(ede::SIGNATURE_NOT_YET_VALID)
        }
        _ => None,
    }
}

fn key_fault(response: &Response, set: &RrSet, keys: &Keys) -> u16 {
    let signatures = response.signatures_of(set).filter(|signature| signature.signer == keys.zone);
    let signers: Vec<_> = signatures.map(|signature| keys.of(&signature).collect::<Vec<_>>()).collect();
    if signers.iter().all(Vec::is_empty) {
        return ede::DNSKEY_MISSING;
    }
    let none_for_zones = !signers.iter().flatten().any(|key| key.is_for_zones());
    if none_for_zones { ede::NO_ZONE_KEY_BIT } else { ede::BOGUS }
}

#[cfg(test)]
mod tests;
