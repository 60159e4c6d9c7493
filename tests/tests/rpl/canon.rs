//! The canonical form of records (RFC 4034 section 6), in which they are compared and signed.

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::{Record, wire_name};

use crate::response::RRSIG;

/// Types whose data contain lowercased names, and the number of bytes before these (RFC 4034
/// section 6.2 and RFC 6840 section 5.1). The data of all end with the names or with numbers,
/// except for the types treated separately below.
const NAMES_AT: [(u16, usize); 15] = [
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (12, 0),
    (14, 0),
    (15, 2),
    (17, 0),
    (18, 2),
    (21, 2),
    (26, 2),
    (36, 2),
];
const SOA: u16 = 6;
const SRV: u16 = 33;
const DNAME: u16 = 39;

/// Returns the canonical form of data. Malformed data stay unchanged.
pub fn canonical(rtype: u16, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let (mut at, names) = match rtype {
        SOA => (0, 2),
        SRV => (6, 1),
        DNAME => (0, 1),
        RRSIG => (18, 1),
        _ => match NAMES_AT.iter().find(|known| known.0 == rtype) {
            Some((_, at)) => (*at, 2),
            None => return data,
        },
    };
    for _ in 0..names {
        while let Some(length) = data.get(at).copied().filter(|length| (1..64).contains(length)) {
            let end = (at + 1 + usize::from(length)).min(data.len());
            data[at + 1..end].make_ascii_lowercase();
            at = end;
        }
        at += 1;
    }
    data
}

/// Returns the bytes that a signature with these data covers: its head, and the records in order,
/// each once (RFC 4034 section 3.1.8.1). `None` if the data are malformed.
pub fn signed_bytes(signature: &[u8], records: &[&Record]) -> Option<Vec<u8>> {
    let signature = canonical(RRSIG, signature);
    let (labels, ttl) = (*signature.get(3)?, signature.get(4..8)?);
    let mut bytes = signature.get(..signature_at(&signature)?)?.to_vec();
    let mut forms: Vec<Vec<u8>> =
        records.iter().map(|record| canonical(record.rtype, &record.data)).collect();
    forms.sort();
    forms.dedup();
    let first = records.first()?;
    let owner = wire_name(&signed_owner(&first.owner, labels)?).ok()?;
    for form in forms {
        bytes.extend(&owner);
        bytes.extend(first.rtype.to_be_bytes());
        bytes.extend(first.class.to_be_bytes());
        bytes.extend(ttl);
        bytes.extend(u16::try_from(form.len()).ok()?.to_be_bytes());
        bytes.extend(form);
    }
    Some(bytes)
}

/// Returns the offset of the signature itself in the data of an RRSIG: after the signer's name.
pub fn signature_at(data: &[u8]) -> Option<usize> {
    let mut at = 18;
    loop {
        match *data.get(at)? {
            0 => return Some(at + 1),
            length => at += 1 + usize::from(length),
        }
    }
}

/// Returns the name that a signature with this label count covers: a wildcard if the answer was
/// expanded from one.
fn signed_owner(owner: &Name, labels: u8) -> Option<Name> {
    let owner = owner.to_lowercase();
    let own = owner.num_labels();
    match labels {
        _ if labels == own => Some(owner),
        _ if labels < own => owner.trim_to(usize::from(labels)).prepend_label("*").ok(),
        _ => None,
    }
}
