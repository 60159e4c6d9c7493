//! The container image: built from the package, run by the commands of docs/operation.md, over AF_XDP.

use ringdns_testkit::{Client, DNS_V4, Lab, Process, Query, Settings, Upstream, program, until};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Name of the image that the page gives.
const IMAGE: &str = "localhost/ringdns:0.1.0";

/// Returns the command of docs/operation.md that runs the image, as words.
fn documented() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/operation.md")).unwrap();
    let (_, section) = page.split_once("## In a container\n").unwrap();
    let command = section.split_once("podman run ").unwrap().1.split_once("\npodman").unwrap().0;
    command.replace("\\\n", " ").split_whitespace().map(str::to_owned).collect()
}

/// The server of a lab, with images and containers of its own.
struct Engine {
    holder: Process,
    folder: tempfile::TempDir,
}

impl Engine {
    fn start(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Podman's own limits are above those of some hosts, which it may not raise.
        fs::write(folder.path().join("containers.conf"), "[containers]\ndefault_ulimits = []\n").unwrap();
        let mut command = lab.server().command("unshare");
        // The namespace's own /sys has no control groups, without which no container starts. Where those of
        // the host are of both versions, crun refuses them.
        let script = "mount -t cgroup2 none /sys/fs/cgroup && echo made >&2; exec sleep 600";
        command.args(["--mount", "sh", "-c", script]);
        let holder = Process::spawn("containers", command);
        holder.wait_for_line("made", Duration::from_secs(20));
        Engine { holder, folder }
    }

    /// Options that keep podman away from the images and containers of this host.
    fn options(&self) -> Vec<String> {
        let path = |name| self.folder.path().join(name).display().to_string();
        let mut options = vec!["--root".to_owned(), path("images"), "--runroot".to_owned(), path("run")];
        let fixed = "--storage-driver vfs --cgroup-manager cgroupfs --events-backend file";
        options.extend(fixed.split(' ').map(str::to_owned));
        options
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.pid().to_string()]);
        command.arg(format!("--wdns={}", root().display())).args(["--", program]);
        command.env("CONTAINERS_CONF", self.folder.path().join("containers.conf"));
        command
    }

    fn try_podman(&self, arguments: &[&str]) -> Output {
        self.command("podman").args(self.options()).args(arguments).output().unwrap()
    }

    /// Runs podman, which must succeed. Returns what it says.
    #[track_caller]
    fn podman(&self, arguments: &[&str]) -> String {
        let output = self.try_podman(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Builds the package from the programs at hand, and the image from the package.
    fn build(&self) {
        // Bills of materials name the crates of the XDP programs, and the lab has no network.
        let fetch = ["fetch", "--quiet", "--locked", "--manifest-path", "ebpf/Cargo.toml"];
        assert!(Command::new("cargo").args(fetch).current_dir(root()).status().unwrap().success());
        let packages = self.folder.path().join("packages");
        let built = program("ringdnsd").parent().unwrap().to_owned();
        let mut package = self.command("deploy/package.sh");
        package.arg("--programs").arg(built).arg("--out").arg(&packages);
        let mut image = self.command("deploy/oci.sh");
        image.arg("--packages").arg(&packages).args(["--tag", IMAGE, "--"]).args(self.options());
        for mut command in [package, image] {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Runs the image as the page says, but with a configuration, and without control groups: a test may
    /// not make any.
    fn run(&self, settings: &Settings) {
        let configuration = self.folder.path().join("etc");
        fs::create_dir(&configuration).unwrap();
        let text = settings.text(Path::new("/run/ringdns/control.sock"));
        fs::write(configuration.join("ringdns.toml"), text).unwrap();
        let mounted = format!("{}:/etc/ringdns:ro", configuration.display());
        let mut words = documented();
        let volume = words.iter_mut().find(|word| *word == "/etc/ringdns:/etc/ringdns:ro");
        *volume.expect("the page mounts the configuration") = mounted;
        assert_eq!(words.last().map(String::as_str), Some(IMAGE));
        let arguments = ["run", "--cgroups=disabled"].into_iter().chain(words.iter().map(String::as_str));
        self.podman(&arguments.collect::<Vec<_>>());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.try_podman(&["logs", "ringdns"]).stderr;
            eprintln!("---- what the container said ----\n{}", String::from_utf8_lossy(&said));
        }
        self.try_podman(&["rm", "--force", "--volumes", "ringdns"]);
    }
}

#[test]
fn the_image_runs_over_af_xdp_as_documented() {
    let Some(lab) = Lab::up() else { return };
    let engine = Engine::start(&lab);
    engine.build();
    let upstream = Upstream::answering(lab.server());
    engine.run(&Settings::xdp(upstream.address()));
    let ready = ["exec", "ringdns", "/usr/bin/ringctl", "ready"];
    until("the container is ready", || engine.try_podman(&ready).status.success().then_some(()));

    let status = engine.podman(&["exec", "ringdns", "/usr/bin/ringctl", "status"]);
    assert!(status.contains("AF_XDP on vs"), "{status}");
    for _ in 0..2 {
        let answer = Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example"));
        assert_eq!((answer.rcode(), answer.answers()), (0, 1));
    }
    // The health check of the image, as the engine runs it.
    engine.podman(&["healthcheck", "run", "ringdns"]);
    let pid = engine.podman(&["inspect", "--format", "{{.State.Pid}}", "ringdns"]);
    let process = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(process.contains("\nUid:\t10053\t10053\t10053\t10053\n"), "{process}");
    assert!(process.contains("\nSeccomp:\t2\n"), "{process}");
    assert!(!engine.try_podman(&["exec", "ringdns", "/bin/sh"]).status.success(), "there is no shell");

    engine.podman(&["stop", "ringdns"]);
    assert_eq!(engine.podman(&["inspect", "--format", "{{.State.ExitCode}}", "ringdns"]), "0");
}
