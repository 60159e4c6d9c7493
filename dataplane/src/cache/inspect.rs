//! Looks at entries without an effect on them.

use super::{Cache, entry::EntryHeader, position, purge::is_plain};
use crate::{clock::Secs, dns::key::Key, group::Group, inspection::Inspected};

impl Cache {
    /// Returns the entry that a client of `group` would get. Counts no request, and removes nothing.
    pub fn inspect(&self, group: Group, hash: u64, key: &Key, now: Secs) -> Option<Inspected> {
        let found = self.find_for(group, hash, key)?;
        let (header, body) = EntryHeader::at(self.slab.bytes(), position(found));
        let generation = header.generation();
        let is_purged = generation != self.filings.current
            && self.filings.is_void(header.asked(body), is_plain(header, body), generation);
        (now < header.dead()).then(|| Inspected {
            received: header.received(),
            expires: header.expires(),
            dead: header.dead(),
            rcode: header.status().rcode(),
            list: header.view(body).1,
            is_purged,
        })
    }
}
