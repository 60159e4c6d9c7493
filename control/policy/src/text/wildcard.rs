//! Patterns in the syntax of dnscrypt-proxy's block lists.

use super::{Kind, Out, Reason, name, pattern, pattern::Begin, plain, without_comment};
use crate::rule::{Effect, Rule, Subject};

/// Reads `*.name`, `.name` and `name`, which are the name and all below it, `=name`, which is itself
/// only, and patterns with `*`.
pub(super) fn line(text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
    if text.starts_with('#') {
        return Ok(Kind::Comment);
    }
    let text = without_comment(text);
    // dnscrypt-proxy has schedules after an `@`: they are of that file and not of a list.
    let subject = match text.strip_prefix('=') {
        Some(exact) => Subject::Exact(name::name(exact)?),
        None if text.strip_prefix("*.").unwrap_or(text).contains('*') => {
            pattern::wildcard(text, Begin::Name, true)?
        }
        None => plain::subject(text, Subject::Suffix)?,
    };
    out.rule(Rule::new(subject, Effect::Block));
    Ok(Kind::Rules)
}
