//! Network namespaces for tests.

use super::doze;
use rustix::{
    event::{PollFd, PollFlags},
    fd::OwnedFd,
    net::{AddressFamily, Protocol, RecvFlags, SocketType, sockopt},
};
use std::{process::Command, time::Duration};

/// Runs a test in its own network namespace. Without root it panics, or does nothing if
/// `RINGDNS_UNPRIVILEGED=1` says that this is intended.
pub(super) fn run(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var("RINGDNS_UNPRIVILEGED").is_ok_and(|value| value == "1"),
            "this test makes a network namespace and needs root; RINGDNS_UNPRIVILEGED=1 skips it",
        );
        return;
    }
    let ran = std::thread::spawn(|| {
        // SAFETY: only this thread changes its network namespace; nothing that Rust relies on is shared through it.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
            .expect("a network namespace");
        // Neighbour discovery would send packets of its own.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        ip("link set lo up");
        ip("link add near type veth peer name far");
        ip("address add 10.9.0.1/24 dev near");
        ip("link set near up");
        ip("link set far up");
        // The kernel drops packets that are sent before it has noticed, a little later, that the
        // link is up.
        while !(is_up("near") && is_up("far")) {
            std::thread::sleep(Duration::from_millis(5));
        }
        test();
    })
    .join();
    if let Err(failure) = ran {
        std::panic::resume_unwind(failure);
    }
}

/// Runs `ip`, which must succeed.
pub(super) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().expect("iproute2");
    assert!(status.success(), "ip {arguments}");
}

fn is_up(device: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", device]).output().expect("iproute2");
    String::from_utf8_lossy(&output.stdout).contains("state UP")
}

/// Captures the IPv4 packets that interfaces of this namespace receive, whatever their destination.
pub(super) struct CaptureSocket(OwnedFd);

impl CaptureSocket {
    pub(super) fn open() -> Self {
        let ipv4 = Protocol::from_raw(u32::from(0x0800u16.to_be()).try_into().unwrap());
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(ipv4)).unwrap();
        sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
        CaptureSocket(socket)
    }

    /// Returns the next packets, in order. They have been sent, but the kernel may deliver them a
    /// little later.
    pub(super) fn take(&self, count: usize) -> Vec<Vec<u8>> {
        let next = |number| {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            doze(&mut fds, Duration::from_secs(5)).unwrap();
            let mut packet = vec![0; 4096];
            let Ok((_, len)) = rustix::net::recv(&self.0, &mut packet[..], RecvFlags::DONTWAIT) else {
                panic!("{number} of {count} packets arrived");
            };
            packet.truncate(len);
            packet
        };
        (0..count).map(next).collect()
    }

    /// Whether no further packet has arrived.
    pub(super) fn is_empty(&self) -> bool {
        rustix::net::recv(&self.0, &mut [0u8; 1], RecvFlags::DONTWAIT).is_err()
    }
}
