//! Free ports.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use crate::Host;

/// Returns a port that is free on the host's IPv4 loopback for both UDP and TCP at the moment. The
/// server that uses it should start soon; on a host of a lab, no other program competes for it.
#[track_caller]
pub fn free_port(host: &Host) -> u16 {
    const ATTEMPTS: usize = 64;
    let found = host.enter(|| {
        (0..ATTEMPTS).find_map(|_| {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let port = udp.local_addr().ok()?.port();
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some(port)
        })
    });
    match found {
        Some(port) => port,
        None => panic!("no free port on loopback in {ATTEMPTS} attempts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_taken() {
        let port = free_port(&Host::local());
        assert_ne!(port, 0);
        UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
