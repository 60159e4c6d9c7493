//! Folders that ringdnsd can use, as rules of Landlock.

use super::SandboxError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use ringdns_common::files;
use ringdns_config::{
    Config, Problem,
    paths::{NamedPath, PathUse},
};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

/// Version of Landlock whose rights are ruled; an older kernel rules those that it knows. Later versions
/// rule sockets by path, which libraries connect to.
const VERSION: ABI = ABI::V7;

/// Folders of the system that are read: libraries, certificates, time zones, resolv.conf, /proc and
/// /sys. A rule for a folder below /proc would end with memory pressure: procfs makes a new inode when
/// the old one was dropped.
const SYSTEM: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/dev/null",
    "/dev/urandom",
];

/// Environment variable with the file of trusted CAs (OpenSSL's name, which rustls-native-certs reads).
const TRUSTED_FILE: &str = "SSL_CERT_FILE";
/// Environment variable with folders of trusted CAs.
const TRUSTED_FOLDERS: &str = "SSL_CERT_DIR";

/// Rights to write: regular files, folders and sockets, but no devices and no links.
const WRITING: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | RemoveFile | RemoveDir | MakeReg | MakeDir | MakeSock | Refer
});

/// Folders that ringdnsd can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    read: BTreeSet<PathBuf>,
    written: BTreeSet<PathBuf>,
}

/// Path outside of the folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(NamedPath);

impl Refused {
    /// Returns the problem to report.
    pub fn problem(&self) -> Problem {
        let NamedPath { key, path, .. } = &self.0;
        let reason = format!(
            "{} is outside of the folders that ringdnsd limited itself to when it started",
            path.display()
        );
        let remedy =
            "Restart ringdnsd, or move the file into a folder that it uses; sandbox.folders has further ones";
        Problem::new(key.clone(), reason, remedy)
    }
}

impl Folders {
    /// Returns the folders that a configuration, read from `file`, needs.
    pub fn of(config: &Config, file: &Path) -> Self {
        let mut folders = Folders::default();
        folders.read.extend(SYSTEM.map(PathBuf::from));
        // For the names of functions in backtraces and profiles.
        folders.read.extend(env::current_exe());
        let trusted = |name: &str| env::var_os(name).unwrap_or_default();
        folders
            .read
            .extend(env::split_paths(&trusted(TRUSTED_FILE)).map(|path| folder(&path, PathUse::File)));
        folders.read.extend(env::split_paths(&trusted(TRUSTED_FOLDERS)).map(|path| absolute(&path)));
        folders.read.extend(folders_of(file, PathUse::File));
        // Profiles are collected there.
        folders.written.insert(env::temp_dir());
        folders.read.extend(config.sandbox.folders.iter().cloned());
        for NamedPath { path, used, .. } in config.paths() {
            let set = if used == PathUse::File { &mut folders.read } else { &mut folders.written };
            set.extend(folders_of(&path, used));
        }
        folders
    }

    /// Returns the folders that can be written.
    pub fn written(&self) -> &BTreeSet<PathBuf> {
        &self.written
    }

    /// Returns the first path of a configuration that is outside of the folders. Leaves out what takes effect
    /// at a restart, which has folders of its own, and what is no file: its reader says so.
    pub fn refuse(&self, config: &Config) -> Option<Refused> {
        let reals = |set: &BTreeSet<PathBuf>| -> Vec<_> { set.iter().map(|folder| real(folder)).collect() };
        let (read, written) = (reals(&self.read), reals(&self.written));
        let is_allowed = |named: &NamedPath| {
            folders_of(&named.path, named.used).iter().all(|path| {
                let path = real(path);
                let is_below = |folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
                is_below(&written) || named.used == PathUse::File && is_below(&read)
            })
        };
        let is_no_file = |named: &NamedPath| {
            named.used == PathUse::File && fs::metadata(&named.path).is_ok_and(|found| !found.is_file())
        };
        let paths = config.paths().into_iter().filter(|named| named.is_taken_over());
        paths.filter(|named| !is_allowed(named) && !is_no_file(named)).map(Refused).next()
    }

