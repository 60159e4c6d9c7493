//! Validation of DNS answers (RFC 4033 to 4035, RFC 5155, RFC 6840): responses in, a verdict out.
//!
//! There is no I/O here, no clock and no memory. Who drives a validation is its [`Source`]: it brings the
//! responses that prove an answer, and remembers what was found out about zones. The cryptography is ring's;
//! which signature has to be of what, and what a denial denies, is decided here.

mod anchor;
mod answer;
mod budget;
mod crypto;
mod denial;
pub mod ede;
mod message;
mod name;
mod rdata;
mod records;
mod signature;
#[cfg(test)]
mod testing;
mod walk;

pub use anchor::{Anchors, Unusable};
pub use answer::{Record, Verdict, validate};
use budget::Spent;
pub use message::{Response, Unreadable};
pub use name::Name;
pub use signature::Keys;
use std::{future::Future, sync::Arc};
pub use walk::Standing;

/// Provider of the responses that an answer is proven with.
pub trait Source: Sync {
    /// Why a response cannot be had.
    type Error: Send;

    /// The response to a question, asked with DO=1 and CD=1.
    fn ask(
        &self,
        name: &Name,
        rtype: u16,
    ) -> impl Future<Output = Result<Arc<Response>, Unproven<Self::Error>>> + Send;

    /// Returns what was found out about a zone and is still to be believed.
    fn recall(&self, zone: &Name) -> Option<Standing>;

    /// Remembers what was found out about a zone, for so many seconds at most.
    fn remember(&self, zone: &Name, standing: &Standing, secs: u32);

    /// Whether what is said of a name is believed without proof: a negative trust anchor (RFC 7646), or a
    /// name that has no meaning in the tree that is signed.
    fn is_exempt(&self, name: &Name, rtype: u16) -> bool;
}

/// Why there is no verdict that an answer can be given by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven<E> {
    /// The answer is not genuine; an extended error says why.
    Bogus(u16),
    /// Something that would prove it could not be had.
    Failed(E),
}

impl<E> From<Spent> for Unproven<E> {
    fn from(_: Spent) -> Self {
        Unproven::Bogus(ede::INDETERMINATE)
    }
}

impl<E> From<Unreadable> for Unproven<E> {
    fn from(_: Unreadable) -> Self {
        Unproven::Bogus(ede::INDETERMINATE)
    }
}
