//! Tests of the program with wrong configurations: it refuses each to start with, and a running
//! ringdnsd goes on as before.

#[path = "../../config/tests/wrong/mod.rs"]
mod wrong;

use ringdns_testkit::{Client, Host, Process, Query, Upstream, free_address};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

fn ringdnsd(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringdnsd"));
    command.arg("--config").arg(config).args(arguments).env_remove("RUST_LOG");
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    ringdnsd(config, arguments).output().unwrap()
}

/// Returns status code and body of a route of the API.
fn request(socket: &Path, method: &str, route: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{method} {route} HTTP/1.1\r\nHost: ringdnsd\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn each_wrong_configuration_ends_the_start_with_2_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringdns.toml");
    for wrong in wrong::all() {
        fs::write(&path, &wrong.text).unwrap();
        for arguments in [&[][..], &["--check"]] {
            let Output { status, stderr, .. } = run(&path, arguments);
            assert_eq!(status.code(), Some(2), "{}", wrong.title);
            let said = String::from_utf8(stderr).unwrap();
            let said: Vec<_> =
                said.lines().map(|line| line.trim_start_matches("ringdnsd: ").to_owned()).collect();
            wrong.check(&path.display().to_string(), &said);
        }
    }
}

#[test]
fn a_reload_of_each_wrong_configuration_changes_nothing_and_is_told() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let (upstream, listen) = (Upstream::answering(&host), free_address(&host));
    let [path, socket] = ["ringdns.toml", "control.sock"].map(|name| folder.path().join(name));
    let right = format!(
        "[server]\nlisten = [\"{listen}\"]\nworkers = 1\n[[upstream]]\naddress = \"{}\"\n[control]\nsocket = {socket:?}\n",
        upstream.address()
    );
    fs::write(&path, &right).unwrap();
    let process = Process::spawn("ringdnsd", ringdnsd(&path, &[]));
    process.wait_for_line(" ready ", Duration::from_secs(20));
    let client = Client::of(&host, listen);
    let addresses = |name: &str| client.ask(&Query::a(name)).addresses();
    let before = addresses("www.example");
    let config = request(&socket, "GET", "/v1/config");
    assert_eq!((config.0, &config.1["effective"]["server"]["udp_limit"]), (200, &Value::from(1232)));
    for (nth, wrong) in wrong::all().into_iter().enumerate() {
        fs::write(&path, &wrong.text).unwrap();
        let (code, answer) = request(&socket, "POST", "/v1/reload");
        assert_eq!(code, 400, "{}: {answer}", wrong.title);
        let said: Vec<_> = answer["error"].as_str().unwrap().lines().map(str::to_owned).collect();
        wrong.check(&path.display().to_string(), &said);
        let (_, status) = request(&socket, "GET", "/v1/status");
        let problems = status["problems"].as_array().unwrap();
        assert!(problems.iter().any(|problem| problem["kind"] == "config_refused"), "{status}");
        assert_eq!(status["listen"][0], listen.to_string(), "{}", wrong.title);
        assert_eq!(status["upstreams"].as_array().map(Vec::len), Some(1), "{}", wrong.title);
        assert_eq!(request(&socket, "GET", "/v1/config"), config, "{}", wrong.title);
        assert_eq!(request(&socket, "GET", "/v1/config/diff").0, 400, "{}", wrong.title);
        assert_eq!(addresses("www.example"), before, "{}", wrong.title);
        assert_eq!(addresses(&format!("n{nth}.example")), before, "{}", wrong.title);
    }
    fs::write(&path, &right).unwrap();
    let (code, reloaded) = request(&socket, "POST", "/v1/reload");
    assert_eq!(
        (code, &reloaded["applied"], &reloaded["needs_restart"]),
        (200, &Value::Array(vec![]), &Value::Array(vec![]))
    );
    let (_, status) = request(&socket, "GET", "/v1/status");
    assert_eq!(status["problems"], Value::Array(vec![]), "the refusal is over");
}

#[test]
fn the_configuration_in_effect_is_shown_and_compared_with_the_file() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let [path, socket, hosts] =
        ["ringdns.toml", "control.sock", "hosts"].map(|name| folder.path().join(name));
    fs::write(&hosts, "192.0.2.1 nas\n").unwrap();
    let file = |more: &str| {
        let text = format!(
            "[server]\nlisten = [\"{}\"]\nworkers = 1\n[[upstream]]\naddress = \"192.0.2.1\"\n\
             [control]\nsocket = {socket:?}\n[local]\nhosts_files = [{hosts:?}]\n{more}",
            free_address(&host)
        );
        fs::write(&path, text).unwrap();
    };
    file("[[blocklist]]\nname = \"ads\"\nsource = \"https://lists.example/ads?token=hush\"\n");
    let listen = fs::read_to_string(&path).unwrap();
    let process = Process::spawn("ringdnsd", ringdnsd(&path, &[]));
    process.wait_for_line(" ready ", Duration::from_secs(20));
    let get = |route: &str| request(&socket, "GET", route).1;
    let shown = get("/v1/config");
    assert!(!shown.to_string().contains("hush"), "{shown}");
    assert_eq!(shown["effective"]["cache"]["max_ttl"], "1d");
    assert_eq!(shown["written"]["cache"], Value::Null);
    assert_eq!(get("/v1/config/diff"), Value::Array(vec![]));
    let more = "[cache]\nmax_ttl = \"1h\"\n[rebinding]\nenabled = true\n";
    fs::write(&path, format!("{listen}{more}")).unwrap();
    fs::write(&hosts, "192.0.2.2 nas\n").unwrap();
    let keys = || {
        let differences = get("/v1/config/diff");
        let key = |one: &Value| (one["key"].as_str().unwrap().to_owned(), one["restart"].is_string());
        differences.as_array().unwrap().iter().map(key).collect::<Vec<_>>()
    };
    let [cache, rebinding, local] = [("cache.max_ttl", true), ("rebinding.enabled", false), ("local", false)]
        .map(|(key, restart)| (key.to_owned(), restart));
    assert_eq!(keys(), [rebinding, cache.clone(), local]);
    let (_, reloaded) = request(&socket, "POST", "/v1/reload");
    assert_eq!(reloaded["reasons"]["cache"], "the memory of the caches is divided at the start");
    assert_eq!(keys(), [cache], "the rest is in effect");
    assert_eq!(get("/v1/config")["effective"]["cache"]["max_ttl"], "1d");
    assert_eq!(get("/v1/config")["effective"]["rebinding"]["enabled"], true);
}

