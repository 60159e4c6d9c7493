//! Tests of the HTTP API under clients that mean no good: it refuses or answers them, and takes
//! nothing from DNS.

mod document;
mod hostile;

use hostile::TOKENS;
use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, free_address, free_port, program, until,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::OwnedFd,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
    process::{Resource, Rlimit, Signal, getrlimit, setrlimit},
};
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running ringdnsd with its API on a TCP address of loopback.
struct Scene {
    ringdnsd: Ringdnsd,
    dns: SocketAddr,
    http: SocketAddr,
    _upstream: Upstream,
    tokens: PathBuf,
    _folder: TempDir,
}

impl Scene {
    fn set(wrapper: &[&str]) -> Self {
        let upstream = Upstream::with_ttl(300);
        let host = Host::local();
        let (dns, http) = (free_address(&host), SocketAddr::from(([127, 0, 0, 1], free_port(&host))));
        let mut settings = Settings::loopback(dns, upstream.address());
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        fs::write(&tokens, TOKENS).unwrap();
        settings.control =
            format!("http = \"{http}\"\nhttp_hosts = [\"dns1.example\"]\ntokens_file = {tokens:?}");
        // Overrides outlive the process: not in the folder of a ringdnsd that this host may have.
        settings.tables += &format!("\n[lists]\noverrides_file = {:?}", folder.path().join("overrides"));
        let ringdnsd = Ringdnsd::start_behind(&host, &settings, wrapper);
        Scene { ringdnsd, dns, http, _upstream: upstream, tokens, _folder: folder }
    }

    /// Sends bytes over TCP and returns all that comes back until the connection is closed.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A connection that is refused while it sends is answered nevertheless.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            panic!("{error} after {:?}", String::from_utf8_lossy(&answer));
        }
        answer
    }

    /// Returns all that a request must not change: configuration, lists, overrides, levels of the log, and
    /// an entry of the cache.
    fn state(&self) -> String {
        let show = |path: &str| {
            let (code, body) = self.ringdnsd.get(path).unwrap();
            assert_eq!(code, 200, "{path}: {body}");
            body
        };
        let entry: Vec<serde_json::Value> =
            serde_json::from_str(&show("/v1/cache/entry?name=kept.example")).unwrap();
        let mut status: serde_json::Value = serde_json::from_str(&show("/v1/status")).unwrap();
        for moving in ["uptime_secs", "process", "upstreams"] {
            status.as_object_mut().unwrap().remove(moving);
        }
        let others = ["/v1/policy/lists", "/v1/policy/overrides", "/v1/logging"].map(show);
        format!("{status:#}\n{others:?}\n{}", entry[0]["records"])
    }

    fn is_healthy(&self) {
        let answer = self.exchange(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&answer), 200, "{}", String::from_utf8_lossy(&answer));
    }
}

/// Returns the status code of a response; 0 for none.
fn status(answer: &[u8]) -> u16 {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let code = line.strip_prefix(b"HTTP/1.1 ").or(line.strip_prefix(b"HTTP/1.0 "));
    code.and_then(|code| std::str::from_utf8(code.get(..3)?).ok()?.parse().ok()).unwrap_or(0)
}

#[test]
fn hostile_requests_are_refused_or_answered_and_leave_nothing() {
    let scene = Scene::set(&[]);
    scene.is_healthy();
    let process = scene.ringdnsd.process();
    assert_eq!(Client::of(&Host::local(), scene.dns).ask(&Query::a("kept.example")).rcode(), 0);
    let (files, before) = (process.open_files(), scene.state());
    let cases = hostile::requests();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for (request, expected) in &cases {
        let answer = scene.exchange(request);
        let code = status(&answer);
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &answer[end + 4..]);
        let body = body.unwrap_or_default();
        // Whatever has a reason has it in one form, and no request is answered twice.
        let error = code >= 400 && !body.is_empty();
        let told = !error
            || serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body["error"].is_string());
        let once = answer.windows(9).filter(|part| part == b"HTTP/1.1 ").count() <= 1;
        if !expected.contains(&code) || !told || !once {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string().chars().take(300).collect::<String>();
            wrong.push(format!("{} not in {expected:?}: {}\n{}", code, text(request), text(&answer)));
        }
        scene.is_healthy();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    until("all connections are closed", || (process.open_files() <= files + 1).then_some(()));
    assert_eq!(scene.state(), before);
    println!("{} requests", cases.len());
    let stats = scene.ringdnsd.stats();
    let count = |name: &str| stats["api"][name].as_u64().unwrap();
    assert!(count("requests_refused") > 60 && count("requests_unauthorized") > 20);
    assert!(count("requests_malformed") > 5, "{:#}", stats["api"]);
    assert!(!process.output().contains("panicked"), "{}", process.output());
}

/// Raises this process's limit of descriptors, and returns whether it suffices.
fn raise_files(files: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum.map(|maximum| maximum.max(files));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.unwrap_or_else(|error| panic!("this test needs {files} descriptors: {error}"));
}

