//! Prometheus' text format, version 0.0.4.

use hdrhistogram::Histogram;
use ringdns_common::counters::Total;
use std::fmt::{self, Display, Write};

/// Bounds of a histogram's buckets in milliseconds: from a server on the same network up to
/// time-outs.
const BUCKETS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/// Text under construction. Writing to a string cannot fail, so results are ignored.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Returns the text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// Begins a family of metrics.
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample to the current family.
    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let _ = write!(self.0, "{name}");
        for (at, (label, of)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if at == 0 { '{' } else { ',' });
            let _ = write!(LabelValue(&mut self.0), "{of}");
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Adds a histogram of nanoseconds, in buckets of seconds. A value within 1 % of a bucket's
    /// bound may be counted in the next bucket.
    pub(super) fn histogram(&mut self, name: &str, upstream: &str, nanos: &Histogram<u64>) {
        let bucket = format!("{name}_bucket");
        for millis in BUCKETS {
            let (le, count) = (millis as f64 / 1e3, nanos.count_between(0, millis * 1_000_000));
            self.line(&bucket, &[("upstream", &upstream), ("le", &le)], count);
        }
        self.line(&bucket, &[("upstream", &upstream), ("le", &"+Inf")], nanos.len());
        let sum = nanos.mean() * nanos.len() as f64 / 1e9;
        self.line(&format!("{name}_sum"), &[("upstream", &upstream)], sum);
        self.line(&format!("{name}_count"), &[("upstream", &upstream)], nanos.len());
    }

    /// Adds a family of one gauge.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    /// Adds a family for each of the counters.
    pub(super) fn totals(&mut self, prefix: &str, totals: &[Total]) {
        for total in totals {
            let name = format!("{prefix}_{}_total", total.name);
            self.head(&name, "counter", total.doc);
            self.line(&name, &[], total.value);
        }
    }
}

/// Writer of a label's value: the format escapes backslash, quotation mark and line feed, and no
/// other character.
struct LabelValue<'a>(&'a mut String);

impl Write for LabelValue<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '\\' | '"' => self.0.extend(['\\', letter]),
                '\n' => self.0.push_str("\\n"),
                _ => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod parser {
    //! Parser of the format, as strict as Prometheus' own.

    /// Sample: name, labels with their values, value.
    pub(crate) type ParsedSample = (String, Vec<(String, String)>, f64);

    /// Parses a line with a sample.
    pub(crate) fn sample(line: &str) -> Result<ParsedSample, String> {
        let end = line.find(['{', ' ']).ok_or("no value")?;
        let (name, mut rest) = line.split_at(end);
        is_name(name).then_some(()).ok_or_else(|| format!("{name:?} is no name"))?;
        let mut labels = Vec::new();
        if let Some(more) = rest.strip_prefix('{') {
            rest = more;
            while !rest.starts_with('}') {
                let (label, quoted) = rest.split_once("=\"").ok_or("a label has no value")?;
                is_name(label).then_some(()).ok_or_else(|| format!("{label:?} is no label"))?;
                let (value, after) = value(quoted)?;
                labels.push((label.to_owned(), value));
                rest = after.strip_prefix(',').unwrap_or(after);
                if rest == after && !after.starts_with('}') {
                    return Err(format!("neither , nor }} before {after:?}"));
                }
            }
            rest = &rest[1..];
        }
        let number = rest.strip_prefix(' ').ok_or("no blank before the value")?;
        let number = number.parse().map_err(|_| format!("{number:?} is no number"))?;
        Ok((name.to_owned(), labels, number))
    }

    /// Parses a label's value up to its closing quotation mark.
    fn value(quoted: &str) -> Result<(String, &str), String> {
        let (mut value, mut letters) = (String::new(), quoted.chars());
        loop {
            match letters.next().ok_or("a value has no end")? {
                '"' => return Ok((value, letters.as_str())),
                '\n' => return Err("a line ends within a value".into()),
                '\\' => value.push(match letters.next() {
                    Some('n') => '\n',
                    Some(letter @ ('\\' | '"')) => letter,
                    other => return Err(format!("{other:?} is escaped")),
                }),
                letter => value.push(letter),
            }
        }
    }

    fn is_name(text: &str) -> bool {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !text.is_empty() && text.bytes().all(is_letter) && !text.as_bytes()[0].is_ascii_digit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_is_read_again() {
        for value in [
            "plain",
            "",
            "\"",
            "\\",
            "\n",
            "\\n",
            "\\\"",
            "a\"} 1\nringdns_uptime_seconds 5",
            "https://a/\"{x}\\",
            "\u{1b}[31m",
            "\r\t\0",
            "\u{fc},=\u{202e}",
        ] {
            let mut text = Text::default();
            text.line("a_total", &[("one", &value), ("two", &"2")], 7);
            text.line("b_total", &[], 8);
            let text = text.finish();
            let lines: Vec<_> = text.strip_suffix('\n').unwrap().split('\n').map(parser::sample).collect();
            let labels = vec![("one".to_owned(), value.to_owned()), ("two".to_owned(), "2".to_owned())];
            let expected = [Ok(("a_total".into(), labels, 7.0)), Ok(("b_total".into(), Vec::new(), 8.0))];
            assert_eq!(lines, expected, "{text}");
        }
        for wrong in ["a{b=\"\"c\"} 1", "a{b=\"\\x\"} 1", "a{b=\"c} 1", "a b 1", "a{b=\"c\"}1", "1a 1"] {
            assert!(parser::sample(wrong).is_err(), "{wrong}");
        }
    }
}
