//! Free ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener};
use std::sync::{Mutex, PoisonError};

use crate::Host;

/// First port given out.
const FIRST: u32 = 10_000;
/// Number of ports to choose from. All are below those that Linux gives to sockets without a port of
/// their own (`net.ipv4.ip_local_port_range`, from 32768), so no such socket takes one in between.
const PORTS: u32 = 20_000;

/// Number of ports that [`open`] tries.
const ATTEMPTS: usize = 64;

/// Claims of the ports given out, one abstract Unix socket each. Like ports, such names belong to a
/// network namespace, and the kernel frees them when the process ends.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Returns a port that is free on the host's IPv4 loopback for both UDP and TCP. No other caller, in
/// this process or another, gets it until this process ends.
#[track_caller]
pub fn free_port(host: &Host) -> u16 {
    // Processes that start together begin at distant ports.
    let first = std::process::id().wrapping_mul(7919) % PORTS;
    let found = host.enter(|| {
        (0..PORTS).find_map(|nth| {
            let port = u16::try_from(FIRST + (first + nth) % PORTS).ok()?;
            let name = net::SocketAddr::from_abstract_name(format!("ringdns-testkit-port-{port}")).ok()?;
            let claim = UnixListener::bind_addr(&name).ok()?;
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            (udp.is_ok() && tcp.is_ok()).then_some((port, claim))
        })
    });
    let Some((port, claim)) = found else { panic!("no free port on loopback among {PORTS}") };
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    port
}

/// Returns a loopback address with such a port.
#[track_caller]
pub fn free_address(host: &Host) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port(host)).into()
}

/// Opens sockets for UDP and TCP at `address`, and those that `more` opens with that address. If
/// the port is 0, the kernel chooses one that is free for all of them.
pub(crate) fn open<T>(
    address: SocketAddr,
    more: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<(SocketAddr, UdpSocket, TcpListener, T)> {
    let attempt = || {
        let udp = UdpSocket::bind(address)?;
        let address = udp.local_addr()?;
        // Another program may use the TCP port of the same number.
        Ok((address, udp, TcpListener::bind(address)?, more(address)?))
    };
    (1..ATTEMPTS).find_map(|_| attempt().ok()).map_or_else(attempt, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_taken_and_is_given_to_one_caller() {
        let host = Host::local();
        let ports = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| [(); 25].map(|()| free_port(&host))));
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        let different: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(different.len(), ports.len());
        for port in ports {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
