//! Port on kernel UDP sockets: for laptops, containers and NICs without AF_XDP.
//!
//! One socket per listen address. Each datagram is received into a frame after room for headers.
//! The headers are written as if the frame had come from a wire, so that all code above sees one
//! kind of packet. The addresses of a reply are read from its headers. The number of its socket
//! travels in the frame's own MAC address.
//!
//! The kernel copies in both directions, so it holds no chunk between calls: [`Place::Fill`] and
//! [`Place::Tx`] stay empty, and frames that wait for a full socket buffer are [`Place::Held`].
//!
//! [`Place::Fill`]: crate::frame::Place::Fill
//! [`Place::Held`]: crate::frame::Place::Held
//! [`Place::Tx`]: crate::frame::Place::Tx

use super::{BURST, Burst, Port, PortStats, doze};
use crate::checksum::Checksums;
use crate::{
    frame::{Frame, Frames},
    log::Protocol,
    packet,
};
use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags};
use std::{
    collections::VecDeque,
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    time::Duration,
};

mod error;
mod names;
mod socket;

pub use error::UdpError;
use names::{Control, DatagramOrigin, SocketName};
pub use socket::{bind_freely, is_here, probe};

/// Most listen addresses of a port.
pub const LISTEN_MAX: usize = 16;

/// Fewest frames of a port: a burst to receive, and as many to answer.
pub const FRAMES_MIN: u32 = 2 * BURST as u32;

/// Fewest datagrams requested at once; more if the last call returned more.
const OFFER_MIN: usize = 8;

/// UDP sockets of one worker, with their packet memory.
pub struct UdpPort {
    frames: Frames,
    sockets: ArrayVec<Socket, LISTEN_MAX>,
    /// Sockets that may have something to receive, and whether that is fresh from a `poll`.
    readable: [bool; LISTEN_MAX],
    polled: bool,
    /// Number of the socket to look at first, so that a busy one does not starve the others.
    first: usize,
    /// Number of datagrams to request: preparing for a whole burst when one query comes costs more
    /// than the query.
    offer: usize,
    batch: Box<SocketBatch>,
    stats: PortStats,
}

struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
    /// Whether the socket is bound to no address: then each datagram tells the address that it was
    /// sent to, and each reply the one to send from.
    wildcard: bool,
    /// Frames to send, the oldest first.
    backlog: VecDeque<Frame>,
    /// Last value of the kernel's count of drops; it wraps.
    dropped: u32,
}

impl Socket {
    /// Cuts the oldest reply of the backlog, which exceeds the MTU of the interface where it leaves:
    /// the client asks again over TCP (RFC 9715). Returns false if it cannot be cut.
    ///
    /// Only the kernel knows the interface: routes choose it for each client.
    #[cold]
    fn cut_oldest(&mut self, frames: &mut Frames) -> bool {
        self.backlog.front_mut().is_some_and(|frame| names::cut(frames.buffer(frame)))
    }
}

/// Arguments of one `recvmmsg` or `sendmmsg`. The pointers are written before each call.
struct SocketBatch {
    headers: [libc::mmsghdr; BURST],
    vectors: [libc::iovec; BURST],
    names: [SocketName; BURST],
    controls: [Control; BURST],
}

// SAFETY: the pointers in it are used only within the call that follows their writing, which is `&mut self`.
unsafe impl Send for SocketBatch {}

impl UdpPort {
    /// Opens a socket for each address of `listen`, and `frames` frames for all of them. Port 0
    /// selects a free port: see [`UdpPort::local_addresses`].
    ///
    /// Several workers may open the same addresses: the kernel spreads queries over them by client.
    /// For the same reason another program of the same user may open them: call [`probe`] before
    /// the first worker opens its port.
    ///
    /// Datagrams to an address that no interface has arrive once an interface has it.
    pub fn open(listen: &[SocketAddr], frames: u32) -> Result<UdpPort, UdpError> {
        if listen.is_empty() || listen.len() > LISTEN_MAX {
            return Err(UdpError::Addresses { count: listen.len() });
        }
        if frames < FRAMES_MIN {
            return Err(UdpError::TooFewFrames { frames });
        }
        let mut sockets = ArrayVec::new();
        for address in listen {
            let (fd, local) = socket::open(*address)?;
            let wildcard = address.ip().is_unspecified();
            let backlog = VecDeque::with_capacity(frames as usize);
            sockets.push(Socket { fd, local, wildcard, backlog, dropped: 0 });
        }
        // SAFETY: integers, raw pointers and arrays of them, for all of which zeros are a value.
        let batch = Box::new(unsafe { mem::zeroed::<SocketBatch>() });
        Ok(UdpPort {
            frames: Frames::new(frames, 0).map_err(|source| UdpError::Memory { frames, source })?,
            sockets,
            readable: [true; LISTEN_MAX],
            polled: false,
            first: 0,
            offer: OFFER_MIN,
            batch,
            stats: PortStats::default(),
        })
    }

