//! Extended errors of validation (RFC 8914 section 4; 27: RFC 9276 section 6).

/// No DS record has an algorithm that is supported.
pub const UNSUPPORTED_KEY: u16 = 1;
/// No DS record has a digest type that is supported.
pub const UNSUPPORTED_DIGEST: u16 = 2;
/// It would take too much work to find out.
pub const INDETERMINATE: u16 = 5;
/// Bogus for no better reason than the others.
pub const BOGUS: u16 = 6;
/// All signatures have expired.
pub const SIGNATURE_EXPIRED: u16 = 7;
/// No signature is valid yet.
pub const SIGNATURE_NOT_YET_VALID: u16 = 8;
/// There is no DNSKEY that the parent's DS or the signature tells of.
pub const DNSKEY_MISSING: u16 = 9;
/// There are no signatures.
pub const RRSIGS_MISSING: u16 = 10;
/// The key of the signature is none for zones.
pub const NO_ZONE_KEY_BIT: u16 = 11;
/// Nothing proves that there is no such record.
pub const NSEC_MISSING: u16 = 12;
/// The signature ends before it begins.
pub const EXPIRED_BEFORE_VALID: u16 = 25;
/// NSEC3 records with more iterations than are worth it.
pub const UNSUPPORTED_ITERATIONS: u16 = 27;
