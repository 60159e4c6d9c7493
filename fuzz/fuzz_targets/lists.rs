//! Arbitrary bytes as a list, in the format that the first byte chooses: it is refused in one line
//! with a remedy, or every line is counted once, every rule can be used, and the list is read alike
//! in parts of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::names;
use ringdns_policy::{
    list::ListBuilder,
    names::NameKey,
    rule::{Effect, Rule, RuleAnswer, Subject},
    text::{Format, LINE_MAX, Report, SourceError, detect, read},
};
use std::{
    io::{BufRead, BufReader},
    net::IpAddr,
};

fn rules(source: impl BufRead, format: Format) -> Result<(Report, Vec<(u32, Rule)>), SourceError> {
    let mut rules = Vec::new();
    let report = read(source, format, |line, rule| rules.push((line, rule)))?;
    Ok((report, rules))
}

/// Panics unless a name is lowercased and in wire format.
fn check_name(name: &[u8]) {
    let again = names::name(&names::display(name)).expect("it is a name");
    assert_eq!(again, name, "the name is read in two ways");
}

/// Panics unless a rule about a prefix is found for its first address, and by its length alone.
fn check_addresses(rule: &Rule, first: IpAddr, len: u8) {
    assert!(len > 0, "it is about all addresses");
    let mut builder = ListBuilder::new(NameKey::new(&[7; 16]));
    builder.push(1, rule.clone());
    let list = builder.finish().0;
    let rules = if list.clients().is_empty() { list.answers() } else { list.clients() };
    let found = rules.longest(first, len).expect("a rule is about its own prefix");
    assert_eq!((found.address(), found.len()), (first, len), "bits are set beyond the length");
    assert!(rules.longest(first, len - 1).is_none() && rules.len() == 1);
}

fn check_rule(rule: &Rule) {
    match &rule.subject {
        Subject::Exact(name) | Subject::Suffix(name) | Subject::Below(name) => check_name(name),
        Subject::Answer(prefix) | Subject::Client(prefix) => {
            check_addresses(rule, prefix.address(), prefix.len())
        }
        Subject::Regex(regex) => assert!((1..=LINE_MAX * 2).contains(&regex.len())),
    }
    if let Effect::Answer(RuleAnswer::Alias(name) | RuleAnswer::AliasBelow(name)) = &rule.effect {
        check_name(name);
    }
    rule.except.iter().for_each(|name| check_name(name));
}

fn check_report(text: &[u8], report: &Report, rules: &[(u32, Rule)]) {
    let counts = &report.counts;
    let sum = counts.blank + counts.comments + counts.directives + counts.with_rules + counts.skipped_lines();
    assert_eq!(counts.lines, sum, "a line is counted twice or not at all");
    assert_eq!(counts.lines as usize, text.split_inclusive(|byte| *byte == b'\n').count());
    assert_eq!(counts.rules as usize, rules.len());
    assert!(counts.partial <= counts.with_rules && !rules.is_empty());
    assert!(rules.iter().all(|(line, _)| (1..=counts.lines).contains(line)));
    for problem in &report.problems {
        let shown = problem.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!((1..=counts.lines).contains(&problem.line));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = data.split_first() else { return };
    let (format, _) = Format::ALL[usize::from(*first) % Format::ALL.len()];
    let whole = rules(text, format);
    match &whole {
        Ok((report, rules)) => {
            let bom = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            check_report(bom, report, rules);
            rules.iter().for_each(|(_, rule)| check_rule(rule));
            if format == Format::Auto {
                assert_eq!(detect(bom).expect("it was recognised"), report.format);
            }
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.contains(char::is_control) && shown.contains(". "), "{shown:?}");
        }
    }
    let parts = rules(BufReader::with_capacity(7, text), format);
    let [whole, parts] = [whole, parts].map(|read| read.map_err(|error| error.to_string()));
    assert_eq!(whole, parts, "parts are read otherwise");
});
