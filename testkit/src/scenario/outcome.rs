//! Outcome of playing a scenario.

use std::fmt;

/// Observations from playing, for tests that need many queries.
#[derive(Debug, Default)]
pub struct Told {
    /// IDs of the clients' queries.
    pub client_ids: Vec<u16>,
    /// IDs and ports of the queries that upstreams saw over UDP.
    pub upstream_ids: Vec<(u16, u16)>,
}

/// Failure of a scenario.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    pub fn new(text: String) -> Self {
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
