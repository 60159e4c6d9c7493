//! The search from a trust anchor down to the zone of a name, by DS records (RFC 4035 section 5).
//!
//! A zone counts as signed if its keys match the DS records of its parent, and as unsigned only if
//! the parent has proven that there are none. If a response names its signer, the DS records of
//! that zone and of its parents are fetched directly. Otherwise those of each name on the way are
//! fetched, unless an earlier proof covers the name.

use crate::{
    ResponseSource, Unproven,
    anchor::Anchors,
    budget::Budget,
    crypto,
    denial::{Delegation, Denials},
    ede,
    message::{Response, RrSet, Section},
    name::Name,
    rdata::rtype,
    records::{Dnskey, Ds},
    signature::{self, Keys, Signed, may_sign},
};
use std::sync::Arc;

/// Seconds that a zone counts as bogus: as long as a failure is cached by default, so that a
/// repaired zone soon validates.
const BOGUS_SECS: u32 = 5;

/// Security status of a zone (RFC 4033 section 5).
#[derive(Clone, Debug)]
pub enum Standing {
    /// The zone is signed with these keys.
    Secure(Arc<Keys>),
    /// The zone is unsigned, or counts as unsigned for the reason in an extended error.
    Insecure(Option<u16>),
    /// The zone should be signed and is not, for the reason in an extended error.
    Bogus(u16),
}

/// Statement of a parent zone about a name below it.
enum ParentStatement {
    /// The name is a zone.
    Into(Standing),
    /// The name is not a zone, as these denials prove.
    Stay(Denials),
    /// Nothing is proven, for the reason in an extended error.
    Unproven(u16),
}

/// Validated data, or the extended error with the reason why it does not validate.
type JudgedData<T, E> = Result<Result<T, u16>, Unproven<E>>;

/// Search for the proofs of one answer.
pub struct ProofWalk<'a, S> {
    pub source: &'a S,
    pub anchors: &'a Anchors,
    /// Time in seconds since 1970, the unit of signatures.
    pub now: u32,
    pub budget: Budget,
}

