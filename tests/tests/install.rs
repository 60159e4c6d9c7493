//! Installation as the README tells it: the package is built from the programs at hand, installed on
//! a copy of this system, used, upgraded, removed and purged.

use ringdns_testkit::{Process, privilege, program, until};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Libraries that the package names, and the loader, which is part of glibc.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the first block of commands after `heading`, without those that need a NIC or systemd,
/// and with the programs that are built already.
fn commands(page: &str, heading: &str) -> String {
    let text = text(page);
    let (_, section) = text.split_once(&format!("{heading}\n")).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let built = program("ringdnsd").parent().unwrap().display().to_string();
    let lines = block.lines().filter(|line| {
        !["ethtool ", "systemctl ", "ringctl ", "editor "].iter().any(|other| line.starts_with(other))
    });
    let lines = lines.map(|line| {
        let built = format!("deploy/package.sh --programs {built} --out /run/package");
        let line = line.replace("deploy/package.sh", &built);
        line.replace("apt install ./target/package/", "dpkg --install /run/package/") + "\n"
    });
    lines.collect()
}

/// Returns the value of a key of the unit.
fn unit(key: &str) -> String {
    let unit = text("deploy/ringdnsd.service");
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("the unit has no {key}")).to_owned()
}

/// A host whose changes are gone when it ends.
struct Copy {
    holder: Process,
}

