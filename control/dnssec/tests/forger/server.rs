//! Honest resolver over a tree of zones, which returns signatures.

use crate::zone::{Denial, Rr, Zone, name, rtype};
use ringdns_dnssec::Name;

pub const NOERROR: u8 = 0;
pub const NXDOMAIN: u8 = 3;
pub const YXDOMAIN: u8 = 6;
const SERVFAIL: u8 = 2;

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Message {
    pub rcode: u8,
    pub answers: Vec<Rr>,
    pub authorities: Vec<Rr>,
}

impl Message {
    /// Returns the message on the wire, without a question.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = vec![0, 0, 0x80, self.rcode, 0, 0];
        wire.extend((self.answers.len() as u16).to_be_bytes());
        wire.extend((self.authorities.len() as u16).to_be_bytes());
        wire.extend([0, 0]);
        for rr in self.answers.iter().chain(&self.authorities) {
            wire.extend(rr.owner.as_wire());
            wire.extend(rr.rtype.to_be_bytes());
            wire.extend([0, 1]);
            wire.extend(rr.ttl.to_be_bytes());
            wire.extend((rr.rdata.len() as u16).to_be_bytes());
            wire.extend(&rr.rdata);
        }
        wire
    }
}

/// A signed root and the zones below it.
pub struct Tree {
    zones: Vec<Zone>,
}

/// Label of 63 bytes: a name has room for three of them.
pub const LONG_LABEL: &str = "sixty-three-bytes-of-a-label-are-the-most-that-the-rfc-allows-0";

/// Returns a zone with a name of each kind.
fn with_names(origin: &str, denial: Denial) -> Zone {
    let mut zone = Zone::new(origin, denial);
    let host = [192, 0, 2, origin.len() as u8].to_vec();
    for front in ["www", "a", "deep.down.ent", "*.wild", "under.wild", "zz"] {
        zone.add(front, rtype::A, host.clone());
    }
    zone.add("www", rtype::A, vec![192, 0, 2, 200]);
    zone.add("www", rtype::TXT, b"\x04text".to_vec());
    zone.add("*.wild", rtype::TXT, b"\x04wild".to_vec());
    let alias = |to: &str| name(to).as_wire().to_vec();
    zone.add("alias", rtype::CNAME, alias(&format!("www.{origin}")));
    zone.add("chain", rtype::CNAME, alias(&format!("alias.{origin}")));
    zone.add("away", rtype::CNAME, alias("www.nsec3"));
    zone.add("unsafe", rtype::CNAME, alias("www.unsigned"));
    zone.add("back", rtype::CNAME, alias("www.signed"));
    zone.add("lost", rtype::CNAME, alias(&format!("nothing.{origin}")));
    zone.add("*.aliases", rtype::CNAME, alias(&format!("a.wild.{origin}")));
    zone.add("moved", rtype::DNAME, alias(origin));
    zone.add("stretched", rtype::DNAME, alias(&format!("{LONG_LABEL}.{LONG_LABEL}.{LONG_LABEL}.{origin}")));
    zone
}

