//! Shapes of packets: all that is ordinary and not a bare question over IPv4, each as bursts through the
//! processor. A shape that costs much more than others is the one that an attacker would send.

use super::{
    CACHE, Meter,
    answer::Content,
    form::{Fate, Form},
    parts::{CookieKind, EdnsOption, Labels, Sum},
};
use crate::stage::{Ip, Stage};
use anyhow::{Result, ensure};
use ringdns_dataplane::{
    access::AccessList,
    checksum::Checksums,
    policy::{QueryPolicy, Refusal},
    port::BURST,
    process::TurnTally,
};
use std::sync::Arc;

/// Bursts before the count, for lazily made memory and first-time branches.
const WARM_BURSTS: usize = 2;
/// Bursts that are counted.
const BURSTS: usize = 4;
/// Most instructions of a well-formed hit, as the design wants it.
pub const HIT: f64 = 600.0;
/// Most instructions of a hit whose cookie is checked.
pub const COOKIE: f64 = 750.0;
/// Most instructions of a stale answer that the control plane is asked to renew, as it is twice a minute.
const RENEWED: f64 = 1_600.0;
/// Most instructions of a packet that is refused or dropped.
pub const REFUSED: f64 = 300.0;

/// Shape of packets.
#[derive(Debug)]
pub struct Shape {
    /// Name on the command line.
    pub name: &'static str,
    /// Most instructions that the design allows a packet.
    pub goal: f64,
    /// Form of the packets.
    pub form: fn() -> Form,
}

const fn shape(name: &'static str, goal: f64, form: fn() -> Form) -> Shape {
    Shape { name, goal, form }
}

const PADDING: EdnsOption = EdnsOption::Padding(64);
const UNKNOWN: EdnsOption = EdnsOption::Unknown(0);
const CLIENT_COOKIE: EdnsOption = EdnsOption::Cookie(CookieKind::Client);
const SERVER_COOKIE: EdnsOption = EdnsOption::Cookie(CookieKind::Server);

/// All shapes.
pub const SHAPES: &[Shape] = &[
    // The link and the network.
    shape("v4", HIT, Form::default),
    shape("v4-sum-zero", HIT, || Form { sum: Sum::Zero, ..Form::default() }),
    shape("v4-sum-partial", HIT, || Form::partial(Ip::V4)),
    shape("v4-trusted", HIT, || Form { checksums: Checksums::Trust, ..Form::default() }),
    shape("v4-vlan", HIT, || Form { tags: 1, ..Form::default() }),
    shape("v4-qinq", HIT, || Form { tags: 2, ..Form::default() }),
    shape("v4-vlan-sum-zero", HIT, || Form { tags: 1, sum: Sum::Zero, ..Form::default() }),
    shape("v6", HIT, || Form { ip: Ip::V6, ..Form::default() }),
    shape("v6-sum-partial", HIT, || Form::partial(Ip::V6)),
    shape("v6-trusted", HIT, || Form { ip: Ip::V6, checksums: Checksums::Trust, ..Form::default() }),
    shape("v6-vlan", HIT, || Form { ip: Ip::V6, tags: 1, ..Form::default() }),
    // The name.
    shape("name-27", HIT, || Form { name: 27, ..Form::default() }),
    shape("name-28", HIT, || Form { name: 28, ..Form::default() }),
    shape("name-59", HIT, || Form { name: 59, ..Form::default() }),
    shape("name-60", HIT, || Form { name: 60, ..Form::default() }),
    shape("name-120", HIT, || Form { name: 120, ..Form::default() }),
    shape("name-255", HIT, || Form { name: 255, ..Form::default() }),
    shape("name-255-deep", HIT, || Form { name: 255, labels: Labels::Short, ..Form::default() }),
    shape("name-upper", HIT, || Form { is_upper: true, ..Form::default() }),
    // The query.
    shape("edns", HIT, || Form::with_options(&[])),
    shape("edns-do", HIT, || Form { dnssec_ok: true, ..Form::with_options(&[]) }),
    shape("edns-cd", HIT, || Form { flags: 0x0110, ..Form::with_options(&[]) }),
    shape("edns-padding", HIT, || Form::with_options(&[PADDING])),
    shape("edns-nsid", HIT, || Form::with_options(&[EdnsOption::Nsid])),
    shape("edns-nsid-named", HIT, || Form { server_name: 16, ..Form::with_options(&[EdnsOption::Nsid]) }),
    shape("edns-keepalive", HIT, || Form::with_options(&[EdnsOption::Keepalive])),
    shape("edns-subnet", HIT, || Form::with_options(&[EdnsOption::Subnet])),
    shape("edns-eight-options", HIT, || Form::with_options(&[UNKNOWN; 8])),
    shape("cookie-client", COOKIE, || Form::with_options(&[CLIENT_COOKIE])),
    shape("cookie-server", COOKIE, || Form::with_options(&[SERVER_COOKIE])),
    shape("cookie-server-v6", COOKIE, || Form { ip: Ip::V6, ..Form::with_options(&[SERVER_COOKIE]) }),
    shape("cookie-long", COOKIE, || Form { name: 59, ..Form::with_options(&[SERVER_COOKIE]) }),
    // The answer.
    shape("answer-aaaa", HIT, || Form { content: Content::Aaaa, ..Form::default() }),
    shape("answer-ten", HIT, || Form { content: Content::Addresses(10), ..Form::default() }),
    shape("answer-alias", HIT, || Form { content: Content::Aliases(1), ..Form::default() }),
    shape("answer-text", HIT, || Form { content: Content::Text(400), ..Form::default() }),
    shape("answer-signed", HIT, || Form {
        content: Content::Signed,
        dnssec_ok: true,
        ..Form::with_options(&[])
    }),
    shape("answer-authentic", HIT, || Form { content: Content::Authentic, ..Form::default() }),
    shape("answer-nxdomain", HIT, || Form { content: Content::Nxdomain, ..Form::default() }),
    shape("answer-nodata", HIT, || Form { content: Content::NoData, ..Form::default() }),
    shape("answer-servfail", HIT, || Form { content: Content::Failure, ..Form::default() }),
    shape("answer-cut", HIT, || Form { content: Content::Addresses(60), ..Form::default() }),
    shape("answer-stale", HIT, || Form { is_stale: true, is_asked_again: true, ..Form::default() }),
    shape("answer-stale-edns", HIT, || Form {
        is_stale: true,
        is_asked_again: true,
        ..Form::with_options(&[])
    }),
    shape("answer-stale-renewed", RENEWED, || Form { is_stale: true, ..Form::default() }),
    // What gets no answer of a cache.
    shape("refused", REFUSED, || Form { fate: Fate::Refused, ..Form::default() }),
    shape("refused-edns", REFUSED, || Form { fate: Fate::Refused, ..Form::with_options(&[]) }),
    shape("denied", REFUSED, || Form { fate: Fate::Denied, ..Form::default() }),
    shape("no-recursion", REFUSED, || Form { fate: Fate::Reply, flags: 0, ..Form::default() }),
    shape("drop-sum", REFUSED, || Form { fate: Fate::Drop, sum: Sum::Wrong, ..Form::default() }),
    shape("drop-response", REFUSED, || Form { fate: Fate::Drop, flags: 0x8100, ..Form::default() }),
    shape("drop-short", REFUSED, || Form { fate: Fate::Drop, cut: Some(10), ..Form::default() }),
    shape("malformed", REFUSED, || Form { fate: Fate::Reply, labels: Labels::Invalid, ..Form::default() }),
];

