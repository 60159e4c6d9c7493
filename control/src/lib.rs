//! The control plane of ringdns: everything that is not a hit.

#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod cores;
pub mod counters;
pub mod daemon;
pub mod entrance;
pub mod host;
pub mod latency;
pub mod listen;
pub mod names;
pub mod preflight;
pub mod pump;
pub mod resolver;
pub mod workers;
pub mod xdp;
