//! Checks before the start: whether this machine has what the configuration requires.
//!
//! [`check`] only inspects the machine, so `--check` can run beside a running ringdnsd. [`claim`]
//! opens the ports. Requirements that only a try can test (capabilities, locked memory, the driver)
//! are reported by the errors of [`ringdns_xdp`] and of the ports, still before a packet is
//! steered.

use crate::{
    control_socket::{self, SocketError},
    lists::Groups,
    memory::{self, AllowedMemory},
    nic::{InterfaceKey, Interfaces},
    policy, problems,
    tokens::Tokens,
};
use ringdns_common::cgroup::CgroupLimits;
use ringdns_config::{Config, Problem};
use ringdns_dataplane::port::udp;
use ringdns_resolver::validate;
use ringdns_tls as tls;
use rustix::{
    fs::Access,
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt},
};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// Most TCP connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Most connections of the API that wait to be accepted, which happens slowly: a client that finds
/// no room tries again, and does not wait behind a thousand others.
const HTTP_BACKLOG: i32 = 64;

/// Error about a port that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A UDP port.
    #[error("server.listen: {0}")]
    Udp(#[from] udp::UdpError),
    /// The control socket.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// A TCP port.
    #[error("{key}: cannot listen on TCP {address}: {source}; {}", remedy(source, *address))]
    Tcp {
        /// Configuration key that names the address.
        key: &'static str,
        /// Address to listen on.
        address: SocketAddr,
        /// Error of the kernel.
        source: io::Error,
    },
}

impl ClaimError {
    /// Returns the key that names the port.
    pub fn key(&self) -> &'static str {
        match self {
            ClaimError::Udp(_) => "server.listen",
            ClaimError::Socket(_) => "control.socket",
            ClaimError::Tcp { key, .. } => key,
        }
    }
}

fn remedy(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "find the process that has the port with `ss -ltnp sport = :{}`, or listen on another",
                address.port()
            )
        }
        io::ErrorKind::PermissionDenied => {
            // AF_XDP's are asked for next, if it is configured; who grants one grants all at once.
            let all: Vec<_> = ["CAP_NET_BIND_SERVICE"].into_iter().chain(ringdns_xdp::lacking()).collect();
            let for_xdp = if all.len() > 1 { " (all but the first are for AF_XDP alone)" } else { "" };
            format!("run as root, or {}{for_xdp}", ringdns_xdp::grant(&all))
        }
        _ => "see whether the kernel and the service manager allow this address family".into(),
    }
}

/// Checks the configuration against this machine, and lowers sizes that the file does not give to
/// what fits. Returns all problems.
pub fn check(config: &mut Config) -> Vec<Problem> {
    if let Some(cpus) = CgroupLimits::read().cpus
        && memory::workers(config) as f64 > cpus
    {
        tracing::warn!(
            "server: {} workers, and a control group (cpu.max) allows {cpus:.1} processors: under load, the kernel \
             stops ringdnsd for a part of each period, and answers are late. Have fewer workers, or raise the limit",
            memory::workers(config)
        );
    }
    let interface = match &mut config.server.interface {
        Some(name) => interface(name).map(|found| *name = found),
        None => Ok(()),
    };
    let memory = memory::fit(config, &AllowedMemory::read());
    let socket = control_socket(&config.control.socket);
    let tokens = Tokens::read(&config.control).map(drop);
    let audit = audit_log(config.control.audit_log.as_deref());
    let log = ringdns_querylog::check(&config.query_log);
    let policy =
        Groups::of(&config.lists.groups).and_then(|groups| policy::policy(config, &groups)).map(|policy| {
            for warning in policy::warnings(config, &policy) {
                tracing::warn!("{warning}");
            }
        });
    let upstreams = config.upstreams.iter().enumerate().map(|(i, upstream)| {
        let Some(tls) = upstream.transport.tls() else { return Ok(()) };
        let used = tls::client_config(tls.ca_file.as_deref(), &[]);
        used.map(drop)
            .map_err(|error| Problem::new(format!("upstream[{i}].tls_ca_file"), error.reason, error.remedy))
    });
    let checks = [interface, policy].into_iter().chain(upstreams).chain([
        anchors(config),
        socket,
        tokens,
        audit,
        log,
        memory,
    ]);
    checks.filter_map(Result::err).collect()
}

