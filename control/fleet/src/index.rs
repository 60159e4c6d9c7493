//! Index of the answers in Redis: when each expires, and its demand. It bounds the number of keys.
//!
//! The index is two sorted sets with the same members. In one, an answer's score is the time at
//! which its key expires; in the other, the time at which its demand will have decayed to 1. Demand
//! halves every [`HALF_LIFE`], so that time is `now + HALF_LIFE * log2(demand)`: one number holds
//! the whole demand, and no pass over the set is needed to let it decay. The member with the lowest
//! score has the least demand; among members asked for once, it is the one asked for longest ago.
//!
//! An answer enters the index before it enters Redis, so Redis holds no answer that the index
//! lacks.

use super::{Fleet, connection::Connection, value};
use futures_util::future::join_all;
use redis::RedisResult;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Time in which demand halves.
pub const HALF_LIFE: Duration = Duration::from_secs(900);
/// Time to live of the sets after the last change: longer than any answer in them can live.
const LASTS: Duration = Duration::from_secs(15 * 86_400);
/// Most members that one command visits or removes, so that it does not occupy Redis for long.
pub const CHUNK: usize = 500;

/// Script that adds demand, and answers that are about to be stored. If the index is too large, it
/// removes the members with the least demand.
///
/// Arguments: half-life, most members, most to be removed, time to live of the sets; then for each
/// member: the member, its lifetime from now, or -1 if it is not stored again, and the number of
/// questions for it.
const ADD: &str = r"
local t = redis.call('TIME')
local now, half = t[1] + t[2] / 1000000, tonumber(ARGV[1])
local wanted, least = {}, {}
for i = 5, #ARGV, 3 do
  local member, lasts, count = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local score = redis.call('ZSCORE', KEYS[2], member)
  if score then count = math.min(count + 2 ^ ((score - now) / half), 1000000000) end
  if score or lasts >= 0 then
    redis.call('ZADD', KEYS[2], now + half * math.log(count) / math.log(2), member)
  end
  if lasts >= 0 then redis.call('ZADD', KEYS[1], now + lasts, member) end
  wanted[#wanted + 1] = math.floor(count + 0.5)
end
local over = redis.call('ZCARD', KEYS[2]) - ARGV[2]
if over > 0 then
  local popped = redis.call('ZPOPMIN', KEYS[2], math.min(over, ARGV[3]))
  for i = 1, #popped, 2 do
    least[#least + 1] = popped[i]
    redis.call('ZREM', KEYS[1], popped[i])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {redis.call('ZCARD', KEYS[2]), wanted, least}";

/// Script that removes expired members, then those with the least demand if the index is too large,
/// then those without demand for a long time.
///
/// Arguments: most members, most to be removed of each kind, time that a member may go without
/// demand.
const TRIM: &str = r"
local t = redis.call('TIME')
local now, most = t[1] + t[2] / 1000000, tonumber(ARGV[2])
local function leave(members)
  if #members > 0 then
    redis.call('ZREM', KEYS[1], unpack(members))
    redis.call('ZREM', KEYS[2], unpack(members))
  end
  return members
end
local ended = leave(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, most))
local over = math.min(redis.call('ZCARD', KEYS[2]) - ARGV[1], most)
local least = over > 0 and leave(redis.call('ZRANGE', KEYS[2], 0, over - 1)) or {}
local idle = leave(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, most))
return {redis.call('ZCARD', KEYS[2]), #ended, least, idle}";

/// Script that removes members if they still expire at the given time. Arguments: each member and
/// its time of expiry.
const FORGET: &str = r"
local gone = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
return gone";

/// Demand to add for an answer that may be about to be stored.
#[derive(Debug)]
pub struct Added {
    /// Member that names the question.
    pub member: String,
    /// Time that the answer will stay in Redis, in seconds; `None`: it is not stored again.
    pub lasts: Option<u64>,
    /// Number of questions for it.
    pub count: u32,
}

/// Result of adding to the index.
#[derive(Debug, Default)]
pub struct Grown {
    /// Demand for each added member.
    pub wanted: Vec<u32>,
    /// Members removed from the full index. Their keys are removed too.
    pub least: Vec<String>,
}

/// Numbers of members that a trim removed.
#[derive(Debug, Default)]
pub struct Trimmed {
    /// Members whose keys have expired.
    pub ended: usize,
    /// Members with the least demand in a full index.
    pub least: usize,
    /// Members without demand for a long time.
    pub idle: usize,
}

impl Fleet {
    /// Returns the name of a key that concerns all answers. These keys share one slot of a cluster.
    pub(super) fn common_name(&self, what: &str) -> String {
        format!("{0}:{1}:{{{0}}}:{what}", self.prefix, value::VERSION)
    }

    fn script(&self, text: &str) -> redis::Cmd {
        // EVAL, not EVALSHA: after a failover the new master lacks the script, and the text is
        // short compared to its arguments.
        let mut command = redis::cmd("EVAL");
        command.arg(text).arg(2).arg(self.common_name("ends")).arg(self.common_name("demand"));
        command
    }

    /// Adds to the index, and removes from Redis the answers that had to leave it.
    pub(super) async fn grow(&self, connection: &Connection, added: &[Added]) -> RedisResult<Grown> {
        let mut command = self.script(ADD);
        command.arg(HALF_LIFE.as_secs()).arg(self.max_keys).arg(2 * CHUNK).arg(LASTS.as_secs());
        for Added { member, lasts, count } in added {
            command.arg(member).arg(lasts.map_or(-1, u64::cast_signed)).arg(count);
        }
        let (keys, wanted, least) = command.query_async(&mut connection.clone()).await?;
        self.keys.store(keys, Relaxed);
        let grown = Grown { wanted, least };
        self.counters.evicted.add(grown.least.len() as u64);
        self.remove(connection, &grown.least).await;
        Ok(grown)
    }

    /// Removes expired, excess and idle answers from the index and from Redis, at most [`CHUNK`] of
    /// each kind.
    pub(super) async fn trim(&self, connection: &Connection) -> RedisResult<Trimmed> {
        let mut command = self.script(TRIM);
        command.arg(self.max_keys).arg(CHUNK).arg(self.idle.as_secs());
        type Left = (u64, usize, Vec<String>, Vec<String>);
        let (keys, ended, least, idle): Left = command.query_async(&mut connection.clone()).await?;
        self.keys.store(keys, Relaxed);
        self.remove(connection, &least).await;
        self.remove(connection, &idle).await;
        Ok(Trimmed { ended, least: least.len(), idle: idle.len() })
    }

    /// Removes answers from Redis. If that fails for one, it stays until it expires.
    async fn remove(&self, connection: &Connection, members: &[String]) {
        let removing = members.iter().map(|member| {
            let mut command = redis::cmd("UNLINK");
            command.arg(value::name_of(&self.prefix, member));
            let mut connection = connection.clone();
            async move { command.exec_async(&mut connection).await }
        });
        let failed = join_all(removing).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            tracing::debug!(redis = self.address, %error, "cannot remove answers from Redis; they stay until they expire");
        }
    }

    /// Returns members that expire after `after`, in order of expiry, each with its score as Redis
    /// writes it.
    pub(super) async fn members(
        &self,
        connection: &Connection,
        after: &str,
    ) -> RedisResult<Vec<(String, String)>> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(self.common_name("ends")).arg(format!("({after}")).arg("+inf");
        command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(CHUNK);
        command.query_async(&mut connection.clone()).await
    }

    /// Returns the members that have no key in Redis.
    pub(super) async fn without_key(
        &self,
        connection: &Connection,
        members: Vec<(String, String)>,
    ) -> RedisResult<Vec<(String, String)>> {
        let looking = members.into_iter().map(|member| {
            let mut command = redis::cmd("EXISTS");
            command.arg(value::name_of(&self.prefix, &member.0));
            let mut connection = connection.clone();
            async move {
                let there: bool = command.query_async(&mut connection).await?;
                Ok((!there).then_some(member))
            }
        });
        join_all(looking).await.into_iter().filter_map(Result::transpose).collect()
    }

    /// Removes members from the index if their time of expiry is unchanged. Returns the number
    /// removed.
    pub(super) async fn forget(
        &self,
        connection: &Connection,
        members: &[(String, String)],
    ) -> RedisResult<u64> {
        let mut command = self.script(FORGET);
        for (member, ends) in members {
            command.arg(member).arg(ends);
        }
        command.query_async(&mut connection.clone()).await
    }

    /// Returns the members with the most demand, in descending order.
    pub(super) async fn most_wanted_members(
        &self,
        connection: &Connection,
        most: usize,
    ) -> RedisResult<Vec<String>> {
        let mut command = redis::cmd("ZREVRANGE");
        command.arg(self.common_name("demand")).arg(0).arg(most.saturating_sub(1));
        command.query_async(&mut connection.clone()).await
    }
}
