//! Zones that are signed in memory.

use data_encoding::BASE32_DNSSEC;
use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use ringdns_dnssec::Name;
use std::collections::{BTreeMap, BTreeSet};

pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const TXT: u16 = 16;
    pub const DNAME: u16 = 39;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
}

/// Time of all validations, in seconds since 1970.
pub const NOW: u32 = 1_800_000_000;
const TTL: u32 = 300;
const ED25519: u8 = 15;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rr {
    pub owner: Name,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// Method of denial of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    Unsigned,
    Nsec,
    Nsec3 { opt_out: bool },
}

/// A zone.
pub struct Zone {
    pub origin: Name,
    denial: Denial,
    key: Ed25519KeyPair,
    data: BTreeMap<Name, BTreeMap<u16, Vec<Vec<u8>>>>,
    /// Kind of denial: by name or by hash.
    nsec: BTreeMap<Name, Rr>,
    nsec3: BTreeMap<Vec<u8>, Rr>,
}

/// Parses a name.
pub fn name(text: &str) -> Name {
    let labels: Vec<_> = text.split('.').filter(|label| !label.is_empty()).collect();
    labels.iter().rev().fold(Name::root(), |name, label| name.prepend(label.as_bytes()).unwrap())
}

impl Zone {
    /// Returns a zone with its apex. Keys are derived from names, so that each run has the same
    /// keys.
    pub fn new(origin: &str, denial: Denial) -> Self {
        let seed = digest::digest(&digest::SHA256, origin.as_bytes());
        let key = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap();
        let (data, nsec, nsec3) = Default::default();
        let mut zone = Zone { origin: name(origin), denial, key, data, nsec, nsec3 };
        let host = zone.origin.prepend(b"ns").unwrap();
        let soa = [host.as_wire(), host.as_wire(), &[0; 16], &TTL.to_be_bytes()].concat();
        zone.add("", rtype::SOA, soa);
        zone.add("", rtype::NS, host.as_wire().to_vec());
        if denial != Denial::Unsigned {
            zone.add("", rtype::DNSKEY, zone.dnskey());
        }
        zone
    }

    pub fn dnskey(&self) -> Vec<u8> {
        [&[1, 1, 3, ED25519], self.key.public_key().as_ref()].concat()
    }

    fn key_tag(&self) -> u16 {
        let key = self.dnskey();
        let words = key.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let sum: u32 = words.sum();
        (sum + (sum >> 16)) as u16
    }

    /// Returns the RDATA of the DS record for the parent.
    pub fn ds(&self) -> Vec<u8> {
        let key = self.dnskey();
        let digest = digest::digest(&digest::SHA256, &[self.origin.as_wire(), &key].concat());
        [&self.key_tag().to_be_bytes()[..], &[ED25519, 2], digest.as_ref()].concat()
    }

    pub fn is_signed(&self) -> bool {
        self.denial != Denial::Unsigned
    }

    pub fn uses_opt_out(&self) -> bool {
        self.denial == Denial::Nsec3 { opt_out: true }
    }

    /// Adds a record at a name below the origin.
    pub fn add(&mut self, front: &str, rtype: u16, rdata: Vec<u8>) {
        let labels: Vec<_> = front.split('.').filter(|label| !label.is_empty()).collect();
        let origin = self.origin.clone();
        let owner = labels.iter().rev().fold(origin, |name, label| name.prepend(label.as_bytes()).unwrap());
        self.data.entry(owner).or_default().entry(rtype).or_default().push(rdata);
    }

    pub fn types(&self, name: &Name) -> Option<&BTreeMap<u16, Vec<Vec<u8>>>> {
        self.data.get(name)
    }

    /// Whether a name has records, or exists above one that has.
    pub fn exists(&self, name: &Name) -> bool {
        self.data.keys().any(|owner| owner.is_at_or_below(name))
    }

    /// Returns the zone cut at a name or above it.
    pub fn cut(&self, name: &Name) -> Option<Name> {
        let labels = self.origin.label_count() + 1..=name.label_count();
        labels.map(|labels| name.suffix(labels)).find(|cut| self.has(cut, rtype::NS))
    }

