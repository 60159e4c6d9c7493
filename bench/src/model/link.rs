//! Number of answers that a link can carry.

use anyhow::{Result, ensure};
use serde::Serialize;
use std::str::FromStr;

/// Bytes on the wire beside each frame: preamble, start and gap between frames (IEEE 802.3).
const WIRE: f64 = 20.0;
/// Bytes of the frame check sequence, which lengths of captured frames leave out.
const CHECK: f64 = 4.0;
/// Bytes of the shortest frame without check sequence.
const SHORTEST: f64 = 60.0;

/// Class of queries, with the lengths of their frames and of their answers' frames, without check
/// sequences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Class {
    /// Share of all queries. Shares need no particular sum.
    pub share: f64,
    /// Bytes of a query's frame.
    pub query: f64,
    /// Bytes of an answer's frame.
    pub answer: f64,
}

/// Parses `SHARE:QUERY:ANSWER`.
impl FromStr for Class {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<f64> = text.split(':').map(|number| Ok(number.parse()?)).collect::<Result<_>>()?;
        let [share, query, answer] = numbers[..] else {
            anyhow::bail!("\"{text}\" is not SHARE:QUERY:ANSWER, such as 60:84:116")
        };
        ensure!(
            share > 0.0 && query > 0.0 && answer > 0.0,
            "\"{text}\": shares and lengths must be above zero"
        );
        Ok(Class { share, query, answer })
    }
}

/// Mean sizes of the traffic on a link.
#[derive(Clone, Debug, Serialize)]
pub struct Traffic {
    /// Mean bytes of a query on the wire.
    pub query_wire: f64,
    /// Mean bytes of an answer on the wire.
    pub answer_wire: f64,
}

impl Traffic {
    /// Returns the mean sizes of a mix.
    pub fn new(mix: &[Class]) -> Self {
        let shares: f64 = mix.iter().map(|class| class.share).sum();
        let mean = |length: fn(&Class) -> f64| {
            let wire = |class: &Class| class.share * (length(class).max(SHORTEST) + CHECK + WIRE);
            mix.iter().map(wire).sum::<f64>() / shares
        };
        Traffic { query_wire: mean(|class| class.query), answer_wire: mean(|class| class.answer) }
    }

    /// Returns the answers a second that fill a link of so many Gbit/s in the direction that is
    /// full first. A link carries as much in both.
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
