//! Tests of memory that another thread populates.

use super::*;
use crate::region::PopulatorThread;

/// No entry is written to a page that was not asked for, in either slab.
#[test]
fn memory_is_asked_for_before_slabs_grow_into_it() {
    let thread = PopulatorThread::start("memory", || {}).unwrap();
    let mut f = Fixture::new(64 << 20);
    f.cache.populate_by(&thread.populator());
    for number in 0..200_000 {
        let name = format!("n{number}.example.com.");
        f.insert(&name, number, 300, 0);
        let key = key(&name);
        let written = position(f.cache.find(Group::DEFAULT, f.hash.of(&key), &key).unwrap());
        for byte in [written, written + EntryHeader::at(f.cache.slab.bytes(), written).0.size() - 1] {
            // `None`: on reserved pages.
            assert_ne!(f.cache.slab.was_asked(byte), Some(false), "{name} at {written}");
        }
    }
    let protected = f.cache.base(SlabKind::Protected);
    let moved = f.cache.ring(SlabKind::Protected).used();
    assert!(moved > 3 * HUGE_PAGE, "entries have moved on to several pages: {moved} bytes");
    for byte in (protected..protected + moved).step_by(4096) {
        assert_ne!(f.cache.slab.was_asked(byte), Some(false), "{byte}");
    }
}
