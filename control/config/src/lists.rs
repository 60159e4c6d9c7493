//! Lists of prefixes and of domain names.

use crate::error::Problem;
use ringdns_common::names;
use ringdns_dataplane::prefix::Prefix;

/// Parses prefixes and single addresses.
pub fn prefixes(key: &str, texts: &[String]) -> Result<Vec<Prefix>, Problem> {
    texts.iter().enumerate().map(|(i, text)| prefix(&format!("{key}[{i}]"), text)).collect()
}

/// Parses a prefix or a single address.
pub fn prefix(key: &str, text: &str) -> Result<Prefix, Problem> {
    text.parse().map_err(|error| {
        let remedy = "Write \"198.51.100.0/22\", \"2001:db8::/32\" or a single address";
        Problem::new(key, format!("{text:?}: {error}"), remedy)
    })
}

/// Parses zones into names on the wire.
pub fn zones(key: &str, texts: &[String]) -> Result<Vec<Vec<u8>>, Problem> {
    let zone = |(i, text): (usize, &String)| {
        names::name(text).map_err(|error| {
            let remedy = "Write \"corp.example\", without a scheme or an asterisk";
            Problem::new(format!("{key}[{i}]"), error.to_string(), remedy)
        })
    };
    texts.iter().enumerate().map(zone).collect()
}
