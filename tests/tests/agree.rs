//! Tests that `ringdnsd --check` refuses what a start refuses, with the same words, and accepts what
//! a start accepts.

use std::fs;
use std::net::SocketAddr;

use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, Settings, Upstream, ask_over_tcp};

/// Exit status for a configuration that is wrong.
const REFUSED: i32 = 2;
/// Exit status if this machine lacks something.
const UNFIT: i32 = 3;

/// Settings with a change.
fn with(right: &Settings, change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = right.clone();
    change(&mut settings);
    settings
}

fn listen(right: &Settings, addresses: &[&str]) -> Settings {
    with(right, |it| it.listen = addresses.iter().map(|&address| address.to_owned()).collect())
}

fn table(right: &Settings, table: &str) -> Settings {
    with(right, |it| it.tables = format!("{}\n{table}", right.tables))
}

#[test]
fn what_a_start_refuses_a_check_refuses() {
    let Some(lab) = Lab::up() else { return };
    let right = Settings::sockets(SocketAddr::from(([127, 0, 0, 1], 9)));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "no secret").expect("a file");
    let [file, gone] = [file, folder.path().join("gone")].map(|path| path.display().to_string());
    let hashed = "[query_log]\nenabled = true\nprivacy = \"hash\"\nkey_file = ";
    let anchors = "[dnssec]\nvalidate = true\n";
    for (settings, words) in [
        (listen(&right, &["0.0.0.0:53", "10.53.0.2:53"]), "server.listen[1]: the kernel does not let"),
        (listen(&right, &["[::]:53", "[::1]:53"]), "server.listen[1]: the kernel does not let"),
        (
            with(&right, |it| it.control = "http = \"10.53.0.2:53\"".into()),
            "control.http: DNS over TCP has this port",
        ),
        (
            with(&right, |it| it.control = "http = \"10.53.0.2:8053\"".into()),
            "control.http: others can reach 10.53.0.2:8053",
        ),
        (with(&right, |it| it.control = format!("tokens_file = {file:?}")), "control.tokens_file: "),
        (
            with(&right, |it| it.control = format!("audit_log = {:?}", format!("{gone}/log"))),
            "control.audit_log: ",
        ),
        (
            with(&right, |it| it.control = "http = \"[fe80::1]:8053\"".into()),
            "control.http: fe80::1 is link-local",
        ),
        (listen(&right, &["[fe80::1]:53"]), "server.listen[0]: fe80::1 is link-local"),
        (listen(&right, &["[fe80::1%nowhere0]:53"]), "no network interface is called \"nowhere0\""),
        (listen(&right, &["[::ffff:10.53.0.2]:53"]), "Write \"10.53.0.2:53\""),
        (listen(&right, &["224.0.0.1:53"]), "server.listen[0]: 224.0.0.1 is a multicast address"),
        (table(&right, &format!("{hashed}{gone:?}")), "query_log.key_file: "),
        (table(&right, &format!("{hashed}{file:?}")), "query_log.key_file: "),
        (table(&right, &format!("[cookies]\nsecret_file = {gone:?}")), "cookies.secret_file: "),
        (table(&right, &format!("[cookies]\nsecret_file = {file:?}")), "cookies.secret_file: "),
        (table(&right, &format!("{anchors}trust_anchor_file = {gone:?}")), "dnssec.trust_anchor_file: "),
        (table(&right, &format!("{anchors}managed_anchor_file = {file:?}")), "dnssec.managed_anchor_file: "),
        (
            with(&right, |it| it.interface = Some("a-name-that-is-longer-than-most".into())),
            "server.interface: no network interface",
        ),
    ] {
        let (check, check_said) = Ringdnsd::check(lab.server(), &settings, &[]);
        let (start, start_said) = Ringdnsd::refused(lab.server(), &settings, &[]);
        assert!(check == start && [REFUSED, UNFIT].contains(&check), "{words}: {check_said} {start_said}");
        for said in [check_said, start_said] {
            assert!(said.contains(words), "no {words:?} in {said}");
        }
    }
}

/// Checks the places of the control socket, which the test kit chooses in other tests.
#[test]
fn a_control_socket_that_cannot_be_made_is_refused_by_both() {
    let Some(lab) = Lab::up() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "kept").expect("a file");
    let settings = Settings::sockets(SocketAddr::from(([127, 0, 0, 1], 9)));
    for (path, words) in
        [(file.clone(), "exists and is no socket"), (file.join("control.sock"), "control.socket: ")]
    {
        let configuration = folder.path().join("ringdns.toml");
        fs::write(&configuration, settings.text(&path)).expect("a file");
        for check in [&["--check"][..], &[]] {
            let mut command = lab.server().command(ringdns_testkit::program("ringdnsd"));
            let output = command.arg("--config").arg(&configuration).args(check).output().expect("ringdnsd");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(UNFIT), "{path:?} {check:?}: {said}");
            assert!(said.contains(words), "no {words:?} in {said}");
        }
        assert_eq!(fs::read(&file).expect("the file"), b"kept");
    }
}

#[test]
fn what_a_check_accepts_a_start_serves() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let long = "an-alternative-name-of-forty-characters-";
    lab.server().run("ip", ["link", "property", "add", "dev", "vs", "altname", long]);
    lab.server().run("ip", ["address", "add", "fe80::53/64", "dev", "vs", "nodad"]);
    let sockets = Settings::sockets(upstream.address());
    let hash = "00".repeat(32);
    let tokens = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&tokens, format!("grafana read {hash}\n")).expect("a file");
    let http = format!("http = \"10.53.0.2:8053\"\ntokens_file = {:?}", tokens.path());
    let by_altname = with(&Settings::xdp(upstream.address()), |it| it.interface = Some(long.into()));
    for settings in [
        listen(&sockets, &["0.0.0.0:53", "[::]:53"]),
        listen(&sockets, &["10.53.0.2:53", "[fe80::53%vs]:53"]),
        with(&sockets, |it| it.control = http),
        by_altname,
    ] {
        let (code, said) = Ringdnsd::check(lab.server(), &settings, &[]);
        assert_eq!(code, 0, "{said}");
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        let query = Query::a("www.example");
        assert_eq!(Client::of(lab.client(), DNS_V4).ask(&query).rcode(), 0);
        assert_eq!(ask_over_tcp(lab.client(), DNS_V4, &[query])[0].rcode(), 0);
        if settings.interface.is_some() {
            let status = ringdnsd.told(&["status"]);
            assert!(status.contains("AF_XDP on vs, queues: 1"), "{status}");
            assert_eq!(ringdnsd.stat("/xdp/redirected"), 1);
        }
        assert_eq!(ringdnsd.readyz(), (true, "ok\n".to_owned()));
    }
}
