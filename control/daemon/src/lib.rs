//! The control plane of ringdns: everything that is not a hit.
//!
//! ```text
//!  workers ──punts──► pump ─┬─ in the host tier ────────────────────────────► back to the worker
//!  TCP clients ─► listen ───┤                                                 or to the TCP client
//!                           └─ else: one flight a question ─► upstreams ─► host tier ─► all who wait
//! ```
//!
//! One process: [`daemon`] starts [`workers`] on cores of their own, over AF_XDP or kernel sockets ([`entrance`]), and
//! everything here on a small tokio runtime on the cores that are left (`ringdns_common::cores`). A worker that ends unasked ends
//! the process: half a service is worse than one that its supervisor restarts.

#![forbid(unsafe_code)]

pub mod admin;
pub mod daemon;
pub mod entrance;
pub mod latency;
pub mod listen;
pub mod nic;
pub mod notices;
pub mod policy;
pub mod preflight;
pub mod process;
pub mod reload;
pub mod workers;
