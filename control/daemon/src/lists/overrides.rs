//! Overrides and pauses: names that operators block or allow for a time. They are kept in a file,
//! so that a restart does not forget them.

use super::GroupsError;
use jiff::Timestamp;
use ringdns_api::{Override, OverrideAction, Overrides, Pause, RulePlace};
use ringdns_common::{names, printable::Printable};
use ringdns_policy::{list::Found, names::last_labels};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Most overrides and most pauses.
const MOST: usize = 1_000;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Permissions of the file.
const FILE_MODE: u32 = 0o640;

/// Reason why an override cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// Not a name.
    #[error("{0}")]
    Name(#[from] names::NameError),
    /// No such group.
    #[error("there is no group {0:?}. [[client_group]] tables have their names")]
    Group(String),
    /// The clients cannot be told apart.
    #[error("{0}. {remedy}", remedy = GroupsError::REMEDY)]
    Clients(#[from] GroupsError),
    /// There are too many.
    #[error("there are {MOST} already. Clear some, or put the names into a list")]
    TooMany,
    /// The file could not be read.
    #[error("lists.overrides_file: {0}. Correct the file or move it away, and restart ringdnsd")]
    Broken(String),
    /// The file cannot be written, so nothing has changed.
    #[error("lists.overrides_file: {}: {reason}. Make its folder writable for ringdnsd, or name another file", Printable(path.display()))]
    File {
        /// File.
        path: PathBuf,
        /// Reason.
        reason: io::Error,
    },
}

/// Returns the place of the override that was found for a name, in the file of overrides.
pub fn place(path: &Path, name: &[u8], found: &Found<'_>) -> Option<RulePlace> {
    let name = names::display(last_labels(name, found.labels?));
    let text = fs::read_to_string(path).ok()?;
    let wanted = format!("name = {name:?}");
    let at = text.lines().position(|line| line == wanted)?;
    Some(RulePlace { file: path.display().to_string(), line: u32::try_from(at + 1).ok()?, text: wanted })
}

/// Returns what the file has. A file that is missing has nothing.
pub fn read(path: &Path) -> io::Result<Overrides> {
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Overrides::default()),
        opened => opened?.take(FILE_MAX).read_to_string(&mut text)?,
    };
    let read: Overrides = toml::from_str(&text).map_err(io::Error::other)?;
    let names = read.overrides.iter().map(|entry| names::name(&entry.name).map(drop));
    names.collect::<Result<(), _>>().map_err(io::Error::other)?;
    if let Some(pause) = read.pauses.iter().find(|pause| pause.client.is_some() && client(pause).is_none()) {
        let client = pause.client.as_deref().unwrap_or_default();
        return Err(io::Error::other(format!("{client:?} is no address of a client, or beside a group")));
    }
    let times =
        read.overrides.iter().map(|entry| &entry.until).chain(read.pauses.iter().map(|pause| &pause.until));
    let times = times.flatten().map(|until| until.parse::<Timestamp>().map(drop));
    times.collect::<Result<(), _>>().map_err(io::Error::other)?;
    Ok(read)
}

