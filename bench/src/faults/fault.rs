//! Faults: how each begins, continues and ends.

use super::scene::{Scene, Stage, Tier};
use anyhow::{Context, Result, bail};
use ringdns_testkit::Redis;
use rustix::process::Signal;
use std::{fs, io::Write, thread, time::Duration};

/// Fault in a service that an appliance depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    RedisKilled,
    RedisHung,
    RedisSlow,
    RedisFlushed,
    RedisFull,
    RedisReadOnly,
    RedisFailedOver,
    ClusterFailedOver,
    ClusterMasterHung,
    LogKilled,
    LogHung,
    LogRefusing,
    LogFull,
    LogSchema,
}

use Fault::*;

impl Fault {
    /// All faults, in the order in which they happen.
    pub const ALL: [Fault; 14] = [
        RedisKilled,
        RedisHung,
        RedisSlow,
        RedisFlushed,
        RedisFull,
        RedisReadOnly,
        LogKilled,
        LogHung,
        LogRefusing,
        LogFull,
        LogSchema,
        RedisFailedOver,
        ClusterFailedOver,
        ClusterMasterHung,
    ];

    /// Returns the name by which `--only` chooses the fault.
    pub fn name(&self) -> &'static str {
        match self {
            RedisKilled => "redis-killed",
            RedisHung => "redis-hung",
            RedisSlow => "redis-slow",
            RedisFlushed => "redis-flushed",
            RedisFull => "redis-full",
            RedisReadOnly => "redis-read-only",
            RedisFailedOver => "sentinel-failover",
            ClusterFailedOver => "cluster-failover",
            ClusterMasterHung => "cluster-master-hung",
            LogKilled => "clickhouse-killed",
            LogHung => "clickhouse-hung",
            LogRefusing => "clickhouse-refusing",
            LogFull => "clickhouse-full",
            LogSchema => "clickhouse-schema",
        }
    }

    /// Describes the fault in words.
    pub fn what(self) -> &'static str {
        match self {
            RedisKilled => "Redis is killed, and started again",
            RedisHung => "Redis is stopped (SIGSTOP), and continued",
            RedisSlow => "Redis is stopped for 20 of each 30 ms",
            RedisFlushed => "FLUSHALL ten times a second",
            RedisFull => "Redis has no memory for writes",
            RedisReadOnly => "Redis becomes a replica of a master that does not exist",
            RedisFailedOver => {
                "the master is killed, Sentinels make the replica master, the old one comes back as its replica"
            }
            ClusterFailedOver => "one of three masters is killed, and its replica takes its place",
            ClusterMasterHung => "one of three masters, which has no replica, is stopped",
            LogKilled => "ClickHouse is killed, and started again",
            LogHung => "ClickHouse is stopped (SIGSTOP), and continued",
            LogRefusing => "ClickHouse refuses the password",
            LogFull => "ClickHouse's disk is full",
            LogSchema => "a column of the table changes its type, and is then dropped",
        }
    }

    /// Returns the scene of the fault.
    pub fn scene(self) -> Scene {
        match self {
            RedisFailedOver => Scene::Sentinels,
            ClusterFailedOver | ClusterMasterHung => Scene::Cluster,
            _ => Scene::Single,
        }
    }

    /// Whether the fault is part of the short form.
    pub fn is_quick(&self) -> bool {
        matches!(self, RedisKilled | RedisHung | LogKilled | LogHung)
    }

    /// Begins the fault.
    pub fn strike(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            RedisKilled => {
                let Tier::One(redis, folder) = &mut stage.tier else {
                    bail!("this scene has no single Redis")
                };
                *folder = redis.take().map(Redis::kill9);
            }
            RedisHung => stage.redis()?.process().freeze(),
            RedisSlow | RedisFlushed => {}
            RedisFull => drop(stage.redis()?.cli(&["CONFIG", "SET", "maxmemory", "1"])),
            RedisReadOnly => drop(stage.redis()?.cli(&["REPLICAOF", "127.0.0.1", "1"])),
            RedisFailedOver => {
                let Tier::Sentinels(sentinels) = &mut stage.tier else {
                    bail!("this scene has no Sentinels")
                };
                sentinels.kill9(sentinels.master());
            }
            ClusterFailedOver => stage.cluster()?.kill9(0),
            ClusterMasterHung => stage.cluster()?.process(1).freeze(),
            LogKilled => stage.clickhouse()?.kill9(),
            LogHung => stage.clickhouse()?.process().freeze(),
            LogRefusing => {
                let users = stage.users()?;
                let text = fs::read_to_string(&users)?;
                fs::write(&users, text.replace("<password>", "<password>not "))?;
            }
            LogFull => {
                let filler = stage.filler()?;
                let mut file = fs::File::create(&filler).context("cannot fill the disk")?;
                // Writes until the disk is full.
                while file.write_all(&[0; 1 << 16]).is_ok() {}
            }
            LogSchema => {
                let clickhouse = stage.clickhouse()?;
                clickhouse.query("ALTER TABLE ringdns.queries DROP COLUMN upstream_us");
                clickhouse.query("ALTER TABLE ringdns.queries ADD COLUMN upstream_us String");
            }
        }
        Ok(())
    }

    /// Repeats what the fault does again and again while it lasts.
    pub fn keep_on(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            RedisSlow => {
                let process = stage.redis()?.process();
                process.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(20));
                process.signal(Signal::CONT);
                thread::sleep(Duration::from_millis(5));
            }
            RedisFlushed => {
                stage.redis()?.cli(&["FLUSHALL"]);
                thread::sleep(Duration::from_millis(90));
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the fault.
    pub fn mend(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            RedisKilled => {
                let Tier::One(redis, folder) = &mut stage.tier else {
                    bail!("this scene has no single Redis")
                };
                *redis = folder.take().map(Redis::start_in);
                stage.prefer();
            }
            RedisHung => stage.redis()?.process().signal(Signal::CONT),
            RedisSlow | RedisFlushed | ClusterFailedOver => {}
            RedisFull => drop(stage.redis()?.cli(&["CONFIG", "SET", "maxmemory", "0"])),
            RedisReadOnly => drop(stage.redis()?.cli(&["REPLICAOF", "NO", "ONE"])),
            RedisFailedOver => {
                let Tier::Sentinels(sentinels) = &mut stage.tier else {
                    bail!("this scene has no Sentinels")
                };
                sentinels.start_killed_again();
            }
            ClusterMasterHung => stage.cluster()?.process(1).signal(Signal::CONT),
            LogKilled => stage.clickhouse()?.start_again(),
            LogHung => stage.clickhouse()?.process().signal(Signal::CONT),
            LogRefusing => {
                let users = stage.users()?;
                let text = fs::read_to_string(&users)?;
                fs::write(&users, text.replace("<password>not ", "<password>"))?;
            }
            LogFull => fs::remove_file(stage.filler()?)?,
            LogSchema => {
                stage.clickhouse()?.query("ALTER TABLE ringdns.queries DROP COLUMN upstream_us");
            }
        }
        Ok(())
    }
}
