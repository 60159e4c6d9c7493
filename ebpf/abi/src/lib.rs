//! Interface between the XDP programs and the processes that load them.
//!
//! The programs are compiled for the BPF virtual machine and their loaders for the host, from two
//! workspaces, so only this crate keeps the two in step: names and layouts of maps, the meaning of
//! each counter, and the code that decides about a packet. That code works on any [`Packet`], so
//! that `cargo test` runs on plain slices exactly what the kernel runs on frames.

#![no_std]

mod access;
mod checksum;
mod decision;
mod host;
mod link;
mod listen;
mod steer;
mod verdict;
mod vlan;

pub mod generator;

pub use access::{AccessKey, AccessRule, AccessSide, MAX_ACCESS};
pub use checksum::{fold, sum};
pub use decision::{Tables, decide};
pub use host::{AddressKind, HostAddress, MAX_BANS, MAX_HOST_ADDRESSES};
pub use link::{MAX_LINK_ADDRESSES, is_for_this_host, link_address};
pub use listen::ListenKey;
pub use steer::{Datagram, Packet, classify};
pub use verdict::Verdict;
pub use vlan::{ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, MAX_VLANS, VlanKey};

/// Name, in the object, of the program that redirects DNS queries to AF_XDP sockets.
pub const STEER_PROGRAM: &str = "ringdns_steer";
/// Name of the steering program for frames in several buffers (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18).
/// Without it, drivers refuse an MTU whose frames do not fit a page.
pub const STEER_FRAGS_PROGRAM: &str = "ringdns_steer_frags";
/// XSKMAP: receive queue to AF_XDP socket.
pub const SOCKETS_MAP: &str = "XSKS";
/// Hash map: [`ListenKey`] to the position of that address in the configuration.
pub const LISTEN_MAP: &str = "LISTEN";
/// Array of the link addresses of this host, as [`link_address`] writes them, the first zero being the
/// end.
pub const LINK_ADDRESSES_MAP: &str = "LINK_ADDRESSES";
/// Longest-prefix-match trie: [`HostAddress`] to [`AddressKind`], as in the kernel's table of local routes,
/// and banned prefixes of clients, so that one look-up of a source serves both.
pub const HOST_ADDRESSES_MAP: &str = "HOST_ADDRESSES";
/// Longest-prefix-match trie: [`AccessKey`] to [`AccessRule`], two access lists at a time at most.
pub const ACCESS_MAP: &str = "ACCESS";
/// Array of one value: the [`AccessSide`] whose list is in effect.
pub const ACCESS_SIDE_MAP: &str = "ACCESS_SIDE";
/// Hash map: [`VlanKey`] of each VLAN whose frames are steered. Frames without a VLAN always are.
pub const VLANS_MAP: &str = "VLANS";
/// Per-CPU array of packet counts, indexed by [`Verdict`].
pub const VERDICTS_MAP: &str = "VERDICTS";

/// Most addresses that ringdns can listen on.
pub const MAX_LISTEN: u32 = 256;
/// Longest redirected frame in bytes: of a standard link, with two VLAN tags. AF_XDP drops frames
/// above a 2048-byte chunk less the kernel's headroom of 256, and ours.
pub const MAX_FRAME: usize = 1536;
/// Most receive queues that can have a socket: more than any NIC today has.
pub const MAX_QUEUES: u32 = 1024;
