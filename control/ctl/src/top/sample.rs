//! State and counters of a ringdnsd at one moment.

use crate::{print::printable, talk::Ringdnsd};
use anyhow::{Context, anyhow};
use data_encoding::BASE64;
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};
use ringdns_api::DaemonStatus;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, io::Cursor};

/// State and counters of a ringdnsd at one moment. All texts are printable.
#[derive(Debug)]
pub struct Sample {
    /// Answer of `/v1/status`.
    pub status: DaemonStatus,
    /// Answer of `/v1/stats`.
    pub stats: Value,
    /// Service times since the start in nanoseconds, by outcome.
    pub times: BTreeMap<String, Histogram<u64>>,
}

impl Sample {
    /// Asks a ringdnsd.
    pub async fn take(ringdnsd: &Ringdnsd) -> anyhow::Result<Self> {
        let status = ringdnsd.get("/v1/status").await?;
        let stats = ringdnsd.get("/v1/stats").await?;
        let times = ringdnsd.get("/v1/histogram?format=log").await?;
        Self::read(&status, &stats, &times)
    }

    /// Reads the answers of the three requests.
    pub fn read(status: &[u8], stats: &[u8], times: &[u8]) -> anyhow::Result<Self> {
        let unreadable = "ringdnsd's answer cannot be read: use the ringctl of its version";
        Ok(Sample {
            status: json(status).context(unreadable)?,
            stats: json(stats).context(unreadable)?,
            times: histograms(times).context(unreadable)?,
        })
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body).and_then(|value| serde_json::from_value(printable(value)))
}

/// Reads a histogram log, by tag.
fn histograms(log: &[u8]) -> anyhow::Result<BTreeMap<String, Histogram<u64>>> {
    let mut histograms = BTreeMap::new();
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.map_err(|error| anyhow!("histogram log: {error:?}"))? else {
            continue;
        };
        let tag = interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        let bytes = BASE64.decode(interval.encoded_histogram().as_bytes())?;
        let histogram = Deserializer::new().deserialize(&mut Cursor::new(bytes));
        histograms.insert(tag, histogram.map_err(|error| anyhow!("histogram: {error:?}"))?);
    }
    Ok(histograms)
}
