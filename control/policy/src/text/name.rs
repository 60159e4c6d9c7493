//! Names of lists, in wire format.

use super::Reason;
use crate::rule::{RuleAnswer, WireName};
use std::net::IpAddr;

/// Longest text of a name without its last dot: in wire format, it has two bytes more.
const TEXT_MAX: usize = 253;

/// Lowercased form of each byte that host names have, with `_`; 0 for all others.
const HOST: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let this = byte as u8;
        if this.is_ascii_alphanumeric() || this == b'-' || this == b'_' {
            table[byte] = this.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Returns a name in wire format, lowercased; Unicode is converted as UTS 46 says.
///
/// For names of letters, digits, `-` and `_`, the result is that of
/// [`names::name`](ringdns_common::names::name), but addresses are refused. Nothing is escaped: a
/// backslash in a list is a mistake.
pub(super) fn name(text: &str) -> Result<WireName, Reason> {
    if text.is_ascii() {
        return ascii(text.as_bytes());
    }
    let ascii_text = idna::domain_to_ascii(text).map_err(|_| Reason::Idn)?;
    ascii(ascii_text.as_bytes())
}

fn ascii(text: &[u8]) -> Result<WireName, Reason> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > TEXT_MAX {
        return Err(Reason::Length);
    }
    // The byte before each label is its length: the dot before it, and one byte before the name.
    let mut wire = [0u8; TEXT_MAX + 2];
    let mut start = 0;
    let (_, bytes) = wire.split_at_mut(1);
    for (to, &byte) in bytes.iter_mut().zip(text) {
        let lower = HOST[usize::from(byte)];
        if lower == 0 && byte != b'.' {
            return Err(Reason::Character);
        }
        *to = lower;
    }
    let ends = memchr::memchr_iter(b'.', text).chain([text.len()]);
    for end in ends {
        let len = end - start;
        if !(1..=63).contains(&len) {
            return Err(Reason::Label);
        }
        // At most 63. The length of the label from `start` on is written before it.
        if let Some(to) = wire.get_mut(start) {
            *to = len as u8;
        }
        start = end + 1;
    }
    if is_number(text) {
        return Err(Reason::AddressAsName);
    }
    Ok(wire.get(..text.len() + 2).unwrap_or_default().into())
}

/// Whether the last label is a number, as no top-level domain is: the text is an address then.
fn is_number(text: &[u8]) -> bool {
    text.last().is_some_and(u8::is_ascii_digit)
        && text.rsplit(|byte| *byte == b'.').next().is_some_and(|last| last.iter().all(u8::is_ascii_digit))
}

/// Whether a name in wire format has a single label.
pub(super) fn is_single(name: &[u8]) -> bool {
    name.first().is_some_and(|len| usize::from(*len) + 2 == name.len())
}

/// Name of the root in wire format.
pub(super) fn root() -> WireName {
    [0].into()
}

/// Returns the answer that an address in a rule means.
pub(super) fn address(ip: IpAddr) -> RuleAnswer {
    if ip.is_unspecified() { RuleAnswer::Null } else { RuleAnswer::Address(ip) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringdns_common::names;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]
        #[test]
        fn names_are_those_of_the_common_parser(
            text in prop_oneof![
                "[a-zA-Z0-9_.-]{0,12}",
                "[a-z0-9.]{200,260}",
                "([a-z]{1,63}[.]){3,5}[a-z]{1,63}[.]?",
                "[a-z]{60,66}[.]com",
            ]
        ) {
            match (name(&text), names::name(&text)) {
                (Ok(ours), common) => prop_assert_eq!(Ok(ours.to_vec()), common),
                (Err(Reason::AddressAsName), common) => prop_assert!(
                    common.is_ok() && text.trim_end_matches('.').ends_with(|c: char| c.is_ascii_digit())
                ),
                // The common parser takes the root for a name.
                (Err(_), common) => prop_assert!(common.is_err() || text == "."),
            }
        }
    }

    #[test]
    fn names_are_lowercased_and_converted() {
        assert_eq!(*name("EXAMPLE.Com.").unwrap(), *b"\x07example\x03com\0");
        assert_eq!(*name("BÜCHER.example").unwrap(), *b"\x0dxn--bcher-kva\x07example\0");
        assert_eq!(name("пример.рф").unwrap(), name("xn--e1afmkfd.xn--p1ai").unwrap());
        for (text, reason) in [
            ("", Reason::Length),
            (".", Reason::Length),
            ("a..b", Reason::Label),
            (".a", Reason::Label),
            ("a b", Reason::Character),
            ("a\\.b", Reason::Character),
            ("a/b", Reason::Character),
            ("192.0.2.1", Reason::AddressAsName),
            ("\u{fdd0}.example", Reason::Idn),
        ] {
            assert_eq!(name(text), Err(reason), "{text:?}");
        }
        assert!(name("0.0.0.0.example").is_ok() && name("a.4chan").is_ok());
    }
}