/// Begins a TCP connection and does not wait for it. Each round has a source address of its own, since
/// ports stay in use for a minute.
fn begin(address: SocketAddr, round: usize) -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    // The least that the kernel gives: a few kilobytes.
    sockopt::set_socket_recv_buffer_size(&socket, 1).unwrap();
    let from = SocketAddr::from(([127, 0, 1, round as u8], 0));
    rustix::net::bind(&socket, &from).unwrap();
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => socket,
        Err(error) => panic!("{error}"),
    }
}

/// Sends bytes on each connection that is established within a second. Returns the number of
/// those.
fn send_to_each(sockets: &[OwnedFd], bytes: &[u8]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut sent = 0;
    for socket in sockets {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = left.try_into().unwrap();
        let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&left));
        sent += usize::from(rustix::io::write(socket, bytes).is_ok());
    }
    sent
}

/// Times of misses, of queries over TCP and of requests over the Unix socket.
#[derive(Debug, Default)]
struct AskedTimes([Vec<Duration>; 3]);

impl AskedTimes {
    /// Asks several servers in turn for names that nobody has asked for, over UDP and TCP, and for
    /// their state. Everything must be answered.
    fn take<const N: usize>(scenes: [&Scene; N], round: &str) -> [Self; N] {
        let clients = scenes.map(|scene| Client::of(&Host::local(), scene.dns));
        let mut times: [Self; N] = std::array::from_fn(|_| Self::default());
        for number in 0..300 {
            for ((scene, client), AskedTimes([misses, tcp, socket])) in
                scenes.iter().zip(&clients).zip(&mut times)
            {
                let query = Query::a(&format!("udp{number}.{round}.example"));
                misses.push(timed(|| {
                    let reply = client.ask_within(&query, PATIENCE).unwrap_or_else(|| {
                        panic!("no reply to {query:?}: {:#}", scene.ringdnsd.stats());
                    });
                    assert_eq!((reply.rcode(), reply.answers()), (0, 1));
                }));
                let query = Query::a(&format!("tcp{number}.{round}.example"));
                tcp.push(timed(|| {
                    let reply = &ask_over_tcp(&Host::local(), scene.dns, &[query])[0];
                    assert_eq!((reply.rcode(), reply.answers()), (0, 1));
                }));
                // The times of ringctl itself would be those of a fork with thousands of descriptors.
                socket.push(timed(|| assert_eq!(scene.ringdnsd.readyz(), (true, "ok\n".to_owned()))));
            }
        }
        scenes.iter().for_each(|scene| drop(scene.ringdnsd.told(&["status"])));
        for AskedTimes(kinds) in &mut times {
            kinds.iter_mut().for_each(|times| times.sort());
        }
        times
    }

