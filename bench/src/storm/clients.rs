//! Clients with an ordinary load: most queries are for names that are cached.

use super::ends::Side;
use crate::{
    names::{Questions, SUFFIX},
    query::Template,
    question::{HEADER, QUESTION_MAX},
    stage, tally,
};
use anyhow::Result;
use hdrhistogram::Histogram;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use std::{collections::VecDeque, time::Duration};

/// Time within which an answer counts.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Load of the clients.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Queries a second.
    pub rate: f64,
    /// Share of names never asked before, from 0 to 1.
    pub misses: f64,
    /// Number of clients.
    pub count: u32,
}

/// Counts and latencies of a kind of query.
pub struct Class {
    sent: u64,
    right: u64,
    /// Answers with TC=1, which a client would ask for again over TCP.
    truncated: u64,
    /// Other answers: failures, and those without records.
    wrong: u64,
    /// Nanoseconds from when a query was due until its right answer was read.
    latency: Histogram<u64>,
}

impl Class {
    fn new() -> Result<Self> {
        Ok(Class { sent: 0, right: 0, truncated: 0, wrong: 0, latency: tally::histogram()? })
    }

    /// Returns the figures.
    pub fn json(&self) -> Value {
        let Class { sent, right, truncated, wrong, latency } = self;
        let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "sent": sent, "right": right, "truncated": truncated, "wrong": wrong,
            "answered_percent": 100.0 * *right as f64 / (*sent).max(1) as f64,
            "p50_us": micros(0.5), "p99_us": micros(0.99),
        })
    }
}

/// Query that waits for its answer.
struct Waiting {
    /// Number of the query.
    nth: u64,
    due: Duration,
    question: Box<[u8]>,
    is_miss: bool,
    /// Whether the query is part of the report.
    counted: bool,
    answered: bool,
}

/// All clients. Client and ID of a query follow from its number.
pub struct Clients {
    /// Queries for names asked again and again.
    pub hits: Class,
    /// Queries for names never asked before.
    pub misses: Class,
    load: Load,
    names: Questions,
    plain: Template,
    random: Vec<Template>,
    rng: SmallRng,
    next: u64,
    /// Queries not older than [`PATIENCE`], by number.
    waiting: VecDeque<Waiting>,
}

