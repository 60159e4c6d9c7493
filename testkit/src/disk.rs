//! Small disks, to fill.

use crate::host::Host;
use std::{fs, io::Write, path::Path};
use tempfile::TempDir;

/// A file system in memory with a fixed size. It needs root.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one of a size such as `4m`, in a folder of its own.
    #[track_caller]
    pub fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk(folder);
        let options = format!("size={size},mode=0777");
        Host::local()
            .run("mount", ["-t", "tmpfs", "-o", &options, "ringdns-test", disk.path().to_str().unwrap()]);
        disk
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the file system, except for `left` bytes.
    pub fn fill(&self, left: usize) {
        let room = vec![0; left];
        fs::write(self.path().join("room"), room).unwrap();
        let mut ballast = fs::File::create(self.path().join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
        fs::remove_file(self.path().join("room")).unwrap();
    }

    /// Makes room again.
    pub fn free(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Servers may still use the file system; it disappears when they end.
        Host::local().run("umount", ["--lazy", self.path().to_str().unwrap()]);
    }
}