    /// Returns the medians in seconds.
    fn medians(&self) -> [f64; 3] {
        self.0.each_ref().map(|times| times[times.len() / 2].as_secs_f64())
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// Number of rounds: one as a test, more to measure.
fn rounds() -> usize {
    let said = std::env::var("RINGDNS_ROUNDS").ok();
    said.map_or(1, |said| said.parse().expect("RINGDNS_ROUNDS is a number"))
}

/// Stages of a round.
const STAGES: [&str; 5] = [
    "no other connections",
    "2,048 half-open requests",
    "and 10,000 idle connections",
    "and 200 slow readers",
    "200 slow readers alone",
];

/// Times of a round: of the server whose API is attacked, and of the other one.
type RoundTimes = [[AskedTimes; 2]; STAGES.len()];

/// Asks both servers in each stage of a round.
fn take_round(scene: &Scene, other: &Scene, round: usize) -> RoundTimes {
    let take = |stage: usize| AskedTimes::take([scene, other], &format!("stage{stage}.round{round}"));
    let answers = || status(&scene.exchange(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 200;
    let undisturbed = take(0);

    let half = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ";
    let mut held: Vec<OwnedFd> = (0..2048).map(|_| begin(scene.http, round)).collect();
    send_to_each(&held, half);
    let mut owners: Vec<UnixStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = UnixStream::connect(scene.ringdnsd.socket()).unwrap();
        // It may have been replaced already.
        let _ = stream.write_all(half);
        owners.push(stream);
    }
    let half_open = take(1);

    held.extend((0..10_000).map(|_| begin(scene.http, round)));
    let idle = take(2);

    let readers: Vec<OwnedFd> = (0..200).map(|_| begin(scene.http, round)).collect();
    send_to_each(&readers, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let slow = take(3);
    drop(held);
    drop(readers);

    until("the API answers", || answers().then_some(()));
    // Slow readers alone: all that find a place are at work at once.
    let readers: Vec<OwnedFd> = (0..200).map(|_| begin(scene.http, round)).collect();
    let asked = send_to_each(&readers, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // The others wait until the kernel tries to connect again.
    assert!(asked > 0, "no reader was accepted");
    let slow_alone = take(4);
    drop(readers);
    drop(owners);
    until("the API answers", || answers().then_some(()));
    [undisturbed, half_open, idle, slow, slow_alone]
}

/// Prints the median over rounds of each stage, and of its ratio to that of the other server, which
/// was asked at the same time: the kernel's work for thousands of connections slows both down.
fn show(rounds: &[RoundTimes]) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (stage, text) in STAGES.iter().enumerate() {
        for (kind, name) in ["misses", "tcp", "socket"].iter().enumerate() {
            let both =
                || rounds.iter().map(|round| round[stage].each_ref().map(|times| times.medians()[kind]));
            let micros = median(both().map(|[attacked, _]| attacked * 1e6).collect());
            let ratio = median(both().map(|[attacked, other]| attacked / other).collect());
            println!("{text}: {name}: median {micros:.0} \u{b5}s, {ratio:.2} of the other server's");
        }
    }
}

/// The process's limit of descriptors is a tenth of what its clients open. A query or a request that
/// is not answered within seconds fails its client.
#[test]
fn connections_of_the_api_take_nothing_from_dns() {
    raise_files(16_000);
    let scene = Scene::set(&["prlimit", "--nofile=1536:1536"]);
    let process = scene.ringdnsd.process();
    let other = Scene::set(&[]);
    AskedTimes::take([&scene, &other], "warm");
    let (files, resident) = (process.open_files(), process.resident());
    let rounds: Vec<_> = (0..rounds()).map(|round| take_round(&scene, &other, round)).collect();
    show(&rounds);

    until("all connections are closed", || (process.open_files() <= files + 1).then_some(()));
    let grown = process.resident().saturating_sub(resident) >> 20;
    assert!(grown < 24, "{grown} MiB more than before");
    println!("resident memory: {grown} MiB more than before; {files} descriptors before and after");
    println!("{:#}", scene.ringdnsd.stats()["api"]);
}

/// A token is made, put into the file, used over TCP, and withdrawn; the audit log tells of it.
#[test]
fn tokens_are_made_used_and_withdrawn() {
    let scene = Scene::set(&[]);
    let folder = tempfile::tempdir().unwrap();
    let made = |role: &str| {
        let told = scene.ringdnsd.told(&["--json", "token", "new", "--name", "alice@lab", "--role", role]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let [token, line] = ["token", "line"].map(|key| told[key].as_str().unwrap().to_owned());
        assert!(token.starts_with("ringdns_") && token.len() == 72 && !line.contains(&token), "{told}");
        let file = folder.path().join(role);
        fs::write(&file, format!("{token}\n")).unwrap();
        (file, line, token)
    };
    let ((read, line, secret), (operate, other, _)) = (made("read"), made("operate"));
    let with = |file: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(program("ringctl"));
        command.args(["--url", &format!("http://{}", scene.http), "--token-file"]).arg(file);
        let output = command.args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(with(&read, &["status"]).1.contains("in no line of control.tokens_file"));
    fs::write(&scene.tokens, format!("{line}\n{}", TOKENS)).unwrap();
    scene.ringdnsd.process().signal(Signal::HUP);
    until("the token is known", || with(&read, &["status"]).0.then_some(()));
    let purge = ["cache", "purge", "--all"];
    assert!(with(&read, &purge).1.contains("needs operate"));
    fs::write(&scene.tokens, other).unwrap();
    assert!(scene.ringdnsd.told(&["reload"]).contains("[control] is in effect"));
    assert!(!with(&read, &["status"]).0, "it was withdrawn");
    assert!(with(&operate, &purge).0);
    let audit = scene.ringdnsd.told(&["audit"]);
    let lines: Vec<_> = audit.lines().collect();
    let words = [
        &["signal:SIGHUP", "/v1/reload: done"][..],
        &["token:alice@lab from 127.0.0.1:", "/v1/cache/purge?all=true: 403: "],
        &["/v1/reload: done"],
        &["token:alice@lab from 127.0.0.1:", "/v1/cache/purge?all=true: done"],
    ];
    assert_eq!(lines.len(), words.len(), "{audit}");
    for (line, words) in lines.iter().zip(words) {
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    }
    let log = scene.ringdnsd.process().output();
    assert!(log.contains("audit: change who=\"token:alice@lab\""), "{log}");
    assert!(!log.contains(&secret), "no token is in the log");
}

/// Runs a command whose standard output nobody reads.
fn without_reader(command: &mut Command) -> Output {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped()).output().unwrap()
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let scene = Scene::set(&[]);
    let configuration = scene.ringdnsd.socket().with_file_name("ringdns.toml");
    let mut check = Command::new(program("ringdnsd"));
    check.args(["--check", "--config"]).arg(configuration);
    for command in [
        scene.ringdnsd.ctl_command().args(["stats", "--all"]),
        scene.ringdnsd.ctl_command().args(["--json", "status"]),
        &mut check,
    ] {
        let output = without_reader(command);
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {output:?}");
    }
}

#[test]
fn signals_without_a_meaning_are_ignored_and_quit_is_a_stop() {
    let mut scene = Scene::set(&[]);
    for signal in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::HUP] {
        scene.ringdnsd.process().signal(signal);
    }
    scene.is_healthy();
    scene.ringdnsd.process().signal(Signal::QUIT);
    scene.ringdnsd.process().wait_for_line("stopping signal=\"SIGQUIT\"", PATIENCE);
    assert!(scene.ringdnsd.terminate().success());
}
