//! How many answers a link has room for.

use anyhow::{Result, ensure};
use serde::Serialize;
use std::str::FromStr;

/// Bytes that a frame takes on the wire besides itself: preamble, start and gap between frames (IEEE 802.3).
const WIRE: f64 = 20.0;
/// The frame check sequence, which lengths of captured frames leave out.
const CHECK: f64 = 4.0;
/// The shortest frame without check sequence.
const SHORTEST: f64 = 60.0;

/// Part of the queries, with the lengths of their frames and of their answers', check sequences left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Class {
    /// Of all queries; needs no particular sum.
    pub share: f64,
    /// Bytes of a query's frame.
    pub query: f64,
    /// Bytes of an answer's.
    pub answer: f64,
}

/// `SHARE:QUERY:ANSWER`.
impl FromStr for Class {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<f64> = text.split(':').map(|number| Ok(number.parse()?)).collect::<Result<_>>()?;
        let [share, query, answer] = numbers[..] else {
            anyhow::bail!("\"{text}\" is no SHARE:QUERY:ANSWER, as 60:84:116")
        };
        ensure!(share > 0.0 && query > 0.0 && answer > 0.0, "\"{text}\": shares and lengths are above zero");
        Ok(Class { share, query, answer })
    }
}

/// A link, and what goes over it.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// Bytes on the wire of a query, on average.
    pub query_wire: f64,
    /// The same of an answer.
    pub answer_wire: f64,
}

impl Traffic {
    /// Of a mix.
    pub fn new(mix: &[Class]) -> Self {
        let shares: f64 = mix.iter().map(|class| class.share).sum();
        let mean = |length: fn(&Class) -> f64| {
            let wire = |class: &Class| class.share * (length(class).max(SHORTEST) + CHECK + WIRE);
            mix.iter().map(wire).sum::<f64>() / shares
        };
        Traffic { query_wire: mean(|class| class.query), answer_wire: mean(|class| class.answer) }
    }

    /// Answers a second that fill a link of so many Gbit/s in the direction that is full first. Links carry as much in both.
    pub fn answers(&self, gigabits: f64) -> f64 {
        gigabits * 1e9 / 8.0 / self.query_wire.max(self.answer_wire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_frames_fill_ten_gigabits_at_14_88_million() {
        let traffic = Traffic::new(&[Class { share: 1.0, query: 60.0, answer: 20.0 }]);
        assert!((traffic.answers(10.0) / 14.880952e6 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_larger_direction_decides() {
        let mix: [Class; 2] = ["3:60:160".parse().unwrap(), "1:76:60".parse().unwrap()];
        let traffic = Traffic::new(&mix);
        assert_eq!((traffic.query_wire, traffic.answer_wire), (88.0, 159.0));
        assert_eq!(traffic.answers(25.0), 25e9 / 8.0 / 159.0);
        assert!("1:2".parse::<Class>().is_err() && "1:2:-3".parse::<Class>().is_err());
    }
}
