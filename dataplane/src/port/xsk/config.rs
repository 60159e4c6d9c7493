//! Settings of an AF_XDP socket, and the properties of the opened one.

use super::XskError;
use crate::{checksum::Checksums, port::BURST};
use std::fmt;

/// Settings of an [`XskPort`](super::XskPort).
#[derive(Clone, Debug)]
pub struct XskConfig {
    /// Name of the interface, in the network namespace of the opening thread.
    pub interface: String,
    /// Number of the queue.
    pub queue: u32,
    /// Requested mode.
    pub mode: Request,
    /// Number of chunks of packet memory; those beyond the fill ring are for frames in transit out.
    pub frames: u32,
    /// Sizes of the rings.
    pub rings: Rings,
    /// Whether to take received checksums as right, because the NIC verifies them. Partial ones
    /// need no trust: in copy mode they are recognised.
    pub trust_checksums: bool,
    /// Busy polling, in which the worker drives the NIC instead of interrupts.
    pub busy_poll: Option<BusyPoll>,
}

impl XskConfig {
    /// Returns settings that suit most NICs.
    pub fn new(interface: impl Into<String>, queue: u32) -> Self {
        XskConfig {
            interface: interface.into(),
            queue,
            mode: Request::Auto,
            frames: 4096,
            rings: Rings::default(),
            trust_checksums: false,
            busy_poll: None,
        }
    }

    /// Returns how the checksums of packets received in `mode` are verified. In zero-copy mode the
    /// bytes are those of the wire, on which no checksum is partial.
    pub(super) fn checksums(&self, mode: Mode) -> Checksums {
        match mode {
            _ if self.trust_checksums => Checksums::Trust,
            Mode::ZeroCopy => Checksums::Verify,
            Mode::Copy => Checksums::AllowPartial,
        }
    }

    pub(super) fn check(&self) -> Result<(), XskError> {
        if self.interface.contains('\0') {
            return Err(self.refused("the interface's name contains a NUL byte: see `ip link`".into()));
        }
        let Rings { rx, tx, fill, completion } = self.rings;
        for (name, size) in [("RX", rx), ("TX", tx), ("fill", fill), ("completion", completion)] {
            if !size.is_power_of_two() || size < BURST as u32 || size > Rings::MAX {
                return Err(self.refused(format!(
                    "{name} ring of {size}: make it a power of two from {BURST} to {}",
                    Rings::MAX
                )));
            }
        }
        let least = fill + 2 * BURST as u32;
        if self.frames < least {
            return Err(self.refused(format!(
                "{} frames with a fill ring of {fill}: at least {least}, so that two bursts can be answered",
                self.frames
            )));
        }
        Ok(())
    }

    pub(super) fn refused(&self, reason: String) -> XskError {
        XskError::Settings { interface: self.interface.clone(), queue: self.queue, reason }
    }
}

/// Requested mode of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Request {
    /// Zero-copy if the driver has it, else copy.
    #[default]
    Auto,
    /// Zero-copy or not at all.
    ZeroCopy,
    /// Copy.
    Copy,
    /// Copy, under an XDP program in generic (skb) mode.
    Generic,
}

impl Request {
    /// Returns the mode to try first.
    pub(super) fn first(self) -> Mode {
        match self {
            Request::Auto | Request::ZeroCopy => Mode::ZeroCopy,
            Request::Copy | Request::Generic => Mode::Copy,
        }
    }
}

/// Mode of an opened socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The NIC reads and writes the packet memory.
    ZeroCopy,
    /// The kernel copies between the packet memory and its own memory.
    Copy,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
        })
    }
}

/// Number of descriptors that each ring holds: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Most received packets that wait for the worker.
    pub rx: u32,
    /// Most frames that wait to be sent.
    pub tx: u32,
    /// Most chunks that the kernel has to receive into. The kernel's documentation recommends as
    /// many as the RX rings of NIC and socket hold together; Knot DNS found as many as one of them
    /// to be faster.
    pub fill: u32,
    /// Most sent frames that wait to be taken back.
    pub completion: u32,
}

impl Rings {
    /// Largest ring. A larger one is useless: a worker that is so late answers clients that have
    /// given up.
    const MAX: u32 = 1 << 16;
}

impl Default for Rings {
    fn default() -> Self {
        Rings { rx: 2048, tx: 2048, fill: 2048, completion: 2048 }
    }
}

/// Preferred busy polling (Linux 5.11): the worker's system calls run the driver, and its
/// interrupts stay off. The interface also needs `napi_defer_hard_irqs` and `gro_flush_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Longest poll in microseconds (`SO_BUSY_POLL`).
    pub usecs: u16,
    /// Most packets per poll (`SO_BUSY_POLL_BUDGET`).
    pub budget: u16,
}

/// Properties of an opened socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Mode of the socket.
    pub mode: Mode,
    /// Reason for the mode.
    pub reason: String,
    /// Whether the kernel needs a kick to send: always in copy mode.
    pub need_wakeup: bool,
    /// Whether the packet memory is on reserved huge pages.
    pub hugepages: bool,
}
