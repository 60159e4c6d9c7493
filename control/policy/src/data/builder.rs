//! Makes local data of records and zones.

use super::{
    ASTERISK, Audience, AudienceNames, LocalData, Node, RecordSet, ancestors, error::DataError, soa,
};
use ringdns_common::names;
use ringdns_dataplane::dns::rtype;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

/// Most bytes of the records of a name and type: more do not fit in a message of 64 KiB.
const SET_MAX: usize = 48 << 10;
/// Bytes of a record beside its data, at least.
const RECORD: usize = 12;
/// TTL in seconds of the SOA record of a zone that has no file.
const SOA_TTL: u32 = 300;

/// Record of local data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRecord {
    /// Name in wire format, lowercased.
    pub owner: Box<[u8]>,
    /// Type.
    pub rtype: u16,
    /// TTL in seconds.
    pub ttl: u32,
    /// Data on the wire.
    pub data: Box<[u8]>,
    /// Whether the name is the one that the address in the data belongs to.
    pub is_canonical: bool,
}

impl LocalRecord {
    /// Parses a record from its text form. The names in it are complete.
    pub fn parse(owner: &str, rtype: u16, ttl: u32, data: &str) -> Result<Self, DataError> {
        let (mut words, mut depth) = (Vec::new(), 0);
        super::words::split(data, &mut words, &mut depth)?;
        if depth > 0 {
            return Err(DataError::Parenthesis);
        }
        let data = super::rdata::parse(rtype, &words, None)?.into();
        Ok(LocalRecord { owner: names::name(owner)?.into(), rtype, ttl, data, is_canonical: true })
    }

    /// Returns the record of an address.
    pub fn address(owner: Box<[u8]>, ttl: u32, address: IpAddr, is_canonical: bool) -> Self {
        let (rtype, data) = match address {
            IpAddr::V4(v4) => (rtype::A, v4.octets().into()),
            IpAddr::V6(v6) => (rtype::AAAA, v6.octets().into()),
        };
        LocalRecord { owner, rtype, ttl, data, is_canonical }
    }

    /// Returns the alias of a name.
    pub fn alias(owner: Box<[u8]>, ttl: u32, target: Box<[u8]>) -> Self {
        LocalRecord { owner, rtype: rtype::CNAME, ttl, data: target, is_canonical: false }
    }

    /// Returns the address of an address record.
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.rtype {
            rtype::A => Some(<[u8; 4]>::try_from(&*self.data).ok()?.into()),
            rtype::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&*self.data).ok()?).into()),
            _ => None,
        }
    }
}

/// Builder of local data.
#[derive(Default)]
pub struct DataBuilder {
    names: HashMap<Box<[u8]>, Vec<RecordSet>>,
    /// Zones, and the groups that they are for.
    zones: HashMap<Box<[u8]>, Audience>,
    /// Addresses and the names that they belong to, in order.
    addresses: Vec<(IpAddr, Box<[u8]>, Audience)>,
    groups: AudienceNames,
}

impl DataBuilder {
    /// Returns the groups of clients with these names.
    pub fn groups(&mut self, names: &[String]) -> Result<Audience, DataError> {
        self.groups.of(names)
    }

    /// Adds a zone for all clients: its names without records do not exist. Zones come before records.
    pub fn zone(&mut self, apex: Box<[u8]>) {
        self.zone_for(Audience::ALL, apex);
    }

    /// Adds a zone for groups of clients.
    pub fn zone_for(&mut self, audience: Audience, apex: Box<[u8]>) {
        let known = self.zones.entry(apex).or_insert(Audience::NONE);
        *known = known.or(audience);
    }

    /// Adds a record for all clients. One that is there already is added once.
    pub fn record(&mut self, record: LocalRecord) -> Result<(), DataError> {
        self.record_for(Audience::ALL, record)
    }

