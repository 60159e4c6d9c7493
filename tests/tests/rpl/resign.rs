//! Re-signs a replay file whose keys have algorithms or sizes that validators refuse.
//!
//! Names, types and structure stay the same, as do times and labels of signatures. Each refused key
//! is replaced by a current one, with its DS records and trust anchors. Each signature that was
//! valid in some message of the file is made again over the same RRset. A signature that was valid
//! in none stays invalid.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::Name;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use ringdns_testkit::scenario::{Record, name_at, wire_name};

use crate::canon::{canonical, signature_at, signed_bytes};
use crate::legacy;
use crate::response::{DS, RRSIG, covered};
use crate::script::{Action, Entry, Script};

const DNSKEY: u16 = 48;
const ECDSAP256SHA256: u8 = 13;
const ED25519: u8 = 15;
/// Bytes of a signature, with both algorithms.
const SIGNATURE: usize = 64;
const DIGEST_SHA1: u8 = 1;
const DIGEST_SHA256: u8 = 2;
const DIGEST_SHA384: u8 = 4;

/// Re-signs `script`, and changes its trust anchors accordingly.
pub fn resign(script: &mut Script, anchors: &mut [Record]) {
    let mut signer = Signer::default();
    for record in records(script).chain(anchors.iter()).filter(|record| record.rtype == DNSKEY) {
        signer.add_key(record);
    }
    for entry in entries(script) {
        // A signature may be in another section than its RRset.
        let records: Vec<&Record> = entry.sections.iter().flatten().collect();
        for signature in records.iter().filter(|record| record.rtype == RRSIG) {
            signer.sign(signature, &records);
        }
    }
    for entry in entries_mut(script) {
        for record in entry.sections.iter_mut().flatten() {
            record.data = signer.replacement(record);
        }
    }
    for anchor in anchors {
        anchor.data = signer.replacement(anchor);
    }
}

fn entries(script: &Script) -> impl Iterator<Item = &Entry> {
    let of_steps = script.steps.iter().filter_map(|step| match &step.action {
        Action::Query { entry, .. } | Action::CheckAnswer(entry) | Action::Reply(entry) => Some(&**entry),
        _ => None,
    });
    script.ranges.iter().flat_map(|range| &range.entries).chain(of_steps)
}

fn entries_mut(script: &mut Script) -> impl Iterator<Item = &mut Entry> {
    let of_steps = script.steps.iter_mut().filter_map(|step| match &mut step.action {
        Action::Query { entry, .. } | Action::CheckAnswer(entry) | Action::Reply(entry) => Some(&mut **entry),
        _ => None,
    });
    script.ranges.iter_mut().flat_map(|range| &mut range.entries).chain(of_steps)
}

fn records(script: &Script) -> impl Iterator<Item = &Record> {
    entries(script).flat_map(|entry| entry.sections.iter().flatten())
}

/// New keys and signatures, by the old ones.
#[derive(Default)]
struct Signer {
    keys: Vec<Key>,
    tags: BTreeSet<u16>,
    signatures: BTreeMap<(Name, Vec<u8>), Vec<u8>>,
}

struct Key {
    owner: Name,
    /// Data of the old DNSKEY record.
    old: Vec<u8>,
    new: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn add_key(&mut self, record: &Record) {
        let known = self.keys.iter().any(|key| key.owner == record.owner && key.old == record.data);
        if known || !legacy::is_legacy(&record.data) {
            return;
        }
        // Key tags must stay different from each other.
        for attempt in 0_u16.. {
            let (pair, public) = Pair::of(&record.data, attempt);
            let new = [&record.data[..3], &[pair.algorithm()], &public].concat();
            if self.tags.insert(tag(&new)) {
                self.keys.push(Key { owner: record.owner.clone(), old: record.data.clone(), new, pair });
                return;
            }
        }
    }

