//! Streams against upstreams on loopback that answer out of order, close connections, answer
//! slowly, or show the wrong certificate.

pub(crate) mod stage;
mod told;

use super::*;
use crate::upstream::choice::Upstreams;
use hyper::body::Bytes;
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, TtlRules},
        query::Query,
    },
    labels::Labels,
};
use ringdns_testkit::tls::{Authority, server};
use stage::{Asked, Line, Said, Stage};
use std::net::SocketAddr;

/// Returns the answer to `query`.
fn a_record(query: &[u8], ttl: u32) -> Vec<u8> {
    ringdns_testkit::Asked(query.to_vec()).answer(ttl)
}

/// One upstream, as `[[upstream]]` says.
fn upstream(lines: &str) -> Arc<Upstream> {
    let text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\n{lines}\n");
    let config = Config::parse(&text, std::path::Path::new("")).unwrap();
    Upstreams::new(&config.upstreams, &config.resolver, &Labels::default(), None).get(0).clone()
}

fn tcp(address: SocketAddr) -> Arc<Upstream> {
    upstream(&format!("address = \"tcp://{address}\""))
}

fn key(name: &str) -> Key {
    names::key(&names::name(name).unwrap(), 1, false, false).unwrap()
}

async fn answer(upstream: &Arc<Upstream>, key: &Key) -> Result<Answer, AskError> {
    let ttl = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 0, ahead: 0 };
    let rules = JudgeRules { ttl, clock: Clock::start() };
    match ask(upstream, key, &rules, Manner::over_stream(upstream, key, rules.clock)).await? {
        Judged::Answer(answer, _) => Ok(answer),
        judged => panic!("{judged:?}"),
    }
}

/// Asks in a task of its own.
fn asking(upstream: &Arc<Upstream>, name: &str) -> tokio::task::JoinHandle<Result<Answer, AskError>> {
    let (upstream, key) = (upstream.clone(), key(name));
    tokio::spawn(async move { answer(&upstream, &key).await })
}

/// Asks, and gives up soon.
async fn ask_briefly(upstream: &Arc<Upstream>, name: &str) -> Result<Answer, AskError> {
    timeout(Duration::from_millis(100), answer(upstream, &key(name))).await.unwrap_or(Err(AskError::Timeout))
}

fn count(upstream: &Upstream, name: &str) -> u64 {
    upstream.counters.totals().iter().find(|total| total.name == name).unwrap().value
}

/// Receives a query on a connection, answers it, and checks that the answer arrives.
async fn serve_one(line: &mut Line, asked: tokio::task::JoinHandle<Result<Answer, AskError>>) {
    let query = line.hear().await;
    line.say(&a_record(&query, 60)).await;
    assert_eq!(asked.await.unwrap().unwrap().ttl, 60);
}

#[tokio::test]
async fn queries_share_a_connection_and_are_answered_in_any_order() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked: Vec<_> = (0..8).map(|i| asking(&upstream, &format!("{i}.example"))).collect();
    let mut line = stage.accept().await.unwrap();
    let mut queries = Vec::new();
    for _ in 0..8 {
        queries.push(line.hear().await);
    }
    // Each answer's TTL tells which question it is for: the digit that the name begins with.
    for query in queries.iter().rev() {
        line.say(&a_record(query, 100 + u32::from(query[13]))).await;
    }
    for (i, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap().unwrap().ttl, 100 + u32::from(b'0') + i as u32);
    }
    let counters = ["queries_tcp", "connections", "connections_reused"];
    assert_eq!(counters.map(|name| count(&upstream, name)), [8, 1, 7]);
}

#[tokio::test]
async fn connections_are_few_however_many_queries_there_are() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked: Vec<_> = (0..CONNECTIONS_MAX * IN_FLIGHT_MAX + 10)
        .map(|i| asking(&upstream, &format!("{i}.example")))
        .collect();
    let mut lines = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut line = stage.accept().await.unwrap();
        lines.push(tokio::spawn(async move {
            let mut held = Vec::new();
            // The connection is full before the first query has its answer.
            while held.len() < IN_FLIGHT_MAX {
                held.push(line.hear().await);
            }
            for query in held {
                line.say(&a_record(&query, 60)).await;
            }
            loop {
                let query = line.hear().await;
                line.say(&a_record(&query, 60)).await;
            }
        }));
    }
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().ttl, 60);
    }
    assert_eq!(count(&upstream, "connections"), CONNECTIONS_MAX as u64);
    lines.iter().for_each(|line| line.abort());
}

