//! Finds answers in the host tier, in the tier that appliances share, and at upstreams.
//!
//! ```text
//!  pump, sweep, snapshot ─► flight (Resolver) ─┬─► host
//!                                              ├─► tier (implemented by ringdns-fleet)
//!                                              ├─► validate ─► (asks by way of a trait)
//!                                              └─► upstream ─► udp, stream, message
//! ```
//!
//! A folder uses those to the right of it and below it; none of them uses the folder.

#![forbid(unsafe_code)]

mod data;
mod dns64;
pub mod flight;
mod hints;
pub mod host;
pub mod local;
pub mod message;
pub mod policy;
pub mod pump;
mod rebinding;
pub mod resolved;
pub mod snapshot;
pub mod sweep;
pub mod tier;
pub mod upstream;
pub mod validate;
pub mod watch;

pub use flight::{Asked, AwaitedAnswer, FlightLimits, Resolver, ResolverCounters};
pub use resolved::{Client, Resolved};
pub use upstream::{choice::Upstreams, turn::Turn};
