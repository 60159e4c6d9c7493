//! Redis is kept in order by one appliance at a time: what has ended leaves the index, what nobody wants leaves Redis.

use super::{Fleet, PATIENCE, connection::Connection, index::CHUNK};
use redis::RedisResult;
use ringdns_api::RedisSweep;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// So many members are looked for in Redis by one sweep.
const LOOKED_FOR: usize = 10 * CHUNK;
/// Between two commands that may take Redis a while, others get their turn.
const BREATH: Duration = Duration::from_millis(5);
/// A sweep may take so much of the time until the next,
const SHARE: f64 = 0.6;
/// or so long: what is missing is looked for twice.
const LEAST: Duration = PATIENCE.saturating_mul(2);

impl Fleet {
    /// Sweeps, whenever it is this appliance's turn, until it is dropped.
    pub(super) async fn keep_house(&self) {
        loop {
            // Not the same for all, so that it is another's turn now and then.
            sleep(self.sweep_every.mul_f64(rand::random_range(0.75..=1.25))).await;
            let Some(connection) = self.connection() else { continue };
            let (began, mut sweep) = (Instant::now(), None);
            let until = began + self.turn();
            let sweeping = async {
                if self.is_my_turn(&connection).await? {
                    let sweep = sweep.insert(RedisSweep {
                        at: self.clock.unix(),
                        cut_short: 1,
                        ..RedisSweep::default()
                    });
                    self.sweep(&connection, until, sweep).await?;
                }
                RedisResult::Ok(())
            };
            match timeout_at(until, sweeping).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(redis = self.address, %error, "the fleet's tier was not swept to the end")
                }
                Err(_) => tracing::debug!(redis = self.address, "the fleet's tier takes long to be swept"),
            }
            if let Some(mut sweep) = sweep {
                sweep.took_ms = began.elapsed().as_millis() as u64;
                sweep.kept = self.keys.load(Relaxed);
                self.count(&sweep);
                self.history.lock().add(sweep);
            }
        }
    }

    fn count(&self, sweep: &RedisSweep) {
        let counters = &self.counters;
        counters.swept.inc();
        counters.swept_ended.add(sweep.ended);
        counters.swept_least.add(sweep.least);
        counters.swept_idle.add(sweep.idle);
        counters.swept_orphans.add(sweep.orphans);
    }

    /// Whether no other appliance sweeps, or has just done so: the lock is not given back, it runs out.
    async fn is_my_turn(&self, connection: &Connection) -> RedisResult<bool> {
        let mut command = redis::cmd("SET");
        let lasts = self.turn().as_millis() as u64;
        command.arg(self.common_name("sweeper")).arg(&self.id).arg("NX").arg("PX").arg(lasts);
        let taken: Option<String> = command.query_async(&mut connection.clone()).await?;
        Ok(taken.is_some())
    }

    fn turn(&self) -> Duration {
        self.sweep_every.mul_f64(SHARE).max(LEAST)
    }

    async fn sweep(
        &self,
        connection: &Connection,
        until: Instant,
        sweep: &mut RedisSweep,
    ) -> RedisResult<()> {
        loop {
            let trimmed = self.trim(connection).await?;
            sweep.ended += trimmed.ended as u64;
            sweep.least += trimmed.least as u64;
            sweep.idle += trimmed.idle as u64;
            if [trimmed.ended, trimmed.least, trimmed.idle].into_iter().all(|left| left < CHUNK) {
                break;
            }
            sleep(BREATH).await;
        }
        self.look_for_orphans(connection, until, sweep).await?;
        sweep.cut_short = 0;
        Ok(())
    }

    /// Takes out of the index what is not in Redis any more, as after an eviction or the loss of a node; from where the last sweep stopped.
    async fn look_for_orphans(
        &self,
        connection: &Connection,
        until: Instant,
        sweep: &mut RedisSweep,
    ) -> RedisResult<()> {
        let cursor = self.common_name("cursor");
        let mut reading = redis::cmd("GET");
        let read: Option<String> = reading.arg(&cursor).query_async(&mut connection.clone()).await?;
        // It is a score. Whatever else lies there is none.
        let mut after = read.filter(|at| at.parse::<f64>().is_ok()).unwrap_or("-inf".into());
        let mut missing = Vec::new();
        let began = Instant::now();
        for _ in 0..LOOKED_FOR / CHUNK {
            let members = self.members(connection, &after).await?;
            let whole = members.len() == CHUNK;
            sweep.seen += members.len() as u64;
            after = members.last().filter(|_| whole).map_or("-inf".into(), |(_, ends)| ends.clone());
            missing.append(&mut self.without_key(connection, members).await?);
            if !whole || Instant::now() >= until {
                break;
            }
            sleep(BREATH).await;
        }
        let mut writing = redis::cmd("SET");
        writing.arg(&cursor).arg(&after).arg("EX").arg(86_400);
        writing.exec_async(&mut connection.clone()).await?;
        if missing.is_empty() {
            return Ok(());
        }
        // What is in the index is about to be stored, perhaps. It takes no longer than this.
        sleep_until(began + PATIENCE).await;
        for members in missing.chunks(CHUNK) {
            let orphans = self.without_key(connection, members.to_vec()).await?;
            if !orphans.is_empty() {
                sweep.orphans += self.forget(connection, &orphans).await?;
            }
        }
        Ok(())
    }
}
