//! The index: which answers lie in Redis, when each ends, and how much it is wanted. It is what the number of keys is bounded by.
//!
//! Two sorted sets of the same members. In one an answer's score is when its key ends, in the other *when one question a fleet would be
//! all that is left of its demand*: demand halves every [`HALF_LIFE`], so `now + HALF_LIFE * log2(demand)` says all of it, and nothing has to pass
//! over the set to let it fade. The least is the least wanted, of those that were wanted once the one that was so longest ago.
//!
//! An answer is in the index before it is in Redis, so none lies there that the index does not know.

use super::{Fleet, connection::Connection, value};
use futures_util::future::join_all;
use redis::RedisResult;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

/// Demand halves in this time.
pub const HALF_LIFE: Duration = Duration::from_secs(900);
/// The sets end so long after they were last changed: longer than any answer in them can last.
const LASTS: Duration = Duration::from_secs(15 * 86_400);
/// So many members are looked at or removed by one command at most, so that nobody waits long for Redis.
pub const CHUNK: usize = 500;

/// Adds demand, and answers that are about to be stored; removes the least wanted where there are too many.
///
/// Arguments: half-life, most members, most to be removed, time of the sets; for each member itself, how long it lasts from
/// now, or -1 if it is not stored anew, and how often it was asked for.
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

/// Removes what has ended, then the least wanted where there are too many, then what nobody has wanted for long.
///
/// Arguments: most members, most to be removed of each kind, how long something may be unwanted.
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

/// Removes members that ended when it is said. Arguments: each, and when that is.
const FORGET: &str = r"
local gone = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('ZREM', KEYS[2], ARGV[i])
  end
end
return gone";

/// Demand for an answer, and perhaps the answer.
#[derive(Debug)]
pub struct Added {
    /// What names the question.
    pub member: String,
    /// How long it will lie in Redis, in seconds; `None`: it is not stored anew.
    pub lasts: Option<u64>,
    /// How often it was asked for.
    pub count: u32,
}

/// What came of adding.
#[derive(Debug, Default)]
pub struct Grown {
    /// How much each is wanted.
    pub wanted: Vec<u32>,
    /// Those that had to leave. Their keys are removed.
    pub least: Vec<String>,
}

/// How many have left.
#[derive(Debug, Default)]
pub struct Trimmed {
    /// Because their keys have ended,
    pub ended: usize,
    /// because others are wanted more,
    pub least: usize,
    /// because nobody has wanted them for long.
    pub idle: usize,
}

impl Fleet {
    /// The name of something that is about all keys. Those are in one slot of a cluster.
    pub(super) fn common_name(&self, what: &str) -> String {
        format!("{0}:{1}:{{{0}}}:{what}", self.prefix, value::VERSION)
    }

    fn script(&self, text: &str) -> redis::Cmd {
        // The text each time: who has been failed over to does not know it, and it is short beside what it comes with.
        let mut command = redis::cmd("EVAL");
        command.arg(text).arg(2).arg(self.common_name("ends")).arg(self.common_name("demand"));
        command
    }

    /// Adds to the index, and removes from Redis what has to leave for that.
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

    /// Removes what is to leave the index, and Redis; so many of each kind.
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

    /// Removes answers from Redis. Those for which that fails last until their end.
    async fn remove(&self, connection: &Connection, members: &[String]) {
        let removing = members.iter().map(|member| {
            let mut command = redis::cmd("UNLINK");
            command.arg(value::name_of(&self.prefix, member));
            let mut connection = connection.clone();
            async move { command.exec_async(&mut connection).await }
        });
        let failed = join_all(removing).await.into_iter().find_map(Result::err);
        if let Some(error) = failed {
            tracing::debug!(redis = self.address, %error, "answers that are to leave the fleet's tier last until their end");
        }
    }

    /// Members that end after `after`, in the order of their ends, and these as Redis writes them.
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

    /// Those of `members` that have no key.
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

    /// Takes members out of the index that end as it is said. How many that were.
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

    /// The members that are wanted most, the first of them first.
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