impl<S: ResponseSource> ProofWalk<'_, S> {
    pub async fn ask(&mut self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<S::Error>> {
        self.budget.question()?;
        let response = self.source.ask(name, rtype).await?;
        self.budget.signatures(response.signature_count())?;
        Ok(response)
    }

    /// Returns the standing of a zone that has signed something. If there is no such zone, returns
    /// the standing of the zone that contains the name.
    pub async fn signer(&mut self, zone: &Name) -> Result<Standing, Unproven<S::Error>> {
        let start = self.start(zone).await?;
        if let Standing::Secure(keys) = &start
            && let Some(standing) = self.leap(keys.clone(), zone).await?
        {
            return Ok(standing);
        }
        self.descend(start, zone).await
    }

    /// Returns the standing of the zone that has a name.
    pub async fn zone_of(&mut self, name: &Name) -> Result<Standing, Unproven<S::Error>> {
        let start = self.start(name).await?;
        self.descend(start, name).await
    }

    /// Returns the remembered standing of the closest zone that may have a name.
    pub fn known(&self, name: &Name) -> Option<Standing> {
        let least = self.anchors.labels_above(name)?;
        (least..=name.label_count()).rev().find_map(|labels| self.source.recall(&name.suffix(labels)))
    }

    /// Returns the standing of the closest zone above that is known, or has an anchor.
    async fn start(&mut self, name: &Name) -> Result<Standing, Unproven<S::Error>> {
        // A name below no anchor is not validated (RFC 4033 section 5: indeterminate).
        let Some(least) = self.anchors.labels_above(name) else { return Ok(Standing::Insecure(None)) };
        match self.known(name) {
            Some(standing) => Ok(standing),
            None => {
                let zone = name.suffix(least);
                let anchors = self.anchors;
                self.enter(&zone, |keys| anchors.believed(keys), u32::MAX).await
            }
        }
    }

    /// Follows signers from a zone up to one that is known; `None` if they do not lead there.
    async fn leap(&mut self, from: Arc<Keys>, zone: &Name) -> Result<Option<Standing>, Unproven<S::Error>> {
        let mut path = Vec::new();
        let mut at = zone.clone();
        while at != from.zone {
            let response = match self.ask(&at, rtype::DS).await {
                Ok(response) => response,
                Err(Unproven::Failed(_)) => return Ok(None),
                Err(unproven) => return Err(unproven),
            };
            let Some(parent) = parent_of(&at, &from.zone, &response) else { return Ok(None) };
            path.push((at, response));
            at = parent;
        }
        let mut keys = from;
        while let Some((at, response)) = path.pop() {
            keys = match self.step(&keys, &at, &response).await? {
                ParentStatement::Into(Standing::Secure(keys)) => keys,
                ParentStatement::Into(standing) => return Ok(Some(standing)),
                ParentStatement::Stay(_) if path.is_empty() => keys,
                ParentStatement::Stay(_) | ParentStatement::Unproven(_) => return Ok(None),
            };
        }
        Ok(Some(Standing::Secure(keys)))
    }

    /// Goes down from a zone to the one that contains a name, label by label.
    async fn descend(&mut self, start: Standing, name: &Name) -> Result<Standing, Unproven<S::Error>> {
        let Standing::Secure(mut keys) = start else { return Ok(start) };
        let mut said: Option<Denials> = None;
        for labels in keys.zone.label_count() + 1..=name.label_count() {
            let at = name.suffix(labels);
            if let Some(denials) = &said
                && denials.delegation(&at, &mut self.budget)? == Some(Delegation::None)
            {
                continue;
            }
            let response = self.ask(&at, rtype::DS).await?;
            match self.step(&keys, &at, &response).await? {
                ParentStatement::Into(Standing::Secure(below)) => (keys, said) = (below, None),
                ParentStatement::Into(standing) => return Ok(standing),
                ParentStatement::Stay(denials) => said = Some(denials),
                ParentStatement::Unproven(why) => return Ok(Standing::Bogus(why)),
            }
        }
        Ok(Standing::Secure(keys))
    }

    /// Validates the response to a question for the DS records of a name with the parent's keys.
    async fn step(
        &mut self,
        parent: &Keys,
        name: &Name,
        response: &Response,
    ) -> Result<ParentStatement, Unproven<S::Error>> {
        if let Some(set) = response.set(Section::Answer, name, rtype::DS) {
            let ttl = match self.verify(response, set, parent)? {
                Ok(signed) if signed.next_closer(name).is_none() => signed.ttl().min(ttl_of(response, set)),
                // A wildcard does not delegate (RFC 4592 section 4.6).
                Ok(_) => return Ok(ParentStatement::Unproven(ede::BOGUS)),
                Err(why) => return Ok(ParentStatement::Unproven(why)),
            };
            let ds: Vec<_> = response.rdata_of(set).filter_map(Ds::parse).collect();
            return self.enter_by(name, ds, ttl).await.map(ParentStatement::Into);
        }
        let denials = self.denials(response, parent)?;
        match denials.delegation(name, &mut self.budget)? {
            Some(Delegation::Unsigned(why)) => {
                let standing = Standing::Insecure(why);
                self.source.remember(name, &standing, denials.ttl());
                return Ok(ParentStatement::Into(standing));
            }
            Some(Delegation::None) => return Ok(ParentStatement::Stay(denials)),
            None => {}
        }
        // An alias, or a name below a DNAME, is not a zone (RFC 1034 section 3.6.2, RFC 6672
        // section 2.4).
        let aliases = response.sets().iter().filter(|set| match set.rtype {
            rtype::CNAME => set.owner == *name,
            rtype::DNAME => name.is_below(&set.owner),
            _ => false,
        });
        for set in aliases.filter(|set| set.section == Section::Answer) {
            if self.verify(response, set, parent)?.is_ok() {
                return Ok(ParentStatement::Stay(denials));
            }
        }
        Ok(ParentStatement::Unproven(fault_of_denial(response, self.now)))
    }

    /// Trusts the keys of a zone that match its DS records.
    async fn enter_by(
        &mut self,
        zone: &Name,
        mut ds: Vec<Ds>,
        ttl: u32,
    ) -> Result<Standing, Unproven<S::Error>> {
        // DS records of unknown algorithms are ignored (RFC 4035 section 5.2).
        let understood = ds.extract_if(.., |ds| crypto::supports_algorithm(ds.algorithm));
        let understood: Vec<_> = understood.collect();
        let is_supported = |ds: &&Ds| crypto::supports_digest(ds.digest_type);
        let supported: Vec<Ds> = understood.iter().filter(is_supported).cloned().collect();
        if supported.is_empty() {
            let why = if understood.is_empty() { ede::UNSUPPORTED_KEY } else { ede::UNSUPPORTED_DIGEST };
            let standing = Standing::Insecure(Some(why));
            self.source.remember(zone, &standing, ttl);
            return Ok(standing);
        }
        // SHA-1 digests are ignored beside better ones (RFC 4509 section 3).
        let better: Vec<_> = supported.iter().filter(|ds| ds.digest_type != crypto::SHA1).cloned().collect();
        let ds = if better.is_empty() { supported } else { better };
        self.enter(zone, |keys| keys.told_of(&ds), ttl).await
    }

    /// Trusts all keys of a zone if one of the `believed` keys has signed them.
    async fn enter(
        &mut self,
        zone: &Name,
        believed: impl FnOnce(&Keys) -> Keys + Send,
        ttl: u32,
    ) -> Result<Standing, Unproven<S::Error>> {
        let response = self.ask(zone, rtype::DNSKEY).await?;
        let (standing, ttl) = match self.keys(zone, believed, &response)? {
            Ok((keys, most)) => (Standing::Secure(Arc::new(keys)), ttl.min(most)),
            Err(why) => (Standing::Bogus(why), BOGUS_SECS),
        };
        self.source.remember(zone, &standing, ttl);
        Ok(standing)
    }

    fn keys(
        &mut self,
        zone: &Name,
        believed: impl FnOnce(&Keys) -> Keys,
        response: &Response,
    ) -> JudgedData<(Keys, u32), S::Error> {
        let Some(set) = response.set(Section::Answer, zone, rtype::DNSKEY) else {
            return Ok(Err(ede::DNSKEY_MISSING));
        };
        let keys = Keys::new(zone.clone(), response.rdata_of(set).filter_map(Dnskey::parse));
        let believed = believed(&keys);
        if believed.is_empty() {
            return Ok(Err(ede::DNSKEY_MISSING));
        }
        let verified = self.verify(response, set, &believed)?;
        // A revoked key signs nothing but its revocation (RFC 5011 section 2.1).
        let keys = keys.only(|_, key| !key.is_revoked());
        Ok(verified.map(|signed| (keys, signed.ttl().min(ttl_of(response, set)))))
    }

    /// Returns the denials in a response that a zone has signed.
    pub fn denials(&mut self, response: &Response, keys: &Keys) -> Result<Denials, Unproven<S::Error>> {
        let mut denials = Denials::new(keys.zone.clone());
        for set in response.sets().iter().filter(|set| is_denial(set)) {
            // A wildcard's denial also verifies under the names that the wildcard matches, but
            // proves nothing about them.
            if let Ok(signed) = self.verify(response, set, keys)?
                && signed.next_closer(&set.owner).is_none()
            {
                denials.add(response, set, signed.ttl().min(ttl_of(response, set)));
            }
        }
        Ok(denials)
    }

    pub fn verify(&mut self, response: &Response, set: &RrSet, keys: &Keys) -> JudgedData<Signed, S::Error> {
        Ok(signature::verify(response, set, keys, self.now, &mut self.budget)?)
    }
}

