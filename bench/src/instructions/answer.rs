//! Answers to packets of a form, as an upstream would send them.

use serde::{Deserialize, Serialize};

/// TTL of all records, in seconds.
pub const TTL: u32 = 300;
/// Most bytes of a string of a TXT record here.
const STRING_MAX: usize = 199;
const ADDRESS: &[u8] = &[192, 0, 2, 1];
const SOA: &[u8] = &[0, 0, 0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 3, 132, 0, 9, 58, 128, 0, 0, 1, 44];

/// Answer in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// This many IPv4 addresses.
    Addresses(usize),
    /// An IPv6 address.
    Aaaa,
    /// This many CNAME records and an address.
    Aliases(usize),
    /// A TXT record of this many bytes.
    Text(usize),
    /// An address and its signature.
    Signed,
    /// A validated address.
    Authentic,
    /// An address, and this many in the additional section.
    Glue(usize),
    /// NXDOMAIN with an SOA record.
    Nxdomain,
    /// NXDOMAIN with an SOA record, this many NSEC3 records, and a signature of each.
    Proof(usize),
    /// An SOA record alone.
    NoData,
    /// SERVFAIL.
    Failure,
}

/// Sections of a message after its question.
#[derive(Clone, Copy)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// Reply that is being written.
struct Reply {
    message: Vec<u8>,
    flags: [u8; 2],
    counts: [u16; 3],
}

impl Reply {
    fn record(&mut self, section: Section, rtype: u16, data: &[u8]) {
        self.counts[section as usize] += 1;
        self.message.extend([0xc0, 12]);
        self.message.extend(rtype.to_be_bytes());
        self.message.extend([0, 1]);
        self.message.extend(TTL.to_be_bytes());
        self.message.extend((data.len() as u16).to_be_bytes());
        self.message.extend(data);
    }

    fn signature(&mut self, section: Section, covered: u8) {
        let head = [0, covered, 13, 2, 0, 0, 1, 44, 0x70, 0, 0, 0, 0x60, 0, 0, 0, 0x12, 0x34];
        self.record(section, 46, &[&head[..], b"\x07example\0", &[0x77; 64]].concat());
    }
}

impl Content {
    /// Returns the type of the question.
    pub fn qtype(self) -> u16 {
        match self {
            Content::Aaaa => 28,
            Content::Text(_) => 16,
            _ => 1,
        }
    }

    /// Returns an upstream's reply to a query without its additional records.
    pub fn reply(self, query: &[u8]) -> Vec<u8> {
        let mut reply = Reply { message: query.to_vec(), flags: [0x81, 0x80], counts: [0; 3] };
        match self {
            Content::Addresses(count) => {
                (0..count).for_each(|n| reply.record(Section::Answer, 1, &[192, 0, 2, n as u8]));
            }
            Content::Authentic => {
                reply.flags[1] |= 0x20;
                reply.record(Section::Answer, 1, ADDRESS);
            }
            Content::Aaaa => {
                let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
                reply.record(Section::Answer, 28, &address);
            }
            Content::Aliases(count) => {
                (0..count).for_each(|_| reply.record(Section::Answer, 5, b"\x05alias\x07example\0"));
                reply.record(Section::Answer, 1, ADDRESS);
            }
            Content::Text(bytes) => {
                let text = vec![b'a'; bytes];
                let strings = text.chunks(STRING_MAX + 1).map(|string| &string[1..]);
                let data: Vec<u8> =
                    strings.flat_map(|string| [&[string.len() as u8], string].concat()).collect();
                reply.record(Section::Answer, 16, &data);
            }
            Content::Signed => {
                reply.record(Section::Answer, 1, ADDRESS);
                reply.signature(Section::Answer, 1);
            }
            Content::Glue(count) => {
                reply.record(Section::Answer, 1, ADDRESS);
                (0..count).for_each(|n| reply.record(Section::Additional, 1, &[192, 0, 2, n as u8]));
            }
            Content::Nxdomain | Content::Proof(_) => {
                reply.flags[1] |= 3;
                reply.record(Section::Authority, 6, SOA);
                let Content::Proof(count) = self else { return reply.finish() };
                reply.signature(Section::Authority, 6);
                for _ in 0..count {
                    let head = [1, 0, 0, 0, 0, 20];
                    reply.record(Section::Authority, 50, &[&head[..], &[0x33; 20], &[0, 1, 0x40]].concat());
                    reply.signature(Section::Authority, 50);
                }
            }
            Content::NoData => reply.record(Section::Authority, 6, SOA),
            Content::Failure => reply.flags[1] |= 2,
        }
        reply.finish()
    }
}

impl Reply {
    fn finish(mut self) -> Vec<u8> {
        self.message[2..4].copy_from_slice(&self.flags);
        for (at, count) in [6, 8, 10].into_iter().zip(self.counts) {
            self.message[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        self.message
    }
}
