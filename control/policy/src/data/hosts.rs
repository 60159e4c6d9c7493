//! Hosts files: an address and its names in each line.

use super::{LocalRecord, error::DataError, zone::LineError};
use ringdns_common::names;
use std::net::IpAddr;

/// Most problems of a file that are reported.
const PROBLEMS_MAX: usize = 20;

/// Returns the records of a hosts file, each with its line, or the first problems. The first name of
/// a line is the one that the address belongs to. Lines with an address that is valid on one
/// interface only (`fe80::1%eth0`) are skipped: a record cannot say that.
pub fn read(text: &str, ttl: u32) -> Result<Vec<(u32, LocalRecord)>, Vec<LineError>> {
    let (mut records, mut problems) = (Vec::new(), Vec::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        if let Err(error) = read_line(line, ttl, |record| records.push((number, record))) {
            problems.push(LineError { line: number, error });
        }
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
    }
    if problems.is_empty() { Ok(records) } else { Err(problems) }
}

fn read_line(line: &str, ttl: u32, mut push: impl FnMut(LocalRecord)) -> Result<(), DataError> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let Some(first) = words.next() else { return Ok(()) };
    if first.contains('%') {
        return Ok(());
    }
    let wrong = |expected, found: &str| DataError::Expected { expected, found: found.to_owned() };
    let address: IpAddr = first.parse().map_err(|_| wrong("an address", first))?;
    let mut is_canonical = true;
    for word in words {
        if word.contains('*') {
            return Err(wrong("a host name", word));
        }
        push(LocalRecord::address(names::name(word)?.into(), ttl, address, is_canonical));
        is_canonical = false;
    }
    if is_canonical { Err(DataError::Missing("a host name")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_all_their_names() {
        let text = "\u{feff}# Hosts\r\n127.0.0.1 localhost\n\n192.0.2.1\tNas.example nas # here\r\n\
                    fe80::1%eth0 router\n2001:db8::1 nas.example\n";
        let all = read(text, 60).unwrap();
        let seen: Vec<_> =
            all.iter().map(|(line, r)| (*line, names::display(&r.owner), r.rtype, r.is_canonical)).collect();
        let of = |line, name: &str, rtype, canonical| (line, name.to_owned(), rtype, canonical);
        assert_eq!(
            seen,
            [
                of(2, "localhost.", 1, true),
                of(4, "nas.example.", 1, true),
                of(4, "nas.", 1, false),
                of(6, "nas.example.", 28, true),
            ]
        );
    }

    #[test]
    fn wrong_lines_are_told_with_number_and_reason() {
        let text = "192.0.2.1 a\n192.0.2.256 b\n192.0.2.1\n192.0.2.1 a..b\n192.0.2.1 *.a\n";
        let problems = read(text, 60).unwrap_err();
        let parts =
            [(2, "an address"), (3, "a host name, found the end"), (4, "no domain name"), (5, "\"*.a\"")];
        assert_eq!(problems.len(), parts.len());
        for (LineError { line, error }, (expected, part)) in problems.iter().zip(parts) {
            assert!(*line == expected && error.to_string().contains(part), "{line}: {error}");
        }
    }
}
