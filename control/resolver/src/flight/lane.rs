//! Lanes of questions in flight.

/// Origin of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Client, renewal, or validation of another question.
    Client,
    /// Question that follows an alias.
    Hop,
}

/// Lanes of questions in flight. A question may wait for one in another lane, and never for one in
/// its own, so that no two wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Questions of clients and validations. They may wait for hops.
    Clients,
    /// Questions that follow an alias. They wait for no others.
    Hops,
    /// Questions whose answers are validated. They wait for the others.
    Validations,
}

impl Lane {
    /// Returns the lane of a question.
    pub fn of(asker: Origin, validated: bool) -> Self {
        match (validated, asker) {
            (true, _) => Lane::Validations,
            (false, Origin::Client) => Lane::Clients,
            (false, Origin::Hop) => Lane::Hops,
        }
    }
}
