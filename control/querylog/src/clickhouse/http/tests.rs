//! Tests of requests, with the test as the server.

use super::{Failure, Http};
use ringdns_config::{ClickHouseConfig, Scheme};
use ringdns_testkit::tls::{Authority, server};
use std::{fs, net::SocketAddr, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

fn http(scheme: Scheme, address: SocketAddr, ca: Option<&Path>, password: Option<&Path>) -> Http {
    Http::new(ClickHouseConfig {
        scheme,
        host: "localhost".into(),
        port: address.port(),
        path: "/".into(),
        database: "ringdns".into(),
        user: "logger".into(),
        password_file: password.map(Into::into),
        tls_ca_file: ca.map(Into::into),
        timeout: Duration::from_secs(5),
        retention_days: 1,
    })
}

/// Accepts one connection, sends `response`, and returns the request. The request's body is 3
/// bytes.
async fn play(tls: Option<TlsAcceptor>, response: &'static str) -> (SocketAddr, JoinHandle<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let played = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.ok()?;
        let mut stream: Box<dyn super::Stream + Send> = match tls {
            Some(tls) => Box::new(tls.accept(tcp).await.ok()?),
            None => Box::new(tcp),
        };
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\nabc") {
            asked.push(stream.read_u8().await.ok()?);
        }
        stream.write_all(response.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()?;
        String::from_utf8(asked).ok()
    });
    (address, played)
}

const SEVEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n7\n";

#[tokio::test]
async fn credentials_are_in_headers_and_parameters_are_escaped() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret&\n").unwrap();
    let (address, played) = play(None, SEVEN).await;
    let http = http(Scheme::Http, address, None, Some(file.path()));
    assert_eq!(http.ask(&[("query", "a b&c")], "abc".into()).await.unwrap(), "7\n");
    let asked = played.await.unwrap().unwrap();
    let (line, headers) = asked.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /?wait_end_of_query=1&query=a%20b%26c HTTP/1.1");
    assert!(headers.contains("x-clickhouse-user: logger\r\nx-clickhouse-key: s3cret&\r\n"), "{headers}");
    assert!(!http.label().contains("s3cret"));
}

#[tokio::test]
async fn over_tls_the_server_must_be_who_it_should_be() {
    let (authority, other) = (Authority::generate(), Authority::generate());
    let ca = authority.path();
    for (certificate, works) in [
        (authority.vouch("localhost", false), true),
        (authority.vouch("elsewhere.example", false), false),
        (authority.vouch("localhost", true), false),
        (other.vouch("localhost", false), false),
    ] {
        let (address, played) = play(Some(server(certificate, b"http/1.1")), SEVEN).await;
        let http = http(Scheme::Https, address, Some(Path::new(&ca)), None);
        match http.ask(&[], "abc".into()).await {
            Ok(answer) => assert!(works && answer == "7\n"),
            Err(failure) => {
                assert!(!works && matches!(failure, Failure::Unreachable(_)), "{failure}");
                assert!(!failure.was_sent() && failure.to_string().contains("certificate"), "{failure}");
            }
        }
        assert_eq!(played.await.unwrap().is_some(), works);
    }
}

#[tokio::test]
async fn what_goes_wrong_after_the_request_may_have_stored_rows() {
    let refusal = "HTTP/1.1 500 No\r\ncontent-length: 30\r\n\r\nCode: 60, no such table\nmore ...";
    for (response, said) in [
        (refusal, "refuses: Code: 60, no such table"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n7\n", "did not answer"),
        ("", "did not answer"),
    ] {
        let (address, _played) = play(None, response).await;
        let failure = http(Scheme::Http, address, None, None).ask(&[], "abc".into()).await.unwrap_err();
        assert!(failure.was_sent() && failure.to_string().contains(said), "{failure}");
        assert!(!failure.unsent().was_sent());
    }
    // Nothing listens at this address, so nothing was sent.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let failure = http(Scheme::Http, closed, None, None).ask(&[], "abc".into()).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
}
