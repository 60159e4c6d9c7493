//! `[dnssec]`: local validation.

use crate::{error::Problem, lists::zones, table::table};
use std::path::PathBuf;

table! {
    /// Local DNSSEC validation (RFC 4035). With validation on, answers that fail it become
    /// SERVFAIL, and the AD bit reports the local result, whatever upstreams say. Clients that set
    /// CD get answers as they came.
    "[dnssec]" RawDnssec {
        /// Whether answers are validated. Upstreams must return signatures (they are asked with
        /// DO=1 and CD=1) and resolve the public DNS, or another one with a signed root. The
        /// records that prove answers are kept in the host cache beside them.
        validate: bool = false,
        /// File with the DS or DNSKEY records of the trusted zones, in zone-file format, read at
        /// the start. Where such zones lie within each other, the one closest to a name counts;
        /// names below none of them are not validated. Absent: the root's keys of 2017 and 2024.
        /// With `managed_anchor_file`, these are only the first keys.
        trust_anchor_file: Option<String> = None,
        /// File in which ringdnsd keeps the keys of the trusted zones and their states, so that it
        /// learns the keys that replace them: `"/var/lib/ringdns/trust-anchors"` (RFC 5011). A new
        /// key is trusted once it has been in the zone, signed by a trusted key, for 30 days; a
        /// revoked key is never trusted again. ringdnsd creates the file. For a zone that is in
        /// the file, `trust_anchor_file` no longer counts. Absent: trusted keys never change.
        managed_anchor_file: Option<String> = None,
        /// Names at and below which nothing is validated (RFC 7646), unless a trust anchor is
        /// closer to the name. A private zone needs an entry unless a signed zone delegates it or
        /// it has a trust anchor. The same holds for a zone that an `[[upstream]]` of its own
        /// answers for: `["corp.example"]`. Special names of `[local]` need no entry.
        insecure: Vec<String> = Vec::new(),
        /// Whether validated denials (NSEC, and NSEC3 without opt-out) also answer other questions
        /// about names and types that do not exist, and with a validated wildcard those about names
        /// that have its records, with proof and without asking upstreams (RFC 8198): a flood of
        /// made-up names in a signed zone then costs its servers little. Such answers have the
        /// extended error 29.
        aggressive: bool = true,
    }
}

/// DNSSEC validation in this process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnssecConfig {
    /// Whether answers are validated.
    pub validate: bool,
    /// File with trusted zones and their keys; `None`: the keys of the public root.
    pub trust_anchor_file: Option<PathBuf>,
    /// File with the states of keys that ringdnsd manages; `None`: trusted keys never change.
    pub managed_anchor_file: Option<PathBuf>,
    /// Names on the wire, lowercased, at and below which nothing is validated.
    pub insecure: Vec<Vec<u8>>,
    /// Whether validated denials answer other questions.
    pub aggressive: bool,
}

impl RawDnssec {
    /// Returns the checked values.
    pub fn check(self) -> Result<DnssecConfig, Problem> {
        if let Some(file) = &self.managed_anchor_file {
            let refused =
                |reason: &str, remedy: &str| Problem::new("dnssec.managed_anchor_file", reason, remedy);
            if file.is_empty() || file.ends_with('/') {
                let remedy = "Write \"/var/lib/ringdns/trust-anchors\"";
                return Err(refused("this is not the path of a file", remedy));
            }
            if self.trust_anchor_file.as_ref() == Some(file) {
                let reason = "this is dnssec.trust_anchor_file, which has another format";
                return Err(refused(reason, "Give the path of a file of its own, which ringdnsd creates"));
            }
        }
        Ok(DnssecConfig {
            validate: self.validate,
            trust_anchor_file: self.trust_anchor_file.map(Into::into),
            managed_anchor_file: self.managed_anchor_file.map(Into::into),
            insecure: zones("dnssec.insecure", &self.insecure)?,
            aggressive: self.aggressive,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn insecure_names_are_lowercased_on_the_wire() {
        let dnssec = minimal_with("[dnssec]\nvalidate = true\ninsecure = [\"Corp.Example\"]").dnssec;
        assert!(dnssec.validate && dnssec.aggressive);
        assert!(!minimal_with("[dnssec]\nvalidate = true\naggressive = false").dnssec.aggressive);
        assert_eq!(dnssec.insecure, [b"\x04corp\x07example\0".to_vec()]);
    }

    #[test]
    fn wrong_values_are_refused() {
        let same = "managed_anchor_file = \"a\"\ntrust_anchor_file = \"a\"";
        let key = "dnssec.managed_anchor_file";
        refused(
            &format!("{MINIMAL}[dnssec]\n"),
            &[
                ["managed_anchor_file = \"/var/lib/\"", "6", key, "not the path", "Write"],
                ["managed_anchor_file = \"\"", "6", key, "not the path", "Write"],
                [same, "6", key, "another format", "of its own"],
                ["insecure = [\"a..b\"]", "6", "dnssec.insecure[0]", "a..b", "corp.example"],
            ],
        );
    }
}
