//! First stage of the query log: from a reply in its frame to a record, in batches that the worker
//! lends.
//!
//! A worker owns a fixed number of [`Batch`]es. It fills one with records as it answers, pushes it
//! to the control plane when it is full or 100 ms old, and gets it back empty. The batch itself
//! moves, so it is in one place only, and a slow control plane cannot hold more than there are. If
//! all are with the control plane, records are dropped and counted. A worker that logs nothing pays
//! for one branch per burst.

pub(crate) mod batch;
mod sieve;

use std::sync::Arc;

pub use batch::{Batch, Line, Logged};
pub use sieve::{Picks, Sieve};

use crate::dns::{rcode, reply::Age};

/// Declares an enum whose values have names and fixed numbers: the numbers are stored.
macro_rules! labelled {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal => $label:literal,)* })*) => {$(
        $(#[$meta])*
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// All values, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// Returns the name in logs.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }
        }
    )*};
}

labelled! {
    /// Transport of a query.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    Protocol {
        /// UDP over AF_XDP.
        Udp = 1 => "udp",
        /// UDP over a kernel socket.
        UdpSocket = 2 => "udp-socket",
        /// TCP.
        Tcp = 3 => "tcp",
    }

    /// Outcome of a query.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    Outcome {
        /// Answered from a cache, with an answer that had not expired.
        #[default]
        Hit = 1 => "hit",
        /// Answered with an expired answer (RFC 8767).
        Stale = 2 => "stale",
        /// Answered after resolution.
        Miss = 3 => "miss",
        /// Answered with a failure of resolution, new or cached (RFC 9520).
        Failure = 4 => "failure",
        /// Answered without a lookup: it cannot be parsed, is not allowed, is over the rate limit,
        /// or asks about this server.
        Rejected = 5 => "rejected",
        /// Answered by a list.
        Blocked = 6 => "blocked",
    }

    /// Source of an answer.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    Tier {
        /// No source.
        #[default]
        None = 0 => "none",
        /// Worker cache.
        Core = 1 => "core",
        /// Host cache.
        Host = 2 => "host",
        /// Fleet cache.
        Fleet = 3 => "fleet",
        /// Upstream.
        Upstream = 4 => "upstream",
        /// Answered by ringdns itself, which knows some names.
        Local = 5 => "local",
    }
}

/// Source of an answer, and the time that the upstream took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerSource {
    /// Tier that had the answer.
    pub tier: Tier,
    /// Number of the upstream, if the answer came from one of the first 256.
    pub upstream: Option<u8>,
    /// Time that the upstream took to answer, in microseconds.
    pub upstream_us: u32,
    /// Number of the list that gave the answer, if it is one of the first 256.
    pub list: Option<u8>,
}

impl AnswerSource {
    /// Returns a source without an upstream.
    pub fn of(tier: Tier) -> Self {
        AnswerSource { tier, ..AnswerSource::default() }
    }

    /// Returns the source of an answer that a list gave.
    pub fn by(self, list: Option<u8>) -> Self {
        AnswerSource { list, ..self }
    }

    /// Returns the outcome of a query answered from this source with this response code and age.
    pub fn outcome(self, rcode: u8, age: Age) -> Outcome {
        match (age, self.tier) {
            _ if self.list.is_some() => Outcome::Blocked,
            _ if !matches!(rcode, rcode::NOERROR | rcode::NXDOMAIN) => Outcome::Failure,
            (Age::Stale(_), _) => Outcome::Stale,
            (_, Tier::Upstream | Tier::Local) => Outcome::Miss,
            (_, Tier::None | Tier::Core | Tier::Host | Tier::Fleet) => Outcome::Hit,
        }
    }
}

/// Configuration of a worker's recorder.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Line that batches come from and go to.
    pub line: Arc<Line>,
    /// Filter of the queries to record.
    pub sieve: Arc<Sieve>,
    /// Seed that makes one worker's sample differ from another's.
    pub seed: u64,
}

#[cfg(test)]
mod tests;
