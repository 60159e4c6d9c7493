//! System calls that open an AF_XDP socket: its memory, its rings, its options, its queue.

use super::{Mode, Request, Rings, XskConfig, XskError, mapping::RingMap, queues::Memories, ring::Desc};
use crate::frame::{CHUNK, Frames};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, netdevice, socket_with, sockopt,
    xdp::{
        SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
        XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpUmemReg, XdpUmemRegFlags,
    },
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.18 `include/uapi/linux/if_xdp.h`): the option for the number of
/// frames sent per kick in copy mode.
const MAX_TX_SKB_BUDGET: i32 = 9;

/// Time to wait for a queue that is in use.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes a socket and registers packet memory with it.
///
/// The kernel pins the memory: it stays valid as long as the socket lives, mapped here or not.
pub(super) fn register(config: &XskConfig, frames: &Frames) -> Result<OwnedFd, XskError> {
    let registered = || -> io::Result<OwnedFd> {
        let fd = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let memory = XdpUmemReg {
            addr: frames.address() as u64,
            len: (frames.total() * CHUNK) as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(&fd, memory)?;
        Ok(fd)
    };
    registered().map_err(|source| XskError::Memory { frames: config.frames, source })
}

/// Makes the rings of a socket and maps them.
pub(super) fn map_rings(socket: &OwnedFd, config: &XskConfig) -> Result<Memories<RingMap>, XskError> {
    mapped(socket, &config.rings).map_err(|source| XskError::bind(config, config.mode.first(), source))
}

fn mapped(socket: &OwnedFd, sizes: &Rings) -> io::Result<Memories<RingMap>> {
    sockopt::set_xdp_umem_fill_ring_size(socket, sizes.fill)?;
    sockopt::set_xdp_umem_completion_ring_size(socket, sizes.completion)?;
    sockopt::set_xdp_rx_ring_size(socket, sizes.rx)?;
    sockopt::set_xdp_tx_ring_size(socket, sizes.tx)?;
    let offsets = sockopt::xdp_mmap_offsets(socket)?;
    let socket = socket.as_fd();
    Ok(Memories {
        rx: RingMap::new::<Desc>(socket, XDP_PGOFF_RX_RING, &offsets.rx, sizes.rx)?,
        tx: RingMap::new::<Desc>(socket, XDP_PGOFF_TX_RING, &offsets.tx, sizes.tx)?,
        fill: RingMap::new::<u64>(socket, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizes.fill)?,
        completion: RingMap::new::<u64>(
            socket,
            XDP_UMEM_PGOFF_COMPLETION_RING,
            &offsets.cr,
            sizes.completion,
        )?,
    })
}

/// Binds a socket in the requested mode, or in the best available one. Returns the mode and the
/// reason for it.
///
/// Waits a little for a queue that is in use: the kernel releases a queue some time after the last
/// socket on it is closed, so that a restart would otherwise fail by chance.
pub(super) fn attach(socket: &OwnedFd, config: &XskConfig) -> Result<(Mode, String), XskError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attach_once(socket, config) {
            Err(error) if error.errno() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(PATIENCE / 50);
            }
            decided => return decided,
        }
    }
}

fn attach_once(socket: &OwnedFd, config: &XskConfig) -> Result<(Mode, String), XskError> {
    let interface = &config.interface;
    match config.mode {
        Request::ZeroCopy => attach_in(socket, config, Mode::ZeroCopy, "asked for".into()),
        Request::Copy => attach_in(socket, config, Mode::Copy, "asked for".into()),
        Request::Generic => {
            let reason = "a generic XDP program sees packets that the kernel has copied already";
            attach_in(socket, config, Mode::Copy, reason.into())
        }
        Request::Auto => {
            let attached = attach_in(socket, config, Mode::ZeroCopy, format!("{interface} has zero-copy"));
            match attached.as_ref().err().and_then(XskError::no_zero_copy) {
                Some(reason) => attach_in(socket, config, Mode::Copy, reason),
                None => attached,
            }
        }
    }
}

/// Binds a socket in `mode`. If that fails, the socket is unchanged and can be bound in another
/// mode.
fn attach_in(
    socket: &OwnedFd,
    config: &XskConfig,
    mode: Mode,
    reason: String,
) -> Result<(Mode, String), XskError> {
    let way = match mode {
        Mode::ZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
        Mode::Copy => SocketAddrXdpFlags::XDP_COPY,
    };
    let bound = interface_index(&config.interface).and_then(|interface| {
        let flags = way | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        bind(socket, &SocketAddrXdp::new(flags, interface, config.queue)).map_err(io::Error::from)
    });
    match bound {
        Ok(()) => Ok((mode, reason)),
        Err(source) => Err(XskError::bind(config, mode, source)),
    }
}

/// Returns the number of an interface in this thread's network namespace. An AF_XDP socket cannot
/// be used to ask for it.
fn interface_index(name: &str) -> io::Result<u32> {
    let any = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(netdevice::name_to_index(any, name)?)
}

/// Sets the options that make sending and busy polling efficient.
pub(super) fn tune(socket: &OwnedFd, config: &XskConfig) -> Result<(), XskError> {
    // In copy mode the kernel sends 32 frames per call unless told otherwise. Older kernels cannot
    // be told, and are kicked until all are sent. In zero-copy mode the option does nothing.
    let budget = config.rings.tx as i32;
    if let Err(error) = set_option(socket.as_fd(), libc::SOL_XDP, MAX_TX_SKB_BUDGET, budget) {
        tracing::debug!(%error, "a kick sends 32 frames at most");
    }
    // In copy mode a frame in transit counts against the send buffer: make the ring the only limit.
    let bytes = config.rings.tx as usize * CHUNK;
    let enlarged = sockopt::set_socket_send_buffer_size_force(socket, bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, bytes));
    if let Err(error) = enlarged {
        tracing::debug!(%error, "the send buffer stays as it is");
    }
    let Some(busy_poll) = config.busy_poll else { return Ok(()) };
    for (name, option, value) in [
        ("SO_PREFER_BUSY_POLL", libc::SO_PREFER_BUSY_POLL, 1),
        ("SO_BUSY_POLL", libc::SO_BUSY_POLL, i32::from(busy_poll.usecs)),
        ("SO_BUSY_POLL_BUDGET", libc::SO_BUSY_POLL_BUDGET, i32::from(busy_poll.budget)),
    ] {
        set_option(socket.as_fd(), libc::SOL_SOCKET, option, value).map_err(|source| XskError::BusyPoll {
            interface: config.interface.clone(),
            option: name,
            value,
            source,
        })?;
    }
    Ok(())
}

/// Sets an option that rustix has no function for.
fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let value: *const i32 = &value;
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` points to an i32 that outlives the call, and its size is what is told.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
