//! `[access]`: clients that may query.

use crate::{error::Problem, lists::prefixes, table::table, values::choice};
use ringdns_dataplane::{policy::Refusal, prefix::Prefix};

/// Prefixes allowed to query by default (RFC 5358). Their hosts cannot be reached, and cannot
/// query, from everywhere: this host, private networks (RFC 1918, RFC 6598, RFC 4193), and
/// neighbours on the link.
const PRIVATE: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

table! {
    /// Access list: the longest prefix that contains the client's address decides. A resolver that
    /// answers everybody can be abused for amplification attacks with forged addresses (RFC 5358).
    /// To serve a network with public addresses, list its prefixes.
    "[access]" RawAccess {
        /// Prefixes (`"198.51.100.0/22"`, `"2001:db8::/32"`) and single addresses allowed to query.
        /// A list given here replaces the default.
        allow: Vec<String> = PRIVATE.map(str::to_owned).to_vec(),
        /// Prefixes and single addresses excluded from `allow`, unless a longer prefix in `allow`
        /// contains the client.
        deny: Vec<String> = Vec::new(),
        /// Response to other clients: `"answer"`: REFUSED, with the extended error Prohibited;
        /// `"drop"`: nothing.
        refused: Refused = Refused::Answer,
    }
}

choice! {
    /// Response to clients that the access list excludes.
    Refused {
        /// Answers REFUSED.
        #[default]
        Answer = "answer",
        /// Sends nothing.
        Drop = "drop",
    }
}

/// Access list.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// Prefixes allowed to query.
    pub allow: Vec<Prefix>,
    /// Prefixes excluded from `allow`.
    pub deny: Vec<Prefix>,
    /// Response to other clients.
    pub refusal: Refusal,
}

impl RawAccess {
    /// Returns the checked values.
    pub fn check(self) -> Result<AccessConfig, Problem> {
        Ok(AccessConfig {
            allow: prefixes("access.allow", &self.allow)?,
            deny: prefixes("access.deny", &self.deny)?,
            refusal: match self.refused {
                Refused::Answer => Refusal::Answer,
                Refused::Drop => Refusal::Drop,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn a_list_replaces_the_default() {
        assert_eq!(minimal_with("").access.allow.len(), PRIVATE.len());
        let access = minimal_with("[access]\nallow = [\"198.51.100.0/22\"]\nrefused = \"drop\"").access;
        assert_eq!((access.allow.len(), access.deny.len()), (1, 0));
        assert_eq!(access.refusal, Refusal::Drop);
    }

    #[test]
    fn wrong_values_are_refused() {
        let allow = "allow = [\"10.0.0.0/8\", \"10/8\"]";
        let neither = "neither an address nor a prefix";
        refused(
            &format!("{MINIMAL}[access]\n"),
            &[
                [allow, "6", "access.allow[1]", neither, "198.51"],
                ["deny = [\"10.0.0.1/8\"]", "6", "access.deny[0]", "bits set beyond", "single address"],
                ["refused = \"ignore\"", "6", "access.refused", "ignore", "Correct the value"],
            ],
        );
    }
}
