//! Servers to compare, each described by a file.

use super::{SERVER_CORE, memory_folder};
use crate::{
    lab::{SERVER, SERVER_INTERFACE, Server, on_core},
    names::{Questions, SUFFIX},
    output, synthetic,
};
use anyhow::{Context, Result, bail, ensure};
use hickory_proto::rr::RecordType;
use ringdns_testkit::Lab;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fmt::Write,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Address of the upstream of all caches, on the server's loopback.
pub const UPSTREAM: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5301));

/// Servers that are compared by default, in the order of the tables.
const BUILT_IN: [(&str, &str); 12] = [
    ("responder", include_str!("../../servers/responder.toml")),
    ("ringdnsd", include_str!("../../servers/ringdnsd.toml")),
    ("ringdnsd-kernel", include_str!("../../servers/ringdnsd-kernel.toml")),
    ("unbound", include_str!("../../servers/unbound.toml")),
    ("knot-resolver", include_str!("../../servers/knot-resolver.toml")),
    ("knot-resolver-xdp", include_str!("../../servers/knot-resolver-xdp.toml")),
    ("pdns-recursor", include_str!("../../servers/pdns-recursor.toml")),
    ("dnsdist", include_str!("../../servers/dnsdist.toml")),
    ("bind", include_str!("../../servers/bind.toml")),
    ("dnsmasq", include_str!("../../servers/dnsmasq.toml")),
    ("coredns", include_str!("../../servers/coredns.toml")),
    ("knot-dns-xdp", include_str!("../../servers/knot-dns-xdp.toml")),
];

/// Source of a server's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The server asks the upstream and keeps its answers.
    Cache,
    /// The server has all names from the start.
    Authority,
    /// The server has one answer for every query.
    Constant,
}

/// Description of a server, as in its file. Arguments, version and files may hold placeholders,
/// `${like_this}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Name of the file, by which the server is chosen.
    #[serde(skip)]
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// Program: a path, or a name to look for in `PATH` and where Debian puts servers.
    program: String,
    arguments: Vec<String>,
    /// Command that prints the version.
    version: Vec<String>,
    /// Debian package of the program.
    package: Option<String>,
    /// Source of its answers.
    pub kind: Kind,
    /// Setting that limits it to one thread.
    pub thread: String,
    /// Reason why these settings are its best.
    pub notes: String,
    /// Files to write before the server starts.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

impl Description {
    /// Parses a description.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut description: Description = toml::from_str(text)?;
        description.name = name.into();
        ensure!(
            !description.version.is_empty(),
            "version must be the command that prints it, such as [\"named\", \"-v\"]"
        );
        for file in description.files.keys() {
            ensure!(!file.contains('/') && !file.starts_with('.'), "\"{file}\" is not a plain file name");
        }
        // Finds a misspelled placeholder now, not after ten minutes of measuring.
        let places = Places::example();
        let texts =
            description.arguments.iter().chain(&description.version).chain(description.files.values());
        for text in texts.chain([&description.program]) {
            places.fill(text)?;
        }
        Ok(description)
    }

    /// Whether the server is part of this project: then it must be there and must work.
    pub fn is_ours(&self) -> bool {
        self.program.starts_with("${ring")
    }
}

/// Returns the built-in servers and those described in `folder`, which replace built-in ones of the
/// same name; limited to the names in `only` unless that is empty.
pub fn describe(folder: Option<&Path>, only: &[String]) -> Result<Vec<Description>> {
    let mut servers = Vec::new();
    for (name, text) in BUILT_IN {
        let server = Description::parse(name, text);
        servers.push(server.with_context(|| format!("bench/servers/{name}.toml"))?);
    }
    let mut paths = Vec::new();
    if let Some(folder) = folder {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.extension() == Some(OsStr::new("toml")));
    paths.sort();
    for path in paths {
        let read = || {
            let name = path.file_stem().and_then(OsStr::to_str).context("its name is not valid UTF-8")?;
            Description::parse(name, &fs::read_to_string(&path)?)
        };
        let server = read().with_context(|| format!("{} describes no server", path.display()))?;
        match servers.iter_mut().find(|known| known.name == server.name) {
            Some(known) => *known = server,
            None => servers.push(server),
        }
    }
    if let Some(unknown) = only.iter().find(|name| servers.iter().all(|server| server.name != **name)) {
        let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
        bail!("no server is called \"{unknown}\": known servers are {}", names.join(", "));
    }
    servers.retain(|server| only.is_empty() || only.contains(&server.name));
    Ok(servers)
}

/// Programs of this project.
#[derive(Debug)]
pub struct Programs {
    /// Path of `ringbench`, this program.
    pub ringbench: PathBuf,
    /// Path of `ringdnsd`.
    pub ringdnsd: PathBuf,
}

