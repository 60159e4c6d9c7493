//! Format of the file, with numbers in little-endian byte order:
//!
//! ```text
//! head     "rdnssnap" │ version u32 │ 0 u32 │ written u64, Unix time │ configuration u64
//! entry    age u32 │ ttl u32 │ stale u32 │ demand u16 │ flags u8 │ has_ede u8 │ ede u16
//!          question u16 │ message u32 │ the message
//! trailer  entries u64 │ SipHash-1-3, with a key of zeros, over all before it
//! ```
//!
//! An entry's `age` is the time from its receipt until the file was written. It is fresh for `ttl`
//! seconds after its receipt, and may be served as stale for `stale` more. Its message has the TTLs
//! that were received. `flags` are DO and CD, `question` is the length of the question.

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

/// Reason why a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// Written by another program.
    #[error("it is no snapshot")]
    Foreign,
    /// Written by a ringdnsd with another version of the format.
    #[error("it is of version {0}, and this ringdnsd reads {VERSION}")]
    Version(u32),
    /// Truncated or changed.
    #[error("it is damaged at byte {at}: {reason}")]
    Damaged {
        /// Place in the file.
        at: usize,
        /// Defect.
        reason: &'static str,
    },
    /// Written in the future: the clock has been set back since, so that the age is unknown.
    #[error("it was written {0} s in the future by the current clock")]
    Future(u64),
    /// Written under a configuration with other upstreams or other validation.
    #[error("it was written with other upstreams or another [dnssec] in the configuration")]
    Configuration,
}

/// Entry of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Time from the receipt of the answer until the file was written.
    pub age: Secs,
    /// Time for which it is fresh after its receipt.
    pub ttl: Secs,
    /// Time after that during which it may be served as stale.
    pub stale: Secs,
    /// Recent demand when the file was written.
    pub demand: u16,
    /// Extended DNS error to send along (RFC 8914).
    pub ede: Option<u16>,
    /// Question.
    pub asked: Asked<'a>,
    /// DNS message, with the TTLs that were received.
    pub message: &'a [u8],
}

/// Writes a file to `to`.
pub struct SnapshotWriter<W> {
    to: W,
    hasher: SipHasher13,
    entries: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the head of a file.
    pub fn new(to: W, written: u64, configuration: u64) -> io::Result<Self> {
        let mut writer = SnapshotWriter { to, hasher: SipHasher13::new(), entries: 0 };
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

    /// Writes the trailer. Returns the writer below, and the number of entries.
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

/// Returns the number of bytes of an answer's entry.
pub fn size(asked: Asked<'_>, answer: &Answer) -> u64 {
    (ENTRY + message::HEADER + asked.question.len() + answer.wire.len()) as u64
}

/// File that has been read, and the place up to which its entries were taken.
#[derive(Debug)]
pub struct SnapshotReader {
    bytes: Vec<u8>,
    at: usize,
    /// Number of entries in the file.
    pub entries: u64,
    /// Seconds since the file was written.
    pub age: u64,
}

impl SnapshotReader {
    /// Opens the bytes of a file, read at the Unix time `now`, if it was written under this
    /// configuration.
    pub fn open(bytes: Vec<u8>, now: u64, configuration: u64) -> Result<Self, SnapshotRefused> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err(SnapshotRefused::Foreign);
        }
        let version =
            bytes.get(8..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_le_bytes(*four));
        if version != VERSION {
            return Err(SnapshotRefused::Version(version));
        }
        if bytes.len() < HEAD + TRAILER {
            return Err(SnapshotRefused::Damaged { at: bytes.len(), reason: "the file is cut" });
        }
        let entries = count(&bytes)?;
        let (all, sum) = bytes.split_at(bytes.len() - 8);
        let mut hasher = SipHasher13::new();
        hasher.write(all);
        if hasher.finish().to_le_bytes() != *sum {
            let reason = "the checksum is not that of the bytes before it";
            return Err(SnapshotRefused::Damaged { at: all.len(), reason });
        }
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let written = word(16);
        if word(bytes.len() - TRAILER) != entries {
            let reason = "the number of entries is not that of the file";
            return Err(SnapshotRefused::Damaged { at: bytes.len() - TRAILER, reason });
        }
        if word(24) != configuration {
            return Err(SnapshotRefused::Configuration);
        }
        let age = now.checked_sub(written).ok_or(SnapshotRefused::Future(written.saturating_sub(now)))?;
        Ok(SnapshotReader { bytes, at: HEAD, entries, age })
    }

    /// Returns the next entry, and its place in the file.
    pub fn entry(&mut self) -> Option<(usize, Kept<'_>)> {
        let at = self.at;
        let kept = kept(&self.bytes, at)?;
        self.at += ENTRY + kept.message.len();
        Some((at, kept))
    }
}

/// Returns the entry at a place of a file. `None`: there is none, or it is longer than the file.
fn kept(bytes: &[u8], at: usize) -> Option<Kept<'_>> {
    let body = bytes.get(at..bytes.len() - TRAILER)?;
    let (head, rest) = body.split_first_chunk::<ENTRY>()?;
    let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let message = rest.get(..long(20) as usize)?;
    let question = message.get(message::HEADER..)?.get(..short(18).into())?;
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

/// Returns the number of entries of a file that has a head and a trailer.
fn count(bytes: &[u8]) -> Result<u64, SnapshotRefused> {
    let (mut at, mut entries) = (HEAD, 0);
    while at < bytes.len() - TRAILER {
        let reason = "the entry that begins there is longer than the file";
        let kept = kept(bytes, at).ok_or(SnapshotRefused::Damaged { at, reason })?;
        at += ENTRY + kept.message.len();
        entries += 1;
    }
    Ok(entries)
}
