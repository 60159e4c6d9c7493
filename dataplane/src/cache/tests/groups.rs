//! Entries for groups of clients.

use super::*;
use crate::group::{GROUPS, GroupSet};

fn group(number: usize) -> Group {
    Group::new(number).unwrap()
}

fn set(numbers: &[usize]) -> GroupSet {
    numbers.iter().fold(GroupSet::NONE, |set, number| set.with(group(*number)))
}

impl Fixture {
    fn insert_for(&mut self, name: &str, number: u32, asked_by: usize, groups: GroupSet) {
        let key = key(name);
        let scope = Scope { group: group(asked_by), groups, list: Some(number as u8) };
        self.cache.insert_for(&scope, &key, &answer(name, number, 60, 0), 0);
    }

    /// Looks up a name for a client of a group. Returns its number.
    fn get_for(&mut self, name: &str, number: usize) -> Option<u32> {
        let key = key(name);
        let hit = self.cache.lookup_for(group(number), self.hash.of(&key), &key, 1)?;
        let number = u32::from_be_bytes(*hit.view.wire.last_chunk::<4>().unwrap());
        assert_eq!(hit.list.map(u32::from), Some(number));
        Some(number)
    }
}

#[test]
fn groups_share_an_answer_unless_it_is_another() {
    let mut f = Fixture::new(1 << 20);
    f.insert_for("a.example.", 1, 3, GroupSet::ALL);
    assert_eq!([0, 3, 31].map(|group| f.get_for("a.example.", group)), [Some(1); 3]);
    assert_eq!(f.cache.occupancy().entries, 1, "one entry serves all groups");
    // Group 3 gets another answer from now on.
    f.insert_for("a.example.", 2, 3, set(&[3, 4]));
    assert_eq!(f.get_for("a.example.", 3), Some(2));
    assert_eq!(f.get_for("a.example.", 0), None, "what all groups got is void");
    f.insert_for("a.example.", 5, 9, set(&[3, 4]).others());
    assert_eq!([0, 9, 3].map(|group| f.get_for("a.example.", group)), [Some(5), Some(5), Some(2)]);
    assert_eq!(f.get_for("a.example.", 4), None, "its own answer has not been asked for");
    assert_eq!(f.cache.occupancy().entries, 2);
}

/// Their places follow from the group too, which the cache computes again for each move and removal.
#[test]
fn answers_of_one_group_are_found_after_they_have_moved() {
    const NAMES: u32 = 8_000;
    let mut f = Fixture::new(1 << 20);
    let name = |number: u32| format!("n{number}.example.");
    // So many that the index grows, and that entries leave probation.
    (0..NAMES).for_each(|number| f.insert_for(&name(number), number % 200, 3, set(&[3])));
    assert!((0..NAMES).all(|number| f.get_for(&name(number), 3) == Some(number % 200)));
    // Newer answers take their places.
    for number in 0..NAMES {
        let (text, newer) = (name(number), number % 200 + 1);
        let scope = Scope { group: group(3), groups: set(&[3]), list: Some(newer as u8) };
        f.cache.insert_for(&scope, &key(&text), &answer(&text, newer, 60, 10), 10);
    }
    assert!((0..NAMES).all(|number| f.get_for(&name(number), 3) == Some(number % 200 + 1)));
    assert_eq!(f.cache.occupancy().entries, u64::from(NAMES));
}

#[test]
fn a_divided_answer_is_not_seen_at_a_glance() {
    let mut f = Fixture::new(1 << 20);
    for (name, groups) in [("all.example.", GroupSet::ALL), ("some.example.", set(&[3]).others())] {
        let (key, answer) = (key(name), answer(name, 1, 60, 0));
        let hash = f.hash.of(&key);
        let scope = Scope { group: Group::DEFAULT, groups, list: None };
        f.cache.insert_for(&scope, &key, &answer, 0);
        let entry = f.cache.find(Group::DEFAULT, hash, &key).unwrap();
        let filed = EntryHeader::at(f.cache.slab.bytes(), position(entry)).0.filed();
        assert_eq!(filed == f.cache.filed(key.flags()), groups == GroupSet::ALL, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A client gets an answer that was made for its group, and its own answer after it has asked.
    #[test]
    fn no_group_gets_the_answer_of_another(
        // Groups by name: all in one of three classes, as lists decide it.
        classes in prop::collection::vec(prop::array::uniform32(0..3u8), 4),
        steps in prop::collection::vec((0..4usize, 0..GROUPS, any::<bool>()), 1..200),
    ) {
        let mut f = Fixture::new(BYTES_MIN);
        let mut given: HashMap<u32, (usize, u8)> = HashMap::new();
        let mut number = 0;
        for (name, asked_by, insert) in steps {
            let text = format!("n{name}.example.");
            let class = classes[name][asked_by];
            if insert {
                number += 1;
                let members: Vec<_> = (0..GROUPS).filter(|group| classes[name][*group] == class).collect();
                given.insert(number % 256, (name, class));
                f.insert_for(&text, number % 256, asked_by, set(&members));
                prop_assert!(f.get_for(&text, asked_by).is_some());
            }
            if let Some(found) = f.get_for(&text, asked_by) {
                prop_assert_eq!(given.get(&found), Some(&(name, class)));
            }
        }
    }
}
