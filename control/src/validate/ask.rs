//! How the validator asks: by way of the resolver, with DO=1 and CD=1, and no more than an answer is worth.

use super::{
    ITERATIONS_MAX,
    extended::{INDETERMINATE, NO_REACHABLE_AUTHORITY},
    proof::{self, Unproven},
    runtime::Runtime,
};
use crate::{
    names,
    resolver::{
        self, Resolver,
        upstream::{Failed, is_answer},
    },
};
use futures_util::stream::{self, Stream};
use hickory_net::{
    DnsHandle, NetError,
    proto::{
        dnssec::rdata::DNSSECRData,
        op::{DnsRequest, DnsResponse, Message},
        rr::{Name, RData, Record, RecordType},
        serialize::binary::BinEncodable,
    },
};
use ringdns_dataplane::{
    clock::Clock,
    dns::{key::Key, reply::Age},
    log::Source,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Weak},
};

/// Questions to the resolver for one answer, most of which the host tier answers. A name of ten labels in as many zones needs
/// some thirty.
const LOOKUPS_MAX: u32 = 128;
/// Signatures that are looked at for one answer. Each is tried with two keys at most.
const SIGNATURES_MAX: u32 = 512;
/// Signatures of an RRset that are looked at; the others are as if they were not there (KeyTrap, CVE-2023-50387).
const SIGNATURES_OF_RRSET: usize = 8;
/// Zones of one answer that may count as unsigned for the iterations of their parents' NSEC3.
const EXCESSES_MAX: usize = 4;

tokio::task_local! {
    /// On the answer that this task looks for.
    pub static WORK: Work;
}

/// What has been done for an answer, and what was found out on the way.
pub struct Work {
    /// Of the program.
    pub clock: Clock,
    lookups: Cell<u32>,
    signatures: Cell<u32>,
    /// Who had the response to what was asked first: the question itself.
    pub source: Cell<Option<Source>>,
    /// What was fetched last: what is proven must be what is answered with, though nobody kept it.
    last: RefCell<Option<(Name, RecordType, Message)>>,
    /// Why something could not be had. What fails to be proven after that says nothing about the answer.
    pub failed: Cell<Option<Unproven>>,
    /// Zones of which too many iterations of NSEC3 are to prove that they are unsigned.
    pub excesses: RefCell<Vec<Name>>,
}

impl Work {
    /// None done yet.
    pub fn new(clock: Clock) -> Self {
        Work {
            clock,
            lookups: Cell::new(LOOKUPS_MAX),
            signatures: Cell::new(SIGNATURES_MAX),
            source: Cell::default(),
            last: RefCell::default(),
            failed: Cell::default(),
            excesses: RefCell::default(),
        }
    }

    /// Takes out of a response what is not worth the work, and what nothing is answered with. `None`: there is no end to it.
    fn trim(&self, message: &mut Message) -> Option<()> {
        let mut signatures: HashMap<_, usize> = HashMap::new();
        let mut within = |record: &Record| {
            if record.record_type() != RecordType::RRSIG {
                return true;
            }
            let count = signatures.entry(proof::rrset(record)).or_default();
            *count += 1;
            *count <= SIGNATURES_OF_RRSET
        };
        message.additionals.clear();
        message.answers.retain(&mut within);
        message.authorities.retain(&mut within);
        let kept: usize = signatures.values().map(|count| *count.min(&SIGNATURES_OF_RRSET)).sum();
        spend(&self.signatures, u32::try_from(kept).ok()?)
    }

    /// Remembers a response for DS records that says more than the validator understands.
    fn note(&self, zone: &Name, message: &Message) {
        let mut excesses = self.excesses.borrow_mut();
        if excesses.len() < EXCESSES_MAX && !excesses.contains(zone) && iterates_too_often(message) {
            excesses.push(zone.clone());
        }
    }
}

/// Whether NSEC3 records of a response want more hashing than is done.
pub fn iterates_too_often(message: &Message) -> bool {
    message.authorities.iter().any(|record| match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => nsec3.iterations() > ITERATIONS_MAX,
        _ => false,
    })
}

fn spend(left: &Cell<u32>, price: u32) -> Option<()> {
    let rest = left.get().checked_sub(price);
    left.set(rest.unwrap_or(0));
    rest.map(drop)
}

/// The question for what is proven with.
pub fn key_for(name: &Name, qtype: RecordType) -> Option<Key> {
    let wire = name.to_lowercase().to_bytes().ok()?;
    names::key(&wire, qtype.into(), true, true)
}

/// A response as it came, and the extended error in it. `renew`: what is to be renewed is.
pub async fn fetch(
    resolver: &Arc<Resolver>,
    name: &Name,
    qtype: RecordType,
    renew: bool,
) -> Result<(Message, Option<u16>), Unproven> {
    const ENDLESS: Unproven = Unproven::Bogus(INDETERMINATE);
    let failed = |code| Unproven::Failed(Failed::Upstreams(code));
    WORK.with(|work| spend(&work.lookups, 1)).ok_or(ENDLESS)?;
    let key = key_for(name, qtype).ok_or(ENDLESS)?;
    let found = resolver.current(&key, renew).await;
    WORK.with(|work| work.source.set(work.source.get().or(Some(found.source))));
    let age = found.age(resolver.clock().secs(), 0);
    let answer = &found.answer;
    if !is_answer(answer.status.rcode()) {
        // What says nothing about the question is kept by nobody.
        let ours = answer.ttl == 0 && answer.ede.is_none();
        let theirs = Failed::Upstreams(answer.ede.unwrap_or(NO_REACHABLE_AUTHORITY));
        return Err(Unproven::Failed(if ours { Failed::Ourselves } else { theirs }));
    }
    if matches!(age, Age::Stale(_)) {
        return Err(failed(NO_REACHABLE_AUTHORITY));
    }
    let message = resolver::message(&key, answer, age).ok_or(ENDLESS)?;
    WORK.with(|work| *work.last.borrow_mut() = Some((name.clone(), qtype, message.clone())));
    Ok((message, answer.ede))
}

/// The way to the resolver.
#[derive(Clone)]
pub struct Ask(pub Weak<Resolver>);

impl DnsHandle for Ask {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = Runtime;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let resolver = self.0.clone();
        let asking = async move {
            let query = request.queries.first().ok_or(NetError::Message("no question"))?;
            let (name, qtype) = (query.name(), query.query_type());
            let last = WORK.with(|work| match &*work.last.borrow() {
                Some((last, rtype, message)) if (last, *rtype) == (name, qtype) => Some(message.clone()),
                _ => None,
            });
            let mut message = match last {
                Some(message) => message,
                None => {
                    let resolver = resolver.upgrade().ok_or(NetError::Message("the resolver is gone"))?;
                    let fetched = fetch(&resolver, name, qtype, false).await;
                    fetched.map_err(|why| failing(why, "no answer"))?.0
                }
            };
            if qtype == RecordType::DS {
                WORK.with(|work| work.note(name, &message));
            }
            WORK.with(|work| work.trim(&mut message))
                .ok_or_else(|| failing(Unproven::Bogus(INDETERMINATE), "too many signatures"))?;
            Ok(DnsResponse::from_message(message)?)
        };
        Box::pin(stream::once(Box::pin(asking)))
    }
}

/// The first failure is what the others follow from.
fn failing(why: Unproven, said: &'static str) -> NetError {
    WORK.with(|work| work.failed.set(work.failed.get().or(Some(why))));
    NetError::Message(said)
}
