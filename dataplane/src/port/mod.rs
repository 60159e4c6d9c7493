//! Ports: sources and sinks of packets.

use crate::{checksum::Checksums, totals};
use crate::{
    frame::{Frame, Frames},
    log::Protocol,
};
use arrayvec::ArrayVec;
use rustix::{
    event::{PollFd, Timespec},
    io::Errno,
};
use std::{io, os::fd::BorrowedFd, time::Duration};

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

    /// Returns the MTU in bytes, when the port was opened, of the link that replies leave by.
    /// `None`: the port sends by several links, and itself cuts replies that do not fit.
    fn link_mtu(&self) -> Option<u32> {
        None
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

totals! {
    /// Totals of a port since it was opened, including the `XDP_STATISTICS` of an AF_XDP socket (Linux
    /// `include/uapi/linux/if_xdp.h`). Each doc line is the help text of a metric.
    PortStats {
        /// Frames handed to the kernel for sending.
        sent,
        /// Frames that the kernel refused to send.
        send_failed,
        /// Replies over kernel sockets that were cut, with TC=1, to fit the MTU of the interface
        /// where they left.
        cut_to_mtu,
        /// Kicks and wake-ups that the kernel refused because the link is down or gone; the frames
        /// wait for the next kick.
        kick_failed,
        /// Turns of a worker's loop that kept frames because the TX ring was full.
        tx_ring_full,
        /// Turns of a worker's loop that lacked frames to fill up the fill ring.
        fill_starved,
        /// Invalid descriptors received from the kernel.
        bad_descriptors,
        /// System calls of a worker to kick, send, receive or sleep.
        syscalls,
        /// Received packets that the kernel dropped; in copy mode including those for which the
        /// fill ring was empty.
        rx_dropped,
        /// Received packets dropped because the RX ring was full.
        rx_ring_full,
        /// Received packets dropped because the fill ring was empty.
        rx_fill_ring_empty,
        /// Fill ring descriptors that the kernel rejected.
        rx_invalid_descs,
        /// TX ring descriptors that the kernel rejected.
        tx_invalid_descs,
        /// Kicks of the kernel that found the TX ring empty.
        tx_ring_empty,
    }
}
