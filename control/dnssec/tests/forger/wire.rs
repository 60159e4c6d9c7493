//! The validator's source: a tree of zones, with a forger in between.

use crate::{
    forge::{Change, Forger, To},
    server::{Message, Tree},
    zone::{NOW, name, rtype},
};
use futures_util::FutureExt;
use ringdns_dnssec::{
    Anchors, Name, ProvenAnswer, Response, ResponseSource, Standing, TrustAnchor, Unproven, validate,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

pub static TREE: LazyLock<Tree> = LazyLock::new(Tree::plant);
pub static FORGER: LazyLock<Forger> = LazyLock::new(|| Forger::new(&TREE));
pub static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| anchored(&[]));

/// Returns the root's trust anchor and those of `zones`.
pub fn anchored(zones: &[&str]) -> Anchors {
    let mut anchors = Anchors::default();
    anchors.add(&Name::root(), TrustAnchor::parse(rtype::DS, &TREE.root().ds()).unwrap());
    for origin in zones {
        let anchor = TrustAnchor::parse(rtype::DS, &TREE.zone(origin).ds()).unwrap();
        anchors.add(&name(origin), anchor);
    }
    anchors
}

/// Returns the tree's answer, which is signed only once.
pub fn honest(name: &Name, rtype: u16) -> Message {
    static KNOWN: LazyLock<Mutex<HashMap<(Name, u16), Message>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap();
    known.entry((name.clone(), rtype)).or_insert_with(|| TREE.answer(name, rtype)).clone()
}

/// Source over the tree, with the forger's changes.
#[derive(Default)]
pub struct Wire {
    pub changes: Vec<(To, Change)>,
    /// Responses to these questions, in place of the tree's responses.
    pub lies: HashMap<(Name, u16), Message>,
    standings: Mutex<HashMap<Name, Standing>>,
    /// Number of questions that the validator has asked.
    pub asked: AtomicUsize,
}

impl Wire {
    fn said(&self, to: To, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<()>> {
        let lie = self.lies.get(&(name.clone(), rtype)).cloned();
        let mut message = lie.unwrap_or_else(|| honest(name, rtype));
        for (_, change) in self.changes.iter().filter(|(of, _)| *of == to || *of == To::All) {
            FORGER.apply(&TREE, name, change, &mut message);
        }
        Ok(Arc::new(Response::parse(&message.to_wire())?.for_ranges(true)))
    }

    pub fn judge(&self, name: &Name, qtype: u16) -> Result<ProvenAnswer, Unproven<()>> {
        self.judge_by(&ANCHORS, name, qtype)
    }

    pub fn judge_by(&self, anchors: &Anchors, name: &Name, qtype: u16) -> Result<ProvenAnswer, Unproven<()>> {
        let response = self.said(To::First, name, qtype)?;
        let validation = validate(self, anchors, NOW, name, qtype, response);
        validation.now_or_never().expect("all that is asked for is there at once")
    }
}

impl ResponseSource for Wire {
    type Error = ();

    async fn ask(&self, name: &Name, rtype: u16) -> Result<Arc<Response>, Unproven<()>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match rtype {
            rtype::DS => self.said(To::Ds, name, rtype),
            rtype::DNSKEY => self.said(To::Keys, name, rtype),
            _ => self.said(To::First, name, rtype),
        }
    }

    fn recall(&self, zone: &Name) -> Option<Standing> {
        self.standings.lock().unwrap().get(zone).cloned()
    }

    fn remember(&self, zone: &Name, standing: &Standing, secs: u32) {
        if secs > 0 {
            self.standings.lock().unwrap().insert(zone.clone(), standing.clone());
        }
    }

    fn is_exempt(&self, _: &Name, _: u16) -> bool {
        false
    }
}
