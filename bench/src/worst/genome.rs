//! Candidate of the search: one or several forms of packets that alternate, and the server that they come
//! to.

use super::site::{Site, Verification};
use crate::{
    instructions::{
        answer::Content,
        form::{Fate, Form},
        parts::{EdnsOption, Labels, Owner},
    },
    stage::Ip,
};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::checksum::Checksums;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{fmt, str::FromStr};

/// Most forms that alternate.
pub const FORMS_MAX: usize = 4;
/// Most bytes of an Ethernet frame without VLAN tags: a link's usual MTU, and the link header.
pub const FRAME_MAX: usize = 1_514;
/// Least bytes of a frame that a search may be limited to: a query for a short name over IPv6 with an OPT
/// record.
pub const FRAME_MIN: usize = 110;
/// Most VLAN tags: one more than the data plane knows.
pub const TAGS_MAX: usize = 3;
/// Most entries of an access list besides the client's.
pub const PREFIXES_MAX: u16 = 2_000;
/// Most bytes of a TXT record.
pub const TEXT_MAX: usize = 1_100;
/// Most records of an answer.
pub const RECORDS_MAX: usize = 70;
/// Most NSEC3 records of an answer.
pub const PROOFS_MAX: usize = 6;
/// Most bytes of a server's name.
pub const NAME_MAX: u8 = ringdns_dataplane::dns::option::NSID_MAX as u8;

/// Packets, and the server that they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genome {
    /// Forms of the packets, in turns.
    pub packets: Vec<Form>,
    /// Set-up of the server.
    #[serde(default)]
    pub site: Site,
}

impl Genome {
    /// Returns a genome of packets of one form that come to a server with its default set-up, but for the
    /// verification of checksums, the server's name, and clients that the form's fate says may not ask.
    pub fn of(form: Form) -> Self {
        let checksums = match form.checksums {
            Checksums::Verify => Verification::Verify,
            Checksums::AllowPartial => Verification::AllowPartial,
            Checksums::Trust => Verification::Trust,
            Checksums::Unused => Verification::Unused,
        };
        // The prefixes that clients of one site are in.
        let denying = matches!(form.fate, Fate::Refused | Fate::Denied).then_some((24, 56));
        let site = Site {
            checksums,
            access: denying,
            is_denied: denying.is_some(),
            is_silent: form.fate == Fate::Denied,
            name: form.server_name,
            ..Site::default()
        };
        let form = Form { checksums: Checksums::Verify, fate: Fate::Hit, server_name: 0, ..form };
        Genome { packets: vec![form], site }
    }

    /// Returns the form of the packet with this number.
    pub fn form(&self, number: usize) -> &Form {
        &self.packets[number % self.packets.len()]
    }

    /// Whether a packet has a cookie, and the server looks at cookies.
    pub fn has_cookie(&self) -> bool {
        self.site.has_cookies && self.packets.iter().any(Form::has_cookie)
    }

    /// Fails if a packet cannot be made, or is too large for a link.
    pub fn check(&self) -> Result<()> {
        let forms = self.packets.len();
        ensure!((1..=FORMS_MAX).contains(&forms), "there are {forms} forms, not 1 to {FORMS_MAX}");
        for form in &self.packets {
            ensure!(form.tags <= TAGS_MAX, "there are {} VLAN tags, not at most {TAGS_MAX}", form.tags);
            let len = frame_len(form);
            ensure!(len <= FRAME_MAX, "a frame has {len} bytes without its tags, not at most {FRAME_MAX}");
            let (records, text, proofs) = match form.content {
                Content::Addresses(count) | Content::Aliases(count) | Content::Glue(count) => (count, 0, 0),
                Content::Text(bytes) => (1, bytes, 0),
                Content::Proof(count) => (0, 0, count),
                _ => (0, 0, 0),
            };
            ensure!(
                records <= RECORDS_MAX && text <= TEXT_MAX && proofs <= PROOFS_MAX,
                "an answer has more than {RECORDS_MAX} records, {TEXT_MAX} bytes of text, or {PROOFS_MAX} proofs"
            );
            ensure!(text > 0 || !matches!(form.content, Content::Text(_)), "a TXT record has no byte");
        }
        let Site { access, other_prefixes, name, .. } = &self.site;
        let is_prefix = |(v4, v6): (u8, u8)| (1..=32).contains(&v4) && (1..=128).contains(&v6);
        ensure!(access.is_none_or(is_prefix), "the lengths of prefixes are not 1 to 32 and 1 to 128");
        ensure!(*other_prefixes <= PREFIXES_MAX, "there are more than {PREFIXES_MAX} other prefixes");
        ensure!(*name <= NAME_MAX, "the server's name has more than {NAME_MAX} bytes");
        Ok(())
    }

