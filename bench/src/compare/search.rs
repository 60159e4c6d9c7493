//! Search for the highest rate that a server takes, by trial rates as in RFC 2544 section 26.1.

use anyhow::Result;

/// Result of a search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Highest rate that met the objective, 0 if none did.
    pub rate: f64,
    /// Whether a higher rate was tried and failed: otherwise the maximum may be anywhere above.
    pub bounded: bool,
}

/// Parameters of a search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// First rate to try.
    pub first: f64,
    /// Factor by which a rate is raised or lowered while only one side of the maximum is known.
    pub stride: f64,
    /// Factor between a met and a missed rate below which the search ends.
    pub close: f64,
    /// Most trials of a rate.
    pub tries: u32,
}

/// Outcome of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The rate met the objective.
    Met,
    /// The rate missed the objective by so little that chance or another program may be the cause;
    /// it is tried once more.
    Close,
    /// The rate missed the objective.
    Missed,
}

/// Returns the highest rate that met the objective.
pub fn highest(search: Search, mut attempt: impl FnMut(f64) -> Result<Trial>) -> Result<Found> {
    let (mut good, mut bad) = (None::<f64>, None::<f64>);
    let mut rate = search.first;
    for _ in 0..search.tries {
        let met = match attempt(rate)? {
            Trial::Close => attempt(rate)? == Trial::Met,
            trial => trial == Trial::Met,
        };
        *(if met { &mut good } else { &mut bad }) = Some(rate);
        rate = match (good, bad) {
            (Some(good), Some(bad)) if bad / good < search.close => break,
            (Some(good), Some(bad)) => (good * bad).sqrt(),
            (Some(good), None) => good * search.stride,
            (None, Some(bad)) => bad / search.stride,
            (None, None) => rate,
        };
    }
    Ok(Found { rate: good.unwrap_or(0.0), bounded: bad.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that takes up to `maximum` queries a second.
    fn search(maximum: f64, first: f64, tries: u32) -> (Found, u32) {
        let mut asked = 0;
        let found = highest(Search { first, stride: 1.6, close: 1.06, tries }, |rate| {
            asked += 1;
            Ok(if rate <= maximum { Trial::Met } else { Trial::Missed })
        });
        (found.unwrap(), asked)
    }

    #[test]
    fn a_known_maximum_is_found_from_above_and_from_below() {
        for first in [20e3, 90e3, 100e3, 110e3, 600e3] {
            let (found, asked) = search(100e3, first, 12);
            assert!(found.bounded && (93e3..=100e3).contains(&found.rate), "{first}: {found:?}");
            assert!(asked <= 12, "{asked}");
        }
    }

    #[test]
    fn few_tries_find_less_and_never_more() {
        for tries in 1..12 {
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
    fn what_failed_closely_is_tried_again_and_what_failed_twice_has_failed() {
        let search = Search { first: 50e3, stride: 1.6, close: 1.06, tries: 12 };
        let mut asked = 0;
        let found = highest(search, |rate| {
            asked += 1;
            Ok(if rate > 100e3 {
                Trial::Missed
            } else if asked == 1 {
                Trial::Close
            } else {
                Trial::Met
            })
        });
        assert!(found.unwrap().rate > 93e3);
        assert_eq!(highest(search, |_| Ok(Trial::Close)).unwrap().rate, 0.0);
    }
}
