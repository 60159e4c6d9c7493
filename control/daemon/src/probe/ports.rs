//! Ports that ringdnsd is to open, and the processes that have them.

use super::{
    CheckSeverity::{Error, Unchecked, Warning},
    Finding,
};
use procfs::{
    net::TcpState,
    process::{FDTarget, all_processes},
};
use ringdns_config::{Config, Problem};
use rustix::thread::{CapabilitySet, capabilities};
use std::{fs, net::SocketAddr};

/// Name of the program whose ports a restart takes over.
const OURS: &str = "ringdnsd";

/// First port that needs no privilege, where the kernel does not say.
const UNPRIVILEGED: u16 = 1024;

/// Socket of this network namespace.
struct Socket {
    transport: &'static str,
    address: SocketAddr,
    inode: u64,
}

/// Process that has a socket.
struct Holder {
    name: String,
    pid: i32,
}

/// Checks that the ports are free, or those of a ringdnsd.
pub fn check(config: &Config) -> Vec<Finding> {
    let listen = config.server.listen.iter().enumerate();
    let mut wanted: Vec<(String, &str, SocketAddr)> = listen
        .flat_map(|(i, address)| ["UDP", "TCP"].map(|of| (format!("server.listen[{i}]"), of, *address)))
        .collect();
    // The kernel chooses a free port in place of port 0.
    wanted.retain(|(_, _, address)| address.port() != 0);
    wanted.extend(config.control.http.map(|address| ("control.http".to_owned(), "TCP", address)));
    let mut findings = Vec::new();
    match sockets() {
        Ok(sockets) => {
            let has_hidden = has_hidden_ringdnsd();
            for (key, transport, address) in &wanted {
                let is_taken =
                    |socket: &&Socket| socket.transport == *transport && overlap(socket.address, *address);
                let judge = |socket: &Socket| taken(key, socket, holder(socket.inode), has_hidden);
                findings.extend(sockets.iter().find(is_taken).and_then(judge));
            }
        }
        Err(error) => {
            let reason = format!("the kernel does not report its sockets: {error}");
            findings.push((Unchecked, Problem::new("server.listen", reason, "Mount /proc")));
        }
    }
    let low = wanted.iter().find(|(_, _, address)| (1..unprivileged()).contains(&address.port()));
    if let Some((key, _, address)) = low
        && !has_bind_service()
    {
        let reason = format!("this user may not open port {}", address.port());
        let remedy = "The unit's user may: AmbientCapabilities=CAP_NET_BIND_SERVICE";
        findings.push((Unchecked, Problem::new(key, reason, remedy)));
    }
    findings
}

/// Judges a socket that has a wanted port. `None`: a ringdnsd has it. `has_hidden`: a ringdnsd runs that may
/// have it, and this user may not see that.
fn taken(key: &str, socket: &Socket, holder: Option<Holder>, has_hidden: bool) -> Option<Finding> {
    let Socket { transport, address, .. } = socket;
    match holder {
        Some(Holder { name, .. }) if name == OURS => None,
        Some(Holder { name, pid }) => {
            let reason = format!("{transport} {address} is in use by {name}, process {pid}");
            Some((Error, Problem::new(key, reason, "Stop it, or listen on another address or port")))
        }
        None => {
            let reason =
                format!("{transport} {address} is in use, and this user may not see by which process");
            let remedy = "As root, `ss -lnptu` names it; a running ringdnsd is no obstacle";
            let severity = if has_hidden { Unchecked } else { Warning };
            Some((severity, Problem::new(key, reason, remedy)))
        }
    }
}

/// Whether a socket at one address keeps others from the other one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Returns the sockets that listen over TCP, and all UDP sockets.
fn sockets() -> procfs::ProcResult<Vec<Socket>> {
    let mut sockets = Vec::new();
    // A kernel without IPv6 has no tables of it.
    let tcp = procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6().unwrap_or_default());
    let listening = tcp.filter(|entry| entry.state == TcpState::Listen);
    sockets.extend(listening.map(|entry| Socket {
        transport: "TCP",
        address: entry.local_address,
        inode: entry.inode,
    }));
    let udp = procfs::net::udp()?.into_iter().chain(procfs::net::udp6().unwrap_or_default());
    sockets.extend(udp.map(|entry| Socket {
        transport: "UDP",
        address: entry.local_address,
        inode: entry.inode,
    }));
    Ok(sockets)
}

/// Returns a process that has a socket, among those that this user may look into.
fn holder(inode: u64) -> Option<Holder> {
    let has = |process: &procfs::process::Process| {
        let descriptors = process.fd().ok()?;
        let is_it = |target: FDTarget| matches!(target, FDTarget::Socket(found) if found == inode);
        descriptors.flatten().any(|descriptor| is_it(descriptor.target)).then_some(())
    };
    let process = all_processes().ok()?.flatten().find(|process| has(process).is_some())?;
    Some(Holder { name: process.stat().ok()?.comm, pid: process.pid() })
}

/// Whether a ringdnsd runs whose descriptors this user may not see. The user `ringdns` may not see those of one
/// with capabilities, either.
fn has_hidden_ringdnsd() -> bool {
    let is_hidden = |process: procfs::process::Process| {
        let is_ours = process.stat().is_ok_and(|stat| stat.comm == OURS);
        is_ours && !process.fd().is_ok_and(|descriptors| descriptors.flatten().next().is_some())
    };
    all_processes().is_ok_and(|all| all.flatten().any(is_hidden))
}

fn unprivileged() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(UNPRIVILEGED)
}

fn has_bind_service() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_BIND_SERVICE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{TcpListener, UdpSocket},
        path::Path,
    };

    fn findings(address: SocketAddr) -> Vec<Finding> {
        let text = format!("[server]\nlisten = [\"{address}\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n");
        check(&Config::parse(&text, Path::new("ringdns.toml")).unwrap())
    }

    #[test]
    fn the_process_that_has_a_port_is_named() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        for (address, transport) in [(udp.local_addr().unwrap(), "UDP"), (tcp.local_addr().unwrap(), "TCP")] {
            let [(Error, problem)] = &findings(address)[..] else { panic!("{:?}", findings(address)) };
            assert_eq!(problem.key, "server.listen[0]");
            assert!(problem.reason.contains(&format!("{transport} {address} is in use by ")), "{problem}");
            assert!(problem.reason.ends_with(&format!("process {}", std::process::id())), "{problem}");
        }
        let wildcard = SocketAddr::from(([0, 0, 0, 0], udp.local_addr().unwrap().port()));
        assert_eq!(findings(wildcard).len(), 1, "0.0.0.0 needs the port at each address");
        let free = udp.local_addr().unwrap();
        drop(udp);
        assert_eq!(findings(free), []);
    }

    #[test]
    fn a_port_of_a_ringdnsd_is_no_problem() {
        let socket = Socket { transport: "UDP", address: "127.0.0.1:53".parse().unwrap(), inode: 1 };
        let judged = |holder, has_hidden| taken("server.listen[0]", &socket, holder, has_hidden);
        let held = |name: &str| judged(Some(Holder { name: name.into(), pid: 7 }), false);
        assert_eq!(held("ringdnsd"), None);
        assert!(matches!(held("unbound"), Some((Error, _))));
        assert!(matches!(judged(None, false), Some((Warning, _))));
        assert!(matches!(judged(None, true), Some((Unchecked, _))));
    }
}
