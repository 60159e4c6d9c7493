//! Filter of exchanges in the parameters of a tap, a capture or a search in stored rows.

use super::guard::ApiError;
use ringdns_common::{filter::ExchangeFilter, names};
use ringdns_dataplane::{
    log::Outcome,
    prefix::{Prefix, PrefixError},
};
use serde::Deserialize;
use std::fmt;
use utoipa::IntoParams;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterQuery {
    /// Address or prefix of the clients.
    pub client: Option<String>,
    /// Name at or below which the questions are.
    pub suffix: Option<String>,
    /// Type of the questions, such as AAAA.
    #[serde(rename = "type")]
    pub rtype: Option<String>,
    /// Outcome: hit, stale, miss, failure, rejected or blocked.
    pub outcome: Option<String>,
    /// Response code of the answers, such as NXDOMAIN.
    pub rcode: Option<String>,
}

impl FilterQuery {
    /// Returns the filter.
    pub(super) fn filter(&self) -> Result<ExchangeFilter, ApiError> {
        let FilterQuery { client, suffix, rtype, outcome, rcode } = self;
        let prefix = |text: &str| {
            let refused = |error: PrefixError| {
                ApiError::bad(format!("client={text:?} is no address or prefix: {error}"))
            };
            text.parse::<Prefix>().map_err(refused)
        };
        Ok(ExchangeFilter {
            client: client.as_deref().map(prefix).transpose()?,
            suffix: suffix.as_deref().map(names::name).transpose().map_err(ApiError::bad)?,
            qtype: rtype.as_deref().map(names::record_type).transpose().map_err(ApiError::bad)?,
            outcome: outcome.as_deref().map(outcome_of).transpose()?,
            rcode: rcode.as_deref().map(names::response_code).transpose().map_err(ApiError::bad)?,
        })
    }
}

fn outcome_of(label: &str) -> Result<Outcome, ApiError> {
    Outcome::ALL.iter().copied().find(|outcome| outcome.label() == label).ok_or_else(|| {
        let labels: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        ApiError::bad(format!("no outcome is called {label:?}: use one of {}", labels.join(", ")))
    })
}

impl fmt::Display for FilterQuery {
    /// Writes the parameters that are given, with a space before each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FilterQuery { client, suffix, rtype, outcome, rcode } = self;
        [("client", client), ("suffix", suffix), ("type", rtype), ("outcome", outcome), ("rcode", rcode)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_parameter_is_read_and_refusals_show_its_value() {
        let some = |text: &str| Some(text.to_owned());
        let query = FilterQuery {
            client: some("192.0.2.0/24"),
            suffix: some("Example"),
            rtype: some("aaaa"),
            outcome: some("miss"),
            rcode: some("nxdomain"),
        };
        let expected = ExchangeFilter {
            client: Some("192.0.2.0/24".parse().unwrap()),
            suffix: Some(b"\x07example\0".to_vec()),
            qtype: Some(28),
            outcome: Some(Outcome::Miss),
            rcode: Some(3),
        };
        assert_eq!(query.filter().ok(), Some(expected));
        let shown = " client=192.0.2.0/24 suffix=Example type=aaaa outcome=miss rcode=nxdomain";
        assert_eq!(query.to_string(), shown);
        assert_eq!(FilterQuery::default().filter().ok(), Some(ExchangeFilter::default()));
        let none = FilterQuery::default;
        for (wrong, named) in [
            (FilterQuery { client: some("10.0.0.1/8"), ..none() }, "client=\"10.0.0.1/8\""),
            (FilterQuery { suffix: some("a..b"), ..none() }, "\"a..b\""),
            (FilterQuery { rtype: some("NONE"), ..none() }, "\"NONE\""),
            (FilterQuery { outcome: some("good"), ..none() }, "\"good\""),
            (FilterQuery { rcode: some("fine"), ..none() }, "\"fine\""),
        ] {
            let ApiError(status, reason) = wrong.filter().unwrap_err();
            assert_eq!(status.as_u16(), 400);
            assert!(reason.contains(named), "{reason}");
        }
    }
}