    /// Returns the addresses that the sockets are bound to, in the order of `listen`.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|socket| socket.local)
    }

    /// Finds out which sockets have something to receive. One socket needs no check; for several,
    /// one call for all is cheaper than one for each.
    fn look(&mut self) {
        if mem::take(&mut self.polled) || self.sockets.len() == 1 {
            self.readable[0] |= self.sockets.len() == 1;
            return;
        }
        let mut fds: ArrayVec<PollFd<'_>, LISTEN_MAX> = self
            .sockets
            .iter()
            .map(|socket| PollFd::from_borrowed_fd(socket.fd.as_fd(), PollFlags::IN))
            .collect();
        self.stats.syscalls += 1;
        // If the poll fails, no socket is ready: the turn is empty, and the next one tries again.
        let _ = doze(&mut fds, Duration::ZERO);
        for (readable, fd) in self.readable.iter_mut().zip(&fds) {
            *readable = !fd.revents().is_empty();
        }
    }

    /// Receives once from a socket, and notes if it has no more.
    fn receive(&mut self, at: usize, burst: &mut Burst) {
        let socket = &self.sockets[at];
        let room = names::headers(&socket.local);
        let wanted = self.offer.min(burst.remaining_capacity());
        let mut offered = Burst::new();
        while offered.len() < wanted
            && let Some(mut frame) = self.frames.alloc()
        {
            let control = if socket.wildcard { size_of::<Control>() } else { 0 };
            let buffer = &mut self.frames.buffer(&mut frame)[room..];
            self.batch.prepare(
                offered.len(),
                buffer.as_mut_ptr(),
                buffer.len(),
                size_of::<SocketName>(),
                control,
            );
            offered.push(frame);
        }
        self.stats.fill_starved += u64::from(offered.len() < wanted);
        let received = if offered.is_empty() { 0 } else { self.batch.receive(&socket.fd, offered.len()) };
        self.stats.syscalls += u64::from(!offered.is_empty());
        self.readable[at] = received == offered.len() && received > 0;
        self.offer = (2 * received).clamp(OFFER_MIN, BURST);
        for (slot, mut frame) in offered.into_iter().enumerate() {
            if slot >= received {
                self.frames.release(frame);
            } else if let Some(len) = self.address(at, slot, &mut frame) {
                frame.set_len(len);
                burst.push(frame);
            } else {
                self.stats.rx_dropped += 1;
                self.frames.release(frame);
            }
        }
    }

    /// Writes headers before the datagram that was received in `slot`. Returns the length of the
    /// frame; `None` if the datagram did not fit its frame, or the kernel did not tell its
    /// addresses.
    fn address(&mut self, at: usize, slot: usize, frame: &mut Frame) -> Option<usize> {
        let socket = &self.sockets[at];
        let header = &self.batch.headers[slot];
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let (client, scope) = self.batch.names[slot].read()?;
        let server = if socket.wildcard {
            SocketAddr::new(self.batch.controls[slot].destination()?, socket.local.port())
        } else {
            socket.local
        };
        let message_len = header.msg_len as usize;
        let buffer = self.frames.buffer(frame);
        let message = packet::address(buffer, client, server, message_len, Checksums::Unused)?;
        DatagramOrigin { socket: at as u8, scope }.write(buffer);
        Some(message + message_len)
    }

    /// Sends the oldest frames of a socket's backlog. Returns false if they must wait.
    fn transmit(&mut self, at: usize) -> bool {
        let socket = &mut self.sockets[at];
        let mut count = 0;
        for frame in socket.backlog.iter().take(BURST) {
            let packet = self.frames.packet(frame);
            let control = socket.wildcard.then_some(&mut self.batch.controls[count]);
            let Some(reply) = names::reply(packet, &mut self.batch.names[count], control) else { break };
            let data = reply.message.as_ptr().cast_mut();
            self.batch.prepare(count, data, reply.message.len(), reply.name_len, reply.control_len);
            count += 1;
        }
        // If the first frame is not one that this port can have received, it is treated as one that
        // it cannot send.
        let sent = if count == 0 { Err(libc::EINVAL) } else { self.batch.send(&socket.fd, count) };
        self.stats.syscalls += u64::from(count > 0);
        match sent {
            Ok(sent) => {
                self.stats.sent += sent as u64;
                socket.backlog.drain(..sent).for_each(|frame| self.frames.release(frame));
                true
            }
            Err(libc::EAGAIN) => false,
            Err(libc::EINTR) => true,
            Err(libc::EMSGSIZE) if socket.cut_oldest(&mut self.frames) => {
                self.stats.cut_to_mtu += 1;
                true
            }
            Err(_) => {
                // The other frames may succeed: EPERM from a firewall and ENETUNREACH concern one
                // client.
                self.stats.send_failed += 1;
                socket.backlog.drain(..1).for_each(|frame| self.frames.release(frame));
                true
            }
        }
    }
}

