//! Services that an appliance depends on: an upstream, Redis in one of three setups, ClickHouse.

use super::{Args, load::RANDOM_SUFFIX};
use crate::{
    compare::{
        GENERATOR_CORE, SERVER_CORE,
        server::{Programs, UPSTREAM},
    },
    lab::on_core,
    priority,
};
use anyhow::{Context, Result, bail, ensure};
use ringdns_testkit::{ClickHouse, Host, Lab, Process, Redis, RedisCluster, Sentinels, sums};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Time within which a service must start, or be restored.
const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "faults";
/// Mount option for the size of ClickHouse's disk.
const DISK: &str = "size=256m";

/// Setup of Redis, and whether there is ClickHouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scene {
    /// One Redis, and ClickHouse.
    Single,
    /// A master, its replica, and Sentinels.
    Sentinels,
    /// Three masters, and one replica.
    Cluster,
}

impl Scene {
    /// All scenes, in order.
    pub const ALL: [Scene; 3] = [Scene::Single, Scene::Sentinels, Scene::Cluster];
}

/// Redis servers of a scene.
pub enum Tier {
    /// Single Redis, `None` while it is killed; the folder is then kept here.
    One(Option<Redis>, Option<TempDir>),
    Sentinels(Sentinels),
    Cluster(RedisCluster),
}

/// ClickHouse, on a disk of its own.
struct Store {
    server: ClickHouse,
    disk: PathBuf,
}

impl Store {
    fn start(host: &Host) -> Result<Self> {
        let mut server = ClickHouse::start(host, PASSWORD);
        server.kill9();
        let folder = folder_of(&server)?.join("data");
        fs::remove_dir_all(&folder)?;
        fs::create_dir(&folder)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "none"]).arg(&folder);
        ensure!(
            mount.status().is_ok_and(|status| status.success()),
            "cannot mount a small disk: is this root?"
        );
        let mut store = Store { server, disk: folder };
        store.server.start_again();
        Ok(store)
    }
}

fn folder_of(server: &ClickHouse) -> Result<PathBuf> {
    Ok(server.password_file().parent().context("ClickHouse has no folder")?.into())
}

impl Drop for Store {
    fn drop(&mut self) {
        self.server.kill9();
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.disk).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.disk.display());
        }
    }
}

/// Appliance, and the services that it depends on.
pub struct Stage<'l> {
    pub lab: &'l Lab,
    pub programs: Programs,
    pub tier: Tier,
    scene: Scene,
    ringdnsd: Process,
    upstream: Process,
    store: Option<Store>,
    folder: TempDir,
    /// Seed of the next load: no two loads may ask the same random names.
    seed: u64,
}

/// Final counters of an appliance.
#[derive(Debug, Serialize)]
pub struct Sums {
    pub scene: Scene,
    pub total: Value,
    pub fleet: Value,
    pub query_log: Value,
    /// Number of rows in ClickHouse.
    pub rows: Option<u64>,
}

impl<'l> Stage<'l> {
    /// Starts all services, and waits until the appliance is connected to them.
    pub fn set(scene: Scene, lab: &'l Lab, args: &Args) -> Result<Self> {
        let programs = Programs::find(args.ringdnsd.clone())?;
        let host = lab.server();
        let mut command = command(host, GENERATOR_CORE, 0, &programs.ringbench);
        command.args(["upstream", "--ttl=86400", "--negative-ttl=86400", "--nxdomain-suffix", RANDOM_SUFFIX]);
        command.args(["--listen", &UPSTREAM.to_string()]);
        let upstream = Process::spawn("ringbench upstream", command);
        upstream.wait_for_line("serving", PATIENCE);
        let (tier, redis) = match scene {
            Scene::Single => {
                let redis = Redis::start();
                let url = format!("url = {:?}\n", redis.url());
                (Tier::One(Some(redis), None), url)
            }
            Scene::Sentinels => {
                let sentinels = Sentinels::start(host);
                let settings = sentinels.settings();
                (Tier::Sentinels(sentinels), settings)
            }
            Scene::Cluster => {
                let cluster = RedisCluster::start(host);
                let [url, other] = cluster.urls();
                (Tier::Cluster(cluster), format!("url = {url:?}\ncluster = [{other:?}]\n"))
            }
        };
        let store = (scene == Scene::Single).then(|| Store::start(host)).transpose()?;
        let folder = tempfile::Builder::new().prefix("ringbench-faults-").tempdir()?;
        let clickhouse = store.as_ref().map(|store| {
            format!(
                "[clickhouse]\nurl = {:?}\npassword_file = {:?}\ntimeout = \"2s\"\n",
                store.server.url(),
                store.server.password_file()
            )
        });
        let text = format!(
            "[server]\nlisten = [\"10.53.0.2:53\"]\ninterface = \"vs\"\nmode = \"copy\"\nfallback = false\n\
             [[upstream]]\naddress = \"{UPSTREAM}\"\n[resolver]\nzone_misses = 0\n[cache]\nbytes_per_worker = \"64MiB\"\nhost_bytes = \"256MiB\"\n\
             [redis]\n{redis}[query_log]\nenabled = {}\nspool_dir = {:?}\nbatch_interval = \"1s\"\n{}\
             [control]\nsocket = {:?}\n",
            store.is_some(),
            folder.path().join("spool"),
            clickhouse.unwrap_or_default(),
            socket_in(folder.path()),
        );
        let file = folder.path().join("ringdns.toml");
        fs::write(&file, text)?;
        let mut command = self::command(host, SERVER_CORE, args.nice, &programs.ringdnsd);
        command.env_remove("RUST_LOG").arg("--config").arg(&file);
        let ringdnsd = Process::spawn("ringdnsd", command);
        ringdnsd.wait_for_line(" ready ", PATIENCE);
        let stage = Stage { lab, programs, tier, scene, ringdnsd, upstream, store, folder, seed: 0 };
        stage.prefer();
        stage.recover()?;
        Ok(stage)
    }

