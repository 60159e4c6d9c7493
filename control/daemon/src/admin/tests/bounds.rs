//! Tests of the time and the bytes that a connection may take, by a simulated clock.

use super::*;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// Time after which any of these connections has ended.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends bytes over a connection without a token, one piece after the other. Returns what comes back
/// until it is closed, and the time that this took.
async fn converse(doors: &Doors, pieces: &[&[u8]], pause: Duration) -> (String, Duration) {
    let (mut client, stream) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve_one(stream, doors.service.clone(), false));
    let began = Instant::now();
    for piece in pieces {
        // The server may have closed already.
        let _ = client.write_all(piece).await;
        sleep(pause).await;
    }
    let mut answer = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("it ends").unwrap();
    timeout(PATIENCE, serving).await.expect("it ends").unwrap();
    (String::from_utf8(answer).unwrap(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn headers_have_five_seconds_however_they_come() {
    let doors = Doors::open().await;
    for pieces in [&[&b"GET /healthz HTTP/1.1\r\nHost:"[..]][..], &[&b"G"[..]; 1000], &[&b""[..]]] {
        let late = doors.service.api.connections_late.get();
        let (answer, _) = converse(&doors, pieces, Duration::from_millis(50)).await;
        assert_eq!((answer.as_str(), doors.service.api.connections_late.get()), ("", late + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_refused_and_not_waited_for() {
    let doors = Doors::open().await;
    let head = b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    let (answer, took) = converse(&doors, &[head], Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("no request"), "{answer}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let chunked = b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = [&[&chunked[..]][..], &[&b"1\r\nx\r\n"[..]; 100]].concat();
    let (answer, took) = converse(&doors, &pieces, Duration::from_millis(20)).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && took < Duration::from_secs(5), "{took:?} {answer}");
}

#[tokio::test(start_paused = true)]
async fn headers_beyond_their_bounds_are_refused() {
    let doors = Doors::open().await;
    for headers in [format!("X: {}\r\n", "a".repeat(20_000)), "X: y\r\n".repeat(100)] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (answer, _) = converse(&doors, &[head.as_bytes()], Duration::ZERO).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_browser_keeps_an_answer() {
    let doors = Doors::open().await;
    for path in ["/healthz", "/v1/status", "/nothing"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (answer, _) = converse(&doors, &[head.as_bytes()], Duration::ZERO).await;
        for field in ["cache-control: no-store\r\n", "x-content-type-options: nosniff\r\n"] {
            assert!(answer.contains(field), "{answer}");
        }
    }
}

/// The answer is larger than what the connection holds, and its reader takes nothing.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up() {
    let doors = Doors::open().await;
    let (mut client, stream) = tokio::io::duplex(256);
    let serving = tokio::spawn(serve_one(stream, doors.service.clone(), true));
    client.write_all(b"GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let began = Instant::now();
    timeout(PATIENCE, serving).await.expect("it ends").unwrap();
    assert_eq!((began.elapsed().as_secs(), doors.service.api.connections_late.get()), (15, 1));
}

/// Clients over TCP hold all connections that they may have.
#[tokio::test]
async fn clients_over_tcp_do_not_lock_the_operator_out() {
    let doors = Doors::open().await;
    doors.service.ready.store(true, Ordering::Release);
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(doors.http).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        held.push(stream);
    }
    let asked = timeout(Duration::from_secs(5), doors.over_socket("GET", "/readyz"));
    assert_eq!(asked.await.expect("an answer"), (StatusCode::OK, "ok\n".into()));
    drop(held);
}
