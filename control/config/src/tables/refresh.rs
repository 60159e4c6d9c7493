//! `[refresh]`: renewal of answers before they expire.

use crate::{
    bounds::{secs, within},
    error::Problem,
    table::table,
};
use ringdns_common::units::TimeSpan;
use ringdns_dataplane::clock::Secs;
use std::time::Duration;

/// Most renewals of a sweep in flight at once. The resolver leaves a quarter of its questions in
/// flight to renewals of all kinds.
const IN_FLIGHT_MAX: usize = 1024;

table! {
    /// Renewal of requested answers before they expire: when a client asks for one (`ahead`), and
    /// by sweeps through the host cache.
    "[refresh]" RawRefresh {
        /// Last part of an answer's lifetime, in percent, in which a frequently requested answer is
        /// renewed, from 1 to 50. 0: never.
        ahead: u16 = 10,
        /// Most renewals per second; renewals of expired answers are not counted. 0: no limit.
        per_second: u32 = 100,
        /// Interval between sweeps through the host cache, give or take a quarter, from 1 s to
        /// 10 m. A sweep also removes answers that can no longer be served.
        sweep_every: TimeSpan = TimeSpan::secs(15),
        /// Time before expiry within which a sweep renews requested answers, the most requested
        /// first. An answer is only renewed in the second half of its lifetime. Twice `sweep_every`
        /// is a good value: `"30s"`. `"0s"`: sweeps renew nothing.
        sweep_window: TimeSpan = TimeSpan::secs(0),
        /// Number of requests that an answer needs before a sweep renews it. The count halves every
        /// two minutes.
        sweep_demand: u16 = 2,
        /// Most renewals of a sweep in flight at once.
        sweep_in_flight: usize = 50,
    }
}

/// Renewal of answers before they expire.
#[derive(Clone, Copy, Debug)]
pub struct RefreshConfig {
    /// Last part of an answer's lifetime, in percent, in which it is renewed; 0: never.
    pub ahead: u8,
    /// Most renewals per second; `None`: no limit.
    pub per_second: Option<u32>,
    /// Interval between sweeps of the host tier.
    pub sweep_every: Duration,
    /// Seconds before expiry within which sweeps renew answers; 0: sweeps renew nothing.
    pub sweep_window: Secs,
    /// Number of requests that an answer needs before a sweep renews it.
    pub sweep_demand: u16,
    /// Most renewals of sweeps in flight at once.
    pub sweep_in_flight: usize,
}

impl RawRefresh {
    /// Returns the checked values.
    pub fn check(self) -> Result<RefreshConfig, Problem> {
        let Some(ahead) = u8::try_from(self.ahead).ok().filter(|ahead| *ahead <= 50) else {
            let reason = format!("{} percent is more than half", self.ahead);
            let remedy = "Give 1 to 50, or 0 for never; 10 is usual";
            return Err(Problem::new("refresh.ahead", reason, remedy));
        };
        let every = [TimeSpan::secs(1), TimeSpan::secs(600)];
        let remedy = "Give \"1s\" to \"10m\"; \"15s\" is usual";
        let sweep_every = within("refresh.sweep_every", self.sweep_every, every, remedy)?;
        let window = [TimeSpan::secs(0), TimeSpan::secs(3_600)];
        let remedy = "Give \"1s\" to \"1h\", or \"0s\" for none; twice sweep_every is right";
        let sweep_window = secs(within("refresh.sweep_window", self.sweep_window, window, remedy)?);
        if self.sweep_demand == 0 {
            let reason = "with 0, answers without any request would be renewed";
            let remedy = "Give 1 or more; to renew nothing, set sweep_window = \"0s\"";
            return Err(Problem::new("refresh.sweep_demand", reason, remedy));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.sweep_in_flight) {
            let reason = format!("{} is not possible", self.sweep_in_flight);
            let remedy = format!("Give 1 to {IN_FLIGHT_MAX}; to renew nothing, set sweep_window = \"0s\"");
            return Err(Problem::new("refresh.sweep_in_flight", reason, remedy));
        }
        Ok(RefreshConfig {
            ahead,
            per_second: (self.per_second > 0).then_some(self.per_second),
            sweep_every,
            sweep_window,
            sweep_demand: self.sweep_demand,
            sweep_in_flight: self.sweep_in_flight,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn zeros_switch_renewals_and_their_limit_off() {
        let refresh = minimal_with("[refresh]\nahead = 0\nper_second = 0").refresh;
        assert_eq!((refresh.ahead, refresh.per_second, refresh.sweep_window), (0, None, 0));
        let refresh = minimal_with("[refresh]\nahead = 50\nsweep_window = \"1500ms\"").refresh;
        assert_eq!((refresh.ahead, refresh.per_second, refresh.sweep_window), (50, Some(100), 2));
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[refresh]\n"),
            &[
                ["ahead = 51", "6", "refresh.ahead", "51 percent", "1 to 50"],
                ["ahead = 266", "6", "refresh.ahead", "266 percent", "1 to 50"],
                ["sweep_every = \"11m\"", "6", "refresh.sweep_every", "too long", "10m"],
                ["sweep_window = \"2h\"", "6", "refresh.sweep_window", "too long", "1h"],
                ["sweep_demand = 0", "6", "refresh.sweep_demand", "without any request", "1 or more"],
                ["sweep_in_flight = 0", "6", "refresh.sweep_in_flight", "0 is not", "1 to 1024"],
                ["sweep_in_flight = 1025", "6", "refresh.sweep_in_flight", "1025 is not", "1 to 1024"],
            ],
        );
    }
}
