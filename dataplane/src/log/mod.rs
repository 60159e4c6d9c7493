//! The query log's first stretch: from a reply that stands in its frame to a record, in batches that the worker lends.
//!
//! A worker owns a fixed number of [`Batch`]es. It fills one with records as it answers, pushes it to the control plane when it
//! is full or 100 ms old, and gets it back empty. The batch itself moves, so it is in one place only, and a control plane
//! that is slow can hold no more than there are: then what would be recorded is dropped, and counted. A worker that logs
//! nothing pays for one branch a burst.

mod batch;
mod recorder;
mod sieve;

pub use batch::{Batch, Line, Logged};
pub use recorder::{Recorder, Setup};
pub use sieve::{Picks, Sieve};

use crate::dns::{rcode, reply::Age};

/// Declares an enum whose values have names, and numbers that stay as they are: they are stored.
macro_rules! labelled {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal => $label:literal,)* })*) => {$(
        $(#[$meta])*
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name in logs.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }
        }
    )*};
}

labelled! {
    /// How a query came.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    Protocol {
        /// UDP, by way of AF_XDP.
        Udp = 1 => "udp",
        /// UDP, by way of a kernel socket.
        UdpSocket = 2 => "udp-socket",
        /// TCP.
        Tcp = 3 => "tcp",
    }

    /// What became of it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    Outcome {
        /// Answered with what was known, and had not expired.
        #[default]
        Hit = 1 => "hit",
        /// Answered with what had expired (RFC 8767).
        Stale = 2 => "stale",
        /// Answered with what had to be found out.
        Miss = 3 => "miss",
        /// Answered that it could not be found out, then or before (RFC 9520).
        Failure = 4 => "failure",
        /// Answered without being looked up: it cannot be understood, is not allowed, or asks about this server.
        Rejected = 5 => "rejected",
    }

    /// Who had the answer.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    Tier {
        /// Nobody.
        #[default]
        None = 0 => "none",
        /// The worker's own cache.
        Core = 1 => "core",
        /// The cache of this host.
        Host = 2 => "host",
        /// The cache of the fleet.
        Fleet = 3 => "fleet",
        /// An upstream.
        Upstream = 4 => "upstream",
        /// This program, which knows some names by itself.
        Local = 5 => "local",
    }
}

/// Where an answer was found, and what that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Who had it.
    pub tier: Tier,
    /// The upstream's number, if one had it, and it was one of the first 256.
    pub upstream: Option<u8>,
    /// How long that took to answer, in microseconds.
    pub upstream_us: u32,
}

impl Source {
    /// One that takes no time worth telling.
    pub fn of(tier: Tier) -> Self {
        Source { tier, ..Source::default() }
    }

    /// What becomes of a query that is answered with this response code, this old, from here.
    pub fn outcome(self, rcode: u8, age: Age) -> Outcome {
        match (age, self.tier) {
            _ if !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN) => Outcome::Failure,
            (Age::Stale(_), _) => Outcome::Stale,
            (_, Tier::Upstream | Tier::Local) => Outcome::Miss,
            (_, Tier::None | Tier::Core | Tier::Host | Tier::Fleet) => Outcome::Hit,
        }
    }
}

#[cfg(test)]
mod tests;
