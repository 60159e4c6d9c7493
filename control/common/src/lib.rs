//! Small modules that several crates of the control plane share. None depends on its users.

#![forbid(unsafe_code)]

pub mod backroom;
pub mod cgroup;
pub mod cores;
pub mod counters;
pub mod fault;
pub mod files;
pub mod filter;
pub mod history;
pub mod mask;
pub mod message;
pub mod names;
pub mod network;
pub mod printable;
pub mod shared_core;
pub mod units;
