//! Limits that ringdnsd sets to itself before it opens a port or reads a list.
//!
//! A fault in the code that parses packets must not give the host away. So the process gives up the
//! capabilities that its configuration has no use for, all folders but those that it names (Landlock),
//! and all system calls but those that it makes (seccomp). Threads inherit the limits from the one that
//! makes them: [`enter`] is called while there is one alone.

mod files;
mod privileges;
mod system_calls;

pub use files::{Folders, Refused};
pub use privileges::Privileges;
pub use system_calls::SystemCalls;

use ringdns_config::Config;
use std::{fs, path::Path};

/// Reason why the limits cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Other threads would not have the limits.
    #[error("{0} threads run already, and would not have the limits. Please report this")]
    Threads(usize),
    /// Capabilities cannot be given up.
    #[error("capabilities cannot be given up: {0}. {REMEDY}")]
    Capabilities(rustix::io::Errno),
    /// The kernel refuses the rules for files.
    #[error("the kernel refuses rules for files (Landlock): {0}. {REMEDY}")]
    Files(#[from] landlock::RulesetError),
    /// The kernel refuses the filter of system calls.
    #[error("the kernel refuses a filter of system calls (seccomp): {0}. {REMEDY}")]
    SystemCalls(#[from] seccompiler::Error),
}

const REMEDY: &str = "Set sandbox.enabled = false to start without limits, and please report this";

/// Limits that are in effect.
#[derive(Debug)]
pub struct Sandbox {
    /// Folders that can be read and written; `None`: the kernel has no Landlock.
    pub folders: Option<Folders>,
    /// Names of the capabilities that were kept.
    pub capabilities: Vec<&'static str>,
}

/// Limits this process to what `config`, read from `file`, needs. There is no way back: a reload can
/// use what the process could at its start.
pub fn enter(config: &Config, file: &Path) -> Result<Sandbox, SandboxError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(SandboxError::Threads(threads));
    }
    // Before the files: the capabilities that read them are needed to find them.
    let folders = Folders::of(config, file).enforce(config)?;
    let privileges = Privileges::of(config);
    let capabilities = privileges.keep().map_err(SandboxError::Capabilities)?;
    // Last: it forbids the calls of the other two.
    SystemCalls::of(config).enforce()?;
    Ok(Sandbox { folders, capabilities })
}

impl Sandbox {
    /// Logs the limits.
    pub fn log(&self) {
        let capabilities = self.capabilities.join(" ");
        match &self.folders {
            Some(folders) => tracing::info!(capabilities, written = ?folders.written(), "sandboxed"),
            None => tracing::warn!(
                capabilities,
                "sandboxed, but for files: this kernel has no Landlock. Linux 5.13 or later has it; a host can \
                 switch it on by `lsm=landlock,…` among the kernel's parameters"
            ),
        }
    }
}
