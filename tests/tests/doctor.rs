//! `ringctl doctor` and `ringctl report`: faults that were planted on a veth and in a configuration are found;
//! `--apply` mends what it may, `--undo` restores; no secret gets into an archive.

use ringdns_testkit::{
    Host, Lab, LabOptions, Ringdnsd, Settings, Upstream, free_address, program, tls::Authority,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
    process::Output,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Host with a configuration, on which ringdnsd does not run.
struct Patient<'a> {
    host: &'a Host,
    folder: TempDir,
}

impl<'a> Patient<'a> {
    fn new(host: &'a Host, settings: &Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let patient = Patient { host, folder };
        fs::write(patient.path("ringdns.toml"), settings.text(&patient.path("control.sock"))).unwrap();
        patient
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `ringctl` behind a wrapper.
    fn ringctl(&self, wrapper: &[&str], arguments: &[&str]) -> Output {
        let (first, rest) = wrapper.split_first().unwrap_or((&"env", &[]));
        let mut command = self.host.command(first);
        command.args(rest).arg(program("ringctl")).arg("--socket").arg(self.path("control.sock"));
        command.args(arguments).arg("--config").arg(self.path("ringdns.toml"));
        command.output().unwrap()
    }

    /// Runs `ringctl doctor` on one core. Returns its exit code and its answer.
    #[track_caller]
    fn doctor(&self, arguments: &[&str]) -> (i32, Value) {
        self.doctor_behind(&["taskset", "--cpu-list", "0"], arguments)
    }

    #[track_caller]
    fn doctor_behind(&self, wrapper: &[&str], arguments: &[&str]) -> (i32, Value) {
        let undo = self.path("state/undo.json").display().to_string();
        let all = [&["doctor", "--json", "--undo-file", &undo][..], arguments].concat();
        let output = self.ringctl(wrapper, &all);
        let said = String::from_utf8_lossy(&output.stdout);
        let value = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{error}: {said} {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), value)
    }

    /// Returns the state of the NIC, as its tools print it.
    fn nic(&self) -> [String; 3] {
        let ethtool = |option: &str| self.host.run("ethtool", [option, "vs"]);
        [ethtool("-k"), ethtool("-l"), self.host.run("ip", ["link", "show", "vs"])]
    }
}

/// Returns the worst verdict of each check.
fn verdicts(answer: &Value) -> BTreeMap<String, String> {
    let worst = |verdict: &str| {
        ["ok", "unknown", "advice", "warning", "fault"].iter().position(|one| *one == verdict)
    };
    let mut verdicts = BTreeMap::new();
    for finding in answer["findings"].as_array().unwrap() {
        let [check, verdict] = ["check", "verdict"].map(|name| finding[name].as_str().unwrap().to_owned());
        let before = verdicts.get(&check).and_then(|before: &String| worst(before));
        if before < worst(&verdict) {
            verdicts.insert(check, verdict);
        }
    }
    verdicts
}

