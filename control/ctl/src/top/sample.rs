//! State and counters of a ringdnsd at one moment.

use crate::{
    histogram::logs::{Summed, Tagged},
    print::printable,
    talk::Ringdnsd,
};
use anyhow::Context;
use ringdns_api::{DaemonStatus, History};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Error about an answer that is not as this version has it.
pub const UNREADABLE: &str = "ringdnsd's answer cannot be read: use the ringctl of its version";

/// State and counters of a ringdnsd at one moment. All texts are printable.
#[derive(Debug)]
pub struct Sample {
    /// Answer of `/v1/status`.
    pub status: DaemonStatus,
    /// Answer of `/v1/stats`.
    pub stats: Value,
    /// Service times since the start in nanoseconds, by outcome.
    pub times: Tagged,
    /// Answer of `/v1/history`, which not each sample has.
    pub history: Option<History>,
}

impl Sample {
    /// Asks a ringdnsd.
    pub async fn take(ringdnsd: &Ringdnsd) -> anyhow::Result<Self> {
        let status = ringdnsd.get("/v1/status").await?;
        let stats = ringdnsd.get("/v1/stats").await?;
        let times = ringdnsd.get("/v1/histogram?format=log").await?;
        Self::read(&status, &stats, &times)
    }

    /// Asks a ringdnsd, for its history too.
    pub async fn take_with_history(ringdnsd: &Ringdnsd) -> anyhow::Result<Self> {
        let history = json(&ringdnsd.get("/v1/history").await?).context(UNREADABLE)?;
        Ok(Sample { history: Some(history), ..Self::take(ringdnsd).await? })
    }

    /// Reads the answers of the three requests.
    pub fn read(status: &[u8], stats: &[u8], times: &[u8]) -> anyhow::Result<Self> {
        Ok(Sample {
            status: json(status).context(UNREADABLE)?,
            stats: json(stats).context(UNREADABLE)?,
            times: Summed::read(times).map(|log| log.histograms).context(UNREADABLE)?,
            history: None,
        })
    }
}

pub fn json<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body).and_then(|value| serde_json::from_value(printable(value)))
}
