use super::*;
use crate::{options, upstream::Upstream};

pub(super) fn run(target: SocketAddr, arguments: &[&str]) -> Result<Report> {
    let target = format!("--target={target}");
    measure(&options::parse(&[&[target.as_str(), "--count=100"], arguments].concat())?)
}

#[test]
fn a_closed_loop_gets_every_answer() {
    let upstream = Upstream::started(&[]);
    let options =
        ["--warm", "--duration=0.2", "--window=20", "--mixed-case", "--verify-data", "--edns", "--do"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!(tally.sent() > 100, "{}", tally.sent());
    assert_eq!(tally.answered() + tally.lost(), tally.sent());
    assert_eq!((tally.lost(), tally.wrong, tally.unexpected), (0, [0; 4], 0));
    assert_eq!(tally.rcodes[0], tally.answered());
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_from_when_queries_were_due() {
    let upstream = Upstream::started(&["--delay-us=20000", "--nxdomain-suffix=random.example"]);
    let options =
        ["--qps=2000", "--duration=0.5", "--random-share=50", "--threads=2", "--zipf=1", "--verify-data"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!((950..=1000).contains(&tally.sent()), "{}", tally.sent());
    assert_eq!(tally.lost(), 0);
    assert!((400..600).contains(&tally.random.sent), "{}", tally.random.sent);
    assert_eq!([tally.rcodes[0], tally.rcodes[3]], [tally.names.sent, tally.random.sent]);
    assert!(tally.names.latency().unwrap().min() >= 20_000_000, "{}", tally.names.latency().unwrap().min());
}

#[test]
fn losses_are_counted_and_warming_asks_again() {
    let upstream = Upstream::started(&["--drop=20"]);
    let options = ["--warm", "--qps=1000", "--duration=0.3", "--timeout-ms=50"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!(tally.lost() > 20, "{}", tally.lost());
    assert_eq!(tally.answered() + tally.lost(), tally.sent());
}

#[test]
fn late_answers_are_unexpected_and_not_answers() {
    let upstream = Upstream::started(&["--delay-us=60000"]);
    let options = ["--qps=500", "--duration=0.3", "--timeout-ms=20"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert_eq!(tally.answered(), 0);
    assert!(tally.unexpected > 50, "{}", tally.unexpected);
}

#[test]
fn a_dead_target_is_named() {
    let dead = Upstream::started(&[]).addresses()[0];
    let error = run(dead, &["--warm", "--duration=0.1", "--timeout-ms=50"]).unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()) && error.contains("server"), "{error}");
}

#[test]
fn no_answer_is_earlier_than_its_server_sends_it() {
    let upstream = Upstream::started(&["--delay-us=3000"]);
    let Report { tally, .. } =
        run(upstream.addresses()[0], &["--qps=5000", "--duration=0.4", "--sockets=16", "--quiet"]).unwrap();
    let latency = tally.names.latency().unwrap();
    assert!(latency.len() > 100 && latency.min() >= 3_000_000, "{} ns", latency.min());
}

#[test]
fn a_stall_shows_in_every_query_that_it_held_up() {
    // Answers nothing for 200 ms, then everything at once.
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap();
    let answering = thread::spawn(move || {
        server.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = [0; 512];
        let mut stalled = false;
        while let Ok((len, from)) = server.recv_from(&mut buffer) {
            if !stalled {
                thread::sleep(Duration::from_millis(200));
                stalled = true;
            }
            buffer[2] |= 0x80;
            server.send_to(&buffer[..len], from).unwrap();
        }
    });
    let report = run(target, &["--qps=1000", "--duration=0.4", "--quiet"]).unwrap();
    answering.join().unwrap();
    let latency = report.tally.names.latency().unwrap();
    assert_eq!(report.tally.lost(), 0);
    // A closed loop would show one slow query in 400; due times show that half of them waited, 100
    // ms on average.
    let slow = latency.len() - latency.count_between(0, 50_000_000);
    assert!((100..250).contains(&slow), "{slow} of {} waited for 50 ms or more", latency.len());
    let sent: u64 = report.intervals.iter().map(|interval| interval.sent).sum();
    let answered: u64 = report.intervals.iter().map(|interval| interval.answered).sum();
    assert_eq!((sent, answered), (report.tally.sent(), report.tally.answered()));
}

#[test]
fn a_report_has_the_shape_of_dns_metrics() {
    let upstream = Upstream::started(&["--nxdomain-suffix=random.example"]);
    let options = ["--qps=2000", "--duration=0.3", "--random-share=50", "--quiet"];
    let report = run(upstream.addresses()[0], &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.json");
    report.write_metrics(&file).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1], *kinds.last().unwrap()), ("header", "stats_periodic", "stats_sum"));
    for key in ["schema_version", "generator", "generator_version", "stats_interval"] {
        assert!(!objects[0][key].is_null(), "the header lacks {key}");
    }
    let count = |object: &serde_json::Value, key: &str| {
        object[key].as_u64().unwrap_or_else(|| panic!("no {key} in {object}"))
    };
    for key in ["queries", "responses", "timeouts"] {
        let periods: u64 = objects[1..objects.len() - 1].iter().map(|object| count(object, key)).sum();
        assert_eq!(periods, count(objects.last().unwrap(), key), "{key}");
    }
    for object in &objects[1..] {
        assert_eq!(object["runid"], objects[0]["runid"]);
        assert!(count(object, "since") < count(object, "until"));
        let latency = &object["response_latency"];
        let in_buckets: u64 =
            latency["buckets"].as_array().unwrap().iter().map(|b| b[2].as_u64().unwrap()).sum();
        assert_eq!(in_buckets, count(object, "responses"));
        for key in ["avg", "min", "max", "stddev"] {
            count(latency, key);
        }
    }
    let sum = objects.last().unwrap();
    assert_eq!(count(sum, "unexpected") + count(sum, "discarded") + count(sum, "interrupted"), 0);
    assert_eq!(count(&sum["response_rcodes"], "NXDOMAIN"), count(&sum["random"], "answered"));
    let mut plot = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/plot.py"));
    let plotted = plot.args(["--print", "--out", "plots"]).arg(&file).output().unwrap();
    let printed = String::from_utf8_lossy(&plotted.stdout);
    for name in ["rate", "latency", "percentiles"] {
        assert!(printed.contains(&format!("plots/{name}.svg")), "{name}: {plotted:?}");
    }
    assert!(printed.contains("listed NOERROR") && printed.contains("random NXDOMAIN"), "{printed}");
}

#[test]
fn a_recording_is_asked_again_when_it_was() {
    let upstream = Upstream::started(&[]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for nth in 0..40 {
        std::io::Write::write_all(&mut file, format!("{} n{nth}.test A\n", f64::from(nth) / 50.0).as_bytes())
            .unwrap();
    }
    let target = format!("--target={}", upstream.addresses()[0]);
    let path = file.path().display().to_string();
    let arguments =
        [target.as_str(), "--replay", &path, "--speed=4", "--verify-data", "--quiet", "--threads=2"];
    let report = measure(&options::parse(&arguments).unwrap()).unwrap();
    assert_eq!((report.tally.sent(), report.tally.answered(), report.tally.wrong), (40, 40, [0; 4]));
    // 0.78 s at four times the speed: two intervals of 100 ms, about half of the queries in the first, and never more.
    let first = &report.intervals[0];
    assert!(report.intervals.len() >= 2 && first.sent <= 22, "{}", first.sent);
}