/// Returns what `--check --json` finds: severities and keys.
fn found(folder: &Path, text: &str) -> (bool, Vec<(String, String)>) {
    let path = folder.join("ringdns.toml");
    fs::write(&path, text).unwrap();
    let output = run(&path, &["--check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code() == Some(0), report["accepted"] == true, "{report}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    // Whether there is a user of the service, and who runs the test, is the machine's business.
    let findings =
        findings.map(|one| (text(&one["severity"]), text(&one["key"]))).filter(|(_, key)| !key.is_empty());
    (report["accepted"] == true, findings.collect())
}

#[test]
fn check_looks_at_files_folders_ports_and_the_interface_and_changes_nothing() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let (listen, at) = (free_address(&host), folder.path().display().to_string());
    fs::write(folder.path().join("file"), "no folder").unwrap();
    let head = format!(
        "[server]\nlisten = [\"{listen}\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
         [control]\nsocket = \"{at}/control.sock\"\n[lists]\noverrides_file = \"{at}/overrides.toml\"\n"
    );
    assert_eq!(found(folder.path(), &head), (true, vec![]));
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = head.replace(&listen.to_string(), &holder.local_addr().unwrap().to_string());
    assert_eq!(found(folder.path(), &taken), (false, vec![("error".into(), "server.listen[0]".into())]));
    let all = format!(
        "{head}dir = \"{at}/file/lists\"\ntls_ca_file = \"{at}/absent.pem\"\n\
         [cache]\nsnapshot_file = \"{at}/file/snapshot\"\n\
         [query_log]\nenabled = true\nspool_dir = \"{at}/file/spool\"\n\
         [clickhouse]\nurl = \"https://192.0.2.9\"\npassword_file = \"{at}/absent\"\ntls_ca_file = \"{at}/file\"\n\
         [client_names]\nlease_files = [\"{at}/leases\"]\n\
         [cookies]\nsecret_file = \"{at}/absent\"\n\
         [dnssec]\nvalidate = true\ntrust_anchor_file = \"{at}/absent\"\nmanaged_anchor_file = \"{at}/file/anchors\"\n\
         [local]\nhosts_files = [\"{at}/absent\"]\n\
         [[local_record]]\nname = \"nas.example\"\ntype = \"A\"\ndata = \"nowhere\"\n\
         [[local_zone]]\nname = \"corp.example\"\nfile = \"{at}/absent\"\n\
         [[blocklist]]\nname = \"a\"\nsource = \"{at}/absent\"\n\
         [[blocklist]]\nname = \"b\"\nsource = \"https://lists.example/b\"\n"
    )
    .replace("[server]\n", "[server]\ninterface = \"no-such0\"\n");
    let (accepted, findings) = found(folder.path(), &all);
    assert!(!accepted);
    for (severity, key) in [
        ("error", "server.interface"),
        ("error", "query_log.spool_dir"),
        ("error", "cookies.secret_file"),
        ("error", "dnssec.trust_anchor_file"),
        ("error", "local.hosts_files[0]"),
        ("error", "local_record[0].data"),
        ("error", "local_zone[0].file"),
        ("error", "blocklist[0].source"),
        ("warning", "cache.snapshot_file"),
        ("warning", "dnssec.managed_anchor_file"),
        ("warning", "lists.dir"),
        ("warning", "lists.tls_ca_file"),
        ("warning", "clickhouse.password_file"),
        ("warning", "clickhouse.tls_ca_file"),
        ("warning", "client_names.lease_files[0]"),
    ] {
        assert!(findings.contains(&(severity.into(), key.into())), "no {severity} {key} in {findings:#?}");
    }
    assert_eq!(findings.len(), 15, "{findings:#?}");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "the configuration and the file");
}

/// Configurations of other servers, imported, are accepted but for files that this machine lacks.
#[test]
fn check_accepts_what_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../import/tests/files");
    let mut seen = 0;
    for file in fs::read_dir(files).unwrap() {
        let file = file.unwrap().path();
        let (name, text) = (file.display().to_string(), fs::read_to_string(&file).unwrap());
        let format = ringdns_import::Format::detect(&name, &text).expect("the format is known");
        let imported = ringdns_import::import(format, &text, &name).unwrap();
        let path = folder.path().join("ringdns.toml");
        fs::write(&path, imported.toml).unwrap();
        let output = run(&path, &["--check", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let errors = report["findings"].as_array().unwrap().iter().filter(|one| one["severity"] == "error");
        for error in errors {
            assert!(error["reason"].as_str().unwrap().contains("No such file"), "{name}: {error}");
        }
        seen += 1;
    }
    assert_eq!(seen, 5);
}
