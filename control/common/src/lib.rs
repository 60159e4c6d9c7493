//! Small pieces that several crates of the control plane share, each of one kind: none knows what it is used for.

#![forbid(unsafe_code)]

pub mod backroom;
pub mod cores;
pub mod counters;
pub mod history;
pub mod labels;
pub mod message;
pub mod names;
pub mod units;
