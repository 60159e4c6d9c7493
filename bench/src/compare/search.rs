//! The highest rate that a server takes, found as RFC 2544 section 26.1 does: by trying rates.

use anyhow::Result;

/// By how much a rate is raised or lowered while only one side of the maximum is known.
const STRIDE: f64 = 1.6;
/// The two sides are close enough when they differ by less than this.
const CLOSE: f64 = 1.06;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that was met, 0 if none was.
    pub rate: f64,
    /// Whether a higher rate was tried and failed: otherwise the maximum may be anywhere above.
    pub bounded: bool,
}

/// The highest rate at which `meets` holds, from `first` on, in at most `tries` tries. On a machine with other work a
/// good rate may fail for reasons of others, so a rate fails only if it does so twice.
pub fn highest(first: f64, tries: u32, mut meets: impl FnMut(f64) -> Result<bool>) -> Result<Found> {
    let (mut good, mut bad) = (None::<f64>, None::<f64>);
    let mut left = tries;
    let mut rate = first;
    while left > 0 {
        left -= 1;
        let mut met = meets(rate)?;
        if !met && left > 0 {
            left -= 1;
            met = meets(rate)?;
        }
        *(if met { &mut good } else { &mut bad }) = Some(rate);
        rate = match (good, bad) {
            (Some(good), Some(bad)) if bad / good < CLOSE => break,
            (Some(good), Some(bad)) => (good * bad).sqrt(),
            (Some(good), None) => good * STRIDE,
            (None, Some(bad)) => bad / STRIDE,
            (None, None) => rate,
        };
    }
    Ok(Found { rate: good.unwrap_or(0.0), bounded: bad.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes up to `maximum` queries a second.
    fn search(maximum: f64, first: f64, tries: u32) -> (Found, u32) {
        let mut asked = 0;
        let found = highest(first, tries, |rate| {
            asked += 1;
            Ok(rate <= maximum)
        });
        (found.unwrap(), asked)
    }

    #[test]
    fn a_known_maximum_is_found_from_above_and_from_below() {
        for first in [20e3, 90e3, 100e3, 110e3, 600e3] {
            let (found, asked) = search(100e3, first, 24);
            assert!(found.bounded && (93e3..=100e3).contains(&found.rate), "{first}: {found:?}");
            assert!(asked <= 24, "{asked}");
        }
    }

    #[test]
    fn few_tries_find_less_and_never_more() {
        for tries in 1..24 {
            let (found, asked) = search(100e3, 250e3, tries);
            assert!(asked <= tries && found.rate <= 100e3, "{tries}: {found:?}, {asked}");
        }
    }

    #[test]
    fn a_rate_that_never_fails_bounds_nothing() {
        let (found, _) = search(f64::INFINITY, 1e3, 4);
        assert!(!found.bounded);
        assert!(found.rate > 4e3 && found.rate < 4.2e3, "{found:?}");
        assert_eq!(search(0.0, 1e3, 8).0, Found { rate: 0.0, bounded: true });
    }

    #[test]
    fn one_failure_is_not_believed() {
        let mut asked = 0;
        let found = highest(50e3, 24, |rate| {
            asked += 1;
            Ok(rate <= 100e3 && asked != 1)
        });
        assert!(found.unwrap().rate > 93e3);
    }
}
