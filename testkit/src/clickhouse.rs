//! ClickHouse: a server in its own folder, on free ports of loopback. Either as Debian ships it, or
//! the current engine behind the front in `testkit/clickhouse/front.py`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Host, Process, free_address, free_port, sources::source};

const START: Duration = Duration::from_secs(60);
/// Time to wait, longer than any query of a test takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Folder in which `deploy/setup.sh test` installs the current engine, unless RINGDNS_PYTHON names
/// another.
const PYTHON: &str = "/opt/ringdns-tests";

/// Version of ClickHouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Debian 12's `clickhouse-server`, 18.16.
    Debian,
    /// The current engine, in a Python process.
    Current,
}

/// A server in the foreground, with little memory. Its data survives when it is killed and started
/// again.
pub struct ClickHouse {
    engine: Engine,
    /// Process of the server; `None`: it was killed.
    process: Option<Process>,
    host: Host,
    address: SocketAddr,
    password: String,
    folder: TempDir,
}

impl ClickHouse {
    /// Starts Debian's, whose user `default` has a password.
    #[track_caller]
    pub fn start(host: &Host, password: &str) -> Self {
        Self::start_engine(Engine::Debian, host, password)
    }

    /// Starts a server whose user `default` has a password.
    #[track_caller]
    pub fn start_engine(engine: Engine, host: &Host, password: &str) -> Self {
        Self::start_in(&std::env::temp_dir(), engine, host, password)
    }

    /// Starts a server whose files are in a folder in `parent`.
    #[track_caller]
    pub fn start_in(parent: &Path, engine: Engine, host: &Host, password: &str) -> Self {
        let address = free_address(host);
        let folder = match written(parent, address, free_port(host), password) {
            Ok(folder) => folder,
            Err(error) => panic!("a folder for clickhouse-server: {error}"),
        };
        let mut server = Self {
            engine,
            process: None,
            host: host.clone(),
            address,
            password: password.to_owned(),
            folder,
        };
        server.start_again();
        server
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Returns the URL of its HTTP interface.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the path of a file that contains the password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    pub fn process(&self) -> &Process {
        match &self.process {
            Some(process) => process,
            None => panic!("clickhouse-server was killed"),
        }
    }

    /// Kills the server, as a crash would.
    #[track_caller]
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::KILL);
            process.wait_for_exit(PATIENCE);
        }
    }

    /// Starts the server again, with its stored data.
    #[track_caller]
    pub fn start_again(&mut self) {
        let folder = self.folder.path();
        let process = match self.engine {
            Engine::Debian => {
                let file = folder.join("config.xml");
                self.host.spawn("clickhouse-server", [format!("--config-file={}", file.display())])
            }
            Engine::Current => {
                let python =
                    std::env::var("RINGDNS_PYTHON").unwrap_or_else(|_| PYTHON.into()) + "/bin/python3";
                let front = source("testkit/clickhouse/front.py").display().to_string();
                let arguments = [&front, &folder.display().to_string(), &self.address.port().to_string()];
                self.host.spawn(&python, arguments)
            }
        };
        process.wait_for_line("Ready for connections", START);
        self.process = Some(process);
    }

    /// Current engine only: holds insertions before they begin from now on, or releases them.
    #[track_caller]
    pub fn hold_insertions(&self, hold: bool) {
        assert_eq!(self.engine, Engine::Current, "only the current engine can hold insertions");
        let file = self.folder.path().join("hold");
        let done = if hold { std::fs::write(&file, "") } else { std::fs::remove_file(&file) };
        if let Err(error) = done {
            panic!("{}: {error}", file.display());
        }
    }

    /// Runs a statement. Returns the answer without its last line end.
    #[track_caller]
    pub fn query(&self, query: &str) -> String {
        match self.host.enter(|| self.ask(query)) {
            Ok((200, answer)) => answer.trim_end().to_owned(),
            Ok((status, answer)) => panic!("{query}: {status}: {answer}"),
            Err(error) => panic!("{query}: {error}"),
        }
    }

    fn ask(&self, query: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "POST / HTTP/1.0\r\nX-ClickHouse-User: default\r\nX-ClickHouse-Key: {}\r\nContent-Length: {}\r\n\r\n{query}",
            self.password,
            query.len(),
        )?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}

fn written(parent: &Path, http: SocketAddr, native: u16, password: &str) -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("ringdns-clickhouse-").tempdir_in(parent)?;
    let path = folder.path();
    std::fs::write(path.join("password"), format!("{password}\n"))?;
    std::fs::write(path.join("users.xml"), users(password))?;
    std::fs::write(path.join("config.xml"), configuration(&path.display().to_string(), http.port(), native))?;
    Ok(folder)
}

fn configuration(folder: &str, http: u16, native: u16) -> String {
    format!(
        "<yandex>
  <logger><level>information</level><console>1</console><log>{folder}/server.log</log></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http}</http_port>
  <tcp_port>{native}</tcp_port>
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <user_files_path>{folder}/files/</user_files_path>
  <format_schema_path>{folder}/schemas/</format_schema_path>
  <users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>Europe/Berlin</timezone>
  <mark_cache_size>16777216</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <max_concurrent_queries>20</max_concurrent_queries>
</yandex>
"
    )
}

fn users(password: &str) -> String {
    format!(
        "<yandex>
  <profiles><default><max_memory_usage>1000000000</max_memory_usage></default></profiles>
  <users><default>
    <password>{password}</password>
    <networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
  </default></users>
  <quotas><default/></quotas>
</yandex>
"
    )
}
