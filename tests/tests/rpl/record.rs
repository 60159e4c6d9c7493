//! Parser of records in replay files: lines of a zone file with names written out, and optional TTL
//! and class.

use std::str::FromStr;

use bytes::Bytes;
use domain::base::iana::Class;
use domain::base::{Name as DomainName, rdata::ComposeRecordData};
use domain::zonefile::inplace::{Entry, Zonefile};
use ringdns_testkit::scenario::{Record, name_of};

/// TTL of records without one, in seconds.
const DEFAULT_TTL: u32 = 3600;

/// Names of algorithms and types that the library does not know.
const NAMES: [(&str, &str); 3] = [("DSA", "3"), ("RSASHA1", "5"), ("PX", "TYPE26")];

/// Number of words from the type to the signature of an RRSIG record, and of an SOA record from its
/// type on.
const SIGNATURE_AT: usize = 9;
const SOA_WORDS: usize = 8;

/// Parses a line. Names without a final dot are below `origin`.
pub fn record(line: &str, origin: &str) -> Result<Record, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{line:?} is no record: {error}");
    let mut file = Zonefile::new().allow_invalid();
    file.set_default_class(Class::IN);
    let origin = origin.trim_end_matches('.');
    file.set_origin(DomainName::<Bytes>::from_str(&format!("{origin}.")).map_err(|error| wrong(&error))?);
    let text = strict(line);
    file.extend_from_slice(format!("$TTL {DEFAULT_TTL}\n{text}\n").as_bytes());
    let entry = file.next_entry().map_err(|error| wrong(&error))?;
    let Some(Entry::Record(scanned)) = entry else { return Err(wrong(&"there is none in it")) };
    let mut data = Vec::new();
    scanned.data().compose_rdata(&mut data).map_err(|_| wrong(&"its data are beyond any message"))?;
    Ok(Record {
        owner: name_of(&scanned.owner().to_string())?,
        ttl: scanned.ttl().as_secs(),
        class: scanned.class().to_int(),
        rtype: scanned.rtype().to_int(),
        data,
    })
}

/// Rewrites a line for the library: Unbound accepts base64 without padding, and SOA records with
/// extra numbers.
fn strict(line: &str) -> String {
    let known = |word: &str| NAMES.iter().find(|known| known.0 == word).map(|known| known.1);
    let bare = line.split(';').next().unwrap_or_default().replace(['(', ')'], " ");
    let mut words: Vec<&str> = bare.split_whitespace().map(|word| known(word).unwrap_or(word)).collect();
    let at = |rtype: &str| words.iter().position(|word| *word == rtype);
    let (signature, soa) = (at("RRSIG"), at("SOA"));
    let concerned = words.iter().any(|word| matches!(*word, "DS" | "DNSKEY" | "TYPE26"));
    match (signature, soa) {
        (Some(at), _) if words.len() > at + SIGNATURE_AT => {
            let base64 = words.split_off(at + SIGNATURE_AT).concat();
            let padding = "=".repeat(base64.len().wrapping_neg() % 4);
            format!("{} {base64}{padding}", words.join(" "))
        }
        (None, Some(at)) => {
            words.truncate(at + SOA_WORDS);
            words.join(" ")
        }
        _ if concerned => words.join(" "),
        _ => line.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_line_may_be_left_out() {
        for (line, text) in [
            ("www.example.com. IN A 10.20.30.40", "www.example.com. 3600 IN A 10.20.30.40"),
            ("\twww.example.com. 5 IN  A\t10.20.30.40 ;{id = 1}", "www.example.com. 5 IN A 10.20.30.40"),
            ("www A 10.20.30.40", "www.example. 3600 IN A 10.20.30.40"),
            (". IN NS K.ROOT-SERVERS.NET.", ". 3600 IN NS K.ROOT-SERVERS.NET."),
            ("a. IN NSEC c. A MX RRSIG NSEC", "a. 3600 IN NSEC c. A MX RRSIG NSEC"),
            ("a. IN SOA b. c. 1 2 3 4 5 6 ; x", "a. 3600 IN SOA b. c. 1 2 3 4 5"),
            ("a. CH TYPE65280 \\# 2 0102", "a. 3600 CH TYPE65280 \\# 2 0102"),
        ] {
            assert_eq!(record(line, "example.").unwrap().to_string(), text);
        }
        let signature = record(
            "a. IN RRSIG NS 3 1 3600 20070926134150 20070829134150 2854 a. AAEC ( AwQ ) ;{id = 2854}",
            ".",
        );
        assert_eq!(
            signature.unwrap().to_string(),
            "a. 3600 IN RRSIG NS 3 1 3600 1190814110 1188394910 2854 a. 0001020304"
        );
        assert!(record("www.example.com. IN A 10.20.30", ".").is_err());
    }
}