impl Programs {
    /// Finds `ringdnsd` beside this program, unless a path is given.
    pub fn find(ringdnsd: Option<PathBuf>) -> Result<Self> {
        let ringbench = env::current_exe().context("cannot find this program's own file")?;
        let ringdnsd = there(ringdnsd.unwrap_or_else(|| ringbench.with_file_name("ringdnsd")))?;
        Ok(Programs { ringbench, ringdnsd })
    }
}

/// Returns the path of a program of this project. Fails if it is not there.
pub(crate) fn there(path: PathBuf) -> Result<PathBuf> {
    ensure!(
        path.exists(),
        "there is no {}: build it with the same profile (cargo build --package ringdns-daemon --package ringdns-ctl), or put it there",
        path.display()
    );
    Ok(path)
}

/// Server that is installed here.
#[derive(Debug)]
pub struct Contestant {
    /// Description of the server.
    pub description: Description,
    /// Version that the server prints.
    pub version: String,
}

impl Contestant {
    /// Looks for the server; `Err` is the remark for the table if it is not there.
    pub fn find(description: Description, programs: &Programs) -> Result<Self, String> {
        let places = Places::new(SERVER, programs, Path::new(""), "");
        let find = || -> Result<String> {
            let program = places.fill(&description.program)?;
            let path = which(&program).with_context(|| match &description.package {
                Some(package) => format!("{program} is not installed (Debian: {package})"),
                None => format!("{program} is not installed"),
            })?;
            let version: Vec<String> =
                description.version.iter().map(|word| places.fill(word)).collect::<Result<_>>()?;
            // The full path where it was found: sbin is often not in the PATH.
            let teller = if version[0] == program { path } else { PathBuf::from(&version[0]) };
            let output =
                Command::new(teller).args(&version[1..]).output().context("it does not print its version")?;
            let said = [output.stdout, output.stderr].concat();
            Ok(version_in(&String::from_utf8_lossy(&said)).unwrap_or("of unknown version").into())
        };
        match find() {
            Ok(version) => Ok(Contestant { description, version }),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    /// Starts the server in the lab, on its core, with a new folder and an empty cache.
    pub fn start(&self, lab: &Lab, programs: &Programs, names: &Questions, nice: i8) -> Result<Running> {
        self.start_at(SERVER, lab, programs, names, nice)
    }

    /// Starts the server at a given address, so that several can run at once.
    pub(crate) fn start_at(
        &self,
        address: SocketAddr,
        lab: &Lab,
        programs: &Programs,
        names: &Questions,
        nice: i8,
    ) -> Result<Running> {
        let Description { title, program, arguments, files, .. } = &self.description;
        let folder = tempfile::Builder::new().prefix("ringbench-").tempdir_in(memory_folder());
        let folder = folder.context("cannot make a temporary folder")?;
        let records =
            if files.values().any(|text| text.contains("${records}")) { zone(names) } else { String::new() };
        let places = Places::new(address, programs, folder.path(), &records);
        for (name, text) in files {
            let path = folder.path().join(name);
            output::text(Some(&path), &places.fill(text)?)?;
        }
        let program = places.fill(program)?;
        let path = which(&program).with_context(|| format!("{program} is gone"))?;
        let mut command = on_core(lab.server(), SERVER_CORE, "nice");
        command.args(["-n", &nice.to_string()]).arg(path);
        for argument in arguments {
            command.arg(places.fill(argument)?);
        }
        Ok(Running { server: Server::start(title, command)?, _folder: folder })
    }
}

/// Started server and its folder.
pub struct Running {
    /// Process of the server.
    pub server: Server,
    _folder: TempDir,
}

/// Finds a program: a path as it is, a name in `PATH` or where Debian puts servers.
fn which(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.exists().then(|| path.into());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&folders).chain(servers).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Returns the first word that looks like a version: digits and a dot.
fn version_in(said: &str) -> Option<&str> {
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    said.split_ascii_whitespace().find(is_version).map(|word| word.trim_end_matches([',', ')', '.']))
}

/// Returns the names as lines of a zone file, with the synthetic upstream's data.
fn zone(names: &Questions) -> String {
    let mut text = String::new();
    for index in 0..names.len() as u32 {
        let question = names.get(index);
        let (name, label) = (&question[..question.len() - 4], &question[1..1 + usize::from(question[0])]);
        let mut address = Vec::new();
        synthetic::rdata(name, RecordType::A.into(), 0, &mut address);
        let octets: Vec<_> = address.iter().map(u8::to_string).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}.{SUFFIX}. A {}", String::from_utf8_lossy(label), octets.join("."));
    }
    text
}

/// Values of the placeholders.
struct Places(BTreeMap<&'static str, String>);

impl Places {
    fn new(address: SocketAddr, programs: &Programs, folder: &Path, records: &str) -> Self {
        let path = |path: &Path| path.display().to_string();
        Places(BTreeMap::from([
            ("address", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("interface", SERVER_INTERFACE.into()),
            ("upstream_address", UPSTREAM.ip().to_string()),
            ("upstream_port", UPSTREAM.port().to_string()),
            ("folder", path(folder)),
            ("core", SERVER_CORE.to_string()),
            ("ringbench", path(&programs.ringbench)),
            ("ringdnsd", path(&programs.ringdnsd)),
            ("records", records.into()),
        ]))
    }

    fn example() -> Self {
        let programs = Programs { ringbench: PathBuf::new(), ringdnsd: PathBuf::new() };
        Places::new(SERVER, &programs, Path::new(""), "")
    }

    /// Replaces every placeholder in `text`.
    fn fill(&self, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) =
                after.split_once('}').context("a placeholder, ${name}, lacks its closing brace")?;
            let known = || self.0.keys().map(|key| format!("${{{key}}}")).collect::<Vec<_>>().join(", ");
            let value = self.0.get(name);
            filled.push_str(before);
            filled.push_str(
                value.with_context(|| format!("unknown placeholder ${{{name}}}: there are {}", known()))?,
            );
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    const MINIMAL: &str = "title = 'T'\nprogram = 'p'\narguments = []\nversion = ['p', '-v']\nkind = 'cache'\nthread = 't'\n\
                           notes = 'n'\n";

    #[test]
    fn every_committed_description_is_built_in_and_sound() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers");
        let built_in = describe(None, &[]).unwrap();
        let from_files = describe(Some(&folder), &[]).unwrap();
        let names = |servers: &[Description]| servers.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&built_in), names(&from_files), "a file in bench/servers is not built in");
        for server in built_in {
            assert!(
                server.notes.len() > 40 && !server.thread.is_empty(),
                "{} says nothing of itself",
                server.name
            );
        }
    }

