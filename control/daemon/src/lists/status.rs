//! State of a list between its downloads.

use super::transfer::ZoneSoa;
use rand::Rng;
use ringdns_api::{ListState, ListStatus};
use ringdns_config::{FetchConfig, ListSource, TransferConfig};
use ringdns_dataplane::clock::{Clock, Secs};
use ringdns_policy::list::Changes;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc, oneshot};

/// Time until the first repetition of a failed download. It doubles with each failure.
const RETRY_MIN: Duration = Duration::from_secs(30);
/// Longest time until a failed download is repeated.
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Shortest time between two transfers, whatever the zone says.
const REFRESH_MIN: Duration = Duration::from_secs(60);

/// Result of a download: what has changed in the rules, if anything has.
pub(super) type Outcome = Result<Option<Changes>, String>;

/// Request to download a list now.
pub(super) type Ask = oneshot::Sender<Outcome>;

/// List that is downloaded, and the settings for that.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fetching {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) refresh: Duration,
    pub(super) fetch: FetchConfig,
    /// Transfer; `None`: the list is downloaded over HTTP.
    pub(super) zone: Option<Box<TransferConfig>>,
}

/// Time at which a list was last confirmed. Its age grows by a clock that is never set.
#[derive(Clone, Copy)]
pub(super) struct Confirmed {
    /// Unix time.
    pub(super) unix: u64,
    /// Age in seconds at `at`.
    age: u64,
    at: Secs,
}

impl Confirmed {
    /// Returns the present.
    pub(super) fn now(clock: Clock) -> Self {
        Confirmed { unix: clock.unix(), age: 0, at: clock.secs() }
    }

    /// Returns a Unix time that an earlier process noted.
    pub(super) fn noted(unix: u64, clock: Clock) -> Self {
        Confirmed { unix, age: clock.unix().saturating_sub(unix), at: clock.secs() }
    }

    fn age(&self, now: Secs) -> u64 {
        self.age + u64::from(now.saturating_sub(self.at))
    }
}

/// List in effect.
pub(super) struct Watched {
    /// Path or URL.
    pub(super) source: String,
    /// Download; `None`: the list is a file, or in the configuration.
    pub(super) fetching: Option<Fetching>,
    /// Sends requests to the task that downloads the list.
    pub(super) asks: mpsc::Sender<Ask>,
    /// End of `asks` that the task takes when it begins.
    pub(super) asked: Option<mpsc::Receiver<Ask>>,
    /// Tells the task that the primary has another version of the zone.
    pub(super) notified: Arc<Notify>,
    /// Number of rules.
    pub(super) rules: usize,
    /// Whether the list has yet to be downloaded.
    pub(super) is_missing: bool,
    /// Time at which the list was read, or last confirmed by its server.
    pub(super) confirmed: Option<Confirmed>,
    /// Error of the last download, or of the last look at the file that somebody asked for.
    pub(super) error: Option<String>,
    /// Failed downloads since the last one that succeeded.
    pub(super) failures: u32,
    /// SOA record of the zone, if one was transferred.
    pub(super) soa: Option<ZoneSoa>,
}

impl Watched {
    /// Returns the time between two downloads.
    fn refresh(&self, fetching: &Fetching) -> Duration {
        let asked = self.soa.map(|soa| Duration::from_secs(soa.refresh.into()).max(REFRESH_MIN));
        asked.map_or(fetching.refresh, |asked| asked.min(fetching.refresh))
    }

    /// Whether a zone was not confirmed for longer than it says to be used. It stays in service all
    /// the same, but another version need not be later.
    pub(super) fn is_expired(&self, now: Secs) -> bool {
        let age = self.confirmed.map(|confirmed| confirmed.age(now));
        self.soa.zip(age).is_some_and(|(soa, age)| age > soa.expire.into())
    }

    /// Returns the state.
    pub(super) fn state(&self, now: Secs) -> ListState {
        if self.error.is_some() || self.is_missing {
            return ListState::Degraded;
        }
        let Some(fetching) = &self.fetching else { return ListState::Fresh };
        let keeps = self.refresh(fetching) + fetching.fetch.timeout;
        match self.confirmed {
            Some(confirmed) if confirmed.age(now) <= keeps.as_secs() => ListState::Fresh,
            _ => ListState::Stale,
        }
    }

    /// Returns the list's status for the API.
    pub(super) fn status(&self, name: &str, now: Secs) -> ListStatus {
        ListStatus {
            name: name.to_owned(),
            source: self.source.clone(),
            rules: self.rules as u64,
            state: self.state(now),
            last_success: self.confirmed.map(|confirmed| confirmed.unix),
            last_error: self.error.clone(),
        }
    }

    /// Returns a sentence about a list that is degraded.
    pub(super) fn problem(&self, name: &str, now: Secs) -> Option<String> {
        let effect = match self.is_missing {
            true => "it has no effect until it is downloaded",
            false => "the last good list stays in service",
        };
        (self.state(now) == ListState::Degraded).then(|| match &self.error {
            Some(error) => format!("list {name:?} cannot be renewed, {effect}: {error}"),
            None => format!("list {name:?} has no copy yet, {effect}"),
        })
    }

