//! Sweeps of Redis, by one appliance at a time: expired answers leave the index, and answers
//! without demand leave Redis.

use super::{Fleet, PATIENCE, connection::Connection, index::CHUNK};
use redis::RedisResult;
use ringdns_api::RedisSweep;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Most members that one sweep looks up in Redis.
const LOOKED_FOR: usize = 10 * CHUNK;
/// Pause between two long commands, so that Redis serves others meanwhile.
const BREATH: Duration = Duration::from_millis(5);
/// Share of the interval between sweeps that one may take.
const SHARE: f64 = 0.6;
/// Least time that a sweep may take: missing keys are looked up twice, [`PATIENCE`] apart.
const LEAST: Duration = PATIENCE.saturating_mul(2);

impl Fleet {
    /// Sweeps whenever it is this appliance's turn, until dropped.
    pub(super) async fn keep_house(&self) {
        loop {
            // Random, so that appliances take turns.
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
                    tracing::debug!(redis = self.address, %error, "a sweep of Redis ended early")
                }
                Err(_) => tracing::debug!(redis = self.address, "a sweep of Redis ran out of time"),
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

    /// Tries to take the lock of the sweeper. Returns false if another appliance is sweeping or has
    /// just swept: the lock is not released, it expires.
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

    /// Removes answers from the index that are no longer in Redis, as after an eviction or the loss
    /// of a node. Continues where the last sweep stopped.
    async fn look_for_orphans(
        &self,
        connection: &Connection,
        until: Instant,
        sweep: &mut RedisSweep,
    ) -> RedisResult<()> {
        let cursor = self.common_name("cursor");
        let mut reading = redis::cmd("GET");
        let read: Option<String> = reading.arg(&cursor).query_async(&mut connection.clone()).await?;
        // The cursor is a score; anything else is ignored.
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
        // An answer enters the index first: it may be about to be stored, which takes no longer
        // than this.
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