/// Checks that the audit log has a folder to be in.
fn audit_log(path: Option<&Path>) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    let folder = path.parent().unwrap_or(path);
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    let reason = format!("{} cannot be a file: its folder must exist, and it must be none", path.display());
    Err(Problem::new("control.audit_log", reason, "Give a path such as /var/lib/ringdns/audit.log"))
}

/// Checks the files of trust anchors.
fn anchors(config: &Config) -> Result<(), Problem> {
    if config.dnssec.validate {
        validate::check(&config.dnssec).map_err(|(key, reason)| {
            let remedy = match key {
                validate::MANAGED => {
                    "Restore the file from a copy, or remove it: ringdnsd then begins anew with dnssec.trust_anchor_file, which must not have keys that their zone has revoked"
                }
                _ => "Give a file of DS or DNSKEY records, such as Debian's /usr/share/dns/root.key",
            };
            Problem::new(key, reason, remedy)
        })?;
    }
    Ok(())
}

/// Returns what a configuration names and this machine may get later, one sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let http = config.control.http;
    let addresses = config.server.listen.iter().copied().chain(http);
    addresses.filter(|address| !udp::is_here(*address)).map(problems::absence).collect()
}

/// Open ports.
pub struct Claim {
    /// Listeners of `server.listen`, in its order.
    pub tcp: Vec<TcpListener>,
    /// Addresses of the listeners, with the ports that the kernel chose in place of port 0.
    pub listen: Vec<SocketAddr>,
    /// Listener of `control.http`.
    pub http: Option<TcpListener>,
}

impl Claim {
    /// Returns all addresses that this process listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let http = self.http.as_ref().and_then(|http| http.local_addr().ok());
        self.listen.iter().copied().chain(http).collect()
    }
}

/// Opens all TCP ports, and checks that no other process has the UDP ports or the control socket.
pub fn claim(config: &Config) -> Result<Claim, ClaimError> {
    control_socket::check(&config.control.socket)?;
    /// The kernel chooses a port that is free for TCP; another process may have it for UDP.
    const ATTEMPTS_MAX: usize = 16;
    let asked = &config.server.listen;
    let again = if asked.iter().any(|address| address.port() == 0) { ATTEMPTS_MAX } else { 0 };
    let opened = (0..again).find_map(|_| claim_both(asked).ok());
    let (tcp, listen) = opened.map_or_else(|| claim_both(asked), Ok)?;
    let http = config.control.http.map(|address| bind("control.http", address, HTTP_BACKLOG)).transpose()?;
    Ok(Claim { tcp, listen, http })
}

/// Opens the TCP ports of `asked`, and returns them with their addresses if they are free for UDP.
fn claim_both(asked: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), ClaimError> {
    let tcp = asked.iter().map(|address| bind("server.listen", *address, BACKLOG));
    let tcp = tcp.collect::<Result<Vec<_>, _>>()?;
    let addresses = tcp.iter().zip(asked);
    let listen: Vec<_> = addresses.map(|(tcp, asked)| tcp.local_addr().unwrap_or(*asked)).collect();
    udp::probe(&listen)?;
    Ok((tcp, listen))
}

fn bind(key: &'static str, address: SocketAddr, backlog: i32) -> Result<TcpListener, ClaimError> {
    listener(address, backlog).map_err(|source| ClaimError::Tcp { key, address, source })
}

/// Opens a listener for its own address family only, so that `0.0.0.0` and `[::]` can share a port.
/// It is non-blocking, as tokio requires.
fn listener(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait until the kernel forgets the connections of the last run.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    udp::bind_freely(&socket, address)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket.into())
}

/// Returns the name of the interface that has `name` as its name, or as an alternative one, which
/// may be longer than ioctls take.
fn interface(name: &str) -> Result<String, Problem> {
    let find = |mut interfaces: Interfaces| interfaces.find(InterfaceKey::Name(name)).ok().flatten();
    let found = Interfaces::open().map_err(|error| {
        let remedy =
            "Let the process open netlink sockets (systemd: add AF_NETLINK to RestrictAddressFamilies=)";
        Problem::new(
            "server.interface",
            format!("the kernel does not report network interfaces: {error}"),
            remedy,
        )
    })?;
    find(found).map(|interface| interface.name).ok_or_else(|| {
        Problem::new(
            "server.interface",
            format!("no network interface is called {name:?} in this network namespace"),
            "Name one that `ip link` lists, or remove the key to use kernel sockets",
        )
    })
}

