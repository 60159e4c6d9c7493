//! Tests with the responses of RFC 5155 appendix B, and with variants of them.

use super::*;
use crate::testing::{base32, bitmap, message, name, record};

const A: u16 = 1;
const NS: u16 = rtype::NS;
const SOA: u16 = rtype::SOA;
const MX: u16 = 15;
const DS: u16 = rtype::DS;
const RRSIG: u16 = rtype::RRSIG;
const DNSKEY: u16 = rtype::DNSKEY;
const CNAME: u16 = rtype::CNAME;
const DNAME: u16 = rtype::DNAME;
const OPT_OUT: u8 = 1;

/// Returns denials of `example`, as if it had signed them.
fn denials(records: &[Vec<u8>]) -> Denials {
    denials_of("example", records)
}

fn denials_of(zone: &str, records: &[Vec<u8>]) -> Denials {
    let response = Response::parse(&message(0, &[], records)).unwrap();
    let mut denials = Denials::new(name(zone));
    response.sets().iter().for_each(|set| denials.add(&response, set, 60));
    denials
}

fn nsec3_with(flags: u8, iterations: u8, owner: &str, next: &str, types: &[u16]) -> Vec<u8> {
    let head = [1, flags, 0, iterations, 4, 0xaa, 0xbb, 0xcc, 0xdd, 20];
    let rdata = [&head[..], &base32(next), &bitmap(types)].concat();
    record(name(&format!("{owner}.example")).as_wire(), rtype::NSEC3, 60, &rdata)
}

/// Hashes of names in the example zone, from RFC 5155 appendix A.
mod hash {
    pub const APEX: &str = "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom";
    pub const NS1: &str = "2t7b4g4vsa5smi47k61mv5bv1a22bojr";
    pub const A: &str = "35mthgpgcu1qg68fab165klnsnk3dpvl";
    pub const X_W: &str = "b4um86eghhds6nea196smvmlo4ors995";
    pub const AI: &str = "gjeqe526plbf1g8mklp59enfd789njgi";
    pub const Y_W: &str = "ji6neoaepv8b5o6k4ev33abha8ht9fgc";
    pub const W: &str = "k8udemvp1j2f7eg6jebps17vp3n8i58h";
    pub const NS2: &str = "q04jkcevqvmu85r014c7dkba38o0ji5r";
    pub const WILDCARD: &str = "r53bq7cc2uvmubfu5ocmm6pers9tk9en";
}

/// Records of the zone of RFC 5155 appendix A that are used in appendix B.
fn apex(flags: u8) -> Vec<u8> {
    nsec3_with(flags, 12, hash::APEX, hash::NS1, &[NS, SOA, MX, RRSIG, DNSKEY, 51])
}

fn plain(owner: &str, next: &str, types: &[u16]) -> Vec<u8> {
    nsec3_with(0, 12, owner, next, types)
}

fn x_w() -> Vec<u8> {
    plain(hash::X_W, hash::AI, &[MX, RRSIG])
}

fn delegation_a(flags: u8) -> Vec<u8> {
    nsec3_with(flags, 12, hash::A, hash::X_W, &[NS, DS, RRSIG])
}

fn w() -> Vec<u8> {
    plain(hash::W, "kohar7mbb8dc2ce8a9qvl8hon4k53uhi", &[])
}

fn ns2() -> Vec<u8> {
    plain(hash::NS2, hash::WILDCARD, &[A, RRSIG])
}

fn wildcard() -> Vec<u8> {
    plain(hash::WILDCARD, "t644ebqk9bibcna874givr6joj62mlhv", &[MX, RRSIG])
}

fn denied_name(records: &[Vec<u8>], text: &str) -> Option<Strength> {
    denials(records).name(&name(text), &mut Budget::default()).unwrap()
}

fn denied(records: &[Vec<u8>], text: &str, rtype: u16) -> Option<Strength> {
    denials(records).records(&name(text), rtype, &mut Budget::default()).unwrap()
}

fn said(records: &[Vec<u8>], text: &str) -> Option<Delegation> {
    denials(records).delegation(&name(text), &mut Budget::default()).unwrap()
}

fn closer(records: &[Vec<u8>], text: &str) -> Option<Strength> {
    denials(records).closer(&name(text), &mut Budget::default()).unwrap()
}

const SECURE: Option<Strength> = Some(Strength::Secure);
const OPTED_OUT: Option<Strength> = Some(Strength::Insecure(None));

