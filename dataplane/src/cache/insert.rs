//! Insertion of answers.

use super::{
    Cache, Scope, SlabKind,
    entry::{Draft, DraftRules, EntryHeader},
    hash_for, hash_of, position, reference,
};
use crate::{
    clock::Secs,
    dns::{answer::Answer, key::Key},
    group::Group,
};

impl Cache {
    /// Inserts an answer that all clients get: see [`insert_for`](Self::insert_for).
    pub fn insert(&mut self, key: &Key, answer: &Answer, now: Secs) {
        self.insert_for(&Scope::ALL, key, answer, now);
    }

    /// Inserts an answer for the clients in `scope`. Ignores one that is neither newer nor
    /// longer-lived than the entry that is there, or is useless already. An answer with a TTL of zero
    /// is not kept, and older ones are removed.
    pub fn insert_for(&mut self, scope: &Scope, key: &Key, answer: &Answer, now: Secs) {
        let (home, hash) = (scope.home(), self.hash.of(key));
        if home != Group::DEFAULT {
            // The answer of all groups together is no longer that of this one.
            let common = self.find(Group::DEFAULT, hash, key).filter(|found| self.is_for(*found, home));
            if let Some(common) = common {
                self.unlink(common);
                self.churn.expired += 1;
            }
        }
        if answer.ttl == 0 || now >= answer.dead() {
            return self.supersede(home, key, hash, answer);
        }
        let mut segment = SlabKind::Probation;
        let mut frequency = 0;
        if let Some(old) = self.find(home, hash, key) {
            let current = self.refile(old);
            let (header, body) = EntryHeader::at(self.slab.bytes(), position(old));
            let same = current && header.groups(body) == scope.groups;
            if same && header.received() >= answer.received && header.expires() >= answer.expires() {
                return;
            }
            // A renewed entry keeps its slab, but must be requested again to be renewed again.
            segment = self.segment(old);
            frequency = header.frequency().min(1);
            self.unlink(old);
        }
        let hash = hash_for(home, hash);
        let rules = DraftRules { wire_max: self.wire_max, generation: self.filings.current, now };
        let draft = Draft::new(key, answer, scope, rules);
        let size = draft.size();
        let at = self.make_room(segment, size, now);
        draft.write(&mut self.slab.bytes_mut()[at..], frequency);
        let entry = reference(at);
        if !self.index.insert(hash, entry) {
            self.crowd_out(hash);
            if !self.index.insert(hash, entry) {
                // Cannot happen: a slot of the home bucket was just freed.
                EntryHeader::at_mut(self.slab.bytes_mut(), at).0.kill();
                self.removed += size;
                return;
            }
        }
        self.entries += 1;
        self.filings.add();
        self.churn.inserted += 1;
        self.grow_index();
    }

    /// Lets the index grow a little, if entries need it.
    fn grow_index(&mut self) {
        let (slab, hash) = (self.slab.bytes(), &self.hash);
        let lost = self.index.grow(|entry| hash_of(hash, slab, entry));
        for entry in lost {
            let (header, _) = EntryHeader::at_mut(self.slab.bytes_mut(), position(entry));
            header.kill();
            self.filings.remove(header.generation());
            self.removed += header.size();
            self.entries -= 1;
            self.churn.evicted += 1;
        }
    }

    /// Removes the entry of `key` if `answer`, which is not kept, is a newer one. A failure is none:
    /// an expired answer is better.
    #[cold]
    fn supersede(&mut self, home: Group, key: &Key, hash: u64, answer: &Answer) {
        if answer.ttl > 0 || answer.status.is_failure() {
            return;
        }
        let Some(old) = self.find(home, hash, key) else { return };
        let (header, _) = EntryHeader::at(self.slab.bytes(), position(old));
        // An entry that had expired then holds the time of its last renewal instead.
        if header.received() < answer.received || header.expires() <= answer.received {
            self.unlink(old);
            self.churn.expired += 1;
        }
    }

    /// Replaces the entry of `key` with an answer for the clients in `scope`. Returns whether there
    /// was an entry.
    pub fn renew(&mut self, scope: &Scope, key: &Key, answer: &Answer, now: Secs) -> bool {
        let known = self.find(scope.home(), self.hash.of(key), key).is_some();
        if known {
            self.insert_for(scope, key, answer, now);
        }
        known
    }
}