    #[test]
    fn a_users_file_adds_a_server_or_replaces_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.toml"), MINIMAL).unwrap();
        fs::write(folder.path().join("unbound.toml"), MINIMAL).unwrap();
        fs::write(folder.path().join("README.md"), "no server").unwrap();
        let only = ["mine".to_owned(), "unbound".to_owned()];
        let servers = describe(Some(folder.path()), &only).unwrap();
        assert_eq!(servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["unbound", "mine"]);
        assert_eq!(servers[0].title, "T");
        let error = describe(None, &["none".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"none\"") && error.contains("knot-resolver"), "{error}");
    }

    #[test]
    fn misspelled_keys_and_placeholders_are_refused() {
        assert!(Description::parse("x", MINIMAL).is_ok());
        let wrong = [
            ("colour = 'red'\n", "colour"),
            ("[files]\n'a' = '${adress}'\n", "${adress}"),
            ("[files]\n'a' = '${address'\n", "closing brace"),
            ("[files]\n'../a' = ''\n", "../a"),
        ];
        for (line, named) in wrong {
            let error = format!("{:#}", Description::parse("x", &format!("{MINIMAL}{line}")).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn placeholders_are_replaced_wherever_they_stand() {
        let places = Places::example();
        assert_eq!(places.fill("${address}@${port}, $x {y}").unwrap(), "10.53.0.2@53, $x {y}");
    }

    #[test]
    fn versions_are_found_in_what_servers_say() {
        let said = [
            ("Nov 21 08:39:49 PowerDNS Recursor 4.8.8 (C) 2001-2022", "4.8.8"),
            ("Knot Resolver, version 5.6.0\n", "5.6.0"),
            ("knotd (Knot DNS), version 3.2.6", "3.2.6"),
            ("dnsdist 1.7.3 (Lua 5.1.4 [LuaJIT 2.1.0-beta3])", "1.7.3"),
        ];
        for (text, version) in said {
            assert_eq!(version_in(text), Some(version));
        }
        assert_eq!(version_in("no idea"), None);
    }

    #[test]
    fn a_zone_says_what_the_upstream_would() {
        let names = Questions::made_up(3, SUFFIX, 1).unwrap();
        let zone = zone(&names);
        assert_eq!(zone.lines().count(), 3);
        let (owner, address) = zone.lines().next().unwrap().split_once(" A ").unwrap();
        assert_eq!(owner, "n000000.rb.example.");
        let address: Ipv4Addr = address.parse().unwrap();
        let mut reply = vec![0, 1, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        reply.extend(names.get(0));
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
        reply.extend(address.octets());
        assert!(check::check(&reply, names.get(0), true).is_ok());
    }

    #[test]
    fn what_is_not_installed_is_said_with_its_package() {
        let text = MINIMAL.replace("program = 'p'", "program = 'no-such-program'\npackage = 'such'");
        let programs = Programs { ringbench: PathBuf::new(), ringdnsd: PathBuf::new() };
        let word = Contestant::find(Description::parse("x", &text).unwrap(), &programs).unwrap_err();
        assert_eq!(word, "no-such-program is not installed (Debian: such)");
    }
}
