//! How an AF_XDP socket is asked for, and what came of it.

use super::XskError;
use crate::port::{BURST, Checksums};
use std::fmt;

/// How to open an [`XskPort`](super::XskPort).
#[derive(Clone, Debug)]
pub struct XskConfig {
    /// Name of the interface, in the network namespace of the thread that opens.
    pub interface: String,
    /// Number of its queue.
    pub queue: u32,
    /// In which mode.
    pub mode: Request,
    /// Chunks of packet memory; those beyond the fill ring are for frames on their way out.
    pub frames: u32,
    /// Sizes of the rings.
    pub rings: Rings,
    /// Take the checksums of what arrives as right: where the NIC verifies them. Partial ones need no trust: in copy
    /// mode they are recognised.
    pub trust_checksums: bool,
    /// Let the worker drive the NIC instead of interrupts.
    pub busy_poll: Option<BusyPoll>,
}

impl XskConfig {
    /// What suits most NICs.
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

    /// Returns who vouches for the checksums of what arrives in `mode`. In zero-copy mode the bytes are those of the wire, on
    /// which no checksum is partial.
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

/// Which mode to open a socket in.
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
    /// The mode that is tried first.
    pub(super) fn first(self) -> Mode {
        match self {
            Request::Auto | Request::ZeroCopy => Mode::ZeroCopy,
            Request::Copy | Request::Generic => Mode::Copy,
        }
    }
}

/// The mode that a socket is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The NIC reads and writes the packet memory.
    ZeroCopy,
    /// The kernel copies between it and its own.
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

/// Descriptors that each ring holds: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Received packets that wait for the worker.
    pub rx: u32,
    /// Frames that wait to be sent.
    pub tx: u32,
    /// Chunks to be received into; also how many are with the kernel at most. The kernel's documentation asks for
    /// as many as the RX rings of NIC and socket hold together; Knot DNS found as many as one of them to be faster.
    pub fill: u32,
    /// Frames that were sent.
    pub completion: u32,
}

impl Rings {
    /// More are of no use: a worker that is so late answers clients that have given up.
    const MAX: u32 = 1 << 16;
}

impl Default for Rings {
    fn default() -> Self {
        Rings { rx: 2048, tx: 2048, fill: 2048, completion: 2048 }
    }
}

/// Preferred busy polling (Linux 5.11): the worker's system calls run the driver, and its interrupts stay off. The
/// interface wants `napi_defer_hard_irqs` and `gro_flush_timeout` set with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Longest poll in microseconds (`SO_BUSY_POLL`).
    pub usecs: u16,
    /// Most packets a poll (`SO_BUSY_POLL_BUDGET`).
    pub budget: u16,
}

/// How a socket was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The mode that it is in.
    pub mode: Mode,
    /// Why in this one.
    pub reason: String,
    /// Whether the kernel wants to be told that there is something to send: always in copy mode.
    pub need_wakeup: bool,
    /// Whether the packet memory stands on reserved huge pages.
    pub hugepages: bool,
}
