use super::*;
use proptest::prelude::*;
use std::io::BufReader;

/// Pieces of all formats, so that random lines come near to real ones.
const PIECES: [&str; 60] = [
    "ads",
    ".",
    "example",
    "*",
    "||",
    "|",
    "^",
    "@@",
    "$",
    ",",
    "important",
    "dnstype=",
    "denyallow=",
    "A",
    "AAAA",
    "dnsrewrite=",
    "NOERROR",
    ";",
    "NXDOMAIN",
    "client=",
    "/",
    "(",
    ")",
    "[0-9]",
    "\\",
    "\"",
    "'",
    "#",
    "##",
    "!",
    " ",
    "\t",
    "0.0.0.0",
    "127.0.0.1",
    "::",
    "192.0.2.1",
    "localhost",
    "address=/",
    "server=/",
    "local=/",
    "local-zone:",
    "local-data:",
    "redirect",
    "static",
    "always_null",
    "IN",
    "CNAME",
    "TXT",
    "SOA",
    "NS",
    "$ORIGIN",
    "$TTL",
    "@",
    "rpz-passthru.",
    "rpz-ip",
    "\n",
    "\r\n",
    "\u{fc}",
    "300",
    "=",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..120)
            .prop_map(|pieces| pieces.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..300),
        ("[ -~\n]{0,300}").prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_counted_and_every_rule_is_sound(text in text(), kind in 0..Format::ALL.len()) {
        let (format, _) = Format::ALL[kind];
        // An end that makes a rule in each format, so that most texts are read to their end.
        let (_, end) = (format, b"\nend.example CNAME .\n0.0.0.0 end.example\nend.example\naddress=/end.example/\nlocal-zone: end.example static\n");
        let text = [&text[..], end].concat();
        let Ok((report, found)) = rules(format, &text) else { return Ok(()) };
        let Counts { lines, blank, comments, directives, with_rules, rules: count, .. } = report.counts;
        prop_assert_eq!(lines, blank + comments + directives + with_rules + report.counts.skipped_lines());
        prop_assert_eq!(lines as usize, text.split_inclusive(|byte| *byte == b'\n').count());
        prop_assert_eq!(count as usize, found.len());
        for (line, rule) in &found {
            prop_assert!((1..=lines).contains(line));
            match &rule.subject {
                Subject::Exact(name) | Subject::Suffix(name) | Subject::Below(name) => {
                    prop_assert_eq!(names::name(&names::display(name)).unwrap(), name.to_vec());
                }
                Subject::Answer(_) | Subject::Client(_) => prop_assert_eq!(report.format, Format::Rpz),
                Subject::Regex(regex) => prop_assert!(regex_syntax::parse(regex).is_ok(), "{}", regex),
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_size_of_the_parts_that_a_list_comes_in_changes_nothing(text in text(), kind in 0..Format::ALL.len()) {
        let (format, _) = Format::ALL[kind];
        // More than the beginning that the format is found out from.
        let text = [format!("end.example\n#{}\n", "x".repeat(1000)).repeat(70).into_bytes(), text].concat();
        let whole = rules(format, &text).map_err(|error| error.to_string());
        for size in [1, 7, 4096] {
            let mut found = Vec::new();
            let reader = BufReader::with_capacity(size, &text[..]);
            let report = read(reader, format, |line, rule| found.push((line, rule)));
            let parts = report.map(|report| (report, found)).map_err(|error| error.to_string());
            prop_assert_eq!(&parts, &whole);
        }
    }
}