#[tokio::test]
async fn a_connection_that_worked_and_breaks_is_replaced_and_its_queries_sent_again() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked = asking(&upstream, "first.example");
    let mut line = stage.accept().await.unwrap();
    serve_one(&mut line, asked).await;
    let asked = asking(&upstream, "another.example");
    serve_one(&mut line, asked).await;
    let asked = [asking(&upstream, "second.example"), asking(&upstream, "third.example")];
    line.hear().await;
    line.hear().await;
    drop(line);
    let mut line = stage.accept().await.unwrap();
    for _ in 0..2 {
        let query = line.hear().await;
        line.say(&a_record(&query, 60)).await;
    }
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().ttl, 60);
    }
    // A new connection that breaks at once is a failure: a third one would break as well.
    let asked = asking(&upstream, "fourth.example");
    line.hear().await;
    drop(line);
    let mut line = stage.accept().await.unwrap();
    line.hear().await;
    drop(line);
    assert!(matches!(asked.await.unwrap(), Err(AskError::Unreachable(_))));
    assert_eq!(count(&upstream, "connections"), 3);
}

/// Serves one query a connection, or `most`, and closes it then.
async fn serve_few(stage: Stage, most: usize) {
    loop {
        let Ok(mut line) = stage.accept().await else { continue };
        tokio::spawn(async move {
            for _ in 0..most {
                let query = line.hear().await;
                line.say(&a_record(&query, 60)).await;
            }
        });
    }
}

#[tokio::test]
async fn an_upstream_that_closes_after_a_few_answers_answers_all_queries() {
    for most in [1, 3] {
        let stage = Stage::open(None).await;
        let upstream = tcp(stage.address());
        let serving = tokio::spawn(serve_few(stage, most));
        for round in 0..3 {
            let asked: Vec<_> = (0..20).map(|i| asking(&upstream, &format!("{i}.{round}.example"))).collect();
            for (i, asked) in asked.into_iter().enumerate() {
                let ttl = asked.await.unwrap().map(|answer| answer.ttl);
                assert!(matches!(ttl, Ok(60)), "query {i} of round {round}, {most} a connection: {ttl:?}");
            }
        }
        let crowded = upstream.streams.crowded.load(Relaxed);
        assert!(crowded <= most, "{crowded} queries share a connection that brings {most} answers");
        serving.abort();
    }
}

#[tokio::test]
async fn a_second_connection_is_tried_while_the_first_is_stuck() {
    let authority = Authority::generate();
    let stage = Stage::open(Some(server(authority.vouch("dns.test", false), b"dot"))).await;
    let (address, authority) = (stage.address(), authority.path());
    let upstream = upstream(&format!("address = \"tls://{address}#dns.test\"\ntls_ca_file = {authority:?}"));
    let asked = asking(&upstream, "first.example");
    // The handshake on this one never comes.
    let stuck = stage.accept_tcp().await.unwrap();
    let mut line = stage.accept().await.unwrap();
    serve_one(&mut line, asked).await;
    // The next query does not wait for the stuck one.
    let asked = asking(&upstream, "second.example");
    serve_one(&mut line, asked).await;
    assert_eq!(count(&upstream, "connections"), 1);
    drop(stuck);
}

/// A byte now and then keeps a connection from ending, but queries wait for it no longer than for
/// silence, and new queries do not use it.
#[tokio::test]
async fn a_connection_that_brings_nothing_in_time_gets_no_new_queries() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let slow = tokio::spawn(async move {
        let mut line = stage.accept().await.unwrap();
        let query = line.hear().await;
        let mut message = vec![0, 200];
        message.extend_from_slice(&a_record(&query, 60));
        for byte in message {
            if line.write(&[byte]).await.is_err() {
                // The client has left.
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (stage, line)
    });
    assert!(matches!(ask_briefly(&upstream, "first.example").await, Err(AskError::Timeout)));
    let (stage, mut line) = slow.await.unwrap();
    let asked = asking(&upstream, "second.example");
    let mut second = stage.accept().await.unwrap();
    serve_one(&mut second, asked).await;
    assert!(line.is_closed().await, "the first is closed when nobody waits for it any more");
}

#[tokio::test]
async fn what_answers_nothing_is_counted_and_ends_the_connection_if_it_goes_on() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked = asking(&upstream, "first.example");
    let mut line = stage.accept().await.unwrap();
    let query = line.hear().await;
    let mut lie = a_record(&query, 1);
    lie[0] ^= 0xff;
    line.say(&lie).await;
    line.say(&[]).await;
    line.say(&a_record(&query, 60)).await;
    assert_eq!(asked.await.unwrap().unwrap().ttl, 60);
    assert_eq!(count(&upstream, "ignored_wrong_id"), 2);
    for _ in 0..framed::STRAYS_MAX {
        line.say(&lie).await;
    }
    assert!(line.is_closed().await);
}

