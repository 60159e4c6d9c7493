//! Packets of one form, and the answers to them.

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
use std::net::IpAddr;

/// TTL of all records, in seconds.
const TTL: u32 = 300;
/// Times of the queries for fresh and for stale answers, in seconds.
const TIMES: [Secs; 2] = [5, 600];
const TTL_RULES: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 10_800, stale: 86_400, ahead: 0 };
/// Length of the first label, which differs from name to name.
const FIRST_LABEL: usize = 6;
/// EDNS option whose data are the client's cookie and the server's, which is filled in.
pub const SERVER_COOKIE: (u16, &[u8]) = (10, &[0x53; 24]);
const CLIENTS: [&str; 2] = ["10.53.0.1", "fd53::1"];
/// Secret of the [stage's policy](crate::stage::policy).
const SECRET: [u8; 16] = [7; 16];

/// UDP checksum of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Right.
    Right,
    /// Zero: the sender computed none (RFC 768).
    Zero,
    /// Sum of the pseudo-header alone, as from a sender on this host.
    Partial,
    /// Wrong.
    Wrong,
}

/// Labels of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Labels as few as its length allows.
    Long,
    /// Labels of one letter each, after the first.
    Short,
    /// First label with an invalid length.
    Invalid,
}

/// Answer in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// This many IPv4 addresses.
    Addresses(usize),
    /// An IPv6 address.
    Aaaa,
    /// A CNAME record and an address.
    Alias,
    /// A TXT record of 400 bytes.
    Text,
    /// An address and its signature.
    Signed,
    /// A validated address.
    Authentic,
    /// NXDOMAIN with an SOA record.
    Nxdomain,
    /// An SOA record alone.
    NoData,
    /// SERVFAIL.
    Failure,
}

/// Expected outcome of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// An answer from the cache.
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
#[derive(Clone, Debug)]
pub struct Form {
    /// Number of VLAN tags.
    pub tags: usize,
    /// IP version.
    pub ip: Ip,
    /// UDP checksum of the packet.
    pub sum: Sum,
    /// Verification by the worker.
    pub checksums: Checksums,
    /// Length of the name in bytes; 0: the message ends within its header.
    pub name: usize,
    /// Labels of the name.
    pub labels: Labels,
    /// Whether the name is in capital letters.
    pub is_upper: bool,
    /// Flags of the header.
    pub flags: u16,
    /// EDNS options; `None`: no EDNS.
    pub options: Option<&'static [(u16, &'static [u8])]>,
    /// Whether DNSSEC records are asked for; needs EDNS.
    pub dnssec_ok: bool,
    /// Answer in the cache.
    pub content: Content,
    /// Whether the answer has expired.
    pub is_stale: bool,
    /// Whether the name was asked for shortly before.
    pub is_asked_again: bool,
    /// Expected outcome.
    pub fate: Fate,
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
            flags: 0x0100,
            options: None,
            dnssec_ok: false,
            content: Content::Addresses(1),
            is_stale: false,
            is_asked_again: false,
            fate: Fate::Hit,
        }
    }
}