/// Checks appendix B.1.
#[test]
fn a_name_is_denied_by_closest_encloser_next_closer_and_wildcard() {
    let all = [apex(0), x_w(), delegation_a(0)];
    assert_eq!(denied_name(&all, "a.c.x.w.example"), SECURE);
    for missing in 0..3 {
        let mut some = all.to_vec();
        some.remove(missing);
        assert_eq!(denied_name(&some, "a.c.x.w.example"), None, "{missing}");
    }
    // The next closer name may be an unsigned delegation: section 9.2.
    assert_eq!(denied_name(&[apex(OPT_OUT), x_w(), delegation_a(0)], "a.c.x.w.example"), OPTED_OUT);
    assert_eq!(denied_name(&[apex(0), x_w(), delegation_a(OPT_OUT)], "a.c.x.w.example"), SECURE);
    assert_eq!(denied_name(&all, "x.w.example"), None, "it exists");
}

/// Checks appendices B.2 and B.2.1.
#[test]
fn a_type_is_denied_by_the_record_of_the_name() {
    let ns1 = || plain(hash::NS1, "2vptu5timamqttgl4luu9kg21e0aor3s", &[A, RRSIG]);
    assert_eq!(denied(&[ns1()], "ns1.example", MX), SECURE);
    assert_eq!(denied(&[ns1()], "ns1.example", A), None);
    assert_eq!(denied_name(&[ns1()], "ns1.example"), None);
    let empty = [plain(hash::Y_W, hash::W, &[])];
    assert_eq!(denied(&empty, "y.w.example", A), SECURE);
    let alias = [plain(hash::NS1, hash::A, &[CNAME, RRSIG])];
    assert_eq!(denied(&alias, "ns1.example", MX), None, "an alias leads on");
}

/// Checks appendix B.3.
#[test]
fn a_delegation_that_opt_out_left_out_is_unsigned() {
    let all = [delegation_a(OPT_OUT), apex(OPT_OUT)];
    assert_eq!(said(&all, "c.example"), Some(Delegation::Unsigned(None)));
    assert_eq!(denied(&all, "c.example", DS), OPTED_OUT);
    // Erratum 3441: there may be an empty non-terminal above one.
    assert_eq!(denied(&all, "c.example", A), OPTED_OUT);
    assert_eq!(said(&all[..1], "c.example"), None, "without the closest encloser");
    // Without opt-out, the name does not exist.
    assert_eq!(said(&[delegation_a(0), apex(0)], "c.example"), Some(Delegation::None));
    assert_eq!(denied(&[delegation_a(0), apex(0)], "c.example", DS), None);
    assert_eq!(said(&[delegation_a(OPT_OUT)], "a.example"), None, "it has DS records");
}

/// Checks that a zone cannot deny names below a delegation (RFC 5155 section 8.3).
#[test]
fn a_delegation_or_a_dname_is_no_closest_encloser() {
    let span =
        |types: &[u16]| [plain(hash::A, hash::X_W, types), apex(OPT_OUT), x_w(), ns2(), w(), wildcard()];
    let below = ["www.a.example", "sub.a.example"];
    for text in below {
        for types in [&[NS, DS, RRSIG][..], &[NS, RRSIG], &[DNAME, RRSIG]] {
            assert_eq!(denied_name(&span(types), text), None, "{text} {types:?}");
            assert_eq!(said(&span(types), text), None, "{text} {types:?}");
            assert_eq!(denied(&span(types), text, A), None, "{text} {types:?}");
        }
    }
}

/// Checks appendix B.4.
#[test]
fn what_is_closer_than_a_wildcard_is_denied_by_what_covers_it() {
    assert_eq!(closer(&[ns2()], "z.w.example"), SECURE);
    assert_eq!(closer(&[x_w()], "z.w.example"), None);
    assert_eq!(closer(&[w(), wildcard()], "z.w.example"), None);
}

/// Checks appendix B.5.
#[test]
fn a_type_is_denied_by_the_wildcard_that_stands_for_the_name() {
    let all = [w(), ns2(), wildcard()];
    assert_eq!(denied(&all, "a.z.w.example", 28), SECURE);
    assert_eq!(denied(&all, "a.z.w.example", MX), None, "the wildcard has it");
    assert_eq!(denied_name(&all, "a.z.w.example"), None, "the wildcard stands for it");
    for missing in 0..3 {
        let mut some = all.to_vec();
        some.remove(missing);
        assert_eq!(denied(&some, "a.z.w.example", 28), None, "{missing}");
    }
}

