//! Tests of the census of bursts.

use super::*;
use crate::{
    census::{CensusStats, CensusTotals},
    sighting::SightingLine,
};

/// Questions of a mix: name, type, share in a hundred. Only the first two have answers in the cache; the
/// last is malformed.
const MIX: [(&str, RecordType, usize); 4] = [
    ("www.example.com.", RecordType::A, 60),
    ("a.name.that.takes.more.than.one.block.of.the.question.example.com.", RecordType::A, 25),
    ("unknown.example.com.", RecordType::AAAA, 10),
    ("www.example.com.", RecordType::ANY, 5),
];

/// Lets a census count bursts of random packets of the mix. Returns its counts and the true ones.
fn counted(bursts: usize, len: usize) -> (CensusTotals, CensusTotals) {
    let mut fixture = Fixture::new();
    MIX[..2].iter().for_each(|(name, ..)| fixture.know(name, 300, 0));
    let packets: Vec<Vec<u8>> = MIX
        .iter()
        .map(|(name, rtype, _)| {
            let mut message = testing::wire(&testing::query(name, *rtype));
            if *rtype == RecordType::ANY {
                // Two questions.
                message[5] = 2;
            }
            message
        })
        .collect();
    let (mut census, counts, line) = (Census::new(7), CensusStats::default(), SightingLine::default());
    let (mut truth, mut state) = (CensusTotals::default(), 1u64);
    for _ in 0..bursts {
        let mut burst = Vec::new();
        for _ in 0..len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut rest = (state >> 33) as usize % 100;
            let nth = MIX.iter().position(|(_, _, share)| {
                let is_it = rest < *share;
                rest = rest.wrapping_sub(*share);
                is_it
            });
            let nth = nth.unwrap();
            burst.push(fixture.frame(&packets[nth]));
            truth.versions[0] += 1;
            // A miss is counted when its answer has come, and an answer without a question has no type.
            match nth {
                0 | 1 => (truth.types[0], truth.rcodes[0]) = (truth.types[0] + 1, truth.rcodes[0] + 1),
                3 => {
                    *truth.types.last_mut().unwrap() += 1;
                    truth.rcodes[1] += 1;
                }
                _ => {}
            }
        }
        let Fixture { processor, frames, stats, .. } = &mut fixture;
        let (fates, _) = processor.run(1, Checksums::Verify, frames, &mut burst, stats);
        census.count(frames, &burst, &fates, (&counts, &line));
        burst.into_iter().for_each(|frame| frames.release(frame));
    }
    (counts.totals(), truth)
}

#[test]
fn bursts_of_one_packet_are_counted_exactly() {
    let (counts, truth) = counted(3_000, 1);
    assert_eq!(counts, truth);
}

#[test]
fn of_larger_bursts_shares_are_right() {
    let (counts, truth) = counted(20_000, 16);
    assert_eq!(counts.versions, truth.versions, "sums are exact where each packet has the property");
    let parts = counts.types.iter().zip(&truth.types).chain(counts.rcodes.iter().zip(&truth.rcodes));
    for (count, truth) in parts {
        // Five standard deviations of a sample of 16 of each.
        let bound = 5.0 * f64::sqrt(16.0 * *truth as f64);
        assert!(count.abs_diff(*truth) as f64 <= bound, "{count} for {truth}");
    }
}

/// Answers at a glance are counted behind VLAN tags, too.
#[test]
fn tags_hide_neither_version_nor_response_code() {
    for (link, v6) in packet::tests::every_kind() {
        let mut f = Fixture::new();
        let query = testing::query("gone.example.", RecordType::A);
        let key = testing::parsed(&query).key;
        let answer = testing::answer(&testing::nxdomain(&query, 300, 300), 0);
        f.processor.cache().insert(&key, &answer, 0);
        let packet = packet::tests::frame(link, v6, &testing::wire(&query));
        let mut frame = f.frames.alloc().unwrap();
        f.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(&packet);
        frame.set_len(packet.len());
        let (mut burst, counts, line) = ([frame], CensusStats::default(), SightingLine::default());
        let (fates, _) = f.processor.run(1, Checksums::Verify, &mut f.frames, &mut burst, &f.stats);
        assert!(fates.slot(0).is_none(), "{link:?}, IPv6: {v6}: answered at a closer look");
        let mut census = Census::new(7);
        // Not each burst is sighted.
        let count = |_| census.count(&f.frames, &burst, &fates, (&counts, &line));
        (0..16).for_each(count);
        let (totals, context) = (counts.totals(), format!("{link:?}, IPv6: {v6}"));
        assert_eq!(totals.versions, [16 * u64::from(!v6), 16 * u64::from(v6)], "{context}");
        assert_eq!((totals.types[0], totals.rcodes[usize::from(rcode::NXDOMAIN)]), (16, 16), "{context}");
        let client =
            if v6 { [0xfd; 16] } else { std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets() };
        let sighting = line.take().unwrap_or_else(|| panic!("{context}: not sighted"));
        assert_eq!((sighting.client, sighting.is_nxdomain), (client, true), "{context}");
        burst.into_iter().for_each(|frame| f.frames.release(frame));
    }
}

/// Lets a census tell of `bursts` bursts of packets in turn: a hit that does not exist, a miss, and a
/// packet that is dropped. Returns the weights of each name's sightings, and of those that do not exist.
fn sighted(bursts: usize, len: usize) -> ([u64; 2], [u64; 2]) {
    let names = ["nothing.example.com.", "unknown.example.com."];
    let mut fixture = Fixture::new();
    fixture.know_absent(names[0]);
    let mut packets = names.map(|name| testing::wire(&testing::query(name, RecordType::A))).to_vec();
    packets.push(vec![7; 5]);
    let (mut census, counts, line) = (Census::new(7), CensusStats::default(), SightingLine::default());
    let (mut weights, mut absent) = ([0; 2], [0; 2]);
    for burst in 0..bursts {
        let mut frames: Vec<_> =
            (0..len).map(|nth| fixture.frame(&packets[(burst * len + nth) % packets.len()])).collect();
        let Fixture { processor, frames: all, stats, .. } = &mut fixture;
        let (fates, _) = processor.run(1, Checksums::Verify, all, &mut frames, stats);
        census.count(all, &frames, &fates, (&counts, &line));
        frames.into_iter().for_each(|frame| all.release(frame));
        while let Some(sighting) = line.take() {
            let wire =
                |name: &str| testing::parsed(&testing::query(name, RecordType::A)).key.question().to_vec();
            let nth = names.iter().position(|name| wire(name) == sighting.question()).expect("a name");
            assert_eq!(sighting.client[10..12], [0xff; 2], "IPv4, mapped: {sighting:?}");
            weights[nth] += sighting.weight;
            absent[nth] += if sighting.is_nxdomain { sighting.weight } else { 0 };
        }
    }
    (weights, absent)
}

#[test]
fn of_bursts_of_one_packet_each_is_sighted() {
    let (weights, absent) = sighted(3_000, 1);
    assert_eq!((weights, absent), ([1_000; 2], [1_000, 0]));
}

#[test]
fn sightings_of_larger_bursts_stand_for_all() {
    let (weights, absent) = sighted(9_000, 16);
    for weight in weights {
        // Each is a third of 144,000; five standard deviations of a sample of one burst in 16 packets.
        assert!(weight.abs_diff(48_000) < 5 * 716, "{weights:?}");
    }
    assert_eq!(absent, [weights[0], 0]);
}
