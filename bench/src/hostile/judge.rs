//! Client whose queries are judged: distinct names at a steady rate.

use super::site::{JUDGE, Judgement, Site};
use crate::{lab::SERVER, question::wire_question};
use anyhow::{Context, Result};
use hickory_proto::rr::RecordType;
use ringdns_testkit::Query;
use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

/// Time within which an answer counts. Stub resolvers give up after 5 s, and people before that.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Names to ask, and their rate.
#[derive(Clone, Copy, Debug)]
pub struct Questioning {
    /// Zone of the names.
    pub zone: &'static str,
    /// Number of names.
    pub names: u16,
    /// Queries a second.
    pub rate: f64,
}

impl Questioning {
    /// Asks for names that no other call asks for, and returns the outcome of each.
    ///
    /// Returns early if all queries have an outcome.
    pub fn run(&self, site: &Site<'_>) -> Result<Vec<Judgement>> {
        let socket = site.clients().enter(|| UdpSocket::bind((JUDGE, 0)).context("cannot open a socket"))?;
        socket.connect(SERVER).context("cannot reach the server")?;
        let run: u32 = rand::random();
        let names: Vec<String> =
            (0..self.names).map(|nth| format!("j{run:08x}-{nth}.{}", self.zone)).collect();
        let questions: Vec<Vec<u8>> =
            names.iter().map(|name| wire_question(name, RecordType::A.into())).collect::<Result<_>>()?;
        let mut outcomes: Vec<Option<Judgement>> = vec![None; names.len()];
        let mut sent: Vec<Instant> = Vec::with_capacity(names.len());
        let begin = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            let now = Instant::now();
            let due = |nth: usize| begin + Duration::from_secs_f64(nth as f64 / self.rate);
            if sent.len() < names.len() && due(sent.len()) <= now {
                let nth = sent.len();
                // A failure to send is a query without an answer.
                let _ = socket.send(&Query::a(&names[nth]).id(nth as u16).edns(1232).wire());
                sent.push(Instant::now());
                continue;
            }
            let next = if sent.len() < names.len() {
                due(sent.len())
            } else if outcomes.iter().all(Option::is_some) {
                break;
            } else {
                sent.last().map_or(now, |last| *last + PATIENCE)
            };
            if next <= now {
                break;
            }
            socket.set_read_timeout(Some((next - now).max(Duration::from_micros(100))))?;
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            let Some([high, low]) = buffer[..length].first_chunk::<2>() else { continue };
            let nth = usize::from(u16::from_be_bytes([*high, *low]));
            if nth < sent.len() && outcomes[nth].is_none() && sent[nth].elapsed() <= PATIENCE {
                outcomes[nth] = Judgement::of(&buffer[..length], &questions[nth]);
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(Judgement::Unanswered)).collect())
    }
}
