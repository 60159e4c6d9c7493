//! Control plane of ringdns: everything but cache hits.
//!
//! ```text
//!  workers ──punts──► pump ─┬─ in the host tier ────────────────────────────► back to the worker
//!  TCP clients ─► listen ───┤                                                 or to the TCP client
//!                           └─ else: one query per question ─► upstreams ─► host tier ─► waiters
//! ```
//!
//! There is one process: [`daemon`] starts [`workers`] on cores of their own, over AF_XDP or kernel
//! sockets ([`entrance`]), and the control plane on a small tokio runtime on the remaining cores
//! (`ringdns_common::cores`). If a worker ends without a request, the process ends: half a service
//! is worse than one that its supervisor restarts.

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod attach;
pub mod bans;
pub mod busiest;
mod client_names;
pub mod control_socket;
pub mod daemon;
mod decisions;
pub mod entrance;
pub mod error;
pub mod firewall;
pub mod latency;
pub mod listen;
pub mod lists;
pub mod local;
pub mod logging;
pub mod memory;
pub mod nic;
mod outputs;
pub mod panics;
pub mod parts;
pub mod policy;
pub mod preflight;
pub mod probe;
pub mod problems;
pub mod process;
pub mod reload;
mod runtime;
pub mod sandbox;
pub mod service_manager;
pub mod stop;
pub mod tokens;
mod upstream_messages;
pub mod verdict;
pub mod workers;
