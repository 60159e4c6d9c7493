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
//! Under load a system call receives several bursts at once. Their replies are sent together, so
//! that more of them go out as [runs](runs).
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

mod backlog;
mod error;
mod names;
mod runs;
mod socket;

use backlog::Backlog;
pub use error::UdpError;
use names::{Control, DatagramOrigin, SocketName, SocketReply};
use runs::Runs;
pub use socket::{bind_freely, is_here, probe};

/// Most listen addresses of a port.
pub const LISTEN_MAX: usize = 16;

/// Fewest frames of a port: a burst to receive, and as many to answer.
pub const FRAMES_MIN: u32 = 2 * BURST as u32;

/// Most datagrams of a system call. More would make longer runs of replies, but clients would wait
/// for them.
const BATCH: usize = 4 * BURST;
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
    /// Number of datagrams to request: preparing for a whole batch when one query comes costs more
    /// than the query.
    offer: usize,
    /// Most datagrams of a system call: as many frames are left for replies.
    most: usize,
    /// Frames that were received and not handed out yet, the oldest first.
    inbox: VecDeque<Frame>,
    batch: Box<SocketBatch>,
    runs: Box<Runs>,
    stats: PortStats,
}

struct Socket {
    fd: OwnedFd,
    local: SocketAddr,
    /// Whether the socket is bound to no address: then each datagram tells the address that it was
    /// sent to, and each reply the one to send from.
    wildcard: bool,
    /// Whether the kernel sends runs.
    has_runs: bool,
    backlog: Backlog,
    /// Last value of the kernel's count of drops; it wraps.
    dropped: u32,
}

/// Arguments of one `recvmmsg` or `sendmmsg`. The pointers are written before each call.
struct SocketBatch {
    headers: [libc::mmsghdr; BATCH],
    vectors: [libc::iovec; BATCH],
    names: [SocketName; BATCH],
    controls: [Control; BATCH],
    /// Replies to send, in the order of the backlog.
    replies: [StagedReply; BATCH],
}

