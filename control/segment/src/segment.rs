//! A segment: a batch of rows that is stored, sent and counted as one. The bytes on disk are the
//! bytes that are sent.
//!
//! ```text
//!  0  u32  0x184D2A5D: a skippable frame of zstd, so that `zstd -d` and clickhouse-local find the rows
//!  4  u32  its length from here on: 77
//!  8  [8]  "RINGLOG5"
//! 16  u64  id: microseconds of Unix time, greater than that of every earlier segment
//! 24  u32  rows
//! 28  i64  time of the first row, in milliseconds of Unix time
//! 36  i64  time of the last row
//! 44  u128 checksum of bytes 0 to 43 and 60 to 84
//! 60  u128 checksum of all bytes from 76 on        ─┐
//! 76  u8   0x90: zstd                               │ what ClickHouse calls a compressed block: from here on it is the
//! 77  u32  length from 76 on                        │ body of an INSERT with `decompress=1`
//! 81  u32  length of the rows, decompressed         │
//! 85       a frame of zstd: rows as RowBinary      ─┘
//! ```
//!
//! Integers are little-endian. Checksums are CityHash 1.0.2 of 128 bits with the halves swapped, as
//! in ClickHouse. The server itself checks the one at 60: it refuses a damaged or truncated body as
//! a whole.

use super::{
    row::Row,
    rowbinary::{self, Rows},
};
use bytes::Bytes;
use std::io;
use zstd::bulk::Compressor;

/// Bytes before the rows.
pub const HEAD: usize = 85;
/// Offset of the body of an INSERT.
const BLOCK: usize = 60;
/// Offset of the head's checksum.
const HEAD_SUM: usize = 44;
/// Offset of the bytes that the block's checksum covers.
const SUMMED: usize = 76;
const SKIPPABLE: u32 = 0x184D_2A5D;
const MAGIC: &[u8; 8] = b"RINGLOG5";
const ZSTD: u8 = 0x90;
/// Compression level of zstd. Rows come at the rate of queries, so it is fast; level 3 makes them a
/// tenth smaller in twice the time.
const LEVEL: i32 = 1;
/// Most bytes of rows in a segment, before compression. A head that claims more is damaged.
pub const ROWS_BYTES_MAX: usize = 64 << 20;

/// Fields of a segment's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Id, in the order of all segments of this appliance.
    pub id: u64,
    /// Number of rows.
    pub rows: u32,
    /// Unix time of the first row, in milliseconds.
    pub first_ms: i64,
    /// Unix time of the last row, in milliseconds.
    pub last_ms: i64,
}

/// Reason for bytes that are not a valid segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are too few or too many bytes.
    #[error("its length differs from that in its head")]
    Length,
    /// The magic number differs.
    #[error("it is not a segment, or has another version")]
    Magic,
    /// A checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// The rows cannot be decoded.
    #[error("its rows cannot be read")]
    Rows,
}

/// Rows being gathered for one segment after the other; the buffers are reused.
pub struct RowBatch {
    rows: Rows,
    head: Head,
    compressor: Compressor<'static>,
    /// Output buffer, as large as the longest segment so far could have been.
    room: Vec<u8>,
}

impl RowBatch {
    /// Returns an empty batch.
    pub fn new(id: u64, appliance: &str) -> io::Result<Self> {
        let compressor = Compressor::new(LEVEL)?;
        Ok(RowBatch { rows: Rows::new(appliance, id), head: Head::of_none(id), compressor, room: Vec::new() })
    }

    /// Clears the batch for another segment.
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

    /// Returns the number of rows.
    pub fn rows(&self) -> u32 {
        self.head.rows
    }

    /// Returns the bytes of the rows before compression.
    pub fn bytes(&self) -> usize {
        self.rows.bytes().len()
    }

    /// Returns the time of the first row; `None` without rows.
    pub fn first_ms(&self) -> Option<i64> {
        (self.head.rows > 0).then_some(self.head.first_ms)
    }

    /// Compresses the rows into a segment.
    pub fn seal(&mut self) -> io::Result<Segment> {
        let plain = self.rows.bytes();
        let room = HEAD + zstd::zstd_safe::compress_bound(plain.len());
        self.room.resize(self.room.len().max(room), 0);
        let len = self.compressor.compress_to_buffer(plain, &mut self.room[HEAD..])?;
        Ok(Segment::new(self.head, plain.len(), self.room[..HEAD + len].to_vec()))
    }
}

impl Segment {
    /// Completes `bytes`, which has room for the head before the compressed rows. `plain` is the
    /// rows' length before compression.
    fn new(head: Head, plain: usize, mut bytes: Vec<u8>) -> Segment {
        let Head { id, rows, first_ms, last_ms } = head;
        let bytes_len = bytes.len();
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, &SKIPPABLE.to_le_bytes());
        put(4, &(HEAD as u32 - 8).to_le_bytes());
        put(8, MAGIC);
        put(16, &id.to_le_bytes());
        put(24, &rows.to_le_bytes());
        put(28, &first_ms.to_le_bytes());
        put(36, &last_ms.to_le_bytes());
        put(76, &[ZSTD]);
        put(77, &((bytes_len - SUMMED) as u32).to_le_bytes());
        put(81, &(plain as u32).to_le_bytes());
        let sum = checksum(&bytes[SUMMED..]);
        bytes[BLOCK..SUMMED].copy_from_slice(&sum);
        let sum = head_checksum(&bytes);
        bytes[HEAD_SUM..BLOCK].copy_from_slice(&sum);
        Segment { head, bytes: bytes.into() }
    }

    /// Splits the segment's rows over two segments, of which the second has the id `second`. Returns
    /// `None` if there are not two rows.
    pub fn split(&self, second: u64) -> Result<Option<[Segment; 2]>, Damage> {
        let plain = self.rows()?;
        let Some((front, back, front_rows)) = rowbinary::split(&plain, second) else { return Ok(None) };
        let back_rows = self.head.rows.checked_sub(front_rows).ok_or(Damage::Rows)?;
        let half = |id, rows, plain: &[u8]| {
            let compressed = zstd::bulk::compress(plain, LEVEL).map_err(|_| Damage::Rows)?;
            let bytes = [&[0; HEAD], &compressed[..]].concat();
            Ok(Segment::new(Head { id, rows, ..self.head }, plain.len(), bytes))
        };
        Ok(Some([half(self.head.id, front_rows, front)?, half(second, back_rows, &back)?]))
    }
}

impl Head {
    fn of_none(id: u64) -> Self {
        Head { id, rows: 0, first_ms: i64::MAX, last_ms: i64::MIN }
    }

    /// Parses the head from the first bytes of a segment, all of which must be there.
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

/// A sealed segment whose checksums have been verified.
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

    /// Returns the head.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Returns the bytes as they are on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the body of an INSERT with `decompress=1`.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(BLOCK..)
    }

    /// Decompresses the rows, which are RowBinary.
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

/// Returns the CityHash checksum in ClickHouse's byte order.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}
