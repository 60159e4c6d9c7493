//! Histogram logs: HdrHistogram's interval logs, version 2, compressed.

use anyhow::{Context, anyhow};
use data_encoding::BASE64;
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer, V2DeflateSerializer,
        interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag},
    },
};
use std::{
    collections::BTreeMap,
    io::{self, Cursor, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Histograms of nanoseconds by tag.
pub type Tagged = BTreeMap<String, Histogram<u64>>;

/// Sum of the intervals of one or more logs.
#[derive(Debug, Default)]
pub struct Summed {
    /// Histograms by tag.
    pub histograms: Tagged,
    /// Start of the first interval and end of the last one, since the Unix epoch; `None`: there are none.
    pub span: Option<[Duration; 2]>,
}

impl Summed {
    /// Reads a log.
    pub fn read(log: &[u8]) -> anyhow::Result<Self> {
        let mut summed = Summed::default();
        summed.add(log)?;
        Ok(summed)
    }

    /// Adds the intervals of a log.
    pub fn add(&mut self, log: &[u8]) -> anyhow::Result<()> {
        let (mut start, mut base) = (Duration::ZERO, None);
        for entry in IntervalLogIterator::new(log) {
            match entry.map_err(|error| anyhow!("it is no histogram log: {error:?}"))? {
                LogEntry::StartTime(time) => start = time,
                LogEntry::BaseTime(time) => base = Some(time),
                LogEntry::Interval(interval) => {
                    let tag = interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
                    let bytes = BASE64.decode(interval.encoded_histogram().as_bytes())?;
                    let histogram = Deserializer::new().deserialize(&mut Cursor::new(bytes));
                    let histogram = histogram.map_err(|error| anyhow!("histogram {tag:?}: {error:?}"))?;
                    self.add_one(tag, histogram)?;
                    // Without a base, times are since the start, or since the epoch if they are that large.
                    let at = interval.start_timestamp();
                    let is_epoch = base.is_none() && at >= start;
                    let from = if is_epoch { at } else { base.unwrap_or(start).saturating_add(at) };
                    self.widen([from, from.saturating_add(interval.duration())]);
                }
            }
        }
        Ok(())
    }

    fn add_one(&mut self, tag: String, histogram: Histogram<u64>) -> anyhow::Result<()> {
        let Some(sum) = self.histograms.get_mut(&tag) else {
            self.histograms.insert(tag, histogram);
            return Ok(());
        };
        // The sum has the bounds of the first one, which may be smaller.
        sum.auto(true);
        sum.add(&histogram).with_context(|| format!("histogram {tag:?} cannot be added to those before it"))
    }

    fn widen(&mut self, [from, to]: [Duration; 2]) {
        let [first, last] = self.span.unwrap_or([from, to]);
        self.span = Some([first.min(from), last.max(to)]);
    }

    /// Writes the sums as a log with one interval.
    pub fn write(&self, mut out: impl Write) -> anyhow::Result<()> {
        let [from, to] = self.span.unwrap_or_default();
        let mut log = LogWriter::begin(from);
        log.add(&self.histograms, [Duration::ZERO, to.saturating_sub(from)], &mut out)
    }
}

/// Writer of a log, interval by interval.
pub struct LogWriter {
    start: SystemTime,
    serializer: V2DeflateSerializer,
    has_head: bool,
}

impl LogWriter {
    /// Begins a log whose times count from `start`, a Unix time.
    pub fn begin(start: Duration) -> Self {
        let start = UNIX_EPOCH.checked_add(start).unwrap_or(UNIX_EPOCH);
        LogWriter { start, serializer: V2DeflateSerializer::new(), has_head: false }
    }

    /// Writes the histograms of an interval: its start and its length, from the start of the log on.
    pub fn add(
        &mut self,
        histograms: &Tagged,
        [from, length]: [Duration; 2],
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let mut builder = IntervalLogWriterBuilder::new();
        if !std::mem::replace(&mut self.has_head, true) {
            builder.add_comment("ringdns service times in nanoseconds");
            builder.with_start_time(self.start).with_base_time(self.start);
        }
        let mut writer = builder.begin_log_with(out, &mut self.serializer)?;
        for (tag, histogram) in histograms {
            let written = writer.write_histogram(histogram, from, length, Tag::new(tag));
            written.map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        Ok(())
    }
}

/// Returns the histograms of what was recorded since an earlier time. After a restart, that is all.
pub fn since(before: &Tagged, now: &Tagged) -> Tagged {
    let recent = |(tag, now): (&String, &Histogram<u64>)| {
        let mut recent = now.clone();
        let is_recent = before.get(tag).is_some_and(|before| recent.subtract(before).is_ok());
        (tag.clone(), if is_recent { recent } else { now.clone() })
    };
    now.iter().map(recent).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns a log of one interval, with these values for a tag.
    pub fn log(tag: &str, start: u64, values: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut histogram = Histogram::new(3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        let histograms = Tagged::from([(tag.to_owned(), histogram)]);
        let span = Some([Duration::from_secs(start), Duration::from_secs(start + 10)]);
        let mut bytes = Vec::new();
        Summed { histograms, span }.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn logs_of_several_appliances_add_up() {
        let mut summed = Summed::read(&log("hit", 1000, 1..=100)).unwrap();
        // The other has far larger values.
        summed.add(&log("hit", 2000, [50_000_000_000])).unwrap();
        summed.add(&log("miss", 500, [7])).unwrap();
        assert_eq!(summed.span, Some([Duration::from_secs(500), Duration::from_secs(2010)]));
        let hits = &summed.histograms["hit"];
        assert_eq!((hits.len(), hits.value_at_quantile(0.5)), (101, 51));
        assert!(hits.max() >= 50_000_000_000, "{}", hits.max());
        let mut bytes = Vec::new();
        summed.write(&mut bytes).unwrap();
        let again = Summed::read(&bytes).unwrap();
        assert_eq!((again.histograms, again.span), (summed.histograms, summed.span));
    }

    #[test]
    fn intervals_of_a_log_add_up_to_the_whole() {
        let whole =
            |values: std::ops::RangeInclusive<u64>| Summed::read(&log("hit", 0, values)).unwrap().histograms;
        let (mut bytes, mut writer) = (Vec::new(), LogWriter::begin(Duration::from_secs(90)));
        let (mut before, ten) = (Tagged::new(), Duration::from_secs(10));
        for nth in 1..=3 {
            let now = whole(1..=nth * 100);
            writer.add(&since(&before, &now), [ten * (nth as u32 - 1), ten], &mut bytes).unwrap();
            before = now;
        }
        assert_eq!(String::from_utf8_lossy(&bytes).matches("#[StartTime").count(), 1);
        let summed = Summed::read(&bytes).unwrap();
        assert_eq!(summed.histograms, whole(1..=300));
        assert_eq!(summed.span, Some([Duration::from_secs(90), Duration::from_secs(120)]));
        // A process that began anew has lower counts.
        assert_eq!(since(&before, &whole(1..=5)), whole(1..=5));
    }

    #[test]
    fn arbitrary_text_is_refused() {
        for text in ["hello", "0,1,2,AAAA", "Tag=x,0.0,1.0,2.0,HISTFAAAAB", "Tag=x,0.0,1.0,2.0,!"] {
            assert!(Summed::read(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(Summed::read(b"").unwrap().span, None);
    }
}
