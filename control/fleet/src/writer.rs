//! Writer of new answers to Redis: takes them from a queue in batches, in the background.

use super::{
    Fleet, PATIENCE, SharedState,
    connection::Connection,
    index::{Added, Grown},
    purges::Number,
    value::{self, StoredValue},
};
use futures_util::future::join_all;
use redis::{RedisError, RedisResult};
use ringdns_dataplane::{clock::Secs, dns::answer::Answer};
use ringdns_resolver::host::{HostTier, StoredKey};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Most answers in one batch. None is longer than 64 KiB.
const BATCH: usize = 64;

/// Most seconds that an answer that is not in the index stays in Redis.
const UNINDEXED: u64 = 600;

/// Least time between two log lines that answers cannot be stored.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Answer to be stored.
pub struct Write {
    pub key: StoredKey,
    pub answer: Arc<Answer>,
    /// Newest purge that was known when the answer came.
    pub known: Number,
    /// Generation of the host tier when the answer came.
    pub generation: u64,
    /// State of the answer in the fleet. Its lease is released once the answer has been written or
    /// dropped.
    pub state: SharedState,
}

impl Fleet {
    /// Stores answers from the queue until it is closed.
    pub(super) async fn write(&self, host: &HostTier, mut queue: mpsc::Receiver<Write>) {
        let mut told = None;
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            self.write_batch(&mut batch, host, &mut told).await;
            batch.clear();
        }
    }

    async fn write_batch(&self, batch: &mut Vec<Write>, host: &HostTier, told: &mut Option<Instant>) {
        let counters = &self.counters;
        let Some(connection) = self.connection() else {
            return counters.store_skipped.add(batch.len() as u64);
        };
        let now = self.clock.secs();
        let before = batch.len();
        let generations = host.generations();
        batch.retain(|write| {
            now < write.answer.expires() && !generations.is_source_void(write.key.asked(), write.generation)
        });
        counters.store_outdated.add((before - batch.len()) as u64);
        if batch.is_empty() {
            return;
        }
        let result = match timeout(PATIENCE, self.store_batch(&connection, batch, now)).await {
            Ok(result) => result,
            // The keeper finds out what is wrong.
            Err(_) => return counters.store_failed.add(batch.len() as u64),
        };
        let refused = result.unwrap_or_else(|error| {
            counters.store_failed.add(batch.len() as u64);
            Some(error)
        });
        // Not for each batch: if Redis is out of memory or a part of a cluster is down, this may
        // last for days.
        let now = Instant::now();
        if let Some(error) = refused.filter(|_| told.is_none_or(|at| now - at >= TELL_EVERY)) {
            *told = Some(now);
            tracing::warn!(redis = self.address, %error, "cannot store answers in Redis; check its memory limit and its nodes");
        }
    }

    /// Adds answers to the index, then stores those that stay in it. Returns the first error of a
    /// single answer.
    async fn store_batch(
        &self,
        connection: &Connection,
        batch: &[Write],
        now: Secs,
    ) -> RedisResult<Option<RedisError>> {
        let lasts = |answer: &Answer| u64::from(answer.dead().saturating_sub(now));
        let added: Vec<_> = batch
            .iter()
            .map(|Write { key, answer, .. }| Added {
                member: value::member(key.asked()),
                lasts: Some(lasts(answer)),
                count: 1,
            })
            .collect();
        let grown = self.enter(connection, &added).await?;
        // A short lifetime bounds the number of answers that are not in the index.
        let bound = if grown.is_none() { UNINDEXED } else { u64::MAX };
        let grown = grown.unwrap_or_else(|| {
            self.counters.store_unindexed.add(added.len() as u64);
            Grown { wanted: vec![1; added.len()], ..Grown::default() }
        });
        let least: HashSet<_> = grown.least.iter().collect();
        let staying = batch
            .iter()
            .zip(&added)
            .zip(grown.wanted)
            .filter(|((_, added), _)| !least.contains(&added.member));
        // Some masters of a cluster may be down.
        let (there, gone): (Vec<_>, Vec<_>) = staying
            .map(|((write, added), hits)| (write, value::name_of(&self.prefix, &added.member), hits))
            .partition(|(_, name, _)| connection.has(name));
        // One command each, since the keys may belong to several nodes; they are sent together all
        // the same.
        let results =
            join_all(there.into_iter().map(|(Write { key, answer, known, state, .. }, name, hits)| {
                let age = now.saturating_sub(answer.received);
                let received = self.clock.unix().saturating_sub(u64::from(age));
                let value = StoredValue::new(key.asked(), answer, received, state.first_seen, *known);
                let value = StoredValue { hits, ..value }.bounded(bound.saturating_add(age.into()));
                let mut command = redis::cmd("SET");
                command.arg(&name).arg(value.bytes(&name)).arg("EX").arg(lasts(answer).min(bound));
                let mut connection = connection.clone();
                async move { command.exec_async(&mut connection).await }
            }))
            .await;
        let counters = &self.counters;
        let stored = results.iter().filter(|result| result.is_ok()).count();
        counters.stored.add(stored as u64);
        counters.store_failed.add((results.len() - stored) as u64);
        counters.store_skipped.add(gone.len() as u64);
        counters.store_unwanted.add((batch.len() - results.len() - gone.len()) as u64);
        Ok(results.into_iter().find_map(Result::err))
    }

    /// Adds answers to the index. `None`: in a cluster, the master that has the index is down; the
    /// others can store without it.
    async fn enter(&self, connection: &Connection, added: &[Added]) -> RedisResult<Option<Grown>> {
        if connection.is_well().is_none() {
            return self.grow(connection, added).await.map(Some);
        }
        if !connection.has(&self.common_name("ends")) {
            return Ok(None);
        }
        // The rest of the time is for the stores that follow.
        let grown = timeout(PATIENCE / 4, self.grow(connection, added)).await;
        Ok(grown.ok().and_then(Result::ok))
    }
}
