//! Trust anchors in files: DS and DNSKEY records as in a zone file (RFC 1035 section 5.1).

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE, HEXUPPER};
use ringdns_common::names;
use ringdns_dnssec::{Anchors, Name, TrustAnchor, Unusable, rdata::rtype};
use std::path::Path;

/// DS records of the root's keys of 2017 and 2024 (https://data.iana.org/root-anchors/).
const ROOT: &str = "
    . DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
    . DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// Returns the trust anchors: those in a file, or else those of the public DNS root.
pub fn trust_anchors(file: Option<&Path>) -> Result<Anchors, String> {
    let Some(path) = file else { return parse(ROOT) };
    let failed = |error: String| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

fn parse(text: &str) -> Result<Anchors, String> {
    let mut anchors = Anchors::default();
    for words in records(text)? {
        let shown = || words.join(" ");
        let parsed = record(&words);
        match parsed.map(|(zone, anchor)| anchor.map(|anchor| anchors.add(&zone, anchor))) {
            Some(Ok(())) => {}
            // Programs that manage anchors keep retired ones beside the others.
            Some(Err(Unusable::Unsupported | Unusable::NotForZones)) => {
                tracing::warn!(
                    "trust anchor ignored: its algorithm or its flags cannot be used: {}",
                    shown()
                );
            }
            Some(Err(Unusable::Malformed)) | None => {
                return Err(format!("{:?} is no DS or DNSKEY record", shown()));
            }
        }
    }
    if anchors.is_empty() {
        return Err("there is no DS or DNSKEY record in it that can be used".to_owned());
    }
    Ok(anchors)
}

/// Parses a record. Returns `None` if it is malformed.
pub fn record<T: AsRef<str>>(words: &[T]) -> Option<(Name, Result<TrustAnchor, Unusable>)> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let (owner, rest) = words.split_first()?;
    let zone = Name::from_wire(&names::name(owner).ok()?)?;
    // TTL and class may stand in either order, or be left out.
    let is_detail = |word: &&&str| word.eq_ignore_ascii_case("IN") || word.parse::<u32>().is_ok();
    let details = rest.iter().take_while(is_detail).count();
    let (rtype, data) = rest.get(details..)?.split_first()?;
    let (numbers, data) = data.split_at_checked(3)?;
    let (first, tail) = numbers.split_first()?;
    let first: u16 = first.parse().ok()?;
    let mut rdata = first.to_be_bytes().to_vec();
    for number in tail {
        rdata.push(number.parse().ok()?);
    }
    let data = data.concat();
    let rtype = if rtype.eq_ignore_ascii_case("DS") {
        rdata.extend(HEXLOWER_PERMISSIVE.decode(data.as_bytes()).ok()?);
        rtype::DS
    } else if rtype.eq_ignore_ascii_case("DNSKEY") {
        rdata.extend(BASE64.decode(data.as_bytes()).ok()?);
        rtype::DNSKEY
    } else {
        return None;
    };
    let anchor = match TrustAnchor::parse(rtype, &rdata) {
        Err(Unusable::Malformed) => return None,
        anchor => anchor,
    };
    Some((zone, anchor))
}

/// Returns a record's type and data in the form that [`record`] parses.
pub fn display(anchor: &TrustAnchor) -> String {
    let rdata = anchor.rdata();
    let (numbers, data) = rdata.split_at(4);
    let first = u16::from_be_bytes([numbers[0], numbers[1]]);
    let (rtype, data) = match anchor {
        TrustAnchor::Ds(_) => ("DS", HEXUPPER.encode(data)),
        TrustAnchor::Key(_) => ("DNSKEY", BASE64.encode(data)),
    };
    format!("{rtype} {first} {} {} {data}", numbers[2], numbers[3])
}

/// Splits text into the words of each record. Parentheses continue a record on the next line;
/// comments end with their line.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut records, mut record, mut is_open) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        let code = line.split_once(';').map_or(line, |(code, _)| code);
        let code = code.replace('(', " ( ").replace(')', " ) ");
        for word in code.split_whitespace() {
            match word {
                "(" => is_open = true,
                ")" => is_open = false,
                word => record.push(word.to_owned()),
            }
        }
        if !is_open && !record.is_empty() {
            records.push(std::mem::take(&mut record));
        }
    }
    if is_open { Err("a parenthesis is not closed".to_owned()) } else { Ok(records) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "257 3 13 tOTyp1YGOXJ/+S7YHrbvFu7kjNFc4jRgulAtJzzef+NzxEOINuM8Jzd2uZFMXAsG2C5iRnNMPF2vkV5W4WI0ZA==";

    fn labels(text: &str, name: &str) -> Result<Option<usize>, String> {
        let name = Name::from_wire(&names::name(name).unwrap()).unwrap();
        parse(text).map(|anchors| anchors.labels_above(&name))
    }

    #[test]
    fn anchors_are_of_any_zone() {
        let ds = "Corp.Example 3600 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D084 58E880409BBC683457104237C7F8EC8D";
        let files = [
            (format!(". DNSKEY {KEY}"), Some(0)),
            (format!("; of ours\n{ds} ;;state=2 [  VALID  ]\n"), Some(2)),
            (format!(". IN 172800 DNSKEY (\n {} ; a part\n )\n{ds}", KEY.replace("ulAt", "ulAt\n")), Some(2)),
            (format!("test. dnskey {KEY}"), None),
        ];
        for (text, expected) in files {
            assert_eq!(labels(&text, "www.corp.example"), Ok(expected), "{text}");
        }
        assert_eq!(labels(ROOT, "example"), Ok(Some(0)));
    }

    #[test]
    fn what_is_none_is_told() {
        let revoked = KEY.replace("257", "385");
        for (text, said) in [
            ("", "no DS or DNSKEY record"),
            ("junk", "\"junk\" is no"),
            (". A 192.0.2.1", "is no DS"),
            (". DS 1 8 2 xyz", "is no DS"),
            (". DS 1 8 (", "not closed"),
            (". DS 1 200 2 ab", "that can be used"),
            (&format!(". DNSKEY {revoked}"), "that can be used"),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(said)), "{text}");
        }
        // An anchor that cannot be used does not affect the others.
        assert!(parse(&format!(". DNSKEY {revoked}\n. DNSKEY {KEY}")).is_ok());
    }
}
