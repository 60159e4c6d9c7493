//! Where packets come from and go to.

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

/// Most frames of one turn. 64 keeps a burst's headers and index lines within the first-level cache.
pub const BURST: usize = 64;

/// The frames of one turn.
pub type Burst = ArrayVec<Frame, BURST>;

/// A source and sink of Ethernet frames with memory of its own.
///
/// A turn is: [`recv`](Port::recv), then for each frame either [`send`](Port::send) or
/// [`Frames::release`], then [`flush`](Port::flush) once. Frames that the port cannot send at once it keeps for
/// the next flush; it never drops one silently.
pub trait Port {
    /// The packet memory, and the ledger of who holds which chunk.
    fn frames(&mut self) -> &mut Frames;

    /// Takes what has arrived, up to what `burst` has room for.
    fn recv(&mut self, burst: &mut Burst);

    /// Queues a frame to be sent at the next flush.
    fn send(&mut self, frame: Frame);

    /// Sends what is queued, takes back what was sent, and gives free frames to be received into: at most one
    /// system call a direction.
    fn flush(&mut self);

    /// Sleeps until something arrived, `bell` is readable, or `timeout` passed.
    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()>;

    /// Who vouches for the checksums of what is received.
    fn checksums(&self) -> Checksums;

    /// How what is received comes, for the query log.
    fn protocol(&self) -> Protocol {
        Protocol::Udp
    }

    /// Totals since the port was made. May ask the kernel: for statistics, not for a turn.
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

/// Who vouches for received checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Nobody: verify them.
    Verify,
    /// Nobody: verify them. The kernel of this host may have copied the packet from memory, though, and then its UDP
    /// checksum may be [partial](crate::packet::header::Udp::has_partial_checksum).
    AllowPartial,
    /// The link, which cannot corrupt, and carries partial ones: take them as right, and make whole ones.
    Trust,
    /// The kernel, which checked what it received and makes those of what it sends: neither look at them nor make them.
    Unused,
}

impl Checksums {
    /// Whether checksums are verified.
    #[inline(always)]
    pub fn are_verified(self) -> bool {
        matches!(self, Checksums::Verify | Checksums::AllowPartial)
    }
}

/// Sleeps until one of `fds` is ready or `timeout` has passed. A signal ends the sleep early, which is no error.
fn doze(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<()> {
    // A sleep too long to be told is one without end.
    let timeout = Timespec::try_from(timeout).ok();
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Totals of a port since it was made; the `XDP_STATISTICS` of an AF_XDP socket among them
/// (Linux `include/uapi/linux/if_xdp.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames handed to the kernel for sending.
    pub sent: u64,
    /// Frames that the kernel refused to send (UDP: an error; simulator: told to), or had not sent when their port was
    /// replaced.
    pub send_failed: u64,
    /// Kicks and wake-ups that the kernel refused: the link is down or gone. The frames wait for the next flush.
    pub kick_failed: u64,
    /// Turns at whose end frames were kept because the TX ring was full.
    pub tx_ring_full: u64,
    /// Turns at which the fill ring could not be filled up because no frame was free.
    pub fill_starved: u64,
    /// Descriptors from the kernel that cannot be true; their chunks are lost.
    pub bad_descriptors: u64,
    /// System calls made to kick, send, receive or sleep.
    pub syscalls: u64,
    /// Dropped by the kernel. In copy mode, those for an empty fill ring are counted here too.
    pub rx_dropped: u64,
    /// Dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Dropped because the fill ring was empty.
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
        // Named one by one, so that a total that is added to the struct is not forgotten here.
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