/// Returns the evidence of all findings of a check.
fn evidence(answer: &Value, check: &str) -> String {
    let all = answer["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    all.map(|finding| finding["evidence"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn planted_faults_of_a_nic_are_found_mended_and_restored() {
    let Some(lab) = Lab::with(LabOptions { queues: 4, vlan: None }) else { return };
    let upstream = Upstream::answering(lab.server());
    let mut settings = Settings::xdp(upstream.address());
    settings.server += "\nvlans = [100]";
    let patient = Patient::new(lab.server(), &settings);
    lab.server().run("ethtool", ["-K", "vs", "rxvlan", "on"]);
    lab.server().run("ip", ["link", "set", "vs", "mtu", "3600"]);
    let before = patient.nic();

    let (code, found) = patient.doctor(&[]);
    let verdict = verdicts(&found);
    for (check, expected) in [
        ("queues", "warning"),
        ("vlan", "warning"),
        ("mtu", "advice"),
        ("upstream", "ok"),
        ("driver", "ok"),
        ("addresses", "ok"),
    ] {
        assert_eq!(verdict[check], expected, "{found:#}");
    }
    assert_eq!(code, 1, "{found:#}");
    assert_eq!(patient.nic(), before, "a look changes nothing");

    let (code, mended) = patient.doctor(&["--apply"]);
    let verdict = verdicts(&mended);
    // The other end of the cable sends on as many queues: with fewer here, the driver takes no XDP program.
    assert_eq!((verdict["queues"].as_str(), verdict["vlan"].as_str()), ("warning", "ok"), "{mended:#}");
    assert_eq!(code, 1, "{mended:#}");
    let commands: Vec<_> =
        mended["changes"].as_array().unwrap().iter().map(|deed| deed["command"].clone()).collect();
    assert!(commands.iter().any(|made| made == "ethtool -K vs rxvlan off"), "{mended:#}");
    assert!(
        !commands.iter().any(|made| made.as_str().is_some_and(|made| made.contains(" -L "))),
        "{mended:#}"
    );
    assert!(mended["changes"].as_array().unwrap().iter().all(|deed| deed["error"].is_null()), "{mended:#}");
    assert!(patient.path("state/undo.json").exists());
    let (_, again) = patient.doctor(&["--apply"]);
    assert_eq!(again["changes"], Value::Array(Vec::new()), "it is mended already");

    let (code, undone) = patient.doctor(&["--undo"]);
    assert_eq!((code, undone["undone"].as_array().unwrap().len()), (0, commands.len()), "{undone:#}");
    assert_eq!(patient.nic(), before);
    assert!(!patient.path("state/undo.json").exists());
}

#[test]
fn planted_faults_of_a_configuration_are_found_before_a_start() {
    let Some(lab) = Lab::up() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::generate();
    let (certificate, key) = authority.vouch("appliance.test", true);
    let [cert, secret] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&cert, certificate.pem()).unwrap();
    fs::write(&secret, key.serialize_pem()).unwrap();
    let silent = free_address(lab.server());
    let mut settings = Settings::xdp(silent);
    settings.upstreams.push("203.0.113.1:53".parse().unwrap());
    settings.tables += &format!(
        "\n[lists]\noverrides_file = \"/dev/null/overrides.toml\"\n[redis]\nurl = \"rediss://127.0.0.1:6390\"\n\
         tls_cert_file = {cert:?}\ntls_key_file = {secret:?}\n"
    );
    let patient = Patient::new(lab.server(), &settings);
    let later = SystemTime::now() + Duration::from_secs(30 * 86_400);
    File::options().write(true).open(patient.path("ringdns.toml")).unwrap().set_modified(later).unwrap();

    let (code, found) = patient.doctor_behind(&["setpriv", "--bounding-set", "-net_raw"], &[]);
    let verdict = verdicts(&found);
    for (check, expected, said) in [
        ("upstream", "fault", "refused"),
        ("routes", "fault", "203.0.113.1"),
        ("certificate", "fault", "expired"),
        ("clock", "fault", "30 days before"),
        ("capabilities", "fault", "CAP_NET_RAW"),
        ("config", "warning", "lists.overrides_file: /dev/null is no folder"),
    ] {
        assert_eq!(verdict[check], expected, "{found:#}");
        assert!(evidence(&found, check).contains(said), "{check}: {found:#}");
    }
    assert_eq!(code, 2);

    fs::write(patient.path("ringdns.toml"), "[server]\nlisten = 7\n").unwrap();
    let (code, found) = patient.doctor(&[]);
    assert_eq!((code, verdicts(&found)["config"].as_str()), (2, "fault"), "{found:#}");
    assert!(evidence(&found, "config").contains("server.listen"), "{found:#}");
}

#[test]
fn a_running_ringdnsd_tells_its_findings_from_inside_its_sandbox() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    assert!(ringdnsd.process().output().contains("sandboxed"), "{}", ringdnsd.process().output());
    let (code, body) = ringdnsd.get("/v1/doctor").unwrap();
    assert_eq!(code, 200, "{body}");
    let found = serde_json::json!({ "findings": serde_json::from_str::<Value>(&body).unwrap() });
    let verdict = verdicts(&found);
    for (check, expected) in [
        ("rings", "unknown"),
        ("offloads", "unknown"),
        ("driver", "ok"),
        ("queues", "ok"),
        ("capabilities", "ok"),
    ] {
        assert_eq!(verdict[check], expected, "{found:#}");
    }
    assert!(evidence(&found, "driver").starts_with("veth"), "{found:#}");
    assert!(evidence(&found, "rings").starts_with("unknown: "), "{found:#}");
    assert!(!verdict.values().any(|verdict| verdict == "fault"), "{found:#}");

    // What ringdnsd knows is among the findings of ringctl, and a reset of the NIC is left.
    let patient = Patient { host: lab.server(), folder: tempfile::tempdir().unwrap() };
    let config = Settings::xdp(upstream.address()).text(&ringdnsd.socket());
    fs::write(patient.path("ringdns.toml"), config).unwrap();
    let file = ringdnsd.socket().with_file_name("ringdns.toml");
    fs::write(&file, "[server]\n").unwrap();
    assert!(!ringdnsd.ctl(&["reload"]).status.success());
    std::os::unix::fs::symlink(ringdnsd.socket(), patient.path("control.sock")).unwrap();
    let (_, found) = patient.doctor(&[]);
    assert_eq!(verdicts(&found)["config_refused"], "warning", "{found:#}");
    assert!(!verdicts(&found).contains_key("upstream"), "ringdnsd itself says how its upstreams do");
}

