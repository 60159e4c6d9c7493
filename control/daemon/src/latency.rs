//! Service times of all workers since the start, and the two formats that HdrHistogram's tools
//! read.

use hdrhistogram::{
    Histogram,
    serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder},
};
use ringdns_dataplane::{latency::Latencies, punt::Link};
use std::{
    fmt::Write as _,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// Time that a worker may take to hand over its histograms; it sleeps for at most half of that.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two checks whether it has.
const PACE: Duration = Duration::from_millis(1);

/// Collector of the workers' histograms. It keeps the sum of each worker's.
pub struct LatencyCollector {
    links: Vec<Arc<Link>>,
    /// Sums, in the order of the links.
    sums: Mutex<Vec<Latencies>>,
    /// Start of the recording.
    since: SystemTime,
}

impl LatencyCollector {
    /// Returns a collector for the workers of `links`.
    pub fn new(links: Vec<Arc<Link>>) -> io::Result<Self> {
        let sums: Result<_, _> = links.iter().map(|_| Latencies::new()).collect();
        let sums = Mutex::new(sums.map_err(io::Error::other)?);
        Ok(LatencyCollector { links, sums, since: SystemTime::now() })
    }

    /// Returns the sum of all histograms since the start. Those of a stuck worker are added once it
    /// answers again.
    pub async fn total(&self) -> io::Result<Latencies> {
        let mut total = Latencies::new().map_err(io::Error::other)?;
        self.collected().await?.iter().for_each(|of_worker| total.merge(of_worker));
        Ok(total)
    }

    /// Returns the histograms of each worker since the start, with its number.
    pub async fn by_worker(&self) -> io::Result<Vec<(usize, Latencies)>> {
        let sums = self.collected().await?;
        Ok(self.links.iter().map(|link| link.worker).zip(sums.iter().cloned()).collect())
    }

    /// Collects what workers have recorded since the last time, and returns the sums.
    async fn collected(&self) -> io::Result<MutexGuard<'_, Vec<Latencies>>> {
        // One at a time: each worker's mailbox holds one request.
        let mut sums = self.sums.lock().await;
        for link in &self.links {
            let empty = Box::new(Latencies::new().map_err(io::Error::other)?);
            link.latencies.request(empty);
            link.bell().ring();
        }
        let deadline = Instant::now() + PATIENCE;
        for (link, sum) in self.links.iter().zip(sums.iter_mut()) {
            loop {
                if let Some(recorded) = link.latencies.collect() {
                    sum.merge(&recorded);
                    break;
                }
                if Instant::now() >= deadline {
                    // Metrics ask each second, and a worker that is stuck is a problem that is told anyway.
                    tracing::debug!(
                        worker = link.worker,
                        "a worker has not handed over its histograms within a second; they are missing from the sum"
                    );
                    break;
                }
                tokio::time::sleep(PACE).await;
            }
        }
        Ok(sums)
    }

    /// Returns the start of the recording.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

/// Returns the percentile distribution of a histogram of nanoseconds, in microseconds, as
/// HdrHistogram prints it and its plotters read it (`.hgrm`).
pub fn percentiles(histogram: &Histogram<u64>) -> String {
    let micros = |nanos: f64| nanos / 1000.0;
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for value in histogram.iter_quantiles(5) {
        let quantile = value.quantile_iterated_to();
        let _ = write!(
            text,
            "{:12.3} {:2.12} {:10}",
            micros(value.value_iterated_to() as f64),
            quantile,
            histogram.count_between(0, value.value_iterated_to()),
        );
        let _ =
            if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let _ = write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        micros(histogram.mean()),
        micros(histogram.stdev()),
        micros(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        2 * 10usize.pow(u32::from(histogram.sigfig())).next_power_of_two(),
    );
    text
}

/// Returns a histogram log (V2, compressed): one interval from `since` until now, one line per
/// histogram, tagged with its name. Values are in nanoseconds.
pub fn log(histograms: &[(&str, &Histogram<u64>)], since: SystemTime) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let length = since.elapsed().unwrap_or_default();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("ringdns service times in nanoseconds")
        .with_start_time(since)
        .with_base_time(since)
        .begin_log_with(&mut bytes, &mut serializer)?;
    for (name, histogram) in histograms {
        let tag = hdrhistogram::serialization::interval_log::Tag::new(name);
        let written = writer.write_histogram(histogram, Duration::ZERO, length, tag);
        written.map_err(|error| io::Error::other(format!("{error:?}")))?;
    }
    drop(writer);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    };
    use ringdns_dataplane::latency::Outcome;

    fn recorded() -> Latencies {
        let mut latencies = Latencies::new().unwrap();
        for micros in 1..=1000 {
            latencies.record(Outcome::Hit, micros * 1000, 1);
        }
        latencies.record(Outcome::Miss, 5_000_000, 3);
        latencies
    }

    #[test]
    fn the_percentile_text_has_the_columns_that_plotters_read() {
        let text = percentiles(&recorded().get(Outcome::Hit));
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect();
        let at = |quantile: f64| rows.iter().find(|row| row[1] >= quantile).unwrap();
        assert!((at(0.5)[0] - 500.0).abs() < 2.0, "the median: {:?}", at(0.5));
        assert!((at(0.5)[3] - 2.0).abs() < 0.01);
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 1000.0, 3), "the last row has no fourth column");
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        assert!(text.contains("Total count    =         1000]"));
    }

    #[test]
    fn the_log_reads_back() {
        let recorded = recorded();
        let sums = Outcome::ALL.map(|outcome| (outcome.label(), recorded.get(outcome)));
        let histograms = sums.each_ref().map(|(label, histogram)| (*label, &**histogram));
        let bytes = log(&histograms, SystemTime::now()).unwrap();
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                use base64::Engine as _;
                let raw =
                    base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
                let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &raw[..]).unwrap();
                read.push((interval.tag().unwrap().as_str().to_owned(), histogram.len()));
            }
        }
        let tags: Vec<_> = [("hit", 1000), ("stale", 0), ("miss", 3)].map(|(t, n)| (t.to_owned(), n)).into();
        assert_eq!(read, tags);
    }
}
