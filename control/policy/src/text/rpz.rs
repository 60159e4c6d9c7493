//! Zone files of response policy zones (draft-vixie-dnsop-dns-rpz).

use super::{Kind, Out, Reason, lines::LINE_MAX, name, record, record::Record, rpz_prefix};
use crate::rule::{Effect, Rule, RuleAnswer, Subject, WireName};

/// Most bytes of a record over several lines, in parentheses.
const RECORD_MAX: usize = 4 * LINE_MAX;

/// Longest name in wire format.
const NAME_MAX: usize = 255;

/// Types of records that a zone has beside its rules.
const BESIDE: [&str; 9] = ["SOA", "NS", "RRSIG", "DNSKEY", "NSEC", "NSEC3", "NSEC3PARAM", "DS", "ZONEMD"];

/// Reader of a zone file.
#[derive(Default)]
pub(super) struct Reader {
    /// Names that relative names are below; none as long as the file has not said.
    origin: Option<WireName>,
    /// Name of the zone.
    apex: Option<WireName>,
    /// Owner of the last record, relative to the zone, which a record without an owner has too.
    last: Option<Result<Trigger, Reason>>,
    open: Option<Open>,
}

/// Beginning of a record whose parentheses are not closed yet.
struct Open {
    /// Line that the record begins in.
    line: u32,
    text: String,
    /// Number of parentheses that are open.
    depth: i32,
}

/// Questions that a record's owner stands for.
#[derive(Clone)]
enum Trigger {
    Rule(Subject),
    /// The zone itself.
    Apex,
}

impl Reader {
    pub(super) fn line(&mut self, text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        let (text, depth) = record::without_comment(text);
        if let Some(mut open) = self.open.take() {
            open.depth += depth;
            return self.go_on(open, text, out);
        }
        if text.trim_ascii().is_empty() {
            return Ok(Kind::Comment);
        }
        if depth > 0 {
            self.open = Some(Open { line: out.line, text: text.to_owned(), depth });
            return Ok(Kind::Directive);
        }
        self.entry(text, out)
    }

    /// Adds a line to a record in parentheses, and reads the record once they are closed.
    fn go_on(&mut self, mut open: Open, text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        if open.text.len() + text.len() >= RECORD_MAX {
            return Err(Reason::Unfinished);
        }
        open.text.push(' ');
        open.text.push_str(text);
        if open.depth > 0 {
            self.open = Some(open);
            return Ok(Kind::Directive);
        }
        self.entry(&open.text.replace(['(', ')'], " "), out)
    }

    /// Returns the line and the text of a record whose parentheses are still open at the end.
    pub(super) fn unfinished(self) -> Option<(u32, String)> {
        self.open.map(|open| (open.line, open.text))
    }

    /// Reads a directive or a record.
    fn entry(&mut self, text: &str, out: &mut Out<'_>) -> Result<Kind, Reason> {
        if let Some(directive) = text.strip_prefix('$') {
            return self.directive(directive);
        }
        let (owner, rest) = match text.starts_with([' ', '\t']) {
            true => ("", text),
            false => record::word(text),
        };
        let parsed = record::record(rest);
        if let Ok(Record { kind, .. }) = parsed
            && kind.eq_ignore_ascii_case("SOA")
        {
            return self.soa(owner);
        }
        if !owner.is_empty() {
            self.last = Some(self.trigger(owner));
        }
        let record = parsed?;
        if BESIDE.iter().any(|kind| kind.eq_ignore_ascii_case(record.kind)) {
            return Ok(Kind::Directive);
        }
        let subject = match self.last.as_ref().ok_or(Reason::Record)? {
            Ok(Trigger::Rule(subject)) => subject.clone(),
            Ok(Trigger::Apex) => return Err(Reason::NoRule),
            Err(reason) => return Err(*reason),
        };
        let effect = self.effect(record, &subject)?;
        out.rule(Rule::new(subject, effect));
        Ok(Kind::Rules)
    }

    fn directive(&mut self, text: &str) -> Result<Kind, Reason> {
        let (directive, rest) = record::word(text);
        match directive.to_ascii_uppercase().as_str() {
            "ORIGIN" => {
                self.origin = Some(self.absolute(record::word(rest).0)?);
                Ok(Kind::Directive)
            }
            "TTL" => Ok(Kind::Directive),
            "INCLUDE" => Err(Reason::Include),
            "GENERATE" => Err(Reason::Generate),
            _ => Err(Reason::Syntax),
        }
    }

    /// Reads the owner of the SOA record: the name of the zone.
    fn soa(&mut self, owner: &str) -> Result<Kind, Reason> {
        let apex = match owner {
            "" | "@" => self.origin.clone(),
            name => Some(self.absolute(name)?),
        };
        // Without `$ORIGIN`, relative names are below the zone.
        self.origin = self.origin.take().or_else(|| apex.clone());
        self.apex = apex;
        self.last = Some(Ok(Trigger::Apex));
        Ok(Kind::Directive)
    }

