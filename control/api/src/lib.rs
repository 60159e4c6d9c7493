//! Types of ringdnsd's HTTP API, as JSON: what `ringdnsd` answers and `ringctl` reads.
//!
//! Values alone: nothing here does anything but tell what it holds.

#![forbid(unsafe_code)]

mod status;
mod sweeps;

pub use status::{EntryView, Purged, Reloaded, ResourceUsage, Status, Times, UpstreamStatus};
pub use sweeps::{RedisSweep, Removed, Report, Skipped, Sweeps, Swept, Told};
