//! Limits that ringdnsd sets to itself, in the running process. `sandbox_probe` tries them from inside.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

/// Returns values of a key in the status of all threads of a process.
fn of_threads(pid: u32, key: &str) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    let value = |status: String| {
        status.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    };
    statuses.map(|status| value(status).unwrap()).collect()
}

#[test]
fn every_thread_is_limited() {
    let (host, upstream) = (Host::local(), Upstream::answering(&Host::local()));
    let settings = Settings::loopback(free_address(&host), upstream.address());
    let daemon = Ringdnsd::start(&host, &settings);
    let pid = daemon.process().pid();
    assert_eq!(of_threads(pid, "Seccomp"), BTreeSet::from(["2".to_owned()]));
    assert_eq!(of_threads(pid, "NoNewPrivs"), BTreeSet::from(["1".to_owned()]));
    // CHOWN, DAC_OVERRIDE and NET_ADMIN (linux/capability.h): the tests are root's.
    let kept = BTreeSet::from([format!("{:016x}", 1u64 | 1 << 1 | 1 << 12)]);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(of_threads(pid, set), kept, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(of_threads(pid, set), BTreeSet::from([format!("{:016x}", 0)]), "{set}");
    }
}

#[test]
fn limits_can_be_lifted() {
    let (host, upstream) = (Host::local(), Upstream::answering(&Host::local()));
    let mut settings = Settings::loopback(free_address(&host), upstream.address());
    settings.tables += "\n[sandbox]\nenabled = false\n";
    let daemon = Ringdnsd::start(&host, &settings);
    assert_eq!(of_threads(daemon.process().pid(), "Seccomp"), BTreeSet::from(["0".to_owned()]));
}

fn elsewhere() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// A list in a folder that was not named at the start.
#[test]
fn a_reload_stays_in_the_folders() {
    let (host, upstream) = (Host::local(), Upstream::answering(&Host::local()));
    // Not in the folder of temporary files, which can be used in any case.
    let (here, later) = (elsewhere(), elsewhere());
    let list = |folder: &Path, name: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("{name}.example\n")).unwrap();
        format!("[[blocklist]]\nname = \"{name}\"\nsource = \"{}\"\n", path.display())
    };
    let listen = free_address(&host);
    let mut settings = Settings::loopback(listen, upstream.address());
    let tables = settings.tables.clone();
    settings.tables = format!("{tables}\n{}", list(here.path(), "one"));
    let daemon = Ringdnsd::start(&host, &settings);
    let client = Client::of(&host, listen);
    let rcode = |name: &str| client.ask(&Query::a(name)).rcode();
    assert_eq!(rcode("one.example"), 3);

    settings.tables = format!("{tables}\n{}", list(later.path(), "two"));
    daemon.configure(|socket| settings.text(socket));
    let output = daemon.ctl(&["reload"]);
    assert!(!output.status.success(), "{output:?}");
    let refused = String::from_utf8_lossy(&output.stderr);
    for part in ["blocklist[0].source", "outside of the folders", "sandbox.folders"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(["one.example", "two.example"].map(rcode), [3, 0], "nothing was changed");

    // Another file in a folder that is used, of a name that did not exist.
    settings.tables = format!("{tables}\n{}", list(here.path(), "three"));
    daemon.configure(|socket| settings.text(socket));
    daemon.told(&["reload"]);
    assert_eq!(["one.example", "three.example"].map(rcode), [0, 3]);
}

/// A link, as ACME clients make them, and a change that waits for a restart.
#[test]
fn links_lead_to_other_folders_and_later_ones_wait_for_a_restart() {
    let (host, upstream) = (Host::local(), Upstream::answering(&Host::local()));
    let (links, files) = (elsewhere(), elsewhere());
    let (link, file) = (links.path().join("ads"), files.path().join("ads"));
    fs::write(&file, "ads.example\n").unwrap();
    symlink(&file, &link).unwrap();
    let listen = free_address(&host);
    let mut settings = Settings::loopback(listen, upstream.address());
    let lists = links.path().join("state/lists");
    settings.tables += &format!(
        "\n[[blocklist]]\nname = \"ads\"\nsource = {link:?}\n[lists]\ndir = {lists:?}\n\
         overrides_file = {:?}\n",
        links.path().join("overrides.toml")
    );
    let daemon = Ringdnsd::start(&host, &settings);
    assert_eq!(Client::of(&host, listen).ask(&Query::a("ads.example")).rcode(), 3);
    // Nobody else may look into what the sandbox made.
    assert_eq!(fs::metadata(&lists).unwrap().permissions().mode() & 0o777, 0o700);

    let snapshot = format!("[cache]\nsnapshot_file = {:?}\n", files.path().join("later/cache"));
    settings.tables = settings.tables.replace("[cache]\n", &snapshot);
    daemon.configure(|socket| settings.text(socket));
    let said = daemon.told(&["reload"]);
    assert!(said.contains("cache") && said.contains("restart"), "{said}");
}
