//! Tests of what an operator is told while something is wrong: by `ringctl check`, `ringctl status`,
//! metrics, `/readyz` and the log, an alert of Prometheus and the console in a browser, within ten seconds,
//! and that it is over.

mod watch;

use ringdns_testkit::{
    ClickHouse, Client, DNS_V4, Host, Lab, Process, Query, Redis, Ringdnsd, Say, Settings, SmallDisk,
    Unbound, Upstream, free_address, from_clock_file, tls::Authority, until_within,
};
use rustix::process::Signal;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use watch::Post;

/// Time within which everything has to be told.
const TOLD: Duration = Duration::from_secs(10);
const SERVFAIL: u16 = 2;

/// Returns the exit code and the output of `ringctl check`.
fn check(ringdnsd: &Ringdnsd) -> (i32, String) {
    let output = ringdnsd.ctl(&["check"]);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Waits until a problem is told everywhere, with this exit code of `ringctl check`.
#[track_caller]
fn shows(ringdnsd: &Ringdnsd, kind: &str, severity: &str, code: i32) -> String {
    let said = until_within(TOLD, &format!("{kind} is told"), || {
        let (told, said) = check(ringdnsd);
        (told == code && said.contains(&format!("({kind}, since "))).then_some(said)
    });
    let line = format!("ringdns_problems{{kind=\"{kind}\",severity=\"{severity}\"}} 1\n");
    let metrics = ringdnsd.get("/metrics").unwrap().1;
    assert!(metrics.contains(&line), "{kind}: {metrics}");
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains(&format!("\nproblem    {severity}: ")), "{status}");
    said
}

/// Waits until all is well.
#[track_caller]
fn is_well(ringdnsd: &Ringdnsd) {
    until_within(TOLD, "all is well", || {
        let (code, said) = check(ringdnsd);
        (code == 0 && said.starts_with("RINGDNS OK: ") && said.lines().count() == 1).then_some(())
    });
    assert!(!ringdnsd.told(&["status"]).contains("\nproblem "));
    let metrics = ringdnsd.get("/metrics").unwrap().1;
    let current = |line: &&str| line.starts_with("ringdns_problems{") && !line.ends_with(" 0");
    assert_eq!(metrics.lines().find(current), None);
}

/// Waits for a line of the log.
#[track_caller]
fn logs(ringdnsd: &Ringdnsd, line: &str) {
    ringdnsd.process().wait_for_line(line, TOLD);
}

/// A ringdnsd at an address on loopback, whose upstream answers while it is told to.
struct Scene {
    host: Host,
    address: SocketAddr,
    upstream: Upstream,
    answers: Arc<AtomicBool>,
}

impl Scene {
    fn set() -> Self {
        let (host, answers) = (Host::local(), Arc::new(AtomicBool::new(true)));
        let upstream = Upstream::local({
            let answers = answers.clone();
            move |seen| Vec::from_iter(answers.load(Relaxed).then(|| Say::Send(seen.query.answer(300))))
        });
        Scene { address: free_address(&host), host, upstream, answers }
    }

    fn settings(&self, tables: &str, control: &str) -> Settings {
        let settings = Settings::loopback(self.address, self.upstream.address());
        let tables = if tables.contains("[cache]") { tables.into() } else { settings.tables + "\n" + tables };
        Settings { tables, control: control.to_owned(), ..settings }
    }

    fn start(&self, tables: &str, control: &str) -> Ringdnsd {
        Ringdnsd::start(&self.host, &self.settings(tables, control))
    }

    fn rcode(&self, name: &str) -> u16 {
        Client::of(&self.host, self.address).ask(&Query::a(name)).rcode()
    }

    /// Asks for three names, which is how often an upstream has to fail. Returns the moment of the loss.
    fn lose_upstream(&self) -> Instant {
        let lost = Instant::now();
        self.answers.store(false, Relaxed);
        (0..3).for_each(|nth| assert_eq!(self.rcode(&format!("www.n{nth}.example")), SERVFAIL));
        lost
    }
}