impl Clients {
    /// Returns clients that ask for `names` made-up names, and for random names of the templates.
    pub fn new(load: Load, names: u32, random: Vec<Template>, seed: u64) -> Result<Self> {
        Ok(Clients {
            hits: Class::new()?,
            misses: Class::new()?,
            load,
            names: Questions::made_up(names as usize, SUFFIX, 1)?,
            plain: stage::template(&[])?,
            random,
            rng: SmallRng::seed_from_u64(seed),
            next: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Returns the number of queries that are due.
    pub fn due(&self, until: Duration) -> u64 {
        ((until.as_secs_f64() * self.load.rate) as u64).saturating_sub(self.next)
    }

    /// Writes the next query. Returns its length and its client.
    pub fn ask(&mut self, counted: bool, message: &mut [u8]) -> (usize, Side, u32) {
        let nth = self.next;
        self.next += 1;
        let is_miss = !self.random.is_empty() && self.rng.random_bool(self.load.misses);
        let mut random = [0; QUESTION_MAX];
        let question = if is_miss {
            let template = &self.random[nth as usize % self.random.len()];
            let length = template.random_question(self.rng.random(), &mut random);
            &random[..length]
        } else {
            self.names.get(self.rng.random_range(0..self.names.len() as u32))
        };
        let (client, id) = ((nth % u64::from(self.load.count)) as u32, nth / u64::from(self.load.count));
        let length = self.plain.write(message, id as u16, question, 0);
        let due = Duration::from_secs_f64(nth as f64 / self.load.rate);
        let question = question.into();
        let class = if is_miss { &mut self.misses } else { &mut self.hits };
        class.sent += u64::from(counted);
        self.waiting.push_back(Waiting { nth, due, question, is_miss, counted, answered: false });
        (length, Side::Client(client), client)
    }

    /// Takes an answer to a client.
    pub fn take(&mut self, client: u32, message: &[u8], now: Duration) {
        let Some(header) = message.first_chunk::<HEADER>() else { return };
        let (id, count) = (u16::from_be_bytes([header[0], header[1]]), u64::from(self.load.count));
        let Some(first) = self.waiting.front().map(|waiting| waiting.nth) else { return };
        // The youngest query of this client and ID: IDs repeat after minutes.
        let period = count << 16;
        let base = u64::from(id) * count + u64::from(client);
        let nth = base + (self.next.saturating_sub(1).saturating_sub(base)) / period * period;
        let at = nth.checked_sub(first).map(|at| at as usize);
        let Some(waiting) = at.and_then(|at| self.waiting.get_mut(at)) else { return };
        let body = &message[HEADER..];
        if waiting.answered || !body.starts_with(&waiting.question) {
            return;
        }
        waiting.answered = true;
        if !waiting.counted {
            return;
        }
        let class = if waiting.is_miss { &mut self.misses } else { &mut self.hits };
        let (is_cut, rcode, records) =
            (header[2] & 2 != 0, header[3] & 15, u16::from_be_bytes([header[6], header[7]]));
        match (is_cut, rcode, records) {
            (true, ..) => class.truncated += 1,
            (false, 0, 1..) => {
                class.right += 1;
                let nanos = now.saturating_sub(waiting.due).as_nanos() as u64;
                class.latency.saturating_record(nanos.max(1));
            }
            _ => class.wrong += 1,
        }
    }

    /// Whether a query waits for its answer.
    pub fn waits(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.answered)
    }

    /// Forgets queries that have waited too long.
    pub fn expire(&mut self, now: Duration) {
        while self.waiting.front().is_some_and(|waiting| waiting.due + PATIENCE < now) {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        let random = vec![stage::template(&["--random-suffix=good.example"]).unwrap()];
        Clients::new(Load { rate: 1000.0, misses: 0.5, count: 3 }, 10, random, 1).unwrap()
    }

    #[test]
    fn answers_count_once_and_only_if_they_are_right() {
        let mut clients = clients();
        for nth in 0..20u32 {
            let mut message = [0; 512];
            let (length, side, number) = clients.ask(true, &mut message);
            assert_eq!((side, number), (Side::Client(nth % 3), nth % 3));
            let mut answer = message[..length].to_vec();
            (answer[2], answer[7]) = (0x81, 1);
            match nth {
                0..4 => answer[2] |= 2,
                4..8 => answer[3] = 2,
                8..10 => answer[13] ^= 1,
                _ => {}
            }
            for _ in 0..2 {
                clients.take(number, &answer, Duration::from_millis(30));
            }
        }
        let total = |of: fn(&Class) -> u64| of(&clients.hits) + of(&clients.misses);
        assert_eq!(total(|class| class.sent), 20);
        assert_eq!(
            [total(|class| class.truncated), total(|class| class.wrong), total(|class| class.right)],
            [4, 4, 10]
        );
        assert!(clients.hits.sent > 2 && clients.misses.sent > 2, "half are misses");
    }

    #[test]
    fn late_answers_do_not_count() {
        let mut clients = clients();
        let mut message = [0; 512];
        let (length, _, number) = clients.ask(true, &mut message);
        let mut answer = message[..length].to_vec();
        answer[7] = 1;
        clients.expire(Duration::from_secs(3));
        clients.take(number, &answer, Duration::from_secs(3));
        assert_eq!(clients.hits.right + clients.misses.right, 0);
    }

    #[test]
    fn queries_are_due_at_the_rate() {
        let mut clients = clients();
        assert_eq!(clients.due(Duration::from_millis(10)), 10);
        clients.ask(false, &mut [0; 512]);
        assert_eq!(clients.due(Duration::from_millis(10)), 9);
        assert_eq!(clients.hits.sent + clients.misses.sent, 0, "not counted");
    }
}