#[tokio::test]
async fn a_response_to_another_question_is_no_answer() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked = asking(&upstream, "first.example");
    let mut line = stage.accept().await.unwrap();
    let query = line.hear().await;
    let mut lie = a_record(&query, 60);
    lie[13] ^= 0x01;
    line.say(&lie).await;
    assert!(matches!(asked.await.unwrap(), Err(AskError::Malformed)));
    // Long before IDLE_MAX: a connection with a wrong answer gets no new queries.
    let closed = timeout(IDLE_MAX / 2, line.is_closed()).await;
    assert_eq!(closed, Ok(true));
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let asked = asking(&upstream, "first.example");
    let mut line = stage.accept().await.unwrap();
    serve_one(&mut line, asked).await;
    tokio::time::pause();
    let began = Instant::now();
    assert!(line.is_closed().await);
    assert!(began.elapsed() >= IDLE_MAX, "{:?}", began.elapsed());
}

#[tokio::test]
async fn names_in_certificates_decide() {
    let (authority, other) = (Authority::generate(), Authority::generate());
    let ours = |line: &str| format!("{line}\ntls_ca_file = {:?}", authority.path());
    for (shown, expired, lines, complaint) in [
        ("dns.test", false, ours("address = \"tls://ADDRESS#dns.test\""), None),
        ("127.0.0.1", false, ours("address = \"tls://ADDRESS\""), None),
        ("dns.test", false, ours("address = \"tls://ADDRESS\""), Some("is not for 127.0.0.1, but for")),
        (
            "evil.test",
            false,
            ours("address = \"tls://ADDRESS#dns.test\""),
            Some("is not for dns.test, but for"),
        ),
        ("dns.test", true, ours("address = \"tls://ADDRESS#dns.test\""), Some("has expired")),
        (
            "dns.test",
            false,
            format!("address = \"tls://ADDRESS#dns.test\"\ntls_ca_file = {:?}", other.path()),
            Some("a CA that is not trusted"),
        ),
        (
            "dns.test",
            false,
            "address = \"tls://ADDRESS#dns.test\"".to_owned(),
            Some("a CA that is not trusted"),
        ),
    ] {
        let stage = Stage::open(Some(server(authority.vouch(shown, expired), b"dot"))).await;
        let upstream = upstream(&lines.replace("ADDRESS", &stage.address().to_string()));
        let asked = asking(&upstream, "www.example");
        let line = stage.accept().await;
        let Some(complaint) = complaint else {
            serve_one(&mut line.unwrap(), asked).await;
            assert_eq!((count(&upstream, "queries_tls"), count(&upstream, "tls_failures")), (1, 0));
            continue;
        };
        assert!(line.is_err(), "{lines}");
        let error = asked.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(complaint), "{error} should contain {complaint}");
        assert_eq!((count(&upstream, "connections"), count(&upstream, "tls_failures")), (0, 1));
        // A handshake costs more than a query: the next queries fail without one, for a second.
        for _ in 0..9 {
            let error = answer(&upstream, &key("www.example")).await.unwrap_err().to_string();
            assert!(error.contains(complaint), "{error} should contain {complaint}");
        }
        assert_eq!(count(&upstream, "tls_failures"), 1);
    }
}

#[tokio::test]
async fn sessions_are_taken_up_again_and_queries_padded() {
    let authority = Authority::generate();
    let stage = Stage::open(Some(server(authority.vouch("dns.test", false), b"dot"))).await;
    let upstream = upstream(&format!(
        "address = \"tls://{}#dns.test\"\ntls_ca_file = {:?}",
        stage.address(),
        authority.path()
    ));
    for resumed in [false, true] {
        let asked = asking(&upstream, "www.example");
        let mut line = stage.accept().await.unwrap();
        assert_eq!(line.resumed, resumed);
        let query = line.hear().await;
        assert_eq!(query.len(), 128);
        let mut parsed = Query::default();
        parsed.parse(&query).unwrap();
        assert_eq!(parsed.edns.unwrap().udp_size, 1232);
        line.say(&a_record(&query, 60)).await;
        assert!(asked.await.unwrap().is_ok());
        upstream.streams.open.lock().clear();
    }
}

