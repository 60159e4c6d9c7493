//! Faults: how each begins, continues and ends.

use super::scene::{Scene, Stage, Tier};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use ringdns_testkit::Redis;
use rustix::process::Signal;
use std::{fs, io::Write, thread, time::Duration};

/// Fault in a service that an appliance depends on, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Redis is killed, and started again.
    RedisKilled,
    /// Redis is stopped (SIGSTOP), and continued.
    RedisHung,
    /// Redis is stopped for 20 of each 30 ms.
    RedisSlow,
    /// FLUSHALL ten times a second.
    RedisFlushed,
    /// Redis has no memory for writes.
    RedisFull,
    /// Redis becomes a replica of a master that does not exist.
    RedisReadOnly,
    /// ClickHouse is killed, and started again.
    ClickhouseKilled,
    /// ClickHouse is stopped (SIGSTOP), and continued.
    ClickhouseHung,
    /// ClickHouse refuses the password.
    ClickhouseRefusing,
    /// ClickHouse's disk is full.
    ClickhouseFull,
    /// A column of the table changes its type, and is then dropped.
    ClickhouseSchema,
    /// The master is killed, Sentinels make the replica master, the old one comes back as its replica.
    SentinelFailover,
    /// One of three masters is killed, and its replica takes its place.
    ClusterFailover,
    /// One of three masters, which has no replica, is stopped.
    ClusterMasterHung,
}

use Fault::*;

impl Fault {
    /// Returns the name by which `--only` chooses the fault, and its description.
    pub fn told(self) -> (String, String) {
        let value = self.to_possible_value();
        let name = value.as_ref().map_or_else(String::new, |value| value.get_name().into());
        let help = value.as_ref().and_then(|value| value.get_help());
        (name, help.map_or_else(String::new, ToString::to_string))
    }

    /// Returns the scene of the fault.
    pub fn scene(self) -> Scene {
        match self {
            SentinelFailover => Scene::Sentinels,
            ClusterFailover | ClusterMasterHung => Scene::Cluster,
            _ => Scene::Single,
        }
    }

    /// Whether the fault is part of the short form.
    pub fn is_quick(self) -> bool {
        matches!(self, RedisKilled | RedisHung | ClickhouseKilled | ClickhouseHung)
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
            SentinelFailover => {
                let Tier::Sentinels(sentinels) = &mut stage.tier else {
                    bail!("this scene has no Sentinels")
                };
                sentinels.kill9(sentinels.master());
            }
            ClusterFailover => stage.cluster()?.kill9(0),
            ClusterMasterHung => stage.cluster()?.process(1).freeze(),
            ClickhouseKilled => stage.clickhouse()?.kill9(),
            ClickhouseHung => stage.clickhouse()?.process().freeze(),
            ClickhouseRefusing => {
                let users = stage.users()?;
                let text = fs::read_to_string(&users)?;
                fs::write(&users, text.replace("<password>", "<password>not "))?;
            }
            ClickhouseFull => {
                let filler = stage.filler()?;
                let mut file = fs::File::create(&filler).context("cannot fill the disk")?;
                // Writes until the disk is full.
                while file.write_all(&[0; 1 << 16]).is_ok() {}
            }
            ClickhouseSchema => {
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
            RedisSlow | RedisFlushed | ClusterFailover => {}
            RedisFull => drop(stage.redis()?.cli(&["CONFIG", "SET", "maxmemory", "0"])),
            RedisReadOnly => drop(stage.redis()?.cli(&["REPLICAOF", "NO", "ONE"])),
            SentinelFailover => {
                let Tier::Sentinels(sentinels) = &mut stage.tier else {
                    bail!("this scene has no Sentinels")
                };
                sentinels.start_killed_again();
            }
            ClusterMasterHung => stage.cluster()?.process(1).signal(Signal::CONT),
            ClickhouseKilled => stage.clickhouse()?.start_again(),
            ClickhouseHung => stage.clickhouse()?.process().signal(Signal::CONT),
            ClickhouseRefusing => {
                let users = stage.users()?;
                let text = fs::read_to_string(&users)?;
                fs::write(&users, text.replace("<password>not ", "<password>"))?;
            }
            ClickhouseFull => fs::remove_file(stage.filler()?)?,
            ClickhouseSchema => {
                stage.clickhouse()?.query("ALTER TABLE ringdns.queries DROP COLUMN upstream_us");
            }
        }
        Ok(())
    }
}
