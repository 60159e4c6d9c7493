//! Limits of validation: time that passes, upstreams that fail, and ones that would cause endless
//! work. Real zones and servers show that answers are what their signatures say
//! (`tests/tests/dnssec/main.rs`).

use super::*;
use hickory_proto::{
    dnssec::{
        Algorithm, SigningKey, TBS,
        crypto::Ed25519SigningKey,
        rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG, sig::SigInput},
    },
    op::{Message, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType, SerialNumber,
        rdata::{A, SOA},
    },
};
use std::{cell::Cell, collections::HashSet, io::Write, str::FromStr};
use tempfile::NamedTempFile;

const INDETERMINATE: u16 = 5;
const EXPIRED: u16 = 7;
const NOT_YET_VALID: u16 = 8;
const RRSIGS_MISSING: u16 = 10;
const NO_ZONE_KEY_BIT: u16 = 11;
const NSEC_MISSING: u16 = 12;
const EXPIRED_BEFORE_VALID: u16 = 25;

/// Unix time at which each test begins.
pub(super) const START: u32 = 1_000_000;

thread_local! {
    /// The seconds of the test's clock. Its runtime has one thread.
    pub(super) static NOW: Cell<u32> = const { Cell::new(START) };
}

pub(super) fn pass(seconds: u32) {
    NOW.set(NOW.get() + seconds);
}

/// Root zone, the only signed zone.
pub(super) struct Root {
    pub(super) key: Ed25519SigningKey,
    dnskey: DNSKEY,
    /// Key that is in the zone and must not sign it.
    host: (Ed25519SigningKey, DNSKEY),
}

impl Root {
    pub(super) fn new() -> Self {
        let key = |flags| {
            let pkcs8 = Ed25519SigningKey::generate_pkcs8().unwrap();
            let key = Ed25519SigningKey::from_pkcs8(&pkcs8).unwrap();
            let dnskey = DNSKEY::with_flags(flags, key.to_public_key().unwrap());
            (key, dnskey)
        };
        let ((key, dnskey), host) = (key(257), key(0));
        Root { key, dnskey, host }
    }

    /// An RRset and its signature.
    fn signed(&self, rrset: &[Record], valid: [u32; 2]) -> Vec<Record> {
        self.signed_with((&self.key, &self.dnskey), rrset, valid)
    }

    pub(super) fn signed_with(
        &self,
        (key, dnskey): (&Ed25519SigningKey, &DNSKEY),
        rrset: &[Record],
        [from, until]: [u32; 2],
    ) -> Vec<Record> {
        let first = &rrset[0];
        let input = SigInput {
            type_covered: first.record_type(),
            algorithm: Algorithm::ED25519,
            num_labels: first.name.num_labels(),
            original_ttl: first.ttl,
            sig_expiration: SerialNumber::new(until),
            sig_inception: SerialNumber::new(from),
            key_tag: dnskey.calculate_key_tag().unwrap(),
            signer_name: Name::root(),
        };
        let tbs = TBS::from_input(&first.name, DNSClass::IN, &input, rrset.iter()).unwrap();
        let signature = RRSIG::from_sig(input, key.sign(&tbs).unwrap());
        let signature = RData::DNSSEC(DNSSECRData::RRSIG(signature));
        [rrset, &[Record::from_rdata(first.name.clone(), first.ttl, signature)]].concat()
    }

    pub(super) fn always(&self, rrset: &[Record]) -> Vec<Record> {
        self.signed(rrset, [START - 1_000_000, START + 100_000_000])
    }

    fn keys(&self) -> Vec<Record> {
        let record = |dnskey: &DNSKEY| {
            let data = RData::DNSSEC(DNSSECRData::DNSKEY(dnskey.clone()));
            Record::from_rdata(Name::root(), 86_400, data)
        };
        self.always(&[record(&self.dnskey), record(&self.host.1)])
    }

    /// Returns the root's proof that `unsigned.` is a delegation without DS.
    fn denial_of_ds(&self) -> Vec<Record> {
        let nsec = nsec("unsigned.", "zone.", [RecordType::NS, RecordType::NSEC, RecordType::RRSIG]);
        [self.always(&[soa(".")]), self.always(&[nsec])].concat()
    }
}

fn at(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_str(name).unwrap(), ttl, data)
}

pub(super) fn address(name: &str, ttl: u32) -> Record {
    at(name, ttl, RData::A(A::new(192, 0, 2, 1)))
}

