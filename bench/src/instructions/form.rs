//! Packets of one form, and the answers to them.

use super::{
    answer::{Content, TTL},
    parts::{Client, CookieKind, EdnsOption, Labels, OLD_SECRET, Place, Records, SECRET, Sum},
};
use crate::stage::Ip;
use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use ringdns_dataplane::{
    checksum::Checksums,
    clock::Secs,
    dns::{
        answer::{Answer, TtlRules},
        cookie::{Cookie, Cookies},
        query::Query,
    },
    process::Verdict,
};
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;

/// Times of the queries for fresh and for stale answers, in seconds.
const TIMES: [Secs; 2] = [5, 600];
const TTL_RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 10_800, stale: 86_400, ahead: 0 };
/// Length of the first label, which differs from name to name.
const FIRST_LABEL: usize = 6;
/// Age of a server cookie that is valid, and is renewed, in seconds.
const AGED: Secs = 2_000;
/// Flag "recursion desired".
const RD: u16 = 0x0100;

/// Expected outcome of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// An answer from the cache.
    #[default]
    Hit,
    /// A reply without a look into the cache.
    Reply,
    /// REFUSED for the client.
    Refused,
    /// No reply, since the client may not ask.
    Denied,
    /// No reply.
    Drop,
}

impl Fate {
    /// Whether a verdict is the expected one.
    pub fn matches(self, verdict: Verdict) -> bool {
        match self {
            Fate::Hit | Fate::Reply | Fate::Refused => verdict.is_reply(),
            Fate::Denied | Fate::Drop => matches!(verdict, Verdict::Drop(_)),
        }
    }
}

/// Form of packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Form {
    /// Number of VLAN tags.
    pub tags: usize,
    /// IP version.
    pub ip: Ip,
    /// UDP checksum of the packet.
    pub sum: Sum,
    /// Verification by the worker.
    #[serde(skip, default = "verify")]
    pub checksums: Checksums,
    /// Length of the name in bytes.
    pub name: usize,
    /// Labels of the name.
    pub labels: Labels,
    /// Whether the name is in capital letters.
    pub is_upper: bool,
    /// Flags of the header.
    pub flags: u16,
    /// Type of the question; `None`: that of the answer.
    pub qtype: Option<u16>,
    /// Class of the question.
    pub qclass: u16,
    /// Whether there is a question.
    pub has_question: bool,
    /// Numbers of questions and records in the header; `None`: the right ones.
    pub counts: Option<[u16; 4]>,
    /// EDNS options, each as often as the number beside it says; `None`: no EDNS.
    pub options: Option<Vec<(EdnsOption, u16)>>,
    /// UDP size that the client advertises; needs EDNS.
    pub udp_size: u16,
    /// EDNS version.
    pub version: u8,
    /// Whether DNSSEC records are asked for; needs EDNS.
    pub dnssec_ok: bool,
    /// Other records.
    pub records: Vec<Records>,
    /// Length in bytes after which the message is cut off.
    pub cut: Option<u16>,
    /// Bytes after the message, in the datagram.
    pub trailer: u16,
    /// Bytes after the packet, in the frame.
    pub padding: u16,
    /// Answer in the cache.
    pub content: Content,
    /// Whether the answer has expired.
    pub is_stale: bool,
    /// Whether the name was asked for shortly before.
    pub is_asked_again: bool,
    /// Expected outcome.
    #[serde(skip)]
    pub fate: Fate,
    /// Length of the name that the server has for clients that ask for it; 0: it has none.
    #[serde(skip)]
    pub server_name: u8,
}

fn verify() -> Checksums {
    Checksums::Verify
}

impl Default for Form {
    fn default() -> Self {
        Form {
            tags: 0,
            ip: Ip::V4,
            sum: Sum::Right,
            checksums: Checksums::Verify,
            name: 20,
            labels: Labels::Long,
            is_upper: false,
            flags: RD,
            qtype: None,
            qclass: 1,
            has_question: true,
            counts: None,
            options: None,
            udp_size: 1232,
            version: 0,
            dnssec_ok: false,
            records: Vec::new(),
            cut: None,
            trailer: 0,
            padding: 0,
            content: Content::Addresses(1),
            is_stale: false,
            is_asked_again: false,
            fate: Fate::Hit,
            server_name: 0,
        }
    }
}

impl Form {
    /// Returns the usual form with EDNS.
    pub fn with_options(options: &[EdnsOption]) -> Self {
        let options = options.iter().map(|option| (*option, 1)).collect();
        Form { options: Some(options), ..Form::default() }
    }

