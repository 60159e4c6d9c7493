//! Place of a rule in the text of its list. Lists are kept without their text, so it is looked for
//! when somebody asks.

use crate::{
    clients::Client,
    list::{Found, Kind},
    names::last_labels,
    rule::{Rule, Subject},
    text::{self, Format},
};
use regex::Regex;
use std::io::BufRead;

/// Returns the number of the first line that makes the rule `found` for questions about `name`, in
/// wire format and lowercased. `None`: there is none, because the text has changed or cannot be
/// read.
pub fn line_of(
    source: impl BufRead,
    format: Format,
    name: &[u8],
    qtype: u16,
    found: &Found<'_>,
) -> Option<u32> {
    let mut line = None;
    text::read(source, format, |number, rule| {
        if line.is_none() && is(&rule, name, qtype, found) {
            line = Some(number);
        }
    })
    .ok()?;
    line
}

/// Whether a rule is the one that was found for questions about `name`.
pub fn is(rule: &Rule, name: &[u8], qtype: u16, found: &Found<'_>) -> bool {
    let kind = match &rule.subject {
        Subject::Exact(_) => Kind::Exact,
        Subject::Suffix(_) => Kind::Suffix,
        Subject::Below(_) => Kind::Below,
        Subject::Regex(_) => Kind::Regex,
        Subject::Answer(prefix) => Kind::Answer(*prefix),
        Subject::Client(prefix) => Kind::Client(*prefix),
    };
    if kind != found.kind || rule.effect != *found.effect || rule.important != found.important {
        return false;
    }
    if rule.clients.as_deref() != found.clients {
        return false;
    }
    let is_about = match (&rule.subject, found.labels) {
        (Subject::Exact(of) | Subject::Suffix(of) | Subject::Below(of), Some(labels)) => {
            last_labels(name, labels) == &**of
        }
        (Subject::Regex(pattern), _) => {
            let text = ringdns_common::names::display(name);
            let text = text.strip_suffix('.').unwrap_or(&text);
            Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        }
        // The kind says all.
        (Subject::Answer(_) | Subject::Client(_), _) => true,
        _ => false,
    };
    is_about && rule.applies(name, qtype, Client::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{list::ListBuilder, names::NameKey};
    use ringdns_common::names;

    #[test]
    fn each_rule_is_found_where_it_stands() {
        let text = "! A list\n||ads.example^\n@@||good.ads.example^\n|exact.example^\n/^x[0-9]+[.]/\n\
                    ||strong.example^$important\n||typed.example^$dnstype=AAAA\n\
                    ||tree.example^$denyallow=x.tree.example\n||tree.example^$denyallow=y.tree.example\n";
        let mut builder = ListBuilder::new(NameKey::new(&[7; 16]));
        text::read(text.as_bytes(), Format::Adblock, |line, rule| builder.push(line, rule)).unwrap();
        let list = builder.finish().0;
        for (name, qtype, line) in [
            ("ads.example", 1, 2),
            ("www.ads.example", 1, 2),
            ("www.good.ads.example", 1, 3),
            ("exact.example", 1, 4),
            ("x77.example", 1, 5),
            ("strong.example", 1, 6),
            ("typed.example", 28, 7),
            ("x.tree.example", 1, 9),
        ] {
            let name = names::name(name).unwrap();
            let found = list.find(&name, qtype).unwrap();
            assert_eq!(line_of(text.as_bytes(), Format::Adblock, &name, qtype, &found), Some(line));
            let changed = "! A list\n||other.example^\n";
            assert_eq!(line_of(changed.as_bytes(), Format::Adblock, &name, qtype, &found), None);
        }
    }
}