pub(super) fn soa(zone: &str) -> Record {
    let nobody = Name::from_str("nobody.invalid.").unwrap();
    at(zone, 60, RData::SOA(SOA::new(nobody.clone(), nobody, 1, 1, 1, 1, 60)))
}

pub(super) fn nsec(name: &str, next: &str, types: [RecordType; 3]) -> Record {
    let next = Name::from_str(next).unwrap();
    at(name, 60, RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, types))))
}

/// Response of an upstream: answers, authorities; `None`: a failure.
pub(super) type Said = Option<(Vec<Record>, Vec<Record>)>;
/// Response with a response code.
pub(super) type Coded = Option<(ResponseCode, Vec<Record>, Vec<Record>)>;

/// Returns a resolver that validates by `root`. Its upstream gives the root's keys, and otherwise
/// answers by the script.
pub(super) fn validating(
    root: &Arc<Root>,
    more: &str,
    script: impl Fn(&Root, &str, RecordType) -> Said + Send + Sync + 'static,
) -> (Upstream, Arc<Resolver>) {
    validating_coded(root, more, move |root, name, qtype| {
        script(root, name, qtype).map(|(answers, rest)| (ResponseCode::NoError, answers, rest))
    })
}

/// Returns a resolver as [`validating`] does; the script gives response codes, too.
pub(super) fn validating_coded(
    root: &Arc<Root>,
    more: &str,
    script: impl Fn(&Root, &str, RecordType) -> Coded + Send + Sync + 'static,
) -> (Upstream, Arc<Resolver>) {
    let zone = root.clone();
    let fake = Upstream::local(move |seen| {
        let mut message = Message::from_vec(&seen.query).unwrap();
        let question = message.queries[0].clone();
        let name = question.name().to_lowercase().to_string();
        let said = match (name.as_str(), question.query_type()) {
            (".", RecordType::DNSKEY) => {
                script(&zone, ".", RecordType::DNSKEY).map(|(code, answers, rest)| {
                    (code, if answers.is_empty() { zone.keys() } else { answers }, rest)
                })
            }
            ("unsigned.", RecordType::DS) => Some((ResponseCode::NoError, vec![], zone.denial_of_ds())),
            (_, qtype) => script(&zone, &name, qtype),
        };
        message = message.into_response();
        message.edns = None;
        match said {
            Some((code, answers, authorities)) => {
                (message.answers, message.authorities) = (answers, authorities);
                message.metadata.response_code = code;
            }
            None => message.metadata.response_code = ResponseCode::ServFail,
        }
        let whole = message.to_vec().unwrap();
        if seen.over == Over::Tcp || whole.len() <= 1232 {
            return vec![Say::Send(whole)];
        }
        (message.answers, message.authorities) = (vec![], vec![]);
        message.metadata.truncation = true;
        vec![Say::Send(message.to_vec().unwrap())]
    });
    let mut anchor = NamedTempFile::new().unwrap();
    writeln!(anchor, ". IN DNSKEY {}", root.dnskey).unwrap();
    let dnssec = format!("[dnssec]\nvalidate = true\ntrust_anchor_file = {:?}\n", anchor.path());
    let config = config(&[upstream(fake.address(), LONG)], &format!("{dnssec}{more}"));
    let host = Arc::new(HostTier::new(1 << 22, Arc::default()));
    let clock = Clock::simulated(|| u64::from(NOW.get()) * 1_000_000_000);
    (fake, Resolver::new(host, &config, clock, FlightLimits::default(), None))
}

/// Returns RCODE, AD and extended error.
pub(super) fn told(resolved: &Resolved) -> (u8, bool, Option<u16>) {
    let Answer { status, ede, .. } = &*resolved.answer;
    (status.rcode(), status.flags() & header::AD != 0, *ede)
}

pub(super) const SECURE: (u8, bool, Option<u16>) = (rcode::NOERROR, true, None);

fn failed(ede: u16) -> (u8, bool, Option<u16>) {
    (rcode::SERVFAIL, false, Some(ede))
}