impl Port for UdpPort {
    fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    fn recv(&mut self, burst: &mut Burst) {
        self.look();
        let count = self.sockets.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            while self.readable[at] && !burst.is_full() {
                self.receive(at, burst);
            }
        }
        self.first = (self.first + 1) % count;
    }

    fn send(&mut self, frame: Frame) {
        let origin = DatagramOrigin::read(self.frames.packet(&frame));
        match origin.and_then(|origin| self.sockets.get_mut(usize::from(origin.socket))) {
            Some(socket) => socket.backlog.push_back(frame),
            None => {
                self.stats.send_failed += 1;
                self.frames.release(frame);
            }
        }
    }

    fn flush(&mut self) {
        let mut kept = false;
        for at in 0..self.sockets.len() {
            while !self.sockets[at].backlog.is_empty() && self.transmit(at) {}
            kept |= !self.sockets[at].backlog.is_empty();
        }
        self.stats.tx_ring_full += u64::from(kept);
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        // Without a free frame to receive into, the port can only send.
        let input = if self.frames.free() > 0 { PollFlags::IN } else { PollFlags::empty() };
        let mut fds: ArrayVec<PollFd<'_>, { LISTEN_MAX + 1 }> = ArrayVec::new();
        for socket in &self.sockets {
            let output = if socket.backlog.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::from_borrowed_fd(socket.fd.as_fd(), input | output));
        }
        fds.push(PollFd::from_borrowed_fd(bell, PollFlags::IN));
        self.stats.syscalls += 1;
        doze(&mut fds, timeout)?;
        for (readable, fd) in self.readable.iter_mut().zip(&fds) {
            // An error counts as readable: receiving fetches and clears it.
            *readable = fd.revents().intersects(PollFlags::IN | PollFlags::ERR);
        }
        self.polled = true;
        Ok(())
    }

    fn checksums(&self) -> Checksums {
        // The kernel has verified them, and passes none on.
        Checksums::Unused
    }

    fn protocol(&self) -> Protocol {
        Protocol::UdpSocket
    }

    fn stats(&mut self) -> PortStats {
        for socket in &mut self.sockets {
            // If the kernel does not tell, the count stays as it was.
            let dropped = drops(&socket.fd).unwrap_or(socket.dropped);
            self.stats.rx_ring_full += u64::from(dropped.wrapping_sub(socket.dropped));
            socket.dropped = dropped;
        }
        self.stats
    }
}

impl SocketBatch {
    /// Points message `at` to `len` bytes at `data`, and to the given lengths of its name and
    /// control buffers.
    #[inline]
    fn prepare(&mut self, at: usize, data: *mut u8, len: usize, name_len: usize, control_len: usize) {
        self.vectors[at] = libc::iovec { iov_base: data.cast(), iov_len: len };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = ptr::from_mut(&mut self.names[at]).cast();
        header.msg_namelen = name_len as u32;
        header.msg_iov = ptr::from_mut(&mut self.vectors[at]);
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_mut(&mut self.controls[at]).cast();
        header.msg_controllen = control_len as _;
        header.msg_flags = 0;
    }

    /// Receives into the first `count` messages, which are prepared. Returns the number received.
    /// An error counts as none: EAGAIN means that, and any other error is cleared by being
    /// reported.
    fn receive(&mut self, fd: &OwnedFd, count: usize) -> usize {
        let headers = self.headers[..count].as_mut_ptr();
        // SAFETY: `receive` of the port has pointed each of the `count` headers at a name, a control and a vector
        // of this batch, and the vector at the rest of a chunk that it holds the frame of: all of them writable for
        // the lengths told, and nobody else's until the call returns. No timeout.
        let received = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), headers, count as u32, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        usize::try_from(received).unwrap_or(0).min(count)
    }

    /// Sends the first `count` messages, which are prepared. Returns the number sent, at least one,
    /// or the errno of the first.
    fn send(&mut self, fd: &OwnedFd, count: usize) -> Result<usize, i32> {
        let headers = self.headers[..count].as_mut_ptr();
        // SAFETY: `transmit` of the port has pointed each of the `count` headers as in `receive`, and the vector at
        // a message within a frame of the backlog. The kernel reads all that, and writes only the lengths sent.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers, count as u32, libc::MSG_DONTWAIT) };
        match usize::try_from(sent) {
            Ok(sent) => Ok(sent.min(count)),
            Err(_) => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

/// Sets a socket option that rustix does not support.
fn set_option(fd: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let value: *const i32 = &value;
    // SAFETY: `value` points to an i32 that outlives the call, and its size is what is told.
    let set = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, value.cast(), size_of::<i32>() as libc::socklen_t)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the number of datagrams that the kernel has dropped for lack of buffer; `None` if it
/// does not tell.
fn drops(fd: &OwnedFd) -> Option<u32> {
    let mut memory = [0u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&memory) as libc::socklen_t;
    let at = memory.as_mut_ptr().cast();
    // SAFETY: `at` points to `len` writable bytes, and the kernel writes no more than it is told there are.
    let got = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, at, &mut len) };
    (got == 0 && len as usize == size_of_val(&memory)).then_some(memory[libc::SK_MEMINFO_DROPS as usize])
}

#[cfg(test)]
mod tests;