    /// Adds a record for groups of clients.
    pub fn record_for(&mut self, audience: Audience, record: LocalRecord) -> Result<(), DataError> {
        let sets = self.names.entry(record.owner.clone()).or_default();
        let is_apex = self.zones.get(&record.owner).is_some_and(|zone| zone.meets(audience));
        check(&record, audience, sets, is_apex)?;
        if let Some(address) = record.as_address().filter(|address| {
            record.is_canonical && !address.is_unspecified() && !record.owner.starts_with(ASTERISK)
        }) {
            self.addresses.push((address, record.owner.clone(), audience));
        }
        let mut left = audience;
        let mut parts = Vec::new();
        for set in sets.iter_mut().filter(|set| set.rtype == record.rtype && set.audience.meets(audience)) {
            let apart = set.audience.without(audience);
            if !apart.is_empty() {
                // The others have the set without the record.
                parts.push(RecordSet { audience: apart, ..set.clone() });
                set.audience = set.audience.and(audience);
            }
            left = left.without(set.audience);
            set.ttl = set.ttl.min(record.ttl);
            if !set.data.contains(&record.data) {
                set.data.push(record.data.clone());
            }
        }
        if !left.is_empty() {
            let LocalRecord { rtype, ttl, data, .. } = record;
            parts.push(RecordSet { rtype, ttl, data: vec![data], audience: left });
        }
        sets.extend(parts);
        Ok(())
    }

    /// Returns the data. `ptr`: the first name of each address becomes its PTR record, with this TTL,
    /// if its reverse name has no records.
    pub fn finish(mut self, ptr: Option<u32>) -> LocalData {
        for ((address, name, audience), ttl) in self.addresses.drain(..).zip(ptr.into_iter().cycle()) {
            let sets = self.names.entry(reverse(address)).or_default();
            let audience = audience.without(seen_by(sets, |_| true));
            if !audience.is_empty() {
                sets.push(RecordSet { rtype: rtype::PTR, ttl, data: vec![name], audience });
            }
        }
        for (zone, audience) in &self.zones {
            let sets = self.names.entry(zone.clone()).or_default();
            let audience = audience.without(seen_by(sets, |set| set.rtype == rtype::SOA));
            if !audience.is_empty() {
                let data = vec![soa(zone, SOA_TTL).into()];
                sets.push(RecordSet { rtype: rtype::SOA, ttl: SOA_TTL, data, audience });
            }
        }
        // A record that was refused makes no name.
        self.names.retain(|_, sets| !sets.is_empty());
        let mut data =
            LocalData { has_zones: !self.zones.is_empty(), groups: self.groups, ..LocalData::default() };
        for (name, sets) in self.names {
            data.records += sets.iter().map(|set| set.data.len()).sum::<usize>();
            let audience = seen_by(&sets, |_| true);
            let apex_for = self.zones.get(&name).copied().unwrap_or(Audience::NONE);
            for above in ancestors(&name).skip(1) {
                let node = data.nodes.entry(above.into()).or_default();
                if audience.is_within(node.audience) {
                    break;
                }
                node.audience = node.audience.or(audience);
            }
            let node = data.nodes.entry(name).or_default();
            *node = Node { sets: sets.into(), audience: node.audience.or(audience), apex_for };
        }
        data
    }
}

/// Checks that a record for groups of clients may be beside `sets`, those of its name.
fn check(
    record: &LocalRecord,
    audience: Audience,
    sets: &[RecordSet],
    is_apex: bool,
) -> Result<(), DataError> {
    let name = || names::display(&record.owner);
    let is_alias = record.rtype == rtype::CNAME;
    let bytes = |data: &[u8]| data.len() + RECORD;
    if is_alias && is_apex {
        return Err(DataError::AliasNotAlone(name()));
    }
    for set in sets.iter().filter(|set| set.audience.meets(audience)) {
        if (set.rtype == rtype::CNAME) != is_alias {
            return Err(DataError::AliasNotAlone(name()));
        }
        if set.rtype != record.rtype || set.data.contains(&record.data) {
            continue;
        }
        match record.rtype {
            rtype::CNAME => return Err(DataError::Twice(name(), "CNAME")),
            rtype::SOA => return Err(DataError::Twice(name(), "SOA")),
            _ => {}
        }
        if set.data.iter().map(|data| bytes(data)).sum::<usize>() + bytes(&record.data) > SET_MAX {
            return Err(DataError::TooLarge(name(), SET_MAX));
        }
    }
    Ok(())
}

