//! Many queries of all kinds at full rate, hits and misses, over AF_XDP and TCP: no answer has
//! another question's data, ID, letter case, type, or signatures.
//!
//! `ringbench run --verify-answers` compares every reply with what the upstream says to that query.
//! The cache is far too small for the names, so that entries are overwritten all the time, and it
//! is purged all the time.
//!
//!     cargo test --release -p ringdns-tests --test mixed -- --nocapture                             # 200,000 queries
//!     RINGDNS_QUERIES=10000000 cargo test --release -p ringdns-tests --test mixed -- --nocapture    # ten million

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringdns_testkit::{Lab, Process, Ringdnsd, Settings, free_address, ringbench, until};
use serde_json::Value;
use tempfile::NamedTempFile;

/// Environment variable with the number of queries, and the default number.
const QUERIES: &str = "RINGDNS_QUERIES";
const SHORT: u64 = 200_000;
/// Number of names. With a dozen types each, with DO and without, their answers take some hundred
/// megabytes.
const NAMES: usize = 20_000;
/// One query in this many goes over TCP, at the same time as the others.
const OVER_TCP: u64 = 20;
/// Queries between two purges. Each purge empties the workers' caches.
const PURGE_EVERY: u64 = 5000;
/// Interval between two readings of the number of queries.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of the upstream: enough records that some answers are too long for some clients, and
/// suffixes with special answers.
const ANSWERS: &str = "--records 20 --signed --nxdomain-suffix none.example --nxdomain-suffix random.example \
    --nodata-suffix bare.example --truncate-suffix long.example --alias-suffix alias.example";
/// Suffixes of names, and the number of names in twenty with each.
const SUFFIXES: [(&str, usize); 5] = [
    ("plain.example", 14),
    ("none.example", 2),
    ("bare.example", 2),
    ("long.example", 1),
    ("alias.example", 1),
];
const TYPES: &str = "A:40,AAAA:20,TXT:8,MX:6,HTTPS:6,SRV:5,NS:3,CNAME:3,PTR:2,CAA:2,SOA:2,TYPE65280:2,ANY:1";

fn names() -> NamedTempFile {
    let kinds: Vec<&str> =
        SUFFIXES.iter().flat_map(|(suffix, share)| std::iter::repeat_n(*suffix, *share)).collect();
    let mut file = NamedTempFile::new().unwrap();
    let lines = (0..NAMES).map(|number| format!("name{number}.{}\n", kinds[number * 7 % kinds.len()]));
    file.write_all(lines.collect::<String>().as_bytes()).unwrap();
    file
}

/// Starts a generator that sends this many queries.
#[track_caller]
fn generate(lab: &Lab, names: &NamedTempFile, queries: u64, options: &[&str]) -> Process {
    let mut command = ringbench(lab.client());
    command.args(["run", "--target=10.53.0.2:53", "--mixed-case", "--do=30", "--cookie=10", "--edns=700"]);
    command.args([
        "--edns-share=50",
        "--zipf=1",
        "--random-share=5",
        "--timeout-ms=5000",
        "--json",
        "--quiet",
    ]);
    command.args(["--types", TYPES, "--verify-answers", ANSWERS]).arg("--names").arg(names.path());
    command.args([format!("--queries={queries}")]).args(options);
    Process::spawn("ringbench run", command)
}

