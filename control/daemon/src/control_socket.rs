//! Control socket: made at the start, unless another process has it.

use nix::unistd::Group;
use rustix::{
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Most connections that wait to be accepted, which happens slowly: a client that finds no room
/// tries again, and does not wait behind a thousand others.
const BACKLOG: i32 = 64;

/// Error about the control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error("control.socket: another ringdnsd listens at {}. Stop it, or give each a control.socket of its own", .0.display())]
    InUse(PathBuf),
    /// A file of this name exists and is none.
    #[error("control.socket: {} exists and is no socket. Remove it, or give another path", .0.display())]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("control.socket: {} cannot be made: {source}. {}", path.display(), remedy(source))]
    Made {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotADirectory => "Give a path whose folders are folders",
        io::ErrorKind::StorageFull => "Free space on the disk of its folder, or give another path",
        _ => "Give a path in a folder that ringdnsd may write to",
    }
}

/// Checks that no other process has the control socket.
pub fn check(path: &Path) -> Result<(), SocketError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(|source| SocketError::Made { path: path.to_owned(), source })?,
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_owned()));
    }
    Ok(())
}

/// Group whose members may use the control socket, if this host has it.
const GROUP: &str = "ringdns";

/// Binds the control socket, accessible to its owner and the group `ringdns` only. Replaces one that a
/// dead process left.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    check(path)?;
    make(path).map_err(|source| SocketError::Made { path: path.to_owned(), source })
}

fn make(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file inherits the socket's mode, so that nobody else can open it, not even for a moment.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    give_to_group(path);
    // The group may connect, whatever the umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Gives the socket to the group, as far as this process may.
fn give_to_group(path: &Path) {
    let group = match Group::from_name(GROUP) {
        Ok(Some(group)) => group.gid,
        Ok(None) => return,
        Err(error) => return tracing::warn!("the group {GROUP} cannot be looked up: {error}"),
    };
    if let Err(error) = std::os::unix::fs::chown(path, None, Some(group.as_raw())) {
        tracing::warn!(
            "control.socket: {} stays with the group of this process: {error}. Run ringdnsd as root or as a member of \
             the group {GROUP}, so that the group may use ringctl",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::{fs::MetadataExt, net::UnixListener as StdListener};

    fn refusal(path: &Path) -> String {
        let message = check(path).unwrap_err().to_string();
        let shown = path.display().to_string();
        assert_eq!(message.matches(&shown).count(), 1, "{message}");
        message
    }

    #[tokio::test]
    async fn a_socket_in_use_is_named_once_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let other = StdListener::bind(&path).unwrap();
        assert!(refusal(&path).contains("another ringdnsd listens at"));
        assert!(refusal(&path).contains("Stop it") && bind(&path).is_err());
        // A dead process left it.
        drop(other);
        check(&path).unwrap();
        let _bound = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        if let Some(group) = Group::from_name(GROUP).unwrap()
            && rustix::process::getuid().is_root()
        {
            assert_eq!(fs::metadata(&path).unwrap().gid(), group.gid.as_raw());
        }
        assert!(refusal(&path).contains("another ringdnsd"));

        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(refusal(&file).contains("is no socket. Remove it"));
        assert!(bind(&file).is_err() && file.exists());
        let below = file.join("control.sock");
        let message = bind(&below).unwrap_err().to_string();
        assert!(message.matches(&below.display().to_string()).count() == 1, "{message}");
        assert!(message.contains("whose folders are folders"), "{message}");
    }
}
