//! Lists of prefixes and of domain names.

use crate::error::Problem;
use ringdns_common::names;
use ringdns_dataplane::prefix::Prefix;

/// Parses prefixes and single addresses.
pub fn prefixes(key: &str, texts: &[String]) -> Result<Vec<Prefix>, Problem> {
    let prefix = |(i, text): (usize, &String)| {
        text.parse().map_err(|error| {
            let remedy = "Write \"198.51.100.0/22\", \"2001:db8::/32\" or a single address";
            Problem::new(format!("{key}[{i}]"), format!("{text:?}: {error}"), remedy)
        })
    };
    texts.iter().enumerate().map(prefix).collect()
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
