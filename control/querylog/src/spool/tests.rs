//! Tests of segments, the spool and the outbox, without a server.

use super::super::{
    ledger::{Ledger, RowPlace, Sums},
    outbox::SegmentOutbox,
    spool::{SPLIT_IDS, Spool},
};
use proptest::prelude::*;
use ringdns_common::names;
use ringdns_segment::{
    row::{Outcome, Protocol, Row, Tier},
    rowbinary::{LogEntry, entries},
    segment::{Damage, HEAD, Head, RowBatch, Segment},
    show::{self, Filter},
};
use std::{fs, net::Ipv6Addr, path::Path, sync::Arc};
use tempfile::TempDir;

const BIG: u64 = 1 << 30;

fn row(time_ms: i64, name: &str) -> Row {
    Row {
        time_ms,
        client: "::ffff:192.0.2.7".parse().unwrap(),
        name: names::name(name).unwrap().into(),
        qtype: 1,
        qclass: 1,
        protocol: Protocol::Udp,
        outcome: Outcome::Hit,
        tier: Tier::Core,
        rcode: 0,
        answer_bytes: 52,
        service_ns: 1_500,
        upstream: None,
        upstream_us: 0,
        list: None,
        client_group: None,
        client_name: None,
        rule: None,
        ede: None,
        sample: 1,
    }
}

fn segment(id: u64, rows: u32) -> Segment {
    let mut batch = RowBatch::new(id, "here").unwrap();
    (0..rows).for_each(|i| batch.push(&row(1_700_000_000_000 + i64::from(i), &format!("n{i}.example"))));
    batch.seal().unwrap()
}

fn read(segment: &Segment) -> Vec<LogEntry> {
    entries(&segment.rows().unwrap()).collect::<Result<_, _>>().unwrap()
}

/// Labels of arbitrary bytes, or of the bytes that names mostly have.
fn any_label() -> impl Strategy<Value = Vec<u8>> {
    let plain = "[a-z0-9_*-]{1,63}".prop_map(String::into_bytes);
    prop_oneof![plain, prop::collection::vec(any::<u8>(), 1..=63)]
}

prop_compose! {
    fn any_row()(
        time_ms in 0..4_000_000_000_000_i64,
        client in any::<u128>(),
        labels in prop::collection::vec(any_label(), 0..=3),
        numbers in any::<(u16, u16, u16, u16, u32, u32, u32)>(),
        picks in any::<[prop::sample::Index; 3]>(),
        upstream in prop::option::of("[ -~]{0,300}"),
        [list, client_group, rule] in prop::array::uniform3(prop::option::of("[ -~]{0,300}")),
    ) -> Row {
        let mut name: Vec<u8> = Vec::new();
        for label in &labels {
            name.push(label.len() as u8);
            name.extend(label);
        }
        name.push(0);
        let (qtype, qclass, rcode, answer_bytes, service_ns, upstream_us, sample) = numbers;
        Row {
            time_ms,
            client: Ipv6Addr::from_bits(client),
            name: name.into(),
            qtype,
            qclass,
            protocol: *picks[0].get(&[Protocol::Udp, Protocol::UdpSocket, Protocol::Tcp]),
            outcome: *picks[1].get(&[Outcome::Hit, Outcome::Stale, Outcome::Miss, Outcome::Failure, Outcome::Rejected]),
            tier: *picks[2].get(&[Tier::Core, Tier::Host, Tier::Fleet, Tier::Upstream, Tier::Local, Tier::None]),
            rcode,
            answer_bytes,
            service_ns,
            upstream: upstream.map(Into::into),
            upstream_us,
            list: list.map(Into::into),
            client_group: client_group.map(Into::into),
            client_name: None,
            rule: rule.map(Into::into),
            ede: [None, Some(15), Some(16), Some(17), Some(3)][usize::from(numbers.0 % 5)],
            sample,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Checks that rows are read as they were written, column by column.
    #[test]
    fn rows_come_back_as_they_went(rows in prop::collection::vec(any_row(), 1..40), id in any::<u64>()) {
        let mut batch = RowBatch::new(id, "box-1.example").unwrap();
        rows.iter().for_each(|row| batch.push(row));
        let segment = Segment::parse(batch.seal().unwrap().bytes().to_vec()).unwrap();
        let first_ms = rows.iter().map(|row| row.time_ms).min().unwrap();
        let last_ms = rows.iter().map(|row| row.time_ms).max().unwrap();
        prop_assert_eq!(segment.head(), Head { id, rows: rows.len() as u32, first_ms, last_ms });
        let read = read(&segment);
        prop_assert_eq!(read.len(), rows.len());
        for (entry, row) in read.iter().zip(&rows) {
            prop_assert_eq!(entry.time_ms, row.time_ms);
            prop_assert_eq!(entry.client, row.client.to_canonical());
            prop_assert_eq!(&entry.name, &names::display(&row.name));
            prop_assert_eq!(&entry.rtype, &if row.qtype == 0 { String::new() } else { names::type_name(row.qtype) });
            prop_assert_eq!(&entry.protocol, row.protocol.label());
            prop_assert_eq!(&entry.outcome, row.outcome.label());
            prop_assert_eq!(&entry.tier, row.tier.label());
            let numbers = (entry.answer_bytes, entry.service_ns, entry.upstream_us, entry.sample);
            prop_assert_eq!(numbers, (row.answer_bytes, row.service_ns, row.upstream_us, row.sample));
            prop_assert_eq!(&*entry.upstream, row.upstream.as_deref().unwrap_or_default());
            prop_assert_eq!(&*entry.list, row.list.as_deref().unwrap_or_default());
            prop_assert_eq!(&*entry.client_group, row.client_group.as_deref().unwrap_or_default());
            prop_assert_eq!(&*entry.rule, row.rule.as_deref().unwrap_or_default());
            let errors = [(Some(15), "Blocked"), (Some(16), "Censored"), (Some(17), "Filtered")];
            let error = errors.iter().find(|(code, _)| *code == row.ede).map_or("", |(_, text)| *text);
            prop_assert_eq!(&*entry.ede, error);
            prop_assert_eq!((&*entry.appliance, entry.segment), ("box-1.example", id));
        }
    }

    /// Checks that arbitrary bytes cause no panic, and that nothing is read from an invalid
    /// segment.
    #[test]
    fn what_is_no_segment_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Segment::parse(bytes.clone()).is_err());
        // Invalid rows end in an error.
        let read: Vec<_> = entries(&bytes).collect();
        prop_assert!(bytes.is_empty() || read.last().unwrap().is_err() || read.len() * 60 <= bytes.len());
    }
}

