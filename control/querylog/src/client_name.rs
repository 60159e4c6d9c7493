//! Names of clients, which rows tell.

use ringdns_common::counters::Total;
use std::{net::Ipv6Addr, sync::Arc};

/// Source of the names of clients. The collector asks it for each row, so it must not wait.
pub trait ClientNaming: Send + Sync {
    /// Returns the name of a client, whose IPv4 address is mapped, if it is known.
    fn name_of(&self, client: Ipv6Addr) -> Option<Arc<str>>;

    /// Returns the numbers of names, with help texts.
    fn gauges(&self) -> Vec<Total>;

    /// Returns the counters, with help texts.
    fn totals(&self) -> Vec<Total>;
}
