//! Where Redis may be, and how it is reached.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ringdns_tests::{Host, Redis, RedisCluster, Upstream, free_port, until};

use super::{Appliance, PATIENT};

#[test]
fn a_cluster_is_as_good_as_one() {
    let cluster = RedisCluster::start();
    let upstream = Upstream::answering(&Host::local());
    let [url, other] = cluster.urls();
    let more = format!("cluster = [{other:?}]\n{PATIENT}");
    let [first, second] = [(), ()].map(|()| Appliance::start(&upstream, &url, &more, ""));
    first.joins();
    second.joins();
    let names: Vec<_> = (0..50).map(|n| format!("n{n}.example")).collect();
    for name in &names {
        first.asks(name);
    }
    until("all are stored", || (first.count("stored") == 50).then_some(()));
    for name in &names {
        second.asks(name);
    }
    assert_eq!((second.count("hit"), upstream.asked()), (50, 50), "upstreams were asked again");
    for nth in 0..3 {
        let keys: u32 = cluster.cli(nth, &["DBSIZE"]).parse().expect("a number");
        assert!((5..=30).contains(&keys), "{keys} of 50 keys are on one of three nodes");
    }
    second.ringdnsd.told(&["cache", "purge", "--all"]);
    until("the first has heard of it", || (first.count("purges_heard") == 1).then_some(()));
    first.asks("n7.example");
    assert_eq!((first.count("purged"), upstream.asked()), (1, 51));
    first.sums_close();
    second.sums_close();
}

#[test]
fn a_password_is_given_where_one_is_asked_for() {
    let redis = Redis::start();
    redis.cli(&[
        "ACL",
        "SETUSER",
        "ringdns",
        "on",
        ">hush",
        "~ringdns:*",
        "resetchannels",
        "-@all",
        "+ping",
        "+get",
        "+pttl",
        "+set",
        "+xadd",
        "+xrange",
        "+xrevrange",
        "+expire",
    ]);
    redis.cli(&["ACL", "SETUSER", "default", "off"]);
    let upstream = Upstream::answering(&Host::local());
    let stranger = Appliance::start(&upstream, &redis.url(), PATIENT, "");
    let appliance =
        Appliance::start(&upstream, &format!("{}?user=ringdns&pass=hush", redis.url()), PATIENT, "");
    appliance.joins();
    appliance.teaches("www.example");
    let told = appliance.ringdnsd.told(&["cache", "purge", "--all"]);
    assert!(told.contains("have been told"), "{told}");
    assert!(stranger.count("connect_failed") > 0 && !stranger.is_up());
    assert!(!appliance.ringdnsd.process().output().contains("hush"));
    appliance.sums_close();
}

#[test]
fn redis_over_tls_must_be_who_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_file = file("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let port = free_port(&Host::local());
    let _redis =
        Redis::start_tls(port, &file("redis.pem", certificate.pem()), &file("key.pem", key.serialize_pem()));
    let upstream = Upstream::answering(&Host::local());
    let url = format!("rediss://127.0.0.1:{port}");
    let stranger = Appliance::start(&upstream, &url, PATIENT, "");
    // The CA as one that the system knows.
    let known = format!("SSL_CERT_FILE={}", ca_file.display());
    let appliance = Appliance::start_behind(&upstream, &url, PATIENT, "", &["env", &known]);
    appliance.joins();
    appliance.teaches("www.example");
    until("it was tried", || (stranger.count("connect_failed") > 1).then_some(()));
    assert!(!stranger.is_up());
}
