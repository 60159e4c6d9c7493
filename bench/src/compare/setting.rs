//! What is set on the machine while a comparison runs, and put back after it.

use std::{fs, path::Path};

/// A file of the kernel with another value than it had; that is put back when this is dropped.
#[derive(Debug)]
pub struct Setting {
    path: &'static Path,
    before: String,
}

impl Setting {
    /// Where the kernel shares out the processor by session (autogroup), the niceness of a process counts within its
    /// session only, and the session has one of its own. `None` where the kernel knows no sessions.
    pub fn session_priority(nice: i8) -> Option<Self> {
        // "/autogroup-135 nice 0"
        Setting::set(Path::new("/proc/self/autogroup"), &nice.to_string(), |text| text.rsplit(' ').next())
    }

    /// What new sockets have for packets that wait to be read, in bytes. Some servers have a setting for it, others
    /// none; so all have the same. Only the machine as a whole has this, not a network namespace. `None` if this
    /// process may not.
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
