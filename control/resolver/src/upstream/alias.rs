//! An alias at the end of an answer, whose target the answer does not say.

use crate::upstream::choice::Upstreams;
use hickory_proto::{rr::Name, serialize::binary::BinEncodable};
use ringdns_common::names;
use ringdns_dataplane::dns::{CLASS_IN, key::Key};

/// An alias at the end of an answer, of whose target the answer says nothing.
#[derive(Debug)]
pub struct Alias {
    /// The question for its target.
    pub target: Key,
    /// Whether the answer came with authority (AA): then its sender may have no more to say.
    authoritative: bool,
}

impl Alias {
    /// That of an answer to `key`, which leads to a name.
    pub fn new(key: &Key, to: &Name, authoritative: bool) -> Option<Box<Self>> {
        let asked = key.asked();
        if asked.qclass() != CLASS_IN {
            return None;
        }
        let name = to.to_lowercase().to_bytes().ok()?;
        let target = names::key(&name, asked.qtype(), asked.dnssec_ok(), asked.checking_disabled())?;
        Some(Box::new(Alias { target, authoritative }))
    }

    /// Whether somebody may know more about its target than who has answered `key`.
    pub fn leads_out(&self, key: &Key, upstreams: &Upstreams) -> bool {
        self.authoritative || !upstreams.are_the_same_for(key.asked(), self.target.asked())
    }
}
