//! Time, read once a turn and passed down: nothing below the worker asks a clock.

use std::time::{Instant, SystemTime};

/// Whole seconds since the process started; what entries are stamped and aged with.
///
/// 32 bits last 136 years of uptime. Monotonic, so that a step of the wall clock changes no TTL.
pub type Secs = u32;

/// Nanoseconds since the process started; what latencies are measured with.
pub type Nanos = u64;

/// The process's monotonic clock. Copies share one origin, so that workers and control plane agree on ages.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    /// The machine's time since this instant.
    Since(Instant),
    /// What this says, for simulations.
    Simulated(fn() -> Nanos),
}

impl Clock {
    /// Starts a clock at zero.
    pub fn start() -> Self {
        Clock(Source::Since(Instant::now()))
    }

    /// A clock that asks `nanos` what time it is: for simulations, whose time passes as they please.
    pub fn simulated(nanos: fn() -> Nanos) -> Self {
        Clock(Source::Simulated(nanos))
    }

    /// Nanoseconds since the start.
    pub fn nanos(&self) -> Nanos {
        match self.0 {
            Source::Since(origin) => origin.elapsed().as_nanos() as Nanos,
            Source::Simulated(nanos) => nanos(),
        }
    }

    /// The Unix time at the start, wrapping, as the wall clock has it now: only for what other hosts are told.
    pub fn epoch(&self) -> u32 {
        let unix =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        (unix as u32).wrapping_sub(self.secs())
    }

    /// Seconds since the start.
    pub fn secs(&self) -> Secs {
        secs(self.nanos())
    }
}

/// The second that an instant falls in.
pub fn secs(nanos: Nanos) -> Secs {
    (nanos / 1_000_000_000) as Secs
}
