//! Tests of Redis servers, Clusters and Sentinels, and of connecting to them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use ringdns_testkit::{Host, Redis, RedisCluster, Sentinels, Upstream, free_port, until};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Appliance, PATIENT};

#[test]
fn a_cluster_is_as_good_as_one() {
    let cluster = RedisCluster::start(&Host::local());
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

/// Asks for `count` new names, and waits until Redis has accepted or refused all. Returns the
/// number accepted.
fn taught(appliance: &Appliance, turn: &str, count: usize) -> u64 {
    let ends =
        || ["stored", "store_failed", "store_dropped", "store_skipped"].map(|name| appliance.count(name));
    let before = ends();
    for n in 0..count {
        appliance.asks(&format!("n{n}.{turn}.example"));
    }
    let all = before.iter().sum::<u64>() + count as u64;
    until("all answers have been offered", || (ends().iter().sum::<u64>() == all).then_some(()));
    ends()[0] - before[0]
}

#[test]
fn a_master_that_hangs_costs_its_own_keys_and_no_others() {
    let cluster = RedisCluster::start(&Host::local());
    let upstream = Upstream::answering(&Host::local());
    let [url, other] = cluster.urls();
    let more = format!("cluster = [{other:?}]\ndeadline = \"100ms\"");
    let [first, second] = [(), ()].map(|()| Appliance::start(&upstream, &url, &more, ""));
    first.joins();
    second.joins();
    assert_eq!(taught(&first, "before", 30), 30);

    // Stops the two masters without a replica, one after the other. One of them, or neither, holds
    // the log of purges.
    for nth in [1, 2] {
        cluster.process(nth).freeze();
        let stored = taught(&first, &format!("hung{nth}"), 30);
        assert!((5..30).contains(&stored), "{stored} of 30 were stored");
        let so_far = || ["timed_out", "skipped", "store_skipped"].map(|name| first.count(name));
        let before = so_far();
        taught(&first, &format!("still{nth}"), 30);
        let [waited, spared, not_tried] = so_far();
        assert!(waited - before[0] <= 3, "{waited} waited in vain, {before:?} before");
        assert!(spared > before[1] && not_tried > before[2], "{spared}, {not_tried}, {before:?} before");
        let hits = second.count("hit");
        for n in 0..30 {
            second.asks(&format!("n{n}.hung{nth}.example"));
        }
        assert_eq!(second.count("hit") - hits, stored, "what was stored");
        for appliance in [&first, &second] {
            assert!(appliance.is_up() && appliance.count("left") == 0);
        }
        cluster.process(nth).signal(Signal::CONT);
        let mut turns = 0..;
        until("all keys are stored again", || {
            let turn = format!("again{nth}-{}", turns.next()?);
            (taught(&first, &turn, 40) == 40).then_some(())
        });
        // Masters that believe another one gone would be too few to continue without the next.
        until("all masters believe in each other", || {
            let believe = |at| !cluster.cli(at, &["CLUSTER", "NODES"]).contains("fail");
            [0, 1, 2].into_iter().all(believe).then_some(())
        });
        // Each appliance notices on its own that the master is back.
        until("the other one asks all masters again", || {
            let turn = format!("back{nth}-{}", turns.next()?);
            let skipped = second.count("skipped");
            for n in 0..40 {
                second.asks(&format!("n{n}.{turn}.example"));
            }
            (second.count("skipped") == skipped).then_some(())
        });
    }
    first.sums_close();
    second.sums_close();
}

#[test]
fn a_replica_takes_the_place_of_its_master() {
    let mut cluster = RedisCluster::start(&Host::local());
    let upstream = Upstream::answering(&Host::local());
    let [url, other] = cluster.urls();
    let appliance = Appliance::start(&upstream, &url, &format!("cluster = [{other:?}]\n{PATIENT}"), "");
    appliance.joins();
    assert_eq!(taught(&appliance, "before", 30), 30);
    cluster.kill9(0);
    let meanwhile = taught(&appliance, "meanwhile", 30);
    assert!((5..30).contains(&meanwhile), "{meanwhile} of 30 were stored");
    let mut turns = 0..;
    until("all keys are stored again", || {
        (taught(&appliance, &format!("again{}", turns.next()?), 40) == 40).then_some(())
    });
    assert!(appliance.count("left") == 0 && appliance.is_up());
    let told = appliance.ringdnsd.told(&["cache", "purge", "--all"]);
    assert!(told.contains("have been told"), "{told}");
    appliance.sums_close();
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
        "+del",
        "+unlink",
        "+exists",
        "+eval",
        "+time",
        "+zadd",
        "+zscore",
        "+zcard",
        "+zrem",
        "+zpopmin",
        "+zrange",
        "+zrevrange",
        "+zrangebyscore",
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

/// A CA, and the certificates that it signed, in files.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        Authority { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the files of a certificate and its key.
    fn issue(&self, name: &str) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // OpenSSL takes a certificate as self-signed if its subject equals its issuer.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = [self.file(&format!("{name}.pem")), self.file(&format!("{name}.key"))];
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }
}