    /// Returns the form of packets from a sender on this host, whose checksum nobody has completed.
    pub fn partial(ip: Ip) -> Self {
        Form { ip, sum: Sum::Partial, checksums: Checksums::AllowPartial, ..Form::default() }
    }

    /// Whether answers count as hits, or as stale ones.
    pub fn is_counted(&self) -> bool {
        self.fate == Fate::Hit && self.content != Content::Failure
    }

    /// Whether the query has a cookie.
    pub fn has_cookie(&self) -> bool {
        let is_cookie =
            |(option, times): &(EdnsOption, u16)| *times > 0 && matches!(option, EdnsOption::Cookie(_));
        self.options.iter().flatten().any(is_cookie)
    }

    /// Returns the time of the queries.
    pub fn now(&self) -> Secs {
        TIMES[usize::from(self.is_stale)]
    }

    /// Returns the query with this number and its answer; `None` if the cache has none.
    pub fn filed(&self, number: usize) -> Result<Option<(Query, Answer)>> {
        if self.fate != Fate::Hit {
            return Ok(None);
        }
        let found = self.answered(number, 0)?;
        ensure!(found.is_some(), "the data plane rejects the query");
        Ok(found)
    }

    /// Returns the query with this number and its answer, received at `received`; `None` if the message is
    /// no query to look up.
    pub fn answered(&self, number: usize, received: Secs) -> Result<Option<(Query, Answer)>> {
        self.answered_to(&self.message(number, received)?, received)
    }

    /// Returns the query that a message of this form is, and its answer, likewise.
    pub fn answered_to(&self, message: &[u8], received: Secs) -> Result<Option<(Query, Answer)>> {
        let mut query = Query::default();
        if query.parse(message).is_err() || query.flags & RD == 0 {
            return Ok(None);
        }
        let answer = if self.content == Content::Failure {
            Answer::error(2, None, received, TTL)
        } else {
            let reply = self.content.reply(&message[..12 + query.question_len()]);
            let trust_ad = self.content == Content::Authentic;
            Answer::from_response(&reply, &query.key, &TTL_RULES, received, trust_ad)
                .context("the data plane rejects the upstream's answer")?
        };
        Ok(Some((query, answer)))
    }

    /// Returns the name with this number, on the wire.
    fn question_name(&self, number: usize) -> Vec<u8> {
        if self.labels == Labels::Identity {
            return b"\x02id\x06server\0".to_vec();
        }
        let mut label = format!("n{number:05}").into_bytes();
        label.truncate(FIRST_LABEL);
        let mut name = vec![FIRST_LABEL as u8];
        name.extend(label);
        let most = if matches!(self.labels, Labels::Short | Labels::Pointer) { 1 } else { 63 };
        while name.len() + 1 < self.name {
            let left = self.name - 1 - name.len();
            let len = most.min(left - 1);
            // A label of no bytes would be the end, so that none may be left for one byte.
            let len = match left - 1 - len {
                1 if len < 63 => len + 1,
                1 => len - 1,
                _ => len,
            };
            name.push(len as u8);
            name.extend(std::iter::repeat_n(b'x', len));
        }
        if self.is_upper {
            name.make_ascii_uppercase();
        }
        match self.labels {
            Labels::Pointer => name.extend([0xc0, 12]),
            Labels::Long | Labels::Short | Labels::Invalid | Labels::Identity => name.push(0),
        }
        if self.labels == Labels::Invalid {
            name[0] = 0x80;
        }
        name
    }

