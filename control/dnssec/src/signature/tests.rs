//! Tests with the responses of RFC 4035 appendix B, whose signatures were valid in the spring of
//! 2004.

use super::*;
use crate::{
    denial::{Denials, Strength},
    message::Section,
    testing::{base64, bitmap, message, name, record},
};

const A: u16 = 1;
const MX: u16 = 15;
const AAAA: u16 = 28;

const INCEPTION: u32 = 1_081_535_779;
const EXPIRATION: u32 = 1_084_127_779;
const NOW: u32 = 1_083_412_800;

const ZONE_KEY: &str =
    "AQOy1bZVvpPqhg4j7EJoM9rI3ZmyEx2OzDBVrZy/lvI5CQePxXHZS4i8dANH4DX3tbHol61ek8EFMcsGXxKciJFHyhl94C+N
    wILQdzsUlSFovBZsyl/NX6yEbtw/xN9ZNcrbYvgjjZ/UVPZIySFNsgEYvh0z2542lzMKR4Dh8uZffQ==";

fn keys() -> Keys {
    let rdata = [&[1, 0, 3, 5][..], &base64(ZONE_KEY)].concat();
    Keys::new(name("example"), Dnskey::parse(&rdata))
}

fn rrsig(owner: &str, covered: u16, labels: u8, signature: &str) -> Vec<u8> {
    let mut rdata = covered.to_be_bytes().to_vec();
    rdata.extend([5, labels]);
    for time in [3600, EXPIRATION, INCEPTION] {
        rdata.extend(time.to_be_bytes());
    }
    rdata.extend(38519_u16.to_be_bytes());
    rdata.extend(name("example").as_wire());
    rdata.extend(base64(signature));
    record(name(owner).as_wire(), rtype::RRSIG, 3600, &rdata)
}

fn mx(owner: &str, host: &str) -> Vec<u8> {
    record(name(owner).as_wire(), MX, 3600, &[&[0, 1], name(host).as_wire()].concat())
}

fn nsec(owner: &str, next: &str, types: &[u16]) -> Vec<u8> {
    let rdata = [name(next).as_wire(), &bitmap(types)].concat();
    record(name(owner).as_wire(), rtype::NSEC, 3600, &rdata)
}

/// Returns the answer of appendix B.1.
fn answer() -> Vec<Vec<u8>> {
    let signature =
        "Il2WTZ+Bkv+OytBx4LItNW5mjB4RCwhOO8y1XzPHZmZUTVYL7LaA63f6T9ysVBzJRI3KRjAPH3U1qaYnDoN1DrWqmi9RJe4F
        oObkbcdm7P3Ikx70ePCoFgRz1Yq+bVVXCvGuAU4xALv3W/Y1jNSlwZ2mSWKHfxFQxPtLj8s32+k=";
    vec![mx("x.w.example", "xx.example"), rrsig("x.w.example", MX, 3, signature)]
}

/// Returns the wildcard answer of appendix B.6.
fn expanded() -> Vec<Vec<u8>> {
    let signature =
        "OMK8rAZlepfzLWW75Dxd63jy2wswESzxDKG2f9AMN1CytCd10cYISAxfAdvXSZ7xujKAtPbctvOQ2ofO7AZJ+d01EeeQTVBP
        q4/6KCWhqe2XTjnkVLNvvhnc0u28aoSsG0+4InvkkOHknKxw4kX18MMR34i8lC36SR5xBni8vHI=";
    vec![mx("a.z.w.example", "ai.example"), rrsig("a.z.w.example", MX, 2, signature)]
}

/// Records of appendix B.6.
fn beside_wildcard() -> Vec<Vec<u8>> {
    let signature =
        "OvE6WUzN2ziieJcvKPWbCAyXyP6ef8cr6CspArVSTzKSquNwbezZmkU7E34o5lmb6CWSSSpgxw098kNUFnHcQf/LzY2zqRom
        ubrNQhJTiDTXa0ArunJQCzPjOYq5t0SLjm6qp6McJI1AP5VrQoKqJDCLnoAlcPOPKAm/jJkn3jk=";
    let record = nsec("x.y.w.example", "xx.example", &[MX, rtype::RRSIG, rtype::NSEC]);
    vec![record, rrsig("x.y.w.example", rtype::NSEC, 4, signature)]
}