/// Replaces the file: a crash leaves the old one or the new one.
pub fn write(path: &Path, overrides: &Overrides) -> Result<(), OverrideError> {
    let write = || -> io::Result<()> {
        let text = toml::to_string(overrides).map_err(io::Error::other)?;
        let head = "# Written by ringdnsd: see `ringctl policy overrides`.\n\n";
        let part = path.with_extension("part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&part)?;
        file.write_all(head.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    };
    write().map_err(|reason| OverrideError::File { path: path.to_owned(), reason })
}

/// Returns the Unix time at which something ends; `None`: never.
pub fn end_of(until: Option<&str>) -> Option<i64> {
    until.and_then(|until| until.parse::<Timestamp>().ok()).map(|until| until.as_second())
}

/// Returns a Unix time as in the file.
pub fn at(unix: i64) -> Option<String> {
    Timestamp::from_second(unix).ok().map(|time| time.to_string())
}

/// Adds an override, in place of one for the same name and group.
pub fn add(overrides: &mut Overrides, entry: Override) -> Result<(), OverrideError> {
    let name = names::display(&names::name(&entry.name)?);
    clear(overrides, &name, entry.group.as_deref());
    if overrides.overrides.len() >= MOST {
        return Err(OverrideError::TooMany);
    }
    overrides.overrides.push(Override { name, ..entry });
    Ok(())
}

/// Removes the override for a name and a group. Returns whether there was one.
pub fn clear(overrides: &mut Overrides, name: &str, group: Option<&str>) -> bool {
    let before = overrides.overrides.len();
    overrides.overrides.retain(|entry| entry.name != name || entry.group.as_deref() != group);
    overrides.overrides.len() < before
}

/// Returns the pause of a group, of a client, or of all.
pub fn pause_of(group: Option<String>, client: Option<IpAddr>) -> Pause {
    let client = client.map(|client| client.to_canonical().to_string());
    Pause { group, client, until: None }
}

/// Returns the client that a pause is for; `None`: it is for a group, or for all.
pub fn client(pause: &Pause) -> Option<IpAddr> {
    let client = pause.client.as_ref().filter(|_| pause.group.is_none())?;
    client.parse().ok().map(|client: IpAddr| client.to_canonical())
}

/// Adds a pause, in place of one for the same clients.
pub fn pause(overrides: &mut Overrides, pause: Pause) -> Result<(), OverrideError> {
    resume(overrides, &pause);
    if overrides.pauses.len() >= MOST {
        return Err(OverrideError::TooMany);
    }
    overrides.pauses.push(pause);
    Ok(())
}

/// Removes the pause of the same clients as those of `ended`. Returns whether there was one.
pub fn resume(overrides: &mut Overrides, ended: &Pause) -> bool {
    let before = overrides.pauses.len();
    let of = |pause: &Pause| (pause.group.clone(), client(pause));
    overrides.pauses.retain(|pause| of(pause) != of(ended));
    overrides.pauses.len() < before
}

/// Removes what has ended by a Unix time. Returns whether there was anything.
pub fn expire(overrides: &mut Overrides, now: i64) -> bool {
    let before = (overrides.overrides.len(), overrides.pauses.len());
    let is_on = |until: &Option<String>| end_of(until.as_deref()).is_none_or(|end| now < end);
    overrides.overrides.retain(|entry| is_on(&entry.until));
    overrides.pauses.retain(|pause| is_on(&pause.until));
    before != (overrides.overrides.len(), overrides.pauses.len())
}

/// Whether an override blocks.
pub fn blocks(entry: &Override) -> bool {
    entry.action == OverrideAction::Block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, group: Option<&str>, until: Option<i64>) -> Override {
        let action = OverrideAction::Block;
        Override { name: name.into(), action, group: group.map(Into::into), until: until.and_then(at) }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides.toml");
        assert_eq!(read(&path).unwrap(), Overrides::default());
        let mut overrides = Overrides::default();
        add(&mut overrides, entry("Ads.Example", None, None)).unwrap();
        add(&mut overrides, entry("ads.example.", Some("kids"), Some(1_800_000_000))).unwrap();
        add(&mut overrides, entry("ads.example", None, Some(1_900_000_000))).unwrap();
        pause(&mut overrides, Pause { until: at(1_800_000_000), ..Pause::default() }).unwrap();
        let kid = |until| Pause { client: Some("192.0.2.7".into()), until, ..Pause::default() };
        pause(&mut overrides, kid(None)).unwrap();
        pause(&mut overrides, kid(at(1_700_000_000))).unwrap();
        assert_eq!(overrides.pauses.len(), 2, "one for the same clients");
        assert_eq!(overrides.overrides.len(), 2, "one for each name and group");
        write(&path, &overrides).unwrap();
        assert_eq!(read(&path).unwrap(), overrides);
        assert!(expire(&mut overrides, 1_800_000_000) && !expire(&mut overrides, 1_899_999_999));
        assert_eq!((overrides.overrides.len(), overrides.pauses.len()), (1, 0));
        assert!(clear(&mut overrides, "ads.example.", None) && overrides == Overrides::default());
        write(&path, &overrides).unwrap();
        assert_eq!(read(&path).unwrap(), overrides);
    }

    #[test]
    fn a_broken_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overrides.toml");
        for text in [
            "[[override]]\nname = \"a\"\n",
            "[[override]]\nname = \"a\"\naction = \"drop\"\n",
            "[[override]]\nname = \"a..b\"\naction = \"block\"\n",
            "[[override]]\nname = \"a\"\naction = \"block\"\nuntil = \"tomorrow\"\n",
            "[[pause]]\nuntil = \"1\"\n",
            "[[pause]]\nclient = \"192.0.2.0/24\"\n",
            "[[pause]]\nclient = \"192.0.2.1\"\ngroup = \"kids\"\n",
            "\0",
        ] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
        let nowhere = folder.path().join("missing/overrides.toml");
        let error = write(&nowhere, &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("overrides_file") && error.contains("writable"), "{error}");
    }

    #[test]
    fn there_is_a_bound() {
        let mut overrides = Overrides::default();
        (0..MOST).for_each(|n| add(&mut overrides, entry(&format!("n{n}"), None, None)).unwrap());
        assert!(matches!(add(&mut overrides, entry("more", None, None)), Err(OverrideError::TooMany)));
        add(&mut overrides, entry("n7", None, Some(1))).unwrap();
        assert!(matches!(add(&mut overrides, entry("a..b", None, None)), Err(OverrideError::Name(_))));
    }
}