#[tokio::test]
async fn signatures_begin_and_end_by_the_programs_clock() {
    let root = Arc::new(Root::new());
    let more = "[cache]\nserve_stale = false\nfailure_ttl = \"1s\"\n";
    let (fake, resolver) = validating(&root, more, |root, name, qtype| match qtype {
        RecordType::A => Some((root.signed(&[address(name, 3600)], [START + 10, START + 200]), vec![])),
        _ => Some((vec![], vec![])),
    });
    assert_eq!(told(&resolver.resolve(&key_of("early.example", 1, true)).await), failed(NOT_YET_VALID));
    let key = key_of("www.example", 1, true);
    pass(100);
    let resolved = resolver.resolve(&key).await;
    assert_eq!(told(&resolved), SECURE);
    assert_eq!(resolved.answer.ttl, 100, "it ends with its signature, not with its TTL");
    let asked = fake.asked();
    pass(99);
    assert_eq!((told(&resolver.resolve(&key).await), fake.asked()), (SECURE, asked));
    pass(3600);
    assert_eq!(told(&resolver.resolve(&key).await), failed(EXPIRED), "though it was genuine a moment ago");
}

#[tokio::test]
async fn what_proves_answers_is_asked_for_once() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating(&root, "", |root, name, qtype| match qtype {
        RecordType::A => Some((root.always(&[address(name, 60)]), vec![])),
        _ => Some((vec![], vec![])),
    });
    for (name, asked) in [("one.example", 2), ("two.example", 3), ("three.example", 4), ("one.example", 4)] {
        assert_eq!(told(&resolver.resolve(&key_of(name, 1, true)).await), SECURE, "{name}");
        assert_eq!(fake.asked(), asked, "{name}: {:?}", fake.seen());
    }
    assert!(fake.seen().iter().all(|seen| seen.query.dnssec().0));
    // A client without DO needs no further questions.
    assert_eq!(told(&resolver.resolve(&key("one.example")).await), SECURE);
    assert_eq!((fake.asked(), resolver.under_way()), (4, 0));
}

#[tokio::test]
async fn renewals_bring_what_is_new() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating(&root, "", |root, name, qtype| match qtype {
        RecordType::A => Some((root.always(&[address(name, 100)]), vec![])),
        _ => Some((vec![], vec![])),
    });
    let key = key_of("www.example", 1, true);
    resolver.resolve(&key).await;
    pass(95);
    let asked = fake.asked();
    resolver.refresh(&key, &mut Turn::default());
    while resolver.under_way() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.asked(), asked + 1);
    pass(10);
    let resolved = resolver.resolve(&key).await;
    assert_eq!((resolved.age(NOW.get(), 0), fake.asked()), (Age::Fresh(10), asked + 1));
}

#[tokio::test]
async fn what_cannot_be_proven_for_want_of_an_answer_is_not_called_false() {
    let root = Arc::new(Root::new());
    let down = Arc::new(AtomicBool::new(false));
    let script = down.clone();
    let (_fake, resolver) = validating(&root, "[cache]\nmax_ttl = \"100s\"\n", move |root, name, qtype| {
        let keys = (root.keys(), vec![]);
        match qtype {
            RecordType::DNSKEY => (!script.load(Ordering::SeqCst)).then_some(keys),
            RecordType::A => Some((root.always(&[address(name, 50)]), vec![])),
            _ => Some((vec![], vec![])),
        }
    });
    let known = key_of("known.example", 1, true);
    assert_eq!(told(&resolver.resolve(&known).await), SECURE);
    down.store(true, Ordering::SeqCst);
    pass(200);
    let (rcode, _, ede) = told(&resolver.resolve(&key_of("www.example", 1, true)).await);
    assert_eq!(
        (rcode, ede),
        (rcode::SERVFAIL, Some(22)),
        "the keys have expired, and there are no newer ones"
    );
    assert_eq!(resolver.counters.validated_bogus.get(), 0);
    // The proven answer is still there (RFC 8767).
    assert_eq!(told(&resolver.resolve(&known).await), SECURE);
}

#[tokio::test]
async fn keys_that_are_not_for_zones_and_times_out_of_order_are_told() {
    let root = Arc::new(Root::new());
    let (_fake, resolver) = validating(&root, "", |root, name, qtype| match (name, qtype) {
        ("host.", RecordType::A) => {
            let (key, dnskey) = &root.host;
            let valid = [START - 10, START + 1000];
            Some((root.signed_with((key, dnskey), &[address(name, 60)], valid), vec![]))
        }
        (_, RecordType::A) => Some((root.signed(&[address(name, 60)], [START + 10, START - 10]), vec![])),
        _ => Some((vec![], vec![])),
    });
    assert_eq!(told(&resolver.resolve(&key_of("host", 1, true)).await), failed(NO_ZONE_KEY_BIT));
    assert_eq!(told(&resolver.resolve(&key_of("order", 1, true)).await), failed(EXPIRED_BEFORE_VALID));
}

