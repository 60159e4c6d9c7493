//! Cases of the cache alone.

use super::{CACHE, Material, Meter, NAMES, NOW};
use crate::{
    names::{Questions, SUFFIX},
    stage::{self, Filed, HASH_SEEDS, Ip, RULES},
};
use anyhow::{Result, ensure};
use ringdns_dataplane::{
    cache::{BYTES_MIN, Cache, KeyedHash, Spot},
    port::BURST,
};
use std::hint::black_box;

const HASH: fn() -> KeyedHash = || KeyedHash::with_seeds(HASH_SEEDS);

/// Runs the three steps of a lookup, a burst at a time.
pub fn probe(meter: &mut dyn Meter) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let hash = HASH();
    let mut cache = Cache::new(CACHE, RULES.udp_limit, hash)?;
    material.fill(&mut cache)?;
    let filed = material.all_filed()?;
    for burst in filed.chunks_exact(BURST) {
        let hashes: Vec<u64> = burst.iter().map(|filed| hash.of(&filed.query.key)).collect();
        let mut spots = [Spot::default(); BURST];
        let mut found = 0;
        meter.measure(&mut || {
            for (spot, hash) in spots.iter_mut().zip(&hashes) {
                *spot = cache.seek(*hash);
            }
            for spot in &spots {
                black_box(cache.candidate(*spot));
            }
            for (hash, filed) in hashes.iter().zip(burst) {
                found += u64::from(black_box(cache.lookup(*hash, &filed.query.key, NOW)).is_some());
            }
        });
        ensure!(found == BURST as u64, "{found} of {BURST} entries were found");
    }
    Ok(NAMES as u64)
}

/// Inserts `NAMES` answers, of which the first `renewed` replace older ones.
pub fn insert(meter: &mut dyn Meter, renewed: usize) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let mut cache = Cache::new(CACHE, RULES.udp_limit, HASH())?;
    let mut answers = material.all_filed()?;
    for Filed { query, answer } in &mut answers[..renewed] {
        cache.insert(&query.key, answer, 0);
        // Only a newer answer replaces the one in the cache.
        answer.received = 1;
    }
    file(meter, &mut cache, &answers);
    let inserted = cache.churn().inserted;
    ensure!(
        inserted == (NAMES + renewed) as u64,
        "{inserted} answers were inserted, not {}",
        NAMES + renewed
    );
    Ok(NAMES as u64)
}

fn file(meter: &mut dyn Meter, cache: &mut Cache, answers: &[Filed]) {
    for burst in answers.chunks(BURST) {
        meter.measure(&mut || {
            for Filed { query, answer } in burst {
                cache.insert(&query.key, answer, 1);
            }
        });
    }
}

/// Inserts answers into a full cache, which evicts as many.
pub fn evict(meter: &mut dyn Meter) -> Result<u64> {
    let mut cache = full(&[])?;
    let before = cache.churn();
    file(meter, &mut cache, &answers(SUFFIX)?);
    let after = cache.churn();
    let (inserted, evicted) = (after.inserted - before.inserted, after.evicted - before.evicted);
    ensure!(
        // Entries differ in size by a block or two, and a full bucket evicts one more.
        inserted == NAMES as u64 && evicted.abs_diff(inserted) < inserted / 10,
        "{evicted} answers were evicted for {inserted} new ones"
    );
    Ok(NAMES as u64)
}

/// Inserts answers where the entries at the end of probation were asked for.
pub fn promote(meter: &mut dyn Meter) -> Result<u64> {
    let (asked, new) = (answers("ra.example")?, answers(SUFFIX)?);
    let (asked, new) = (&asked[..PROBATION], &new[..PROBATION]);
    let mut cache = full(asked)?;
    let before = cache.churn().inserted;
    file(meter, &mut cache, new);
    let inserted = cache.churn().inserted - before;
    let hash = HASH();
    let still = |Filed { query, .. }: &&Filed| cache.lookup(hash.of(&query.key), &query.key, 1).is_some();
    let kept = asked.iter().filter(still).count();
    ensure!(
        inserted == PROBATION as u64 && kept > PROBATION * 9 / 10,
        "for {inserted} new ones, {kept} of {PROBATION} entries that were asked for were promoted"
    );
    Ok(PROBATION as u64)
}

/// Number of entries with one address that probation holds in the smallest cache, approximately:
/// newer ones push all of them out.
const PROBATION: usize = 384;

fn answers(suffix: &str) -> Result<Vec<Filed>> {
    let (template, answerer) = (stage::template(&[])?, stage::answerer(&[])?);
    let questions = Questions::made_up(NAMES, suffix, 1)?;
    (0..NAMES as u32).map(|index| stage::answer(&template, &answerer, questions.get(index), 0)).collect()
}

/// Returns the smallest cache, full of answers that were not asked for again, and of `last`, which
/// were.
fn full(last: &[Filed]) -> Result<Cache> {
    let hash = HASH();
    let mut cache = Cache::new(BYTES_MIN, RULES.udp_limit, hash)?;
    for suffix in ["rc.example", "rd.example", "re.example", "rf.example", "rg.example"] {
        for Filed { query, answer } in answers(suffix)? {
            cache.insert(&query.key, &answer, 0);
        }
    }
    for Filed { query, answer } in last {
        cache.insert(&query.key, answer, 0);
        cache.lookup(hash.of(&query.key), &query.key, 0);
    }
    ensure!(cache.churn().evicted > 0, "the cache is not full");
    Ok(cache)
}

/// Sweeps all entries, after or before they are dead.
pub fn sweep(meter: &mut dyn Meter, dead: bool) -> Result<u64> {
    let material = Material::new(&[], Ip::V4, &["--ttl=300"])?;
    let mut cache = Cache::new(CACHE, RULES.udp_limit, HASH())?;
    material.fill(&mut cache)?;
    let now = if dead { 1_000_000 } else { NOW };
    for _ in 0..NAMES / BURST {
        meter.measure(&mut || cache.sweep(BURST as u32, now));
    }
    let expired = cache.churn().expired;
    let expected = if dead { NAMES as u64 } else { 0 };
    ensure!(expired.abs_diff(expected) <= 2, "{expired} entries were removed, not {expected}");
    Ok(NAMES as u64)
}
