//! `[sandbox]`: limits that ringdnsd sets to itself.

use crate::{error::Problem, table::table};
use std::path::PathBuf;

table! {
    /// Limits that ringdnsd sets to itself at its start: it keeps the capabilities that the configuration
    /// needs, the folders of the files that it names (Landlock), and the system calls that it makes
    /// (seccomp). They hold until the process ends: a reload that names a file in another folder is
    /// refused. See docs/operation.md.
    "[sandbox]" RawSandbox {
        /// Whether there are limits.
        enabled: bool = true,
        /// Further folders whose files ringdnsd may read, such as those of lists that a later reload
        /// names. Absolute paths.
        folders: Vec<String> = Vec::new(),
    }
}

/// Limits that ringdnsd sets to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Whether there are limits.
    pub enabled: bool,
    /// Further folders whose files can be read.
    pub folders: Vec<PathBuf>,
}

impl RawSandbox {
    /// Returns the checked values.
    pub fn check(self) -> Result<SandboxConfig, Problem> {
        if let Some(i) = self.folders.iter().position(|path| !path.starts_with('/')) {
            let reason = format!("{:?} is no absolute path", self.folders[i]);
            return Err(Problem::new(format!("sandbox.folders[{i}]"), reason, "Write \"/srv/lists\""));
        }
        let folders = self.folders.into_iter().map(PathBuf::from).collect();
        Ok(SandboxConfig { enabled: self.enabled, folders })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn there_are_limits_unless_somebody_lifts_them() {
        assert!(minimal_with("").sandbox.enabled);
        let sandbox = minimal_with("[sandbox]\nenabled = false\nfolders = [\"/srv/lists\"]").sandbox;
        assert!(!sandbox.enabled && sandbox.folders == [std::path::Path::new("/srv/lists")]);
    }

    #[test]
    fn a_folder_has_an_absolute_path() {
        refused(
            &format!("{MINIMAL}[sandbox]\n"),
            &[["folders = [\"/a\", \"b\"]", "6", "sandbox.folders[1]", "\"b\"", "/srv/lists"]],
        );
    }
}
