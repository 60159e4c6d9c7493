//! The lab: two hosts and a cable between them, made by `deploy/lab.sh`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Host, sources::source};

pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 1);
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 2);
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, 0, 1);
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, 0, 2);

/// Addresses of a DNS server on the lab's server.
pub const DNS_V4: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER_V4), 53);
pub const DNS_V6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVER_V6), 53);

/// Environment variable that, set to 1, lets tests that need root pass without running.
const UNPRIVILEGED: &str = "RINGDNS_UNPRIVILEGED";

/// Environment variable with the prefix of the names of labs. A script that runs the tests sets it,
/// to find the remains of a killed test.
const PREFIX: &str = "RINGDNS_LAB_PREFIX";

/// Two namespaces and the veth pair between them. Removed on drop, with every process that still
/// runs inside.
pub struct Lab {
    name: String,
    client: Host,
    server: Host,
}

#[derive(Clone, Copy, Debug)]
pub struct LabOptions {
    /// Number of receive and transmit queues at either end.
    pub queues: u32,
    /// 802.1Q tag of every frame on the cable.
    pub vlan: Option<u16>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { queues: 1, vlan: None }
    }
}

impl Lab {
    /// Creates a lab with one queue and no VLAN; see [`Lab::with`].
    #[track_caller]
    pub fn up() -> Option<Self> {
        Self::with(LabOptions::default())
    }

    /// Creates a lab. Without root it panics, or returns `None` if `RINGDNS_UNPRIVILEGED=1` says
    /// that this is intended.
    #[track_caller]
    pub fn with(options: LabOptions) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var(UNPRIVILEGED).is_ok_and(|value| value == "1"),
                "this test makes network namespaces and needs root; {UNPRIVILEGED}=1 skips it",
            );
            return None;
        }
        static LABS: AtomicU32 = AtomicU32::new(0);
        let prefix = std::env::var(PREFIX).unwrap_or_else(|_| "ringdns-test".to_owned());
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{number}", std::process::id());
        let lab = Self {
            client: Host::namespace(format!("{name}-client")),
            server: Host::namespace(format!("{name}-server")),
            name,
        };
        let mut arguments = vec!["up".to_owned(), "--queues".to_owned(), options.queues.to_string()];
        if let Some(vlan) = options.vlan {
            arguments.extend(["--vlan".to_owned(), vlan.to_string()]);
        }
        if let Err(error) = lab.script(&arguments) {
            panic!("{error}");
        }
        Some(lab)
    }

    /// Returns the client: 10.53.0.1 and fd53::1 on `vc`.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// Returns the server: 10.53.0.2 and fd53::2 on `vs`.
    pub fn server(&self) -> &Host {
        &self.server
    }

    fn script(&self, arguments: &[String]) -> Result<(), String> {
        let script = source("deploy/lab.sh");
        let output = Command::new(&script)
            .args(["--name", &self.name])
            .args(arguments)
            .output()
            .map_err(|error| format!("{}: {error}", script.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("deploy/lab.sh {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A panic in a drop would hide the test's own: print the error, and leave the rest to the
        // script that runs the tests.
        if let Err(error) = self.script(&["down".to_owned()]) {
            eprintln!("{error}");
        }
    }
}
