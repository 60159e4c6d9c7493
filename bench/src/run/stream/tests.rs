use crate::{
    report::Report,
    stage::answerer,
    upstream::{Answering, Over, Upstream},
};
use anyhow::Result;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

fn run(target: SocketAddr, arguments: &[&str]) -> Result<Report> {
    crate::run::tests::run(target, &[&["--quiet"], arguments].concat())
}

#[test]
fn queries_share_connections_and_are_all_answered() {
    let upstream = Upstream::started(&["--nxdomain-suffix=random.example"]);
    for pace in ["--window=100", "--qps=5000"] {
        let options =
            ["--backend=tcp", "--duration=0.3", "--random-share=20", "--verify-data", "--warm", pace];
        let tally = run(upstream.addresses()[0], &options).unwrap().tally;
        assert!(tally.sent() > 500, "{}", tally.sent());
        assert_eq!((tally.lost(), tally.wrong, tally.unexpected), (0, [0; 4], 0));
        assert_eq!((tally.connections, tally.broken, tally.interrupted), (4, 0, 0));
        assert_eq!(tally.rcodes[3], tally.random.answered);
    }
}

/// Answers up to `most` queries from a stream.
fn converse(stream: &mut (impl Read + Write), most: usize) {
    let (answerer, mut reply) = (answerer(&[]).unwrap(), Vec::new());
    for _ in 0..most {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query).unwrap();
        assert!(answerer.answer(&query, Over::Tcp, &mut reply));
        let framed = [&(reply.len() as u16).to_be_bytes(), reply.as_slice()].concat();
        // In two parts, as a stream may deliver it.
        let (first, second) = framed.split_at(framed.len() / 2);
        if stream.write_all(first).and_then(|()| stream.write_all(second)).is_err() {
            return;
        }
    }
}

#[test]
fn what_was_broken_off_is_connected_again_and_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || converse(&mut stream.unwrap(), 200));
        }
    });
    let options = ["--backend=tcp", "--duration=0.6", "--qps=4000", "--sockets=2", "--timeout-ms=200"];
    let tally = run(target, &options).unwrap().tally;
    assert!(
        tally.connections >= 5 && tally.broken >= 3,
        "{} made, {} broken",
        tally.connections,
        tally.broken
    );
    assert!(tally.answered() > 600, "{}", tally.answered());
    assert!(tally.lost() <= tally.interrupted, "{} lost, {} interrupted", tally.lost(), tally.interrupted);
}

/// A DNS over TLS server on loopback, and its certificate in a file.
fn tls_server() -> (SocketAddr, tempfile::NamedTempFile) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".into(), "dns.test".into()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"dot".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            thread::spawn(move || converse(&mut StreamOwned::new(connection, stream.unwrap()), usize::MAX));
        }
    });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certified.cert.pem().as_bytes()).unwrap();
    (target, file)
}

#[test]
fn tls_is_spoken_with_a_server_that_proves_who_it_is() {
    let (target, authority) = tls_server();
    let ca = authority.path().display().to_string();
    let load = ["--backend=dot", "--duration=0.3", "--window=50", "--verify-data"];
    for trust in [&["--ca", &ca][..], &["--ca", &ca, "--tls-name=dns.test"], &["--insecure"]] {
        let tally = run(target, &[&load[..], trust].concat()).unwrap().tally;
        assert!(tally.sent() > 100, "{}", tally.sent());
        assert_eq!((tally.lost(), tally.wrong, tally.broken), (0, [0; 4], 0), "{trust:?}");
    }
    let (_, other) = tls_server();
    let other = other.path().display().to_string();
    for distrust in [&["--ca", &other][..], &["--ca", &ca, "--tls-name=other.test"], &[]] {
        let error = format!("{:#}", run(target, &[&load[..], distrust].concat()).unwrap_err());
        assert!(error.contains("certificate") || error.contains("--ca"), "{distrust:?}: {error}");
    }
}
