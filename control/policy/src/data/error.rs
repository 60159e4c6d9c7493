//! Reasons why data cannot be used.

use ringdns_common::names::NameError;

/// Reason why a record, or a line of a file, cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// A word is not what belongs at its place.
    #[error("expected {expected}, found {found:?}")]
    Expected {
        /// Description of a right word.
        expected: &'static str,
        /// The word.
        found: String,
    },
    /// The line ends too early.
    #[error("expected {0}, found the end of the line")]
    Missing(&'static str),
    /// The line goes on behind the data.
    #[error("{0:?} is too much: the data of this type is complete before it")]
    Extra(String),
    /// A word is no domain name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A quotation mark without its other half.
    #[error("a quotation mark has no other half in its line. Write \\\" for one that is part of a text")]
    Quote,
    /// A parenthesis without its other half.
    #[error("a parenthesis has no other half")]
    Parenthesis,
    /// The data of this type cannot be written.
    #[error(
        "records of the type {0} are not supported. Write the data as \\# LENGTH HEX (RFC 3597), or remove the record"
    )]
    Type(String),
    /// The record needs a server that does more than this one.
    #[error("records of the type {0} are not supported: {1}")]
    Refused(String, &'static str),
    /// A control entry of a zone file that is not followed.
    #[error("{0} is not supported: {1}")]
    Directive(String, &'static str),
    /// A record outside its zone.
    #[error("{0} is not in the zone {1}")]
    OutOfZone(String, String),
    /// An alias that is not alone at its name.
    #[error("{0} has a CNAME, which must be the only record of its name (RFC 1034 section 3.6.2)")]
    AliasNotAlone(String),
    /// Two aliases, or two starts of authority, at one name.
    #[error("{0} has two {1} records")]
    Twice(String, &'static str),
    /// A zone without its start of authority.
    #[error("the zone {0} has no SOA record")]
    NoSoa(String),
    /// Records that fit in no answer.
    #[error("{0} has more than {1} bytes of records of one type, which do not fit in an answer")]
    TooLarge(String, usize),
    /// More groups than data can tell apart.
    #[error("records and zones name more than {0} groups of clients")]
    Groups(usize),
}
