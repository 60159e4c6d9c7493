//! AF_XDP sockets through xsk-rs: the only file that names it.
//!
//! Four rings, each with one side here and one in the kernel, pass chunks around: fill (to be received into), RX
//! (received), TX (to be sent) and completion (sent). [`Frames`] keeps the ledger of them, and what comes back from
//! the kernel becomes a frame only if the ledger agrees. The XDP program and its map are somebody else's: this
//! socket receives once [`XskPort::fd`] is in the map.
//!
//! xsk-rs hands out descriptors that may be copied and used at any time, so none leaves this file. Its rings cost a
//! call for each descriptor, and a few for each batch: so all go by the batch, and an idle turn makes one call.

use super::{BURST, Burst, Checksums, Port, PortStats, doze};
use crate::frame::{CHUNK, Frame, Frames, Span};
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, sockopt},
};
use std::{
    io,
    num::NonZeroU32,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    time::{Duration, Instant},
};
use xsk_rs::{
    CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem,
    config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig},
};

mod backlog;
mod config;
mod error;

use backlog::Backlog;
pub use config::{BusyPoll, Mode, Opened, Request, Rings, XskConfig};
pub use error::XskError;
use error::os_error;

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.18 `include/uapi/linux/if_xdp.h`): frames sent a kick in copy mode.
const MAX_TX_SKB_BUDGET: i32 = 9;

/// How long to wait for a queue that is in use.
const PATIENCE: Duration = Duration::from_millis(500);

/// How soon to look again for room to send, when nothing else will wake us.
const RETRY: Duration = Duration::from_millis(1);

/// An AF_XDP socket on one queue of one interface, with memory of its own.
pub struct XskPort {
    frames: Frames,
    umem: Umem,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    rings: Rings,
    /// Where in their chunks packets start, unless an XDP program moves them.
    start: u16,
    /// The descriptor of each chunk's packet that starts there.
    descs: Box<[FrameDesc]>,
    /// The descriptor of each chunk's packet that was moved: xsk-rs makes none to order.
    moved: Box<[FrameDesc]>,
    scratch: Box<[FrameDesc; BURST]>,
    backlog: Backlog<FrameDesc>,
    /// Chunks given to be received into and not come back.
    filled: u32,
    /// Chunks given to be sent and not come back.
    in_flight: u32,
    /// Whether the last burst took all there was, so that a busy-polling driver should be asked for more.
    drained: bool,
    busy_poll: bool,
    checksums: Checksums,
    opened: Opened,
    stats: PortStats,
}

impl XskPort {
    /// Opens a socket, registers its memory, and gives the kernel frames to receive into.
    ///
    /// To be called on the thread that will use the port: the memory is taken near its core.
    pub fn open(config: &XskConfig) -> Result<XskPort, XskError> {
        config.check()?;
        let (umem, descs, hugepages) = register(config)?;
        let bound = bind(config, &umem)?;
        let frames = account(config, &umem, &descs)?;
        let mut port = XskPort {
            frames,
            umem,
            rx: bound.rx,
            tx: bound.tx,
            fill: bound.fill,
            completion: bound.completion,
            rings: config.rings,
            start: span(&descs[0]).start,
            moved: descs.clone(),
            backlog: Backlog::new(descs.len()),
            descs,
            scratch: Box::new([FrameDesc::default(); BURST]),
            filled: 0,
            in_flight: 0,
            drained: true,
            busy_poll: config.busy_poll.is_some(),
            checksums: if config.trust_checksums { Checksums::Trust } else { Checksums::Verify },
            opened: Opened { mode: bound.mode, reason: bound.reason, need_wakeup: false, hugepages },
            stats: PortStats::default(),
        };
        port.tune(config)?;
        port.refill();
        port.opened.need_wakeup = port.tx.needs_wakeup();
        Ok(port)
    }

