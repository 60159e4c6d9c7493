//! Validation of DNS answers (RFC 4033 to 4035, RFC 5155, RFC 6840): responses in, a verdict out.
//!
//! This crate has no I/O and no clock, and remembers nothing but what [`Ranges`] keeps for its owner.
//! The caller implements [`ResponseSource`], which fetches
//! the responses that prove an answer, and remembers the standing of zones. Cryptography is left to
//! ring; the rules of signatures and denials are here.

#![forbid(unsafe_code)]

mod anchor;
mod answer;
mod budget;
mod crypto;
mod denial;
pub mod ede;
mod message;
mod name;
mod proven;
mod ranges;
pub mod rdata;
mod records;
mod signature;
#[cfg(test)]
mod testing;
mod trust_point;
mod walk;

pub use anchor::{Anchors, TrustAnchor, Unusable};
pub use answer::validate;
use budget::Spent;
pub use denial::denies_name;
pub use message::{Response, Unreadable};
pub use name::{NAME_MAX, Name, expand, expand_where, wire_len};
pub use proven::{ProvenAnswer, ProvenRecord, SignedSet};
pub use ranges::{Asking, Ranges};
pub use signature::Keys;
use std::{future::Future, sync::Arc};
pub use trust_point::{KeyChange, KeyEvent, KeyState, ManagedKey, Observed, RefreshTimes, TrustPoint};
pub use walk::Standing;

/// Provider of the responses that an answer is proven with.
pub trait ResponseSource: Sync {
    /// Reason for a response that cannot be had.
    type Error: Send;

    /// Returns the response to a question, asked with DO=1 and CD=1.
    fn ask(
        &self,
        name: &Name,
        rtype: u16,
    ) -> impl Future<Output = Result<Arc<Response>, Unproven<Self::Error>>> + Send;

    /// Returns the remembered standing of a zone, unless it has expired.
    fn recall(&self, zone: &Name) -> Option<Standing>;

    /// Remembers the standing of a zone, for at most `secs` seconds.
    fn remember(&self, zone: &Name, standing: &Standing, secs: u32);

    /// Whether answers about a name are accepted without proof, as unsigned: a negative trust
    /// anchor (RFC 7646), or a name without a meaning in the signed tree.
    fn is_exempt(&self, name: &Name, rtype: u16) -> bool;
}

/// Reason for the absence of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven<E> {
    /// The answer is bogus, for the reason in an extended error.
    Bogus(u16),
    /// A response that would prove the answer could not be had.
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
