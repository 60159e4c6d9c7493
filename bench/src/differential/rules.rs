//! Known differences and their reasons: `bench/differential/rules.toml`.

use super::{
    ORIGIN, OURS,
    probe::Probe,
    reply::{Difference, Field},
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// Every peer, and all of them together.
pub const OTHERS: &str = "others";

/// Server that is right where ringdns and a peer differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// The standards leave it open, or it is a matter of configuration.
    Either,
    /// ringdns is right.
    Ringdns,
    /// The peer is right: ringdns has a defect.
    Peer,
}

/// Class of differences. A difference must match all of its conditions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the class.
    pub class: String,
    /// Servers that ringdns differs from: servers by name, `all` where all peers agree, `others`
    /// for both, `*` for any server; none of them means a ringdnsd.
    pub peers: Vec<String>,
    /// Fields that differ.
    pub fields: Vec<Field>,
    /// Tags that the query must have.
    #[serde(default)]
    pub when: Vec<String>,
    /// Tags of which the query must have one.
    #[serde(default)]
    pub any: Vec<String>,
    /// Tags that the query must not have.
    #[serde(default)]
    pub unless: Vec<String>,
    /// Values of ringdns; any if absent.
    pub ours: Option<Vec<String>>,
    /// Values of the other server; any if absent.
    pub theirs: Option<Vec<String>>,
    /// Server that is right.
    pub right: Right,
    /// Reason for the difference.
    pub reason: String,
}

/// All rules; the first that matches counts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(rename = "rule", default)]
    rules: Vec<Rule>,
}

impl Rules {
    /// Reads the rules from a file, or takes the built-in ones.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let (text, name) = match path {
            Some(path) => {
                let text = fs::read_to_string(path);
                (text.with_context(|| format!("cannot read {}", path.display()))?, path.display().to_string())
            }
            None => {
                (include_str!("../../differential/rules.toml").into(), "bench/differential/rules.toml".into())
            }
        };
        let rules: Rules = toml::from_str(&text).with_context(|| format!("{name} holds no rules"))?;
        for rule in &rules.rules {
            ensure!(
                !rule.peers.is_empty() && !rule.fields.is_empty() && rule.reason.len() > 10,
                "{name}: the rule \"{}\" names no peers or fields, or gives no reason",
                rule.class
            );
        }
        Ok(rules)
    }

    /// Returns all rules.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Returns the index of the rule that explains a difference from `peer`.
    pub fn explain(&self, probe: &Probe, peer: &str, difference: &Difference) -> Option<usize> {
        self.rules.iter().position(|rule| rule.fits(probe, peer, difference))
    }
}

impl Rule {
    fn fits(&self, probe: &Probe, peer: &str, difference: &Difference) -> bool {
        let allows =
            |values: &Option<Vec<String>>, said: &String| values.as_ref().is_none_or(|v| v.contains(said));
        self.fields.contains(&difference.field)
            && self.peers.iter().any(|named| match named.as_str() {
                "*" => !peer.starts_with(OURS),
                OTHERS => peer != ORIGIN && !peer.starts_with(OURS),
                named => named == peer,
            })
            && self.when.iter().all(|tag| probe.tags.contains(tag))
            && (self.any.is_empty() || self.any.iter().any(|tag| probe.tags.contains(tag)))
            && !self.unless.iter().any(|tag| probe.tags.contains(tag))
            && allows(&self.ours, &difference.ours)
            && allows(&self.theirs, &difference.theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Over;
    use std::io::Write;

    fn rules(text: &str) -> Result<Rules> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Rules::read(Some(file.path()))
    }

    const RULE: &str = "[[rule]]\nclass = 'c'\npeers = ['unbound']\nfields = ['rcode']\nwhen = ['ANY']\nunless = ['tcp']\n\
                        ours = ['NOERROR']\nright = 'either'\nreason = 'because it is so'\n";

    #[test]
    fn a_rule_fits_only_if_all_of_it_holds() {
        let rules = rules(RULE).unwrap();
        let explain = |peer: &str, field, ours: &str, tags: &[&str]| {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let probe = Probe { message: Vec::new(), over: Over::Udp, tags, text: String::new() };
            let difference =
                Difference { field, ours: ours.into(), theirs: "x".into(), detail: String::new() };
            rules.explain(&probe, peer, &difference)
        };
        assert_eq!(explain("unbound", Field::Rcode, "NOERROR", &["ANY"]), Some(0));
        assert_eq!(explain("all", Field::Rcode, "NOERROR", &["ANY"]), None);
        assert_eq!(explain("unbound", Field::Aa, "NOERROR", &["ANY"]), None);
        assert_eq!(explain("unbound", Field::Rcode, "SERVFAIL", &["ANY"]), None);
        assert_eq!(explain("unbound", Field::Rcode, "NOERROR", &["A"]), None);
        assert_eq!(explain("unbound", Field::Rcode, "NOERROR", &["ANY", "tcp"]), None);
    }

    #[test]
    fn a_rule_that_says_too_little_or_is_misspelled_is_refused() {
        assert!(rules(&RULE.replace("because it is so", "")).is_err());
        assert!(rules(&RULE.replace("['unbound']", "[]")).is_err());
        assert!(rules(&RULE.replace("when", "whenever")).is_err());
    }
}
