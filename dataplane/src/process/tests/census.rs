//! Tests of the census of bursts.

use super::*;
use crate::census::{CensusStats, CensusTotals};

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
    let (mut census, counts) = (Census::new(7), CensusStats::default());
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
        let Fixture { processor, frames, stats } = &mut fixture;
        let (fates, _) = processor.run(1, Checksums::Verify, frames, &mut burst, stats);
        census.count(frames, &burst, &fates, &counts);
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
        let (key, hash) = (testing::parsed(&query).key, f.processor.hash());
        let answer = testing::answer(&testing::nxdomain(&query, 300, 300), 0);
        f.processor.cache().insert(&key, hash.of(&key), &answer, 0);
        let packet = packet::tests::frame(link, v6, &testing::wire(&query));
        let mut frame = f.frames.alloc().unwrap();
        f.frames.buffer(&mut frame)[..packet.len()].copy_from_slice(&packet);
        frame.set_len(packet.len());
        let (mut burst, counts) = ([frame], CensusStats::default());
        let (fates, _) = f.processor.run(1, Checksums::Verify, &mut f.frames, &mut burst, &f.stats);
        assert!(fates.slot(0).is_none(), "{link:?}, IPv6: {v6}: answered at a closer look");
        Census::new(7).count(&f.frames, &burst, &fates, &counts);
        let (totals, context) = (counts.totals(), format!("{link:?}, IPv6: {v6}"));
        assert_eq!(totals.versions, [u64::from(!v6), u64::from(v6)], "{context}");
        assert_eq!((totals.types[0], totals.rcodes[usize::from(rcode::NXDOMAIN)]), (1, 1), "{context}");
        burst.into_iter().for_each(|frame| f.frames.release(frame));
    }
}