    fn key(&self, owner: &Name, algorithm: u8, key_tag: u16) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.owner == *owner && key.old[3] == algorithm && tag(&key.old) == key_tag)
    }

    /// Makes a signature again, if it is valid for the RRset in the same message.
    fn sign(&mut self, signature: &Record, message: &[&Record]) {
        let of = (signature.owner.clone(), signature.data.clone());
        let Some(key) = self.signing_key(&signature.data) else { return };
        if self.signatures.contains_key(&of) {
            return;
        }
        let covers = |record: &&&Record| {
            record.owner == signature.owner
                && Some(record.rtype) == covered(signature)
                && record.class == signature.class
        };
        let set: Vec<&Record> = message.iter().filter(covers).copied().collect();
        let Some(at) = signature_at(&signature.data) else { return };
        let good = signed_bytes(&signature.data, &set)
            .is_some_and(|bytes| legacy::verify(&key.old, &bytes, &signature.data[at..]));
        if !good {
            return;
        }
        let set: Vec<Record> = set
            .into_iter()
            .map(|record| Record { data: self.replacement(record), ..record.clone() })
            .collect();
        let mut data = key.head(&signature.data[..at]);
        let bytes = signed_bytes(&data, &set.iter().collect::<Vec<_>>()).expect("it was one before");
        data.extend(key.pair.sign(&bytes));
        self.signatures.insert(of, data);
    }

    /// Returns the key that made a signature, if the key is replaced.
    fn signing_key(&self, signature: &[u8]) -> Option<&Key> {
        let algorithm = *signature.get(2)?;
        let key_tag = u16::from_be_bytes(*signature.get(16..)?.first_chunk()?);
        self.key(&name_at(signature, 18)?, algorithm, key_tag)
    }

    /// Returns the new data of a record in the file.
    fn replacement(&self, record: &Record) -> Vec<u8> {
        let new = match record.rtype {
            DNSKEY => {
                let key = self.keys.iter().find(|key| key.owner == record.owner && key.old == record.data);
                key.map(|key| key.new.clone())
            }
            DS => self.delegation_signer(record),
            RRSIG => {
                let of = (record.owner.clone(), record.data.clone());
                self.signatures.get(&of).cloned().or_else(|| self.bad_signature(&record.data))
            }
            _ => None,
        };
        new.unwrap_or_else(|| record.data.clone())
    }

    fn delegation_signer(&self, record: &Record) -> Option<Vec<u8>> {
        let [t1, t0, algorithm, kind, old @ ..] = &record.data[..] else { return None };
        let Some(key) = self.key(&record.owner, *algorithm, u16::from_be_bytes([*t1, *t0])) else {
            // The file does not contain the key.
            let number = replaced(*algorithm)?;
            return Some([&[*t1, *t0, number, DIGEST_SHA256], &bytes_of(old, 32)[..]].concat());
        };
        // Some validators refuse SHA-1 digests as well.
        let new_kind = if *kind == DIGEST_SHA1 { DIGEST_SHA256 } else { *kind };
        let right = key.digest(&key.old, *kind).is_some_and(|digest| digest == old);
        let digest = if right { key.digest(&key.new, new_kind)? } else { bytes_of(old, 32) };
        Some([&tag(&key.new).to_be_bytes()[..], &[key.pair.algorithm(), new_kind], &digest].concat())
    }

    /// Returns a signature of the new key that is as invalid as the old one.
    fn bad_signature(&self, old: &[u8]) -> Option<Vec<u8>> {
        let at = signature_at(old)?;
        let head = match self.signing_key(old) {
            Some(key) => key.head(&old[..at]),
            None => [&old[..2], &[replaced(old[2])?], &old[3..at]].concat(),
        };
        Some([head, bytes_of(&old[at..], SIGNATURE)].concat())
    }
}

impl Key {
    /// Returns the data before the signature, with this key's algorithm and tag.
    fn head(&self, old: &[u8]) -> Vec<u8> {
        let mut head = old.to_vec();
        head[2] = self.pair.algorithm();
        head[16..18].copy_from_slice(&tag(&self.new).to_be_bytes());
        head
    }

    fn digest(&self, key: &[u8], kind: u8) -> Option<Vec<u8>> {
        let algorithm = match kind {
            DIGEST_SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
            DIGEST_SHA256 => &SHA256,
            DIGEST_SHA384 => &SHA384,
            _ => return None,
        };
        let owner = wire_name(&self.owner.to_lowercase()).ok()?;
        Some(digest(algorithm, &[owner, canonical(DNSKEY, key)].concat()).as_ref().to_vec())
    }
}

impl Pair {
    /// Returns a key pair that replaces an old key, and its public key.
    fn of(old: &[u8], attempt: u16) -> (Pair, Vec<u8>) {
        if replaced(old[3]) == Some(ED25519) {
            let seed = digest(&SHA256, &[old, &attempt.to_be_bytes()].concat());
            let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("it is 32 bytes");
            let public = pair.public_key().as_ref().to_vec();
            return (Pair::Ed25519(pair), public);
        }
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("the system has random numbers");
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("it was made just now");
        // The first byte only marks an uncompressed point.
        let public = pair.public_key().as_ref()[1..].to_vec();
        (Pair::Ecdsa(pair), public)
    }