/// Records of appendix B.2.
fn delegation() -> Vec<Vec<u8>> {
    let signature =
        "GNuxHn844wfmUhPzGWKJCPY5ttEX/RfjDoOx9ueK1PtYkOWKOOdiJ/PJKCYB3hYX+858dDWSxb2qnV/LSTCNVBnkm6owOpys
        Y97MVj5VQEWs0lm9tFoqjcptQkmQKYPrwUnCSNwvvclSF1xZvhRXgWT7OuFXldoCG6TfVFMs9xE=";
    let record = nsec("b.example", "ns1.example", &[rtype::NS, rtype::RRSIG, rtype::NSEC]);
    vec![record, rrsig("b.example", rtype::NSEC, 2, signature)]
}

/// Records of appendix B.2.
fn apex() -> Vec<Vec<u8>> {
    let signature =
        "O0k558jHhyrC97ISHnislm4kLMW48C7U7cBmFTfhke5iVqNRVTB1STLMpgpbDIC9hcryoO0VZ9ME5xPzUEhbvGnHd5sfzgFV
        eGxr5Nyyq4tWSDBgIBiLQUv1ivy29vhXy7WgR62dPrZ0PWvmjfFJ5arXf4nPxp/kEowGgBRzY/U=";
    let types = [rtype::NS, rtype::SOA, MX, rtype::RRSIG, rtype::NSEC, rtype::DNSKEY];
    vec![nsec("example", "a.example", &types), rrsig("example", rtype::NSEC, 1, signature)]
}

/// Returns the denial of appendix B.7.
fn wildcard() -> Vec<Vec<u8>> {
    let signature =
        "r/mZnRC3I/VIcrelgIcteSxDhtsdlTDt8ng9HSBlABOlzLxQtfgTnn8f+aOwJIAFe1Ee5RvU5cVhQJNP5XpXMJHfyps8tVvf
        xSAXfahpYqtx91gsmcV/1V9/bZAG55CefP9cM4Z9Y9NT9XQ8s1InQ2UoIv6tJEaaKkP701j8OLA=";
    let record = nsec("*.w.example", "x.w.example", &[MX, rtype::RRSIG, rtype::NSEC]);
    vec![record, rrsig("*.w.example", rtype::NSEC, 2, signature)]
}

/// Verifies the first set of an answer.
fn verified_at(now: u32, answers: &[Vec<u8>]) -> Result<Signed, u16> {
    let response = Response::parse(&message(0, answers, &[])).unwrap();
    verify(&response, &response.sets()[0], &keys(), now, &mut Budget::default()).unwrap()
}

fn verified(answers: &[Vec<u8>]) -> Result<Signed, u16> {
    verified_at(NOW, answers)
}

/// Returns the denials of the zone with valid signatures.
fn denials(authorities: &[Vec<u8>]) -> Denials {
    let response = Response::parse(&message(0, &[], authorities)).unwrap();
    let mut denials = Denials::new(name("example"));
    for set in response.sets().iter().filter(|set| set.section == Section::Authority) {
        if verify(&response, set, &keys(), NOW, &mut Budget::default()).unwrap().is_ok() {
            denials.add(&response, set, 60);
        }
    }
    denials
}

#[test]
fn the_key_has_the_tag_that_signatures_tell() {
    assert_eq!(keys().keys[0].0, 38519);
}

#[test]
fn an_answer_is_verified() {
    let signed = verified(&answer()).unwrap();
    assert_eq!(signed.next_closer(&name("x.w.example")), None);
    assert_eq!(signed.ttl(), 3600);
    // RFC 4035 section 5.3.3.
    assert_eq!(verified_at(EXPIRATION - 9, &answer()).unwrap().ttl(), 9);
    // RFC 4034 sections 6.2 and 6.3.
    let mut spelled = answer();
    spelled[0][1..4].make_ascii_uppercase();
    let twice = [spelled[0].clone(), answer()[0].clone(), answer()[1].clone()];
    assert!(verified(&spelled).is_ok() && verified(&twice).is_ok());
}