    /// The socket, for the map of the XDP program.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the queue holds the socket open for as long as it lives, and so for the borrow of it.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// How the kernel opened it.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    fn tune(&self, config: &XskConfig) -> Result<(), XskError> {
        // In copy mode the kernel sends 32 frames a call unless told otherwise; older kernels cannot be told, and
        // are kicked until all are sent. In zero-copy mode the option does nothing.
        let budget = config.rings.tx as i32;
        if let Err(error) = self.set_option(libc::SOL_XDP, MAX_TX_SKB_BUDGET, budget) {
            tracing::debug!(%error, "a kick sends 32 frames at most");
        }
        // In copy mode a frame on its way out counts against the send buffer: let the ring be the only limit.
        let bytes = config.rings.tx as usize * CHUNK;
        let enlarged = sockopt::set_socket_send_buffer_size_force(self.fd(), bytes)
            .or_else(|_| sockopt::set_socket_send_buffer_size(self.fd(), bytes));
        if let Err(error) = enlarged {
            tracing::debug!(%error, "the send buffer stays as it is");
        }
        let Some(busy_poll) = config.busy_poll else { return Ok(()) };
        for (name, option, value) in [
            ("SO_PREFER_BUSY_POLL", libc::SO_PREFER_BUSY_POLL, 1),
            ("SO_BUSY_POLL", libc::SO_BUSY_POLL, i32::from(busy_poll.usecs)),
            ("SO_BUSY_POLL_BUDGET", libc::SO_BUSY_POLL_BUDGET, i32::from(busy_poll.budget)),
        ] {
            let interface = || config.interface.clone();
            self.set_option(libc::SOL_SOCKET, option, value).map_err(|source| XskError::BusyPoll {
                interface: interface(),
                option: name,
                value,
                source,
            })?;
        }
        Ok(())
    }

    fn set_option(&self, level: i32, option: i32, value: i32) -> io::Result<()> {
        let fd = self.rx.fd().as_raw_fd();
        let value: *const i32 = &value;
        // SAFETY: `value` points to an i32 that outlives the call, and its size is what is told.
        let set =
            unsafe { libc::setsockopt(fd, level, option, value.cast(), size_of::<i32>() as libc::socklen_t) };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes back what was sent. In copy mode that is all by now; in zero-copy mode what the NIC has got round to:
    /// the rest comes with a later flush.
    #[inline]
    fn reclaim(&mut self) {
        while self.in_flight > 0 {
            // SAFETY: the ring and every descriptor of it belong to the one UMEM of this port.
            let count = unsafe { self.completion.consume(&mut self.scratch[..]) };
            for desc in &self.scratch[..count] {
                if !self.frames.from_tx(span(desc).index) {
                    self.stats.bad_descriptors += 1;
                }
            }
            self.in_flight = self.in_flight.saturating_sub(count as u32);
            if count < BURST {
                return;
            }
        }
    }

    /// Moves what the TX ring has room for from the backlog to it, in order.
    #[inline]
    fn transmit(&mut self) {
        let waiting = self.backlog.waiting();
        if waiting.is_empty() {
            return;
        }
        let room = self.tx.nb_free(waiting.len() as u32) as usize;
        let batch = &waiting[..waiting.len().min(room)];
        // SAFETY: these chunks are this UMEM's; `send` made their frames over to TX in the ledger, and the backlog
        // gives each out once.
        let count = unsafe { self.tx.produce(batch) };
        self.in_flight += count as u32;
        self.stats.sent += count as u64;
        self.backlog.advance(count);
        self.stats.tx_ring_full += u64::from(!self.backlog.waiting().is_empty());
    }

    /// Tells the kernel that there is something to send, if there is and it wants to be told.
    ///
    /// What is on the TX ring stays there whatever the kernel answers, also while the link is down, and is told of
    /// again at the next flush.
    #[inline]
    fn kick(&mut self) {
        if self.in_flight == 0 || !self.tx.needs_wakeup() {
            return;
        }
        let mut unsent = self.unsent();
        while unsent > 0 {
            self.stats.syscalls += 1;
            match rustix::net::send(self.fd(), &[], SendFlags::DONTWAIT) {
                Ok(_) => return,
                // As many as it sends at once, or as the send buffer holds.
                Err(Errno::AGAIN | Errno::NOBUFS) => {}
                // The device dropped a frame, and the kernel left it at that.
                Err(Errno::BUSY) => self.stats.send_failed += 1,
                // The link is down (ENETDOWN), or gone for good (ENXIO).
                Err(_) => {
                    self.stats.kick_failed += 1;
                    return;
                }
            }
            let before = std::mem::replace(&mut unsent, self.unsent());
            if unsent >= before {
                return;
            }
        }
    }

    /// How many frames on the TX ring the kernel has not taken.
    #[inline]
    fn unsent(&mut self) -> u32 {
        self.rings.tx.saturating_sub(self.tx.nb_free_exact())
    }

    /// Gives the kernel free chunks to receive into, until as many as the fill ring holds are with it.
    ///
    /// Bounding what is with the kernel, rather than filling what room the ring has, keeps the packet memory in use
    /// small where the driver takes chunks off the ring in advance; and the ring can never be too full.
    #[inline]
    fn refill(&mut self) {
        while self.filled < self.rings.fill {
            let wanted = (self.rings.fill - self.filled).min(BURST as u32) as usize;
            let mut count = 0;
            for slot in &mut self.scratch[..wanted] {
                let Some(index) = self.frames.to_fill() else { break };
                *slot = self.descs[index as usize];
                count += 1;
            }
            // SAFETY: these chunks are this UMEM's, and the ledger has just made each over from the free list.
            let taken = unsafe { self.fill.produce(&self.scratch[..count]) };
            // All or none, and none only if the kernel has moved its end of the ring backwards.
            self.stats.bad_descriptors += (count - taken) as u64;
            self.filled += count as u32;
            if count < wanted {
                self.stats.fill_starved += 1;
                return;
            }
        }
    }

    /// Tells the driver to go on receiving, if it waits to be told. In copy mode it never does.
    #[inline]
    fn wake_receiver(&mut self) {
        let asked = self.opened.mode == Mode::ZeroCopy && self.fill.needs_wakeup();
        if asked || (self.busy_poll && self.drained) {
            self.stats.syscalls += 1;
            let woken = rustix::net::recv(self.fd(), &mut [0u8; 0], RecvFlags::DONTWAIT);
            let refused = matches!(woken, Err(errno) if errno != Errno::AGAIN);
            self.stats.kick_failed += u64::from(refused);
        }
    }

    /// The descriptor of a packet that is about to be sent.
    #[inline]
    fn descriptor(&mut self, at: Span) -> FrameDesc {
        let descs = if at.start == self.start { &self.descs } else { &self.moved };
        let mut desc = descs[at.index as usize];
        // SAFETY: the descriptor is this UMEM's, and its chunk is ours until the TX ring gets it. Only the
        // descriptor's length is written through this.
        let mut data = unsafe { self.umem.data_mut(&mut desc) };
        data.cursor().set_pos(usize::from(at.len));
        desc
    }
}