    /// Returns a number that no other load has.
    pub fn next_seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }

    /// Gives Redis and the upstream priority: they share a core with a generator that never sleeps,
    /// and need little time. ClickHouse needs much, and gets what is left.
    pub fn prefer(&self) {
        let redis: Vec<u32> = match &self.tier {
            Tier::One(redis, _) => redis.iter().map(|redis| redis.process().pid()).collect(),
            Tier::Sentinels(sentinels) => (0..2).map(|nth| sentinels.process(nth).pid()).collect(),
            Tier::Cluster(cluster) => (0..4).map(|nth| cluster.process(nth).pid()).collect(),
        };
        for pid in redis.into_iter().chain([self.upstream.pid()]) {
            run(&mut priority::raise(pid));
        }
        if let Some(store) = &self.store {
            let pid = store.server.process().pid().to_string();
            run(Command::new("renice").args(["-n", "10", "--pid", &pid]));
        }
    }

    /// Returns the single Redis.
    pub fn redis(&self) -> Result<&Redis> {
        match &self.tier {
            Tier::One(Some(redis), _) => Ok(redis),
            _ => bail!("this scene has no single Redis"),
        }
    }

    /// Returns the cluster.
    pub fn cluster(&mut self) -> Result<&mut RedisCluster> {
        match &mut self.tier {
            Tier::Cluster(cluster) => Ok(cluster),
            _ => bail!("this scene has no cluster"),
        }
    }

    /// Returns ClickHouse.
    pub fn clickhouse(&mut self) -> Result<&mut ClickHouse> {
        Ok(&mut self.store.as_mut().context("this scene has no ClickHouse")?.server)
    }

    /// Returns the path of ClickHouse's users file. ClickHouse reads it again when it changes.
    pub fn users(&mut self) -> Result<PathBuf> {
        Ok(folder_of(self.clickhouse()?)?.join("users.xml"))
    }

    /// Returns the path of a file that fills the disk.
    pub fn filler(&self) -> Result<PathBuf> {
        Ok(self.store.as_ref().context("this scene has no ClickHouse")?.disk.join("filler"))
    }

    /// Reads the appliance's counters.
    pub fn stats(&self) -> Result<Value> {
        let ask = || -> Result<Value> {
            let mut stream = UnixStream::connect(socket_in(self.folder.path()))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /v1/stats HTTP/1.1\r\nHost: ringdnsd\r\nConnection: close\r\n\r\n")?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            let (_, body) = response.split_once("\r\n\r\n").context("the response is not HTTP")?;
            Ok(serde_json::from_str(body)?)
        };
        ask().with_context(|| {
            format!("ringdnsd does not return its counters; its output:\n{}", self.ringdnsd.output())
        })
    }

    /// Returns the appliance's resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        self.ringdnsd.resident()
    }

    /// Whether Redis is not in use, or rows wait for ClickHouse.
    pub fn is_degraded(&self, stats: &Value) -> bool {
        stats["fleet"]["up"] != true
            || stats["query_log"]["rows"]["spooled"].as_u64().is_some_and(|rows| rows > 0)
    }

    /// Waits until Redis is in use and no row waits.
    pub fn recover(&self) -> Result<()> {
        self.until("Redis is in use and no row waits", |stats| !self.is_degraded(stats)).map(drop)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats()?;
            if is_so(&stats) {
                return Ok(stats);
            }
            ensure!(
                Instant::now() < deadline,
                "waited {PATIENCE:?} in vain until {what}: {stats:#}\noutput of ringdnsd:\n{}",
                self.ringdnsd.output()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all counters have settled, and checks that all sums add up.
    pub fn end(mut self) -> Result<Sums> {
        let is = |stats: &Value, pointer: &str, wanted: i64| {
            stats.pointer(pointer).is_none_or(|value| value.as_i64() == Some(wanted))
        };
        let settled = [
            "/total/punts_waiting",
            "/fleet/queued",
            "/query_log/in_hand",
            "/query_log/rows/in_hand",
            "/query_log/rows/spooled",
        ];
        let stats = self.until("all counters have settled", |stats| {
            settled.iter().all(|pointer| is(stats, pointer, 0))
        })?;
        for pointer in ["/total/unaccounted", "/query_log/rows/unaccounted"] {
            ensure!(is(&stats, pointer, 0), "{pointer} is not 0: {stats:#}");
        }
        sums::fleet_closes(&stats["fleet"]);
        let rows = match &self.store {
            Some(store) => Some(store.server.query("SELECT count() FROM ringdns.queries").parse::<u64>()?),
            None => None,
        };
        let log = &stats["query_log"];
        if let Some(rows) = rows {
            let stored = log["rows"]["stored"].as_u64();
            ensure!(
                stored == Some(rows),
                "ClickHouse has {rows} rows, and {stored:?} were counted: {stats:#}"
            );
        }
        let sums = Sums {
            scene: self.scene,
            total: stats["total"].clone(),
            fleet: stats["fleet"]["counters"].clone(),
            query_log: log.clone(),
            rows,
        };
        let status = self.ringdnsd.stop()?;
        ensure!(status.success(), "ringdnsd ended with {status}: {}", self.ringdnsd.output());
        Ok(sums)
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Failure is ignored: without the privilege, everything runs at its default priority.
fn run(command: &mut Command) {
    if !command.output().is_ok_and(|output| output.status.success()) {
        eprintln!("note: {command:?} failed");
    }
}

/// Returns a command that runs on one core of a host, with a priority.
pub fn command(host: &Host, core: usize, nice: i8, program: impl AsRef<OsStr>) -> Command {
    let mut command = on_core(host, core, "nice");
    command.args(["-n", &nice.to_string()]).arg(program);
    command
}

/// Returns the number of queries that have reached the appliance and will get no answer.
pub fn unanswered(stats: &Value) -> u64 {
    let dropped = stats["total"]["dropped"].as_object().into_iter().flat_map(|reasons| reasons.values());
    let workers = stats["workers"].as_array().into_iter().flatten();
    let unsent = workers.map(|worker| &worker["port"]["send_failed"]);
    dropped.chain(unsent).filter_map(Value::as_u64).sum()
}

/// Returns the increase of all counters between two reads, without those that did not change.
pub fn difference(before: Option<&Value>, after: Option<&Value>) -> Value {
    let Some(Value::Object(after)) = after else { return Value::Null };
    let earlier = |name: &str| before.and_then(|before| before[name].as_i64()).unwrap_or(0);
    let counted = after.iter().filter_map(|(name, value)| {
        let more = value.as_i64()? - earlier(name);
        (more != 0).then(|| (name.clone(), json!(more)))
    });
    Value::Object(counted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_dropped_or_not_sent_is_unanswered() {
        let port = json!({"port": {"sent": 9, "send_failed": 4}});
        let stats = json!({"total": {"dropped": {"a": 1, "b": 2}, "hit": 8}, "workers": [port, port]});
        assert_eq!(unanswered(&stats), 11);
    }

    #[test]
    fn what_was_counted_between_is_the_difference() {
        let [before, after] = [json!({"a": 3, "b": 1}), json!({"a": 5, "b": 1, "c": 2, "d": "text"})];
        assert_eq!(difference(Some(&before), Some(&after)), json!({"a": 2, "c": 2}));
        assert_eq!(difference(None, None), Value::Null);
    }
}
