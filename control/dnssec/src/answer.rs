//! Validation of an answer: each name in the chain of its aliases, and at the end the records or
//! the proof that there are none.

use crate::{
    ResponseSource, Unproven,
    anchor::Anchors,
    budget::Budget,
    denial::{Denials, Strength},
    ede,
    message::{Response, RrSet, Section},
    name::Name,
    proven::{ProvenAnswer, ProvenRecord, SignedSet, push, record},
    rdata::rtype,
    signature::{self, Keys, Signed, may_sign},
    walk::{ProofWalk, Standing, fault_of_denial, is_denial},
};
use std::sync::Arc;

/// Most aliases that are followed.
const ALIASES_MAX: usize = 11;

const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
const YXDOMAIN: u8 = 6;

/// Validates the `response` to a question in class IN that was asked with DO=1 and CD=1. `now` is
/// the time in seconds since 1970.
pub async fn validate<S: ResponseSource>(
    source: &S,
    anchors: &Anchors,
    now: u32,
    name: &Name,
    qtype: u16,
    response: Arc<Response>,
) -> Result<ProvenAnswer, Unproven<S::Error>> {
    let mut walk = ProofWalk { source, anchors, now, budget: Budget::default() };
    walk.budget.signatures(response.signature_count())?;
    let verdict = ProvenAnswer { secure: true, ..ProvenAnswer::default() };
    let mut judge = Judge { walk, qtype, verdict };
    let (mut at, mut response, mut is_own) = (name.clone(), response, true);
    let mut passed = Vec::new();
    while passed.len() <= ALIASES_MAX {
        // An exempt name is answered by its own servers alone, so what another name's response says
        // of it does not count.
        if !is_own && source.is_exempt(&at, qtype) {
            (response, is_own) = (judge.walk.ask(&at, qtype).await?, true);
        }
        let before = judge.verdict.clone();
        let link = match judge.link(&response, &at).await {
            // A response about several names may lack the proofs for some of them, as may one
            // joined from several.
            Err(Unproven::Bogus(_)) if !is_own => {
                judge.verdict = before;
                response = judge.walk.ask(&at, qtype).await?;
                judge.link(&response, &at).await
            }
            Err(Unproven::Bogus(ede::NSEC_MISSING)) if judge.alias_at(&response, &at).is_some() => {
                judge.verdict = before;
                let alone = judge.walk.ask(&at, rtype::CNAME).await?;
                judge.alias(&alone, &at).await.map(Some)
            }
            link => link,
        };
        let Some(target) = link? else { return Ok(judge.verdict) };
        passed.push(std::mem::replace(&mut at, target));
        if passed.contains(&at) {
            break;
        }
        is_own = false;
    }
    Err(Unproven::Bogus(ede::BOGUS))
}

/// Result of validating an RRset.
enum Genuine {
    Secure(Signed, Arc<Keys>),
    /// The set belongs to an unsigned zone.
    Insecure(Option<u16>),
}

/// A validation in progress.
struct Judge<'a, S> {
    walk: ProofWalk<'a, S>,
    qtype: u16,
    verdict: ProvenAnswer,
}

