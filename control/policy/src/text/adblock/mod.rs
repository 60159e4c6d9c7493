//! Filter rules of ad blockers, as far as they are about names.

mod modifiers;

use super::{Kind, Out, Reason, hosts, name, pattern, pattern::Begin};
use crate::rule::{Effect, Rule, Subject};
use modifiers::Modifiers;

/// Reads a filter rule. Lines of hosts files and bare names stand among them in many lists.
pub(super) fn line(text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
    match text.as_bytes().first() {
        Some(b'!') if text.starts_with("!#include") => return Err(Reason::Include),
        Some(b'!' | b'[') => return Ok(Kind::Comment),
        Some(b'#') => return if is_cosmetic(text) { Err(Reason::NotForDns) } else { Ok(Kind::Comment) },
        _ => {}
    }
    let text = match memchr::memchr(b'#', text.as_bytes()) {
        None => text,
        Some(at) if is_cosmetic(text.get(at..).unwrap_or_default()) => return Err(Reason::NotForDns),
        Some(_) => super::without_comment(text),
    };
    let first = text.split([' ', '\t']).next().unwrap_or_default();
    if first.len() < text.len() && hosts::address(first).is_some() {
        return hosts::line(text, out);
    }
    let (allows, rest) = match text.strip_prefix("@@") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (pattern, modifiers) = split(rest);
    let effect = if allows { Effect::Allow } else { Effect::Block };
    let rule = match modifiers {
        None => Rule::new(subject(pattern)?, effect),
        // `$$` and `$@$` select elements of pages.
        Some(selector) if selector.starts_with(['$', '@']) => return Err(Reason::NotForDns),
        Some(modifiers) => {
            // The modifiers come first: they say more about a rule for browsers.
            let modifiers = Modifiers::parse(modifiers)?;
            let subject = match subject(pattern) {
                // For some clients, a rule about every name is meant.
                Err(Reason::TooBroad) if modifiers.has_clients() && is_every_name(pattern) => {
                    Subject::Suffix(name::root())
                }
                subject => subject?,
            };
            modifiers.apply(Rule::new(subject, effect))?
        }
    };
    out.rule(rule);
    Ok(Kind::Rules)
}

/// Whether text that begins with `#` is the mark of a rule about elements, styles or scripts.
fn is_cosmetic(text: &str) -> bool {
    let mut after = text.bytes().skip(1);
    match after.next() {
        Some(b'@' | b'?' | b'$' | b'%') => text.bytes().skip(1).any(|byte| byte == b'#'),
        // `###name` selects an element; `## Title` and `####` are comments.
        Some(b'#') => after.find(|byte| *byte != b'#').is_some_and(|byte| !byte.is_ascii_whitespace()),
        _ => false,
    }
}

/// Splits a rule into its pattern and its modifiers.
fn split(rule: &str) -> (&str, Option<&str>) {
    if rule.starts_with('/') && rule.len() > 1 {
        if let Some((_, modifiers)) = rule.rsplit_once("/$") {
            let end = rule.len() - modifiers.len() - 1;
            return (rule.get(..end).unwrap_or_default(), Some(modifiers));
        }
        if rule.ends_with('/') {
            return (rule, None);
        }
    }
    match rule.split_once('$') {
        Some((pattern, modifiers)) => (pattern, Some(modifiers)),
        None => (rule, None),
    }
}

/// Returns the subject of a pattern.
fn subject(pattern: &str) -> Result<Subject, Reason> {
    let regex = pattern.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    if let Some(regex) = regex {
        return pattern::regex(regex);
    }
    let (begin, rest) = match (pattern.strip_prefix("||"), pattern.strip_prefix('|')) {
        (Some(rest), _) => (Begin::Label, rest),
        (None, Some(rest)) => (Begin::Name, rest),
        (None, None) => (Begin::Anywhere, pattern),
    };
    let (body, closed) = without_end(rest);
    // The most frequent case, and the only one that need be fast.
    if begin == Begin::Label && (closed || is_name(body) && body.contains('.')) {
        match name::name(body) {
            Ok(name) => return Ok(Subject::Suffix(name)),
            Err(Reason::Character) => {}
            Err(reason) => return Err(reason),
        }
    }
    if is_about_urls(body) {
        return Err(Reason::NotForDns);
    }
    if body.is_empty() {
        return Err(Reason::TooBroad);
    }
    simple(body, begin, closed).unwrap_or_else(|| pattern::wildcard(body, begin, closed))
}

/// Returns the subject of a pattern that is a name with an anchor, or none if it is a true pattern.
fn simple(body: &str, begin: Begin, closed: bool) -> Option<Result<Subject, Reason>> {
    if let Some(below) = body.strip_prefix("*.").or_else(|| body.strip_prefix('.')) {
        return is_name(below).then(|| name::name(below).map(Subject::Below));
    }
    // A name may have its last dot, but `ads.^` is about a label.
    let body = match body.strip_suffix('.') {
        Some(whole) if closed && whole.contains('.') => whole,
        _ => body,
    };
    if !is_name(body) {
        return None;
    }
    let kind = match begin {
        // Without an end, a single label is the beginning of one.
        Begin::Label if !closed && !body.contains('.') => return None,
        Begin::Label => Subject::Suffix,
        Begin::Name => Subject::Exact,
        Begin::Anywhere if closed => Subject::Suffix,
        Begin::Anywhere => Subject::Exact,
    };
    Some(name::name(body).map(kind))
}

/// Whether a pattern that is too broad is about every name.
fn is_every_name(pattern: &str) -> bool {
    pattern.starts_with('/') || pattern.trim_matches(['|', '^', '*']).is_empty()
}

/// Whether a pattern is a whole name, and not a part of one.
fn is_name(body: &str) -> bool {
    !body.contains('*') && !body.starts_with(['-', '_', '.']) && !body.ends_with(['-', '_', '.'])
}

/// Removes the mark of the end, `^` or `|`, and whether there was one.
fn without_end(text: &str) -> (&str, bool) {
    let text = match text.strip_suffix('*') {
        Some(before) if before.ends_with('^') => before,
        _ => text,
    };
    let body = text.strip_suffix('|').unwrap_or(text);
    let body = body.strip_suffix('^').unwrap_or(body);
    (body, body.len() < text.len())
}

/// Whether a pattern has characters that are in URLs, but in no name.
fn is_about_urls(body: &str) -> bool {
    body.contains(['/', ':', '?', '=', '&', '%', '^', '$', ',', ';', '~', '+', '!', '(', ')'])
}