/// Place of a reply's message, and the lengths of its name and control message.
#[derive(Clone, Copy)]
struct StagedReply {
    vector: libc::iovec,
    name_len: usize,
    control_len: usize,
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
            // Older kernels would send a run as one datagram; they know no such option.
            let has_runs = set_option(&fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
            let backlog = Backlog::new(frames);
            sockets.push(Socket { fd, local, wildcard, has_runs, backlog, dropped: 0 });
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
            most: BATCH.min(frames as usize / 2),
            inbox: VecDeque::with_capacity(frames as usize),
            batch,
            runs: Box::new(Runs::new()),
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

    /// Receives into the inbox. Sockets that may have something share it.
    fn fetch(&mut self) {
        self.look();
        let count = self.sockets.len();
        let readable = self.readable[..count].iter().filter(|readable| **readable).count();
        let share = (self.most / readable.max(1)).max(OFFER_MIN);
        for step in 0..count {
            let at = (self.first + step) % count;
            let most = self.most.min(self.inbox.len() + share);
            while self.readable[at] && self.inbox.len() < most {
                self.receive(at, most - self.inbox.len());
            }
        }
        self.first = (self.first + 1) % count;
    }

    /// Receives at most `most` datagrams from a socket, and notes if it has no more.
    fn receive(&mut self, at: usize, most: usize) {
        let socket = &self.sockets[at];
        let room = names::headers(&socket.local);
        let wanted = self.offer.min(most);
        let mut offered = ArrayVec::<Frame, BATCH>::new();
        while offered.len() < wanted
            && let Some(mut frame) = self.frames.alloc()
        {
            let buffer = &mut self.frames.buffer(&mut frame)[room..];
            self.batch.offer(offered.len(), buffer, socket.wildcard);
            offered.push(frame);
        }
        self.stats.fill_starved += u64::from(offered.len() < wanted);
        let received = if offered.is_empty() { 0 } else { self.batch.receive(&socket.fd, offered.len()) };
        self.stats.syscalls += u64::from(!offered.is_empty());
        self.readable[at] = received == offered.len() && received > 0;
        self.offer = (2 * received).clamp(OFFER_MIN, BATCH);
        for (slot, mut frame) in offered.into_iter().enumerate() {
            if slot >= received {
                self.frames.release(frame);
            } else if let Some(len) = self.address(at, slot, &mut frame) {
                frame.set_len(len);
                self.inbox.push_back(frame);
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
        self.runs.clear();
        for (number, (frame, may_join)) in socket.backlog.oldest().enumerate() {
            let packet = self.frames.packet(frame);
            let is_alone = !(may_join && socket.has_runs);
            if !self.batch.stage(number, packet, socket.wildcard, is_alone, &mut self.runs) {
                break;
            }
        }
        let runs = self.runs.as_slice();
        // If the first frame is not one that this port can have received, it is treated as one that
        // it cannot send.
        let sent = match runs.len() {
            0 => Err(libc::EINVAL),
            count => {
                self.batch.arrange(&self.runs);
                self.batch.send(&socket.fd, count)
            }
        };
        self.stats.syscalls += u64::from(!runs.is_empty());
        match sent {
            Ok(sent) => {
                let sent = socket.backlog.release_sent(&self.runs, sent, &mut self.frames);
                self.stats.sent += sent as u64;
                true
            }
            Err(libc::EAGAIN) => false,
            Err(libc::EINTR) => true,
            // Links that cannot take runs exist: those without checksums before Linux 6.11, and IPsec. A
            // run may also exceed an MTU, or hold a reply for a client that a firewall refuses.
            Err(_) if runs.first().is_some_and(|run| run.count > 1) => {
                socket.backlog.part(runs.iter().map(|run| usize::from(run.count)).sum());
                true
            }
            Err(libc::EMSGSIZE) if socket.backlog.cut_oldest(&mut self.frames) => {
                self.stats.cut_to_mtu += 1;
                true
            }
            Err(_) => {
                // The other frames may succeed: EPERM from a firewall and ENETUNREACH concern one
                // client.
                self.stats.send_failed += 1;
                socket.backlog.drop_oldest(&mut self.frames);
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
        if self.inbox.is_empty() {
            self.fetch();
        }
        let count = burst.remaining_capacity().min(self.inbox.len());
        burst.extend(self.inbox.drain(..count));
    }

    fn send(&mut self, frame: Frame) {
        let origin = DatagramOrigin::read(self.frames.packet(&frame));
        match origin.and_then(|origin| self.sockets.get_mut(usize::from(origin.socket))) {
            Some(socket) => socket.backlog.push(frame),
            None => {
                self.stats.send_failed += 1;
                self.frames.release(frame);
            }
        }
    }

    fn flush(&mut self) {
        if !self.inbox.is_empty() {
            return; // the replies to the rest follow in a moment
        }
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
    /// Prepares message `at` to receive into `buffer`, and the address that it was sent to if
    /// `wildcard`.
    #[inline]
    fn offer(&mut self, at: usize, buffer: &mut [u8], wildcard: bool) {
        self.vectors[at] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = ptr::from_mut(&mut self.names[at]).cast();
        header.msg_namelen = size_of::<SocketName>() as u32;
        header.msg_iov = ptr::from_mut(&mut self.vectors[at]);
        header.msg_iovlen = 1;
        let (control, control_len) = self.controls[at].place_to_receive(wildcard);
        header.msg_control = control;
        header.msg_controllen = control_len as _;
        header.msg_flags = 0;
    }

    /// Adds the reply in `packet` to those to be sent, and to the runs. Returns false if it is none.
    #[inline]
    fn stage(
        &mut self,
        number: usize,
        packet: &[u8],
        wildcard: bool,
        is_alone: bool,
        runs: &mut Runs,
    ) -> bool {
        let control = wildcard.then_some(&mut self.controls[number]);
        let Some(reply) = names::reply(packet, &mut self.names[number], control) else { return false };
        let SocketReply { message, name_len, control_len } = reply;
        let vector = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        self.replies[number] = StagedReply { vector, name_len, control_len };
        let (names, controls) = (&self.names, &self.controls);
        let hash = (!is_alone).then(|| names[number].hash(name_len));
        runs.add(number, message.len(), hash, |first| {
            names[first].is_same(&names[number], name_len)
                && (!wildcard || controls[first].has_source_of(&controls[number]))
        });
        true
    }

    /// Prepares a message for each run of the replies that were added.
    fn arrange(&mut self, runs: &Runs) {
        let numbers = runs.as_slice().iter().flat_map(|run| runs.replies(*run));
        for (vector, number) in self.vectors.iter_mut().zip(numbers) {
            *vector = self.replies[number].vector;
        }
        let mut vectors = self.vectors.as_mut_ptr();
        for (message, run) in self.headers.iter_mut().zip(runs.as_slice()) {
            let (first, count) = (usize::from(run.first), usize::from(run.count));
            let StagedReply { name_len, control_len, .. } = self.replies[first];
            let segment = (count > 1).then_some(run.len);
            let (control, control_len) = self.controls[first].messages_to_send(segment, control_len);
            let header = &mut message.msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[first]).cast();
            header.msg_namelen = name_len as u32;
            header.msg_iov = vectors;
            header.msg_iovlen = count as _;
            header.msg_control = control;
            header.msg_controllen = control_len as _;
            header.msg_flags = 0;
            vectors = vectors.wrapping_add(count);
        }
    }

    /// Receives into the first `count` messages, which are offered. Returns the number received.
    /// An error counts as none: EAGAIN means that, and any other error is cleared by being
    /// reported.
    fn receive(&mut self, fd: &OwnedFd, count: usize) -> usize {
        let headers = self.headers[..count].as_mut_ptr();
        // SAFETY: `offer` has pointed each of the `count` headers at a name, a control and a vector of this batch,
        // and the vector at the rest of a chunk that the port holds the frame of: all of them writable for the
        // lengths told, and nobody else's until the call returns. No timeout.
        let received = unsafe {
            libc::recvmmsg(fd.as_raw_fd(), headers, count as u32, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        usize::try_from(received).unwrap_or(0).min(count)
    }

    /// Sends the first `count` messages, which are arranged. Returns the number sent, at least one,
    /// or the errno of the first.
    fn send(&mut self, fd: &OwnedFd, count: usize) -> Result<usize, i32> {
        let headers = self.headers[..count].as_mut_ptr();
        // SAFETY: `arrange` has pointed each of the `count` headers at a name and a control of this batch, and at as
        // many of its vectors as told, each at a message within a frame of the backlog (`stage`). The kernel reads
        // all that, and writes only the lengths sent.
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
