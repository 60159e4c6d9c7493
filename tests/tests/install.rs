//! Installation as the pages tell it: their commands are run as written, on a copy of this system.

use ringdns_testkit::{Process, privilege, program, until};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Libraries that the pages name, and the loader, which is part of glibc.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the first block of commands after `heading`, without those that need a NIC, systemd or
/// a compiler, for programs that are built already.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (_, section) = text.split_once(&format!("{heading}\n")).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let built = program("ringdnsd").parent().unwrap().display().to_string();
    let lines = block.lines().filter(|line| {
        !["cargo ", "ethtool ", "systemctl ", "ringctl "].iter().any(|other| line.starts_with(other))
    });
    lines.map(|line| line.replace("target/release-lto", &built)).collect()
}

/// A host whose changes of `/etc`, `/usr` and `/run` are gone when it ends.
struct Copy {
    holder: Process,
}

impl Copy {
    fn make() -> Self {
        let overlay = |folder: &str, n: u32| {
            format!(
                "mkdir -p /mnt/u{n} /mnt/w{n}; mount -t overlay none -o lowerdir={folder},upperdir=/mnt/u{n},workdir=/mnt/w{n} {folder}; "
            )
        };
        let script = format!(
            "set -e; mount -t tmpfs none /mnt; {}{}{}mount -t tmpfs none /run; ip link set lo up; echo made >&2; exec sleep 600",
            overlay("/etc", 1),
            overlay("/usr/sbin", 2),
            overlay("/usr/lib", 3)
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
fn the_pages_install_a_ringdnsd_that_starts_and_finds_its_symbols() {
    if !privilege::granted() {
        return;
    }
    let copy = Copy::make();
    copy.run(&commands("README.md", "## On a real NIC").join("\n"));
    let is_stripped = |name: &str| !copy.run(&format!("readelf --sections {name}")).contains(".symtab");
    assert!(is_stripped("/usr/sbin/ringdnsd") && is_stripped("/usr/sbin/ringctl"));

    let start = || {
        let daemon =
            Process::spawn("ringdnsd", copy.command("exec ringdnsd --config /etc/ringdns/ringdns.toml"));
        daemon.wait_for_line(" ready ", Duration::from_secs(20));
        daemon
    };
    let daemon = start();
    assert!(copy.run("ringctl status").contains("answering queries"));
    let bare = copy.profile();
    let notes = copy.run("readelf --notes /usr/sbin/ringdnsd");
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
    assert!(contains(&bare, id) && !contains(&bare, "ringdns_daemon"), "the build id alone");
    drop(daemon);

    copy.run(&commands("docs/memory.md", "### Profiles of a stripped ringdnsd").join("\n"));
    let _daemon = start();
    until("a profile with names", || contains(&copy.profile(), "ringdns_daemon").then_some(()));
}

#[test]
fn the_programs_need_the_libraries_that_the_readme_names() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
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
