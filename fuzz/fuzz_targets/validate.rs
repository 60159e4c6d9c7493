//! Arbitrary changes to the bytes that prove an answer: nothing panics, and every answer that is
//! called secure is the signed one.
//!
//! The first byte selects a question. Each change of a message is six bytes: which messages, the
//! offset (two), the kind of change, and its value (two).
#![no_main]

#[path = "../../control/dnssec/tests/forger/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "../../control/dnssec/tests/forger/zone.rs"]
#[allow(dead_code)]
mod zone;

use futures_util::FutureExt;
use libfuzzer_sys::fuzz_target;
use ringdns_dnssec::{
    Anchors, Name, ProvenAnswer, ProvenRecord, Response, ResponseSource, Standing, TrustAnchor, Unproven,
    validate,
};
use server::Tree;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock, Mutex},
};
use zone::{NOW, name, rtype};

static TREE: LazyLock<Tree> = LazyLock::new(Tree::plant);
static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let mut anchors = Anchors::default();
    let anchor = TrustAnchor::parse(rtype::DS, &TREE.root().ds()).expect("it is supported");
    anchors.add(&Name::root(), anchor);
    anchors
});

/// Questions of every kind.
static QUESTIONS: LazyLock<Vec<(Name, u16)>> = LazyLock::new(|| {
    let fronts =
        ["www", "x.wild", "alias", "away", "unsafe", "www.moved", "nothing", "ent", "plain", "child"];
    let zones = ["signed", "nsec3", "optout", "child.optout", "plain.nsec3"];
    let names = zones.iter().flat_map(|zone| fronts.map(|front| name(&format!("{front}.{zone}"))));
    names.flat_map(|name| [(name.clone(), rtype::A), (name, rtype::DS)]).collect()
});

/// Returns the unchanged message for a question, made once.
fn honest(name: &Name, rtype: u16) -> Vec<u8> {
    type Messages = HashMap<(Name, u16), Vec<u8>>;
    static KNOWN: LazyLock<Mutex<Messages>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().expect("nobody panics with it");
    let message = known.entry((name.clone(), rtype));
    message.or_insert_with(|| TREE.answer(name, rtype).to_wire()).clone()
}

struct Wire<'a>(&'a [u8]);

impl Wire<'_> {
    fn said(&self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<()>> {
        let mut message = honest(name, rtype);
        for change in
            self.0.chunks_exact(6).filter(|change| change[0] & 7 == 7 || change[0] & 7 == rtype as u8 & 7)
        {
            let word = |at: usize| usize::from(u16::from_be_bytes([change[at], change[at + 1]]));
            let (at, other) = (word(1) % message.len().max(1), word(4) % message.len().max(1));
            match change[3] % 5 {
                0 => message.iter_mut().skip(at).take(1).for_each(|byte| *byte = change[5]),
                1 => message.insert(at, change[5]),
                2 => drop(message.drain(at.min(other)..at.max(other))),
                3 => message.swap(at, other),
                _ => message.extend_from_within(at.min(other)..at.max(other)),
            }
            if message.is_empty() {
                message.push(0);
            }
        }
        Ok(Arc::new(Response::parse(&message)?))
    }

    fn judge(&self, name: &Name, qtype: u16) -> Result<ProvenAnswer, Unproven<()>> {
        let response = self.said(name, qtype)?;
        let validation = validate(self, &ANCHORS, NOW, name, qtype, response);
        validation.now_or_never().expect("all that is asked for is there at once")
    }
}

impl ResponseSource for Wire<'_> {
    type Error = ();

    async fn ask(&self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<()>> {
        self.said(name, rtype)
    }

    fn recall(&self, _: &Name) -> Option<Standing> {
        None
    }

    fn remember(&self, _: &Name, _: &Standing, _: u32) {}

    fn is_exempt(&self, _: &Name, _: u16) -> bool {
        false
    }
}

fn data(records: &[ProvenRecord]) -> BTreeSet<(Option<Name>, u16, Vec<u8>)> {
    let kept = records.iter().filter(|record| record.rtype != rtype::RRSIG);
    let data = kept.map(|record| {
        let mut rdata = record.rdata.clone();
        // The letter case of these is not signed.
        if matches!(record.rtype, rtype::CNAME | rtype::DNAME) {
            rdata.make_ascii_lowercase();
        }
        (Name::from_wire(&record.owner), record.rtype, rdata)
    });
    data.collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((question, changes)) = bytes.split_first() else { return };
    let (name, qtype) = &QUESTIONS[usize::from(*question) % QUESTIONS.len()];
    let Ok(verdict) = Wire(changes).judge(name, *qtype) else { return };
    let genuine = Wire(&[]).judge(name, *qtype).expect("the honest truth is believed");
    assert!(genuine.secure || !verdict.secure, "{name:?} {qtype} was made secure");
    if genuine.secure {
        assert!(verdict.secure, "{name:?} {qtype} was made insecure");
        assert_eq!((verdict.rcode, data(&verdict.answers)), (genuine.rcode, data(&genuine.answers)));
    }
});
