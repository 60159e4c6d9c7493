//! Question in wire form, and facts about record types.

use anyhow::{Context, Result, ensure};
use hickory_proto::{
    rr::{Name, RecordType},
    serialize::binary::BinEncodable,
};
use std::str::FromStr;

/// Length of a message's header (RFC 1035 section 4.1.1).
pub const HEADER: usize = 12;

/// Length of the longest question, in bytes: a name of 255 bytes, type and class.
pub const QUESTION_MAX: usize = 255 + 4;

/// Class of all questions except those for the upstream's own counters.
pub const CLASS_IN: u16 = 1;

/// CHAOS class, in which servers answer questions about themselves.
pub const CLASS_CH: u16 = 3;

/// Returns a name in wire form: labels, and the root's zero.
pub fn wire_name(name: &str) -> Result<Vec<u8>> {
    let mut name = Name::from_ascii(name).with_context(|| format!("\"{name}\" is not a domain name"))?;
    name.set_fqdn(true);
    let wire = name.to_bytes().with_context(|| format!("\"{name}\" does not fit on the wire"))?;
    ensure!(wire.len() <= 255, "\"{name}\" is longer than the 255 bytes that a name may have (RFC 1035)");
    Ok(wire)
}

/// Parses a record type by name (`A`, `HTTPS`) or number (`TYPE65280`, RFC 3597).
pub fn record_type(text: &str) -> Result<u16> {
    let upper = text.to_ascii_uppercase();
    if let Some(number) = upper.strip_prefix("TYPE") {
        return number
            .parse()
            .with_context(|| format!("\"{text}\" is not a record type: write TYPE0 to TYPE65535"));
    }
    let known = RecordType::from_str(&upper);
    let known = known
        .ok()
        .with_context(|| format!("\"{text}\" is not a record type: write A, AAAA, … or TYPE123"))?;
    Ok(known.into())
}

/// Returns name, type and class in wire form.
pub fn wire_question(name: &str, qtype: u16) -> Result<Vec<u8>> {
    let mut wire = wire_name(name)?;
    wire.extend_from_slice(&qtype.to_be_bytes());
    wire.extend_from_slice(&CLASS_IN.to_be_bytes());
    Ok(wire)
}

/// Returns the offset past the name at the start of `bytes`; `None` if it is compressed or does not
/// end.
pub fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + len,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_wire_form_of_rfc_1035() {
        assert_eq!(wire_name("Www.Example").unwrap(), b"\x03Www\x07Example\0");
        assert_eq!(wire_name(".").unwrap(), b"\0");
        assert_eq!(wire_name("a\\.b.test.").unwrap(), b"\x03a.b\x04test\0");
        assert!(wire_name("a..b").is_err());
    }

    #[test]
    fn types_have_names_and_numbers() {
        assert_eq!(record_type("aaaa").unwrap(), 28);
        assert_eq!(record_type("TYPE65280").unwrap(), 65280);
        assert!(record_type("TYPE65536").is_err());
        assert!(record_type("BOGUS").unwrap_err().to_string().contains("BOGUS"));
    }

    #[test]
    fn a_name_ends_where_the_root_is() {
        assert_eq!(name_end(b"\x01a\0rest"), Some(3));
        assert_eq!(name_end(b"\x01a"), None);
        assert_eq!(name_end(b"\xc0\x0c"), None);
    }
}
