//! Tests of limits that control groups set, as a container has them. The files of the groups are made
//! up, in a mount namespace.

use std::fs;
use std::path::Path;
use std::process::Command;

use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, free_address, program,
};
use tempfile::TempDir;

/// Folders in which a machine may have mounted version 2.
const V2: [&str; 2] = ["", "unified"];
/// Folders in which a machine may have mounted a controller of version 1, and one has both.
const V1: [&str; 4] = ["memory", "cpu", "cpuacct", "cpu,cpuacct"];

/// Files of a group that limit memory in MiB and processor time in percent of one processor.
fn group(memory: u64, cpu: u64) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |place: &str, file: &str, text: String| {
        fs::create_dir_all(folder.path().join(place)).expect("a folder");
        fs::write(folder.path().join(place).join(file), text).expect("a file");
    };
    for place in V2 {
        write(place, "memory.max", format!("{}\n", memory << 20));
        write(place, "cpu.max", format!("{} 100000\n", cpu * 1000));
    }
    for place in V1 {
        write(place, "memory.limit_in_bytes", format!("{}\n", memory << 20));
        write(place, "cpu.cfs_quota_us", format!("{}\n", cpu * 1000));
        write(place, "cpu.cfs_period_us", "100000\n".to_owned());
    }
    folder
}

/// Returns the words before a command that show it `folder` as the control groups of the machine.
fn wrapper(folder: &Path) -> [String; 6] {
    let script = format!("mount --bind {} /sys/fs/cgroup && exec \"$@\"", folder.display());
    ["unshare", "--mount", "sh", "-c", &script, "sh"].map(str::to_owned)
}

fn as_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Returns settings for kernel sockets, with the default sizes unless `tables` gives others.
fn settings(upstream: &Upstream, tables: &str) -> Settings {
    let listen = free_address(&Host::local());
    Settings {
        tables: tables.to_owned(),
        server: String::new(),
        ..Settings::loopback(listen, upstream.address())
    }
}

/// Runs `ringdnsd --check`, and returns its exit code and what it said.
fn check(settings: &Settings, wrapper: &[String]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ringdns.toml");
    fs::write(&file, settings.text(&folder.path().join("control.sock"))).expect("a file");
    let mut words = as_words(wrapper).into_iter();
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg(program("ringdnsd")).arg("--check").arg("--config").arg(&file);
    let output = command.output().expect("the command");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn defaults_fit_into_the_group() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let upstream = Upstream::answering(&Host::local());
    let (group, settings) = (group(96, 100), settings(&upstream, ""));
    let wrapper = wrapper(group.path());
    let (code, said) = check(&settings, &wrapper);
    assert!(
        code == Some(0) && said.contains("to fit into the 96 MiB that /sys/fs/cgroup"),
        "{code:?} {said}"
    );

    let mut ringdnsd = Ringdnsd::start_behind(&Host::local(), &settings, &as_words(&wrapper));
    let said = ringdnsd.process().output();
    assert!(said.contains("cache.bytes_per_worker is 7 MiB and cache.host_bytes 28 MiB"), "{said}");
    assert!(said.contains("workers=1 "), "one processor has no second worker: {said}");
    let listen = settings.listen[0].parse().expect("an address");
    let query = Query::a("www.example");
    assert_eq!(Client::of(&Host::local(), listen).ask(&query).rcode(), 0);
    assert_eq!(ask_over_tcp(&Host::local(), listen, &[query])[0].rcode(), 0);
    assert_eq!(ringdnsd.readyz(), (true, "ok\n".to_owned()));
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("answering queries"), "{status}");
    let resident = ringdnsd.stat("/process/resident_bytes");
    assert!((1..96 << 20).contains(&resident), "{resident}");
    assert_eq!(ringdnsd.terminate().code(), Some(0));
}

#[test]
fn sizes_that_do_not_fit_are_refused_by_check_and_start_alike() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let upstream = Upstream::answering(&Host::local());
    let group = group(96, 100);
    let wrapper = wrapper(group.path());
    let settings = settings(&upstream, "[cache]\nhost_bytes = \"256MiB\"");
    let (code, said) = check(&settings, &wrapper);
    let (start_code, start_said) = Ringdnsd::refused(&Host::local(), &settings, &as_words(&wrapper));
    for (code, said) in [(code, said), (Some(start_code), start_said)] {
        assert_eq!(code, Some(3), "{said}");
        for word in [
            "cache.host_bytes: 256 MiB is 305 MiB in all with 1 worker, more",
            "96 MiB that /sys/fs/cgroup",
            "Lower it",
        ] {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }
    assert_eq!(check(&settings, &self::wrapper(self::group(400, 100).path())).0, Some(0), "there is room");
}

#[test]
fn more_workers_than_processors_are_warned_of() {
    if !ringdns_testkit::privilege::granted() {
        return;
    }
    let upstream = Upstream::answering(&Host::local());
    let settings = Settings { server: "workers = 2".to_owned(), ..settings(&upstream, "") };
    let (code, said) = check(&settings, &wrapper(group(1000, 150).path()));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 workers, and a control group (cpu.max) allows 1.5 processors"), "{said}");
}
