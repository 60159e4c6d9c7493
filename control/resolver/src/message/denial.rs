//! Denials in their usual form, which are judged without decoding them.

use super::{SettledBytes, is_possible};
use ringdns_dataplane::dns::{
    header::{self, Header},
    key::Key,
    record::RecordHead,
    rtype,
};
use ringdns_dnssec::rdata;
use std::cell::RefCell;
use zerocopy::FromBytes;

thread_local! {
    /// Expanded data of the record that a thread looks at.
    static DATA: RefCell<Vec<u8>> = RefCell::default();
}

/// Whether a response to `key` has one record beside OPT, the SOA record of a zone that the name is in,
/// and its owner points to the question or is the root. As a list of records such a response would be
/// well-formed, have nothing to be removed, and be written as it came. The caller has checked the
/// question, and that the response has no additional record but OPT.
pub fn is_plain(message: &[u8], key: &Key) -> bool {
    let at = header::LEN + key.question().len();
    let Ok((header, _)) = Header::ref_from_prefix(message) else { return false };
    if (header.ancount.get(), header.nscount.get()) != (0, 1) {
        return false;
    }
    let Some(record) = RecordHead::parse(message, at) else { return false };
    if record.rtype != rtype::SOA
        || record.class != key.asked().qclass()
        || !is_above(message.get(at..record.ttl_at - 4).unwrap_or_default(), key.asked().name())
    {
        return false;
    }
    let settled = SettledBytes { records: at, ttls: &[record.ttl_at] };
    DATA.with_borrow_mut(|data| {
        data.clear();
        let range = record.rdata..record.end;
        rdata::copy_where(record.rtype, message, range, data, |range| settled.have(range)).is_some()
            && is_possible(record.rtype, record.class, data)
    })
}

/// Whether an owner as it stands in a message is the root, or points to a label of `name` in the
/// question.
fn is_above(owner: &[u8], name: &[u8]) -> bool {
    match *owner {
        [0] => true,
        [p1 @ 0xc0..=0xff, p0] => {
            let target = usize::from(u16::from_be_bytes([p1 & 0x3f, p0]));
            target.checked_sub(header::LEN).is_some_and(|target| is_label(name, target))
        }
        _ => false,
    }
}

/// Whether a label of `name`, or its end, begins at this offset.
fn is_label(name: &[u8], offset: usize) -> bool {
    let mut at = 0;
    while at < offset {
        match name.get(at) {
            None | Some(0) => return false,
            Some(len) => at += 1 + usize::from(*len),
        }
    }
    at == offset && at < name.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        Message,
        scrub::{Scrubbed, scrub},
    };
    use proptest::{prelude::*, sample::select};
    use ringdns_common::names;

    /// Offsets in a message about `www.example`: the name, its parent, the root, and the first record.
    const WWW: u8 = 12;
    const EXAMPLE: u8 = 16;
    const ROOT: u8 = 24;
    const RECORD: u8 = 29;

    fn key() -> Key {
        names::key(&names::name("www.example").unwrap(), 1, false, false).unwrap()
    }

    /// Returns a response with an SOA record, and with OPT and other records on the wire.
    fn response(owner: &[u8], class: u8, data: &[u8], authorities: u8, more: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![0, 0, 0x81, 0x83, 0, 1, 0, 0, 0, authorities, 0, more.len() as u8];
        message.extend(b"\x03wWw\x07exAMple\0\0\x01\0\x01");
        message.extend([owner, &[0, 6, 0, class, 0, 0, 0, 60, 0, data.len() as u8], data].concat());
        message.extend(more.concat());
        message
    }

    fn soa(names: &[u8]) -> Vec<u8> {
        [names, &[0; 20]].concat()
    }

    const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

    #[test]
    fn the_usual_denials_are_plain_and_others_are_not() {
        let plain = |owner: &[u8], class, data: &[u8], more: &[&[u8]]| {
            is_plain(&response(owner, class, data, 1, more), &key())
        };
        let usual = soa(&[2, b'n', b's', 0xc0, EXAMPLE, 1, b'h', 0xc0, RECORD]);
        for owner in [&[0xc0, WWW][..], &[0xc0, EXAMPLE], &[0xc0, ROOT], &[0]] {
            assert!(plain(owner, 1, &usual, &[]) && plain(owner, 1, &usual, &[OPT]), "{owner:?}");
        }
        for owner in
            [&[0xc0, WWW + 1][..], &[0xc0, ROOT + 1], b"\x07example\0", b"\x03net\0", &[1, b'a', 0xc0, WWW]]
        {
            assert!(!plain(owner, 1, &usual, &[]), "{owner:?}");
        }
        assert!(!plain(&[0], 3, &usual, &[]), "another class");
        assert!(!plain(&[0], 1, &usual[1..], &[]), "no names");
        assert!(!plain(&[0], 1, &usual[..usual.len() - 1], &[]), "too short");
        let into_ttl = soa(&[0xc0, RECORD + 6, 0]);
        assert!(!plain(&[0xc0, WWW], 1, &into_ttl, &[]), "a name leads through the TTL");
        assert!(!is_plain(&response(&[0], 1, &usual, 0, &[]), &key()));
    }

    fn owner() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (11..=RECORD).prop_map(|to| vec![0xc0, to]),
            select(vec![&[0][..], b"\x07example\0", b"\x07EXAMPLE\0", b"\x03net\0", b"\x03www\xc0\x10"])
                .prop_map(<[u8]>::to_vec),
        ]
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (11..60u8).prop_map(|to| vec![0xc0, to]),
            (11..60u8).prop_map(|to| vec![1, b'n', 0xc0, to]),
            Just(vec![0]),
            Just(b"\x02ns\x03NET\0".to_vec()),
            Just(vec![9]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn nothing_is_changed_in_a_plain_denial(
            owner in owner(),
            class in select(vec![1, 1, 1, 3]),
            primary in name(),
            mailbox in name(),
            numbers in select(vec![20, 20, 20, 19, 21, 0]),
            has_opt in any::<bool>(),
        ) {
            let data = [primary, mailbox, vec![0; numbers]].concat();
            let more = if has_opt { &[OPT][..] } else { &[] };
            let message = response(&owner, class, &data, 1, more);
            if is_plain(&message, &key()) {
                let mut parsed = Message::parse(&message, &key()).expect("it is well-formed");
                prop_assert_eq!(scrub(&mut parsed, false), Ok(Scrubbed::default()));
                prop_assert!(parsed.records().all(|record| *record.spelled == *record.owner.as_wire()));
                prop_assert_eq!(parsed.authorities.len(), 1);
            }
        }
    }
}
