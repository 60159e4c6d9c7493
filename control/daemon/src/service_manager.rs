//! Messages to the service manager about ringdnsd's state (sd_notify(3)): a unit of `Type=notify` is
//! started once ringdnsd is ready, and one with `WatchdogSec=` is restarted once it is stuck.
//! Without a service manager, there are none.

use sd_notify::NotifyState;
use std::time::Duration;

/// Tells that queries are answered.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// Tells that ringdnsd stops.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells that ringdnsd is at work. To be called once a second: the service manager ends a process that
/// has not said so for the time that its unit gives.
pub fn alive() {
    tell(NotifyState::Watchdog);
}

/// Asks for more time for a stop than the unit gives.
pub fn extend(time: Duration) {
    /// Time that a stop takes without that.
    const STOP: Duration = Duration::from_secs(15);
    tell(NotifyState::ExtendTimeoutUsec((time + STOP).as_micros().try_into().unwrap_or(u32::MAX)));
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