/// Checks appendix B.6.
#[test]
fn only_the_parent_denies_ds() {
    assert_eq!(denied(&[apex(0)], "example", DS), None);
    assert_eq!(denied(&[delegation_a(0)], "a.example", A), None, "only the child denies others");
    let unsigned = [plain(hash::A, hash::X_W, &[NS])];
    assert_eq!(denied(&unsigned, "a.example", DS), SECURE);
    assert_eq!(said(&unsigned, "a.example"), Some(Delegation::Unsigned(None)));
    let host = [plain(hash::A, hash::X_W, &[A, RRSIG])];
    assert_eq!(said(&host, "a.example"), Some(Delegation::None));
    // The root has no parent.
    let root = |rtype| {
        let nsec =
            record(&[0], rtype::NSEC, 60, &[name("aaa").as_wire(), &bitmap(&[NS, SOA, RRSIG])].concat());
        denials_of(".", &[nsec]).records(&name("."), rtype, &mut Budget::default()).unwrap()
    };
    assert_eq!((root(DS), root(SOA)), (SECURE, None));
}

#[test]
fn unknown_flags_and_other_parameters_are_passed_over() {
    let odd = nsec3_with(2, 12, hash::X_W, hash::AI, &[MX, RRSIG]);
    assert_eq!(denied(&[odd], "x.w.example", A), None);
    // Section 8.2: records of two chains cannot be combined.
    let other = nsec3_with(0, 11, hash::X_W, hash::AI, &[MX, RRSIG]);
    assert_eq!(denied_name(&[apex(0), other, delegation_a(0)], "a.c.x.w.example"), None);
    // An owner that is not directly below the zone.
    let deep = record(
        name(&format!("{}.w.example", hash::X_W)).as_wire(),
        rtype::NSEC3,
        60,
        &[&[1, 0, 0, 12, 4, 0xaa, 0xbb, 0xcc, 0xdd, 20][..], &base32(hash::AI), &bitmap(&[MX])].concat(),
    );
    assert_eq!(denied(&[deep], "x.w.example", A), None);
}

#[test]
fn too_many_iterations_make_a_denial_insecure() {
    let many = |iterations| [nsec3_with(0, iterations, hash::X_W, hash::AI, &[MX, RRSIG])];
    let insecure = Strength::Insecure(Some(ede::UNSUPPORTED_ITERATIONS));
    assert_eq!(denied(&many(51), "www.example", A), Some(insecure));
    assert_eq!(denied(&many(50), "www.example", A), None);
    let unsigned = Delegation::Unsigned(Some(ede::UNSUPPORTED_ITERATIONS));
    assert_eq!(said(&many(51), "www.example"), Some(unsigned));
}

#[test]
fn names_are_hashed_so_often_and_no_more() {
    let deep = name(&"a.".repeat(120));
    let records = [apex(0), x_w()];
    let mut budget = Budget::default();
    let tries = (0..20).take_while(|number| {
        let below = deep.prepend(&[b'a' + number]).unwrap();
        denials_of(".", &records).name(&below, &mut budget).is_ok()
    });
    assert!((3..10).contains(&tries.count()));
}

fn nsec(owner: &str, next: &str, types: &[u16]) -> Vec<u8> {
    let rdata = [name(next).as_wire(), &bitmap(types)].concat();
    record(name(owner).as_wire(), rtype::NSEC, 60, &rdata)
}

const HOST: &[u16] = &[A, RRSIG, 47];

#[test]
fn names_between_two_do_not_exist() {
    let all = [nsec("b.example", "ns1.example", &[NS, RRSIG, 47]), nsec("example", "a.example", &[NS, SOA])];
    assert_eq!(denied_name(&all, "ml.example"), SECURE);
    assert_eq!(denied_name(&all[..1], "ml.example"), None, "nothing denies the wildcard");
    assert_eq!(denied_name(&all, "x.b.example"), None, "it is of another zone (RFC 6840 section 4.1)");
    assert_eq!(denied_name(&all, "b.example"), None);
    // The last record of the zone, and the only one.
    let last = nsec("z.example", "example", HOST);
    assert_eq!(denied_name(&[last.clone(), all[1].clone()], "zz.example"), SECURE);
    assert_eq!(denied_name(&[nsec("example", "example", &[NS, SOA])], "www.example"), SECURE);
    assert_eq!(denied_name(&[nsec("z.example", "a.example", HOST), all[1].clone()], "zz.example"), None);
    // A record of another zone, though it would cover the name.
    assert_eq!(denied_name(&[nsec("b.example", "z", HOST), all[1].clone()], "ml.example"), None);
    assert_eq!(denied_name(&[last, all[1].clone()], "zz.test"), None);
}

