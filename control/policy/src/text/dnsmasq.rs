//! Options of dnsmasq that are about names.

use super::{Kind, Out, Reason, name, without_comment};
use crate::rule::{Effect, Rule, RuleAnswer, Subject};
use std::net::IpAddr;

/// Options that name other files.
const INCLUDES: [&str; 6] =
    ["conf-file", "conf-dir", "conf-script", "addn-hosts", "hostsdir", "servers-file"];

/// Reads `address=/NAME/…/ADDRESS`, and `local=` and `server=` without a server.
pub(super) fn line(text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
    if text.starts_with('#') {
        return Ok(Kind::Comment);
    }
    let (option, value) = without_comment(text).split_once('=').ok_or(Reason::Syntax)?;
    let option = option.trim_ascii_end().trim_start_matches("--");
    let target: fn(&str) -> Result<Effect, Reason> = match option {
        "address" => address,
        "local" | "server" => server,
        include if INCLUDES.contains(&include) => return Err(Reason::Include),
        _ => return Err(Reason::Option),
    };
    let names = value.trim_ascii().strip_prefix('/').ok_or(match option {
        "address" => Reason::Syntax,
        _ => Reason::Forwarding,
    })?;
    let (names, end) = names.rsplit_once('/').ok_or(Reason::Syntax)?;
    let effect = target(end)?;
    for name in names.split('/') {
        out.part(subject(name).map(|subject| Rule::new(subject, effect.clone())));
    }
    out.kind()
}

/// Returns the effect of what ends an `address` option. Without an address, the name does not exist.
fn address(end: &str) -> Result<Effect, Reason> {
    let answer = match end {
        "" => RuleAnswer::NxDomain,
        "#" => RuleAnswer::Null,
        ip => name::address(ip.parse::<IpAddr>().map_err(|_| Reason::Address)?),
    };
    Ok(Effect::Answer(answer))
}

/// Returns the effect of what ends a `server` or `local` option: without a server, dnsmasq knows no
/// answer, and `#` is the usual servers.
fn server(end: &str) -> Result<Effect, Reason> {
    match end {
        "" => Ok(Effect::Answer(RuleAnswer::NxDomain)),
        "#" => Ok(Effect::Allow),
        _ => Err(Reason::Forwarding),
    }
}

/// Returns the subject of a name: itself and all below it. `*.name` is all below it only, and `#`
/// is every name.
fn subject(text: &str) -> Result<Subject, Reason> {
    if text == "#" {
        return Ok(Subject::Suffix(name::root()));
    }
    if let Some(below) = text.strip_prefix("*.") {
        return name::name(below).map(Subject::Below);
    }
    name::name(text.strip_prefix('.').unwrap_or(text)).map(Subject::Suffix)
}
