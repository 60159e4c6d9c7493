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
    /// The name that a DNAME makes is too long (RFC 6672 section 2.2).
    pub const YXDOMAIN: u8 = 6;
    /// The EDNS version is not supported (RFC 6891). The upper bits go into the OPT record, as for
    /// every code above 15.
    pub const BADVERS: u16 = 16;
    /// The server cookie is not a valid one of ours (RFC 7873).
    pub const BADCOOKIE: u16 = 23;

    /// Whether a response code answers a question; all others say that the server failed (RFC 9520
    /// section 2).
    pub fn is_answer(rcode: u8) -> bool {
        matches!(rcode, NOERROR | NXDOMAIN | YXDOMAIN)
    }
}

/// Record types that have a rule here (IANA).
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Name server.
    pub const NS: u16 = 2;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Pointer to a name.
    pub const PTR: u16 = 12;
    /// Mail exchange.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// Location of a service (RFC 2782).
    pub const SRV: u16 = 33;
    /// Rule that rewrites names (RFC 3403).
    pub const NAPTR: u16 = 35;
    /// Alias of all names below one (RFC 6672).
    pub const DNAME: u16 = 39;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Delegation signer (RFC 4034).
    pub const DS: u16 = 43;
    /// Signature (RFC 4034).
    pub const RRSIG: u16 = 46;
    /// Proof that names or types do not exist (RFC 4034).
    pub const NSEC: u16 = 47;
    /// Public key of a zone (RFC 4034).
    pub const DNSKEY: u16 = 48;
    /// Such a proof with hashed names (RFC 5155).
    pub const NSEC3: u16 = 50;
    /// Certificate of a service (RFC 6698).
    pub const TLSA: u16 = 52;
    /// Service binding (RFC 9460).
    pub const SVCB: u16 = 64;
    /// Service binding for HTTPS (RFC 9460).
    pub const HTTPS: u16 = 65;
    /// Transaction key (RFC 2930).
    pub const TKEY: u16 = 249;
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

/// Whether a name in wire format is `suffix` or below it.
pub fn is_within(mut name: &[u8], suffix: &[u8]) -> bool {
    while name.len() > suffix.len() {
        name = name.get(1 + usize::from(name[0])..).unwrap_or_default();
    }
    name == suffix
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
