//! Zone files (RFC 1035 section 5).

use super::{
    LocalRecord,
    error::DataError,
    rdata,
    words::{self, Word},
};
use ringdns_common::names;
use ringdns_dataplane::dns::{is_within, rtype};

/// TTL in seconds of records in a file that says none.
const TTL: u32 = 3_600;
/// Most problems of a file that are reported.
const PROBLEMS_MAX: usize = 20;

/// Types that make sense with signatures only, which local answers do not have (IANA).
const SIGNED: [u16; 8] = [rtype::DS, rtype::RRSIG, rtype::NSEC, 48, rtype::NSEC3, NSEC3PARAM, CDS, CDNSKEY];
const NSEC3PARAM: u16 = 51;
const CDS: u16 = 59;
const CDNSKEY: u16 = 60;

/// Line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: u32,
    /// Reason.
    pub error: DataError,
}

/// Returns the records of a zone file, each with its line, or the first problems. `apex` is the name
/// of the zone in wire format.
pub fn read(text: &str, apex: &[u8]) -> Result<Vec<(u32, LocalRecord)>, Vec<LineError>> {
    let mut reader = Reader {
        apex,
        origin: names::display(apex),
        owner: None,
        ttl: None,
        last_ttl: TTL,
        records: Vec::new(),
    };
    let mut problems = Vec::new();
    let (mut words, mut depth, mut first) = (Vec::new(), 0, (1, false));
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        if depth == 0 {
            words.clear();
            first = (number, line.starts_with([' ', '\t']));
        }
        let entry = match words::split(line, &mut words, &mut depth) {
            Ok(()) if depth > 0 => continue,
            Ok(()) => reader.entry(first.0, first.1, &words),
            Err(error) => {
                depth = 0;
                Err(error)
            }
        };
        problems.extend(entry.err().map(|error| LineError { line: first.0, error }));
        if problems.len() >= PROBLEMS_MAX {
            return Err(problems);
        }
    }
    if depth > 0 {
        problems.push(LineError { line: first.0, error: DataError::Parenthesis });
    }
    let has_soa = reader.records.iter().any(|(_, record)| record.rtype == rtype::SOA);
    if !has_soa && problems.is_empty() {
        problems.push(LineError { line: 1, error: DataError::NoSoa(names::display(apex)) });
    }
    if problems.is_empty() { Ok(reader.records) } else { Err(problems) }
}

struct Reader<'a> {
    apex: &'a [u8],
    /// Name that relative names are relative to, as text.
    origin: String,
    owner: Option<Box<[u8]>>,
    /// TTL of `$TTL`.
    ttl: Option<u32>,
    /// Last TTL of a record.
    last_ttl: u32,
    records: Vec<(u32, LocalRecord)>,
}