    fn algorithm(&self) -> u8 {
        match self {
            Pair::Ecdsa(_) => ECDSAP256SHA256,
            Pair::Ed25519(_) => ED25519,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Pair::Ecdsa(pair) => pair
                .sign(&SystemRandom::new(), message)
                .expect("the system has random numbers")
                .as_ref()
                .to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Returns the algorithm that replaces a refused one. Different algorithms stay different.
fn replaced(algorithm: u8) -> Option<u8> {
    match algorithm {
        legacy::DSA | legacy::DSA_NSEC3 => Some(ED25519),
        legacy::RSASHA1 | legacy::RSASHA1_NSEC3 => Some(ECDSAP256SHA256),
        _ => None,
    }
}

/// Returns the key tag (RFC 4034 appendix B).
fn tag(key: &[u8]) -> u16 {
    let sum: u32 =
        key.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    ((sum + (sum >> 16)) & 0xffff) as u16
}

/// Returns meaningless bytes that are derived from others.
fn bytes_of(others: &[u8], length: usize) -> Vec<u8> {
    digest(&SHA256, others).as_ref().iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    /// Keys and SOA record of RFC 5155 appendix A, with RSASHA1 and 512 bits.
    const SIGNED: &str = "CONFIG_END\nSCENARIO_BEGIN\nRANGE_BEGIN 0 9\nENTRY_BEGIN\nMATCH qname\nREPLY QR\n\
        SECTION QUESTION\nexample. IN SOA\nSECTION ANSWER\n\
        example. 3600 IN SOA ns1.example. bugs.x.w.example. 1 3600 300 3600000 3600\n\
        example. 3600 IN RRSIG SOA 7 1 3600 20150420235959 20051021000000 40430 example. \
        Hu25UIyNPmvPIVBrldN+9Mlp9Zql39qaUd8iq4ZLlYWfUUbbAS41pG+68z81q1xhkYAcEyHdVI2LmKusbZsT0Q==\n\
        example. 3600 IN DNSKEY 256 3 7 \
        AwEAAaetidLzsKWUt4swWR8yu0wPHPiUi8LUsAD0QPWU+wzt89epO6tHzkMBVDkC7qphQO2hTY4hHn9npWFRw5BYubE=\n\
        ENTRY_END\nRANGE_END\nSCENARIO_END\n";

    /// Returns the re-signed SOA record, its signature and the key.
    fn resigned(text: &str) -> [Record; 3] {
        let mut script = parse::script(text).unwrap();
        resign(&mut script, &mut []);
        script.ranges[0].entries[0].sections[0].clone().try_into().unwrap()
    }

    fn is_good([soa, signature, key]: &[Record; 3]) -> bool {
        let at = signature_at(&signature.data).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4][..], &key.data[4..]].concat());
        public.verify(&signed_bytes(&signature.data, &[soa]).unwrap(), &signature.data[at..]).is_ok()
    }

    #[test]
    fn good_signatures_stay_good_and_bad_ones_bad() {
        let good = resigned(SIGNED);
        let [_, signature, key] = &good;
        assert_eq!((signature.data[2], key.data[3]), (ECDSAP256SHA256, ECDSAP256SHA256));
        assert_eq!(signature.data[16..18], tag(&key.data).to_be_bytes());
        assert!(is_good(&good));
        let bad = resigned(&SIGNED.replace("x.w.example. 1 3600", "x.w.example. 2 3600"));
        assert_eq!(bad[1].data.len(), signature.data.len());
        assert!(!is_good(&bad));
    }

    #[test]
    fn trust_anchors_follow_their_keys() {
        let mut script = parse::script(SIGNED).unwrap();
        let key = script.ranges[0].entries[0].sections[0][2].clone();
        let old = Key {
            owner: key.owner.clone(),
            old: key.data.clone(),
            new: key.data.clone(),
            pair: Pair::of(&key.data, 0).0,
        };
        let digest = old.digest(&key.data, DIGEST_SHA1).unwrap();
        let head = [&tag(&key.data).to_be_bytes()[..], &[7, DIGEST_SHA1]].concat();
        let anchor = |digest: &[u8]| Record { rtype: DS, data: [&head[..], digest].concat(), ..key.clone() };
        let mut anchors = [anchor(&digest), anchor(&[0; 20])];
        resign(&mut script, &mut anchors);
        let new = &script.ranges[0].entries[0].sections[0][2].data;
        let digest = Key { new: new.clone(), ..old }.digest(new, DIGEST_SHA256).unwrap();
        let expected = [&tag(new).to_be_bytes()[..], &[ECDSAP256SHA256, DIGEST_SHA256], &digest].concat();
        assert_eq!(anchors[0].data, expected);
        assert_eq!((&anchors[1].data[..4], anchors[1].data.len()), (&expected[..4], expected.len()));
        assert_ne!(anchors[1].data, expected);
    }
}