#[test]
fn damage_at_any_byte_is_found() {
    let whole = segment(7, 30);
    let bytes = whole.bytes();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= flip;
            assert!(Segment::parse(damaged).is_err(), "byte {at} changed by {flip:#x}");
        }
        assert!(Segment::parse(bytes[..at].to_vec()).is_err(), "cut off at {at}");
    }
    assert_eq!(Segment::parse([bytes, &[0]].concat()).unwrap_err(), Damage::Length);
    // Damage in the head is found without reading the rest.
    for at in 0..HEAD {
        let mut head = bytes[..HEAD].to_vec();
        head[at] ^= 1;
        assert!(Head::parse(&head).is_err(), "byte {at} of the head");
    }
}

/// Checks that `zstd -d` and clickhouse-local can read a segment: they skip the head.
#[test]
fn a_segment_is_a_file_of_zstd() {
    let segment = segment(1, 3);
    let plain = zstd::stream::decode_all(segment.bytes()).unwrap();
    assert_eq!(plain, segment.rows().unwrap());
}

/// Checks the format, which other programs rely on: a change of it needs another magic number.
#[test]
fn the_format_is_what_it_was() {
    let mut batch = RowBatch::new(1_700_000_000_000_000, "here").unwrap();
    let row = Row {
        upstream: Some("udp://192.0.2.1:53".into()),
        upstream_us: 7,
        list: Some("ads".into()),
        client_group: Some("kids".into()),
        client_name: Some("laptop".into()),
        outcome: Outcome::Blocked,
        rule: Some("||a.example^".into()),
        ede: Some(16),
        ..row(1_700_000_000_123, "a.example")
    };
    batch.push(&row);
    let segment = batch.seal().unwrap();
    let mut expected = 1_700_000_000_123_u64.to_le_bytes().to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
    for text in ["a.example.", "A", "IN", "udp", "blocked", "core", "NOERROR"] {
        expected.push(text.len() as u8);
        expected.extend(text.bytes());
    }
    expected.extend([52, 0, 0xdc, 0x05, 0, 0]);
    expected.extend(b"\x12udp://192.0.2.1:53\x07\0\0\0\x03ads\x04kids\x06laptop\x05block\x0c||a.example^\x08Censored\x01\0\0\0\x04here");
    expected.extend(1_700_000_000_000_000_u64.to_le_bytes());
    assert_eq!(segment.rows().unwrap(), expected);
    assert_eq!(segment.bytes()[..16], *b"\x5d\x2a\x4d\x18\x4d\0\0\0RINGLOG5");
}

