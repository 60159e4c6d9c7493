//! Capabilities that ringdnsd keeps.

use ringdns_config::Config;
use rustix::{
    io,
    process::geteuid,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// Ports below this one need CAP_NET_BIND_SERVICE (ip(7), `ip_unprivileged_port_start`).
const UNPRIVILEGED: u16 = 1024;

/// Capabilities for AF_XDP besides NET_ADMIN. The program is attached, and its sockets are opened, again
/// and again: when the link returns, when the number of queues changes. IPC_LOCK locks packet memory
/// where no limit allows it.
const AF_XDP: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::IPC_LOCK);

/// Capabilities of a process of root, which finds the folders of the package's user, and gives its socket
/// to a group. Landlock bounds them.
const ROOT: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::CHOWN);

/// Capabilities that a configuration needs, if the process has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges(CapabilitySet);

impl Privileges {
    /// Returns the capabilities that a configuration needs.
    pub fn of(config: &Config) -> Self {
        // For AF_XDP, sets of nftables, and buffers of kernel sockets beyond the usual limit.
        let mut needed = CapabilitySet::NET_ADMIN;
        if config.server.interface.is_some() {
            needed |= AF_XDP;
        }
        // A listener may have to bind again: an address that comes late, a socket that has failed.
        let ports = config.server.listen.iter().chain(&config.control.http).map(|address| address.port());
        if ports.into_iter().any(|port| (1..UNPRIVILEGED).contains(&port)) {
            needed |= CapabilitySet::NET_BIND_SERVICE;
        }
        if geteuid().is_root() {
            needed |= ROOT;
        }
        Privileges(needed)
    }

    /// Gives up all other capabilities, and those that a program could bring. Returns the names of those
    /// that the process has still.
    pub fn keep(self) -> io::Result<Vec<&'static str>> {
        set_no_new_privs(true)?;
        let CapabilitySets { permitted, .. } = capabilities(None)?;
        let mut kept = permitted & self.0;
        // Before Linux 5.8, it has the place of BPF and PERFMON.
        if self.0.contains(CapabilitySet::BPF) && !permitted.contains(CapabilitySet::BPF) {
            kept |= permitted & CapabilitySet::SYS_ADMIN;
        }
        // It raises the limit of locked memory.
        if self.0.contains(CapabilitySet::BPF) && charges_locked_memory() {
            kept |= permitted & CapabilitySet::SYS_RESOURCE;
        }
        // Only a process that may change capabilities can shrink the bounding set; for others, the set has
        // no meaning without new privileges.
        if permitted.contains(CapabilitySet::SETPCAP) {
            for capability in CapabilitySet::all().difference(kept).iter() {
                match remove_capability_from_bounding_set(capability) {
                    // One that this kernel does not know.
                    Err(io::Errno::INVAL) => {}
                    removed => removed?,
                }
            }
        }
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
        Ok(kept.iter_names().map(|(name, _)| name).collect())
    }
}

/// Whether the kernel charges BPF maps to locked memory: those before Linux 5.11.
fn charges_locked_memory() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version < (5, 11)
}
