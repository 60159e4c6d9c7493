//! What the XDP programs and the processes that load them agree on.
//!
//! The programs are compiled for the BPF virtual machine and their loaders for the host, from two workspaces,
//! so nothing but this crate keeps the two in step: names and layouts of maps, the meaning of each counter,
//! and the code that decides about a packet. That code lives here, over [`Packet`], so that `cargo test` runs
//! on plain slices exactly what the kernel runs on frames.

#![no_std]

mod checksum;
mod listen;
mod steer;
mod verdict;

pub mod generator;

pub use checksum::{fold, sum};
pub use listen::ListenKey;
pub use steer::{Datagram, Packet, classify};
pub use verdict::Verdict;

/// The program that hands DNS queries to AF_XDP sockets, as the object names it.
pub const STEER_PROGRAM: &str = "ringdns_steer";
/// The steering program for frames in several buffers (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18), without which drivers refuse an
/// MTU whose frames do not fit a page.
pub const STEER_FRAGS_PROGRAM: &str = "ringdns_steer_frags";
/// XSKMAP: receive queue to AF_XDP socket.
pub const SOCKETS_MAP: &str = "XSKS";
/// Hash map: [`ListenKey`] to the position of that address in the configuration.
pub const LISTEN_MAP: &str = "LISTEN";
/// Per-CPU array of packet counts, indexed by [`Verdict`].
pub const VERDICTS_MAP: &str = "VERDICTS";

/// How many addresses ringdns can listen on at most.
pub const MAX_LISTEN: u32 = 256;
/// The longest frame in bytes that is handed to a socket: one of a standard link, with two VLAN tags. AF_XDP drops what
/// exceeds a chunk of 2048 bytes less the kernel's headroom of 256, and ours.
pub const MAX_FRAME: usize = 1536;
/// How many receive queues can have a socket: more than any NIC of today has.
pub const MAX_QUEUES: u32 = 1024;