    /// Forbids this thread, and those that it makes, all other folders, programs, TCP ports to listen
    /// on, and signals to other processes. `None`: the kernel has no Landlock.
    pub fn enforce(self, config: &Config) -> Result<Option<Self>, SandboxError> {
        // Whoever needs a folder reports why it cannot be made. Others may look for the socket; all else that is
        // written is for nobody else.
        let _ = config.control.socket.parent().map(fs::create_dir_all);
        for folder in &self.written {
            let _ = files::create_private_folder(folder);
        }
        let reading: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let writing = reading | WRITING;
        // A service manager's socket may have an abstract name.
        let is_abstract =
            env::var_os("NOTIFY_SOCKET").is_some_and(|name| name.to_string_lossy().starts_with('@'));
        let scope = if is_abstract { Scope::Signal.into() } else { Scope::from_all(VERSION) };
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::BindTcp)?
            .scope(scope)?
            .create()?
            // Unless the process may do without, the kernel demands it.
            .no_new_privs(true);
        for (folders, access) in [(&self.read, reading), (&self.written, writing)] {
            for path in folders {
                // What does not exist cannot be used, whatever is made at its place.
                let Ok(opened) = PathFd::new(path) else { continue };
                let access = if path.is_dir() { access } else { access & AccessFs::from_file(VERSION) };
                rules = rules.add_rule(PathBeneath::new(opened, access))?;
            }
        }
        for address in config.server.listen.iter().chain(&config.control.http) {
            rules = rules.add_rule(NetPort::new(address.port(), AccessNet::BindTcp))?;
        }
        let status = rules.restrict_self()?;
        Ok((status.ruleset != RulesetStatus::NotEnforced).then_some(self))
    }
}

/// Returns the folder that a rule is made for. A file's folder, not the file: others replace files by
/// renaming, and a rule is bound to an inode. A file in the root is an exception, whose folder is all.
fn folder(path: &Path, used: PathUse) -> PathBuf {
    let path = absolute(path);
    match (used, path.parent()) {
        (PathUse::File | PathUse::WrittenFile, Some(parent)) if parent != Path::new("/") => parent.to_owned(),
        _ => path,
    }
}

