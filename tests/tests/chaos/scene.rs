//! Hosts, servers and the daemon that the faults happen to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ringdns_testkit::{
    ClickHouse, Client, DNS_V4, DNS_V6, Host, Lab, LabOptions, Process, Query, Redis, Ringdnsd, SERVER_V4,
    SERVER_V6, Say, Settings, Upstream, a_record, ask_over_tcp, from_clock_file, sums, until, until_within,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{cgroup::Cgroup, clients::address_of, fault::Fault};

/// Address on the server itself, which exists while the interface does not.
pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

const QUEUES: u32 = 2;
/// Time within which all is well again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time for which ringdnsd stands still.
const STANDS_STILL: Duration = Duration::from_millis(700);
/// Time at the end within which ClickHouse must have all rows: there is an attempt every half
/// minute, and many rows wait.
const CAUGHT_UP: Duration = Duration::from_secs(180);
/// Size of the disk of the spool.
const DISK: &str = "size=16m";

/// Behaviour of the upstream.
const ANSWERS: u8 = 0;
const IS_SILENT: u8 = 1;
const FAILS: u8 = 2;

/// Disk of its own for the spool, in memory.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Self {
        let folder = TempDir::with_prefix("ringdns-chaos-").expect("a folder");
        Host::local()
            .run("mount", ["-t", "tmpfs", "-o", DISK, "tmpfs", &folder.path().display().to_string()]);
        Disk(folder)
    }

    fn fill(&self) {
        // It ends when nothing fits any more.
        let block = vec![1; 1 << 20];
        let mut file = std::fs::File::create(self.0.path().join("filler")).expect("a file");
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.path().join("filler")).expect("the filler is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has files there keeps them until it ends.
        let _ = Host::local().command("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Everything that faults happen to.
pub struct Scene {
    pub ringdnsd: Ringdnsd,
    pub lab: Lab,
    upstream: Upstream,
    upstream_mode: Arc<AtomicU8>,
    redis: Option<Redis>,
    redis_folder: Option<TempDir>,
    clickhouse: ClickHouse,
    disk: Disk,
    clock: TempDir,
    cgroup: Option<Cgroup>,
    /// Process that holds the interface.
    foreigner: Option<Ringdnsd>,
    /// Process in another namespace, to which the interface moves.
    elsewhere: Process,
    reloads: u32,
    names: u32,
    /// Longest time until all was well after faults.
    pub slowest: Duration,
}

impl Scene {
    /// Starts everything; `None` without root.
    pub fn set() -> Option<Self> {
        let lab = Lab::with(LabOptions { queues: QUEUES, vlan: None })?;
        let upstream_mode = Arc::new(AtomicU8::new(ANSWERS));
        let mode = upstream_mode.clone();
        let upstream = Upstream::unrecorded(lab.server(), move |seen| match mode.load(Relaxed) {
            IS_SILENT => Vec::new(),
            FAILS => vec![Say::Send(seen.query.response(2, &[]))],
            _ => {
                let address = address_of(&seen.query.name());
                vec![Say::Send(seen.query.response(0, &[a_record(3 + u32::from(address[3]) % 8, address)]))]
            }
        });
        let redis = Redis::start();
        let clickhouse = ClickHouse::start(lab.server(), "chaos");
        let (disk, clock) = (Disk::mount(), TempDir::with_prefix("ringdns-chaos-").expect("a folder"));
        let settings = settings(&upstream, &redis.url(), &clickhouse, &disk, 0);
        let file = clock.path().join("clock");
        std::fs::write(&file, "+0").expect("a file for the clock");
        // A reader of the log of its own, which can be stopped and ended.
        let reader = ["bash", "-c", "exec \"$0\" \"$@\" > >(exec cat) 2>&1"].map(str::to_owned);
        let wrapper: Vec<String> = reader.into_iter().chain(from_clock_file(&file)).collect();
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let ringdnsd = Ringdnsd::start_behind(lab.server(), &settings, &wrapper);
        let cgroup = Cgroup::of(ringdnsd.process().pid());
        let elsewhere = lab.client().spawn("sleep", ["100000"]);
        Some(Scene {
            ringdnsd,
            lab,
            upstream,
            upstream_mode,
            redis: Some(redis),
            redis_folder: None,
            clickhouse,
            disk,
            clock,
            cgroup,
            foreigner: None,
            elsewhere,
            reloads: 0,
            names: 0,
            slowest: Duration::ZERO,
        })
    }

    /// Returns the faults that this machine can have.
    pub fn possible(&self) -> Vec<Fault> {
        let limited = [Fault::CpuLimited, Fault::MemoryLimited];
        if self.cgroup.is_none() {
            println!("no cgroup can be made here: {limited:?} are left out");
        }
        Fault::ALL.into_iter().filter(|fault| self.cgroup.is_some() || !limited.contains(fault)).collect()
    }

    /// Lets a fault happen.
    #[track_caller]
    pub fn begin(&mut self, fault: Fault) {
        let server = self.lab.server().clone();
        match fault {
            Fault::LinkDown => {
                server.run("ip", ["link", "set", "dev", "vs", "down"]);
                self.is_not_ready();
            }
            Fault::Removed => {
                self.lab.remove_cable();
                self.is_not_ready();
            }
            Fault::FewerQueues => {
                self.lab.remove_cable();
                self.make_cable(1);
            }
            Fault::Moved => {
                server.run("ip", ["link", "set", "dev", "vs", "netns", &self.elsewhere.pid().to_string()]);
                self.is_not_ready();
            }
            Fault::ForeignProgram => self.begin_foreign_program(),
            Fault::Detached => self.lab.detach_program(),
            Fault::SmallMtu => drop(server.run("ip", ["link", "set", "dev", "vs", "mtu", "1280"])),
            Fault::AddressGone => {
                server.run("ip", ["address", "delete", &format!("{SERVER_V4}/24"), "dev", "vs"]);
            }
            Fault::UpstreamSilent => self.upstream_mode.store(IS_SILENT, Relaxed),
            Fault::UpstreamFails => self.upstream_mode.store(FAILS, Relaxed),
            Fault::RedisKilled => self.redis_folder = self.redis.take().map(Redis::kill9),
            Fault::RedisFrozen => self.redis().process().freeze(),
            Fault::RedisFull => drop(self.redis().cli(&["config", "set", "maxmemory", "1"])),
            Fault::ClickHouseKilled => self.clickhouse.kill9(),
            Fault::ClickHouseFrozen => self.clickhouse.process().freeze(),
            Fault::DiskFull => self.disk.fill(),
            Fault::LogBlocked => self.to_log_reader(Signal::STOP),
            Fault::Reloaded => self.reload(),
            Fault::ReloadRefused => {
                self.ringdnsd.configure(|_| "[server]\nlisten = [\"nowhere\"]\n".to_owned());
                self.ringdnsd.process().signal(Signal::HUP);
            }
            Fault::Purged => drop(self.ringdnsd.told(&["cache", "purge", "--all"])),
            Fault::Frozen => {
                self.ringdnsd.process().freeze();
                std::thread::sleep(STANDS_STILL);
                self.ringdnsd.process().signal(Signal::CONT);
            }
            Fault::ClockForward => self.set_clock("+3600"),
            Fault::ClockBack => self.set_clock("-3600"),
            Fault::CpuLimited => self.cgroup().limit_cpu(true),
            Fault::MemoryLimited => self.cgroup().limit_memory(true),
        }
    }

    /// Ends a fault.
    #[track_caller]
    pub fn end(&mut self, fault: Fault) {
        let server = self.lab.server().clone();
        match fault {
            Fault::LinkDown => {
                server.run("ip", ["link", "set", "dev", "vs", "up"]);
                // Setting a link down removes its IPv6 addresses.
                server.give_address("vs", SERVER_V6);
            }
            Fault::Removed => self.make_cable(QUEUES),
            Fault::FewerQueues => {
                self.lab.remove_cable();
                self.make_cable(QUEUES);
            }
            Fault::Moved => {
                let pid = self.ringdnsd.process().pid().to_string();
                self.lab.client().run("ip", ["link", "set", "dev", "vs", "netns", &pid]);
                self.lab.configure_server_end();
            }
            Fault::ForeignProgram => self.foreigner = None,
            Fault::SmallMtu => drop(server.run("ip", ["link", "set", "dev", "vs", "mtu", "1500"])),
            Fault::AddressGone => server.give_address("vs", SERVER_V4),
            Fault::UpstreamSilent | Fault::UpstreamFails => self.upstream_mode.store(ANSWERS, Relaxed),
            Fault::RedisKilled => self.redis = self.redis_folder.take().map(Redis::start_in),
            Fault::RedisFrozen => self.redis().process().signal(Signal::CONT),
            Fault::RedisFull => drop(self.redis().cli(&["config", "set", "maxmemory", "0"])),
            Fault::ClickHouseKilled => self.clickhouse.start_again(),
            Fault::ClickHouseFrozen => self.clickhouse.process().signal(Signal::CONT),
            Fault::DiskFull => self.disk.clear(),
            Fault::LogBlocked => self.to_log_reader(Signal::CONT),
            Fault::ReloadRefused => self.reload(),
            Fault::ClockForward | Fault::ClockBack => self.set_clock("+0"),
            Fault::CpuLimited => self.cgroup().limit_cpu(false),
            Fault::MemoryLimited => self.cgroup().limit_memory(false),
            Fault::Detached | Fault::Reloaded | Fault::Purged | Fault::Frozen => {}
        }
    }

    /// Ends the reader of the log: from now on each line is written into a broken pipe.
    pub fn end_log(&self) {
        self.to_log_reader(Signal::KILL);
    }

    /// Waits until `status` and `/readyz` say that AF_XDP answers, and checks that it does over UDP
    /// and TCP, and the server's own address.
    #[track_caller]
    pub fn is_whole(&mut self) {
        let mut status = String::new();
        let is_whole = || {
            let by_xdp = self.ringdnsd.stats()["interface"]["by_xdp"] == true;
            status = self.ringdnsd.told(&["status"]);
            let told = status.contains("answering queries\n") && status.contains("AF_XDP on vs, queues: ");
            (by_xdp && told && self.ringdnsd.readyz().0).then_some(())
        };
        let waited = Instant::now();
        until_within(PATIENCE, "status and /readyz say that AF_XDP answers", is_whole);
        self.slowest = self.slowest.max(waited.elapsed());
        let (client, server) = (self.lab.client().clone(), self.lab.server().clone());
        for (host, address) in [(&client, DNS_V4), (&client, DNS_V6), (&server, LOOPBACK)] {
            self.names += 1;
            let query = Query::a(&format!("whole{}.example", self.names)).id(self.names as u16);
            let right = [Ipv4Addr::from(address_of(&query.name))];
            let over_udp = Client::of(host, address);
            // An upstream that has just been silent may be in back-off, and a failure is remembered for
            // seconds.
            until(&format!("{address} answers"), || {
                let reply = over_udp.ask_within(&query, Duration::from_millis(500))?;
                (reply.addresses() == right).then_some(())
            });
            assert_eq!(ask_over_tcp(host, address, &[query])[0].addresses(), right);
        }
    }

    /// Checks that every query has an outcome, every record of the log and every row a place, and
    /// every frame an owner.
    #[track_caller]
    pub fn accounts_close(&self) {
        let stats = self.ringdnsd.settled();
        sums::queries_close(&stats["total"]);
        until("each record has reached the collector", || {
            (self.ringdnsd.stats()["query_log"]["in_hand"] == 0).then_some(())
        });
        sums::records_close(&self.ringdnsd.stats());
        // Ports are published once a second.
        until("each answer was sent or is known to be lost, and each frame is in one place", || {
            sums::ports_close(&self.ringdnsd.stats()).then_some(())
        });
        until("nothing is under way to Redis", || {
            sums::fleet_is_at_rest(&self.ringdnsd.stats()["fleet"]).then_some(())
        });
        sums::fleet_closes(&self.ringdnsd.stats()["fleet"]);
        let rows = until_within(CAUGHT_UP, "every row that was taken is stored or dropped", || {
            let rows = self.ringdnsd.stats()["query_log"]["rows"].clone();
            (rows["spooled"] == 0 && rows["in_hand"] == 0).then_some(rows)
        });
        println!("rows of the query log: {rows}");
        println!("interface: {}", stats["interface"]);
        assert_eq!(rows["unaccounted"], 0, "{rows:#}");
        assert!(sums::count(&rows["stored"]) > 0, "{rows:#}");
    }

    /// Waits until `/readyz` says that clients get no answers.
    #[track_caller]
    fn is_not_ready(&self) {
        let why: (bool, String) =
            until("/readyz tells of it", || Some(self.ringdnsd.readyz()).filter(|(ready, _)| !ready));
        let status = self.ringdnsd.told(&["status"]);
        assert!(status.contains("NOT ready: "), "{why:?}: {status}");
    }

    #[track_caller]
    fn make_cable(&self, queues: u32) {
        self.lab.make_cable(queues, self.ringdnsd.process().pid(), || {});
    }

    #[track_caller]
    fn begin_foreign_program(&mut self) {
        let listen = vec!["127.0.0.1:5353".to_owned()];
        let settings = Settings { listen, ..Settings::xdp(self.upstream.address()) };
        self.lab.remove_cable();
        let mut foreigner = None;
        let pid = self.ringdnsd.process().pid();
        self.lab.make_cable(QUEUES, pid, || foreigner = Some(Ringdnsd::start(self.lab.server(), &settings)));
        self.foreigner = foreigner;
        until("it is told that AF_XDP is lost", || {
            self.ringdnsd
                .told(&["status"])
                .contains("kernel sockets, because AF_XDP on vs was lost ")
                .then_some(())
        });
    }

    fn reload(&mut self) {
        self.reloads += 1;
        let redis = ringdns_testkit::url_in;
        let url = match (&self.redis, &self.redis_folder) {
            (Some(server), _) => server.url(),
            (None, Some(folder)) => redis(folder),
            (None, None) => unreachable!("Redis runs, or its folder is kept"),
        };
        let settings = settings(&self.upstream, &url, &self.clickhouse, &self.disk, self.reloads);
        self.ringdnsd.configure(|socket| settings.text(socket));
        self.ringdnsd.process().signal(Signal::HUP);
    }

    fn set_clock(&self, offset: &str) {
        std::fs::write(self.clock.path().join("clock"), offset).expect("the file of the clock");
    }

    #[track_caller]
    fn to_log_reader(&self, signal: Signal) {
        let pid = self.ringdnsd.process().pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
        let reader = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        kill_process(reader.expect("the reader of the log"), signal)
            .expect("a signal to the reader of the log");
    }

    fn redis(&self) -> &Redis {
        self.redis.as_ref().expect("Redis was not killed")
    }

    fn cgroup(&self) -> &Cgroup {
        self.cgroup.as_ref().expect("faults without a cgroup are left out")
    }
}

/// Returns the configuration. Its access list differs each time.
fn settings(upstream: &Upstream, redis: &str, clickhouse: &ClickHouse, disk: &Disk, nth: u32) -> Settings {
    let tables = format!(
        "[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"16MiB\"\n[redis]\nurl = {redis:?}\n\
         [query_log]\nenabled = true\nspool_dir = {:?}\nbatch_interval = \"500ms\"\n\
         [clickhouse]\nurl = {:?}\npassword_file = {:?}\n\
         [access]\nallow = [\"0.0.0.0/0\", \"::/0\"]\ndeny = [\"192.0.2.{}/32\"]\n",
        disk.0.path().join("spool"),
        clickhouse.url(),
        clickhouse.password_file(),
        nth % 250,
    );
    let server = "mode = \"copy\"".to_owned();
    let mut settings = Settings { tables, server, ..Settings::xdp(upstream.address()) };
    settings.listen.push(LOOPBACK.to_string());
    settings
}
