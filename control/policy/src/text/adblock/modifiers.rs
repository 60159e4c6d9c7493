//! Modifiers of a filter rule: the part after `$`.

use crate::{
    clients::ClientSet,
    rule::{Effect, Rule, RuleAnswer, Types, WireName},
    text::{Reason, name},
};
use ringdns_common::names;
use ringdns_dataplane::prefix::Prefix;
use std::{net::IpAddr, sync::Arc};

/// Modifiers about requests of pages, which a question does not show.
const OF_BROWSERS: &[&str] = &[
    "1p",
    "3p",
    "_",
    "all",
    "app",
    "background",
    "beacon",
    "bug",
    "cname",
    "content",
    "cookie",
    "csp",
    "css",
    "data",
    "doc",
    "document",
    "domain",
    "ehide",
    "elemhide",
    "empty",
    "extension",
    "first-party",
    "font",
    "frame",
    "from",
    "genericblock",
    "generichide",
    "ghide",
    "header",
    "hls",
    "image",
    "inline",
    "inline-font",
    "inline-script",
    "ipaddress",
    "jsinject",
    "jsonprune",
    "match-case",
    "media",
    "method",
    "mp4",
    "network",
    "object",
    "object-subrequest",
    "other",
    "permissions",
    "ping",
    "popunder",
    "popup",
    "queryprune",
    "redirect",
    "redirect-rule",
    "referrerpolicy",
    "removeheader",
    "removeparam",
    "replace",
    "rewrite",
    "script",
    "shide",
    "sitekey",
    "specifichide",
    "stealth",
    "strict1p",
    "strict3p",
    "stylesheet",
    "subdocument",
    "third-party",
    "to",
    "trusted-types",
    "urlblock",
    "urlskip",
    "urltransform",
    "webbundle",
    "webrtc",
    "websocket",
    "xhr",
    "xmlhttprequest",
    "xmlprune",
];

/// Modifiers that are kept of a rule.
#[derive(Default)]
pub(super) struct Modifiers {
    important: bool,
    types: Types,
    except: Vec<WireName>,
    answer: Option<RuleAnswer>,
    clients: Option<Arc<ClientSet>>,
}

impl Modifiers {
    /// Parses modifiers, separated by commas. Any that is not understood makes the rule useless:
    /// without it, the rule would apply to more than its author meant.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let mut modifiers = Modifiers::default();
        for modifier in text.split(',') {
            let (key, value) = match modifier.trim_ascii().split_once('=') {
                Some((key, value)) => (key, value),
                None => (modifier.trim_ascii(), ""),
            };
            match key {
                "important" => modifiers.important = true,
                "dnstype" => modifiers.types = types(value)?,
                "denyallow" => modifiers.except = names(value)?,
                "dnsrewrite" => modifiers.answer = Some(rewrite(value)?),
                "client" => modifiers.clients = Some(Arc::new(clients(value)?)),
                "ctag" => return Err(Reason::Client),
                "badfilter" => return Err(Reason::BadFilter),
                other => {
                    let other = other.strip_prefix('~').unwrap_or(other);
                    let known = OF_BROWSERS.contains(&other);
                    return Err(if known { Reason::NotForDns } else { Reason::Modifier });
                }
            }
        }
        Ok(modifiers)
    }

    /// Whether the rule is for some clients only.
    pub(super) fn has_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Adds the modifiers to a rule.
    pub(super) fn apply(self, rule: Rule) -> Result<Rule, Reason> {
        let effect = match self.answer {
            // It would only switch off the rewriting of other rules.
            Some(_) if rule.effect == Effect::Allow => return Err(Reason::Rewrite),
            Some(answer) => Effect::Answer(answer),
            None => rule.effect,
        };
        let Modifiers { important, types, except, clients, .. } = self;
        Ok(Rule { subject: rule.subject, effect, important, types, except, clients })
    }
}

/// Parses `A|AAAA` or `~A|~AAAA`. Beside types that are included, those that are not say nothing.
fn types(text: &str) -> Result<Types, Reason> {
    let (mut only, mut except) = (Vec::new(), Vec::new());
    for word in text.split('|') {
        let (list, word) = match word.strip_prefix('~') {
            Some(word) => (&mut except, word),
            None => (&mut only, word),
        };
        list.push(names::record_type(word).map_err(|_| Reason::Modifier)?);
    }
    Ok(if only.is_empty() { Types::Except(except) } else { Types::Only(only) })
}

fn names(text: &str) -> Result<Vec<WireName>, Reason> {
    let parse = |word: &str| name::name(word.strip_prefix("*.").unwrap_or(word));
    text.split('|').map(parse).collect()
}

/// Parses `192.168.0.0/24|~'192.168.0.5'`. Names of clients have no address here.
fn clients(text: &str) -> Result<ClientSet, Reason> {
    let (mut only, mut except) = (Vec::new(), Vec::new());
    for word in text.split('|') {
        let (prefixes, word) = match word.trim_ascii().strip_prefix('~') {
            Some(word) => (&mut except, word),
            None => (&mut only, word.trim_ascii()),
        };
        let unquoted =
            ['\'', '"'].iter().find_map(|mark| word.strip_prefix(*mark)?.strip_suffix(*mark)).unwrap_or(word);
        prefixes.push(prefix(unquoted).ok_or(Reason::Client)?);
    }
    Ok(ClientSet::new(only, except))
}

/// Parses an address or a prefix, which may begin at any of its addresses.
fn prefix(text: &str) -> Option<Prefix> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = match len {
        Some(len) if len.bytes().all(|byte| byte.is_ascii_digit()) => len.parse().ok()?,
        Some(_) => return None,
        None => most,
    };
    (len <= most).then(|| Prefix::around(address, len))
}

/// Parses the value of `dnsrewrite`: a code, an address, a name, or `CODE;TYPE;VALUE`.
fn rewrite(text: &str) -> Result<RuleAnswer, Reason> {
    let upper = text.to_ascii_uppercase();
    let parts = match text.split_once(';') {
        None => (upper.as_str(), "", text),
        Some((code, rest)) => {
            let (kind, value) = rest.split_once(';').ok_or(Reason::Rewrite)?;
            (upper.get(..code.len()).unwrap_or_default(), kind, value)
        }
    };
    let simple = !text.contains(';');
    match parts {
        ("NXDOMAIN", "", value) if simple || value.is_empty() => Ok(RuleAnswer::NxDomain),
        ("REFUSED", "", value) if simple || value.is_empty() => Ok(RuleAnswer::Refused),
        ("NOERROR", "", value) if simple || value.is_empty() => Ok(RuleAnswer::NoData),
        ("" | "SERVFAIL" | "FORMERR" | "NOTIMP", ..) => Err(Reason::Rewrite),
        (_, "", value) if simple => match value.parse::<IpAddr>() {
            Ok(ip) => Ok(name::address(ip)),
            Err(_) => alias(value),
        },
        ("NOERROR", kind, value) => record(kind, value),
        _ => Err(Reason::Rewrite),
    }
}

fn record(kind: &str, value: &str) -> Result<RuleAnswer, Reason> {
    let ip = value.parse::<IpAddr>();
    match (kind.to_ascii_uppercase().as_str(), ip) {
        ("A", Ok(ip @ IpAddr::V4(_))) | ("AAAA", Ok(ip @ IpAddr::V6(_))) => Ok(name::address(ip)),
        ("CNAME", Err(_)) => alias(value),
        _ => Err(Reason::Rewrite),
    }
}

fn alias(text: &str) -> Result<RuleAnswer, Reason> {
    name::name(text).map(RuleAnswer::Alias).map_err(|_| Reason::Rewrite)
}