impl<S: ResponseSource> Judge<'_, S> {
    /// Validates what a response says of a name, and returns the target if the name is an alias.
    async fn link(&mut self, response: &Response, name: &Name) -> Result<Option<Name>, Unproven<S::Error>> {
        let qtype = self.qtype;
        let at_name =
            response.sets().iter().filter(|set| set.section == Section::Answer && set.owner == *name);
        match qtype {
            rtype::ANY => {
                let sets: Vec<_> = at_name.filter(|set| !set.records.is_empty()).collect();
                for set in &sets {
                    self.records(response, set).await?;
                }
                if !sets.is_empty() {
                    return Ok(None);
                }
            }
            // Signatures are not signed themselves.
            rtype::RRSIG => {
                let mut signatures = at_name.flat_map(|set| &set.signatures).peekable();
                if signatures.peek().is_some() {
                    let records: Vec<_> =
                        signatures.map(|number| record(response, *number, u32::MAX)).collect();
                    self.verdict.answers.extend(records);
                    self.verdict.secure = false;
                    return Ok(None);
                }
            }
            _ => {
                if let Some(set) = response.set(Section::Answer, name, qtype) {
                    self.records(response, set).await?;
                    return Ok(None);
                }
            }
        }
        if self.alias_at(response, name).is_some() {
            return self.alias(response, name).await.map(Some);
        }
        if alias(response, name).is_some() {
            // The alias was asked for, and the server has left synthesising it to its clients.
            return self.alias(response, name).await.map(|_| None);
        }
        if let Some(dname) = dname(response, name).filter(|dname| is_too_long(response, dname, name)) {
            let genuine = self.genuine(response, dname).await?;
            self.take(response, dname, genuine)?;
            self.verdict.rcode = YXDOMAIN;
            return Ok(None);
        }
        self.denial(response, name).await.map(|()| None)
    }

    /// Returns the target of a name that is an alias, unless the alias itself was asked for.
    fn alias_at(&self, response: &Response, name: &Name) -> Option<Name> {
        let is_asked_for = matches!(self.qtype, rtype::CNAME | rtype::ANY);
        alias(response, name).filter(|_| !is_asked_for)
    }

    /// Adds a set to the answer if it validates.
    async fn records(&mut self, response: &Response, set: &RrSet) -> Result<(), Unproven<S::Error>> {
        if set.rtype == rtype::CNAME && self.is_made(response, set).await? {
            return Ok(());
        }
        let genuine = self.genuine(response, set).await?;
        self.take(response, set, genuine)
    }

    /// Adds the alias at a name to the answer, and returns its target.
    async fn alias(&mut self, response: &Response, name: &Name) -> Result<Name, Unproven<S::Error>> {
        const BOGUS: u16 = ede::BOGUS;
        let target = alias(response, name).ok_or(Unproven::Bogus(BOGUS))?;
        match response.set(Section::Answer, name, rtype::CNAME) {
            // An alias has one target (RFC 2181 section 10.1).
            Some(set) if set.records.len() == 1 => self.records(response, set).await?,
            Some(_) => return Err(Unproven::Bogus(BOGUS)),
            // The server left synthesising the alias to its clients (RFC 6672 section 3.1).
            None => {
                let dname = dname(response, name).ok_or(Unproven::Bogus(BOGUS))?;
                let genuine = self.genuine(response, dname).await?;
                let made = |ttl| ProvenRecord {
                    owner: name.as_wire().to_vec(),
                    rtype: rtype::CNAME,
                    ttl,
                    rdata: target.as_wire().to_vec(),
                };
                self.take(response, dname, genuine)?;
                let ttl = self.verdict.answers.last().map_or(0, |record| record.ttl);
                self.verdict.answers.push(made(ttl));
            }
        }
        Ok(target)
    }

    /// Whether an alias was synthesised from a signed DNAME record: such aliases have no signature
    /// (RFC 6672 section 5.3.1). Adds both to the answer in that case.
    async fn is_made(&mut self, response: &Response, set: &RrSet) -> Result<bool, Unproven<S::Error>> {
        let Some(dname) = dname(response, &set.owner) else { return Ok(false) };
        let Some(target) = made(response, dname, &set.owner) else { return Ok(false) };
        let same = |rdata: &[u8]| Name::from_wire(rdata).is_some_and(|name| name == target);
        if !response.rdata_of(set).all(same) {
            return Ok(false);
        }
        let genuine = self.genuine(response, dname).await?;
        let ttl = match &genuine {
            Genuine::Secure(signed, _) => Some(signed.ttl()),
            // Without a signed DNAME, the alias itself must belong to an unsigned zone.
            Genuine::Insecure(_) => None,
        };
        self.take(response, dname, genuine)?;
        let Some(ttl) = ttl else { return Ok(false) };
        let records = set.records.iter().map(|number| record(response, *number, ttl));
        self.verdict.answers.extend(records);
        Ok(true)
    }

    /// Adds a set to the answer. If it was expanded from a wildcard, checks and adds the proof that
    /// no closer name exists.
    fn take(&mut self, response: &Response, set: &RrSet, genuine: Genuine) -> Result<(), Unproven<S::Error>> {
        let (signed, keys) = match genuine {
            Genuine::Secure(signed, keys) => (signed, keys),
            Genuine::Insecure(why) => {
                self.is_insecure(why);
                push(&mut self.verdict.answers, response, set, u32::MAX);
                let unsigned: Vec<_> = response
                    .sets()
                    .iter()
                    .filter(|set| set.section == Section::Authority)
                    .filter(|set| self.is_known_insecure(&set.owner, set.rtype))
                    .collect();
                for set in unsigned {
                    push(&mut self.verdict.authorities, response, set, u32::MAX);
                }
                return Ok(());
            }
        };
        if let Some(next_closer) = signed.next_closer(&set.owner) {
            let denials = self.walk.denials(response, &keys)?;
            match denials.closer(&next_closer, &mut self.walk.budget)? {
                Some(Strength::Secure) if response.is_for_ranges => {
                    let ttl = signed.ttl();
                    let wildcard = SignedSet::of_wildcard(response, set, &keys.zone, ttl, &next_closer);
                    self.verdict.denials.extend(wildcard);
                }
                Some(Strength::Secure) => {}
                Some(Strength::Insecure(why)) => self.is_insecure(why),
                None => return Err(Unproven::Bogus(ede::NSEC_MISSING)),
            }
        }
        push(&mut self.verdict.answers, response, set, signed.ttl());
        self.take_authorities(response, &keys)
    }

    /// Adds the sets of the authority section that a zone has signed. The others are no part of the
    /// answer.
    fn take_authorities(&mut self, response: &Response, keys: &Keys) -> Result<(), Unproven<S::Error>> {
        for set in response.sets().iter().filter(|set| set.section == Section::Authority) {
            if let Ok(signed) = self.walk.verify(response, set, keys)? {
                push(&mut self.verdict.authorities, response, set, signed.ttl());
                // A set that was expanded from a wildcard says nothing of the names about it.
                if response.is_for_ranges && signed.next_closer(&set.owner).is_none() {
                    let denial = SignedSet::of(response, set, &keys.zone, signed.ttl());
                    self.verdict.denials.extend(denial);
                }
            }
        }
        Ok(())
    }

    fn is_insecure(&mut self, why: Option<u16>) {
        self.verdict.secure = false;
        self.verdict.ede = self.verdict.ede.or(why);
    }

    /// Whether a set is known to belong to an unsigned zone.
    fn is_known_insecure(&self, owner: &Name, rtype: u16) -> bool {
        let walk = &self.walk;
        let standing = walk.known(&zone_owner(owner, rtype));
        walk.source.is_exempt(owner, rtype)
            || walk.anchors.labels_above(owner).is_none()
            || matches!(standing, Some(Standing::Insecure(_)))
    }

    /// Returns whether a set is signed, or belongs to an unsigned zone.
    async fn genuine(&mut self, response: &Response, set: &RrSet) -> Result<Genuine, Unproven<S::Error>> {
        if self.walk.source.is_exempt(&set.owner, set.rtype) {
            return Ok(Genuine::Insecure(None));
        }
        // A record in place of DS records belongs to the parent zone, too.
        let is_in_place = self.qtype == rtype::DS && set.rtype == rtype::CNAME;
        let rtype = if is_in_place { rtype::DS } else { set.rtype };
        let (mut why, mut failed) = (signature::fault(response, set, self.walk.now), None);
        if why.is_none() {
            for zone in signers(response, [set], &set.owner, rtype) {
                match self.walk.signer(&zone).await {
                    Ok(Standing::Secure(keys)) if keys.zone == zone => {
                        match self.walk.verify(response, set, &keys)? {
                            Ok(signed) => return Ok(Genuine::Secure(signed, keys)),
                            Err(fault) => why = why.or(Some(fault)),
                        }
                    }
                    Ok(Standing::Insecure(why)) => return Ok(Genuine::Insecure(why)),
                    Ok(Standing::Bogus(fault)) => why = why.or(Some(fault)),
                    Ok(Standing::Secure(_)) => {}
                    Err(Unproven::Failed(error)) => failed = Some(error),
                    Err(unproven) => return Err(unproven),
                }
            }
        }
        // The set may be in an unsigned zone, whatever signatures it has.
        match self.walk.zone_of(&zone_owner(&set.owner, rtype)).await? {
            Standing::Insecure(why) => return Ok(Genuine::Insecure(why)),
            Standing::Bogus(fault) => why = why.or(Some(fault)),
            Standing::Secure(_) => {}
        }
        Err(failed.map_or(Unproven::Bogus(why.unwrap_or(ede::BOGUS)), Unproven::Failed))
    }

    /// Adds the proof that a name has no records of the type.
    async fn denial(&mut self, response: &Response, name: &Name) -> Result<(), Unproven<S::Error>> {
        self.verdict.rcode = response.rcode;
        let qtype = self.qtype;
        if self.walk.source.is_exempt(name, qtype) {
            return self.take_unsigned(response, name, None);
        }
        let mut failed = None;
        let least = self.walk.anchors.labels_above(&zone_owner(name, qtype)).unwrap_or(0);
        let denials = response.sets().iter().filter(|set| is_denial(set));
        for zone in signers(response, denials, name, qtype) {
            match self.walk.signer(&zone).await {
                Ok(Standing::Secure(keys)) if keys.zone == zone => {
                    let denials = self.walk.denials(response, &keys)?;
                    let Some((rcode, strength)) = self.denied(response.rcode, &denials, name)? else {
                        continue;
                    };
                    if let Strength::Insecure(why) = strength {
                        // A closer anchor says that the name belongs to a signed zone, so the
                        // opt-out of a zone above proves nothing.
                        if zone.label_count() < least {
                            continue;
                        }
                        self.is_insecure(why);
                    }
                    self.verdict.rcode = rcode;
                    return self.take_authorities(response, &keys);
                }
                Ok(Standing::Insecure(why)) => return self.take_unsigned(response, name, why),
                Ok(_) => {}
                Err(Unproven::Failed(error)) => failed = Some(error),
                Err(unproven) => return Err(unproven),
            }
        }
        if let Standing::Insecure(why) = self.walk.zone_of(&zone_owner(name, qtype)).await? {
            return self.take_unsigned(response, name, why);
        }
        let why = fault_of_denial(response, self.walk.now);
        Err(failed.map_or(Unproven::Bogus(why), Unproven::Failed))
    }

    /// Returns the response code that a zone's denials prove for a name, and the strength of the
    /// proof.
    fn denied(
        &mut self,
        rcode: u8,
        denials: &Denials,
        name: &Name,
    ) -> Result<Option<(u8, Strength)>, Unproven<S::Error>> {
        let budget = &mut self.walk.budget;
        if rcode == NXDOMAIN
            && let Some(strength) = denials.name(name, budget)?
        {
            return Ok(Some((NXDOMAIN, strength)));
        }
        // Some servers send NXDOMAIN for a name with other names below it. Opt-out does not prove
        // such a name.
        let proven = denials.records(name, self.qtype, budget)?;
        let proven = proven.filter(|strength| rcode != NXDOMAIN || matches!(strength, Strength::Secure));
        Ok(proven.map(|strength| (NOERROR, strength)))
    }

    /// Adds the denial of an unsigned zone, which has no proof.
    fn take_unsigned(
        &mut self,
        response: &Response,
        name: &Name,
        why: Option<u16>,
    ) -> Result<(), Unproven<S::Error>> {
        self.is_insecure(why);
        for set in response.sets().iter().filter(|set| set.section == Section::Authority) {
            // The SOA sets the TTL of the denial, and may be the parent's.
            let is_soa = set.rtype == rtype::SOA && name.is_at_or_below(&set.owner);
            if is_soa || self.is_known_insecure(&set.owner, set.rtype) {
                push(&mut self.verdict.authorities, response, set, u32::MAX);
            }
        }
        Ok(())
    }
}

