//! Odd queries: rarely sent, or not allowed.

use super::probe::Probe;
use crate::question::{HEADER, QUESTION_MAX, wire_name};
use anyhow::Result;
use rand::{Rng, rngs::SmallRng};
use ringdns_testkit::{
    Over,
    scenario::{Draft, Edns, RD},
};
use std::{collections::BTreeSet, fmt::Write};

/// Kind of oddity.
#[derive(Clone, Copy, Debug)]
pub struct Twist(&'static str);

/// All kinds; each is a tag.
const TWISTS: &str = "opcode-iquery opcode-status opcode-notify opcode-update opcode-15 class-ch class-hs class-none \
    class-any version-bind two-questions no-question answer-in-query authority-in-query \
    additional-in-query trailing cut-question cut-header compressed-name long-name odd-bytes header-qr \
    header-aa header-tc header-ra header-z header-rcode edns-version-1 edns-version-255 edns-flags \
    edns-rcode two-opts opt-with-name opt-cut option-nsid option-subnet option-subnet-none option-cookie \
    option-cookie-short option-padding option-keepalive option-unknown type-axfr type-ixfr type-0";

impl Twist {
    /// Draws a kind, each equally often.
    pub fn draw(rng: &mut SmallRng) -> Self {
        let all: Vec<&str> = TWISTS.split(' ').collect();
        Twist(all[rng.random_range(0..all.len())])
    }

    /// Changes the draft, as far as a draft can express the oddity, and returns it with the tag.
    pub(super) fn question(self, mut draft: Draft) -> (Draft, String) {
        let opcode = |code: u16| code << 11;
        draft.flags |= RD;
        let end = draft.question.len();
        let mut ask_type =
            |qtype: u16| draft.question[end - 4..end - 2].copy_from_slice(&qtype.to_be_bytes());
        match self.0 {
            "opcode-iquery" => draft.flags |= opcode(1),
            "opcode-status" => draft.flags |= opcode(2),
            "opcode-notify" => draft.flags |= opcode(4),
            "opcode-update" => draft.flags |= opcode(5),
            "opcode-15" => draft.flags |= opcode(15),
            "class-ch" => draft.question[end - 1] = 3,
            "class-hs" => draft.question[end - 1] = 4,
            "class-none" => draft.question[end - 1] = 254,
            "class-any" => draft.question[end - 1] = 255,
            "version-bind" => draft.question = b"\x07version\x04bind\0\0\x10\0\x03".into(),
            "long-name" => {
                let name = wire_name(&format!("{0}.{0}.{0}.abcdefghijklm.example", "l".repeat(63)));
                draft.question.splice(..end - 4, name.unwrap_or_default());
            }
            "odd-bytes" if end + 6 <= QUESTION_MAX => {
                draft.question.splice(..0, *b"\x05\0\xff.\x7f ");
            }
            "header-qr" => draft.flags |= 0x8000,
            "header-aa" => draft.flags |= 0x0400,
            "header-tc" => draft.flags |= 0x0200,
            "header-ra" => draft.flags |= 0x0080,
            "header-z" => draft.flags |= 0x0040,
            "header-rcode" => draft.flags |= 3,
            "type-axfr" => ask_type(252),
            "type-ixfr" => ask_type(251),
            "type-0" => ask_type(0),
            name if name.starts_with("edns-") || name.starts_with("opt") || name == "two-opts" => {
                let dnssec_ok = draft.edns.as_ref().map_or(0, |edns| edns.flags & Edns::DO);
                let mut edns = Edns { size: 1232, flags: dnssec_ok, ..Edns::default() };
                match name {
                    "edns-version-1" => edns.version = 1,
                    "edns-version-255" => edns.version = 255,
                    "edns-flags" => edns.flags |= 0x2a55,
                    // The upper bits of the RCODE are meaningless in queries.
                    "edns-rcode" => draft.extended = 1,
                    "option-nsid" => edns.options = vec![(3, b"".into())],
                    "option-subnet" => edns.options = vec![(8, vec![0, 1, 24, 0, 198, 18, 7])],
                    "option-subnet-none" => edns.options = vec![(8, vec![0, 1, 0, 0])],
                    "option-cookie" => edns.options = vec![(10, b"\x01\x23\x45\x67\x89\xab\xcd\xef".into())],
                    "option-cookie-short" => edns.options = vec![(10, b"\x01\x23\x45".into())],
                    "option-padding" => edns.options = vec![(12, vec![0; 31])],
                    "option-keepalive" => edns.options = vec![(11, b"".into())],
                    "option-unknown" => edns.options = vec![(65_001, b"ringdns".into())],
                    _ => {}
                }
                draft.edns = Some(edns);
            }
            _ => {}
        }
        (draft, format!("twist:{}", self.0))
    }

    /// Builds the message, and changes what no draft can express.
    pub(super) fn finish(self, draft: &Draft, mut tags: BTreeSet<String>) -> Result<Probe> {
        tags.remove("rd0");
        if let Some(edns) = &draft.edns {
            tags.retain(|tag| !tag.starts_with("edns-size:"));
            tags.insert("edns".into());
            tags.insert(format!("edns-size:{}", edns.size));
            if edns.flags & Edns::DO != 0 {
                tags.insert("do".into());
            }
        }
        let mut message = draft.wire().map_err(anyhow::Error::msg)?;
        let end = HEADER + draft.question.len();
        // A record of type A for the question's name.
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1];
        match self.0 {
            "two-questions" => {
                message[5] = 2;
                message.splice(end..end, *b"\x05other\x07example\0\0\x01\0\x01");
            }
            "no-question" => {
                message.truncate(HEADER);
                message[4..].fill(0);
            }
            "answer-in-query" => {
                message[7] = 1;
                message.splice(end..end, record);
            }
            "authority-in-query" => {
                message[9] = 1;
                message.splice(end..end, record);
            }
            "additional-in-query" => {
                message[11] += 1;
                message.splice(end..end, record);
            }
            "trailing" => message.extend(b"\0trailing"),
            "cut-question" => message.truncate(end - 3),
            "cut-header" => message.truncate(HEADER - 1),
            "compressed-name" => {
                message.truncate(HEADER);
                message[4..].fill(0);
                message[5] = 1;
                message.extend([0xc0, 12, 0, 1, 0, 1]);
            }
            "two-opts" => {
                message[11] = 2;
                message.extend_from_within(end..);
            }
            "opt-with-name" => {
                message.splice(end..=end, *b"\x01x\0");
            }
            "opt-cut" => {
                let last = message.len() - 1;
                message[last] = 4;
            }
            _ => {}
        }
        Ok(Probe { message, over: Over::Udp, tags, text: String::new() })
    }
}

/// Describes a query in a line: its question as far as it can be parsed, then its tags.
pub fn describe(probe: &Probe) -> String {
    let mut text = String::new();
    let mut rest = probe.message.get(HEADER..).unwrap_or_default();
    while let Some((length @ 1..=63, tail)) = rest.split_first() {
        let Some((label, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        // Writing to a string does not fail.
        let _ = write!(text, "{}.", label.escape_ascii());
        rest = tail;
    }
    if text.is_empty() {
        text.push('.');
    }
    for tag in &probe.tags {
        let _ = write!(text, " {tag}");
    }
    text
}
