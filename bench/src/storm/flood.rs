//! Flood from forged addresses.

use super::ends::Side;
use crate::{
    names::{Questions, SUFFIX},
    query::Template,
    question::{HEADER, QUESTION_MAX},
    stage,
};
use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of the headers before a message: a frame's length without them is that of the message.
const HEADERS: usize = super::ends::MESSAGE;

/// Flood of queries, and the answers that its forged addresses get.
pub struct Flood {
    rate: f64,
    names: Questions,
    plain: Template,
    /// Random names; `None`: those of the clients.
    random: Option<Template>,
    rng: SmallRng,
    next: u64,
    /// Queries and their bytes, from the Ethernet header on.
    sent: [u64; 2],
    /// Answers and their bytes.
    answered: [u64; 2],
    /// Answers with TC=1.
    truncated: u64,
    /// Answers by response code.
    rcodes: [u64; 16],
}

impl Flood {
    /// Returns a flood of `rate` queries a second.
    pub fn new(rate: f64, names: u32, random: Option<Template>, seed: u64) -> Result<Self> {
        Ok(Flood {
            rate,
            names: Questions::made_up(names as usize, SUFFIX, 1)?,
            plain: stage::template(&[])?,
            random,
            rng: SmallRng::seed_from_u64(!seed),
            next: 0,
            sent: [0; 2],
            answered: [0; 2],
            truncated: 0,
            rcodes: [0; 16],
        })
    }

    /// Returns the number of queries that are due.
    pub fn due(&self, until: Duration) -> u64 {
        ((until.as_secs_f64() * self.rate) as u64).saturating_sub(self.next)
    }

    /// Writes the next query, from a random one of `sources` addresses. Returns its length, and the
    /// number of the address.
    pub fn ask(&mut self, counted: bool, sources: u32, message: &mut [u8]) -> (usize, Side, u32) {
        self.next += 1;
        let mut random = [0; QUESTION_MAX];
        let question = match &self.random {
            Some(template) => {
                let length = template.random_question(self.rng.random(), &mut random);
                &random[..length]
            }
            None => self.names.get(self.rng.random_range(0..self.names.len() as u32)),
        };
        let length = self.plain.write(message, self.rng.random(), question, 0);
        if counted {
            self.sent = add(self.sent, HEADERS + length);
        }
        (length, Side::Flood, self.rng.random_range(0..sources))
    }

    /// Takes an answer to a forged address, in a frame of `bytes`.
    pub fn take(&mut self, bytes: usize, message: &[u8]) {
        // Answers to queries that are not counted are not either, but for those that are under way.
        let Some(header) = message.first_chunk::<HEADER>().filter(|_| self.sent[0] > 0) else { return };
        self.answered = add(self.answered, bytes);
        self.truncated += u64::from(header[2] & 2 != 0);
        self.rcodes[usize::from(header[3] & 15)] += 1;
    }

    /// Returns the figures of so many seconds.
    pub fn json(&self, seconds: f64) -> Value {
        let rcodes: serde_json::Map<String, Value> = (0..16)
            .filter(|nth| self.rcodes[*nth] > 0)
            .map(|nth| (nth.to_string(), self.rcodes[nth].into()))
            .collect();
        json!({
            "queries_per_second": self.sent[0] as f64 / seconds,
            "queries": self.sent[0], "bytes_in": self.sent[1],
            "answers": self.answered[0], "bytes_out": self.answered[1],
            "truncated": self.truncated, "rcodes": rcodes,
            "bytes_out_over_in": self.answered[1] as f64 / self.sent[1].max(1) as f64,
        })
    }
}

fn add([count, bytes]: [u64; 2], more: usize) -> [u64; 2] {
    [count + 1, bytes + more as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_back_are_beside_bytes_sent() {
        let random = stage::template(&["--random-suffix=victim.example"]).unwrap();
        let mut flood = Flood::new(10.0, 5, Some(random), 1).unwrap();
        assert_eq!(flood.due(Duration::from_secs(2)), 20);
        let mut message = [0; 512];
        let (length, side, source) = flood.ask(true, 7, &mut message);
        assert_eq!(side, Side::Flood);
        assert!(source < 7 && message[..length].windows(6).any(|bytes| bytes == b"victim"));
        message[3] = 3;
        flood.take(2 * (length + HEADERS), &message[..length]);
        let report = flood.json(2.0);
        assert_eq!(
            (report["bytes_out_over_in"].as_f64(), report["rcodes"]["3"].as_u64()),
            (Some(2.0), Some(1))
        );
    }
}
