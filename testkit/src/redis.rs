//! Redis, the cache that a fleet shares.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;

use crate::{Host, Process, free_port, until};

pub(crate) const START: Duration = Duration::from_secs(30);

/// `redis-server` in the foreground on its own Unix socket, without storage on disk.
pub struct Redis {
    process: Process,
    folder: TempDir,
}

impl Redis {
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(folder())
    }

    /// Starts one in the folder of another that has ended.
    #[track_caller]
    pub fn start_in(folder: TempDir) -> Self {
        Self::start_with(folder, &[])
    }

    /// Starts one that also supports TLS, as the host `127.0.0.1` of the certificate. Clients must
    /// show certificates of `ca`, if there is one.
    #[track_caller]
    pub fn start_tls(port: u16, certificate: &Path, key: &Path, ca: Option<&Path>) -> Self {
        let port = port.to_string();
        let tls = ["--tls-port", &port, "--tls-auth-clients", if ca.is_some() { "yes" } else { "no" }]
            .map(Path::new);
        let files = [
            Path::new("--tls-cert-file"),
            certificate,
            Path::new("--tls-key-file"),
            key,
            Path::new("--tls-ca-cert-file"),
            ca.unwrap_or(certificate),
        ];
        Self::start_with(folder(), &[&tls[..], &files[..]].concat())
    }

    #[track_caller]
    fn start_with(folder: TempDir, arguments: &[&Path]) -> Self {
        let socket = socket_in(folder.path());
        let given = arguments.iter().copied();
        let arguments =
            ["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"].map(Path::new);
        let more = [Path::new("--dir"), folder.path(), Path::new("--unixsocket"), &socket];
        let process = Host::local().spawn("redis-server", arguments.into_iter().chain(more).chain(given));
        process.wait_for_line("ready to accept connections", START);
        Self { process, folder }
    }

    /// Kills the server. Returns the folder that it used.
    #[track_caller]
    pub fn kill9(mut self) -> TempDir {
        self.process.signal(rustix::process::Signal::KILL);
        self.process.wait_for_exit(START);
        self.folder
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the value of `[redis] url`.
    pub fn url(&self) -> String {
        url_in(&self.folder)
    }

    /// Returns the output of `redis-cli`. Panics unless it succeeds.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "redis-cli {arguments:?}: {said}");
        said
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Host::local().command("redis-cli");
        command.arg("-e").arg("-s").arg(socket_in(self.folder.path())).args(arguments);
        match command.output() {
            Ok(output) => output,
            Err(error) => panic!("{command:?}: {error}; deploy/setup.sh installs what tests need"),
        }
    }

    /// Returns all keys, in order.
    #[track_caller]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.cli(&["--scan"]).lines().map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

/// Returns the value of `[redis] url` for a server that is yet to be started in `folder`.
pub fn url_in(folder: &TempDir) -> String {
    format!("redis+unix://{}", socket_in(folder.path()).display())
}

#[track_caller]
pub(crate) fn folder() -> TempDir {
    match tempfile::Builder::new().prefix("ringdns-redis-").tempdir() {
        Ok(folder) => folder,
        Err(error) => panic!("a folder for redis-server: {error}"),
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// Three masters on loopback that share the keys among them, and a replica of the first.
pub struct RedisCluster {
    host: Host,
    nodes: Vec<Node>,
}

struct Node {
    process: Process,
    port: u16,
    _folder: TempDir,
}

/// Number of the last node, the replica.
const REPLICA: usize = 3;

impl RedisCluster {
    #[track_caller]
    pub fn start(host: &Host) -> Self {
        let node = |_| {
            let folder = folder();
            let [port, bus] = [free_port(host), free_port(host)];
            // The remaining nodes answer for their keys.
            let text = format!(
                "bind 127.0.0.1\nport {port}\ncluster-port {bus}\ncluster-enabled yes\nsave \"\"\nappendonly no\ndir {:?}\n\
                 cluster-node-timeout 1000\ncluster-require-full-coverage no\nrepl-diskless-sync-delay 0\n",
                folder.path()
            );
            let file = folder.path().join("redis.conf");
            if let Err(error) = std::fs::write(&file, text) {
                panic!("{}: {error}", file.display());
            }
            let process = host.spawn("redis-server", [&file]);
            process.wait_for_line("eady to accept connections", START);
            (Node { process, port, _folder: folder }, bus)
        };
        let nodes: Vec<_> = (0..=REPLICA).map(node).collect();
        let (first, bus) = (nodes[0].0.port.to_string(), nodes[0].1.to_string());
        let nodes = nodes.into_iter().map(|(node, _)| node).collect();
        let cluster = Self { host: host.clone(), nodes };
        for (nth, slots) in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]].into_iter().enumerate() {
            cluster.cli(nth, &["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]);
        }
        for nth in 1..=REPLICA {
            cluster.cli(nth, &["CLUSTER", "MEET", "127.0.0.1", &first, &bus]);
        }
        let all_say = |what: &str| {
            for nth in 0..=REPLICA {
                until("the cluster is whole", || {
                    cluster.cli(nth, &["CLUSTER", "INFO"]).contains(what).then_some(())
                });
            }
        };
        all_say("cluster_known_nodes:4");
        all_say("cluster_slots_ok:16384");
        let first = cluster.cli(0, &["CLUSTER", "MYID"]);
        cluster.cli(REPLICA, &["CLUSTER", "REPLICATE", &first]);
        until("the replica has what the master has", || {
            cluster.cli(0, &["INFO", "replication"]).contains("state=online").then_some(())
        });
        all_say("cluster_state:ok");
        cluster
    }

    /// Returns URLs for `[redis]`: two of the nodes, neither the first nor its replica.
    pub fn urls(&self) -> [String; 2] {
        [1, 2].map(|nth: usize| format!("redis://127.0.0.1:{}", self.nodes[nth].port))
    }

    /// Returns the process of a node: three masters, then the first one's replica.
    pub fn process(&self, nth: usize) -> &Process {
        &self.nodes[nth].process
    }

    /// Kills a node, as a crash would.
    #[track_caller]
    pub fn kill9(&mut self, nth: usize) {
        self.nodes[nth].process.signal(rustix::process::Signal::KILL);
        self.nodes[nth].process.wait_for_exit(START);
    }

    /// Returns the output of `redis-cli` for a node. Panics unless it succeeds.
    #[track_caller]
    pub fn cli(&self, nth: usize, arguments: &[&str]) -> String {
        let port = self.nodes[nth].port.to_string();
        let words = ["-e", "-p", &port].into_iter().chain(arguments.iter().copied());
        self.host.run("redis-cli", words).trim_end().to_owned()
    }
}
