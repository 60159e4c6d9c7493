//! The data plane of ringdns: pinned workers that answer DNS from their own cache.
//!
//! One thread per NIC queue, one [`worker::Worker`] per thread. A worker owns everything that it
//! touches on the fast path: the [`port::Port`] it receives from and sends to, the frames in
//! flight, the [`cache::Cache`]. It shares with the control plane only bounded queues, a doorbell
//! and counters that it alone writes.
//!
//! ```text
//!            ┌──────────────────────── worker (pinned thread) ────────────────────────┐
//!  NIC ──► Port::recv ──► Processor::run: glance │ probe │ reply ──► Port::send ──► NIC
//!            ▲                                    │ miss             ▲                │
//!            └─ refill, reclaim, kick: Port::flush│                  │ answer, insert │
//!            └───────────────────────────────────┼──────────────────┼────────────────┘
//!                                        punt queue│                  │completion queue
//!                                                  ▼                  │
//!                                         control plane (tokio): host tier, upstreams
//! ```
//!
//! Everything from [`process`] down runs without a kernel: the simulator [`port::sim`] replaces the
//! NIC in tests, fuzzing and instruction counts.

pub mod access;
pub mod cache;
pub mod capture;
pub mod census;
pub mod checksum;
pub mod clock;
pub mod demand;
pub mod dns;
pub mod doorbell;
pub mod frame;
pub mod group;
pub mod inspection;
pub mod labels;
pub mod latency;
pub mod limiter;
pub mod log;
pub mod mac;
pub mod mirror;
pub mod packet;
pub mod policy;
mod pool;
pub mod port;
pub mod prefix;
pub mod process;
pub mod punt;
pub mod purge;
pub mod region;
pub mod sighting;
mod simd;
pub mod stats;
pub mod totals;
pub mod trie;
pub mod worker;
