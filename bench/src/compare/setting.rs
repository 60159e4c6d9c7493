//! Kernel settings that are changed while a comparison runs, and restored after it.

use std::{fs, path::Path};

/// Kernel file with a changed value; dropping it restores the old value.
#[derive(Debug)]
pub struct Setting {
    path: &'static Path,
    before: String,
}

impl Setting {
    /// Sets the priority of this session. Where the kernel divides the processor by session
    /// (autogroup), the niceness of a process counts within its session only, and the session has
    /// one of its own. `None` if the kernel knows no sessions.
    pub fn session_priority(nice: i8) -> Option<Self> {
        // "/autogroup-135 nice 0"
        Setting::set(Path::new("/proc/self/autogroup"), &nice.to_string(), |text| text.rsplit(' ').next())
    }

    /// Sets the receive buffer of new sockets, in bytes. Some servers have a setting for it and
    /// others have none, so all get the same. It is global to the machine, not to a network
    /// namespace. `None` if this process lacks the permission.
    pub fn receive_buffer(bytes: u32) -> Option<Self> {
        Setting::set(Path::new("/proc/sys/net/core/rmem_default"), &bytes.to_string(), |text| Some(text))
    }

    fn set(path: &'static Path, value: &str, read: impl FnOnce(&str) -> Option<&str>) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let before = read(text.trim())?.to_owned();
        fs::write(path, value).ok()?;
        Some(Setting { path, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.path, &self.before) {
            eprintln!("cannot put {} back to {}: {error}", self.path.display(), self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let path: &'static Path = Box::leak(folder.path().join("autogroup").into_boxed_path());
        fs::write(path, "/autogroup-135 nice 7\n").unwrap();
        let setting = Setting::set(path, "-3", |text| text.rsplit(' ').next()).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "-3");
        drop(setting);
        assert_eq!(fs::read_to_string(path).unwrap(), "7");
        assert!(Setting::set(Path::new("/no/such/file"), "1", |text| Some(text)).is_none());
    }
}