/// Runs bursts of packets of a shape.
pub fn run(shape: &Shape, meter: &mut dyn Meter) -> Result<u64> {
    let form = (shape.form)();
    let mut stage = Stage::new(CACHE)?;
    if let Fate::Refused | Fate::Denied = form.fate {
        let refusal = if form.fate == Fate::Denied { Refusal::Drop } else { Refusal::Answer };
        let access = AccessList::new(&["192.0.2.0/24".parse()?], &[])?;
        let policy = QueryPolicy { access, refusal, ..QueryPolicy::clone(stage.processor.policy()) };
        stage.processor.set_policy(Arc::new(policy));
    }
    if form.server_name > 0 {
        let nsid = Some(vec![b's'; form.server_name.into()].into_boxed_slice());
        let policy = QueryPolicy { nsid, ..QueryPolicy::clone(stage.processor.policy()) };
        stage.processor.set_policy(Arc::new(policy));
    }
    for number in 0..(WARM_BURSTS + BURSTS) * BURST {
        if let Some((query, answer)) = form.filed(number)? {
            stage.processor.cache().insert(&query.key, &answer, 0);
        }
        stage.load(number % BURST, &form.packet(number, form.now())?);
        if number % BURST != BURST - 1 {
            continue;
        }
        if number < WARM_BURSTS * BURST {
            let fates = stage.run_as(form.now(), form.checksums).0;
            let matching = (0..BURST).filter(|nth| form.fate.matches(fates.verdict(*nth))).count();
            ensure!(matching == BURST, "{matching} of {BURST} packets had the expected outcome");
            continue;
        }
        if form.is_asked_again {
            stage.run_as(form.now(), form.checksums);
            for again in 0..BURST {
                stage.load(again, &form.packet(number + 1 - BURST + again, form.now())?);
            }
        }
        let mut tally = TurnTally::default();
        meter.measure(&mut || tally = stage.run_as(form.now(), form.checksums).1);
        let (answers, expected) =
            (tally.hits + tally.stale, if form.is_counted() { BURST as u64 } else { 0 });
        ensure!(
            answers == expected,
            "{answers} of {BURST} packets were answered by the cache, not {expected}"
        );
    }
    Ok((BURSTS * BURST) as u64)
}