impl Form {
    /// Returns the usual form with EDNS.
    pub fn with_options(options: &'static [(u16, &'static [u8])]) -> Self {
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

    /// Returns the time of the queries.
    pub fn now(&self) -> Secs {
        TIMES[usize::from(self.is_stale)]
    }

    /// Returns the query with this number and its answer; `None` if the cache has none.
    pub fn filed(&self, number: usize) -> Result<Option<(Query, Answer)>> {
        if self.fate != Fate::Hit {
            return Ok(None);
        }
        let message = self.message(number)?;
        let mut query = Query::default();
        let parsed = query.parse(&message);
        ensure!(parsed.is_ok(), "the data plane rejects the query: {parsed:?}");
        let mut answer = if self.content == Content::Failure {
            Answer::error(2, None, 0, TTL)
        } else {
            let reply = self.reply(&message[..12 + query.question_len()]);
            let trust_ad = self.content == Content::Authentic;
            Answer::from_response(&reply, &query.key, &TTL_RULES, 0, trust_ad)
                .context("the data plane rejects the upstream's answer")?
        };
        answer.received = 0;
        Ok(Some((query, answer)))
    }

    /// Returns an upstream's reply to a query without its additional records.
    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let mut reply = query.to_vec();
        let (mut flags, mut counts) = ([0x81, 0x80], [0u16, 0]);
        let mut record = |section: usize, rtype: u16, data: &[u8]| {
            counts[section] += 1;
            reply.extend([0xc0, 12]);
            reply.extend(rtype.to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(TTL.to_be_bytes());
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        };
        let soa =
            [&[0, 0][..], &[0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 3, 132, 0, 9, 58, 128, 0, 0, 1, 44]].concat();
        match self.content {
            Content::Addresses(count) => (0..count).for_each(|n| record(0, 1, &[192, 0, 2, n as u8])),
            Content::Authentic => {
                flags[1] |= 0x20;
                record(0, 1, &[192, 0, 2, 1]);
            }
            Content::Aaaa => record(0, 28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            Content::Alias => {
                record(0, 5, b"\x05alias\x07example\0");
                record(0, 1, &[192, 0, 2, 1]);
            }
            Content::Text => record(0, 16, &[&[199][..], &[b'a'; 199], &[199], &[b'b'; 199]].concat()),
            Content::Signed => {
                record(0, 1, &[192, 0, 2, 1]);
                let covered = [0, 1, 13, 2, 0, 0, 1, 44, 0x70, 0, 0, 0, 0x60, 0, 0, 0, 0x12, 0x34];
                record(0, 46, &[&covered[..], b"\x07example\0", &[0x77; 64]].concat());
            }
            Content::Nxdomain => {
                flags[1] |= 3;
                record(1, 6, &soa);
            }
            Content::NoData => record(1, 6, &soa),
            Content::Failure => flags[1] |= 2,
        }
        reply[2..4].copy_from_slice(&flags);
        reply[6..8].copy_from_slice(&counts[0].to_be_bytes());
        reply[8..10].copy_from_slice(&counts[1].to_be_bytes());
        reply[10..12].fill(0);
        reply
    }

    fn qtype(&self) -> u16 {
        match self.content {
            Content::Aaaa => 28,
            Content::Text => 16,
            _ => 1,
        }
    }

    /// Returns the name with this number, on the wire.
    fn name(&self, number: usize) -> Vec<u8> {
        let mut label = format!("n{number:05}").into_bytes();
        label.truncate(FIRST_LABEL);
        let mut name = vec![FIRST_LABEL as u8];
        name.extend(label);
        let most = if self.labels == Labels::Short { 1 } else { 63 };
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
        name.push(0);
        if self.is_upper {
            name.make_ascii_uppercase();
        }
        if self.labels == Labels::Invalid {
            name[0] = 0x80;
        }
        name
    }

    fn message(&self, number: usize) -> Result<Vec<u8>> {
        let additional = u8::from(self.options.is_some());
        let [flags1, flags0] = self.flags.to_be_bytes();
        let mut message = vec![0x12, 0x34, flags1, flags0, 0, 1, 0, 0, 0, 0, 0, additional];
        if self.name == 0 {
            message.truncate(10);
            return Ok(message);
        }
        message.extend(self.name(number));
        message.extend(self.qtype().to_be_bytes());
        message.extend([0, 1]);
        let Some(options) = self.options else { return Ok(message) };
        let mut data = Vec::new();
        for (code, content) in options {
            data.extend(code.to_be_bytes());
            data.extend((content.len() as u16).to_be_bytes());
            if (*code, *content) == SERVER_COOKIE {
                data.extend(self.cookie()?)
            } else {
                data.extend(*content)
            }
        }
        message.extend([0, 0, 41, 0x04, 0xd0, 0, 0, u8::from(self.dnssec_ok) << 7, 0]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
        Ok(message)
    }

    /// Returns the client's cookie and the server's for it.
    fn cookie(&self) -> Result<[u8; 24]> {
        let client: IpAddr = CLIENTS[usize::from(self.ip == Ip::V6)].parse()?;
        let learning = Cookie { client: [1, 2, 3, 4, 5, 6, 7, 8], server: None };
        Ok(Cookies::new(SECRET, None).answer(&learning, client, self.now()).0)
    }

    /// Returns the packet with this number.
    pub fn packet(&self, number: usize) -> Result<Vec<u8>> {
        let message = self.message(number)?;
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0x53, 1], [2, 0, 0, 0, 0x53, 2]);
        let headers = match self.ip {
            Ip::V4 => link.ipv4([10, 53, 0, 1], [10, 53, 0, 2], 64),
            Ip::V6 => {
                let address = |host| [0xfd, 0x53, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
                link.ipv6(address(1), address(2), 64)
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
