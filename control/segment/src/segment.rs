//! A segment: a batch of rows that is kept, sent and counted as one. What lies on disk is what is sent.
//!
//! ```text
//!  0  u32  0x184D2A5D: a skippable frame of zstd, so that `zstd -d` and clickhouse-local find the rows
//!  4  u32  its length from here on: 77
//!  8  [8]  "RINGLOG2"
//! 16  u64  id: microseconds of Unix time, greater than that of every segment before
//! 24  u32  rows
//! 28  i64  time of the first row, in milliseconds of Unix time
//! 36  i64  and of the last
//! 44  u128 checksum of bytes 0 to 43 and 60 to 84
//! 60  u128 checksum of all bytes from 76 on        ─┐
//! 76  u8   0x90: zstd                               │ what ClickHouse calls a compressed block: from here on it is the
//! 77  u32  length from 76 on                        │ body of an INSERT with `decompress=1`
//! 81  u32  length of the rows, decompressed         │
//! 85       a frame of zstd: rows as RowBinary      ─┘
//! ```
//!
//! Integers are little-endian, checksums CityHash 1.0.2 of 128 bits with its halves changed round, as ClickHouse has them. The server
//! checks the one at 60 itself: a body that arrives damaged or cut off is refused as a whole.

use super::{row::Row, rowbinary::Rows};
use bytes::Bytes;
use std::io;
use zstd::bulk::Compressor;

/// Length of all before the rows.
pub const HEAD: usize = 85;
/// Where the body of an INSERT begins.
const BLOCK: usize = 60;
/// Where the checksum of the head is.
const HEAD_SUM: usize = 44;
/// What the block's own checksum is of begins here.
const SUMMED: usize = 76;
const SKIPPABLE: u32 = 0x184D_2A5D;
const MAGIC: &[u8; 8] = b"RINGLOG2";
const ZSTD: u8 = 0x90;
/// Fast: rows come at the rate of queries. Level 3 makes them a tenth smaller in twice the time.
const LEVEL: i32 = 1;
/// No segment has more bytes of rows: what says so is damaged.
pub const ROWS_BYTES_MAX: usize = 64 << 20;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order of all segments of this appliance.
    pub id: u64,
    /// How many rows it has.
    pub rows: u32,
    /// Time of the first, in milliseconds.
    pub first_ms: i64,
    /// Of the last.
    pub last_ms: i64,
}

/// Why bytes are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are too few of them, or too many.
    #[error("its length is not what it says")]
    Length,
    /// They begin with something else.
    #[error("it is no segment, or one of another version")]
    Magic,
    /// A checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// The rows are not what was counted.
    #[error("its rows cannot be read")]
    Rows,
}

/// Rows that are being gathered, for one segment after the other: what was allocated for one is there for the next.
pub struct Batch {
    rows: Rows,
    head: Head,
    compressor: Compressor<'static>,
    /// As long as the longest segment so far can have been.
    room: Vec<u8>,
}

impl Batch {
    /// None yet.
    pub fn new(id: u64, appliance: &str) -> io::Result<Self> {
        let compressor = Compressor::new(LEVEL)?;
        Ok(Batch { rows: Rows::new(appliance, id), head: Head::of_none(id), compressor, room: Vec::new() })
    }

    /// None again, for another segment.
    pub fn begin(&mut self, id: u64) {
        self.rows.begin(id);
        self.head = Head::of_none(id);
    }

    /// Adds a row.
    pub fn push(&mut self, row: &Row) {
        self.rows.push(row);
        self.head.rows += 1;
        self.head.first_ms = self.head.first_ms.min(row.time_ms);
        self.head.last_ms = self.head.last_ms.max(row.time_ms);
    }

    /// How many there are.
    pub fn rows(&self) -> u32 {
        self.head.rows
    }

    /// What they take, not compressed.
    pub fn bytes(&self) -> usize {
        self.rows.bytes().len()
    }

