//! Policy on names: lists of rules in the formats that people have, and the verdict on a question.
//!
//! The crate does no I/O and reads no clock: a caller hands in the bytes of a list.

pub mod changed;
pub mod clients;
pub mod data;
pub mod groups;
pub mod list;
pub mod loopback;
pub mod names;
pub mod overrides;
pub mod place;
pub mod policy;
pub mod rule;
pub mod text;
