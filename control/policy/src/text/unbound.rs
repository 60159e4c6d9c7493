//! Options of Unbound about local zones.

use super::{Kind, Out, Reason, name, record, without_comment};
use crate::rule::{Effect, Rule, RuleAnswer, Subject, WireName};

/// Options that only say where a file's options belong.
const SECTIONS: [&str; 2] = ["server", "view"];

/// Zone of the type `redirect`: records of its name are the answer for all names below it, too.
struct Redirect {
    name: WireName,
    line: u32,
    /// Whether it had a record.
    used: bool,
}

/// Reader of `local-zone` and `local-data`.
#[derive(Default)]
pub(super) struct Reader {
    /// Last zone of the type `redirect`, as long as only its records have followed.
    redirect: Option<Redirect>,
}

impl Reader {
    pub(super) fn line(&mut self, text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        if text.starts_with('#') {
            return Ok(Kind::Comment);
        }
        let (option, value) = without_comment(text).split_once(':').ok_or(Reason::Syntax)?;
        let value = value.trim_ascii();
        match option {
            "local-zone" => self.zone(value, out),
            "local-data" => self.data(value, out),
            "include" | "include-toplevel" => Err(Reason::Include),
            section if SECTIONS.contains(&section) && value.is_empty() => Ok(Kind::Directive),
            _ => Err(Reason::Option),
        }
    }

    /// Reads `"NAME" TYPE`.
    fn zone(&mut self, value: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        self.finish(out);
        let (name, kind) = quoted(value).ok_or(Reason::Syntax)?;
        let (kind, rest) = quoted(kind).ok_or(Reason::Syntax)?;
        if !rest.is_empty() {
            return Err(Reason::Syntax);
        }
        let name = if name == "." { name::root() } else { record::zone_name(name)? };
        let effect = match kind {
            "always_nxdomain" | "static" => Effect::Answer(RuleAnswer::NxDomain),
            "always_nodata" => Effect::Answer(RuleAnswer::NoData),
            "always_refuse" | "refuse" => Effect::Answer(RuleAnswer::Refused),
            "always_deny" | "deny" | "inform_deny" => Effect::Answer(RuleAnswer::Drop),
            "always_null" => Effect::Answer(RuleAnswer::Null),
            "always_transparent" => Effect::Allow,
            "redirect" | "inform_redirect" => {
                self.redirect = Some(Redirect { name, line: out.line, used: false });
                return Ok(Kind::Directive);
            }
            // Their own records are read from `local-data`; all other names are resolved.
            "transparent" | "typetransparent" | "inform" | "nodefault" => return Err(Reason::NoEffect),
            _ => return Err(Reason::ZoneType),
        };
        out.rule(Rule::new(Subject::Suffix(name), effect));
        Ok(Kind::Rules)
    }

    /// Reads `"NAME [TTL] [IN] TYPE DATA"`.
    fn data(&mut self, value: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        let (text, _) = quoted_whole(value).ok_or(Reason::Syntax)?;
        let (owner, rest) = record::word(text);
        let name = record::zone_name(owner)?;
        let data = record::record(rest)?;
        let effect = match record::address(data) {
            Some(effect) => effect?,
            None if data.kind.eq_ignore_ascii_case("CNAME") => {
                Effect::Answer(RuleAnswer::Alias(record::zone_name(data.data)?))
            }
            None => return Err(Reason::RecordType),
        };
        let subject = match &mut self.redirect {
            Some(redirect) if redirect.name == name => {
                redirect.used = true;
                Subject::Suffix(name)
            }
            _ => Subject::Exact(name),
        };
        out.rule(Rule::new(subject, effect));
        Ok(Kind::Rules)
    }

    /// Closes a zone of the type `redirect`: without a record, its names have no data.
    pub(super) fn finish(&mut self, out: &mut Out<'_>) {
        let Some(Redirect { name, line, used: false }) = self.redirect.take() else { return };
        out.rule_of(line, Rule::new(Subject::Suffix(name), Effect::Answer(RuleAnswer::NoData)));
    }
}

/// Splits off the first word, which may stand in quotation marks.
fn quoted(text: &str) -> Option<(&str, &str)> {
    match text.chars().next()? {
        '"' | '\'' => quoted_whole(text),
        _ => {
            let (word, rest) = record::word(text);
            Some((word, rest.trim_ascii()))
        }
    }
}

/// Splits off the text in quotation marks, or all if there are none.
fn quoted_whole(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next()?;
    if mark != '"' && mark != '\'' {
        return Some((text, ""));
    }
    let (inner, rest) = text.get(1..)?.split_once(mark)?;
    Some((inner, rest.trim_ascii()))
}
