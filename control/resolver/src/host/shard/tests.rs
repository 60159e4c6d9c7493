use super::{
    super::packed::{Question, pack, set_frequency},
    *,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use ringdns_common::names;
use ringdns_dataplane::dns::{
    answer::Answer,
    key::{Asked, Key},
    rcode,
};
use std::collections::{HashMap, HashSet};

fn key(number: usize) -> Key {
    names::key(&names::name(&format!("host-{number}.example")).unwrap(), 1, false, false).unwrap()
}

/// Returns an answer of `size` bytes of records, which tells its version.
fn answer(size: usize, version: u32) -> Answer {
    Answer { wire: vec![7; size].into(), ..Answer::error(rcode::NOERROR, None, version, 60) }
}

/// Shard with its surroundings.
struct Fixture {
    shard: Shard,
    hasher: DefaultHashBuilder,
    capacity: usize,
    evicted: Mutex<Vec<Question>>,
}

impl Fixture {
    fn new(capacity: usize) -> Self {
        Fixture {
            shard: Shard::default(),
            hasher: DefaultHashBuilder::default(),
            capacity,
            evicted: Mutex::default(),
        }
    }

    fn with<T>(&mut self, change: impl FnOnce(&mut Shard, &Rules<'_>) -> T) -> T {
        let evicted = |entry: Packed<'_>| self.evicted.lock().push(entry.question());
        change(&mut self.shard, &Rules { capacity: self.capacity, hasher: &self.hasher, evicted: &evicted })
    }

    fn seek(&self, asked: Asked<'_>) -> (u64, PackedKey) {
        let key = PackedKey::of(asked).unwrap();
        (self.hasher.hash_one(key.parts()), key)
    }

    fn find(&self, key: &Key) -> Option<Place> {
        let (hash, key) = self.seek(key.asked());
        self.shard.find(hash, &key)
    }

    fn version(&self, key: &Key) -> Option<u32> {
        Some(self.shard.at(self.find(key)?)?.answer()?.received)
    }

    fn put(&mut self, key: &Key, answer: &Answer) {
        let (hash, packed) = self.seek(key.asked());
        let entry = pack(&packed, key.asked(), answer).unwrap();
        let old = self.shard.find(hash, &packed);
        self.with(|shard, rules| shard.put(rules, hash, entry, old));
        assert!(self.shard.bytes() <= self.capacity, "{} of {}", self.shard.bytes(), self.capacity);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(place) = self.find(key) {
            let (hash, _) = self.seek(key.asked());
            self.shard.remove(hash, place);
        }
    }

    fn touch(&mut self, key: &Key) {
        if let Some(place) = self.find(key) {
            self.shard.touch(place);
        }
    }

    /// Checks that the books are those of the segments.
    fn check(&self) {
        let shard = &self.shard;
        let segments: Vec<_> = shard.segments.iter().flatten().collect();
        let live: usize = segments.iter().map(|segment| segment.live).sum();
        let filled: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
        assert_eq!(filled - live, shard.removed);
        assert_eq!(
            segments.iter().map(|segment| segment.used).sum::<usize>(),
            shard.probation.used + shard.main.used
        );
        let all: usize = segments.iter().map(|segment| entries(&segment.bytes).count()).sum();
        assert_eq!(all, shard.len(), "each entry is in the index");
        let queued: Vec<_> = shard.probation.order.iter().chain(&shard.main.order).collect();
        assert_eq!((queued.len(), shard.free.len()), (segments.len(), shard.segments.len() - segments.len()));
        for queue in [&shard.probation, &shard.main] {
            assert!(queue.order.iter().map(|number| shard.sequence(*number)).is_sorted());
            assert!(queue.open.is_none() || queue.order.back() == queue.open.as_ref());
        }
        assert!(shard.bytes() <= self.capacity, "{} of {}", shard.bytes(), self.capacity);
    }

    /// Returns the bytes that are allocated.
    fn allocated(&self) -> usize {
        let shard = &self.shard;
        let segments = shard.segments.iter().flatten().map(|segment| segment.bytes.capacity()).sum::<usize>();
        let numbers = shard.free.capacity() + shard.probation.order.capacity() + shard.main.order.capacity();
        let table = shard.segments.capacity() * size_of::<Option<Segment>>();
        segments + shard.index.allocated() + table + numbers * size_of::<Number>()
    }

    fn walked(&self) -> Vec<Question> {
        let (mut progress, mut bytes, mut seen) = (Progress::START, Vec::new(), Vec::new());
        while self.shard.copy_next(&mut progress, &mut bytes) {
            seen.extend(entries(&bytes).map(|(entry, _)| entry.question()));
        }
        seen
    }
}

/// Returns sizes of records: most are small, some take a segment of their own.
fn a_size() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0usize..100, 2 => 500usize..3000, 1 => 3500usize..20_000]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn behaves_like_a_map_while_there_is_room(steps in prop::collection::vec((0u8..20, 0usize..300, a_size()), 1..1500)) {
        let (mut it, mut model) = (Fixture::new(usize::MAX), HashMap::new());
        for (nth, (step, number, size)) in steps.into_iter().enumerate() {
            let (key, version) = (key(number), nth as u32);
            match step {
                0..=6 => {
                    it.remove(&key);
                    model.remove(&number);
                }
                7 => it.touch(&key),
                8 => {
                    it.with(|shard, rules| {
                        shard.retain(rules, |entry| entry.answer().is_some_and(|answer| answer.received % 5 > 0));
                    });
                    model.retain(|_, version| *version % 5 > 0);
                }
                9 => while it.with(|shard, rules| shard.compact(rules)) {},
                _ => {
                    it.put(&key, &answer(size, version));
                    model.insert(number, version);
                }
            }
            it.check();
            prop_assert_eq!(it.shard.len(), model.len());
        }
        for number in 0..300 {
            prop_assert_eq!(it.version(&key(number)), model.get(&number).copied());
        }
        let seen = it.walked();
        let once: HashSet<_> = seen.iter().cloned().collect();
        prop_assert_eq!((seen.len(), once.len()), (model.len(), model.len()), "nothing moves: each is seen once");
        prop_assert!(it.evicted.lock().is_empty());
    }

    /// Entries that leave are told of, and the bytes never exceed their bound, which `check` checks.
    #[test]
    fn what_has_no_room_is_evicted(steps in prop::collection::vec((0u8..10, 0usize..2000, a_size()), 1..1500)) {
        let mut it = Fixture::new(60_000);
        let mut there = HashSet::new();
        for (nth, (step, number, size)) in steps.into_iter().enumerate() {
            let key = key(number);
            match step {
                0..=2 => it.touch(&key),
                3 => {
                    it.remove(&key);
                    there.remove(key.question());
                }
                _ => {
                    it.put(&key, &answer(size, nth as u32));
                    there.insert(key.question().to_vec());
                }
            }
            for gone in it.evicted.lock().drain(..) {
                prop_assert!(there.remove(&gone[..]), "it was not there");
            }
            it.check();
            prop_assert_eq!(it.shard.len(), there.len());
        }
        let seen: HashSet<_> = it.walked().into_iter().map(|question| question.to_vec()).collect();
        prop_assert_eq!(seen, there);
    }

    /// An entry that is there all the time is seen by a walk, whatever moves meanwhile.
    #[test]
    fn a_walk_misses_nothing(
        changes in prop::collection::vec((0usize..3000, a_size(), any::<bool>()), 1..600),
        between in 1usize..40,
    ) {
        let mut it = Fixture::new(150_000);
        (0..1500).for_each(|number| it.put(&key(number), &answer(20, 0)));
        (0..1500).step_by(3).for_each(|number| it.touch(&key(number)));
        it.evicted.lock().clear();
        let before: HashSet<_> = it.walked().into_iter().collect();
        let (mut progress, mut bytes, mut seen) = (Progress::START, Vec::new(), HashSet::new());
        let mut changes = changes.chunks(between);
        let mut gone = HashSet::new();
        while it.shard.copy_next(&mut progress, &mut bytes) {
            seen.extend(entries(&bytes).map(|(entry, _)| entry.question()));
            for (number, size, remove) in changes.next().unwrap_or_default() {
                let key = key(*number);
                match remove {
                    true => {
                        it.remove(&key);
                        gone.insert(Question::try_from(key.question()).unwrap());
                    }
                    false => it.put(&key, &answer(*size, 1)),
                }
            }
            it.check();
            gone.extend(it.evicted.lock().drain(..));
        }
        let missed: Vec<_> = before.iter().filter(|question| !seen.contains(*question) && !gone.contains(*question)).collect();
        prop_assert!(missed.is_empty(), "{} of {}", missed.len(), before.len());
    }
}