#[tokio::test]
async fn an_unsigned_zone_does_not_deny_the_names_of_others() {
    let root = Arc::new(Root::new());
    let (_fake, resolver) = validating(&root, "", |_, name, qtype| match (name, qtype) {
        ("www.unsigned.", RecordType::A) => Some((vec![], vec![soa("unsigned.")])),
        (_, RecordType::A) => {
            let types = [RecordType::TXT, RecordType::NSEC, RecordType::RRSIG];
            Some((vec![], vec![nsec("a.unsigned.", "b.unsigned.", types)]))
        }
        _ => Some((vec![], vec![])),
    });
    let denied = (rcode::NOERROR, false, None);
    assert_eq!(told(&resolver.resolve(&key_of("www.unsigned", 1, true)).await), denied);
    assert_eq!(told(&resolver.resolve(&key_of("www.signed", 1, true)).await), failed(NSEC_MISSING));
}

#[tokio::test]
async fn work_has_an_end() {
    let root = Arc::new(Root::new());
    let (fake, resolver) = validating(&root, "", |root, name, qtype| match (name, qtype) {
        ("many.sets.", RecordType::A) => {
            let set = |number| root.always(&[nsec(&format!("{number}.sets."), "sets.", [RecordType::A; 3])]);
            Some((vec![], (0..65).flat_map(set).collect()))
        }
        ("many.signatures.", RecordType::A) => {
            let signed = |number| {
                let rrset = [nsec(&format!("{number}.signatures."), "signatures.", [RecordType::A; 3])];
                let mut records = rrset.to_vec();
                for later in 0..9 {
                    records.extend(root.signed(&rrset, [START - 10, START + 1000 + later]).pop());
                }
                records
            };
            Some((vec![], (0..64).flat_map(signed).collect()))
        }
        ("ninth.", RecordType::A) => {
            // The last of nine signatures is the valid one, and is not checked.
            let rrset = [address(name, 60)];
            let mut records = rrset.to_vec();
            for later in 0..9 {
                let mut signature = root.signed(&rrset, [START - 10, START + 1000 + later]).pop().unwrap();
                if let (RData::DNSSEC(DNSSECRData::RRSIG(rrsig)), 0..8) = (&mut signature.data, later) {
                    *rrsig = RRSIG::from_sig(rrsig.input().clone(), vec![0; 64]);
                }
                records.push(signature);
            }
            Some((records, vec![]))
        }
        ("arpa.", RecordType::DS) => {
            let types = [RecordType::TXT, RecordType::NSEC, RecordType::RRSIG];
            Some((vec![], root.always(&[nsec("arp.", "b.arpa.", types)])))
        }
        (deep, RecordType::DS) => {
            let types = [RecordType::TXT, RecordType::NSEC, RecordType::RRSIG];
            Some((vec![], root.always(&[nsec(deep, &format!("a.{deep}"), types)])))
        }
        (deep, RecordType::A) => Some((vec![address(deep, 60)], vec![])),
        _ => Some((vec![], vec![])),
    });
    for name in ["many.sets", "many.signatures"] {
        assert_eq!(told(&resolver.resolve(&key_of(name, 1, true)).await), failed(INDETERMINATE), "{name}");
    }
    assert_eq!(told(&resolver.resolve(&key_of("ninth", 1, true)).await), failed(6));
    let ask = async |name: &str| {
        let asked = fake.asked();
        let told = told(&resolver.resolve(&key_of(name, 1, true)).await);
        (told, fake.asked() - asked)
    };
    // A name with many labels, each of which might be a zone: that there is no DS is proven one
    // by one.
    let deep = format!("{}.deep", vec!["a"; 100].join("."));
    assert_eq!(ask(&deep).await, (failed(RRSIGS_MISSING), 102));
    // Or the proof covers all names below.
    let deep = format!("{}.arpa", vec!["a"; 32].join("."));
    assert_eq!(ask(&deep).await, (failed(RRSIGS_MISSING), 2));
    let distinct: HashSet<_> = fake
        .seen()
        .iter()
        .map(|seen| (seen.query.name(), seen.query.qtype(), seen.over == Over::Tcp))
        .collect();
    assert_eq!(distinct.len(), fake.asked(), "each was asked once");
    assert_eq!(resolver.under_way(), 0);
}