    fn has(&self, name: &Name, rtype: u16) -> bool {
        self.data.get(name).is_some_and(|types| types.contains_key(&rtype))
    }

    /// Returns the owner of the DNAME record above a name.
    pub fn dname(&self, name: &Name) -> Option<Name> {
        let labels = self.origin.label_count()..name.label_count();
        labels.map(|labels| name.suffix(labels)).find(|owner| self.has(owner, rtype::DNAME))
    }

    /// Returns the closest existing name above one that does not exist.
    pub fn encloser(&self, name: &Name) -> Name {
        let labels = (self.origin.label_count()..name.label_count()).rev();
        labels.map(|labels| name.suffix(labels)).find(|above| self.exists(above)).unwrap()
    }

    /// Returns an RRset of this zone at `owner`, made from the records at `from`, and its
    /// signature.
    pub fn set(&self, from: &Name, owner: &Name, rtype: u16) -> Vec<Rr> {
        let Some(rdata) = self.data.get(from).and_then(|types| types.get(&rtype)) else { return Vec::new() };
        let rr = |rdata: &Vec<u8>| Rr { owner: owner.clone(), rtype, ttl: TTL, rdata: rdata.clone() };
        let mut set: Vec<_> = rdata.iter().map(rr).collect();
        let is_delegation = rtype == rtype::NS && *from != self.origin;
        if self.is_signed() && !is_delegation {
            let labels = from.label_count() - usize::from(from.is_wildcard());
            let signature = self.sign(from, rtype, rdata, labels as u8);
            set.push(Rr { owner: owner.clone(), rtype: rtype::RRSIG, ttl: TTL, rdata: signature });
        }
        set
    }

    /// Returns a signature by this zone's key, which need not be valid.
    pub fn sign(&self, owner: &Name, rtype: u16, rdata: &[Vec<u8>], labels: u8) -> Vec<u8> {
        let mut head = rtype.to_be_bytes().to_vec();
        head.extend([ED25519, labels]);
        for word in [TTL, NOW + 1_000_000, NOW - 1_000_000] {
            head.extend(word.to_be_bytes());
        }
        head.extend(self.key_tag().to_be_bytes());
        head.extend(self.origin.as_wire());
        let mut signed = head.clone();
        for rdata in rdata.iter().collect::<BTreeSet<_>>() {
            signed.extend(owner.as_wire());
            signed.extend(rtype.to_be_bytes());
            signed.extend([0, 1]);
            signed.extend(TTL.to_be_bytes());
            signed.extend((rdata.len() as u16).to_be_bytes());
            signed.extend(rdata);
        }
        [&head[..], self.key.sign(&signed).as_ref()].concat()
    }

    /// Makes the chain of denials, once all records are there.
    pub fn close(mut self) -> Self {
        let is_below_cut = |name: &&Name| self.cut(name).is_some_and(|cut| cut != **name);
        let names: Vec<_> = self.data.keys().filter(|name| !is_below_cut(name)).cloned().collect();
        match self.denial {
            Denial::Unsigned => {}
            Denial::Nsec => {
                for (at, owner) in names.iter().enumerate() {
                    let next = &names[(at + 1) % names.len()];
                    let types = self.bitmap(owner, &[rtype::RRSIG, rtype::NSEC]);
                    let rdata = [next.as_wire(), &types].concat();
                    let rr = Rr { owner: owner.clone(), rtype: rtype::NSEC, ttl: TTL, rdata };
                    self.nsec.insert(owner.clone(), rr);
                }
            }
            Denial::Nsec3 { opt_out } => {
                let is_kept =
                    |name: &&Name| !opt_out || self.cut(name).is_none() || self.has(name, rtype::DS);
                let kept = names.iter().filter(is_kept);
                let above = |name: &Name| {
                    let (least, most) = (self.origin.label_count(), name.label_count());
                    (least..=most).map(|labels| name.suffix(labels)).collect::<Vec<_>>()
                };
                let hashes: BTreeMap<_, _> = kept.flat_map(above).map(|name| (hash(&name), name)).collect();
                let order: Vec<_> = hashes.keys().cloned().collect();
                for (at, (owner, name)) in hashes.iter().enumerate() {
                    let next = &order[(at + 1) % order.len()];
                    let signed = self.data.contains_key(name)
                        && (self.cut(name).is_none() || self.has(name, rtype::DS));
                    let types = self.bitmap(name, if signed { &[rtype::RRSIG] } else { &[] });
                    let head = [1, u8::from(opt_out), 0, 0, 0, 20];
                    let rdata = [&head[..], next, &types].concat();
                    let label = BASE32_DNSSEC.encode(owner);
                    let rr_owner = self.origin.prepend(label.as_bytes()).unwrap();
                    let rr = Rr { owner: rr_owner, rtype: rtype::NSEC3, ttl: TTL, rdata };
                    self.nsec3.insert(owner.clone(), rr);
                }
            }
        }
        self
    }

