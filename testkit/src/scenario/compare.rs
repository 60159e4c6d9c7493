//! Comparison of an expected message with a received one.

use std::fmt;

use super::message::{COOKIE, EDE, Edns, Message, OPCODE, flags_text, question_text, rcode_text};
use super::record::hex_text;
use super::{Expected, ExpectedEdns, ExpectedOption, Presence, Record, ServerCookie, Ttl};

/// Expectations of a message that a scenario does not mention.
pub(super) struct Usual {
    pub flags: u16,
    pub question: Vec<u8>,
    pub edns: Option<Edns>,
    /// Server cookie of the last reply with one.
    pub server_cookie: Vec<u8>,
}

/// Returns the differences between a message and its expectation. `late`: seconds that TTLs may
/// have lost now, and up to now.
pub(super) fn differences(
    expected: &Expected,
    message: &Message,
    usual: &Usual,
    late: [u32; 2],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: String, got: String| {
        if expected != got {
            wrong.push(format!("{what}: expected {expected}, got {got}"));
        }
    };
    compare("response code", rcode_text(expected.rcode), rcode_text(message.rcode));
    let mut flags = usual.flags & !expected.without | expected.with;
    if let Some(opcode) = expected.opcode {
        flags = flags & !OPCODE | opcode;
    }
    compare("flags", flags_text(flags), flags_text(message.flags));
    let question = expected.question.as_ref().unwrap_or(&usual.question);
    let spelled =
        |question: &[u8]| if expected.any_case { question.to_ascii_lowercase() } else { question.to_vec() };
    if spelled(question) != spelled(&message.question) {
        compare("question", question_text(question), question_text(&message.question));
        compare("question's bytes", hex_text(question), hex_text(&message.question));
    }
    wrong.extend(edns_difference(&expected.edns, message.edns.as_ref(), usual));
    for (name, (expected, got)) in
        ["answer", "authority", "additional"].iter().zip(expected.sections.iter().zip(&message.sections))
    {
        wrong.extend(section_differences(name, expected, got, late));
    }
    if let Some((least, most)) = expected.bytes
        && !(least..=most).contains(&message.length)
    {
        wrong.push(format!("{} bytes", message.length));
    }
    wrong
}

fn section_differences(
    name: &str,
    expected: &[(Record, Ttl)],
    got: &[Record],
    late: [u32; 2],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for nth in 0..expected.len().max(got.len()) {
        let line = |record: &Record, ttl: &Ttl| {
            record.to_string().replacen(&record.ttl.to_string(), &ttl.to_string(), 1)
        };
        match (expected.get(nth), got.get(nth)) {
            (Some((record, ttl)), Some(got)) if record.is_alike(got) => {
                if !ttl.admits(got.ttl, late[0], late[1]) {
                    wrong.push(format!("{name}: expected TTL {ttl}, got {} in {got}", got.ttl));
                }
            }
            (Some((record, ttl)), Some(got)) => {
                wrong.push(format!("{name}: expected {}, got {got}", line(record, ttl)))
            }
            (Some((record, ttl)), None) => wrong.push(format!("{name}: missing: {}", line(record, ttl))),
            (None, Some(got)) => wrong.push(format!("{name}: unexpected: {got}")),
            (None, None) => {}
        }
    }
    wrong.truncate(8);
    wrong
}

fn edns_difference(expected: &ExpectedEdns, got: Option<&Edns>, usual: &Usual) -> Option<String> {
    let Usual { edns: usual, server_cookie, .. } = usual;
    let usual = usual.as_ref();
    let wanted = match expected.presence {
        Presence::No => None,
        Presence::Yes => Some(Edns {
            size: expected.size.or(usual.map(|edns| edns.size)).unwrap_or(1232),
            version: expected.version,
            flags: expected.flags | if expected.dnssec_ok { Edns::DO } else { 0 },
            options: Vec::new(),
        }),
        Presence::Usual => usual.map(|usual| Edns { flags: usual.flags | expected.flags, ..usual.clone() }),
    };
    let bare = got.map(|got| Edns { options: Vec::new(), ..got.clone() });
    let options = got.map_or(&[][..], |got| &got.options);
    let fit = options.len() == expected.options.len()
        && expected.options.iter().zip(options).all(|(expected, got)| expected.admits(got, server_cookie));
    let text = |edns: Option<&Edns>| edns.map_or_else(|| "no-edns".to_owned(), ToString::to_string);
    (bare != wanted || !fit).then(|| {
        let options: String = expected.options.iter().map(|option| format!(" {option}")).collect();
        format!("EDNS: expected {}{options}, got {}", text(wanted.as_ref()), text(got))
    })
}

impl ExpectedOption {
    fn admits(&self, (code, data): &(u16, Vec<u8>), last: &[u8]) -> bool {
        match self {
            Self::Exactly(wanted, bytes) => wanted == code && bytes == data,
            Self::Error(wanted, text) => {
                *code == EDE
                    && data.get(..2) == Some(&wanted.to_be_bytes())
                    && text.as_ref().is_none_or(|text| text.as_bytes() == &data[2..])
            }
            Self::Cookie(client, server) => {
                // RFC 7873 section 4: the client cookie has 8 bytes, the server cookie 8 to 32.
                let Some((ours, theirs)) = data.split_at_checked(8).filter(|_| *code == COOKIE) else {
                    return false;
                };
                client.as_ref().is_none_or(|client| ours == client)
                    && match server {
                        ServerCookie::Exactly(bytes) => theirs == bytes,
                        ServerCookie::Same => theirs == last,
                        ServerCookie::New => (8..=32).contains(&theirs.len()) && theirs != last,
                        ServerCookie::Any => (8..=32).contains(&theirs.len()),
                    }
            }
        }
    }
}

impl fmt::Display for ExpectedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(code, bytes) => write!(f, "option {code} {}", hex_text(bytes)),
            Self::Error(code, text) => write!(f, "ede {code} {}", text.as_deref().unwrap_or_default()),
            Self::Cookie(client, server) => {
                let client = client.as_ref().map_or_else(|| "any".to_owned(), |client| hex_text(client));
                match server {
                    ServerCookie::Any => write!(f, "cookie {client}+server"),
                    ServerCookie::Same => write!(f, "cookie {client}+same"),
                    ServerCookie::New => write!(f, "cookie {client}+new"),
                    ServerCookie::Exactly(bytes) => write!(f, "cookie {client}+{}", hex_text(bytes)),
                }
            }
        }
    }
}
