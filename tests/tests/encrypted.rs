//! Tests of upstreams over TLS and HTTPS, played by Unbound with a certificate of the test's own
//! CA.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, Settings, Unbound, kdig};
use tempfile::NamedTempFile;

/// Time to wait for a line of the log, which a thread of its own writes.
const PATIENCE: Duration = Duration::from_secs(10);
const TLS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 853);
const HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 443);

/// Starts an Unbound that is `dns.test`, and returns it with the certificate of its CA.
fn unbound(lab: &Lab) -> (Unbound, NamedTempFile) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(ca.self_signed(&ca_key).unwrap().pem().as_bytes()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(["dns.test".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    (Unbound::encrypted(lab.server(), TLS, HTTPS, &certificate.pem(), &key.serialize_pem()), file)
}

fn settings(address: &str, more: &str) -> Settings {
    let settings = Settings::xdp(TLS);
    let tables =
        format!("[[upstream]]\naddress = {address:?}\ntimeout = \"3s\"\n{more}\n{}", settings.tables);
    Settings { upstreams: Vec::new(), tables, ..settings }
}

#[test]
fn unbound_is_asked_over_tls_and_over_https() {
    let Some(lab) = Lab::up() else { return };
    let (_unbound, ca) = unbound(&lab);
    let ca = format!("tls_ca_file = {:?}", ca.path());
    let bootstrap = "bootstrap = [\"127.0.0.1\"]";
    for (address, more, label, queries) in [
        ("tls://127.0.0.1#dns.test", ca.clone(), "tls://127.0.0.1:853#dns.test", "queries_tls"),
        (
            "https://dns.test/dns-query",
            format!("{ca}\n{bootstrap}"),
            "https://dns.test/dns-query",
            "queries_https",
        ),
    ] {
        let ringdnsd = Ringdnsd::start(lab.server(), &settings(address, &more));
        assert_eq!(kdig(lab.client(), DNS_V4, &["www.example", "A"]), "192.0.2.1");
        assert_eq!(kdig(lab.client(), DNS_V4, &["www.example", "A"]), "192.0.2.1");
        // The queries run at once, so they share connections.
        let client = Client::of(lab.client(), DNS_V4);
        let ask: Vec<_> =
            (0..50).map(|i| Query { id: i, ..Query::a(&format!("{i}.wild.example")) }).collect();
        ask.iter().for_each(|query| client.send(&query.wire()));
        for _ in &ask {
            let reply = client.receive(std::time::Duration::from_secs(10)).expect("all are answered");
            assert_eq!(reply.addresses(), [std::net::Ipv4Addr::new(192, 0, 2, 9)]);
        }
        let status = ringdnsd.told(&["status"]);
        assert!(status.contains(label), "no {label} in {status}");
        let stats = ringdnsd.settled();
        let count = |name: &str| stats["upstreams"][0]["counters"][name].as_u64().unwrap();
        assert_eq!((count(queries), count("answers"), count("tls_failures")), (51, 51, 0), "{stats:#}");
        assert_eq!((count("queries_udp"), count("queries_tcp")), (0, 0));
        let connections = count("connections");
        assert!((1..=4).contains(&connections), "{connections} connections");
        assert!(count("connections_reused") >= 51 - 4, "{stats:#}");
    }
}

#[test]
fn an_upstream_that_cannot_prove_its_name_is_not_asked() {
    let Some(lab) = Lab::up() else { return };
    let (_unbound, ca) = unbound(&lab);
    let ca = format!("tls_ca_file = {:?}", ca.path());
    for (address, more, complaint) in [
        ("tls://127.0.0.1#other.test", &*ca, "is not for other.test"),
        ("tls://127.0.0.1", &*ca, "is not for 127.0.0.1"),
        ("tls://127.0.0.1#dns.test", "", "a CA that is not trusted"),
    ] {
        let ringdnsd = Ringdnsd::start(lab.server(), &settings(address, more));
        let reply = Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
        assert_eq!(reply.rcode(), 2, "{address}");
        ringdnsd.process().wait_for_line(complaint, PATIENCE);
        assert!(ringdnsd.stat("/upstreams/0/counters/tls_failures") > 0);
        assert_eq!(ringdnsd.stat("/upstreams/0/counters/connections"), 0);
    }
    // A missing file is refused before anything is started.
    let missing = settings("tls://127.0.0.1#dns.test", "tls_ca_file = \"no/such/file.pem\"");
    let (status, said) = Ringdnsd::refused(lab.server(), &missing, &[]);
    assert_eq!(status, 3);
    assert!(said.contains("upstream[0].tls_ca_file: no/such/file.pem"), "{said}");
}
