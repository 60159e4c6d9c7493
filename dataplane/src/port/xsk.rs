//! AF_XDP sockets.
//!
//! [`Queues`] moves chunks of packet memory through the four rings that each socket shares with the
//! kernel. This file adds the system calls of a turn: the kick, the wake-up and the sleep. Other
//! code manages the XDP program and its map: the socket receives once [`XskPort::fd`] is in the
//! map.

use super::{Burst, Port, PortStats, doze, nic::Nic};
use crate::checksum::Checksums;
use crate::{
    frame::{Frame, Frames},
    region::Pages,
};
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

mod backlog;
mod config;
mod error;
mod mapping;
mod queues;
mod ring;
mod socket;

pub use config::{BusyPoll, Mode, Opened, Request, Rings, XskConfig};
pub use error::XskError;
use mapping::RingMap;
use queues::Queues;

/// Time after which to look again for room on a ring, if nothing else will wake us.
const RETRY: Duration = Duration::from_millis(1);

/// Offset in bytes at which the kernel puts a packet in its chunk: after `XDP_PACKET_HEADROOM`
/// (Linux `include/uapi/linux/bpf.h`), room for the XDP program. Our own packets start there too.
const HEADROOM: u16 = 256;

/// AF_XDP socket on one queue of one interface, with its own packet memory.
pub struct XskPort {
    queues: Queues<RingMap>,
    socket: OwnedFd,
    busy_poll: bool,
    checksums: Checksums,
    opened: Opened,
    link_mtu: Option<u32>,
}

impl XskPort {
    /// Opens a socket, registers its memory, and gives the kernel frames to receive into.
    ///
    /// Call it on the thread that will use the port: the memory is allocated on that core's NUMA
    /// node.
    pub fn open(config: &XskConfig) -> Result<XskPort, XskError> {
        config.check()?;
        let frames = Frames::new(config.frames, HEADROOM)
            .map_err(|source| XskError::Memory { frames: config.frames, source })?;
        let socket = socket::register(config, &frames)?;
        let memories = socket::map_rings(&socket, config)?;
        let (mode, reason) = socket::attach(&socket, config)?;
        socket::tune(&socket, config)?;
        let hugepages = frames.pages() == Pages::Huge;
        let mut queues = Queues::new(frames, memories);
        queues.refill();
        let need_wakeup = queues.tx_needs_wakeup();
        Ok(XskPort {
            queues,
            socket,
            busy_poll: config.busy_poll.is_some(),
            checksums: config.checksums(mode),
            opened: Opened { mode, reason, need_wakeup, hugepages },
            link_mtu: Nic::look(&config.interface).mtu,
        })
    }

    /// Returns the socket, for the map of the XDP program.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns the properties of the opened socket.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Kicks the kernel if there are frames to send and it needs to be told.
    ///
    /// Frames on the TX ring stay there whatever the kernel answers, even while the link is down,
    /// and the next flush kicks again.
    #[inline]
    fn kick(&mut self) {
        if self.queues.in_flight() == 0 || !self.queues.tx_needs_wakeup() {
            return;
        }
        let mut unsent = self.queues.unsent();
        while unsent > 0 {
            self.queues.stats.syscalls += 1;
            match rustix::net::send(&self.socket, &[], SendFlags::DONTWAIT) {
                Ok(_) => return,
                // The kernel has sent as many as it sends at once, or as the send buffer holds.
                Err(Errno::AGAIN | Errno::NOBUFS) => {}
                // The device dropped a frame, and the kernel will not retry it.
                Err(Errno::BUSY) => self.queues.stats.send_failed += 1,
                // The link is down (ENETDOWN), or gone for good (ENXIO).
                Err(_) => {
                    self.queues.stats.kick_failed += 1;
                    return;
                }
            }
            let before = std::mem::replace(&mut unsent, self.queues.unsent());
            if unsent >= before {
                return;
            }
        }
    }

    /// Wakes the driver to continue receiving, if it waits for that. In copy mode it never does.
    #[inline]
    fn wake_receiver(&mut self) {
        let asked = self.opened.mode == Mode::ZeroCopy && self.queues.rx_needs_wakeup();
        // A busy-polling driver runs only when it is called.
        if asked || (self.busy_poll && self.queues.drained()) {
            self.queues.stats.syscalls += 1;
            let woken = rustix::net::recv(&self.socket, &mut [0u8; 0], RecvFlags::DONTWAIT);
            let refused = matches!(woken, Err(errno) if errno != Errno::AGAIN);
            self.queues.stats.kick_failed += u64::from(refused);
        }
    }
}

impl Port for XskPort {
    #[inline]
    fn frames(&mut self) -> &mut Frames {
        &mut self.queues.frames
    }

    #[inline]
    fn recv(&mut self, burst: &mut Burst) {
        self.queues.recv(burst);
    }

    #[inline]
    fn send(&mut self, frame: Frame) {
        self.queues.send(frame);
    }

    #[inline]
    fn flush(&mut self) {
        self.queues.reclaim();
        self.queues.transmit();
        self.kick();
        self.queues.refill();
        self.wake_receiver();
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let timeout = if self.queues.stuck() { timeout.min(RETRY) } else { timeout };
        self.queues.stats.syscalls += 1;
        let mut fds =
            [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        doze(&mut fds, timeout)
    }

    #[inline]
    fn checksums(&self) -> Checksums {
        self.checksums
    }

    fn link_mtu(&self) -> Option<u32> {
        self.link_mtu
    }

    fn stats(&mut self) -> PortStats {
        let stats = &mut self.queues.stats;
        // A socket whose interface is gone still returns its totals. If the call fails, the last
        // totals stay.
        if let Ok(kernel) = sockopt::xdp_statistics(&self.socket) {
            stats.rx_dropped = kernel.rx_dropped;
            stats.rx_invalid_descs = kernel.rx_invalid_descs;
            stats.tx_invalid_descs = kernel.tx_invalid_descs;
            // Linux 5.9 and later return these.
            stats.rx_ring_full = kernel.rx_ring_full.unwrap_or_default();
            stats.rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs.unwrap_or_default();
            stats.tx_ring_empty = kernel.tx_ring_empty_descs.unwrap_or_default();
        }
        *stats
    }
}

#[cfg(test)]
mod tests;
