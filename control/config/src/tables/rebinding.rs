//! `[rebinding]`: private addresses in answers for public names.

use crate::{error::Problem, lists::zones, table::table, values::choice};

table! {
    /// Protection against DNS rebinding: a public name with a private address lets a web page reach
    /// hosts of the local network. Answers of upstreams lose such addresses before clients get them.
    /// Private are 0.0.0.0/8, 10.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12,
    /// 192.168.0.0/16, ::1, fc00::/7, fe80::/10, fec0::/10, and IPv6 addresses that contain one of
    /// them (IPv4-mapped, 6to4, NAT64). Names of an `[[upstream]]` with `zones` may have them, and so
    /// may local data and special names.
    "[rebinding]" RawRebinding {
        /// Whether answers are protected.
        enabled: bool = false,
        /// Names that may have private addresses, each with all names below it:
        /// `["corp.example"]`. A DNS block list that answers with 127.0.0.2 needs an entry.
        allow: Vec<String> = Vec::new(),
        /// Action on an answer that has some: `"remove"`: the addresses, and HTTPS and SVCB records that
        /// have them, are removed, and the rest remains; `"refuse"`: the answer is REFUSED. Both
        /// have the extended error Blocked.
        action: RebindingAction = RebindingAction::Remove,
    }
}

choice! {
    /// Action on an answer with private addresses.
    RebindingAction {
        /// The addresses are removed.
        #[default]
        Remove = "remove",
        /// The answer is REFUSED.
        Refuse = "refuse",
    }
}

/// Protection against DNS rebinding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebindingConfig {
    /// Whether answers are protected.
    pub enabled: bool,
    /// Names that may have private addresses, with the names below them, in wire format.
    pub allow: Vec<Vec<u8>>,
    /// Action on an answer with private addresses.
    pub action: RebindingAction,
}

impl RawRebinding {
    /// Returns the checked values.
    pub fn check(self) -> Result<RebindingConfig, Problem> {
        let allow = zones("rebinding.allow", &self.allow)?;
        Ok(RebindingConfig { enabled: self.enabled, allow, action: self.action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn values_are_read() {
        assert_eq!(minimal_with("").rebinding, RebindingConfig::default());
        let text = "[rebinding]\nenabled = true\nallow = [\"Corp.example\"]\naction = \"refuse\"";
        let allow = vec![b"\x04corp\x07example\0".to_vec()];
        let expected = RebindingConfig { enabled: true, allow, action: RebindingAction::Refuse };
        assert_eq!(minimal_with(text).rebinding, expected);
        refused(
            &format!("{MINIMAL}[rebinding]\n"),
            &[["allow = [\"*..a\"]", "6", "rebinding.allow[0]", "*..a", "corp.example"]],
        );
    }
}