#[test]
fn entries_asked_for_again_outlast_those_that_were_not() {
    let mut it = Fixture::new(200_000);
    let popular: Vec<_> = (0..100).map(key).collect();
    popular.iter().for_each(|key| it.put(key, &answer(20, 0)));
    for flood in 0..20_000 {
        it.put(&key(1000 + flood), &answer(20, 0));
        it.touch(&popular[flood % 100]);
    }
    let kept = popular.iter().filter(|key| it.find(key).is_some()).count();
    it.check();
    assert_eq!(kept, 100);
    assert!(it.shard.main.used < it.shard.probation.used, "the flood has the rest");
}

#[test]
fn an_answer_larger_than_the_shard_is_dropped() {
    let mut it = Fixture::new(10_000);
    it.put(&key(1), &answer(20, 0));
    it.put(&key(2), &answer(20_000, 0));
    assert_eq!((it.shard.len(), it.find(&key(2))), (0, None));
    it.put(&key(3), &answer(20, 0));
    assert_eq!(it.shard.len(), 1);
}

/// The last segments and their places, in a shard that has no number for another.
#[test]
fn a_shard_has_no_more_segments_than_places_tell() {
    let mut it = Fixture::new(usize::MAX);
    (0..2 * SEGMENTS_MAX).for_each(|number| it.put(&key(number), &answer(LARGE, number as u32)));
    it.check();
    assert!(it.shard.segments.len() <= SEGMENTS_MAX && it.shard.len() > SEGMENTS_FULL - 2);
    for number in SEGMENTS_MAX + 20..2 * SEGMENTS_MAX {
        assert_eq!(it.version(&key(number)), Some(number as u32));
    }
}

