use super::*;

fn key() -> NameKey {
    NameKey::new(b"0123456789abcdef")
}

fn wire(text: &str) -> Vec<u8> {
    ringdns_common::names::name(text).unwrap()
}

fn fingerprint(name: &[u8]) -> u64 {
    key().fingerprint(name).unwrap().0
}

#[test]
fn a_path_has_the_fingerprints_of_all_names_above() {
    let name = wire("a.label-of-sixteen.b7bytes.seven-b.example.com");
    let mut path = Path::default();
    key().read(&mut path, &name, u128::MAX).unwrap();
    assert_eq!(path.labels(), 6);
    for labels in 0..=6 {
        assert_eq!(path.at(labels), Some(fingerprint(last_labels(&name, labels))), "{labels}");
    }
    assert_eq!((path.at(7), path.depths()), (None, 0b111_1111));
    key().read(&mut path, &name, 0b101).unwrap();
    assert_eq!((path.labels(), path.depths()), (6, 0b101));
    let second = Some(fingerprint(b"\x07example\x03com\0"));
    assert_eq!(
        [0, 1, 2, 3, 200].map(|labels| path.at(labels)),
        [Some(fingerprint(b"\0")), None, second, None, None]
    );
}

/// Names of which one is a part of another, or the same bytes in other labels.
#[test]
fn similar_names_have_different_fingerprints() {
    let names: [&[u8]; 12] = [
        b"\0",
        b"\x01a\0",
        b"\x01b\0",
        b"\x02a\x00\0",
        b"\x03a\x01b\0",
        b"\x01a\x01b\0",
        b"\x01b\x01a\0",
        b"\x07abcdefg\0",
        b"\x08abcdefgh\0",
        b"\x08abcdefg\x00\0",
        b"\x07abcdefg\x01h\0",
        b"\x01h\x07abcdefg\0",
    ];
    let fingerprints: std::collections::HashSet<u64> = names.iter().map(|name| fingerprint(name)).collect();
    assert_eq!(fingerprints.len(), names.len());
    let other = NameKey::new(b"0123456789abcdeF");
    assert_ne!(other.fingerprint(names[5]), key().fingerprint(names[5]));
}

#[test]
fn last_labels_are_names() {
    let name = wire("a.bc.def");
    assert_eq!(
        [0, 1, 2].map(|labels| last_labels(&name, labels)),
        [&b"\0"[..], b"\x03def\0", b"\x02bc\x03def\0"]
    );
    assert_eq!([3, 4, 200].map(|labels| last_labels(&name, labels)), [&name[..]; 3]);
}

#[test]
fn marks_of_a_name_are_merged_and_the_one_that_allows_is_stronger() {
    use Sign::{Allow, Block, None};
    let reaches = [Reach::Exact, Reach::Suffix, Reach::Below];
    let name = fingerprint(b"\x01a\0");
    for (first, second) in reaches.iter().flat_map(|first| reaches.map(|second| (*first, second))) {
        let mut builder = TableBuilder::default();
        builder.push(name, 1, Mark::new(first, Block)).unwrap();
        builder.push(name, 1, Mark::new(second, Allow)).unwrap();
        let (table, duplicates) = builder.finish();
        let sign = |reached: fn(Reach) -> bool| match (reached(first), reached(second)) {
            (_, true) => Allow,
            (true, false) => Block,
            (false, false) => None,
        };
        let expected = Mark { itself: sign(|r| r != Reach::Below), below: sign(|r| r != Reach::Exact) };
        assert_eq!(
            (table.get(name), table.names(), duplicates),
            (Some(expected), 1, 0),
            "{first:?} {second:?}"
        );
    }
}

/// Fingerprints with the same first 40 bits are all in one bucket, of many cache lines.
#[test]
fn a_full_bucket_is_searched() {
    let mut builder = TableBuilder::default();
    let base = 0x1234_5678_9a00_0000 & ((1 << 61) - 1);
    for number in (0..10_000).rev() {
        builder.push(base + 2 * number, 3, Mark::new(Reach::Exact, Sign::Block)).unwrap();
    }
    let (table, duplicates) = builder.finish();
    assert_eq!((table.names(), duplicates), (10_000, 0));
    assert!((0..10_000).all(|number| table.get(base + 2 * number).is_some()));
    assert!((0..10_000).all(|number| table.get(base + 2 * number + 1).is_none()));
}

#[test]
fn a_part_without_room_refuses_a_name() {
    let mut builder = TableBuilder::default();
    let pushed =
        (0..70_000).take_while(|n| builder.push(*n, 1, Mark::new(Reach::Exact, Sign::Block)).is_ok());
    assert_eq!(pushed.count(), 65_535);
    assert!(builder.push(1 << 60, 1, Mark::new(Reach::Exact, Sign::Block)).is_ok());
}

/// Filter bits: a filter that lets everything pass, or a bad hash, costs time and no test notices.
#[test]
fn the_filter_stops_all_but_two_in_a_hundred() {
    let all = |range: std::ops::Range<u32>| range.map(|n| fingerprint(&wire(&format!("host{n}.example"))));
    let filter = super::filter::Filter::new(20_000, all(0..20_000));
    assert!(all(0..20_000).all(|fingerprint| filter.passes(fingerprint)));
    let passed = all(20_000..40_000).filter(|fingerprint| filter.passes(*fingerprint)).count();
    assert!(passed < 400, "{passed}");
}