    /// Returns the traits that tell kinds of candidates apart, whatever their numbers are.
    pub fn family(&self) -> String {
        let traits: Vec<String> = self.packets.iter().map(traits).collect();
        let Site { access, other_prefixes, name, primaries, .. } = &self.site;
        let site = Site {
            access: access.map(|_| (0, 0)),
            other_prefixes: (*other_prefixes).min(1),
            name: (*name).min(1),
            primaries: (*primaries).min(1),
            ..self.site.clone()
        };
        format!("{traits:?} {site:?}")
    }
}

/// Returns the length of a frame without its VLAN tags, or more if it is far too long.
pub fn frame_len(form: &Form) -> usize {
    let headers = if form.ip == Ip::V4 { 42 } else { 62 };
    let name = if form.labels == Labels::Identity { 11 } else { form.name.max(8) + 2 };
    let question = if form.has_question { name + 4 } else { 0 };
    let options = form.options.as_ref().map_or(0, |options| {
        let lens = options.iter().map(|(option, times)| usize::from(*times) * option.wire_len());
        11 + lens.sum::<usize>()
    });
    let records = form.records.iter().map(|records| {
        let owner = match records.owner {
            Owner::Root => 1,
            Owner::Pointer => 2,
            Owner::Labels(count) => 2 * usize::from(count) + 1,
        };
        usize::from(records.times) * (owner + 10 + usize::from(records.data))
    });
    let message = 12 + question + options + records.sum::<usize>();
    let message = form.cut.map_or(message, |cut| message.min(cut.into()));
    headers + message + usize::from(form.trailer) + usize::from(form.padding)
}

/// Returns the traits of a form.
fn traits(form: &Form) -> String {
    let name = match form.name {
        ..=28 => "short",
        29..=59 => "middle",
        60..=255 => "long",
        _ => "too long",
    };
    let options = form.options.as_ref().map(|options| {
        let kinds = options.iter().map(|(option, _)| match option {
            EdnsOption::Padding(_) | EdnsOption::Unknown(_) => EdnsOption::Padding(0),
            other => *other,
        });
        let mut kinds: Vec<String> = kinds.map(|kind| format!("{kind:?}")).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    });
    let mut records: Vec<_> = form.records.iter().map(|records| records.place).collect();
    records.sort();
    records.dedup();
    let content = std::mem::discriminant(&form.content);
    let odd = (form.cut.is_some(), form.trailer > 0, form.counts.is_some(), form.has_question, form.version);
    let link = (form.tags > 0, form.ip, form.sum);
    let question = (name, form.labels, form.flags & !0x0030, form.qtype, form.qclass);
    format!("{link:?} {question:?} {options:?} {records:?} {content:?} {odd:?} {}", form.is_stale)
}