#[test]
fn white_lies_are_believed() {
    // Names made up by online signers: RFC 4470, and RFC 9824 with a bit for names that do not
    // exist.
    let lies =
        [nsec("wwv\\255.example", "www\\000.example", HOST), nsec(")\\255.example", "+.example", HOST)];
    assert_eq!(denied_name(&lies, "www.example"), SECURE);
    let compact = [nsec("www.example", "\\000.www.example", &[RRSIG, 47, rtype::NXNAME])];
    assert_eq!((denied_name(&compact, "www.example"), denied(&compact, "www.example", A)), (SECURE, SECURE));
}

#[test]
fn empty_non_terminals_exist() {
    let all = [nsec("a.example", "x.y.example", HOST), nsec("example", "a.example", &[NS, SOA])];
    assert_eq!((denied(&all, "y.example", A), denied_name(&all, "y.example")), (SECURE, None));
    assert_eq!(denied(&all, "w.example", A), None);
    assert_eq!(closer(&all, "y.example"), None, "a wildcard does not stand for it");
    assert_eq!(closer(&all, "w.example"), SECURE);
    assert_eq!(said(&all, "y.example"), Some(Delegation::None));
    // A similar name that ends in the same bytes.
    assert_eq!(denied(&all, "\\001y.example", A), None);
}

#[test]
fn wildcards_deny_types_of_names_that_do_not_exist() {
    let all = [nsec("*.w.example", "x.w.example", &[MX, RRSIG]), nsec("x.y.w.example", "xx.example", HOST)];
    assert_eq!(denied(&all, "a.z.w.example", 28), SECURE);
    assert_eq!(denied(&all, "a.z.w.example", MX), None);
    assert_eq!(denied(&all[..1], "a.z.w.example", 28), None);
    assert_eq!(denied(&all[1..], "a.z.w.example", 28), None);
    assert_eq!(denied_name(&all, "a.z.w.example"), None);
    // An empty non-terminal at the wildcard.
    let empty = [nsec("w.example", "a.*.w.example", HOST), nsec("x.w.example", "xx.example", HOST)];
    assert_eq!(denied(&empty, "z.w.example", A), SECURE);
}

#[test]
fn delegations_are_what_the_parent_says() {
    let unsigned = [nsec("b.example", "c.example", &[NS, RRSIG, 47])];
    assert_eq!(said(&unsigned, "b.example"), Some(Delegation::Unsigned(None)));
    for types in [&[NS, DS, RRSIG][..], &[NS, SOA, RRSIG]] {
        assert_eq!(said(&[nsec("b.example", "c.example", types)], "b.example"), None, "{types:?}");
    }
    assert_eq!(said(&unsigned, "bb.example"), Some(Delegation::None));
    assert_eq!(said(&unsigned, "x.b.example"), None, "it is of another zone");
    assert_eq!(said(&unsigned, "d.example"), None);
}

/// As for an NXDOMAIN that is to answer for a name below.
#[test]
fn a_response_denies_names_that_its_own_records_deny() {
    let soa = record(name("example").as_wire(), SOA, 60, &[0; 22]);
    let nsec = |owner: &str, next: &str| {
        record(name(owner).as_wire(), rtype::NSEC, 60, &[name(next).as_wire(), &bitmap(&[A])].concat())
    };
    let denies = |records: &[Vec<u8>], asked: &str| {
        denies_name(&Response::parse(&message(3, &[], records)).unwrap(), &name(asked))
    };
    let proof = [soa.clone(), nsec("b.example", "d.example"), nsec("example", "b.example")];
    assert!(denies(&proof, "c.example") && denies(&proof, "x.c.example"));
    assert!(!denies(&proof, "x.e.example") && !denies(&proof, "c.test") && !denies(&proof, "b.example"));
    assert!(!denies(&proof[..2], "c.example"), "there may be a wildcard");
    assert!(!denies(&proof[1..], "c.example"), "of an unknown zone");
    assert!(denies(&[soa], "c.example"), "an unsigned zone has no proof");
    let hashed =
        [record(name("example").as_wire(), SOA, 60, &[0; 22]), apex(0), plain(hash::A, hash::X_W, &[])];
    let deep = |labels: usize| format!("{}.example", vec!["a"; labels].join("."));
    let proves = |labels| denies(&hashed, &deep(labels));
    assert!(!proves(40), "so many hashes are not tried: {}", proves(3));
}