impl Reader<'_> {
    /// Reads a record or a control entry.
    fn entry(&mut self, line: u32, is_indented: bool, words: &[Word]) -> Result<(), DataError> {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        if first.text.starts_with('$') && !first.quoted && !is_indented {
            return self.directive(&first.text, rest);
        }
        let mut rest = words;
        if !is_indented {
            rest = words.get(1..).unwrap_or_default();
            // Records without an owner that follow a wrong one are not those of the name before.
            self.owner = None;
            self.owner = Some(rdata::name(&first.text, Some(&self.origin))?.into());
        }
        let owner = self.owner.clone().ok_or(DataError::Missing("the name of the record"))?;
        let mut ttl = None;
        let (rtype, data) = loop {
            let (word, after) = rest.split_first().ok_or(DataError::Missing("a type"))?;
            rest = after;
            let digits = word.text.starts_with(|c: char| c.is_ascii_digit());
            match word.text.to_ascii_uppercase().as_str() {
                "IN" => {}
                "CH" | "HS" | "CS" => return Err(rdata::expected("the class IN", word)),
                _ if digits => {
                    ttl = Some(rdata::ttl(&word.text).ok_or_else(|| rdata::expected("a TTL", word))?);
                }
                kind => break (names::record_type(kind)?, after),
            }
        };
        self.last_ttl = ttl.or(self.ttl).unwrap_or(self.last_ttl);
        self.check(&owner, rtype)?;
        let data = rdata::parse(rtype, data, Some(&self.origin))?.into();
        let record = LocalRecord { owner, rtype, ttl: self.last_ttl, data, is_canonical: true };
        self.records.push((line, record));
        Ok(())
    }

    fn check(&self, owner: &[u8], rtype: u16) -> Result<(), DataError> {
        if !is_within(owner, self.apex) || rtype == rtype::SOA && owner != self.apex {
            return Err(DataError::OutOfZone(names::display(owner), names::display(self.apex)));
        }
        let reason = match rtype {
            rtype::DNAME => "write a CNAME record for each name, or a wildcard",
            _ if SIGNED.contains(&rtype) => "local answers are not signed; remove the record",
            _ => return Ok(()),
        };
        Err(DataError::Refused(names::type_name(rtype), reason))
    }

    fn directive(&mut self, word: &str, rest: &[Word]) -> Result<(), DataError> {
        let refused = |reason| Err(DataError::Directive(word.to_ascii_uppercase(), reason));
        let value = |what| rest.first().ok_or(DataError::Missing(what));
        match word.to_ascii_uppercase().as_str() {
            "$ORIGIN" => {
                let name = rdata::name(&value("a domain name")?.text, Some(&self.origin))?;
                self.origin = names::display(&name);
            }
            "$TTL" => {
                let ttl = value("a TTL")?;
                self.ttl = Some(rdata::ttl(&ttl.text).ok_or_else(|| rdata::expected("a TTL", ttl))?);
            }
            "$INCLUDE" => {
                return refused("a zone is one file, so that a reload sees each change. Insert the records");
            }
            "$GENERATE" => return refused("write the records out"),
            _ => return refused("the control entries are $ORIGIN and $TTL"),
        }
        rest.get(1).map_or(Ok(()), |extra| Err(DataError::Extra(extra.text.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "$TTL 1h\n@ IN SOA ns admin 1 3600 600 1w 300\n";

    fn zone(text: &str) -> Result<Vec<(u32, LocalRecord)>, Vec<String>> {
        let apex = names::name("corp.example").unwrap();
        read(text, &apex).map_err(|problems| {
            problems.iter().map(|LineError { line, error }| format!("{line}: {error}")).collect()
        })
    }

    /// Returns line, owner, type and TTL of each record.
    fn read_as(text: &str) -> Vec<(u32, String, u16, u32)> {
        let all = zone(text).unwrap();
        all.into_iter().map(|(line, r)| (line, names::display(&r.owner), r.rtype, r.ttl)).collect()
    }

    #[test]
    fn records_are_read_as_zone_files_write_them() {
        let text = "\u{feff}; A zone\n$TTL 1h\n\
            @ IN SOA ns.corp.example. admin ( 1 ; serial\n  3600 600 1w 300 )\n\
            \tNS ns\n\
            ns 60 IN A 192.0.2.1\n\
            \tIN 30 AAAA 2001:db8::1 ; both\n\
            $ORIGIN lab\n\
            www CNAME @\n\
            *.x TXT \"a ; b\"\n\
            out.corp.example. TYPE65280 \\# 1 ff\n";
        let at = |line, name: &str, rtype, ttl| (line, format!("{name}corp.example."), rtype, ttl);
        assert_eq!(
            read_as(text),
            [
                at(3, "", 6, 3600),
                at(5, "", 2, 3600),
                at(6, "ns.", 1, 60),
                at(7, "ns.", 28, 30),
                at(9, "www.lab.", 5, 3600),
                at(10, "*.x.lab.", 16, 3600),
                at(11, "out.", 65280, 3600),
            ]
        );
        let all = zone(text).unwrap();
        assert_eq!(*all[4].1.data, names::name("lab.corp.example").unwrap());
        assert_eq!(&all[0].1.data[all[0].1.data.len() - 8..], [0, 9, 58, 128, 0, 0, 1, 44]);
    }

    #[test]
    fn without_a_ttl_the_last_one_holds() {
        let text = "@ 77 SOA ns admin 1 2 3 4 5\na A 192.0.2.1\n";
        assert_eq!(read_as(text).iter().map(|(.., ttl)| *ttl).collect::<Vec<_>>(), [77, 77]);
    }

    #[test]
    fn wrong_lines_are_told_with_number_and_reason() {
        for (text, line, part) in [
            ("a A 192.0.2\n", 3, "an IPv4 address"),
            ("a A\n", 3, "found the end of the line"),
            ("a\n", 3, "expected a type"),
            ("a FOO 1\n", 3, "\"FOO\" is no record type"),
            ("a CH A 192.0.2.1\n", 3, "the class IN"),
            ("a 1x A 192.0.2.1\n", 3, "a TTL"),
            ("a A (\n192.0.2.1\n", 3, "parenthesis"),
            ("a A 192.0.2.1 )\n", 3, "parenthesis"),
            ("a TXT \"x\n", 3, "quotation mark"),
            ("www.other.example. A 192.0.2.1\n", 3, "is not in the zone corp.example."),
            ("sub SOA ns admin 1 2 3 4 5\n", 3, "is not in the zone"),
            ("$INCLUDE /etc/passwd\n", 3, "$INCLUDE is not supported"),
            ("$generate 1-9 h$ A 192.0.2.$\n", 3, "$GENERATE is not supported"),
            ("$FOO 1\n", 3, "the control entries are"),
            ("$TTL\n", 3, "a TTL"),
            ("a DNAME b\n", 3, "DNAME are not supported"),
            ("a RRSIG A 8 2 60 1 1 1 b c\n", 3, "not signed"),
        ] {
            let problems = zone(&format!("{HEAD}{text}")).unwrap_err();
            let [problem] = &problems[..] else { panic!("{text} {problems:?}") };
            assert!(problem.starts_with(&format!("{line}: ")) && problem.contains(part), "{text} {problem}");
        }
        assert!(zone(" A 192.0.2.1\n").unwrap_err()[0].contains("the name of the record"));
        assert!(zone("a A 192.0.2.1\n").unwrap_err()[0].contains("no SOA record"));
        // All are told, up to a bound, and none follows from another.
        let many = format!("{HEAD}{}", "a..b A 192.0.2.1\n  A 192.0.2.1\n".repeat(50));
        assert_eq!(zone(&many).unwrap_err().len(), PROBLEMS_MAX);
    }
}