/// Checks that the folder of the control socket can be made or written to, and that no other file
/// is in the socket's place.
fn control_socket(path: &Path) -> Result<(), Problem> {
    let refused = |reason: String| {
        let remedy = "Give a path in a folder that ringdnsd may write to";
        Err(Problem::new("control.socket", format!("{}: {reason}", path.display()), remedy))
    };
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return refused("this file exists and is no socket".into());
    }
    path.parent().map_or(Ok(()), writable).or_else(refused)
}

/// Returns the reason why files cannot be created in a folder, or the folder cannot be made.
pub fn writable(folder: &Path) -> Result<(), String> {
    let above =
        folder.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let Some(found) = above.into_iter().find(|folder| fs::metadata(folder).is_ok()) else { return Ok(()) };
    if !found.is_dir() {
        return Err(format!("{} is no folder", found.display()));
    }
    rustix::fs::access(found, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("{} cannot be written to: {error}", found.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(lines: &str) -> Config {
        let text = format!("[[upstream]]\naddress = \"192.0.2.1\"\n[server]\n{lines}");
        Config::parse(&text, Path::new("ringdns.toml")).unwrap()
    }

    #[test]
    fn the_wildcards_of_both_families_share_a_port() {
        let v4 = listener("0.0.0.0:0".parse().unwrap(), BACKLOG).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = listener(format!("[::]:{port}").parse().unwrap(), BACKLOG);
        assert!(v6.is_ok(), "{v6:?}");
        let again = listener(v4.local_addr().unwrap(), BACKLOG);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_unknown_interface_is_named() {
        let problem = &check(&mut config("listen = [\"127.0.0.1:53\"]\ninterface = \"no-such0\""))[0];
        assert_eq!(problem.key, "server.interface");
        assert!(problem.reason.contains("no-such0") && problem.remedy.contains("ip link"), "{problem}");
        assert_eq!(check(&mut config("listen = [\"127.0.0.1:53\"]\ninterface = \"lo\"")), []);
    }

    #[test]
    fn managed_anchors_that_are_damaged_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = format!("managed_anchor_file = {:?}", file.path());
        let mut config = config(&format!("listen = [\"127.0.0.1:53\"]\n[dnssec]\nvalidate = true\n{key}"));
        let problem = &check(&mut config)[0];
        assert_eq!(problem.key, "dnssec.managed_anchor_file");
        assert!(problem.reason.contains("does not begin"), "{problem}");
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(check(&mut config), []);
        assert!(!file.path().exists(), "a check writes nothing");
    }

    fn listen_on(address: SocketAddr) -> Result<Claim, ClaimError> {
        claim(&config(&format!("listen = [\"{address}\"]")))
    }

    #[test]
    fn a_port_in_use_is_refused_over_udp_and_over_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = listen_on(tcp.local_addr().unwrap()).err().unwrap().to_string();
        assert!(
            message.contains("server.listen: cannot listen on TCP") && message.contains("ss -ltnp"),
            "{message}"
        );

        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let message = listen_on(udp.local_addr().unwrap()).err().unwrap().to_string();
        assert!(
            message.contains("server.listen: cannot listen on UDP") && message.contains("ss -lunp"),
            "{message}"
        );
    }

    #[test]
    fn an_address_that_this_host_may_get_later_is_taken() {
        for address in ["192.0.2.1:5353", "[2001:db8::1]:5353"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(listen_on(address).unwrap().listen, [address]);
        }
    }

    #[test]
    fn port_zero_becomes_one_port_for_both() {
        let claim = claim(&config("listen = [\"127.0.0.1:0\"]")).unwrap();
        assert_ne!(claim.listen[0].port(), 0);
        assert_eq!(claim.listen[0], claim.tcp[0].local_addr().unwrap());
    }
}
