//! Trust anchors (RFC 4035 section 4.4).

use crate::{
    crypto,
    name::Name,
    rdata::rtype,
    records::{Dnskey, Ds},
    signature::Keys,
};

/// Key that is trusted without proof, or its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustAnchor {
    /// Digest of a key.
    Ds(Ds),
    /// The key itself.
    Key(Dnskey),
}

impl TrustAnchor {
    /// Parses the RDATA of a DS or DNSKEY record.
    pub fn parse(rtype: u16, rdata: &[u8]) -> Result<Self, Unusable> {
        if rtype == rtype::DS {
            let ds = Ds::parse(rdata).ok_or(Unusable::Malformed)?;
            let is_supported =
                crypto::supports_algorithm(ds.algorithm) && crypto::supports_digest(ds.digest_type);
            return if is_supported { Ok(TrustAnchor::Ds(ds)) } else { Err(Unusable::Unsupported) };
        }
        let key = Dnskey::parse(rdata).filter(|_| rtype == rtype::DNSKEY).ok_or(Unusable::Malformed)?;
        if !crypto::supports_algorithm(key.algorithm()) {
            return Err(Unusable::Unsupported);
        }
        let is_for_us = key.is_for_zones() && !key.is_revoked();
        if is_for_us { Ok(TrustAnchor::Key(key)) } else { Err(Unusable::NotForZones) }
    }

    /// Returns the type of the record.
    pub fn rtype(&self) -> u16 {
        match self {
            TrustAnchor::Ds(_) => rtype::DS,
            TrustAnchor::Key(_) => rtype::DNSKEY,
        }
    }

    /// Returns the RDATA of the record.
    pub fn rdata(&self) -> Vec<u8> {
        match self {
            TrustAnchor::Ds(ds) => ds.rdata(),
            TrustAnchor::Key(key) => key.rdata().to_vec(),
        }
    }

    /// Returns the tag of the key.
    pub fn key_tag(&self) -> u16 {
        match self {
            TrustAnchor::Ds(ds) => ds.key_tag,
            TrustAnchor::Key(key) => key.tag(),
        }
    }

    /// Whether this is the anchor of a zone's key, whose tag is `tag`.
    pub(crate) fn is_of(&self, zone: &Name, tag: u16, key: &Dnskey) -> bool {
        match self {
            TrustAnchor::Ds(ds) => ds.is_of(zone, tag, key),
            TrustAnchor::Key(anchor) => anchor == key && key.is_for_zones(),
        }
    }
}

/// Zones whose keys are trusted. Names below none of them are not validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors(Vec<(Name, Vec<TrustAnchor>)>);

/// Reason for a record that cannot be a trust anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The RDATA is too short, or of another type.
    Malformed,
    /// The algorithm or digest type is not supported.
    Unsupported,
    /// The key is not one for zones (RFC 4034 section 2.1.1), or was revoked (RFC 5011 section 2.1).
    NotForZones,
}

impl Anchors {
    /// Adds an anchor of a zone.
    pub fn add(&mut self, zone: &Name, anchor: TrustAnchor) {
        match self.0.iter_mut().find(|(known, _)| known == zone) {
            Some((_, anchors)) => anchors.push(anchor),
            None => self.0.push((zone.clone(), vec![anchor])),
        }
    }

    /// Returns anchors of a root whose keys are unknown, so that nothing below it validates.
    pub fn unknown_root() -> Self {
        Anchors(vec![(Name::root(), Vec::new())])
    }

    /// Whether there are no anchors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the zones and their anchors.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &[TrustAnchor])> {
        self.0.iter().map(|(zone, anchors)| (zone, &anchors[..]))
    }

    /// Returns the number of labels of the longest zone with an anchor that is `name` or above it;
    /// `None` if there is none.
    pub fn labels_above(&self, name: &Name) -> Option<usize> {
        let above = self.0.iter().filter(|(zone, _)| name.is_at_or_below(zone));
        above.map(|(zone, _)| zone.label_count()).max()
    }

    /// Returns the keys of a zone that its anchors make trusted.
    pub(crate) fn believed(&self, keys: &Keys) -> Keys {
        let anchors = self.0.iter().find(|(zone, _)| *zone == keys.zone);
        let anchors = anchors.map_or(&[][..], |(_, anchors)| anchors);
        keys.only(|tag, key| anchors.iter().any(|anchor| anchor.is_of(&keys.zone, tag, key)))
    }
}