    /// Returns a name with the origin appended, unless it ends in a dot.
    fn absolute(&self, text: &str) -> Result<WireName, Reason> {
        let origin = self.origin.as_deref().unwrap_or(&[0]);
        match text {
            "." => Ok(name::root()),
            "@" => Ok(origin.into()),
            absolute if absolute.ends_with('.') => owner(absolute),
            relative => joined(&owner(relative)?, origin),
        }
    }

    /// Returns the questions that an owner stands for.
    fn trigger(&self, text: &str) -> Result<Trigger, Reason> {
        let name = if self.origin == self.apex && !text.ends_with('.') && text != "@" {
            owner(text)?
        } else {
            relative(&self.absolute(text)?, self.apex.as_deref().unwrap_or(&[0]))?
        };
        if *name == [0] {
            return Ok(Trigger::Apex);
        }
        refuse_others(&name)?;
        if let Some(addresses) = rpz_prefix::subject(&name) {
            return addresses.map(Trigger::Rule).ok_or(Reason::RpzPrefix);
        }
        match name.strip_prefix(b"\x01*") {
            Some(below) => Ok(Trigger::Rule(Subject::Below(below.into()))),
            None if has_star(&name) => Err(Reason::Character),
            None => Ok(Trigger::Rule(Subject::Exact(name))),
        }
    }

    fn effect(&self, record: Record<'_>, subject: &Subject) -> Result<Effect, Reason> {
        if let Some(effect) = record::address(record) {
            return effect;
        }
        if !record.kind.eq_ignore_ascii_case("CNAME") {
            return Err(Reason::RecordType);
        }
        let target = record.data.to_ascii_lowercase();
        match target.as_str() {
            "." => return Ok(Effect::Answer(RuleAnswer::NxDomain)),
            "*." => return Ok(Effect::Answer(RuleAnswer::NoData)),
            "rpz-passthru." => return Ok(Effect::Allow),
            "rpz-drop." => return Ok(Effect::Answer(RuleAnswer::Drop)),
            "rpz-tcp-only." => return Ok(Effect::Answer(RuleAnswer::TcpOnly)),
            other if other.starts_with("rpz-") && !other.trim_end_matches('.').contains('.') => {
                return Err(Reason::Action);
            }
            _ => {}
        }
        if let Some(below) = target.strip_prefix("*.") {
            return Ok(Effect::Answer(RuleAnswer::AliasBelow(self.absolute(below)?)));
        }
        let target = self.absolute(&target)?;
        // PASSTHRU of the first drafts: an alias to the name itself.
        if matches!(subject, Subject::Exact(name) if *name == target) {
            return Ok(Effect::Allow);
        }
        Ok(Effect::Answer(RuleAnswer::Alias(target)))
    }
}

/// Returns an owner in wire format: unlike other names, it may begin with `*`.
fn owner(text: &str) -> Result<WireName, Reason> {
    let Some(below) = text.strip_prefix('*') else { return number_or_name(text) };
    if below.is_empty() || below == "." {
        return Ok([1, b'*', 0].into());
    }
    let below = number_or_name(below.strip_prefix('.').ok_or(Reason::Character)?)?;
    joined(b"\x01*\0", &below)
}

/// Returns a name in wire format. Owners of address triggers have labels of digits only at their
/// end, if the origin is `rpz-ip.…`.
fn number_or_name(text: &str) -> Result<WireName, Reason> {
    match record::zone_name(text) {
        Err(Reason::AddressAsName) => {
            ringdns_common::names::name(text).map(Into::into).map_err(|_| Reason::Character)
        }
        name => name,
    }
}

/// Appends a name to another; both are in wire format.
fn joined(front: &[u8], back: &[u8]) -> Result<WireName, Reason> {
    let labels = front.strip_suffix(&[0]).unwrap_or(front);
    if labels.len() + back.len() > NAME_MAX {
        return Err(Reason::Length);
    }
    Ok([labels, back].concat().into())
}

/// Removes the zone's name from the end of a name.
fn relative(name: &[u8], apex: &[u8]) -> Result<WireName, Reason> {
    let mut rest = name;
    while rest != apex {
        let len = rest.first().copied().unwrap_or_default();
        if len == 0 {
            return Err(Reason::OutsideZone);
        }
        rest = rest.get(usize::from(len) + 1..).unwrap_or_default();
    }
    let labels = name.get(..name.len() - apex.len()).unwrap_or_default();
    Ok([labels, &[0]].concat().into())
}

/// Refuses triggers on servers: their last label says so.
fn refuse_others(name: &[u8]) -> Result<(), Reason> {
    let others: [(&[u8], Reason); 2] =
        [(b"\x0brpz-nsdname\0", Reason::RpzNsdname), (b"\x08rpz-nsip\0", Reason::RpzNsip)];
    match others.iter().find(|(end, _)| name.ends_with(end)) {
        Some((_, reason)) => Err(*reason),
        None => Ok(()),
    }
}

/// Whether a label of a name is `*`.
fn has_star(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&len, labels)) = rest.split_first() {
        let len = usize::from(len);
        if labels.get(..len) == Some(b"*") {
            return true;
        }
        rest = labels.get(len..).unwrap_or_default();
    }
    false
}
