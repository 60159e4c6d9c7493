//! The file, numbers with the least significant byte first:
//!
//! ```text
//! head     "rdnssnap" │ version u32 │ 0 u32 │ written u64, Unix time │ configuration u64
//! entry    age u32 │ ttl u32 │ stale u32 │ demand u16 │ flags u8 │ has_ede u8 │ ede u16 │ question u16 │ message u32 │ the message
//! trailer  entries u64 │ SipHash-1-3, with a key of zeros, over all before it
//! ```
//!
//! An entry's age is how long ago it was received when the file was written; it is fresh for `ttl` seconds from then on, and may be given
//! out for `stale` more. Its message has the TTLs that were received. `flags` are DO and CD, `question` is how long the question is.

use ringdns_common::message;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        answer::Answer,
        key::{Asked, Flags},
    },
};
use siphasher::sip::SipHasher13;
use std::{
    hash::Hasher,
    io::{self, Write},
};

const MAGIC: &[u8; 8] = b"rdnssnap";
const VERSION: u32 = 1;
pub const HEAD: usize = 32;
pub const ENTRY: usize = 28;
pub const TRAILER: usize = 16;

/// Why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else's.
    #[error("it is no snapshot")]
    Foreign,
    /// Of another ringdnsd.
    #[error("it is of version {0}, and this ringdnsd reads {VERSION}")]
    Version(u32),
    /// Cut, or changed.
    #[error("it is damaged")]
    Damaged,
    /// The clock has been set back since, so that nobody knows how old it is.
    #[error("it was written {0} s in the future, by the clock as it is now")]
    Future(u64),
    /// Others were asked.
    #[error("it was written with other upstreams in the configuration")]
    Configuration,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// How long before the file was written it was received.
    pub age: Secs,
    /// How long it was fresh from then on.
    pub ttl: Secs,
    /// How long after that it might be given out.
    pub stale: Secs,
    /// How often it had been asked for of late.
    pub demand: u16,
    /// What is to be said about it (RFC 8914).
    pub ede: Option<u16>,
    /// What is asked.
    pub asked: Asked<'a>,
    /// The message, with the TTLs that were received.
    pub message: &'a [u8],
}

/// Writes a file to `to`.
pub struct Writer<W> {
    to: W,
    hasher: SipHasher13,
    entries: u64,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(to: W, written: u64, configuration: u64) -> io::Result<Self> {
        let mut writer = Writer { to, hasher: SipHasher13::new(), entries: 0 };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&[0; 4])?;
        writer.put(&written.to_le_bytes())?;
        writer.put(&configuration.to_le_bytes())?;
        Ok(writer)
    }

    /// Appends an answer, as it is at `now`.
    pub fn entry(&mut self, asked: Asked<'_>, answer: &Answer, demand: u16, now: Secs) -> io::Result<()> {
        let message = message::of(asked, answer);
        let mut head = [0; ENTRY];
        head[..4].copy_from_slice(&now.saturating_sub(answer.received).to_le_bytes());
        head[4..8].copy_from_slice(&answer.ttl.to_le_bytes());
        head[8..12].copy_from_slice(&answer.stale.to_le_bytes());
        head[12..14].copy_from_slice(&demand.to_le_bytes());
        head[14] = asked.flags.0;
        head[15] = answer.ede.is_some().into();
        head[16..18].copy_from_slice(&answer.ede.unwrap_or(0).to_le_bytes());
        head[18..20].copy_from_slice(&(asked.question.len() as u16).to_le_bytes());
        head[20..24].copy_from_slice(&(message.len() as u32).to_le_bytes());
        self.put(&head)?;
        self.entries += 1;
        self.put(&message)
    }

    /// Ends it, and returns what it was written to and how many entries it has.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.put(&self.entries.to_le_bytes())?;
        self.to.write_all(&self.hasher.finish().to_le_bytes())?;
        Ok((self.to, self.entries))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.write(bytes);
        self.to.write_all(bytes)
    }
}

/// How many bytes an answer's entry takes.
pub fn size(asked: Asked<'_>, answer: &Answer) -> u64 {
    (ENTRY + message::HEADER + asked.question.len() + answer.wire.len()) as u64
}

/// A file that has been read, as far as its entries have been taken.
#[derive(Debug)]
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
    /// How many entries it has.
    pub entries: u64,
    /// How many seconds ago it was written.
    pub age: u64,
}

impl Reader {
    /// Opens what was read at the Unix time `now`, if it was written with this configuration.
    pub fn open(bytes: Vec<u8>, now: u64, configuration: u64) -> Result<Self, Refused> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err(Refused::Foreign);
        }
        let version =
            bytes.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four));
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        if bytes.len() < HEAD + TRAILER {
            return Err(Refused::Damaged);
        }
        let (all, sum) = bytes.split_at(bytes.len() - 8);
        let mut hasher = SipHasher13::new();
        hasher.write(all);
        if hasher.finish().to_le_bytes() != *sum {
            return Err(Refused::Damaged);
        }
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let (written, entries) = (word(16), word(bytes.len() - TRAILER));
        if word(24) != configuration {
            return Err(Refused::Configuration);
        }
        let age = now.checked_sub(written).ok_or(Refused::Future(written.saturating_sub(now)))?;
        Ok(Reader { bytes, at: HEAD, entries, age })
    }

    /// The next entry.
    pub fn entry(&mut self) -> Option<Kept<'_>> {
        let body = &self.bytes[self.at..self.bytes.len() - TRAILER];
        let (head, rest) = body.split_first_chunk::<ENTRY>()?;
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let message = rest.get(..long(20) as usize)?;
        let question = message.get(message::HEADER..)?.get(..short(18).into())?;
        self.at += ENTRY + message.len();
        Some(Kept {
            age: long(0),
            ttl: long(4),
            stale: long(8),
            demand: short(12),
            ede: (head[15] != 0).then(|| short(16)),
            asked: Asked { question, flags: Flags(head[14]) },
            message,
        })
    }
}