#[test]
fn the_loss_of_the_only_upstream_is_told_everywhere() {
    let scene = Scene::set();
    let post = Post::on(&scene.host);
    let ringdnsd = scene.start("", &post.control());
    is_well(&ringdnsd);
    let mut watch = post.watch(&scene.host);
    let lost = scene.lose_upstream();
    let said = shows(&ringdnsd, "no_upstream", "critical", 2);
    assert!(said.starts_with("RINGDNS CRITICAL: no upstream answers: only what is in the cache"), "{said}");
    assert!(said.contains("|problems=2;;;0 upstreams=0;;;0;1 uptime="), "{said}");
    shows(&ringdnsd, "upstream_silent", "warning", 2);
    watch.tells(lost, "no_upstream", "critical");
    watch.tells(lost, "upstream_silent", "warning");
    assert!(!ringdnsd.readyz().0);
    assert!(ringdnsd.get("/metrics").unwrap().1.contains("\nringdns_ready 0\n"));
    logs(&ringdnsd, "no upstream answers: what is not in the cache gets SERVFAIL");
    let restored = Instant::now();
    scene.answers.store(true, Relaxed);
    is_well(&ringdnsd);
    watch.is_well(restored);
    assert!(ringdnsd.readyz().0);
    logs(&ringdnsd, "upstreams answer again");
    assert!(ringdnsd.get("/metrics").unwrap().1.contains("\nringdns_ready 1\n"));
}

#[test]
fn readiness_is_what_the_configuration_asks_for_and_returns_after_the_hold_down() {
    let (scene, redis) = (Scene::set(), Redis::start());
    let table = format!("\n[redis]\nurl = {:?}\n", redis.url());
    let required = "ready_requires = [\"redis\"]\nready_hold_down = \"3s\"";
    let ringdnsd = scene.start(&table, required);
    let other = Scene { address: free_address(&scene.host), ..Scene::set() };
    let post = Post::on(&scene.host);
    let tolerant = other.start(&table, &post.control());
    [&ringdnsd, &tolerant].into_iter().for_each(is_well);
    let mut watch = post.watch(&scene.host);
    let lost = Instant::now();
    let folder = redis.kill9();
    for ringdnsd in [&ringdnsd, &tolerant] {
        shows(ringdnsd, "redis_lost", "warning", if std::ptr::eq(ringdnsd, &tolerant) { 1 } else { 2 });
        logs(ringdnsd, "Redis is lost");
    }
    watch.tells(lost, "redis_lost", "warning");
    let (ready, reason) = ringdnsd.readyz();
    assert!(
        !ready && reason.contains("Redis at ") && reason.contains(&folder.path().display().to_string()),
        "{reason}"
    );
    assert!(tolerant.readyz().0);
    // It does not ask for an upstream.
    scene.lose_upstream();
    shows(&tolerant, "redis_lost", "warning", 1);

    let restored = Instant::now();
    let _redis = Redis::start_in(folder);
    scene.answers.store(true, Relaxed);
    let (_, held) = until_within(TOLD, "Redis is back", || {
        Some(ringdnsd.readyz()).filter(|(_, reason)| reason.contains("all is well again"))
    });
    assert!(held.contains("s more (control.ready_hold_down)"), "{held}");
    let seen = Instant::now();
    until_within(TOLD, "it is ready", || ringdnsd.readyz().0.then_some(()));
    // The time was running when it was first read.
    assert!(seen.elapsed() > Duration::from_millis(1_500), "{:?}", seen.elapsed());
    [&ringdnsd, &tolerant].into_iter().for_each(is_well);
    watch.is_well(restored);
}

#[test]
fn a_full_disk_is_told() {
    let (scene, disk) = (Scene::set(), SmallDisk::mount("1m"));
    let path = |name: &str| disk.path().join(name);
    let tables = format!(
        "[cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"4MiB\"\nsnapshot_file = {:?}\nsnapshot_every = \"1s\"\n\
         [query_log]\nenabled = true\nspool_dir = {:?}\nbatch_interval = \"200ms\"\n",
        path("cache.snapshot"),
        path("spool")
    );
    let post = Post::on(&scene.host);
    let ringdnsd = scene.start(&tables, &post.control());
    assert_eq!(scene.rcode("www.example"), 0);
    until_within(TOLD, "there is a snapshot", || path("cache.snapshot").exists().then_some(()));
    is_well(&ringdnsd);
    let mut watch = post.watch(&scene.host);
    disk.fill(0);
    let full = Instant::now();
    let said = shows(&ringdnsd, "snapshot_failing", "warning", 1);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(scene.rcode("log.example"), 0);
    let said = shows(&ringdnsd, "query_log_lost", "warning", 1);
    assert!(said.contains("cannot be written, and rows are lost: No space left on device"), "{said}");
    watch.tells(full, "snapshot_failing", "warning");
    watch.tells(full, "query_log_lost", "warning");
    disk.free();
    let freed = Instant::now();
    assert_eq!(scene.rcode("more.example"), 0);
    is_well(&ringdnsd);
    watch.is_well(freed);
    logs(&ringdnsd, "cache.snapshot can be written again");
    logs(&ringdnsd, "spool can be written again");
    let failures = |line: &&str| line.contains("snapshot cannot be written");
    assert_eq!(ringdnsd.process().output().lines().filter(failures).count(), 1, "it is logged once");
}

