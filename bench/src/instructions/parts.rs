//! Parts that packets of a form are made of.

use crate::stage::Ip;
use ringdns_dataplane::dns::cookie::Secret;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Secret of the [stage's policy](crate::stage::policy).
pub const SECRET: Secret = [7; 16];
/// Secret that the servers of a fleet had before.
pub const OLD_SECRET: Secret = [8; 16];

/// Addresses that packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Address over IPv4.
    pub v4: Ipv4Addr,
    /// Address over IPv6.
    pub v6: Ipv6Addr,
}

impl Client {
    /// Client of all measurements.
    pub const USUAL: Client =
        Client { v4: Ipv4Addr::new(10, 53, 0, 1), v6: Ipv6Addr::new(0xfd53, 0, 0, 0, 0, 0, 0, 1) };
    /// Client that shares no prefix of the rate limit with the usual one.
    pub const OTHER: Client =
        Client { v4: Ipv4Addr::new(10, 53, 64, 1), v6: Ipv6Addr::new(0xfd53, 0, 1, 0, 0, 0, 0, 1) };

    /// Returns the address of an IP version.
    pub fn address(&self, ip: Ip) -> IpAddr {
        if ip == Ip::V4 { self.v4.into() } else { self.v6.into() }
    }
}

/// UDP checksum of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// Labels as few as its length allows.
    Long,
    /// Labels of one letter each, after the first.
    Short,
    /// First label with an invalid length.
    Invalid,
    /// Labels of one letter each, and a pointer in place of the end.
    Pointer,
    /// `id.server`.
    Identity,
}

/// Cookie of a client (RFC 7873).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CookieKind {
    /// Client cookie alone.
    Client,
    /// Valid server cookie.
    Server,
    /// Server cookie that is made with the secret of before.
    Old,
    /// Valid server cookie so old that it is renewed.
    Aged,
    /// Server cookie that nobody made.
    Wrong,
    /// Server cookie of a length that only other servers use.
    Foreign,
    /// Seven bytes.
    Malformed,
}

/// EDNS option of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EdnsOption {
    /// Padding of this many bytes (RFC 7830).
    Padding(u16),
    /// Request for the server's name (RFC 5001).
    Nsid,
    /// Request for the time that a connection may be idle (RFC 7828).
    Keepalive,
    /// Client subnet (RFC 7871).
    Subnet,
    /// Option that nobody knows, with this many bytes.
    Unknown(u16),
    /// Cookie.
    Cookie(CookieKind),
}

impl EdnsOption {
    /// Returns the number of bytes that the option has on the wire.
    pub fn wire_len(&self) -> usize {
        4 + match self {
            EdnsOption::Padding(len) | EdnsOption::Unknown(len) => usize::from(*len),
            EdnsOption::Nsid | EdnsOption::Keepalive => 0,
            EdnsOption::Subnet => 7,
            EdnsOption::Cookie(CookieKind::Client) => 8,
            EdnsOption::Cookie(CookieKind::Malformed) => 7,
            EdnsOption::Cookie(CookieKind::Foreign) => 40,
            EdnsOption::Cookie(_) => 24,
        }
    }
}

/// Place of records in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Answer section.
    Answer,
    /// Authority section.
    Authority,
    /// Additional section, before the OPT record.
    Before,
    /// Additional section, after the OPT record.
    After,
}

/// Owner of a record in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Root.
    Root,
    /// Pointer to the question's name.
    Pointer,
    /// Name of this many labels of one letter.
    Labels(u16),
}

/// Records that a query has besides its question and OPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Place of the records.
    pub place: Place,
    /// Owner of each record.
    pub owner: Owner,
    /// Type of each record.
    pub rtype: u16,
    /// Bytes of data of each record.
    pub data: u16,
    /// Number of records.
    pub times: u16,
}

impl Records {
    /// Appends one of the records.
    pub fn write(&self, message: &mut Vec<u8>) {
        match self.owner {
            Owner::Root => message.push(0),
            Owner::Pointer => message.extend([0xc0, 12]),
            Owner::Labels(count) => {
                (0..count).for_each(|_| message.extend(b"\x01x"));
                message.push(0);
            }
        }
        message.extend(self.rtype.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0]);
        message.extend(self.data.to_be_bytes());
        message.extend(std::iter::repeat_n(0, self.data.into()));
    }
}
