//! Tests of NOTIFY messages (RFC 1996).

use super::{policy::packet_from, *};
use crate::{
    access::AccessList,
    dns::{header, rtype},
    limiter::{LimitConfig, MISS},
    policy::Refusal,
};

const PRIMARY: &str = "192.0.2.9";
const STRANGER: &str = "192.0.2.10";
const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// Lets the control plane have the NOTIFY messages of a primary.
fn transfer_zones(f: &mut Fixture, policy: QueryPolicy) {
    let primaries = [PRIMARY, "2001:db8::9"].map(|text| text.parse().unwrap());
    f.processor.set_policy(Arc::new(QueryPolicy { primaries: primaries.into(), ..policy }));
}

fn record(rtype: u16, data: &[u8]) -> Vec<u8> {
    let head = [&[0xc0, 12][..], &rtype.to_be_bytes(), &[0, 1, 0, 0, 0, 0]].concat();
    [&head, &(data.len() as u16).to_be_bytes()[..], data].concat()
}

/// Returns a NOTIFY with its question and records, as RFC 1996 section 3.7 has it.
fn message(question: (u16, u16), answers: &[Vec<u8>], additional: &[Vec<u8>]) -> Vec<u8> {
    let counts = [1, answers.len() as u16, 0, additional.len() as u16].map(u16::to_be_bytes);
    let name = b"\x03rpz\x07example\0";
    let question = [&name[..], &question.0.to_be_bytes(), &question.1.to_be_bytes()].concat();
    let head = [&[0x12, 0x34, 0x24, 0][..], counts.as_flattened(), &question].concat();
    [head, answers.concat(), additional.concat()].concat()
}

fn notify() -> Vec<u8> {
    message((rtype::SOA, 1), &[], &[])
}

/// Returns NOTIFY messages of a primary: whether the control plane gets it, or the response code.
fn cases() -> Vec<(&'static str, Vec<u8>, Option<u8>)> {
    let soa = record(rtype::SOA, &[0; 22]);
    let signature = || record(250, &[0; 61]);
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut message = notify();
        change(&mut message);
        message
    };
    vec![
        ("plain", notify(), None),
        ("with the SOA record", message((rtype::SOA, 1), std::slice::from_ref(&soa), &[]), None),
        ("signed", message((rtype::SOA, 1), std::slice::from_ref(&soa), &[signature()]), None),
        ("flags", changed(|message| message[2..4].copy_from_slice(&[0x27, 0xff])), None),
        ("another type", message((1, 1), &[], &[]), Some(FORMERR)),
        ("another class", message((rtype::SOA, 3), &[], &[]), Some(FORMERR)),
        ("trailing bytes", changed(|message| message.push(0)), Some(FORMERR)),
        ("no question", changed(|message| message[5] = 0), Some(FORMERR)),
        ("two questions", changed(|message| message[5] = 2), Some(FORMERR)),
        ("a record that is not there", changed(|message| message[7] = 1), Some(FORMERR)),
        ("65,535 records", changed(|message| message[10..12].fill(0xff)), Some(FORMERR)),
        ("many records", message((rtype::SOA, 1), &[], &vec![signature(); 4]), Some(FORMERR)),
        ("half a name", changed(|message| message.truncate(20)), Some(FORMERR)),
        ("large", message((rtype::SOA, 1), &[], &[record(250, &[0; 1_400])]), None),
        ("another operation", changed(|message| message[2] = 0x28), Some(NOTIMP)),
    ]
}

/// A primary's NOTIFY goes to the control plane if it is well-formed; others do not have it, and all
/// else gets an error without records, on every path.
#[test]
fn a_notify_of_a_primary_goes_to_the_control_plane() {
    let checksums = [Checksums::Verify, Checksums::Unused, Checksums::Trust];
    for (case, message, expected) in cases() {
        for (client, is_primary) in [(PRIMARY, true), ("2001:db8::9", true), (STRANGER, false)] {
            for (zones, checksums) in [false, true].into_iter().zip(checksums.into_iter().cycle()) {
                let mut f = Fixture::new();
                if zones {
                    transfer_zones(&mut f, QueryPolicy::default());
                }
                let (verdict, reply) = f.send(0, &packet_from(client, &message), checksums);
                let context = format!("{case} from {client}, {zones}: {verdict:?}");
                let expected = if zones && is_primary { expected } else { Some(NOTIMP) };
                let Some(rcode) = expected else {
                    assert!(matches!(verdict, Verdict::Notify(_)), "{context}");
                    continue;
                };
                assert_eq!(verdict, Verdict::Reply, "{context}");
                let reply = packet::tests::received(&reply);
                assert_eq!((reply.len(), reply[3] & 0x0f), (header::LEN, rcode), "{context}");
                assert_eq!(reply[2] & 0xf8, 0x80 | message[2] & 0x78, "{context}");
                assert!(reply.len() <= message.len(), "{context}");
                f.stats.add(Counter::Received, 1);
                assert_eq!(f.stats.snapshot().unaccounted(), 0, "{context}");
            }
        }
    }
}

#[test]
fn a_reply_to_a_notify_is_dropped() {
    let mut f = Fixture::new();
    transfer_zones(&mut f, QueryPolicy::default());
    let mut reply = notify();
    reply[2] |= 0x80;
    let (verdict, _) = f.send(0, &packet_from(PRIMARY, &reply), Checksums::Verify);
    assert_eq!(verdict, Verdict::Drop(DropReason::Response));
}

#[test]
fn the_access_list_applies_to_primaries() {
    for (refusal, expected) in
        [(Refusal::Answer, Verdict::Reply), (Refusal::Drop, Verdict::Drop(DropReason::Denied))]
    {
        let mut f = Fixture::new();
        let access = AccessList::new(&["192.0.2.0/29".parse().unwrap()], &[]).unwrap();
        transfer_zones(&mut f, QueryPolicy { access, refusal, ..QueryPolicy::default() });
        let (verdict, reply) = f.send(0, &packet_from(PRIMARY, &notify()), Checksums::Verify);
        assert_eq!(verdict, expected);
        if verdict.is_reply() {
            assert_eq!(packet::tests::received(&reply)[3] & 0x0f, REFUSED);
        }
    }
}

/// A forged sender is limited as any client, and gets no TC=1, which is no reply to a NOTIFY.
#[test]
fn a_flood_is_limited() {
    let mut f = Fixture::new();
    let exempt = AccessList::new(&[], &[]).unwrap();
    let limit = LimitConfig {
        per_second: 200,
        burst: 400,
        slip: 1,
        exempt,
        dry_run: false,
        flood_times: 0,
        groups: None,
    };
    transfer_zones(&mut f, QueryPolicy { limit: Some(limit), ..QueryPolicy::default() });
    f.processor.set_time(0);
    let packet = packet_from(PRIMARY, &notify());
    let verdicts: Vec<_> = (0..1_000).map(|_| f.send(0, &packet, Checksums::Verify).0).collect();
    let passed = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Notify(_))).count() as u64;
    assert!((1..=400 / u64::from(MISS) + 1).contains(&passed), "{passed}");
    let dropped = verdicts.iter().filter(|verdict| **verdict == Verdict::Drop(DropReason::Limited)).count();
    assert_eq!(passed + dropped as u64, 1_000);
}
