//! Bounds of durations.

use crate::error::Problem;
use ringdns_common::units::TimeSpan;
use ringdns_dataplane::clock::Secs;
use std::time::Duration;

/// Returns the duration, or the problem that the value of `key` is not between the two bounds.
pub fn within(
    key: &str,
    span: TimeSpan,
    [least, most]: [TimeSpan; 2],
    remedy: &str,
) -> Result<Duration, Problem> {
    if span < least || span > most {
        let side = if span < least { "too short" } else { "too long" };
        return Err(Problem::new(key, format!("{span} is {side}"), remedy));
    }
    Ok(span.0)
}

/// Returns whole seconds, rounded up, so that only a written zero becomes zero.
pub fn secs(span: Duration) -> Secs {
    let up = u64::from(span.subsec_nanos() > 0);
    Secs::try_from(span.as_secs() + up).unwrap_or(Secs::MAX)
}
