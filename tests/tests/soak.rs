//! A long run of ringdnsd with everything that happens around it: changing names, a changing
//! configuration, a Redis and a ClickHouse that are killed and restarted. Its resource usage must
//! not grow.
//!
//! The short form is for everyday use. `RINGDNS_SOAK=1200` makes it twenty minutes (see
//! docs/testing.md).

use ringdns_testkit::{
    ClickHouse, Lab, Process, Redis, Ringdnsd, Settings, UsageGrowth, UsageSample, files_are_closed,
    free_address, ringbench, until_within,
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// Environment variable with the duration in seconds.
const SECONDS: &str = "RINGDNS_SOAK";
const SHORT: u64 = 40;
/// Queries per second over UDP, a fifth of them for new names; and over TCP.
const RATES: [u32; 2] = [4000, 200];
/// Number of configuration changes, of kills of Redis, and of kills of ClickHouse.
const RELOADS_IN: [u64; 3] = [120, 12, 12];
/// Time at the end within which ClickHouse must have all rows: there is an attempt every half
/// minute, and many rows wait.
const CAUGHT_UP: Duration = Duration::from_secs(180);
/// Difference of resident memory between two thirds that does not count as growth: pages that
/// jemalloc has not returned yet.
const NOISE: u64 = 3 << 20;
/// Difference of allocated memory that does not count as growth: work in flight.
const UNDER_WAY: u64 = 512 << 10;

struct Scene {
    lab: Lab,
    upstreams: [SocketAddr; 2],
    clickhouse: ClickHouse,
    redis: Option<Redis>,
    redis_url: String,
    spool: tempfile::TempDir,
    _serving: [Process; 2],
}

impl Scene {
    fn set() -> Option<Self> {
        let lab = Lab::up()?;
        let serve = || {
            let address = free_address(lab.server());
            let mut command = ringbench(lab.server());
            command.args(["upstream", "--ttl=4", "--listen", &address.to_string()]);
            (address, Process::spawn("ringbench upstream", command))
        };
        let ([(one, first), (two, second)], redis) = ([serve(), serve()], Redis::start());
        Some(Scene {
            upstreams: [one, two],
            clickhouse: ClickHouse::start(lab.server(), "soak"),
            redis_url: redis.url(),
            redis: Some(redis),
            spool: tempfile::tempdir().unwrap(),
            _serving: [first, second],
            lab,
        })
    }

    /// Returns a configuration that differs each time, except for the last table.
    fn configuration(&self, nth: u64, socket: &Path) -> String {
        let upstream = self.upstreams[(nth % 2) as usize];
        // The host tier is full before the growth is looked at.
        let tables = format!(
            "[cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"1MiB\"\n[redis]\nurl = {:?}\n\
             [query_log]\nenabled = true\nspool_dir = {:?}\nbatch_interval = \"500ms\"\n\
             [clickhouse]\nurl = {:?}\npassword_file = {:?}\n\
             [access]\nallow = [\"0.0.0.0/0\", \"::/0\"]\ndeny = [\"192.0.2.{}/32\"]\n",
            self.redis_url,
            self.spool.path(),
            self.clickhouse.url(),
            self.clickhouse.password_file(),
            nth % 250,
        );
        Settings { tables, ..Settings::xdp(upstream) }.text(socket)
    }

    /// Starts a load generator for this many seconds.
    fn load(&self, backend: &str, qps: u32, seconds: u64) -> Process {
        let mut command = ringbench(self.lab.client());
        command.args(["run", "--target=10.53.0.2:53", "--zipf=1", "--random-share=20", "--count=20000"]);
        command.args(["--timeout-ms=3000", "--window=200", "--threads=1", "--quiet", "--json"]);
        command.args([
            format!("--backend={backend}"),
            format!("--qps={qps}"),
            format!("--duration={seconds}"),
        ]);
        Process::spawn("ringbench run", command)
    }
}

/// Returns the growth of memory in bytes per minute, and its standard error, by a line through the
/// samples (least squares).
fn slope(samples: &[(f64, u64)]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = samples.iter().map(|(_, y)| *y as f64).sum::<f64>() / count;
    let spread: f64 = samples.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let rise = samples.iter().map(|(x, y)| (x - mean_x) * (*y as f64 - mean_y)).sum::<f64>() / spread;
    let off: f64 = samples.iter().map(|(x, y)| (*y as f64 - mean_y - rise * (x - mean_x)).powi(2)).sum();
    (rise * 60.0, (off / (count - 2.0) / spread).sqrt() * 60.0)
}

#[test]
fn what_it_takes_does_not_grow() {
    let seconds = std::env::var(SECONDS).map_or(SHORT, |text| text.parse().expect("a number of seconds"));
    let Some(mut scene) = Scene::set() else { return };
    let ringdnsd = Ringdnsd::start_from(scene.lab.server(), |socket| scene.configuration(0, socket));
    let files = ringdnsd.process().open_files();
    let loads = [scene.load("udp", RATES[0], seconds), scene.load("tcp", RATES[1], seconds)];

    let every = |nth: usize| Duration::from_secs(seconds) / RELOADS_IN[nth] as u32;
    let began = Instant::now();
    let (mut samples, mut reloads, mut deaths) = (Vec::new(), 0, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        samples.push(UsageSample::take(&ringdnsd, began.elapsed()));
        if began.elapsed() >= every(0) * reloads as u32 {
            reloads += 1;
            // Every second reload changes nothing.
            ringdnsd.configure(|socket| scene.configuration(reloads / 2, socket));
            let reloaded: Value = serde_json::from_str(&ringdnsd.told(&["--json", "reload"])).unwrap();
            assert_eq!(reloaded["needs_restart"], serde_json::json!([]), "{reloaded}");
        }
        if began.elapsed() >= every(1) * (deaths + 1) {
            deaths += 1;
            // Kills one of the two at a time, and restarts it when it is the other's turn.
            if deaths % 2 == 1 {
                scene.redis = scene.redis.take().map(Redis::kill9).map(Redis::start_in);
                scene.clickhouse.kill9();
            } else {
                scene.clickhouse.start_again();
            }
        }
        sleep(Duration::from_millis(200));
    }
    if deaths % 2 == 1 {
        scene.clickhouse.start_again();
    }
    for mut load in loads {
        let status = load.wait_for_exit(Duration::from_secs(30));
        assert!(status.success(), "{}", load.output());
    }
    show(&samples, seconds);
    println!("{reloads} reloads, {} deaths each of Redis and ClickHouse", deaths.div_ceil(2));
    accounts_close(&ringdnsd);
    files_are_closed(&ringdnsd, files);

    UsageGrowth { resident: NOISE, allocated: UNDER_WAY }.bounds(&samples);
}

/// Checks that every query has an outcome, and every row a place.
#[track_caller]
fn accounts_close(ringdnsd: &Ringdnsd) {
    ringdnsd.settled();
    let rows = until_within(CAUGHT_UP, "every row that was taken is stored or dropped", || {
        let stats = ringdnsd.stats();
        let rows = stats["query_log"]["rows"].clone();
        (rows["spooled"] == 0 && rows["in_hand"] == 0).then_some(rows)
    });
    println!("rows of the query log: {rows}");
    assert_eq!(rows["unaccounted"], 0, "{rows:#}");
    assert!(rows["stored"].as_u64() > Some(10_000), "{rows:#}");
}

fn show(samples: &[UsageSample], seconds: u64) {
    println!("seconds  resident KiB  allocated KiB  files  threads");
    let step = (samples.len() / 40).max(1);
    for UsageSample { at, resident, allocated, files, threads } in samples.iter().step_by(step) {
        let (at, resident, allocated) = (at.as_secs_f64(), resident / 1024, allocated / 1024);
        println!("{at:7.1}  {resident:12}  {allocated:13}  {files:5}  {threads:7}");
    }
    for (name, of) in [
        ("resident", (|sample| sample.resident) as fn(&UsageSample) -> u64),
        ("allocated", |sample| sample.allocated),
    ] {
        let warm = samples[samples.len() / 3..].iter();
        let warm: Vec<_> = warm.map(|sample| (sample.at.as_secs_f64(), of(sample))).collect();
        let (rise, error) = slope(&warm);
        println!(
            "{name} after the first third of {seconds} s: {:.1} KiB a minute, standard error {:.1}",
            rise / 1024.0,
            error / 1024.0
        );
    }
}
