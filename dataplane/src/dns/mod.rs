//! DNS messages as the fast path needs them: queries parsed without allocation, answers kept as
//! wire bytes, and the one reply builder that every path (rings, sockets, TCP) uses.

pub mod answer;
pub mod cookie;
pub mod header;
pub mod key;
pub mod option;
pub mod query;
pub mod record;
pub mod reply;

/// Response codes (IANA; RFC 1035, 6891).
pub mod rcode {
    /// No error.
    pub const NOERROR: u8 = 0;
    /// The query is malformed.
    pub const FORMERR: u8 = 1;
    /// The server failed to resolve the query.
    pub const SERVFAIL: u8 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u8 = 3;
    /// The opcode is not supported.
    pub const NOTIMP: u8 = 4;
    /// The server refuses to answer.
    pub const REFUSED: u8 = 5;
    /// The EDNS version is not supported (RFC 6891). The upper bits go into the OPT record, as for
    /// every code above 15.
    pub const BADVERS: u16 = 16;
    /// The server cookie is not a valid one of ours (RFC 7873).
    pub const BADCOOKIE: u16 = 23;
}

/// Record types that have a rule here (IANA).
pub mod rtype {
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Text.
    pub const TXT: u16 = 16;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Delegation signer (RFC 4034).
    pub const DS: u16 = 43;
    /// Signature (RFC 4034).
    pub const RRSIG: u16 = 46;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Zone transfer.
    pub const AXFR: u16 = 252;
    /// Mailbox records (obsolete).
    pub const MAILB: u16 = 253;
    /// Mail agent records (obsolete).
    pub const MAILA: u16 = 254;
    /// Any type.
    pub const ANY: u16 = 255;
}

/// The Internet class.
pub const CLASS_IN: u16 = 1;

/// The Chaos class, in which servers are asked about themselves (RFC 4892).
pub const CLASS_CH: u16 = 3;

/// Longest wire-format name in bytes, including the root's zero (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;

/// Longest question in bytes: name, type and class.
pub const QUESTION_MAX: usize = NAME_MAX + 4;

/// Length in bytes of an OPT record without options (RFC 6891 section 6.1.2).
pub const OPT_LEN: usize = 11;

/// UDP message size that every client accepts, in bytes (RFC 1035 section 2.3.4).
pub const UDP_MIN: u16 = 512;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