impl Copy {
    fn make() -> Self {
        let overlays: String = ["/etc", "/usr", "/var"]
            .iter()
            .enumerate()
            .map(|(n, folder)| {
                format!(
                    "mkdir -p /mnt/u{n} /mnt/w{n}; mount -t overlay none -o lowerdir={folder},upperdir=/mnt/u{n},workdir=/mnt/w{n} {folder}; "
                )
            })
            .collect();
        let script = format!(
            "set -e; mount -t tmpfs none /mnt; {overlays}mount -t tmpfs none /run; ip link set lo up; echo made >&2; exec sleep 600",
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", &script]);
        let holder = Process::spawn("copy", command);
        holder.wait_for_line("made", Duration::from_secs(20));
        Copy { holder }
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.pid().to_string()]);
        command.args(["sh", "-ec", &format!("cd {:?}; {script}", root())]);
        command
    }

    /// Runs commands, which must succeed. Returns what they say.
    fn run(&self, script: &str) -> String {
        let output = self.command(script).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts ringdnsd as the unit does: as its user, with its capabilities and its folder.
    fn start(&self) -> Process {
        let (user, folder) = (unit("User"), unit("RuntimeDirectory"));
        let capabilities = unit("AmbientCapabilities").to_ascii_lowercase().replace("cap_", "+");
        let capabilities = format!("-all,{}", capabilities.replace(' ', ","));
        self.run(&format!("install -d -o {user} -g {user} /run/{folder}"));
        let daemon = Process::spawn(
            "ringdnsd",
            self.command(&format!(
                // As for PrivateTmp=, the folder of temporary files is one that the user may write to.
                "unset TMPDIR; exec setpriv --reuid={user} --regid={user} --init-groups --no-new-privs \
                 --bounding-set={capabilities} --inh-caps={capabilities} --ambient-caps={capabilities} {}",
                unit("ExecStart")
            )),
        );
        daemon.wait_for_line(" ready ", Duration::from_secs(20));
        daemon
    }

    /// Takes a profile of the heap, and returns its bytes.
    fn profile(&self) -> Vec<u8> {
        self.run("ringctl profile heap --output /run/heap.pprof");
        self.command("zcat /run/heap.pprof").output().unwrap().stdout
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_package_installs_runs_upgrades_and_goes_without_a_trace() {
    if !privilege::granted() {
        return;
    }
    // Bills of materials name the crates of the XDP programs, and the copy has no network.
    let fetch = ["fetch", "--quiet", "--locked", "--manifest-path", "ebpf/Cargo.toml"];
    assert!(Command::new("cargo").args(fetch).current_dir(root()).status().unwrap().success());
    let copy = Copy::make();
    let before = copy.run("find /etc /usr /var -path /var/lib/dpkg -prune -o -print | sort");
    copy.run(&commands("README.md", "## On a real NIC"));
    let is_stripped = |name: &str| !copy.run(&format!("readelf --sections {name}")).contains(".symtab");
    assert!(is_stripped("/usr/sbin/ringdnsd") && is_stripped("/usr/bin/ringctl"));
    for page in ["man8/ringdnsd.8", "man1/ringctl.1", "man1/ringctl-policy-test.1", "man5/ringdns.toml.5"] {
        assert!(copy.run(&format!("zcat /usr/share/man/{page}.gz")).contains(".SH NAME"), "{page}");
    }
    for program in ["ringdnsd", "ringctl"] {
        let bill = copy.run(&format!("cat /usr/share/doc/ringdns/{program}.cdx.json"));
        let bill: serde_json::Value = serde_json::from_str(&bill).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], program);
    }
    copy.run("bash -c '. /usr/share/bash-completion/completions/ringctl'");

    // As the unit runs it: as a user of its own.
    let daemon = copy.start();
    let status = copy.run("ringctl status");
    assert!(status.contains("answering queries"), "{status}");
    let bare = copy.profile();
    let notes = copy.run("readelf --notes /usr/sbin/ringdnsd");
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
    assert!(contains(&bare, id) && !contains(&bare, "ringdns_daemon"), "the build id alone");
    assert_eq!(copy.run("stat --format '%U:%G %a' /run/ringdns/control.sock").trim(), "ringdns:ringdns 660");
    assert_eq!(copy.run("stat --format '%U:%G %a' /var/lib/ringdns").trim(), "ringdns:ringdns 700");
    drop(daemon);

    copy.run(&commands("docs/memory.md", "### Profiles of a stripped ringdnsd"));
    let daemon = copy.start();
    until("a profile with names", || contains(&copy.profile(), "ringdns_daemon").then_some(()));
    drop(daemon);

    // An upgrade keeps the configuration that was edited, and the folder.
    copy.run("echo '# ours' >> /etc/ringdns/ringdns.toml; touch /var/lib/ringdns/ours");
    let built = program("ringdnsd").parent().unwrap().display().to_string();
    copy.run(&format!(
        "deploy/package.sh --programs {built} --out /run/package --version 0.1.1; \
         dpkg --purge ringdns-dbgsym; dpkg --install --force-confdef /run/package/ringdns_0.1.1_*.deb"
    ));
    assert!(copy.run("ringdnsd --check; tail -n 1 /etc/ringdns/ringdns.toml").ends_with("# ours\n"));
    copy.run("dpkg --remove ringdns; test -e /etc/ringdns/ringdns.toml; test -e /var/lib/ringdns/ours");
    copy.run("dpkg --purge ringdns");
    let after = copy.run("find /etc /usr /var -path /var/lib/dpkg -prune -o -print | sort");
    // The user stays, as Debian's do, so that its number is not given to another.
    let before: HashSet<&str> = before.lines().collect();
    let left = |line: &&str| !before.contains(line) && !line.contains("/etc/.pwd.lock");
    assert_eq!(after.lines().filter(left).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn the_programs_need_the_libraries_that_the_readme_names() {
    let readme = text("README.md");
    for name in ["ringdnsd", "ringctl"] {
        let output = Command::new("readelf").arg("--dynamic").arg(program(name)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let needed: Vec<_> = text
            .lines()
            .filter(|line| line.contains("(NEEDED)"))
            .filter_map(|line| line.split(['[', ']']).nth(1))
            .collect();
        assert!(!needed.is_empty() && needed.iter().all(|library| LIBRARIES.contains(library)), "{needed:?}");
    }
    LIBRARIES[..3].iter().for_each(|library| assert!(readme.contains(library), "{library}"));
}