    /// Returns the message with this number, sent at `now`.
    pub fn message(&self, number: usize, now: Secs) -> Result<Vec<u8>> {
        let mut message = vec![0; 12];
        message[..2].copy_from_slice(&[0x12, 0x34]);
        message[2..4].copy_from_slice(&self.flags.to_be_bytes());
        if self.has_question {
            message.extend(self.question_name(number));
            message.extend(self.qtype.unwrap_or(self.content.qtype()).to_be_bytes());
            message.extend(self.qclass.to_be_bytes());
        }
        let mut counts = [u16::from(self.has_question), 0, 0, u16::from(self.options.is_some())];
        for place in [Place::Answer, Place::Authority, Place::Before, Place::After] {
            if place == Place::After {
                self.write_opt(&mut message, now)?;
            }
            for records in self.records.iter().filter(|records| records.place == place) {
                counts[1 + (place as usize).min(2)] += records.times;
                (0..records.times).for_each(|_| records.write(&mut message));
            }
        }
        for (count, at) in self.counts.unwrap_or(counts).into_iter().zip([4, 6, 8, 10]) {
            message[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        message.truncate(self.cut.map_or(usize::MAX, usize::from));
        message.extend(std::iter::repeat_n(0, self.trailer.into()));
        Ok(message)
    }

    fn write_opt(&self, message: &mut Vec<u8>, now: Secs) -> Result<()> {
        let Some(options) = &self.options else { return Ok(()) };
        let mut data = Vec::new();
        for (option, times) in options {
            let (code, content) = self.option(*option, now)?;
            for _ in 0..*times {
                data.extend(code.to_be_bytes());
                data.extend((content.len() as u16).to_be_bytes());
                data.extend(&content);
            }
        }
        message.extend([0, 0, 41]);
        message.extend(self.udp_size.to_be_bytes());
        message.extend([0, self.version, u8::from(self.dnssec_ok) << 7, 0]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
        Ok(())
    }

    /// Returns the code and the data of an option.
    fn option(&self, option: EdnsOption, now: Secs) -> Result<(u16, Vec<u8>)> {
        Ok(match option {
            EdnsOption::Padding(len) => (12, vec![0; len.into()]),
            EdnsOption::Nsid => (3, Vec::new()),
            EdnsOption::Keepalive => (11, Vec::new()),
            EdnsOption::Subnet => (8, vec![0, 1, 24, 0, 192, 0, 2]),
            EdnsOption::Unknown(len) => (65_001, vec![0; len.into()]),
            EdnsOption::Cookie(kind) => (10, self.cookie(kind, now)),
        })
    }

    /// Returns the client's cookie, and the server's for it.
    fn cookie(&self, kind: CookieKind, now: Secs) -> Vec<u8> {
        let learning = Cookie { client: [1, 2, 3, 4, 5, 6, 7, 8], server: None };
        let made = |secret, at| {
            let client = Client::USUAL.address(self.ip);
            Cookies::new(secret, None).answer(&learning, client, at).0.to_vec()
        };
        match kind {
            CookieKind::Client => learning.client.to_vec(),
            CookieKind::Server => made(SECRET, now),
            CookieKind::Old => made(OLD_SECRET, now),
            CookieKind::Aged => made(SECRET, now.wrapping_sub(AGED)),
            CookieKind::Wrong => made([9; 16], now),
            CookieKind::Foreign => vec![0x53; 40],
            CookieKind::Malformed => vec![0x53; 7],
        }
    }

    /// Returns the packet with this number, sent at `now`.
    pub fn packet(&self, number: usize, now: Secs) -> Result<Vec<u8>> {
        self.packet_of(&Client::USUAL, number, now)
    }

    /// Returns the packet of a client with this number, sent at `now`.
    pub fn packet_of(&self, client: &Client, number: usize, now: Secs) -> Result<Vec<u8>> {
        let message = self.message(number, now)?;
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0x53, 1], [2, 0, 0, 0, 0x53, 2]);
        let headers = match self.ip {
            Ip::V4 => link.ipv4(client.v4.octets(), [10, 53, 0, 2], 64),
            Ip::V6 => {
                let server = Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, 0, 2);
                link.ipv6(client.v6.octets(), server.octets(), 64)
            }
        };
        let headers = headers.udp(40_000, 53);
        let mut packet = Vec::with_capacity(headers.size(message.len()));
        headers.write(&mut packet, &message).context("cannot write a packet")?;
        let at = packet.len() - message.len() - 2;
        let sum: [u8; 2] = [packet[at], packet[at + 1]];
        let sum = match self.sum {
            Sum::Right => sum,
            Sum::Zero => [0, 0],
            Sum::Wrong => [sum[0] ^ 1, sum[1]],
            Sum::Partial => partial(&packet, self.ip, 8 + message.len()).to_be_bytes(),
        };
        packet[at..at + 2].copy_from_slice(&sum);
        let tag = |nth: usize| if nth + 1 < self.tags { [0x88, 0xa8, 0, 7] } else { [0x81, 0, 0, 42] };
        let tags: Vec<u8> = (0..self.tags).flat_map(tag).collect();
        packet.splice(12..12, tags);
        packet.extend(std::iter::repeat_n(0, self.padding.into()));
        // IEEE 802.3: no frame is shorter.
        packet.resize(packet.len().max(60), 0);
        Ok(packet)
    }
}

/// Returns the sum of the pseudo-header of a datagram of `len` bytes.
fn partial(packet: &[u8], ip: Ip, len: usize) -> u16 {
    let addresses = if ip == Ip::V4 { &packet[26..34] } else { &packet[22..54] };
    let words = addresses.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>() + 17 + len as u32;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
