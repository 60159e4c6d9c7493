//! Filter of exchanges: those that a tap of the query log, a capture or a search in stored rows shows.

use ringdns_dataplane::{log::Outcome, prefix::Prefix};
use std::net::IpAddr;

/// Longest label in bytes (RFC 1035 section 2.3.4).
const LABEL_MAX: u8 = 63;

/// Filter of exchanges of clients; the default passes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeFilter {
    /// Clients that pass; `None`: all.
    pub client: Option<Prefix>,
    /// Name, in wire format and lowercased, at or below which questions are; `None`: any.
    pub suffix: Option<Vec<u8>>,
    /// Type of the questions; `None`: any.
    pub qtype: Option<u16>,
    /// Outcome of the queries; `None`: any.
    pub outcome: Option<Outcome>,
    /// Response code of the answers; `None`: any.
    pub rcode: Option<u16>,
}

impl ExchangeFilter {
    /// Whether everything passes.
    pub fn is_open(&self) -> bool {
        *self == ExchangeFilter::default()
    }

    /// Whether the filter needs to know the answer.
    pub fn needs_answer(&self) -> bool {
        self.outcome.is_some() || self.rcode.is_some()
    }

    /// Whether a client passes; `None`: its address is not known.
    pub fn takes_client(&self, address: Option<IpAddr>) -> bool {
        let known = |prefix: &Prefix| address.is_some_and(|address| prefix.contains(address.to_canonical()));
        self.client.as_ref().is_none_or(known)
    }

    /// Whether a question passes: a name in wire format, and a type; `None`: there is no question.
    pub fn takes_question(&self, question: Option<(&[u8], u16)>) -> bool {
        let below = |suffix: &Vec<u8>| question.is_some_and(|(name, _)| is_below(name, suffix));
        self.suffix.as_ref().is_none_or(below)
            && self.qtype.is_none_or(|wanted| question.is_some_and(|(_, qtype)| qtype == wanted))
    }

    /// Whether an answer passes; `None`: its code is not known.
    pub fn takes_answer(&self, outcome: Outcome, rcode: Option<u16>) -> bool {
        self.outcome.is_none_or(|wanted| wanted == outcome)
            && self.rcode.is_none_or(|wanted| rcode == Some(wanted))
    }
}

/// Whether a name in wire format, in any case, is `suffix` or below it.
fn is_below(name: &[u8], suffix: &[u8]) -> bool {
    let mut rest = name;
    loop {
        // Lengths of labels are below the letters.
        if rest.eq_ignore_ascii_case(suffix) {
            return true;
        }
        match rest.first() {
            Some(len @ 1..=LABEL_MAX) => rest = rest.get(1 + usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_or_below_a_suffix_whatever_their_case() {
        let suffix = b"\x07example\x03com\0";
        for (name, expected) in [
            (&b"\x07example\x03com\0"[..], true),
            (b"\x03www\x07EXAMPLE\x03cOm\0", true),
            (b"\x08xexample\x03com\0", false),
            (b"\x0anotexample\x03com\0", false),
            (b"\x03com\0", false),
            (b"\x07example\x03com\x03net\0", false),
            (b"\x07example\xc0\x0c", false),
            (b"\x07exam", false),
            (b"", false),
        ] {
            assert_eq!(is_below(name, suffix), expected, "{name:?}");
        }
        assert!(is_below(b"\x03net\0", b"\0") && is_below(b"\0", b"\0"));
        assert!(!is_below(b"", b"\0"));
    }

    #[test]
    fn each_condition_leaves_out_what_is_not_known() {
        let open = ExchangeFilter::default;
        let client = |text: &str| ExchangeFilter { client: Some(text.parse().unwrap()), ..open() };
        let v4 = Some("::ffff:192.0.2.1".parse().unwrap());
        assert!(client("192.0.2.0/24").takes_client(v4) && open().takes_client(None));
        assert!(!client("192.0.2.2").takes_client(v4) && !client("::/0").takes_client(None));
        let aaaa = ExchangeFilter { qtype: Some(28), ..open() };
        assert!(aaaa.takes_question(Some((b"\0", 28))) && open().takes_question(None));
        assert!(!aaaa.takes_question(Some((b"\0", 1))) && !aaaa.takes_question(None));
        let failure = ExchangeFilter { outcome: Some(Outcome::Failure), ..open() };
        assert!(failure.takes_answer(Outcome::Failure, None) && !failure.takes_answer(Outcome::Hit, None));
        let refused = ExchangeFilter { rcode: Some(5), ..open() };
        assert!(refused.takes_answer(Outcome::Hit, Some(5)) && open().takes_answer(Outcome::Hit, None));
        assert!(!refused.takes_answer(Outcome::Hit, Some(0)) && !refused.takes_answer(Outcome::Hit, None));
        assert!(open().is_open() && !refused.is_open() && refused.needs_answer() && !aaaa.needs_answer());
    }
}