impl Tree {
    /// Returns zones with NSEC, NSEC3 and opt-out, with and without DS; `evil` is signed, and the
    /// forger has its key.
    pub fn plant() -> Self {
        let (nsec, nsec3) = (Denial::Nsec, Denial::Nsec3 { opt_out: false });
        let opt_out = Denial::Nsec3 { opt_out: true };
        let mut root = Zone::new("", nsec);
        let mut zones = Vec::new();
        for (origin, denial) in [("signed", nsec), ("nsec3", nsec3), ("optout", opt_out), ("evil", nsec)] {
            let mut zone = with_names(origin, denial);
            for (front, denial) in [("child", nsec), ("plain", Denial::Unsigned), ("island", nsec3)] {
                let child = with_names(&format!("{front}.{origin}"), denial);
                delegate(&mut zone, front, &child, front == "child");
                zones.push(child.close());
            }
            delegate(&mut root, origin, &zone, true);
            zones.push(zone.close());
        }
        let unsigned = with_names("unsigned", Denial::Unsigned);
        delegate(&mut root, "unsigned", &unsigned, false);
        zones.extend([unsigned.close(), root.close()]);
        // Deeper zones come first.
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.origin.label_count()));
        Tree { zones }
    }

    pub fn root(&self) -> &Zone {
        self.zones.last().unwrap()
    }

    pub fn zone(&self, origin: &str) -> &Zone {
        self.zones.iter().find(|zone| zone.origin == name(origin)).unwrap()
    }

    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// Whether a name belongs to the forger.
    pub fn is_forgers(&self, at: &Name) -> bool {
        at.is_at_or_below(&name("evil"))
    }

    /// Returns the zone that is authoritative for a type at a name.
    pub fn zone_for(&self, name: &Name, rtype: u16) -> &Zone {
        let knows = |zone: &&Zone| match rtype {
            rtype::DS if !name.is_root() => name.is_below(&zone.origin),
            _ => name.is_at_or_below(&zone.origin),
        };
        self.zones.iter().find(knows).unwrap()
    }

    /// Whether only the holder of the keys can change the answers about a name.
    pub fn protects(&self, name: &Name, rtype: u16) -> bool {
        let mut zone = self.zone_for(name, rtype);
        if self.is_forgers(name) {
            return false;
        }
        // A name that does not exist may be an unsigned delegation, even if a wildcard matches it
        // (RFC 5155 section 9.2).
        if zone.uses_opt_out() && !zone.exists(name) && zone.dname(name).is_none() {
            return false;
        }
        loop {
            let Some(parent) = zone.origin.parent() else { return true };
            let parent = self.zone_for(&parent, 0);
            if !zone.is_signed() || parent.set(&zone.origin, &zone.origin, rtype::DS).is_empty() {
                return false;
            }
            zone = parent;
        }
    }

    /// Returns the answer to a question.
    pub fn answer(&self, name: &Name, qtype: u16) -> Message {
        let mut message = Message::default();
        let mut at = name.clone();
        for _ in 0..9 {
            match self.link(&at, qtype, &mut message) {
                Some(target) => at = target,
                None => return message,
            }
        }
        Message { rcode: SERVFAIL, ..Message::default() }
    }

    /// Appends the records of a name, and returns the target if it is an alias.
    fn link(&self, at: &Name, qtype: u16, message: &mut Message) -> Option<Name> {
        let zone = self.zone_for(at, qtype);
        message.rcode = NOERROR;
        if let Some(owner) = zone.dname(at) {
            let set = zone.set(&owner, &owner, rtype::DNAME);
            let to = Name::from_wire(&set[0].rdata).unwrap();
            let labels: Vec<_> = at.labels().take(at.label_count() - owner.label_count()).collect();
            message.answers.extend(set.clone());
            let Some(target) = labels.iter().rev().try_fold(to, |to, label| to.prepend(label)) else {
                message.rcode = YXDOMAIN;
                return None;
            };
            let rdata = target.as_wire().to_vec();
            message.answers.push(Rr { owner: at.clone(), rtype: rtype::CNAME, rdata, ..set[0].clone() });
            return (qtype != rtype::CNAME).then_some(target);
        }
        let (from, is_expanded) = if zone.exists(at) {
            (at.clone(), false)
        } else {
            (zone.encloser(at).prepend(b"*").unwrap(), true)
        };
        if is_expanded && zone.types(&from).is_none() {
            message.rcode = NXDOMAIN;
            message.authorities.extend(zone.set(&zone.origin, &zone.origin, rtype::SOA));
            message.authorities.extend(zone.denial_of(at));
            message.authorities.extend(zone.covering(&from));
            return None;
        }
        let types = zone.types(&from);
        let has = |rtype: u16| types.is_some_and(|types| types.contains_key(&rtype));
        let found = [qtype, rtype::CNAME].into_iter().find(|rtype| has(*rtype));
        if is_expanded {
            let denial = zone.denial_of(at);
            message.authorities.extend(denial);
        }
        let Some(found) = found else {
            message.authorities.extend(zone.set(&zone.origin, &zone.origin, rtype::SOA));
            message.authorities.extend(match zone.matching(&from) {
                Some(matching) => matching,
                // An empty non-terminal, or a name that opt-out leaves out.
                None => zone.denial_of(&from),
            });
            return None;
        };
        message.answers.extend(zone.set(&from, at, found));
        if found == qtype {
            return None;
        }
        Name::from_wire(&types?[&rtype::CNAME][0])
    }
}

fn delegate(parent: &mut Zone, front: &str, child: &Zone, is_secure: bool) {
    let host = child.origin.prepend(b"ns").unwrap();
    parent.add(front, rtype::NS, host.as_wire().to_vec());
    if is_secure {
        parent.add(front, rtype::DS, child.ds());
    }
}