#[test]
fn redis_over_tls_must_be_who_it_says() {
    let authority = Authority::new();
    let [certificate, key] = authority.issue("127.0.0.1");
    let port = free_port(&Host::local());
    let _redis = Redis::start_tls(port, &certificate, &key, None);
    let upstream = Upstream::answering(&Host::local());
    let url = format!("rediss://127.0.0.1:{port}");
    let stranger = Appliance::start(&upstream, &url, PATIENT, "");
    // Makes the CA one that the system trusts.
    let known = format!("SSL_CERT_FILE={}", authority.file("ca.pem").display());
    let appliance = Appliance::start_behind(&upstream, &url, PATIENT, "", &["env", &known]);
    appliance.joins();
    appliance.teaches("www.example");
    until("it was tried", || (stranger.count("connect_failed") > 1).then_some(()));
    assert!(!stranger.is_up());
}

#[test]
fn redis_may_ask_for_a_certificate_and_a_password_of_ours() {
    let authority = Authority::new();
    let [certificate, key] = authority.issue("127.0.0.1");
    let [our_certificate, our_key] = authority.issue("appliance.example");
    let ca = authority.file("ca.pem");
    let port = free_port(&Host::local());
    let redis = Redis::start_tls(port, &certificate, &key, Some(&ca));
    redis.cli(&["CONFIG", "SET", "requirepass", "old"]);
    let password = authority.file("password");
    std::fs::write(&password, "old\n").unwrap();
    let upstream = Upstream::answering(&Host::local());
    let url = format!("rediss://127.0.0.1:{port}");
    let believing = format!("{PATIENT}\ntls_ca_file = {ca:?}\npassword_file = {password:?}");
    let stranger = Appliance::start(&upstream, &url, &believing, "");
    let shown = format!("{believing}\ntls_cert_file = {our_certificate:?}\ntls_key_file = {our_key:?}");
    let appliance = Appliance::start(&upstream, &url, &shown, "");
    appliance.joins();
    appliance.teaches("www.example");
    until("it was tried", || (stranger.count("connect_failed") > 1).then_some(()));
    assert!(!stranger.is_up(), "it showed no certificate");

    // Changes the password: the file is read for each connection.
    let cli = ["--no-auth-warning", "-a", "old"];
    redis.cli(&[&cli[..], &["CONFIG", "SET", "requirepass", "new"]].concat());
    std::fs::write(&password, "new\n").unwrap();
    let cli = ["--no-auth-warning", "-a", "new"];
    redis.cli(&[&cli[..], &["CLIENT", "KILL", "TYPE", "normal"]].concat());
    until("it is back", || (appliance.count("joined") == 2).then_some(()));
    appliance.teaches("again.example");
    assert!(!appliance.ringdnsd.process().output().contains("new"));
}

#[test]
fn where_the_master_is_sentinels_say() {
    let mut redis = Sentinels::start(&Host::local());
    let upstream = Upstream::answering(&Host::local());
    let settings = format!("{}{PATIENT}", redis.settings());
    let appliance = Appliance::start(&upstream, "redis://sentinels", &settings, "");
    appliance.joins();
    appliance.teaches("www.example");
    let key = ["EXISTS", "ringdns:2:a:-:1:1:www.example."];
    assert_eq!((redis.master(), redis.of(0, &key)), (0, "1".into()));
    until("the replica has it", || (redis.of(1, &key) == "1").then_some(()));

    redis.kill9(0);
    until("it is seen to be gone", || (!appliance.is_up()).then_some(()));
    // No question waits for the failover.
    appliance.asks("meanwhile.example");
    until("the other is the master", || (redis.master() == 1).then_some(()));
    appliance.joins();
    appliance.teaches("again.example");
    let second = Appliance::start(&upstream, "redis://sentinels", &settings, "");
    second.joins();
    second.asks("www.example");
    assert_eq!(second.count("hit"), 1, "what was stored before the failover is gone");

    // Fails over to the first, while one of the Sentinels hangs. The appliance learns of it because
    // the old master closes its connections.
    redis.start_again(0);
    redis.all_know_all();
    redis.sentinel(0).freeze();
    redis.fail_over(1);
    until("the first is the master", || redis.of(0, &["ROLE"]).starts_with("master").then_some(()));
    until("it was left", || (second.count("left") == 1).then_some(()));
    second.joins();
    second.teaches("back.example");
    assert_eq!(redis.of(0, &["EXISTS", "ringdns:2:a:-:1:1:back.example."]), "1");
    redis.sentinel(0).signal(Signal::CONT);
    appliance.sums_close();
    second.sums_close();
}

/// Checks that a replica is not used: after a failover, Sentinels may name the old master for a
/// while, and it would refuse writes.
#[test]
fn who_is_named_as_the_master_must_be_one() {
    let redis = Sentinels::start(&Host::local());
    let upstream = Upstream::answering(&Host::local());
    let settings = format!("{}{PATIENT}", redis.settings());
    let appliance = Appliance::start(&upstream, "redis://sentinels", &settings, "");
    appliance.joins();
    // The remaining Sentinel names a master, but cannot elect another one alone.
    [1, 2].into_iter().for_each(|nth| redis.sentinel(nth).freeze());
    redis.of(0, &["REPLICAOF", "127.0.0.1", "1"]);
    redis.of(0, &["CLIENT", "KILL", "TYPE", "normal"]);
    until("it was left", || (appliance.count("left") == 1).then_some(()));
    until("it was tried again", || (appliance.count("connect_failed") >= 3).then_some(()));
    assert_eq!((redis.master(), appliance.is_up(), appliance.count("joined")), (0, false, 1));
    redis.of(0, &["REPLICAOF", "NO", "ONE"]);
    appliance.joins();
    appliance.teaches("www.example");
    [1, 2].into_iter().for_each(|nth| redis.sentinel(nth).signal(Signal::CONT));
}