impl fmt::Display for Genome {
    /// Writes JSON, without what is as by default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = serde_json::to_value(Form::default()).map_err(|_| fmt::Error)?;
        let mut packets = Vec::new();
        for form in &self.packets {
            packets.push(different(serde_json::to_value(form).map_err(|_| fmt::Error)?, &plain));
        }
        let mut whole = Map::from_iter([("packets".to_owned(), Value::Array(packets))]);
        let plain = serde_json::to_value(Site::default()).map_err(|_| fmt::Error)?;
        let site = different(serde_json::to_value(&self.site).map_err(|_| fmt::Error)?, &plain);
        if site.as_object().is_some_and(|site| !site.is_empty()) {
            whole.insert("site".into(), site);
        }
        write!(f, "{}", Value::Object(whole))
    }
}

/// Returns the members of an object that differ from those of another.
fn different(value: Value, plain: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().filter(|(key, member)| plain.get(key) != Some(member)).collect(),
        ),
        other => other,
    }
}

impl FromStr for Genome {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let genome: Genome = serde_json::from_str(text).with_context(|| {
            format!("{text:?} is no form: give what `ringbench worst` printed, as {{\"packets\":[{{…}}]}}")
        })?;
        genome.check().with_context(|| format!("{text:?} is no form"))?;
        Ok(genome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::{
        parts::{CookieKind, Place, Records},
        shapes::SHAPES,
    };

    fn rich() -> Genome {
        let records = Records { place: Place::After, owner: Owner::Labels(3), rtype: 16, data: 5, times: 7 };
        let form = Form {
            options: Some(vec![(EdnsOption::Unknown(3), 4), (EdnsOption::Cookie(CookieKind::Old), 1)]),
            records: vec![records],
            content: Content::Addresses(3),
            is_stale: true,
            ..Form::default()
        };
        let site = Site { access: Some((32, 128)), has_old_secret: true, ..Site::default() };
        Genome { packets: vec![form, Form::default()], site }
    }

    #[test]
    fn a_form_that_was_printed_is_read_again() {
        for genome in [rich(), Genome::of(Form::default())] {
            assert_eq!(genome.to_string().parse::<Genome>().unwrap(), genome);
        }
        assert_eq!(Genome::of(Form::default()).to_string(), r#"{"packets":[{}]}"#);
        let text = rich().to_string();
        assert!(!text.contains("tags") && text.contains(r#""is_stale":true"#), "{text}");
    }

    #[test]
    fn wrong_forms_are_refused_and_named() {
        for (text, named) in [
            ("{}", "packets"),
            (r#"{"packets":[]}"#, "0 forms"),
            (r#"{"packets":[{"colour":1}]}"#, "colour"),
            (r#"{"packets":[{"tags":4}]}"#, "VLAN tags"),
            (r#"{"packets":[{"name":1600}]}"#, "bytes without its tags"),
            (r#"{"packets":[{"options":[[{"unknown":65535},65535]]}]}"#, "bytes without its tags"),
            (r#"{"packets":[{"content":{"addresses":100000}}]}"#, "records"),
            (r#"{"packets":[{}],"site":{"access":[33,64]}}"#, "prefixes"),
            (r#"{"packets":[{}],"site":{"name":65}}"#, "server's name"),
        ] {
            let error = format!("{:#}", text.parse::<Genome>().unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn lengths_are_not_below_those_of_packets() {
        let shapes = SHAPES.iter().map(|shape| Genome::of((shape.form)()));
        for genome in shapes.chain([rich()]) {
            for form in &genome.packets {
                let packet = form.packet(0, 600).unwrap();
                let untagged = packet.len() - 4 * form.tags;
                let len = frame_len(form);
                assert!(untagged <= len.max(60) && len <= untagged + 64, "{len} {untagged} {form:?}");
            }
        }
    }

    #[test]
    fn numbers_do_not_make_a_family() {
        let mut other = rich();
        other.packets[0].records[0].times = 9;
        other.site.access = Some((24, 64));
        assert_eq!(other.family(), rich().family());
        other.packets[0].tags = 1;
        assert_ne!(other.family(), rich().family());
    }
}