#[test]
fn a_clickhouse_that_died_is_told() {
    let (scene, spool) = (Scene::set(), tempfile::tempdir().unwrap());
    let mut server = ClickHouse::start(&scene.host, "problems");
    let tables = format!(
        "[query_log]\nenabled = true\nspool_dir = {:?}\nbatch_interval = \"200ms\"\n[clickhouse]\nurl = \"{}\"\n\
         password_file = {:?}\n",
        spool.path(),
        server.url(),
        server.password_file()
    );
    let ringdnsd = scene.start(&tables, "ready_requires = [\"query-log\"]");
    assert_eq!(scene.rcode("www.example"), 0);
    until_within(TOLD, "the row is stored", || (ringdnsd.stat("/query_log/rows/stored") == 1).then_some(()));
    is_well(&ringdnsd);
    server.kill9();
    assert_eq!(scene.rcode("spooled.example"), 0);
    let said = shows(&ringdnsd, "clickhouse_failing", "warning", 2);
    assert!(said.contains("the query log is kept on disk, because ClickHouse "), "{said}");
    logs(&ringdnsd, "the query log is spooled: ClickHouse");
    server.start_again();
    // ClickHouse itself takes its time to start.
    until_within(Duration::from_secs(60), "it is ready", || ringdnsd.readyz().0.then_some(()));
    is_well(&ringdnsd);
    logs(&ringdnsd, "ClickHouse accepts the query log again");
}

#[test]
fn a_link_that_is_unplugged_is_told() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let post = Post::on(lab.server());
    let settings = Settings { control: post.control(), ..Settings::xdp(upstream.address()) };
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let link = |state: &str| lab.client().run("ip", ["link", "set", "dev", "vc", state]);
    until_within(TOLD, "it answers", || (check(&ringdnsd).0 == 0).then_some(()));
    let mut watch = post.watch(lab.server());
    link("down");
    let unplugged = Instant::now();
    let said = shows(&ringdnsd, "no_reception", "critical", 2);
    assert!(said.starts_with("RINGDNS CRITICAL: the link of vs is down|"), "{said}");
    logs(&ringdnsd, "the link of vs is down: clients behind it get no answers");
    watch.tells(unplugged, "no_reception", "critical");
    link("up");
    let plugged = Instant::now();
    until_within(TOLD, "it answers", || (check(&ringdnsd).0 == 0).then_some(()));
    watch.is_well(plugged);
    logs(&ringdnsd, "the link of vs is up again");
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
}

#[test]
fn a_certificate_that_has_expired_is_told() {
    let (scene, authority) = (Scene::set(), Authority::generate());
    let [tls, https] = [free_address(&scene.host), free_address(&scene.host)];
    let server = |expired| {
        let (certificate, key) = authority.vouch("dns.test", expired);
        Unbound::encrypted(&scene.host, tls, https, &certificate.pem(), &key.serialize_pem())
    };
    let tables = format!(
        "[[upstream]]\naddress = \"tls://{tls}#dns.test\"\ntls_ca_file = {:?}\nzones = [\"wild.example\"]\n\
         [resolver]\nzone_misses = 0\n",
        authority.path()
    );
    let post = Post::on(&scene.host);
    let ringdnsd = scene.start(&tables, &post.control());
    let mut watch = post.watch(&scene.host);
    let mut expired = server(true);
    let refused = Instant::now();
    assert_eq!(scene.rcode("a.wild.example"), SERVFAIL);
    let said = shows(&ringdnsd, "upstream_not_trusted", "warning", 1);
    assert!(
        said.contains(&format!("tls://{tls}#dns.test is not asked: ")) && said.contains("expired"),
        "{said}"
    );
    logs(&ringdnsd, "upstream is not asked: ");
    watch.tells(refused, "upstream_not_trusted", "warning");
    expired.process().signal(Signal::TERM);
    expired.process().wait_for_exit(TOLD);
    drop(expired);
    let _server = server(false);
    let renewed = Instant::now();
    // Names that fail at once, thousands a second, would be a flood of the zone, which zone_misses caps.
    let mut names = (0..).map(|nth| format!("n{nth}.wild.example"));
    until_within(TOLD, "it is asked", || (scene.rcode(&names.next()?) == 0).then_some(()));
    is_well(&ringdnsd);
    watch.is_well(renewed);
    logs(&ringdnsd, "upstream is asked over TLS again");
}

