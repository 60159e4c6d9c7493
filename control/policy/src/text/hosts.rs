//! Hosts files: an address and its names.

use super::{Kind, Out, Reason, name, plain, without_comment};
use crate::rule::{Effect, Rule, Subject};
use std::net::IpAddr;

/// Names that hosts files give to the own host and its network.
const OWN: [&str; 10] = [
    "localhost",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
];

/// Reads `ADDRESS NAME…`. The null address and those of the loopback block the names; any other
/// address is their answer. A line of a single word is a plain name.
pub(super) fn line(text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
    if text.starts_with('#') {
        return Ok(Kind::Comment);
    }
    let mut words = without_comment(text).split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let mut words = words.peekable();
    if words.peek().is_none() {
        return plain::line(first, out);
    }
    let address = address(first).ok_or(Reason::Address)?;
    for word in words {
        out.part(rule(address, word));
    }
    out.kind()
}

/// Returns the address at the beginning of a line, without the interface of a link-local one.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    // Cheaper than a failed attempt: names are far more frequent elsewhere.
    if text == "0.0.0.0" {
        return Some(IpAddr::from([0; 4]));
    }
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse().ok()
}

fn rule(address: IpAddr, text: &str) -> Result<Rule, Reason> {
    if OWN.iter().any(|own| own.eq_ignore_ascii_case(text)) {
        return Err(Reason::OwnHost);
    }
    let blocks = address.is_unspecified() || address.is_loopback();
    let name = match name::name(text) {
        // `0.0.0.0 0.0.0.0` is in well-known lists.
        Err(Reason::AddressAsName) if blocks => return Err(Reason::OwnHost),
        name => name?,
    };
    if blocks && name::is_single(&name) {
        return Err(Reason::OwnHost);
    }
    let effect = if blocks { Effect::Block } else { Effect::Answer(name::address(address)) };
    Ok(Rule::new(Subject::Exact(name), effect))
}