/// Returns a name in the zone that has the records of a type at `name`.
fn zone_owner(name: &Name, rtype: u16) -> Name {
    match rtype {
        // The root has no parent and answers for itself.
        rtype::DS => name.parent().unwrap_or_else(Name::root),
        _ => name.clone(),
    }
}

/// Returns the zones that claim to have signed sets about a name, each once, the closest first.
fn signers<'a>(
    response: &Response,
    sets: impl IntoIterator<Item = &'a RrSet>,
    name: &Name,
    rtype: u16,
) -> Vec<Name> {
    let mut zones = Vec::new();
    for set in sets {
        for signature in response.signatures_of(set) {
            let is_root = name.is_root() && signature.signer.is_root();
            let may_sign = is_root || may_sign(&signature.signer, name, rtype);
            if may_sign && !zones.contains(&signature.signer) {
                zones.push(signature.signer);
            }
        }
    }
    zones.sort_by_key(|zone| std::cmp::Reverse(zone.label_count()));
    zones
}

/// Returns the target of a name, if a response says that it is an alias.
fn alias(response: &Response, name: &Name) -> Option<Name> {
    match response.set(Section::Answer, name, rtype::CNAME) {
        Some(set) => Name::from_wire(response.rdata_of(set).next()?),
        None => made(response, dname(response, name)?, name),
    }
}

/// Returns the DNAME record above a name.
fn dname<'a>(response: &'a Response, name: &Name) -> Option<&'a RrSet> {
    let above = |set: &&RrSet| {
        set.section == Section::Answer
            && set.rtype == rtype::DNAME
            && set.records.len() == 1
            && name.is_below(&set.owner)
    };
    response.sets().iter().find(above)
}

/// Returns the name that a DNAME record redirects to (RFC 6672 section 2.2); `None` if that is too
/// long.
fn made(response: &Response, dname: &RrSet, name: &Name) -> Option<Name> {
    let to = Name::from_wire(response.rdata_of(dname).next()?)?;
    let labels = name.label_count() - dname.owner.label_count();
    let mut front: Vec<_> = name.labels().take(labels).collect();
    front.reverse();
    front.into_iter().try_fold(to, |to, label| to.prepend(label))
}

/// Whether a DNAME record redirects a name to one that is too long (RFC 6672 section 2.2:
/// YXDOMAIN).
fn is_too_long(response: &Response, dname: &RrSet, name: &Name) -> bool {
    let has_target = |rdata| Name::from_wire(rdata).is_some();
    response.rdata_of(dname).next().is_some_and(has_target) && made(response, dname, name).is_none()
}
