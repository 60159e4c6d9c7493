//! Files that this process makes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Creates a file to write to, with the permissions `mode`. A file that an earlier process left
/// under this name is removed first. A symbolic link is removed and not followed: in a folder that
/// others may write to, it could lead to any file.
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

/// Fails if there is something other than a file under a name whose file is to be replaced: a device or a
/// link would be lost.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            Err(io::Error::other("it exists, and is no file: give another path"))
        }
        _ => Ok(()),
    }
}

/// Creates a folder and those above it that are missing, with access for their owner alone. A
/// folder that exists stays as it is.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("file.new"));
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, &path).unwrap();
        create_anew(&path, 0o600).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_leftover_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.new");
        fs::write(&path, "left over").unwrap();
        create_anew(&path, 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn devices_and_links_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| folder.path().join(name));
        assert!(check_replaceable(&path).is_ok());
        fs::write(&path, "").unwrap();
        assert!(check_replaceable(&path).is_ok());
        symlink(&path, &link).unwrap();
        for other in [link, folder.path().to_owned(), "/dev/null".into()] {
            assert!(check_replaceable(&other).is_err(), "{}", other.display());
        }
    }

    #[test]
    fn folders_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        create_private_folder(&path).unwrap();
        create_private_folder(&path).unwrap();
        for path in [&path, path.parent().unwrap()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