impl Port for XskPort {
    #[inline]
    fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    #[inline]
    fn recv(&mut self, burst: &mut Burst) {
        let room = burst.remaining_capacity();
        // SAFETY: the ring and every descriptor of it belong to the one UMEM of this port.
        let count = unsafe { self.rx.consume(&mut self.scratch[..room]) };
        for desc in &self.scratch[..count] {
            let span = span(desc);
            let Some(frame) = self.frames.from_fill(span) else {
                self.stats.bad_descriptors += 1;
                continue;
            };
            if span.start != self.start {
                self.moved[span.index as usize] = *desc;
            }
            self.frames.prefetch(&frame);
            burst.push(frame);
        }
        self.filled = self.filled.saturating_sub(count as u32);
        self.drained = count < room;
    }

    #[inline]
    fn send(&mut self, frame: Frame) {
        let span = self.frames.to_tx(frame);
        let desc = self.descriptor(span);
        self.backlog.push(desc);
    }

    #[inline]
    fn flush(&mut self) {
        self.reclaim();
        self.transmit();
        self.kick();
        self.refill();
        self.wake_receiver();
    }

    fn wait(&mut self, bell: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
        let stuck = self.in_flight > 0 && (self.unsent() > 0 || !self.backlog.waiting().is_empty());
        let timeout = if stuck { timeout.min(RETRY) } else { timeout };
        self.stats.syscalls += 1;
        let mut fds = [
            PollFd::from_borrowed_fd(self.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
        ];
        doze(&mut fds, timeout)
    }

    #[inline]
    fn checksums(&self) -> Checksums {
        self.checksums
    }

    fn stats(&mut self) -> PortStats {
        // A socket whose interface is gone still tells; if not, what was told last stands.
        if let Ok(kernel) = self.rx.fd().xdp_statistics() {
            self.stats.rx_dropped = kernel.rx_dropped();
            self.stats.rx_ring_full = kernel.rx_ring_full();
            self.stats.rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs();
            self.stats.rx_invalid_descs = kernel.rx_invalid_descs();
            self.stats.tx_invalid_descs = kernel.tx_invalid_descs();
            self.stats.tx_ring_empty = kernel.tx_ring_empty_descs();
        }
        self.stats
    }
}

/// Where a descriptor says that its packet is. What does not fit a [`Span`] becomes one that no ledger accepts.
#[inline]
fn span(desc: &FrameDesc) -> Span {
    Span {
        index: u32::try_from(desc.addr() / CHUNK).unwrap_or(u32::MAX),
        start: (desc.addr() % CHUNK) as u16,
        len: u16::try_from(desc.lengths().data()).unwrap_or(u16::MAX),
    }
}

/// Maps packet memory, on huge pages if there are enough, and registers it with the kernel.
fn register(config: &XskConfig) -> Result<(Umem, Box<[FrameDesc]>, bool), XskError> {
    let invalid = |reason: &dyn std::fmt::Display| config.refused(reason.to_string());
    let size = |size| QueueSize::new(size).map_err(|error| invalid(&error));
    let settings = UmemConfig::builder()
        .frame_size(FrameSize::new(CHUNK as u32).map_err(|error| invalid(&error))?)
        .fill_queue_size(size(config.rings.fill)?)
        .comp_queue_size(size(config.rings.completion)?)
        .build()
        .map_err(|error| invalid(&error))?;
    let count = NonZeroU32::new(config.frames).ok_or_else(|| invalid(&"no frames"))?;
    // xsk-rs unmaps exactly as much as it asked for, which the kernel refuses for a part of a huge page.
    const HUGE_PAGE: usize = 2 << 20;
    if (config.frames as usize * CHUNK).is_multiple_of(HUGE_PAGE)
        && let Ok((umem, descs)) = Umem::new(settings, count, true)
    {
        return Ok((umem, descs.into(), true));
    }
    let (umem, descs) = Umem::new(settings, count, false)
        .map_err(|error| XskError::Memory { frames: config.frames, source: os_error(&error) })?;
    Ok((umem, descs.into(), false))
}

/// Opens the ledger over registered memory, after a look at whether xsk-rs laid it out as the ledger does.
fn account(config: &XskConfig, umem: &Umem, descs: &[FrameDesc]) -> Result<Frames, XskError> {
    let start = descs[0].addr();
    if start >= CHUNK || descs.iter().enumerate().any(|(index, desc)| desc.addr() != index * CHUNK + start) {
        return Err(config.refused("xsk-rs lays frames out in an unknown way; build with xsk-rs 0.11".into()));
    }
    // SAFETY: the descriptor is this UMEM's, the kernel has no chunk of it yet, and its length is zero.
    let data = unsafe { umem.data(&descs[0]) };
    // The mapping was made by mmap, outside of what Rust knows: its address is all that there is to know of it, and
    // a slice of one packet may not be widened to all of them.
    let address = data.contents().as_ptr().addr() - start;
    let base = NonNull::new(ptr::with_exposed_provenance_mut(address))
        .ok_or_else(|| config.refused("packet memory at the null page".into()))?;
    // SAFETY: `base` is the start of the mapping, which is as long as all its frames: `descs` has one for each.
    // It stays mapped while a clone of the UMEM lives. Chunks are touched through these frames only: of xsk-rs's
    // own ways to them, this file uses none but to set lengths.
    Ok(unsafe { Frames::foreign(base, config.frames, start as u16, Box::new(umem.clone())) })
}

struct Bound {
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    mode: Mode,
    reason: String,
}

/// Binds, with patience for a queue that is in use: the kernel lets go of it some time after the last socket on it
/// is closed, so that a restart would otherwise fail by chance.
fn bind(config: &XskConfig, umem: &Umem) -> Result<Bound, XskError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match bind_once(config, umem) {
            Err(error) if error.errno() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(PATIENCE / 50);
            }
            decided => return decided,
        }
    }
}

