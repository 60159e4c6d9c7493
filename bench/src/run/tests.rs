use super::*;
use crate::upstream::{self, Upstream};

#[derive(clap::Parser)]
struct UpstreamCli {
    #[command(flatten)]
    args: upstream::Args,
}

#[derive(clap::Parser)]
struct RunCli {
    #[command(flatten)]
    args: Args,
}

fn upstream(arguments: &[&str]) -> Upstream {
    let cli: UpstreamCli = clap::Parser::parse_from([&["test", "--listen=127.0.0.1:0"], arguments].concat());
    Upstream::start(&cli.args).unwrap()
}

fn run(target: SocketAddr, arguments: &[&str]) -> Result<Report> {
    let target = format!("--target={target}");
    let cli: RunCli =
        clap::Parser::parse_from([&["test", target.as_str(), "--count=100"], arguments].concat());
    measure(&cli.args)
}

#[test]
fn a_closed_loop_gets_every_answer() {
    let upstream = upstream(&[]);
    let options =
        ["--warm", "--duration=0.2", "--window=20", "--mixed-case", "--verify-data", "--edns", "--do"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!(tally.sent() > 100, "{}", tally.sent());
    assert_eq!(tally.answered() + tally.lost(), tally.sent());
    assert_eq!((tally.lost(), tally.wrong, tally.unexpected), (0, [0; 3], 0));
    assert_eq!(tally.rcodes[0], tally.answered());
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_from_when_queries_were_due() {
    let upstream = upstream(&["--delay-us=20000", "--nxdomain-suffix=random.example"]);
    let options =
        ["--qps=2000", "--duration=0.5", "--random-share=50", "--threads=2", "--zipf=1", "--verify-data"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!((950..=1000).contains(&tally.sent()), "{}", tally.sent());
    assert_eq!(tally.lost(), 0);
    assert!((400..600).contains(&tally.random.sent), "{}", tally.random.sent);
    assert_eq!([tally.rcodes[0], tally.rcodes[3]], [tally.names.sent, tally.random.sent]);
    assert!(tally.names.latency.min() >= 20_000_000, "{}", tally.names.latency.min());
}

#[test]
fn losses_are_counted_and_warming_asks_again() {
    let upstream = upstream(&["--drop=20"]);
    let options = ["--warm", "--qps=1000", "--duration=0.3", "--timeout-ms=50"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert!(tally.lost() > 20, "{}", tally.lost());
    assert_eq!(tally.answered() + tally.lost(), tally.sent());
}

#[test]
fn late_answers_are_unexpected_and_not_answers() {
    let upstream = upstream(&["--delay-us=60000"]);
    let options = ["--qps=500", "--duration=0.3", "--timeout-ms=20"];
    let Report { tally, .. } = run(upstream.addresses()[0], &options).unwrap();
    assert_eq!(tally.answered(), 0);
    assert!(tally.unexpected > 50, "{}", tally.unexpected);
}

#[test]
fn a_dead_target_is_named() {
    let dead = upstream(&[]).addresses()[0];
    let error = run(dead, &["--warm", "--duration=0.1", "--timeout-ms=50"]).unwrap_err().to_string();
    assert!(error.contains(&dead.to_string()) && error.contains("server"), "{error}");
}