/// Waits for a generator to end, and returns its report.
#[track_caller]
fn report(mut generator: Process) -> Value {
    let status = generator.wait_for_exit(Duration::from_secs(3600));
    let said = generator.output();
    assert!(status.success(), "{said}");
    // Warnings precede the report.
    let begin = said.find("{\n").unwrap_or_else(|| panic!("no report in {said}"));
    serde_json::from_str(&said[begin..]).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[track_caller]
fn count(of: &Value, pointer: &str) -> u64 {
    of.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {of:#}"))
}

/// Checks that every answer is right, and that nearly all queries have one. Returns the numbers of
/// answers and of truncated answers.
#[track_caller]
fn all_right(report: &Value, queries: u64) -> (u64, u64) {
    let (sent, answered) = (count(report, "/queries"), count(report, "/responses"));
    assert_eq!(sent, queries, "{report:#}");
    for wrong in ["question", "malformed", "data", "ttl"] {
        assert_eq!(count(report, &format!("/wrong/{wrong}")), 0, "wrong {wrong}: {report:#}");
    }
    assert_eq!(count(report, "/unexpected"), 0, "replies with unknown or repeated IDs: {report:#}");
    // A miss that finds the punt queue full is dropped and counted.
    assert!((sent - answered) * 1000 <= sent, "{report:#}");
    let rcodes = report["response_rcodes"].as_object().unwrap();
    let told = ["NOERROR", "NXDOMAIN"].map(|rcode| rcodes.get(rcode).and_then(Value::as_u64).unwrap_or(0));
    assert!(told.iter().all(|count| count * 50 > answered), "{rcodes:?}");
    let failures = answered - told.iter().sum::<u64>();
    assert!(failures * 1000 <= answered, "{rcodes:?}");
    (answered, count(report, "/truncated"))
}

#[test]
fn no_answer_of_many_is_anothers() {
    let queries = std::env::var(QUERIES).map_or(SHORT, |count| count.parse().expect("a number of queries"));
    let Some(lab) = Lab::up() else { return };
    let address = free_address(lab.server());
    let mut command = ringbench(lab.server());
    command.args(["upstream", "--listen", &address.to_string()]).args(ANSWERS.split_whitespace());
    let _upstream = Process::spawn("ringbench upstream", command);
    let tables =
        "[resolver]\nzone_misses = 0\n[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"8MiB\"".to_owned();
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings { tables, ..Settings::xdp(address) });
    let names = names();

    let over_rings = generate(&lab, &names, queries, &["--backend=rings", "--interface=vc", "--window=400"]);
    let tcp = queries / OVER_TCP;
    let over_tcp = generate(&lab, &names, tcp, &["--backend=tcp", "--window=40", "--seed=2"]);
    let done = AtomicBool::new(false);
    let (rings, tcp_report, purges) = thread::scope(|scope| {
        let purging = scope.spawn(|| {
            let mut purges = 0u64;
            while !done.load(Ordering::Relaxed) {
                if ringdnsd.stat("/total/received") < (purges + 1) * PURGE_EVERY {
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
                let name = format!("name{}.plain.example", purges % 100);
                match purges % 20 {
                    19 => ringdnsd.told(&["cache", "purge", "--all"]),
                    9 => ringdnsd.told(&["cache", "purge", "--suffix", "none.example"]),
                    _ => ringdnsd.told(&["cache", "purge", &name]),
                };
                purges += 1;
            }
            purges
        });
        let rings = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| report(over_rings)));
        let over_tcp = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| report(over_tcp)));
        done.store(true, Ordering::Relaxed);
        let purges = purging.join().expect("ringctl works");
        let unwound = |panic| std::panic::resume_unwind(panic);
        (rings.unwrap_or_else(unwound), over_tcp.unwrap_or_else(unwound), purges)
    });

    let (answered, cut) = all_right(&rings, queries);
    let (answered_over_tcp, cut_over_tcp) = all_right(&tcp_report, tcp);
    // The mixture contained truncated answers.
    assert!(cut * 50 > answered && cut_over_tcp == 0, "{cut} of {answered} were cut");
    let stats = ringdnsd.settled();
    let total = |name: &str| count(&stats["total"], &format!("/{name}"));
    assert!(total("hit") * 10 > queries && total("punted") * 10 > queries, "{stats:#}");
    assert!(total("evicted") > 0 && purges > 0, "{purges} purges: {stats:#}");
    assert!(count(&stats, "/upstreams/0/counters/queries_tcp") > 100, "{stats:#}");
    until("nothing is in flight", || (ringdnsd.stat("/resolver/under_way") == 0).then_some(()));
    println!(
        "{answered} of {queries} answered over AF_XDP at {:.0} a second, {answered_over_tcp} of {tcp} over TCP; \
         {} hits, {} misses, {cut} cut, {} entries evicted, {purges} purges; RCODEs {}, {}; none wrong",
        rings["answers_per_second"].as_f64().unwrap_or(0.0),
        total("hit"),
        total("punted"),
        total("evicted"),
        rings["response_rcodes"],
        tcp_report["response_rcodes"],
    );
}
