//! `[local]`: names answered locally, without asking an upstream.

use crate::table::table;

table! {
    /// Names answered locally, without asking an upstream.
    "[local]" RawLocal {
        /// Whether names without a meaning in the public DNS are answered locally: `localhost`,
        /// `invalid`, `test`, `onion`, `alt`, `local`, `home.arpa`, and the reverse zones of
        /// private addresses (RFC 6761, 6762, 6303, 7686, 8375, 9476). A zone of an `[[upstream]]`
        /// takes precedence.
        special_names: bool = true,
    }
}

/// Names answered locally, without asking an upstream.
#[derive(Clone, Copy, Debug)]
pub struct LocalConfig {
    /// Whether special-use names are answered locally.
    pub special_names: bool,
}

impl RawLocal {
    /// Returns the values, none of which needs a check.
    pub fn check(self) -> LocalConfig {
        LocalConfig { special_names: self.special_names }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::minimal_with;

    #[test]
    fn special_names_can_be_switched_off() {
        assert!(minimal_with("").local.special_names);
        assert!(!minimal_with("[local]\nspecial_names = false").local.special_names);
    }
}
