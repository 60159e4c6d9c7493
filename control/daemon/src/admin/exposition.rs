//! Families of metrics, and their text: Prometheus' classic format (version 0.0.4) and OpenMetrics 1.0.

use hdrhistogram::Histogram;
use prometheus_client::{
    collector::Collector,
    encoding::{self, DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};
use ringdns_common::counters::Total;
use std::fmt::{self, Display};

/// Bounds of a histogram's buckets in microseconds: from a cache hit up to time-outs.
const BUCKETS_US: [u64; 18] = [
    5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000,
];
/// Ending of counters' names in both formats. The encoder adds it.
const TOTAL: &str = "_total";

/// Text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' own.
    Classic,
    /// OpenMetrics.
    OpenMetrics,
}

impl TextFormat {
    /// Returns the best format that an `Accept` header allows: OpenMetrics if it is named there.
    pub fn accepted(header: Option<&str>) -> Self {
        let accepted = header.unwrap_or_default().split(',').map(|kind| kind.split(';').next());
        match accepted
            .into_iter()
            .any(|kind| kind.is_some_and(|kind| kind.trim() == "application/openmetrics-text"))
        {
            true => TextFormat::OpenMetrics,
            false => TextFormat::Classic,
        }
    }

    /// Returns the content type.
    pub fn content_type(self) -> &'static str {
        match self {
            TextFormat::Classic => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Value of a sample.
#[derive(Clone, Debug)]
pub enum SampleValue {
    /// Whole number.
    Count(u64),
    /// Any other number.
    Real(f64),
    /// Values in buckets: bounds in seconds and the number of values in each.
    Buckets { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl From<u64> for SampleValue {
    fn from(value: u64) -> Self {
        SampleValue::Count(value)
    }
}

impl From<u32> for SampleValue {
    fn from(value: u32) -> Self {
        SampleValue::Count(value.into())
    }
}

impl From<usize> for SampleValue {
    fn from(value: usize) -> Self {
        SampleValue::Count(value as u64)
    }
}

impl From<bool> for SampleValue {
    fn from(value: bool) -> Self {
        SampleValue::Count(value.into())
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> Self {
        SampleValue::Real(value)
    }
}

impl From<&Histogram<u64>> for SampleValue {
    /// Takes a histogram of nanoseconds. A value within 1 % of a bucket's bound may be counted in the
    /// next bucket.
    fn from(nanos: &Histogram<u64>) -> Self {
        let (mut buckets, mut below) = (Vec::with_capacity(BUCKETS_US.len() + 1), 0);
        for bound in BUCKETS_US {
            let count = nanos.count_between(0, bound * 1_000);
            buckets.push((bound as f64 / 1e6, count - below));
            below = count;
        }
        buckets.push((f64::INFINITY, nanos.len() - below));
        SampleValue::Buckets { sum: nanos.mean() * nanos.len() as f64 / 1e9, count: nanos.len(), buckets }
    }
}

/// Labels of a sample, with their values.
type Labels = Vec<(&'static str, String)>;

/// Family of metrics: samples of one name.
#[derive(Debug)]
struct Family {
    name: String,
    kind: MetricType,
    help: String,
    samples: Vec<(Labels, SampleValue)>,
}

/// Families of metrics in their order.
#[derive(Debug, Default)]
pub struct Families(Vec<Family>);

impl Families {
    fn begin(&mut self, name: &str, kind: MetricType, help: &str) {
        let (name, help) = (name.to_owned(), help.to_owned());
        self.0.push(Family { name, kind, help, samples: Vec::new() });
    }

    /// Begins a family of counters, whose name ends with `_total`.
    pub fn counters(&mut self, name: &str, help: &str) {
        self.begin(name.strip_suffix(TOTAL).unwrap_or(name), MetricType::Counter, help);
    }

    /// Begins a family of gauges.
    pub fn gauges(&mut self, name: &str, help: &str) {
        self.begin(name, MetricType::Gauge, help);
    }

    /// Begins a family of histograms.
    pub fn histograms(&mut self, name: &str, help: &str) {
        self.begin(name, MetricType::Histogram, help);
    }

    /// Adds a sample to the current family.
    pub fn sample(&mut self, labels: &[(&'static str, &dyn Display)], value: impl Into<SampleValue>) {
        let labels = labels.iter().map(|(label, of)| (*label, of.to_string())).collect();
        if let Some(family) = self.0.last_mut() {
            family.samples.push((labels, value.into()));
        }
    }

    /// Adds a family of one gauge.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Into<SampleValue>) {
        self.gauges(name, help);
        self.sample(&[], value);
    }

    /// Adds a family of one counter.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Into<SampleValue>) {
        self.counters(name, help);
        self.sample(&[], value);
    }

    /// Adds a family for each of the counters.
    pub fn totals(&mut self, prefix: &str, totals: &[Total]) {
        for total in totals {
            self.counter(&format!("{prefix}_{}{TOTAL}", total.name), total.doc, total.value);
        }
    }

    /// Returns the text.
    pub fn text(self, format: TextFormat) -> String {
        let (mut text, mut registry) = (String::new(), Registry::default());
        registry.register_collector(Box::new(self));
        // Writing to a string cannot fail.
        let _ = match format {
            TextFormat::Classic => encoding::prometheus_text::encode(&mut text, &registry),
            TextFormat::OpenMetrics => encoding::text::encode(&mut text, &registry),
        };
        text
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, kind, help, samples } in &self.0 {
            let mut encoder = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in samples {
                let value = Value { kind: *kind, value };
                if labels.is_empty() {
                    value.write(&mut encoder)?;
                } else {
                    value.encode(encoder.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// Value of a sample of a family.
struct Value<'a> {
    kind: MetricType,
    value: &'a SampleValue,
}

impl Value<'_> {
    fn write(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let is_counter = matches!(self.kind, MetricType::Counter);
        match self.value {
            SampleValue::Count(count) if is_counter => {
                encoder.encode_counter::<NoLabelSet, _, f64>(count, None)
            }
            SampleValue::Real(real) if is_counter => encoder.encode_counter::<NoLabelSet, _, f64>(real, None),
            SampleValue::Count(count) => encoder.encode_gauge(count),
            SampleValue::Real(real) => encoder.encode_gauge(real),
            SampleValue::Buckets { sum, count, buckets } => {
                encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
        }
    }
}

impl EncodeMetric for Value<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.write(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

#[cfg(test)]
pub(super) mod parser {
    //! Parser of the format, as strict as Prometheus' own.

    /// Sample: name, labels with their values, value.
    pub(crate) type ParsedSample = (String, Vec<(String, String)>, f64);

    /// Parses a line with a sample. Labels are in the order of their names, and the bounds of buckets in
    /// one form.
    pub(crate) fn sorted_sample(line: &str) -> ParsedSample {
        let (name, mut labels, value) = sample(line).unwrap();
        for (_, bound) in labels.iter_mut().filter(|(label, _)| label == "le") {
            *bound = bound.parse::<f64>().unwrap().to_string();
        }
        labels.sort();
        (name, labels, value)
    }

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
            let mut families = Families::default();
            families.counters("a_total", "A.");
            families.sample(&[("one", &value), ("two", &"2")], 7u64);
            families.counter("b_total", "B.", 8u64);
            let text = families.text(TextFormat::Classic);
            let lines = text.strip_suffix('\n').unwrap().split('\n');
            let lines: Vec<_> = lines.filter(|line| !line.starts_with('#')).map(parser::sample).collect();
            let labels = vec![("one".to_owned(), value.to_owned()), ("two".to_owned(), "2".to_owned())];
            let expected = [Ok(("a_total".into(), labels, 7.0)), Ok(("b_total".into(), Vec::new(), 8.0))];
            assert_eq!(lines, expected, "{text}");
        }
        for wrong in ["a{b=\"\"c\"} 1", "a{b=\"\\x\"} 1", "a{b=\"c} 1", "a b 1", "a{b=\"c\"}1", "1a 1"] {
            assert!(parser::sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let families = || {
            let mut families = Families::default();
            families.counter("ringdns_things_total", "Things.", 3u64);
            families.gauge("ringdns_share", "Share.", 0.5);
            let mut nanos = Histogram::<u64>::new(3).unwrap();
            for value in [4_000, 1_500_000, 9_000_000_000] {
                nanos.record(value).unwrap();
            }
            families.histograms("ringdns_time_seconds", "Time.");
            families.sample(&[("outcome", &"hit")], &nanos);
            families
        };
        let (classic, open) =
            (families().text(TextFormat::Classic), families().text(TextFormat::OpenMetrics));
        let samples = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let mut samples: Vec<_> = lines.map(parser::sorted_sample).collect();
            samples.sort_by(|one, other| one.partial_cmp(other).unwrap());
            samples
        };
        assert_eq!(samples(&classic), samples(&open));
        assert!(
            classic.contains("# TYPE ringdns_things_total counter\nringdns_things_total 3\n"),
            "{classic}"
        );
        assert!(open.contains("# TYPE ringdns_things counter\nringdns_things_total 3\n"), "{open}");
        assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF"), "{open}");
        for line in [
            "ringdns_time_seconds_bucket{outcome=\"hit\",le=\"0.000005\"} 1",
            "ringdns_time_seconds_bucket{outcome=\"hit\",le=\"0.002\"} 2",
            "ringdns_time_seconds_bucket{outcome=\"hit\",le=\"5.0\"} 2",
            "ringdns_time_seconds_bucket{outcome=\"hit\",le=\"+Inf\"} 3",
            "ringdns_time_seconds_count{outcome=\"hit\"} 3",
        ] {
            assert!(samples(&classic).contains(&parser::sorted_sample(line)), "{line}: {classic}");
        }
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(TextFormat::accepted(Some(prometheus)), TextFormat::OpenMetrics);
        for header in [None, Some("*/*"), Some("text/plain"), Some("application/openmetrics"), Some("")] {
            assert_eq!(TextFormat::accepted(header), TextFormat::Classic, "{header:?}");
        }
    }
}