    /// The time of the first; `None`: there is none.
    pub fn first_ms(&self) -> Option<i64> {
        (self.head.rows > 0).then_some(self.head.first_ms)
    }

    /// Compresses them and closes the segment.
    pub fn seal(&mut self) -> io::Result<Segment> {
        let plain = self.rows.bytes();
        let room = HEAD + zstd::zstd_safe::compress_bound(plain.len());
        self.room.resize(self.room.len().max(room), 0);
        let len = self.compressor.compress_to_buffer(plain, &mut self.room[HEAD..])?;
        let mut bytes = self.room[..HEAD + len].to_vec();
        let Head { id, rows, first_ms, last_ms } = self.head;
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &SKIPPABLE.to_le_bytes());
        put(4, &(HEAD as u32 - 8).to_le_bytes());
        put(8, MAGIC);
        put(16, &id.to_le_bytes());
        put(24, &rows.to_le_bytes());
        put(28, &first_ms.to_le_bytes());
        put(36, &last_ms.to_le_bytes());
        put(76, &[ZSTD]);
        put(77, &((len + HEAD - SUMMED) as u32).to_le_bytes());
        put(81, &(plain.len() as u32).to_le_bytes());
        let sum = checksum(&bytes[SUMMED..]);
        bytes[BLOCK..SUMMED].copy_from_slice(&sum);
        let sum = head_checksum(&bytes);
        bytes[HEAD_SUM..BLOCK].copy_from_slice(&sum);
        Ok(Segment { head: self.head, bytes: bytes.into() })
    }
}

impl Head {
    fn of_none(id: u64) -> Self {
        Head { id, rows: 0, first_ms: i64::MAX, last_ms: i64::MIN }
    }

    /// Reads it from the first bytes of a segment, all of which must be there.
    pub fn parse(bytes: &[u8]) -> Result<Head, Damage> {
        let head = bytes.first_chunk::<HEAD>().ok_or(Damage::Length)?;
        if u32_at(head, 0) != SKIPPABLE || &head[8..16] != MAGIC {
            return Err(Damage::Magic);
        }
        if head[HEAD_SUM..BLOCK] != head_checksum(head) {
            return Err(Damage::Checksum);
        }
        Ok(Head {
            id: u64_at(head, 16),
            rows: u32_at(head, 24),
            first_ms: u64_at(head, 28).cast_signed(),
            last_ms: u64_at(head, 36).cast_signed(),
        })
    }
}

/// A closed segment, whose every byte was checked.
#[derive(Clone, Debug)]
pub struct Segment {
    head: Head,
    bytes: Bytes,
}

impl Segment {
    /// Checks bytes from disk.
    pub fn parse(bytes: Vec<u8>) -> Result<Segment, Damage> {
        let head = Head::parse(&bytes)?;
        if bytes.len() - SUMMED != u32_at(&bytes, 77) as usize {
            return Err(Damage::Length);
        }
        if bytes[BLOCK..SUMMED] != checksum(&bytes[SUMMED..]) {
            return Err(Damage::Checksum);
        }
        Ok(Segment { head, bytes: bytes.into() })
    }

    /// What it says of itself.
    pub fn head(&self) -> Head {
        self.head
    }

    /// As it lies on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body of an INSERT with `decompress=1`.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(BLOCK..)
    }

    /// The rows as RowBinary.
    pub fn rows(&self) -> Result<Vec<u8>, Damage> {
        let len = u32_at(&self.bytes, 81) as usize;
        if len > ROWS_BYTES_MAX {
            return Err(Damage::Rows);
        }
        let rows = zstd::bulk::decompress(&self.bytes[HEAD..], len).map_err(|_| Damage::Rows)?;
        if rows.len() == len { Ok(rows) } else { Err(Damage::Rows) }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn head_checksum(bytes: &[u8]) -> [u8; 16] {
    checksum(&[&bytes[..HEAD_SUM], &bytes[BLOCK..HEAD]].concat())
}

/// CityHash as ClickHouse writes it.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}