#[test]
fn what_is_wrong_with_a_signature_is_told() {
    let answer = answer();
    assert_eq!(verified_at(EXPIRATION + 1, &answer).unwrap_err(), ede::SIGNATURE_EXPIRED);
    assert_eq!(verified_at(INCEPTION - 1, &answer).unwrap_err(), ede::SIGNATURE_NOT_YET_VALID);
    assert!(verified_at(EXPIRATION, &answer).is_ok() && verified_at(INCEPTION, &answer).is_ok());
    assert_eq!(verified(&answer[..1]).unwrap_err(), ede::RRSIGS_MISSING);
    assert_eq!(verified(&answer[1..]).unwrap_err(), ede::BOGUS, "signatures of nothing");
    // Every byte of the record and of the signature counts.
    let begin = answer[1].len() - 128;
    for at in (begin - 27..begin + 128).filter(|at| !(begin - 15..begin - 9).contains(at)) {
        let mut altered = answer.clone();
        altered[1][at] ^= 1;
        assert!(verified(&altered).is_err(), "{at}");
    }
    let mut other = answer.clone();
    let last = other[0].len() - 2;
    other[0][last] ^= 1;
    assert_eq!(verified(&other).unwrap_err(), ede::BOGUS);
    // RFC 4034 section 3.1.5: times wrap around.
    let order = |inception: u32, expiration: u32| {
        let mut altered = answer.clone();
        altered[1][begin - 19..begin - 15].copy_from_slice(&expiration.to_be_bytes());
        altered[1][begin - 15..begin - 11].copy_from_slice(&inception.to_be_bytes());
        verified(&altered).unwrap_err()
    };
    assert_eq!(order(NOW + 9, NOW + 8), ede::EXPIRED_BEFORE_VALID);
    assert_eq!(order(NOW.wrapping_sub(1 << 30), NOW.wrapping_sub(1)), ede::SIGNATURE_EXPIRED);
}

#[test]
fn what_was_made_from_a_wildcard_needs_a_proof() {
    let owner = name("a.z.w.example");
    let closer = verified(&expanded()).unwrap().next_closer(&owner).unwrap();
    assert_eq!(closer, name("z.w.example"));
    let mut budget = Budget::default();
    assert_eq!(denials(&beside_wildcard()).closer(&closer, &mut budget), Ok(Some(Strength::Secure)));
    for other in [delegation(), apex(), wildcard(), beside_wildcard()[..1].to_vec()] {
        assert_eq!(denials(&other).closer(&closer, &mut budget), Ok(None));
    }
    // The label count of the verified signature matters, not that of a signature before it.
    let mut falsely = expanded();
    falsely.insert(1, rrsig("a.z.w.example", MX, 4, "AAAA"));
    assert_eq!(verified(&falsely).unwrap().next_closer(&owner), Some(closer));
}

#[test]
fn denials_are_verified() {
    let mut budget = Budget::default();
    let name_error = [delegation(), apex()].concat();
    assert_eq!(denials(&name_error).name(&name("ml.example"), &mut budget), Ok(Some(Strength::Secure)));
    let no_data = [beside_wildcard(), wildcard()].concat();
    let owner = name("a.z.w.example");
    assert_eq!(denials(&no_data).records(&owner, AAAA, &mut budget), Ok(Some(Strength::Secure)));
    assert_eq!(denials(&no_data).records(&owner, MX, &mut budget), Ok(None));
    // Appendix B.8: only the parent denies DS.
    assert_eq!(denials(&apex()).records(&name("example"), rtype::DS, &mut budget), Ok(None));
    assert_eq!(denials(&apex()).records(&name("example"), A, &mut budget), Ok(Some(Strength::Secure)));
}

#[test]
fn a_zone_signs_nothing_above_it() {
    let set = |owner: &str, rtype: u16| {
        let records = [record(name(owner).as_wire(), rtype, 60, &[7; 4])];
        Response::parse(&message(0, &records, &[])).unwrap().sets()[0].clone()
    };
    let fits = |owner: &str, rtype: u16, labels: u8| {
        let rdata = rrsig(owner, rtype, labels, "AAAA");
        let response = Response::parse(&message(0, &[rdata], &[])).unwrap();
        let set = set(owner, rtype);
        let signature = response.signatures_of(&response.sets()[0]).next().unwrap();
        is_fit(&set, &signature, NOW)
    };
    assert!(fits("www.example", A, 2) && fits("www.example", A, 1) && fits("example", A, 1));
    assert!(!fits("www.example", A, 0), "it would sign *., in the name of the root");
    assert!(!fits("www.example", A, 3) && !fits("*.example", A, 2) && fits("*.example", A, 1));
    assert!(!fits("www.test", A, 2) && !fits(".", A, 0));
    assert!(fits("www.example", rtype::DS, 2) && !fits("example", rtype::DS, 1));
}
