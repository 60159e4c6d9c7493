//! Extended errors of validation (RFC 8914 section 4; 27: RFC 9276 section 6; 29: IANA).

/// No DS record has an algorithm that is supported.
pub const UNSUPPORTED_KEY: u16 = 1;
/// No DS record has a digest type that is supported.
pub const UNSUPPORTED_DIGEST: u16 = 2;
/// Validation would take too much work.
pub const INDETERMINATE: u16 = 5;
/// Bogus for none of the other reasons.
pub const BOGUS: u16 = 6;
/// All signatures have expired.
pub const SIGNATURE_EXPIRED: u16 = 7;
/// No signature is valid yet.
pub const SIGNATURE_NOT_YET_VALID: u16 = 8;
/// No DNSKEY matches the parent's DS or the signature.
pub const DNSKEY_MISSING: u16 = 9;
/// There are no signatures.
pub const RRSIGS_MISSING: u16 = 10;
/// The key of the signature is not a zone key.
pub const NO_ZONE_KEY_BIT: u16 = 11;
/// Nothing proves that the record does not exist.
pub const NSEC_MISSING: u16 = 12;
/// The signature expires before its inception.
pub const EXPIRED_BEFORE_VALID: u16 = 25;
/// The NSEC3 records have too many iterations.
pub const UNSUPPORTED_ITERATIONS: u16 = 27;
/// The answer was made from validated denials of other questions.
pub const SYNTHESIZED: u16 = 29;