#[test]
fn a_jump_of_the_system_clock_is_told() {
    let (scene, folder) = (Scene::set(), tempfile::tempdir().unwrap());
    let file = folder.path().join("clock");
    fs::write(&file, "+0\n").unwrap();
    let wrapper = from_clock_file(&file);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let ringdnsd = Ringdnsd::start_behind(&scene.host, &scene.settings("", ""), &wrapper);
    is_well(&ringdnsd);
    fs::write(&file, "+7200\n").unwrap();
    let said = shows(&ringdnsd, "clock_jumped", "warning", 1);
    assert!(said.contains("the system clock jumped forward by 7"), "{said}");
    logs(&ringdnsd, "the system clock jumped forward by 7");
}

#[test]
fn a_configuration_that_is_refused_or_waits_is_told() {
    let scene = Scene::set();
    let ringdnsd = scene.start("", "");
    let write = |tables: &str| ringdnsd.configure(|socket| scene.settings(tables, "").text(socket));
    write("\n[tcp]\nconnections = \"many\"\n");
    assert!(!ringdnsd.ctl(&["reload"]).status.success());
    let said = shows(&ringdnsd, "config_refused", "warning", 1);
    assert!(said.contains("the file has 1 problem, which `ringctl reload`"), "{said}");
    assert!(ringdnsd.get("/metrics").unwrap().1.contains("\nringdns_config_last_reload_successful 0\n"));
    write("\n[tcp]\nconnections = 77\n");
    ringdnsd.told(&["reload"]);
    let said = shows(&ringdnsd, "restart_pending", "info", 0);
    assert!(said.contains("[tcp] has changed, and takes effect with the next restart"), "{said}");
    let metrics = ringdnsd.get("/metrics").unwrap().1;
    assert!(metrics.contains("\nringdns_config_last_reload_successful 1\n"), "{metrics}");
    assert!(metrics.contains("\nringdns_config_restart_pending 1\n"), "{metrics}");
    write("");
    ringdnsd.told(&["reload"]);
    is_well(&ringdnsd);
}

#[test]
fn a_stop_sends_clients_elsewhere_first() {
    let scene = Scene::set();
    let mut ringdnsd = scene.start("", "drain = \"2m\"");
    let mut command = ringdnsd.ctl_command();
    command.args(["ready", "--follow"]);
    let follower = Process::spawn("ringctl", command);
    follower.wait_for_line("ready", TOLD);
    assert!(ringdnsd.ctl(&["ready"]).status.success());
    ringdnsd.process().signal(Signal::TERM);
    follower.wait_for_line("not ready: ringdnsd stops soon, and answers until then (control.drain)", TOLD);
    logs(&ringdnsd, "draining: /readyz answers 503, and queries are answered");
    assert_eq!(ringdnsd.ctl(&["ready"]).status.code(), Some(1));
    assert_eq!((scene.rcode("www.example"), ringdnsd.get("/healthz").unwrap().0), (0, 200));
    assert_eq!(check(&ringdnsd).0, 2);
    // A second signal ends the wait.
    assert!(ringdnsd.terminate().success());
    follower.wait_for_line("not ready: no ringdnsd at ", TOLD);

    let mut ringdnsd = scene.start("", "drain = \"1s\"");
    let begun = Instant::now();
    assert!(ringdnsd.terminate().success());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn monitoring_is_told_of_a_ringdnsd_that_does_not_run() {
    let scene = Scene::set();
    let mut ringdnsd = scene.start("", "");
    let json = ringdnsd.ctl(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["state"], &json["problems"]), (&"OK".into(), &serde_json::json!([])));
    assert_eq!(ringdnsd.ctl(&["check", "--ignore", "nothing"]).status.code(), Some(3));
    assert!(ringdnsd.terminate().success());
    assert!(!Path::new(&ringdnsd.socket()).exists());
    let (code, said) = check(&ringdnsd);
    assert!(code == 2 && said.starts_with("RINGDNS CRITICAL: no ringdnsd at "), "{code} {said}");
}