/// Binds in the mode that is asked for, or in the best there is.
fn bind_once(config: &XskConfig, umem: &Umem) -> Result<Bound, XskError> {
    let interface = &config.interface;
    match config.mode {
        Request::ZeroCopy => bind_in(config, umem, Mode::ZeroCopy, "asked for".into()),
        Request::Copy => bind_in(config, umem, Mode::Copy, "asked for".into()),
        Request::Generic => {
            let reason = "a generic XDP program sees packets that the kernel has copied already";
            bind_in(config, umem, Mode::Copy, reason.into())
        }
        Request::Auto => match bind_in(config, umem, Mode::ZeroCopy, format!("{interface} has zero-copy")) {
            Err(XskError::Bind { source, .. }) => {
                bind_in(config, umem, Mode::Copy, format!("{interface} has no zero-copy: {source}"))
            }
            decided => decided,
        },
    }
}

fn bind_in(config: &XskConfig, umem: &Umem, mode: Mode, reason: String) -> Result<Bound, XskError> {
    let refused =
        |source| XskError::Bind { interface: config.interface.clone(), queue: config.queue, mode, source };
    let invalid = |reason: &dyn std::fmt::Display| config.refused(reason.to_string());
    let size = |size| QueueSize::new(size).map_err(|error| invalid(&error));
    let way = match mode {
        Mode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        Mode::Copy => BindFlags::XDP_COPY,
    };
    let settings = SocketConfig::builder()
        .rx_queue_size(size(config.rings.rx)?)
        .tx_queue_size(size(config.rings.tx)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(way | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let interface: Interface = config.interface.parse().map_err(|error| invalid(&error))?;
    // SAFETY: no other socket shares this UMEM, and libxdp loads no program that it could detach twice.
    let socket = unsafe { Socket::new(settings, umem, &interface, config.queue) };
    let (tx, rx, own) = socket.map_err(|error| refused(os_error(&error)))?;
    let (fill, completion) =
        own.ok_or_else(|| refused(io::Error::other("the socket came without fill and completion ring")))?;
    Ok(Bound { rx, tx, fill, completion, mode, reason })
}

#[cfg(test)]
mod tests;
