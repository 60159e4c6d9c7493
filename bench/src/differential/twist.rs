//! Odd queries: rarely sent, or not allowed.

use super::probe::{DO, Draft, Opt, Probe, RD};
use crate::{
    question::{HEADER, wire_name},
    upstream::Over,
};
use rand::{Rng, rngs::SmallRng};
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
        match self.0 {
            "opcode-iquery" => draft.flags |= opcode(1),
            "opcode-status" => draft.flags |= opcode(2),
            "opcode-notify" => draft.flags |= opcode(4),
            "opcode-update" => draft.flags |= opcode(5),
            "opcode-15" => draft.flags |= opcode(15),
            "class-ch" => draft.qclass = 3,
            "class-hs" => draft.qclass = 4,
            "class-none" => draft.qclass = 254,
            "class-any" => draft.qclass = 255,
            "version-bind" => {
                draft.name = b"\x07version\x04bind\0".into();
                (draft.qtype, draft.qclass) = (16, 3);
            }
            "long-name" => {
                draft.name = wire_name(&format!("{0}.{0}.{0}.abcdefghijklm.example", "l".repeat(63)))
                    .unwrap_or(draft.name)
            }
            "odd-bytes" => {
                let mut name = b"\x05\0\xff.\x7f ".to_vec();
                name.extend(&draft.name);
                if name.len() <= 255 {
                    draft.name = name;
                }
            }
            "header-qr" => draft.flags |= 0x8000,
            "header-aa" => draft.flags |= 0x0400,
            "header-tc" => draft.flags |= 0x0200,
            "header-ra" => draft.flags |= 0x0080,
            "header-z" => draft.flags |= 0x0040,
            "header-rcode" => draft.flags |= 3,
            "type-axfr" => draft.qtype = 252,
            "type-ixfr" => draft.qtype = 251,
            "type-0" => draft.qtype = 0,
            name if name.starts_with("edns-") || name.starts_with("opt") || name == "two-opts" => {
                let dnssec_ok = draft.opt.as_ref().map_or(0, |opt| opt.flags & DO);
                let mut opt = Opt { size: 1232, version: 0, flags: dnssec_ok, options: Vec::new() };
                match name {
                    "edns-version-1" => opt.version = 1,
                    "edns-version-255" => opt.version = 255,
                    "edns-flags" => opt.flags |= 0x2a55,
                    "option-nsid" => opt.options = option(3, b""),
                    "option-subnet" => opt.options = option(8, &[0, 1, 24, 0, 198, 18, 7]),
                    "option-subnet-none" => opt.options = option(8, &[0, 1, 0, 0]),
                    "option-cookie" => opt.options = option(10, b"\x01\x23\x45\x67\x89\xab\xcd\xef"),
                    "option-cookie-short" => opt.options = option(10, b"\x01\x23\x45"),
                    "option-padding" => opt.options = option(12, &[0; 31]),
                    "option-keepalive" => opt.options = option(11, b""),
                    "option-unknown" => opt.options = option(65_001, b"ringdns"),
                    _ => {}
                }
                draft.opt = Some(opt);
            }
            _ => {}
        }
        (draft, format!("twist:{}", self.0))
    }

    /// Builds the message, and changes what no draft can express.
    pub(super) fn finish(self, draft: Draft, mut tags: BTreeSet<String>) -> Probe {
        tags.remove("rd0");
        if let Some(opt) = &draft.opt {
            tags.retain(|tag| !tag.starts_with("edns-size:"));
            tags.insert("edns".into());
            tags.insert(format!("edns-size:{}", opt.size));
            if opt.flags & DO != 0 {
                tags.insert("do".into());
            }
        }
        let mut message = draft.wire();
        let end = HEADER + draft.name.len() + 4;
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
            // The upper bits of the RCODE are meaningless in queries.
            "edns-rcode" => message[end + 5] = 1,
            _ => {}
        }
        Probe { message, over: Over::Udp, tags, text: String::new() }
    }
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), &(data.len() as u16).to_be_bytes(), data].concat()
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
