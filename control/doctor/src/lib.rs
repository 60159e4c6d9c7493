//! Facts about a host and its NIC, and the verdicts on them.
//!
//! [`Facts::gather`] reads; [`judge`] only compares, so that it is tested with facts of machines that are
//! not there. `ringctl doctor` and ringdnsd use the same checks; ringdnsd, inside its sandbox, reads less.

#![forbid(unsafe_code)]

mod access;
mod certificate;
pub mod changes;
pub mod ethtool;
mod facts;
pub mod host;
mod judge;
pub mod machine;
mod neighbours;
pub mod nic;
pub mod steps;
mod undo;
mod upstreams;
mod wanted;

pub use access::Access;
pub use certificate::Certificate;
pub use facts::{Checked, CheckedSeverity, Facts, Process, Reach, Route, daemon};
pub use judge::{PACKET_MEMORY, Target, judge, nic_findings, of_problem};
pub use neighbours::Neighbour;
pub use undo::{Applied, UndoError, UndoFile, reset_refused};
pub use wanted::{Wanted, WantedUpstream};
