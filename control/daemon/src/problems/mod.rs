//! Problems of this host, and the form that problems of all parts are found in. `admin/problems` gathers
//! them.

mod addresses;
mod clock;
mod host;
mod stuck;

pub use addresses::absence;
pub use host::HostProblems;

use ringdns_api::ProblemKind;

/// Problem that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Kind.
    pub kind: ProblemKind,
    /// Thing that it is about; empty: the whole process.
    pub subject: String,
    /// Meaning for clients, reason and remedy.
    pub text: String,
}

impl Found {
    /// Returns a problem of a subject.
    pub fn new(kind: ProblemKind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Found { kind, subject: subject.into(), text: text.into() }
    }

    /// Returns a problem of the whole process.
    pub fn whole(kind: ProblemKind, text: impl Into<String>) -> Self {
        Found::new(kind, "", text)
    }
}
