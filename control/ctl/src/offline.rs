//! `ringctl policy test --config`: asks ringdnsd, which reads the files of a configuration, without a
//! running one.

use crate::print::{print_as, show_policy_test};
use anyhow::{Context, bail};
use std::{
    env,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Name of the daemon's program.
const RINGDNSD: &str = "ringdnsd";

/// Question and client of a test.
pub(super) struct OfflineTest<'a> {
    pub name: &'a str,
    pub rtype: &'a str,
    pub client: Option<IpAddr>,
    pub group: Option<&'a str>,
}

impl OfflineTest<'_> {
    /// Prints the verdict by the files of a configuration.
    pub(super) fn print(&self, config: &Path, json: bool) -> anyhow::Result<()> {
        let program = program();
        let mut command = Command::new(&program);
        command.arg("--config").arg(config).arg(format!("--policy-test={}", self.name));
        command.arg(format!("--type={}", self.rtype)).stderr(Stdio::inherit());
        command.args(self.client.map(|client| format!("--client={client}")));
        command.args(self.group.map(|group| format!("--group={group}")));
        let output = command.output().with_context(|| {
            format!("{} cannot be run. Install ringdnsd beside ringctl", program.display())
        })?;
        if !output.status.success() {
            bail!("there is no verdict: ringdnsd has said why");
        }
        print_as(json, &output.stdout, show_policy_test)
    }
}

/// Returns the ringdnsd beside this program or in the package's folder, or the one in the search path.
pub(super) fn program() -> PathBuf {
    // The package has ringctl in /usr/bin, and ringdnsd in /usr/sbin, which is in few users' search paths.
    let places = [RINGDNSD, "../sbin/ringdnsd"];
    let beside =
        |own: PathBuf| places.map(|place| own.with_file_name(place)).into_iter().find(|path| path.is_file());
    env::current_exe().ok().and_then(beside).unwrap_or_else(|| RINGDNSD.into())
}
