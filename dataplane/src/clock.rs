//! Time, read once per turn and passed down: nothing below the worker reads a clock.

use rustix::time::{ClockId, clock_gettime};
use std::time::SystemTime;

/// Whole seconds since the process started. Cache entries are stamped and aged in this unit.
///
/// 32 bits last 136 years of uptime. A step of the wall clock changes no TTL. Time that the host
/// spends asleep counts, so cached answers age.
pub type Secs = u32;

/// Nanoseconds since the process started. Latencies are measured in this unit.
pub type Nanos = u64;

/// Clock of the process, which only goes forward. Copies share one origin, so that workers and
/// control plane agree on ages.
#[derive(Clone, Copy, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Copy, Debug)]
enum ClockSource {
    /// Time of the host since it booted, less this.
    Since(Nanos),
    /// Time that this function returns, for simulations.
    Simulated(fn() -> Nanos),
}

impl Clock {
    /// Starts a clock at zero.
    pub fn start() -> Self {
        Clock(ClockSource::Since(since_boot()))
    }

    /// Creates a clock that calls `nanos` for the time: for simulations, which control their own
    /// time.
    pub fn simulated(nanos: fn() -> Nanos) -> Self {
        Clock(ClockSource::Simulated(nanos))
    }

    /// Returns nanoseconds since the start.
    pub fn nanos(&self) -> Nanos {
        match self.0 {
            ClockSource::Since(origin) => since_boot().saturating_sub(origin),
            ClockSource::Simulated(nanos) => nanos(),
        }
    }

    /// Returns the Unix time at the start, wrapping, according to the wall clock now: only for
    /// times told to other hosts.
    pub fn epoch(&self) -> u32 {
        (self.unix() as u32).wrapping_sub(self.secs())
    }

    /// Returns the Unix time according to the wall clock now: only for comparison with times from
    /// other hosts. Simulations begin in 1970.
    pub fn unix(&self) -> u64 {
        match self.0 {
            ClockSource::Since(_) => {
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
            }
            ClockSource::Simulated(nanos) => u64::from(secs(nanos())),
        }
    }

    /// Returns the Unix time at the start in milliseconds, according to the wall clock now: for the
    /// timestamps of the query log.
    pub fn epoch_millis(&self) -> i64 {
        match self.0 {
            ClockSource::Since(_) => {
                let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                unix.as_millis() as i64 - (self.nanos() / 1_000_000) as i64
            }
            ClockSource::Simulated(_) => 0,
        }
    }

    /// Returns the Unix time at the start in nanoseconds, according to the wall clock now: for times
    /// told to other programs.
    pub fn epoch_nanos(&self) -> u64 {
        match self.0 {
            ClockSource::Since(_) => {
                let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                (unix.as_nanos() as u64).saturating_sub(self.nanos())
            }
            ClockSource::Simulated(_) => 0,
        }
    }

    /// Returns seconds since the start.
    pub fn secs(&self) -> Secs {
        secs(self.nanos())
    }
}

/// Returns the second that an instant falls in. Saturates at `Secs::MAX` and never wraps.
pub fn secs(nanos: Nanos) -> Secs {
    (nanos / 1_000_000_000).try_into().unwrap_or(Secs::MAX)
}

/// Returns nanoseconds since the host booted, including time asleep. `Instant` stands still while
/// the host sleeps, so cached answers would seem younger than they are. Read without a system call,
/// like `Instant`.
fn since_boot() -> Nanos {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as Nanos * 1_000_000_000 + now.tv_nsec as Nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// Returns the time that the host has slept, according to the clock.
    fn slept() -> Nanos {
        let awake = clock_gettime(ClockId::Monotonic);
        since_boot().saturating_sub(awake.tv_sec as Nanos * 1_000_000_000 + awake.tv_nsec as Nanos)
    }

    /// A test cannot put the host to sleep, but a time namespace (time_namespaces(7)) can make a
    /// process believe that it slept.
    #[test]
    fn time_asleep_is_time() {
        const DAY: Nanos = 86_400_000_000_000;
        const ASLEEP: &str = "RINGDNS_TEST_ASLEEP";
        if std::env::var_os(ASLEEP).is_some() {
            let slept = slept();
            assert!(slept >= DAY, "the clock stood still: {slept} ns");
            return;
        }
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var("RINGDNS_UNPRIVILEGED").is_ok_and(|value| value == "1"),
                "this test makes a time namespace and needs root; RINGDNS_UNPRIVILEGED=1 skips it",
            );
            return;
        }
        let output = Command::new("unshare")
            .args(["--time", "--boottime", "86400"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "clock::tests::time_asleep_is_time"])
            .env(ASLEEP, "1")
            .output()
            .expect("unshare, of util-linux");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    }

    proptest! {
        /// A later instant never falls in an earlier second, however far apart the two are.
        #[test]
        fn seconds_go_forward_to_the_end_of_time(one: Nanos, other: Nanos, near in 0..3_000_000_000u64) {
            let (early, late) = (one.min(other), one.max(other));
            prop_assert!(secs(early) <= secs(late));
            let soon = secs(early.saturating_add(near));
            prop_assert!((secs(early)..=secs(early).saturating_add(3)).contains(&soon));
            prop_assert_eq!(secs(Nanos::MAX), Secs::MAX);
        }
    }

    /// If the clock went back to before the start, no time has passed: the difference must not
    /// wrap.
    #[test]
    fn a_clock_that_starts_later_than_now_is_at_its_start() {
        let clock = Clock(ClockSource::Since(Nanos::MAX));
        assert_eq!((clock.nanos(), clock.secs()), (0, 0));
    }

    #[test]
    fn copies_agree_and_only_go_forward() {
        let clock = Clock::start();
        let copy = clock;
        let read: Vec<_> = (0..1000).flat_map(|_| [clock.nanos(), copy.nanos()]).collect();
        assert!(read.is_sorted() && read[0] < 1_000_000_000, "{read:?}");
    }
}
