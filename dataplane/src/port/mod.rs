//! Ports: sources and sinks of packets.

use crate::checksum::Checksums;
use crate::{
    frame::{Frame, Frames},
    log::Protocol,
};
use arrayvec::ArrayVec;
use rustix::{
    event::{PollFd, Timespec},
    io::Errno,
};
use std::{io, ops::AddAssign, os::fd::BorrowedFd, time::Duration};

#[cfg(test)]
mod netns;
pub mod nic;
pub mod sim;
pub mod udp;
pub mod xsk;

/// Most frames of one turn. With 64, a burst's headers and index lines stay within the first-level
/// cache.
pub const BURST: usize = 64;
/// Most returned punts that one turn answers, so that a flood of misses does not delay hits.
pub(crate) const RETURNS_MAX: usize = 32;

/// Frames of one turn.
pub type Burst = ArrayVec<Frame, BURST>;

/// Source and sink of Ethernet frames with its own packet memory.
///
/// A turn is: [`recv`](Port::recv), then for each frame either [`send`](Port::send) or
/// [`Frames::release`], then [`flush`](Port::flush) once. The port keeps frames that it cannot send
/// at once for the next flush; it never drops one silently.
pub trait Port {
    /// Returns the packet memory, with the ledger of the place of each chunk.
    fn frames(&mut self) -> &mut Frames;

    /// Receives the packets that have arrived, as many as `burst` has room for.
    fn recv(&mut self, burst: &mut Burst);

    /// Queues a frame to be sent at the next flush.
    fn send(&mut self, frame: Frame);

    /// Sends the queued frames, takes back the sent ones, and gives free frames for receiving: at
    /// most one system call per direction.
    fn flush(&mut self);

    /// Sleeps until a packet arrives, `bell` is readable, or `timeout` has passed.
    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()>;

    /// Returns how the checksums of received packets are verified.
    fn checksums(&self) -> Checksums;

    /// Returns the transport of received packets, for the query log.
    fn protocol(&self) -> Protocol {
        Protocol::Udp
    }

    /// Returns the totals since the port was opened. May ask the kernel: for statistics, not for
    /// every turn.
    fn stats(&mut self) -> PortStats;
}

// A port is made on one thread and may be run on another.
const _: () = {
    const fn is_port<P: Port + Send>() {}
    is_port::<sim::SimPort>();
    is_port::<sim::Replay>();
    is_port::<udp::UdpPort>();
    is_port::<xsk::XskPort>();
};

/// Sleeps until one of `fds` is ready or `timeout` has passed. A signal ends the sleep early, which is no error.
fn doze(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    // A timeout too long for the kernel means no timeout.
    let timeout = Timespec::try_from(timeout).ok();
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Totals of a port since it was opened, including the `XDP_STATISTICS` of an AF_XDP socket (Linux
/// `include/uapi/linux/if_xdp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames handed to the kernel for sending.
    pub sent: u64,
    /// Frames that the kernel refused to send (UDP: an error; simulator: an injected fault), or had
    /// not sent when their port was replaced.
    pub send_failed: u64,
    /// Kicks and wake-ups that the kernel refused: the link is down or gone. The frames wait for the next flush.
    pub kick_failed: u64,
    /// Turns that ended with unsent frames because the TX ring was full.
    pub tx_ring_full: u64,
    /// Turns at which the fill ring could not be filled up because no frame was free.
    pub fill_starved: u64,
    /// Invalid descriptors from the kernel; their chunks are lost.
    pub bad_descriptors: u64,
    /// System calls made to kick, send, receive or sleep.
    pub syscalls: u64,
    /// Packets dropped by the kernel. In copy mode this includes those dropped because the fill
    /// ring was empty.
    pub rx_dropped: u64,
    /// Packets dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Packets dropped because the fill ring was empty.
    pub rx_fill_ring_empty: u64,
    /// Descriptors on the fill ring that the kernel found invalid.
    pub rx_invalid_descs: u64,
    /// Descriptors on the TX ring that the kernel found invalid.
    pub tx_invalid_descs: u64,
    /// Kicks that found the TX ring empty.
    pub tx_ring_empty: u64,
}

impl AddAssign for PortStats {
    fn add_assign(&mut self, other: Self) {
        // The fields are named one by one, so that none that is added to the struct is forgotten
        // here.
        let PortStats {
            sent,
            send_failed,
            kick_failed,
            tx_ring_full,
            fill_starved,
            bad_descriptors,
            syscalls,
            rx_dropped,
            rx_ring_full,
            rx_fill_ring_empty,
            rx_invalid_descs,
            tx_invalid_descs,
            tx_ring_empty,
        } = other;
        for (total, more) in [
            (&mut self.sent, sent),
            (&mut self.send_failed, send_failed),
            (&mut self.kick_failed, kick_failed),
            (&mut self.tx_ring_full, tx_ring_full),
            (&mut self.fill_starved, fill_starved),
            (&mut self.bad_descriptors, bad_descriptors),
            (&mut self.syscalls, syscalls),
            (&mut self.rx_dropped, rx_dropped),
            (&mut self.rx_ring_full, rx_ring_full),
            (&mut self.rx_fill_ring_empty, rx_fill_ring_empty),
            (&mut self.rx_invalid_descs, rx_invalid_descs),
            (&mut self.tx_invalid_descs, tx_invalid_descs),
            (&mut self.tx_ring_empty, tx_ring_empty),
        ] {
            *total += more;
        }
    }
}
