//! Filter of exchanges that `tap`, `capture` and `log` share.

use crate::talk::escape;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use ringdns_common::{filter::ExchangeFilter, names};
use ringdns_dataplane::{log::Outcome, prefix::Prefix};

/// Options of a filter.
#[derive(Args, Debug, Default)]
pub struct FilterArgs {
    /// Show only queries of this client, or of clients in this prefix.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<Prefix>,
    /// Show only questions for this name and names below it.
    #[arg(long, value_name = "NAME")]
    suffix: Option<String>,
    /// Show only questions of this type.
    #[arg(long = "type", value_name = "TYPE")]
    rtype: Option<String>,
    /// Show only queries with this outcome.
    #[arg(long, value_parser = outcome_parser())]
    outcome: Option<Outcome>,
    /// Show only queries answered with this response code, such as NXDOMAIN.
    #[arg(long)]
    rcode: Option<String>,
}

fn outcome_parser() -> impl TypedValueParser<Value = Outcome> {
    let labels = PossibleValuesParser::new(Outcome::ALL.iter().map(|outcome| outcome.label()));
    labels.try_map(|label| {
        let found = Outcome::ALL.iter().copied().find(|outcome| outcome.label() == label);
        found.ok_or("no outcome has this name")
    })
}

impl FilterArgs {
    /// Returns the parameters of a request, for ringdnsd to apply the filter.
    pub fn parameters(&self) -> Vec<String> {
        let FilterArgs { client, suffix, rtype, outcome, rcode } = self;
        let client = client.map(|client| client.to_string());
        let outcome = outcome.map(|outcome| outcome.label().to_owned());
        [("client", &client), ("suffix", suffix), ("type", rtype), ("outcome", &outcome), ("rcode", rcode)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))))
            .collect()
    }

    /// Returns the filter, for rows in files.
    pub fn exchanges(&self) -> anyhow::Result<ExchangeFilter> {
        let FilterArgs { client, suffix, rtype, outcome, rcode } = self;
        Ok(ExchangeFilter {
            client: *client,
            suffix: suffix.as_deref().map(names::name).transpose()?,
            qtype: rtype.as_deref().map(names::record_type).transpose()?,
            outcome: *outcome,
            rcode: rcode.as_deref().map(names::response_code).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ringdnsd_and_files_get_the_same_filter() {
        let some = |text: &str| Some(text.to_owned());
        let filter = FilterArgs {
            client: Some("192.0.2.0/24".parse().unwrap()),
            suffix: some("a_b.example"),
            rtype: some("type28"),
            outcome: Some(Outcome::Hit),
            rcode: some("nxdomain"),
        };
        let expected =
            ["client=192.0.2.0%2F24", "suffix=a_b.example", "type=type28", "outcome=hit", "rcode=nxdomain"];
        assert_eq!(filter.parameters(), expected);
        let expected = ExchangeFilter {
            client: filter.client,
            suffix: Some(b"\x03a_b\x07example\0".to_vec()),
            qtype: Some(28),
            outcome: Some(Outcome::Hit),
            rcode: Some(3),
        };
        assert_eq!(filter.exchanges().unwrap(), expected);
        assert!(FilterArgs::default().parameters().is_empty());
        assert!(FilterArgs { rtype: some("NONE"), ..FilterArgs::default() }.exchanges().is_err());
    }
}
