//! The control plane of ringdns: everything that is not a hit.

#![forbid(unsafe_code)]

pub mod config;
pub mod counters;
pub mod host;
pub mod names;
pub mod xdp;
