//! Names of this host, which no list decides about.
//!
//! Lists for hosts files have lines such as `localhost` or `localhost.localdomain`, and a list that is read
//! in another format would block the name. Programs on every host use it, so it comes before lists.

use crate::names::last_labels;

/// Zone of this host (RFC 6761 section 6.3), in wire format.
const LOCALHOST: &[u8] = b"\x09localhost\0";

/// Reverse names of the loopback addresses.
const REVERSE: [&[u8]; 2] = [
    b"\x011\x010\x010\x03127\x07in-addr\x04arpa\0",
    b"\x011\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\
      \x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x010\x03ip6\x04arpa\0",
];

/// Whether a name, in wire format and lowercased, is `localhost`, below it, or the reverse name of a
/// loopback address.
#[inline]
pub fn is_loopback(name: &[u8]) -> bool {
    // The bytes may be in the middle of a label.
    name.ends_with(LOCALHOST) && last_labels(name, 1) == LOCALHOST || REVERSE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        list::ListBuilder,
        names::NameKey,
        overrides::Overrides,
        policy::{BlockList, Policy, Verdict},
        rule::{Effect, Rule, RuleAnswer, Subject},
    };
    use ringdns_common::names;
    use std::sync::Arc;

    #[test]
    fn names_of_this_host_are_told_from_others() {
        let v6 = format!("1.{}ip6.arpa", "0.".repeat(31));
        for name in ["localhost", "www.localhost", "1.0.0.127.in-addr.arpa", &v6] {
            assert!(is_loopback(&names::name(name).unwrap()), "{name}");
        }
        for name in
            [".", "xlocalhost", "localhost.example", "2.0.0.127.in-addr.arpa", "a.1.0.0.127.in-addr.arpa"]
        {
            assert!(!is_loopback(&names::name(name).unwrap()), "{name}");
        }
        assert!(!is_loopback(b"\x0ba\x09localhost\0"), "one label");
    }

    #[test]
    fn lists_do_not_decide_about_this_host() {
        let key = || NameKey::new(&[7; 16]);
        for dry_run in [false, true] {
            let mut builder = ListBuilder::new(key());
            for name in ["localhost", "localhost.example"] {
                builder.push(1, Rule::new(Subject::Suffix(names::name(name).unwrap().into()), Effect::Block));
            }
            let ads = BlockList {
                name: "ads".into(),
                list: Arc::new(builder.finish().0),
                answer: RuleAnswer::NxDomain,
                ttl: 60,
                dry_run,
                client: None,
                action: None,
                ede: None,
            };
            let overrides = Overrides::new(key(), [(names::name("b.localhost").unwrap().into(), true)]);
            let policy = Policy::new(key(), Vec::new(), vec![ads]).with_overrides(overrides);
            for name in ["localhost", "a.localhost", "b.localhost"] {
                let name = names::name(name).unwrap();
                assert!(matches!(policy.judge(&name, 1), Verdict::Pass));
                assert!(matches!(policy.judge_answer(&name, 1, &[]), Verdict::Pass));
                assert!(policy.would_block(&name, 1).is_empty());
            }
            let other = names::name("localhost.example").unwrap();
            assert_eq!(matches!(policy.judge(&other, 1), Verdict::Blocked(_)), !dry_run);
            assert_eq!(policy.would_block(&other, 1).len(), usize::from(dry_run));
        }
    }
}