#[test]
fn memory_of_removed_entries_comes_back() {
    let mut it = Fixture::new(usize::MAX);
    (0..10_000).for_each(|number| it.put(&key(number), &answer(20, 0)));
    let full = it.shard.bytes();
    (0..10_000).filter(|number| number % 20 > 0).for_each(|number| it.remove(&key(number)));
    while it.with(|shard, rules| shard.compact(rules)) {}
    it.check();
    assert!(it.shard.bytes() < full / 8, "{} of {full}", it.shard.bytes());
    (0..10_000).for_each(|number| it.remove(&key(number)));
    assert_eq!(it.shard.bytes(), 0);
}

#[test]
fn a_renewed_entry_keeps_its_queue_and_one_use() {
    let mut it = Fixture::new(usize::MAX);
    let www = key(1);
    it.put(&www, &answer(20, 0));
    (0..3).for_each(|_| it.touch(&www));
    it.put(&www, &answer(20, 1));
    let entry = it.find(&www).and_then(|place| it.shard.at(place)).unwrap();
    assert_eq!((entry.frequency(), it.version(&www)), (1, Some(1)));
    let mut bytes = entry.0.to_vec();
    set_frequency(&mut bytes, 0);
    assert_eq!(Packed(&bytes).frequency(), 0);
}

/// Holds a shard to the bytes that it tells: while it fills, when it is full and entries make room for
/// others, and after most have been removed.
#[test]
fn a_shard_takes_the_memory_that_it_tells() {
    let size = |number: usize| match number % 100 {
        0 => 5000 + number % 9000,
        1..=9 => 200 + number % 1500,
        small => small,
    };
    let check = |it: &Fixture, stage: &str| {
        let (told, taken) = (it.shard.bytes(), it.allocated());
        // Two segments are not full yet, and the table of segments keeps its size.
        assert!(told <= taken && taken <= told + told / 50 + 4 * SEGMENT, "{stage}: {taken} for {told}");
    };
    let mut it = Fixture::new(4 << 20);
    for number in 0..40_000 {
        it.put(&key(number), &answer(size(number), 0));
        it.touch(&key(number / 2));
        if number % 2000 == 0 {
            check(&it, "filling");
        }
    }
    assert!(it.evicted.lock().len() > 10_000 && it.shard.bytes() > 4_000_000);
    check(&it, "full");
    (0..40_000).filter(|number| number % 7 > 0).for_each(|number| it.remove(&key(number)));
    while it.with(|shard, rules| shard.compact(rules)) {}
    assert!(it.shard.bytes() < 2 << 20, "{}", it.shard.bytes());
    check(&it, "after most were removed");
}