/// Whether a set can prove that something does not exist.
pub fn is_denial(set: &RrSet) -> bool {
    set.section == Section::Authority && matches!(set.rtype, rtype::NSEC | rtype::NSEC3)
}

/// Returns the lowest TTL of a set.
pub fn ttl_of(response: &Response, set: &RrSet) -> u32 {
    set.records.iter().map(|number| response.record(*number).ttl).min().unwrap_or(0)
}

/// Returns the zone that has signed a response's statement about the DS records of `name`. The zone
/// is `least` or below it.
fn parent_of(name: &Name, least: &Name, response: &Response) -> Option<Name> {
    let sets = response.sets().iter().filter(|set| is_denial(set) || set.rtype == rtype::DS);
    let signers = sets.flat_map(|set| response.signatures_of(set)).map(|signature| signature.signer);
    let parents = signers.filter(|zone| may_sign(zone, name, rtype::DS) && zone.is_at_or_below(least));
    parents.max_by_key(Name::label_count)
}

/// Returns the reason for rejecting a denial: faulty signatures, or that there is no denial.
pub fn fault_of_denial(response: &Response, now: u32) -> u16 {
    let mut signed =
        response.sets().iter().filter(|set| set.section == Section::Authority && !set.signatures.is_empty());
    if let Some(why) = signed.clone().find_map(|set| signature::fault(response, set, now)) {
        return why;
    }
    if signed.any(is_denial) { ede::BOGUS } else { ede::NSEC_MISSING }
}