/// Returns the groups that see one of some sets.
fn seen_by(sets: &[RecordSet], which: impl Fn(&RecordSet) -> bool) -> Audience {
    sets.iter().filter(|set| which(set)).fold(Audience::NONE, |all, set| all.or(set.audience))
}

/// Returns the reverse name of an address (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub fn reverse(address: IpAddr) -> Box<[u8]> {
    let mut name = Vec::new();
    let mut label = |text: &str| {
        name.push(text.len() as u8);
        name.extend_from_slice(text.as_bytes());
    };
    match address {
        IpAddr::V4(v4) => {
            v4.octets().iter().rev().for_each(|byte| label(&byte.to_string()));
            label("in-addr");
        }
        IpAddr::V6(v6) => {
            for byte in v6.octets().iter().rev() {
                label(&format!("{:x}", byte & 15));
                label(&format!("{:x}", byte >> 4));
            }
            label("ip6");
        }
    }
    label("arpa");
    name.push(0);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::End;

    fn record(owner: &str, kind: &str, data: &str) -> LocalRecord {
        LocalRecord::parse(owner, names::record_type(kind).unwrap(), 60, data).unwrap()
    }

    #[test]
    fn an_alias_is_alone_at_its_name() {
        let mut builder = DataBuilder::default();
        builder.record(record("a.example", "CNAME", "b.example")).unwrap();
        builder.record(record("a.example", "CNAME", "b.example")).unwrap();
        let text = |error: DataError| error.to_string();
        let address = builder.record(record("A.example", "A", "192.0.2.1")).map_err(text);
        assert!(address.unwrap_err().contains("a.example. has a CNAME"));
        let other = builder.record(record("a.example", "CNAME", "c.example")).map_err(text);
        assert!(other.unwrap_err().contains("two CNAME"));
        builder.record(record("b.example", "A", "192.0.2.1")).unwrap();
        assert!(builder.record(record("b.example", "CNAME", "c.example")).is_err());
    }

    #[test]
    fn reverse_names_are_made_of_the_first_name_of_an_address() {
        let build = |ptr: Option<u32>| {
            let mut builder = DataBuilder::default();
            for (owner, kind, data) in [
                ("nas.example", "A", "192.0.2.1"),
                ("alias.example", "A", "192.0.2.1"),
                ("nas.example", "AAAA", "2001:db8::1"),
                ("*.wild.example", "A", "192.0.2.2"),
                ("null.example", "A", "0.0.0.0"),
                ("3.2.0.192.in-addr.arpa", "PTR", "own.example"),
                ("other.example", "A", "192.0.2.3"),
            ] {
                builder.record(record(owner, kind, data)).unwrap();
            }
            builder.finish(ptr)
        };
        let target = |data: &LocalData, name: &str| {
            let answer = data.answer(&names::name(name).unwrap(), rtype::PTR)?;
            assert_eq!(answer.end, End::Complete);
            Some(names::display(&answer.sets[0].1.data[0]))
        };
        let data = build(Some(60));
        let of_v6 = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
        for (name, expected) in [
            ("1.2.0.192.in-addr.arpa", Some("nas.example.")),
            (&*of_v6, Some("nas.example.")),
            ("2.2.0.192.in-addr.arpa", None),
            ("0.0.0.0.in-addr.arpa", None),
            ("3.2.0.192.in-addr.arpa", Some("own.example.")),
        ] {
            assert_eq!(target(&data, name).as_deref(), expected, "{name}");
        }
        assert_eq!(target(&build(None), "1.2.0.192.in-addr.arpa"), None);
    }

    #[test]
    fn records_that_fit_in_no_answer_are_refused() {
        let mut builder = DataBuilder::default();
        let text = format!("\"{}\"", "x".repeat(250));
        let error = (0..1000)
            .find_map(|i| builder.record(record("a.example", "TXT", &format!("{text} {i}"))).err())
            .unwrap();
        assert!(error.to_string().contains("a.example. has more than 49152 bytes"), "{error}");
    }
}
