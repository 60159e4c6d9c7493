//! Alias at the end of an answer that does not give its target.

use crate::upstream::choice::Upstreams;
use ringdns_common::names;
use ringdns_dataplane::dns::{CLASS_IN, key::Key};
use ringdns_dnssec::Name;

/// Alias at the end of an answer that says nothing about its target.
#[derive(Debug)]
pub struct Alias {
    /// Question for its target.
    pub target: Key,
    /// Whether the answer was authoritative (AA): then its sender may know no more about the
    /// target.
    authoritative: bool,
}

impl Alias {
    /// Returns the alias of an answer to `key` that leads to the name `to`.
    pub fn new(key: &Key, to: &Name, authoritative: bool) -> Option<Box<Self>> {
        let asked = key.asked();
        if asked.qclass() != CLASS_IN {
            return None;
        }
        let target = names::key(to.as_wire(), asked.qtype(), asked.dnssec_ok(), asked.checking_disabled())?;
        Some(Box::new(Alias { target, authoritative }))
    }

    /// Whether another upstream may know more about the target than the one that answered `key`.
    pub fn leads_out(&self, key: &Key, upstreams: &Upstreams) -> bool {
        self.authoritative || !upstreams.are_the_same_for(key.asked(), self.target.asked())
    }
}
