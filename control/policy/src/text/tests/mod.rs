//! Each format as a table: a line and the rules that it makes.

mod detection;
mod formats;
mod properties;
mod streams;

use super::{Counts, Format, Reason, Report, SourceError, read};
use crate::rule::{Effect, Rule, RuleAnswer, Subject, Types};
use ringdns_common::names;

/// Reads a list into rules with their lines.
fn rules(format: Format, text: &[u8]) -> Result<(Report, Vec<(u32, Rule)>), SourceError> {
    let mut rules = Vec::new();
    let report = read(text, format, |line, rule| rules.push((line, rule)))?;
    Ok((report, rules))
}

/// Returns a rule in words: `block name`, `allow *.name`.
fn shown(rule: &Rule) -> String {
    let name = |wire: &[u8]| names::display(wire).trim_end_matches('.').to_owned();
    let effect = match &rule.effect {
        Effect::Block => "block".to_owned(),
        Effect::Allow => "allow".to_owned(),
        Effect::Answer(RuleAnswer::Address(ip)) => ip.to_string(),
        Effect::Answer(RuleAnswer::Alias(to)) => format!("alias:{}", name(to)),
        Effect::Answer(RuleAnswer::AliasBelow(to)) => format!("alias:*.{}", name(to)),
        Effect::Answer(answer) => format!("{answer:?}").to_lowercase(),
    };
    let subject = match &rule.subject {
        Subject::Exact(wire) => format!("={}", name(wire)),
        Subject::Suffix(wire) => format!("+{}", name(wire)),
        Subject::Below(wire) => format!("*{}", name(wire)),
        Subject::Regex(regex) => format!("/{regex}/"),
        Subject::Answer(prefix) => format!("answer {prefix}"),
        Subject::Client(prefix) => format!("client {prefix}"),
    };
    let mut text = format!("{effect} {subject}");
    if rule.important {
        text += " important";
    }
    match &rule.types {
        Types::All => {}
        Types::Only(types) => text += &format!(" only{types:?}"),
        Types::Except(types) => text += &format!(" not{types:?}"),
    }
    for except in &rule.except {
        text += &format!(" but +{}", name(except));
    }
    if let Some(clients) = &rule.clients {
        text += &format!(" for {clients}");
    }
    text
}

/// Reads one line and returns its rules, or the reason why it has none, or how it is counted.
fn line(format: Format, text: &str) -> String {
    // A line that makes a rule, so that the list as a whole is not refused.
    let last = match format {
        Format::Hosts => "0.0.0.0 end.example",
        Format::Dnsmasq => "local=/end.example/",
        Format::Unbound => "local-zone: \"end.example\" static",
        Format::Rpz => "end.example CNAME .",
        _ => "end.example",
    };
    let (report, mut rules) = rules(format, format!("{text}\n{last}\n").as_bytes()).expect(text);
    assert_eq!(shown(&rules.pop().expect("the last line").1).split('.').next_back(), Some("example"));
    let Counts { comments, directives, skipped, partial, .. } = report.counts;
    let mut words: Vec<String> = rules.iter().map(|(_, rule)| shown(rule)).collect();
    words.extend(skipped.keys().map(|reason| format!("{reason:?}")));
    for (count, word) in [(comments, "comment"), (directives, "directive"), (partial, "partial")] {
        words.extend((count > 0).then(|| word.to_owned()));
    }
    words.join(", ")
}

#[track_caller]
fn check(format: Format, table: &[(&str, &str)]) {
    let read = |(text, expected): &(&str, &str)| (text.to_string(), line(format, text), expected.to_string());
    let wrong: Vec<_> = table.iter().map(read).filter(|(_, found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "{format}: line, found, expected: {wrong:#?}");
}
