//! The way of new answers into Redis: out of a queue, as many at a time as have come meanwhile, beside everything else.

use super::{
    Fleet, Kin, PATIENCE,
    purges::Number,
    value::{self, Value},
};
use crate::host::{HostTier, StoredKey};
use futures_util::future::join_all;
use ringdns_dataplane::dns::answer::Answer;
use std::sync::Arc;
use tokio::{sync::mpsc, time::timeout};

/// Answers in one batch. None is longer than 64 KiB.
const BATCH: usize = 64;

/// An answer that is to be stored.
pub struct Write {
    pub key: StoredKey,
    pub answer: Arc<Answer>,
    /// The newest purge that was known when it came,
    pub known: Number,
    /// and the host tier's generation.
    pub generation: u64,
    /// What is known of it in the fleet. The lease is given back when this has been written, or will not be.
    pub kin: Kin,
}

impl Fleet {
    /// Stores what comes out of the queue.
    pub(super) async fn write(&self, host: &HostTier, mut queue: mpsc::Receiver<Write>) {
        let mut refused_before = false;
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            self.write_batch(&mut batch, host, &mut refused_before).await;
            batch.clear();
        }
    }

    async fn write_batch(&self, batch: &mut Vec<Write>, host: &HostTier, refused_before: &mut bool) {
        let counters = &self.counters;
        let Some(connection) = self.connection() else {
            return counters.store_skipped.add(batch.len() as u64);
        };
        let now = self.clock.secs();
        let before = batch.len();
        batch.retain(|write| write.generation == host.generation() && now < write.answer.expires());
        counters.store_outdated.add((before - batch.len()) as u64);
        if batch.is_empty() {
            return;
        }
        // Not as one command: they may be of several nodes. They go out together all the same.
        let writing = join_all(batch.iter().map(|Write { key, answer, known, kin, .. }| {
            let asked = key.asked();
            let name = value::name(&self.prefix, asked);
            let age = now.saturating_sub(answer.received);
            let received = self.clock.unix().saturating_sub(u64::from(age));
            let value = Value::new(asked, answer, received, kin.first_seen, *known);
            let left = value.lifetime() - u64::from(age);
            let mut command = redis::cmd("SET");
            command.arg(&name).arg(value.bytes(&name)).arg("EX").arg(left);
            let mut connection = connection.clone();
            async move { command.exec_async(&mut connection).await }
        }));
        let Ok(results) = timeout(PATIENCE, writing).await else {
            // The keeper will find out what is wrong.
            return counters.store_failed.add(batch.len() as u64);
        };
        let stored = results.iter().filter(|result| result.is_ok()).count();
        counters.stored.add(stored as u64);
        counters.store_failed.add((results.len() - stored) as u64);
        let refused = results.into_iter().find_map(Result::err);
        // Once, and not for each: where there is no memory left, that may go on for days.
        let before = std::mem::replace(refused_before, refused.is_some());
        if let Some(error) = refused.filter(|_| !before) {
            tracing::warn!(redis = self.address, %error, "answers cannot be stored for the fleet");
        }
    }
}