/// Returns the folders that a path needs: its own, and that of the file to which it leads by symbolic links.
fn folders_of(path: &Path, used: PathUse) -> BTreeSet<PathBuf> {
    let target = path.canonicalize().ok().filter(|_| used != PathUse::WrittenFolder);
    let target = target.map(|target| folder(&target, used));
    [Some(folder(path, used)), target].into_iter().flatten().collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns a path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn config(state: &Path, lines: &str) -> Config {
        let at = state.display();
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1:53\"\n\
             [control]\nsocket = \"{at}/run/control.sock\"\n\
             [lists]\ndir = \"{at}/lists\"\noverrides_file = \"{at}/overrides.toml\"\n{lines}\n"
        );
        Config::parse(&text, Path::new("ringdns.toml")).unwrap_or_else(|error| panic!("{:?}", error.lines()))
    }

    fn blocklist(path: &Path) -> String {
        format!("[[blocklist]]\nname = \"ads\"\nsource = {path:?}\n")
    }

    #[test]
    fn a_file_is_used_in_its_folder_alone() {
        let state = tempfile::tempdir().unwrap();
        let started = config(state.path(), &blocklist(Path::new("/srv/lists/ads.txt")));
        let folders = Folders::of(&started, Path::new("/etc/ringdns/ringdns.toml"));
        assert_eq!(folders.refuse(&started), None);
        for (path, allowed) in [
            ("/srv/lists/other.txt", true),
            ("/srv/lists/deeper/other.txt", true),
            ("/srv/other.txt", false),
            ("/srv/lists2/ads.txt", false),
            ("/etc/ringdns/ads.txt", true),
            ("/home/ads.txt", false),
            ("/dev/zero", true),
        ] {
            let refused = folders.refuse(&config(state.path(), &blocklist(Path::new(path))));
            assert_eq!(refused.is_none(), allowed, "{path}");
            if let Some(refused) = refused {
                let message = refused.problem().to_string();
                assert!(message.starts_with("blocklist[0].source") && message.contains(path), "{message}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_read_is_not_written() {
        let state = tempfile::tempdir().unwrap();
        let started = config(state.path(), &blocklist(Path::new("/srv/lists/ads.txt")));
        let folders = Folders::of(&started, Path::new("/etc/ringdns/ringdns.toml"));
        assert_eq!(folders.written().len(), 4, "{folders:?}");
        let anchors = |file: &str| format!("[dnssec]\nvalidate = true\nmanaged_anchor_file = {file:?}");
        assert!(folders.refuse(&config(state.path(), &anchors("/srv/lists/keys"))).is_some());
        let temporary = env::temp_dir().join("keys").display().to_string();
        assert_eq!(folders.refuse(&config(state.path(), &anchors(&temporary))), None);
        // It takes effect at a restart alone, and has a folder then.
        let snapshot = config(state.path(), "[cache]\nsnapshot_file = \"/srv/lists/cache\"");
        assert_eq!(folders.refuse(&snapshot), None);
        let further = config(state.path(), "[sandbox]\nfolders = [\"/home/lists\"]");
        let folders = Folders::of(&further, Path::new("/etc/ringdns/ringdns.toml"));
        assert_eq!(folders.refuse(&config(state.path(), &blocklist(Path::new("/home/lists/ads.txt")))), None);
    }

    /// The folder of a file in the root would be all folders.
    #[test]
    fn a_file_in_the_root_opens_no_folder() {
        let state = tempfile::tempdir().unwrap();
        let started = config(state.path(), &blocklist(Path::new("/ads.txt")));
        let folders = Folders::of(&started, Path::new("/ringdns.toml"));
        assert_eq!(folders.refuse(&started), None);
        assert!(folders.refuse(&config(state.path(), &blocklist(Path::new("/other.txt")))).is_some());
    }

    #[test]
    fn a_symbolic_link_leads_nowhere_else() {
        let state = tempfile::tempdir().unwrap();
        let (real, link, away) =
            (state.path().join("real"), state.path().join("link"), state.path().join("away"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        symlink("/home", &away).unwrap();
        let started = config(Path::new("/var/lib/ringdns"), &blocklist(&link.join("ads.txt")));
        let mut folders = Folders::of(&started, Path::new("/ringdns.toml"));
        // The folder of this test is in it.
        folders.written.remove(&env::temp_dir());
        let is_refused =
            |path: &Path| folders.refuse(&config(Path::new("/var/lib/ringdns"), &blocklist(path))).is_some();
        assert!(!is_refused(&real.join("ads.txt")) && is_refused(&away.join("ads.txt")));
    }

    /// A certificate of an ACME client is a link into another folder.
    #[test]
    fn a_file_behind_a_link_is_in_two_folders() {
        let (links, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, file) = (links.path().join("ads.txt"), files.path().join("ads.txt"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let state = Path::new("/var/lib/ringdns");
        let folders = Folders::of(&config(state, &blocklist(&link)), Path::new("/ringdns.toml"));
        assert!(
            folders.read.contains(links.path()) && folders.read.contains(&real(files.path())),
            "{folders:?}"
        );
        let mut narrow = folders.clone();
        narrow.written.remove(&env::temp_dir());
        assert_eq!(narrow.refuse(&config(state, &blocklist(&link))), None);
        narrow.read.remove(&real(files.path()));
        assert!(narrow.refuse(&config(state, &blocklist(&link))).is_some());
    }
}
