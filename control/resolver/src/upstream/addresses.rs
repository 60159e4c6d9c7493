//! Addresses of an upstream, and the one at which it is asked over UDP.

use parking_lot::Mutex;
use ringdns_config::UpstreamAddress;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::time::Instant;

/// Addresses of an upstream; at least one.
pub struct Addresses {
    all: Vec<UpstreamAddress>,
    /// Index of the address that new UDP sockets are connected to.
    preferred: AtomicUsize,
    /// Time of the last response over UDP; kept only if there are several addresses.
    heard: Mutex<Option<Instant>>,
}

impl Addresses {
    pub fn new(all: Vec<UpstreamAddress>) -> Self {
        Addresses { all, preferred: AtomicUsize::new(0), heard: Mutex::default() }
    }

    /// Returns the number of addresses.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns all addresses, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &UpstreamAddress> {
        self.all.iter()
    }

    /// Returns the index of the address for new UDP sockets.
    pub fn preferred(&self) -> usize {
        self.preferred.load(Relaxed)
    }

    /// Returns the socket address at an index.
    pub fn socket_address(&self, index: usize) -> io::Result<SocketAddr> {
        socket_address(&self.all[index])
    }

    /// Notes a response over UDP.
    pub fn heard(&self, now: Instant) {
        if self.all.len() > 1 {
            *self.heard.lock() = Some(now);
        }
    }

    /// Notes that no response came from the address at this index to a query sent at `asked`.
    /// Unless others came since, the next address is preferred: a lost datagram is no outage.
    pub fn unanswered(&self, index: usize, asked: Instant) {
        if self.all.len() > 1 && self.heard.lock().is_none_or(|heard| heard < asked) {
            self.unreachable(index);
        }
    }

    /// Notes that the address at this index cannot be reached: the next one is preferred.
    pub fn unreachable(&self, index: usize) {
        let next = (index + 1) % self.all.len();
        // If it fails, another query has noted the same.
        let _ = self.preferred.compare_exchange(index, next, Relaxed, Relaxed);
    }
}

/// Returns the socket address of an upstream's address. Looks up the index of its interface, which
/// may have changed since the last time.
pub fn socket_address(address: &UpstreamAddress) -> io::Result<SocketAddr> {
    match (address.ip, &address.zone) {
        (IpAddr::V6(ip), Some(zone)) => {
            let index = zone.parse().or_else(|_| {
                let any = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
                name_to_index(&any, zone).map_err(io::Error::from)
            })?;
            Ok(SocketAddrV6::new(ip, address.port, 0, index).into())
        }
        (ip, _) => Ok(SocketAddr::new(ip, address.port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn addresses(texts: &[&str]) -> Addresses {
        Addresses::new(texts.iter().map(|text| UpstreamAddress::parse(text, 53).unwrap()).collect())
    }

    #[test]
    fn a_zone_is_an_interface_by_name_or_index() {
        let of = addresses(&["[fe80::1%lo]:53", "[fe80::1%7]:53", "[fe80::1%nowhere0]:53", "192.0.2.1:5353"]);
        assert_eq!(of.socket_address(0).unwrap().to_string(), "[fe80::1%1]:53");
        assert_eq!(of.socket_address(1).unwrap().to_string(), "[fe80::1%7]:53");
        assert_eq!(
            of.socket_address(2).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::NODEV.raw_os_error())
        );
        assert_eq!(of.socket_address(3).unwrap().to_string(), "192.0.2.1:5353");
    }

    #[test]
    fn the_next_address_is_preferred_once_for_each_outage() {
        let of = addresses(&["192.0.2.1", "192.0.2.2"]);
        let asked = Instant::now();
        of.unanswered(0, asked);
        of.unanswered(0, asked);
        assert_eq!(of.preferred(), 1);
        of.heard(asked + Duration::from_millis(1));
        of.unanswered(1, asked);
        assert_eq!(of.preferred(), 1, "one datagram was lost");
        of.unreachable(1);
        assert_eq!(of.preferred(), 0);
    }
}
