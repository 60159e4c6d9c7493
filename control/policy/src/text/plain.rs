//! Plain lists: one name a line.

use super::{Kind, Out, Reason, name, without_comment};
use crate::rule::{Effect, Rule, Subject};

/// Reads `name`, `*.name`, `.name` or `https://name/`. A bare name is itself only, as in all peers.
pub(super) fn line(text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
    if text.starts_with(['#', '!', ';']) {
        return Ok(Kind::Comment);
    }
    let text = without_comment(text);
    if let Some((_, rest)) = text.split_once("://") {
        out.rule(Rule::new(Subject::Exact(host_of_url(rest)?), Effect::Block));
        return Ok(Kind::Rules);
    }
    out.rule(Rule::new(subject(text, Subject::Exact)?, Effect::Block));
    Ok(Kind::Rules)
}

/// Returns the subject of `*.name` and `.name`, which are the name and all below it, and gives
/// `bare` a bare name.
pub(super) fn subject(text: &str, bare: fn(Box<[u8]>) -> Subject) -> Result<Subject, Reason> {
    match text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
        Some(below) => Ok(Subject::Suffix(name::name(below)?)),
        None if text.contains([' ', '\t']) => Err(Reason::Syntax),
        None => Ok(bare(name::name(text)?)),
    }
}

/// Returns the host of a URL without its scheme. A URL with a path is about a page: its host may
/// well be one that serves many others.
fn host_of_url(rest: &str) -> Result<Box<[u8]>, Reason> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(Reason::NotForDns);
    }
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    name::name(host)
}