#[test]
fn padding_fills_blocks_whatever_the_length_and_needs_an_opt_record() {
    for length in 1..200 {
        let name: String = (0..length).map(|at| if at % 50 == 49 { '.' } else { 'a' }).collect();
        let Ok(name) = names::name(name.trim_end_matches('.')) else { continue };
        let mut query = names::query_message(&name, [1, 1], 7, 0, Some((1232, true)));
        let opt = header::LEN + name.len() + 4;
        pad(&mut query, opt);
        assert_eq!(query.len() % 128, 0, "{length}");
        let mut parsed = Query::default();
        parsed.parse(&query).unwrap();
        assert!(parsed.edns.unwrap().dnssec_ok);
        let mut bare = names::query_message(&name, [1, 1], 7, 0, None);
        pad(&mut bare, opt);
        assert_eq!(bare.len(), opt);
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_not_there() {
    let authority = Authority::generate();
    let stage = Stage::open(Some(server(authority.vouch("dns.test", false), b"dot"))).await;
    let upstream = upstream(&format!(
        "address = \"tls://dns.test:{}\"\nbootstrap = [\"127.0.0.2\", \"127.0.0.1\"]\ntls_ca_file = {:?}",
        stage.address().port(),
        authority.path()
    ));
    let asked = asking(&upstream, "www.example");
    serve_one(&mut stage.accept().await.unwrap(), asked).await;
}

/// Upstream over HTTPS that runs `script` on all requests, and a guard that keeps it running.
async fn over_https(script: impl Fn(Asked) -> Said + Send + Sync + 'static) -> (Arc<Upstream>, impl Sized) {
    let authority = Authority::generate();
    let stage = Stage::open(Some(server(authority.vouch("127.0.0.1", false), b"h2"))).await;
    let lines =
        format!("address = \"https://{}/dns-query\"\ntls_ca_file = {:?}", stage.address(), authority.path());
    (upstream(&lines), stage.serve_http(script))
}

fn said(status: u16, kind: &str, pieces: Vec<Bytes>) -> Said {
    (hyper::Response::builder().status(status).header("content-type", kind), pieces)
}

const MESSAGE: &str = "application/dns-message";

#[tokio::test]
async fn queries_over_https_share_a_connection_and_have_no_id() {
    let (upstream, _serving) = over_https(|asked| {
        let Asked { head, body } = asked;
        assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/dns-query"));
        assert_eq!([&head.headers["content-type"], &head.headers["accept"]], [MESSAGE; 2]);
        assert_eq!((&body[..2], body.len()), (&[0, 0][..], 128));
        // The body comes in two pieces, since it need not come in one.
        let mut message = Bytes::from(a_record(&body, 60));
        let first = message.split_to(5);
        said(200, MESSAGE, vec![first, message])
    })
    .await;
    let asked: Vec<_> = (0..8).map(|i| asking(&upstream, &format!("{i}.example"))).collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().ttl, 60);
    }
    let counters = ["queries_https", "connections", "connections_reused"];
    assert_eq!(counters.map(|name| count(&upstream, name)), [8, 1, 7]);
}

#[tokio::test]
async fn what_is_no_message_over_https_is_a_failure_with_a_reason() {
    let (upstream, _serving) = over_https(|Asked { body, .. }| {
        let message = Bytes::from(a_record(&body, 60));
        match body[13] {
            b'1' => said(404, MESSAGE, vec![message]),
            b'2' => said(200, "text/html", vec![message]),
            b'3' => said(200, MESSAGE, vec![Bytes::from(vec![0; 65_536]); 100]),
            b'4' => said(200, MESSAGE, vec![Bytes::from_static(b"junk")]),
            _ => said(200, "Application/DNS-message; charset=x", vec![message]),
        }
    })
    .await;
    for (name, expected) in [
        ("1.example", "HTTP status 404"),
        ("2.example", "\"text/html\""),
        ("3.example", "longer than 65535"),
        ("4.example", "malformed"),
    ] {
        let error = asking(&upstream, name).await.unwrap().unwrap_err().to_string();
        assert!(error.contains(expected), "{error} should contain {expected}");
    }
    assert!(asking(&upstream, "5.example").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up_and_the_next_query_has_a_new_connection() {
    let (upstream, _serving) = over_https(|Asked { body, .. }| {
        let message = Bytes::from(a_record(&body, 60));
        let slow = body[13] == b's';
        said(200, MESSAGE, if slow { vec![message.slice(..7), Bytes::new()] } else { vec![message] })
    })
    .await;
    assert!(matches!(ask_briefly(&upstream, "s.example").await, Err(AskError::Timeout)));
    assert!(asking(&upstream, "f.example").await.unwrap().is_ok());
    assert_eq!(count(&upstream, "connections"), 2);
}

#[tokio::test]
async fn time_spent_in_a_cache_of_http_is_taken_off() {
    let (upstream, _serving) = over_https(|Asked { body, .. }| {
        let (head, pieces) = said(200, MESSAGE, vec![Bytes::from(a_record(&body, 60))]);
        (head.header("age", "20"), pieces)
    })
    .await;
    assert_eq!(asking(&upstream, "www.example").await.unwrap().unwrap().ttl, 40);
}

#[tokio::test]
async fn one_that_speaks_no_http2_is_refused() {
    let authority = Authority::generate();
    let stage = Stage::open(Some(server(authority.vouch("127.0.0.1", false), b""))).await;
    let lines = format!("address = \"https://{}/\"\ntls_ca_file = {:?}", stage.address(), authority.path());
    let asked = asking(&upstream(&lines), "www.example");
    let _line = stage.accept().await;
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("HTTP/2"), "{error}");
}