//----------- Spool -----------------------------------------------------------

struct Scene {
    folder: TempDir,
    ledger: Arc<Ledger>,
}

impl Scene {
    fn set() -> Self {
        Scene { folder: tempfile::tempdir().unwrap(), ledger: Arc::default() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn spool(&self, limit: u64) -> Spool {
        Spool::open(self.path(), limit, self.ledger.clone())
    }

    fn sums(&self) -> Sums {
        let sums = self.ledger.sums();
        assert_eq!(sums.unaccounted(), 0, "{sums:?}");
        sums
    }

    fn put(&self, spool: &mut Spool, id: u64, rows: u32) {
        self.ledger.take(rows as usize);
        spool.put(&segment(id, rows), None);
    }
}

#[test]
fn the_spool_gives_back_what_it_was_given_after_a_restart_too() {
    let scene = Scene::set();
    let mut spool = scene.spool(BIG);
    (1..=3).for_each(|id| scene.put(&mut spool, id, id as u32));
    drop(spool);
    // A temporary file of a process that died while writing.
    fs::write(scene.path().join("00000000000000000009.tmp"), "half").unwrap();
    let scene = Scene { ledger: Arc::default(), ..scene };
    let mut spool = scene.spool(BIG);
    assert_eq!((scene.sums().found, scene.sums().spooled), (6, 6));
    for id in 1..=3 {
        assert_eq!(spool.first(), Some(id));
        assert_eq!(spool.read(id).unwrap().bytes(), segment(id, id as u32).bytes());
        spool.forget(id, |ledger, rows| ledger.store(rows, RowPlace::Spool));
    }
    assert!(spool.is_empty());
    let names: Vec<_> = fs::read_dir(scene.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((scene.sums().stored, names), (6, vec!["lock".into()]));
}

#[test]
fn a_full_spool_drops_the_oldest_but_for_what_is_being_sent() {
    let scene = Scene::set();
    let mut spool = scene.spool(3 * 4096);
    (1..=5).for_each(|id| scene.put(&mut spool, id, 10));
    assert_eq!((spool.first(), spool.last()), (Some(3), Some(5)));
    let sums = scene.sums();
    assert_eq!((sums.spooled, sums.dropped_spool_full, sums.spool_bytes), (30, 20, 3 * 4096));
    scene.ledger.take(10);
    spool.put(&segment(6, 10), Some(3));
    assert_eq!((spool.first(), spool.last(), scene.sums().dropped_spool_full), (Some(3), Some(6), 30));
    let left: Vec<_> = ringdns_segment::folder::list(scene.path()).unwrap();
    assert_eq!(left.len(), 3);
    // A segment larger than the spool finds no room, whatever is removed.
    let scene = Scene::set();
    let mut spool = scene.spool(4096);
    scene.put(&mut spool, 1, 20_000);
    assert_eq!((scene.sums().spooled, scene.sums().dropped_spool_full), (0, 20_000));
}

#[test]
fn damaged_segments_are_counted_and_never_given() {
    let scene = Scene::set();
    let mut spool = scene.spool(BIG);
    (1..=3).for_each(|id| scene.put(&mut spool, id, 10));
    let path = |id: u64| scene.path().join(format!("{id:020}.zst"));
    let mut bytes = fs::read(path(2)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path(2), &bytes).unwrap();
    fs::remove_file(path(3)).unwrap();
    assert!(spool.read(1).is_some() && spool.read(2).is_none() && spool.read(3).is_none());
    let sums = scene.sums();
    let lost = (sums.dropped_damaged, sums.dropped_disk, sums.segments_damaged, sums.spooled);
    assert_eq!(lost, (10, 10, 1, 10));
    drop(spool);
    // A damaged head gives no number of rows. A segment under another's name is invalid.
    fs::write(path(1), "no segment").unwrap();
    fs::write(path(4), segment(5, 1).bytes()).unwrap();
    let scene = Scene { ledger: Arc::default(), ..scene };
    assert!(scene.spool(BIG).is_empty());
    assert_eq!((scene.sums().segments_damaged, scene.sums().found), (2, 0));
}

#[test]
fn a_folder_is_one_processs_and_comes_when_it_can() {
    let scene = Scene::set();
    let other = Scene { folder: tempfile::tempdir().unwrap(), ledger: Arc::default() };
    let first = scene.spool(BIG);
    let mut second = Spool::open(scene.path(), BIG, other.ledger.clone());
    other.put(&mut second, 1, 10);
    assert_eq!((other.sums().dropped_disk, other.sums().spooled), (10, 0));
    drop(first);
    other.put(&mut second, 2, 10);
    assert_eq!((other.sums().dropped_disk, other.sums().spooled), (10, 10));
}

//----------- Outbox ----------------------------------------------------------

/// Sends everything, and returns the ids, in steps between those of whole segments, with the `maybe_stored` flags.
fn sent(outbox: &mut SegmentOutbox) -> Vec<(u64, bool)> {
    let mut sent = Vec::new();
    while let Some(parcel) = outbox.send_next() {
        let head = parcel.segment.head();
        sent.push((head.id / SPLIT_IDS, parcel.maybe_stored));
        outbox.stored(&parcel.segment, head.rows);
    }
    sent
}

impl Scene {
    fn outbox(&self) -> SegmentOutbox {
        SegmentOutbox::new(self.spool(BIG), self.ledger.clone())
    }

    /// Makes a segment at this time, in steps between ids of whole segments. Returns its id, in the
    /// same steps.
    fn make(&self, outbox: &mut SegmentOutbox, now: u64) -> u64 {
        let id = outbox.next_id(now * SPLIT_IDS);
        self.ledger.take(10);
        outbox.put(segment(id, 10));
        id / SPLIT_IDS
    }
}

#[test]
fn segments_leave_in_order_from_memory_and_from_disk() {
    let scene = Scene::set();
    let mut outbox = scene.outbox();
    // The server has not been reached yet: the first segment is safe on disk.
    scene.make(&mut outbox, 100);
    assert_eq!((scene.sums().spooled, scene.sums().in_hand), (10, 0));
    assert_eq!(sent(&mut outbox), [(100, false)]);
    // From here on segments stay in memory, up to the limit.
    for now in [200, 200, 150, 201] {
        scene.make(&mut outbox, now);
    }
    assert_eq!((scene.sums().in_hand, scene.sums().spooled), (40, 0));
    scene.make(&mut outbox, 300);
    assert_eq!((scene.sums().in_hand, scene.sums().spooled), (40, 10));
    // The first cannot be stored: all go to disk, and only the first may be stored.
    let parcel = outbox.send_next().unwrap();
    outbox.failed(&parcel.segment, true);
    assert_eq!((scene.sums().in_hand, scene.sums().spooled), (0, 50));
    scene.make(&mut outbox, 400);
    let expected = [(200, true), (201, false), (202, false), (203, false), (300, false), (400, false)];
    assert_eq!(sent(&mut outbox), expected);
    assert!(outbox.is_empty());
    assert_eq!((scene.sums().stored, scene.sums().taken), (70, 70));
}

#[test]
fn an_id_that_no_clock_reaches_is_damaged_and_does_not_use_up_all_others() {
    let scene = Scene::set();
    for id in [u64::MAX, u64::MAX - SPLIT_IDS, (1 << 62) + 1] {
        fs::write(scene.path().join(format!("{id:020}.zst")), segment(id, 2).bytes()).unwrap();
    }
    let mut outbox = scene.outbox();
    assert_eq!((scene.sums().segments_damaged, scene.sums().found), (3, 0));
    assert_eq!(scene.make(&mut outbox, 100), 100);
    assert_eq!(sent(&mut outbox), [(100, false)]);
}

#[test]
fn after_a_restart_all_that_is_found_may_have_been_stored() {
    let scene = Scene::set();
    let mut outbox = scene.outbox();
    scene.make(&mut outbox, 100);
    assert_eq!(sent(&mut outbox), [(100, false)]);
    for now in 101..104 {
        scene.make(&mut outbox, now);
    }
    // A segment that was sent, without any result.
    let _sent = outbox.send_next().unwrap();
    outbox.spill();
    drop(outbox);
    let scene = Scene { ledger: Arc::default(), ..scene };
    let mut outbox = scene.outbox();
    // The clock went back meanwhile.
    assert_eq!(scene.make(&mut outbox, 50), 104);
    assert_eq!(sent(&mut outbox), [(101, true), (102, true), (103, true), (104, false)]);
    assert_eq!((scene.sums().found, scene.sums().taken, scene.sums().stored), (30, 10, 40));
}

#[test]
fn what_is_stored_in_part_is_stored_and_lost_in_part() {
    let scene = Scene::set();
    let mut outbox = scene.outbox();
    scene.make(&mut outbox, 100);
    let parcel = outbox.send_next().unwrap();
    outbox.stored(&parcel.segment, 4);
    let sums = scene.sums();
    assert_eq!((sums.stored, sums.dropped_torn, sums.spooled), (4, 6, 0));
}

//----------- Show ------------------------------------------------------------

#[test]
fn the_spool_is_a_log_that_can_be_asked() {
    let scene = Scene::set();
    let mut spool = scene.spool(BIG);
    for (id, names) in [(1, ["www.example", "example"]), (2, ["a.www.example", "notexample"])] {
        let mut batch = RowBatch::new(id, "here").unwrap();
        for (i, name) in names.iter().enumerate() {
            let client = if i == 0 { "::ffff:192.0.2.7" } else { "2001:db8::1" }.parse().unwrap();
            batch.push(&Row { client, ..row(id as i64 * 1000 + i as i64, name) });
        }
        scene.ledger.take(2);
        spool.put(&batch.seal().unwrap(), None);
    }
    fs::write(scene.path().join("00000000000000000003.zst"), "damaged").unwrap();
    let shown = |filter: Filter| {
        let (mut names, mut damaged) = (Vec::new(), 0);
        let row = |entry: &LogEntry| {
            names.push(entry.name.clone());
            Ok(())
        };
        show::each(scene.path(), &filter, row, |_, _| damaged += 1).unwrap();
        assert_eq!(damaged, 1);
        names.join(" ")
    };
    let all = "www.example. example. a.www.example. notexample.";
    assert_eq!(shown(Filter::default()), all);
    let name = |text| Some(show::name(text).unwrap());
    assert_eq!(shown(Filter { name: name("WWW.example"), ..Filter::default() }), "www.example.");
    assert_eq!(
        shown(Filter { suffix: name("example"), ..Filter::default() }),
        "www.example. example. a.www.example."
    );
    assert_eq!(shown(Filter { suffix: name("."), ..Filter::default() }), all);
    assert_eq!(
        shown(Filter { since_ms: Some(1001), ..Filter::default() }),
        "example. a.www.example. notexample."
    );
    let clients = |text: &str| Filter { client: Some(text.parse().unwrap()), ..Filter::default() };
    assert_eq!(shown(clients("192.0.2.0/24")), "www.example. a.www.example.");
    assert_eq!(shown(clients("2001:db8::1")), "example. notexample.");

    let latest = |filter: &Filter, last: usize, segments: usize| {
        let mut read = 0;
        let goes_on = || {
            read += 1;
            read <= segments
        };
        let found = show::latest(scene.path(), filter, last, goes_on).unwrap();
        let names: Vec<_> = found.rows.into_iter().map(|entry| entry.name).collect();
        (names.join(" "), found.is_cut, found.damaged)
    };
    let backwards = "notexample. a.www.example. example. www.example.";
    assert_eq!(latest(&Filter::default(), 9, 9), (backwards.into(), false, 1));
    assert_eq!(latest(&Filter::default(), 3, 9), ("notexample. a.www.example. example.".into(), true, 1));
    // There are enough rows before the last segment, or no time for it.
    assert_eq!(latest(&Filter::default(), 2, 9), ("notexample. a.www.example.".into(), true, 1));
    assert_eq!(latest(&Filter::default(), 9, 2), ("notexample. a.www.example.".into(), true, 1));
    assert_eq!(latest(&clients("192.0.2.7"), 1, 9), ("a.www.example.".into(), true, 1));
}

#[test]
fn a_line_is_for_people() {
    let row = Row {
        upstream: Some("udp://192.0.2.1:53".into()),
        upstream_us: 12_345,
        ..row(1_700_000_000_123, "a.example")
    };
    let mut batch = RowBatch::new(1, "here").unwrap();
    batch.push(&row);
    let entry = read(&batch.seal().unwrap()).remove(0);
    assert_eq!(
        entry.to_string(),
        "2023-11-14T22:13:20.123Z 192.0.2.7 a.example. IN A udp hit core NOERROR 52 B 1.5 us udp://192.0.2.1:53 12.3 ms"
    );
}