/// Returns the names and texts of an archive's files.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let [archive, into] = [path, folder.path()].map(|path| path.display().to_string());
    Host::local().run("tar", ["--extract", "--gzip", "--file", &archive, "--directory", &into]);
    let entries = fs::read_dir(folder.path().join("ringdns-report")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let mut text = String::new();
            File::open(entry.path()).unwrap().read_to_string(&mut text).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

#[test]
fn a_report_has_no_secrets_with_and_without_ringdnsd() {
    let Some(lab) = Lab::up() else { return };
    let folder = tempfile::tempdir().unwrap();
    let secrets = ["reD1sPassw0rd", "cl1ckPassw0rd", "dHNpZ0tleUZvclRlc3Rz", "urlPassw0rd"];
    let [redis, click, tsig] = ["redis", "click", "tsig"].map(|name| folder.path().join(name));
    fs::write(&redis, secrets[0]).unwrap();
    fs::write(&click, secrets[1]).unwrap();
    fs::write(&tsig, format!("key \"k\" {{ algorithm hmac-sha256; secret \"{}\"; }};\n", secrets[2]))
        .unwrap();
    let [spool, overrides] = ["spool", "overrides.toml"].map(|name| folder.path().join(name));
    let upstream = Upstream::answering(lab.server());
    let mut settings = Settings::sockets(upstream.address());
    settings.tables += &format!(
        "\n[redis]\nurl = \"redis://127.0.0.1:6390\"\npassword_file = {redis:?}\n\
         [query_log]\nenabled = true\nspool_dir = {spool:?}\n\
         [clickhouse]\nurl = \"http://127.0.0.1:8199\"\npassword_file = {click:?}\n\
         [lists]\noverrides_file = {overrides:?}\nproxy = \"http://user:{}@127.0.0.1:9\"\n\
         [[client_group]]\nname = \"kids\"\nclients = [\"198.51.100.77\"]\n",
        secrets[3]
    );
    let token = "3f".repeat(32);
    let read = |archive: &Path, host: &Patient<'_>, arguments: &[&str]| {
        let path = archive.display().to_string();
        let output = host.ringctl(&[], &[&["report", "--output", &path], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let files = unpacked(archive);
        for secret in secrets.iter().copied().chain([token.as_str()]) {
            for (name, text) in &files {
                assert!(!text.contains(secret), "{secret} is in {name}: {text}");
            }
        }
        files
    };
    let patient = Patient::new(lab.server(), &settings);
    let files = read(&patient.path("stopped.tar.gz"), &patient, &[]);
    assert!(files["ringdnsd.txt"].contains("was not asked"), "{files:#?}");
    assert!(
        files["config.toml"].contains("kids") && !files["config.toml"].contains("198.51.100.77"),
        "{files:#?}"
    );
    for name in ["version.txt", "host.md", "uname.txt", "cpuinfo.txt", "ip-link.txt", "findings.json"] {
        assert!(!files[name].is_empty(), "{name}: {files:#?}");
    }

    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    ringdnsd.told(&["block", "asked-name.example"]);
    std::os::unix::fs::symlink(ringdnsd.socket(), patient.path("control.sock")).unwrap();
    let files = read(&patient.path("running.tar.gz"), &patient, &[]);
    for name in ["status.json", "stats.json", "metrics.txt", "audit.json"] {
        assert!(!files[name].is_empty(), "{name}: {files:#?}");
    }
    assert!(files["metrics.txt"].contains("ringdns_build_info"));
    let has = |files: &BTreeMap<String, String>, word: &str| files.values().any(|text| text.contains(word));
    assert!(!has(&files, "asked-name") && !has(&files, "198.51.100.77"), "{files:#?}");
    let files = read(&patient.path("names.tar.gz"), &patient, &["--with-names"]);
    assert!(
        files["audit.json"].contains("asked-name") && files["config.toml"].contains("198.51.100.77"),
        "{files:#?}"
    );
}