    fn bitmap(&self, name: &Name, more: &[u16]) -> Vec<u8> {
        let types = self.data.get(name).into_iter().flat_map(|types| types.keys());
        let types: BTreeSet<_> = types.chain(more).copied().collect();
        let Some(last) = types.last() else { return Vec::new() };
        let mut bits = vec![0; usize::from(last / 8) + 1];
        types.iter().for_each(|rtype| bits[usize::from(rtype / 8)] |= 0x80 >> (rtype % 8));
        [&[0, bits.len() as u8], &bits[..]].concat()
    }

    fn signed(&self, rr: &Rr) -> Vec<Rr> {
        let labels = rr.owner.label_count() - usize::from(rr.owner.is_wildcard());
        let signature = self.sign(&rr.owner, rr.rtype, std::slice::from_ref(&rr.rdata), labels as u8);
        vec![rr.clone(), Rr { rtype: rtype::RRSIG, rdata: signature, ..rr.clone() }]
    }

    /// Returns the record that covers a name that does not exist.
    pub fn covering(&self, name: &Name) -> Vec<Rr> {
        let nsec = self.nsec.range(..=name.clone()).next_back();
        let hash = hash(name);
        let nsec3 = self.nsec3.range(..=hash).next_back().or(self.nsec3.last_key_value());
        let rr = nsec.map(|(_, rr)| rr).or(nsec3.map(|(_, rr)| rr));
        rr.map_or_else(Vec::new, |rr| self.signed(rr))
    }

    /// Returns the record that has the types of a name that exists.
    pub fn matching(&self, name: &Name) -> Option<Vec<Rr>> {
        let rr = self.nsec.get(name).or_else(|| self.nsec3.get(&hash(name)))?;
        Some(self.signed(rr))
    }

    /// Returns the proof that a name does not exist, wildcards apart.
    pub fn denial_of(&self, name: &Name) -> Vec<Rr> {
        match self.denial {
            Denial::Unsigned => Vec::new(),
            Denial::Nsec => self.covering(name),
            Denial::Nsec3 { .. } => {
                // A name that opt-out leaves out is not an encloser.
                let labels = (self.origin.label_count()..name.label_count()).rev();
                let mut above = labels.map(|labels| (labels, self.matching(&name.suffix(labels))));
                let (labels, encloser) = above.find(|(_, matching)| matching.is_some()).unwrap();
                [encloser.unwrap(), self.covering(&name.suffix(labels + 1))].concat()
            }
        }
    }

    /// Returns all RRsets with their signatures.
    pub fn everything(&self) -> Vec<Vec<Rr>> {
        let sets = self.data.iter().flat_map(|(owner, types)| types.keys().map(move |rtype| (owner, *rtype)));
        let mut all: Vec<_> = sets.map(|(owner, rtype)| self.set(owner, owner, rtype)).collect();
        all.extend(self.nsec.values().chain(self.nsec3.values()).map(|rr| self.signed(rr)));
        all
    }
}

fn hash(name: &Name) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, name.as_wire()).as_ref().to_vec()
}
