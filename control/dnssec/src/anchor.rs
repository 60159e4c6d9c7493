//! Trust anchors (RFC 4035 section 4.4).

use crate::{
    crypto,
    name::Name,
    records::{Dnskey, Ds},
    signature::Keys,
};

/// Keys of one zone that are trusted without proof.
#[derive(Clone, Debug)]
struct Anchor {
    zone: Name,
    ds: Vec<Ds>,
    keys: Vec<Dnskey>,
}

/// Zones whose keys are trusted. Names below none of them are not validated.
#[derive(Clone, Debug, Default)]
pub struct Anchors(Vec<Anchor>);

/// Reason for a record that cannot be a trust anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The RDATA is too short.
    Malformed,
    /// The algorithm or digest type is not supported.
    Unsupported,
    /// The key is not one for zones (RFC 4034 section 2.1.1), or was revoked (RFC 5011 section 2.1).
    NotForZones,
}

impl Anchors {
    /// Adds the RDATA of a DS record.
    pub fn add_ds(&mut self, zone: Name, rdata: &[u8]) -> Result<(), Unusable> {
        let ds = Ds::parse(rdata).ok_or(Unusable::Malformed)?;
        if !crypto::supports_algorithm(ds.algorithm) || !crypto::supports_digest(ds.digest_type) {
            return Err(Unusable::Unsupported);
        }
        self.of_mut(zone).ds.push(ds);
        Ok(())
    }

    /// Adds the RDATA of a DNSKEY record.
    pub fn add_key(&mut self, zone: Name, rdata: &[u8]) -> Result<(), Unusable> {
        let key = Dnskey::parse(rdata).ok_or(Unusable::Malformed)?;
        if !crypto::supports_algorithm(key.algorithm()) {
            return Err(Unusable::Unsupported);
        }
        if !key.is_for_zones() || key.is_revoked() {
            return Err(Unusable::NotForZones);
        }
        self.of_mut(zone).keys.push(key);
        Ok(())
    }

    /// Returns anchors of a root whose keys are unknown, so that nothing below it validates.
    pub fn unknown_root() -> Self {
        Anchors(vec![Anchor { zone: Name::root(), ds: Vec::new(), keys: Vec::new() }])
    }

    /// Whether there are no anchors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of labels of the longest zone with an anchor that is `name` or above it;
    /// `None` if there is none.
    pub fn labels_above(&self, name: &Name) -> Option<usize> {
        let above = self.0.iter().filter(|anchor| name.is_at_or_below(&anchor.zone));
        above.map(|anchor| anchor.zone.label_count()).max()
    }

    /// Returns the keys of a zone that its anchor makes trusted.
    pub(crate) fn believed(&self, keys: &Keys) -> Keys {
        let anchor = self.0.iter().find(|anchor| anchor.zone == keys.zone);
        anchor.map_or_else(
            || Keys::new(keys.zone.clone(), []),
            |anchor| keys.told_of(&anchor.ds).and(keys.among(&anchor.keys)),
        )
    }

    fn of_mut(&mut self, zone: Name) -> &mut Anchor {
        let at = match self.0.iter().position(|anchor| anchor.zone == zone) {
            Some(at) => at,
            None => {
                self.0.push(Anchor { zone, ds: Vec::new(), keys: Vec::new() });
                self.0.len() - 1
            }
        };
        &mut self.0[at]
    }
}
