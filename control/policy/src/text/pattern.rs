//! Patterns with wildcards, as regular expressions on names.

use super::Reason;
use crate::rule::Subject;

/// Place of a name where a pattern begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the name's first character.
    Name,
    /// At any label.
    Label,
    /// Anywhere.
    Anywhere,
}

/// Returns the subject of a pattern, in which `*` is any text. If it is `closed`, the name ends
/// where the pattern does.
pub(super) fn wildcard(text: &str, mut begin: Begin, mut closed: bool) -> Result<Subject, Reason> {
    let mut body = text;
    while let Some(rest) = body.strip_prefix('*') {
        (body, begin) = (rest, Begin::Anywhere);
    }
    while let Some(rest) = body.strip_suffix('*') {
        (body, closed) = (rest, false);
    }
    if !body.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        return Err(if body.is_ascii() { Reason::TooBroad } else { Reason::Idn });
    }
    let mut regex = String::with_capacity(body.len() + 16);
    regex.push_str(match begin {
        Begin::Name => "^",
        Begin::Label => r"(?:^|\.)",
        Begin::Anywhere => "",
    });
    for letter in body.chars() {
        match letter {
            '*' => regex.push_str(".*"),
            '.' => regex.push_str(r"\."),
            'a'..='z' | '0'..='9' | '-' | '_' => regex.push(letter),
            'A'..='Z' => regex.push(letter.to_ascii_lowercase()),
            // Punycode of a part of a label is not a part of the label's.
            _ => return Err(if letter.is_ascii() { Reason::Character } else { Reason::Idn }),
        }
    }
    if closed {
        regex.push('$');
    }
    Ok(Subject::Regex(regex.into()))
}

/// Returns the subject of a regular expression, once its syntax is checked.
pub(super) fn regex(text: &str) -> Result<Subject, Reason> {
    // Names have no slash: such expressions are about URLs.
    if text.contains('/') {
        return Err(Reason::NotForDns);
    }
    let hir = regex_syntax::Parser::new().parse(text).map_err(|_| Reason::Regex)?;
    if hir.properties().minimum_len() == Some(0) {
        return Err(Reason::TooBroad);
    }
    // Names are lowercased before they are compared.
    let text = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        format!("(?i){text}").into()
    } else {
        text.into()
    };
    Ok(Subject::Regex(text))
}