    /// Returns the time until the next download, with some randomness: many appliances may have been
    /// started at the same moment.
    pub(super) fn until_due(&self, now: Secs) -> Duration {
        let Some(fetching) = &self.fetching else { return RETRY_MAX };
        if self.failures > 0 {
            let doubled = RETRY_MIN.saturating_mul(1 << (self.failures - 1).min(16));
            let retry =
                self.soa.map_or(RETRY_MAX, |soa| Duration::from_secs(soa.retry.into()).max(RETRY_MIN));
            let most = doubled.min(RETRY_MAX).min(retry).min(self.refresh(fetching));
            return most.mul_f64(rand::rng().random_range(0.5..=1.0));
        }
        match self.confirmed {
            Some(confirmed) if !self.is_missing => {
                let period = self.refresh(fetching).mul_f64(rand::rng().random_range(0.9..=1.0));
                period.saturating_sub(Duration::from_secs(confirmed.age(now)))
            }
            _ => Duration::ZERO,
        }
    }
}

/// Returns a source for the API.
pub(super) fn source(source: Option<&ListSource>) -> String {
    match source {
        Some(ListSource::File(path)) => path.display().to_string(),
        Some(ListSource::Url { url, .. }) => url.clone(),
        Some(ListSource::Zone(zone)) => zone.url.clone(),
        None => "configuration".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let fetching = Fetching {
            name: "ads".into(),
            url: "https://lists.example/".into(),
            refresh: Duration::from_secs(1_000),
            fetch: FetchConfig { timeout: Duration::from_secs(100), ..FetchConfig::default() },
            zone: None,
        };
        Watched {
            source: fetching.url.clone(),
            fetching: Some(fetching),
            asks: mpsc::channel(1).0,
            asked: None,
            notified: Arc::default(),
            rules: 3,
            is_missing: false,
            confirmed: Some(Confirmed { unix: 1_700_000_000, age: 500, at: 4_500 }),
            error: None,
            failures: 0,
            soa: None,
        }
    }

    #[test]
    fn a_list_is_fresh_then_stale_and_degraded_by_failures() {
        let list = watched();
        for (now, state) in [
            (4_500, ListState::Fresh),
            (5_100, ListState::Fresh),
            (5_101, ListState::Stale),
            (1, ListState::Fresh),
        ] {
            assert_eq!(list.state(now), state, "{now}");
            assert_eq!(list.problem("ads", now), None);
        }
        let failed = Watched { error: Some("404".into()), failures: 1, ..watched() };
        assert_eq!(failed.state(4_500), ListState::Degraded);
        let problem = failed.problem("ads", 4_500).unwrap();
        assert!(problem.contains("404") && problem.contains("last good list"), "{problem}");
        let missing = Watched { is_missing: true, ..watched() };
        assert_eq!(missing.state(4_500), ListState::Degraded);
        assert!(missing.problem("ads", 4_500).unwrap().contains("no effect"));
        let file = Watched { fetching: None, ..watched() };
        assert_eq!(file.state(1_000_000), ListState::Fresh);
    }

    #[test]
    fn downloads_come_before_the_list_is_stale_and_failures_back_off() {
        let list = watched();
        for _ in 0..100 {
            let wait = list.until_due(4_600).as_secs();
            assert!((300..=400).contains(&wait), "{wait}");
        }
        assert_eq!(list.until_due(7_000), Duration::ZERO);
        assert_eq!(Watched { is_missing: true, ..watched() }.until_due(5_000), Duration::ZERO);
        for (failures, least, most) in
            [(1, 15, 30), (2, 30, 60), (5, 240, 480), (20, 500, 1_000), (u32::MAX, 500, 1_000)]
        {
            let wait = Watched { failures, ..watched() }.until_due(9_000).as_secs_f64();
            assert!((f64::from(least)..=f64::from(most)).contains(&wait), "{failures}: {wait}");
        }
    }

    #[test]
    fn the_timers_of_a_zone_are_followed_within_bounds() {
        let zone = |refresh, retry| {
            let soa = ZoneSoa { serial: 1, refresh, retry, expire: 2_000 };
            let confirmed = Some(Confirmed { unix: 0, age: 0, at: 0 });
            Watched { soa: Some(soa), confirmed, ..watched() }
        };
        for (refresh, least, most) in [(0, 54, 60), (500, 450, 500), (u32::MAX, 900, 1_000)] {
            let wait = zone(refresh, 900).until_due(0).as_secs_f64();
            assert!((f64::from(least)..=f64::from(most)).contains(&wait), "{refresh}: {wait}");
        }
        for (retry, least, most) in [(0, 15, 30), (200, 100, 200), (u32::MAX, 300, 600)] {
            let wait = Watched { failures: 20, ..zone(600, retry) }.until_due(0).as_secs_f64();
            assert!((f64::from(least)..=f64::from(most)).contains(&wait), "{retry}: {wait}");
        }
        assert!(!zone(600, 60).is_expired(2_000) && zone(600, 60).is_expired(2_001));
        assert!(!watched().is_expired(u32::MAX));
    }
}
