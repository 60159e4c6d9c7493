//! Filter of exchanges that `tap`, `capture` and `log` share.

use crate::talk::escape;
use clap::{Args, builder::PossibleValuesParser};
use ringdns_common::names;
use ringdns_dataplane::{access::AccessList, log::Outcome, prefix::Prefix};
use ringdns_segment::show;

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
    #[arg(long, value_parser = PossibleValuesParser::new(Outcome::ALL.iter().map(|outcome| outcome.label())))]
    outcome: Option<String>,
    /// Show only queries answered with this response code, such as NXDOMAIN.
    #[arg(long)]
    rcode: Option<String>,
}

impl FilterArgs {
    /// Returns the parameters of a request, for ringdnsd to apply the filter.
    pub fn parameters(&self) -> Vec<String> {
        let FilterArgs { client, suffix, rtype, outcome, rcode } = self;
        let client = client.map(|client| client.to_string());
        [("client", &client), ("suffix", suffix), ("type", rtype), ("outcome", outcome), ("rcode", rcode)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))))
            .collect()
    }

    /// Returns the filter of rows in files.
    pub fn rows(&self) -> anyhow::Result<show::Filter> {
        let FilterArgs { client, suffix, rtype, outcome, rcode } = self;
        let qtype = rtype.as_deref().map(names::record_type).transpose()?;
        let rcode = rcode.as_deref().map(names::response_code).transpose()?;
        Ok(show::Filter {
            name: None,
            suffix: suffix.as_deref().map(show::name).transpose()?,
            clients: client.map(|prefix| AccessList::new(&[prefix], &[])).transpose()?,
            since_ms: None,
            rtype: qtype.map(names::type_name),
            outcome: outcome.clone(),
            rcode: rcode.map(names::rcode_text),
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
            outcome: some("hit"),
            rcode: some("nxdomain"),
        };
        let expected =
            ["client=192.0.2.0%2F24", "suffix=a_b.example", "type=type28", "outcome=hit", "rcode=nxdomain"];
        assert_eq!(filter.parameters(), expected);
        let rows = filter.rows().unwrap();
        let texts = [rows.suffix, rows.rtype, rows.outcome, rows.rcode].map(Option::unwrap);
        assert_eq!(texts, ["a_b.example.", "AAAA", "hit", "NXDOMAIN"]);
        assert!(FilterArgs::default().parameters().is_empty());
        assert!(FilterArgs { rtype: some("NONE"), ..FilterArgs::default() }.rows().is_err());
    }
}
