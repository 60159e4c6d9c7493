//! Arbitrary bytes as a segment of the query log: it is refused, or its rows are read to the last
//! byte or refused; the spool and `ringctl log` agree, and every row of the spool is accounted for.
//!
//! The first byte says whether checksums and lengths are made to fit, and whether the rest are
//! plain rows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::printable::Printable;
use ringdns_querylog::{Spool, ledger::Ledger};
use ringdns_segment::{
    folder,
    rowbinary::entries,
    segment::{HEAD, ROWS_BYTES_MAX, Segment},
    show::{self, Filter},
};
use std::{fs, path::Path, sync::Arc};
use tempfile::TempDir;

const SUMMED: usize = 76;
const HEAD_SUM: usize = 44;
const BLOCK: usize = 60;
/// Offset of the id, whose file name must match.
const ID: usize = 16;
/// Bytes of the spool: room for all segments of one run.
const SPOOL: u64 = 1 << 24;

thread_local! {
    // In memory, since each run writes files.
    static FOLDER: TempDir = tempfile::tempdir_in("/dev/shm").expect("a folder");
}

fn checksum(bytes: &[u8]) -> [u8; 16] {
    cityhash_rs::cityhash_102_128(bytes).rotate_right(64).to_le_bytes()
}

/// Makes magic numbers, lengths and checksums fit.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().max(HEAD), 0);
    let rows = (bytes.len() - SUMMED) as u32;
    bytes[..4].copy_from_slice(&0x184D_2A5D_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(b"RINGLOG5");
    bytes[77..81].copy_from_slice(&rows.to_le_bytes());
    let sum = checksum(&bytes[SUMMED..]);
    bytes[BLOCK..SUMMED].copy_from_slice(&sum);
    let sum = checksum(&[&bytes[..HEAD_SUM], &bytes[BLOCK..HEAD]].concat());
    bytes[HEAD_SUM..BLOCK].copy_from_slice(&sum);
    bytes
}

/// Returns a segment with these fields of the head and rows, compressed.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    let (head, rows) = bytes.split_at(bytes.len().min(HEAD));
    let mut segment = head.to_vec();
    segment.resize(HEAD, 0);
    segment[81..85].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    segment.extend(zstd::bulk::compress(rows, 1).expect("few bytes"));
    seal(segment)
}

/// Checks a segment alone. Returns the number of its rows that can be read.
fn check(bytes: &[u8]) -> Option<usize> {
    let segment = Segment::parse(bytes.to_vec()).ok()?;
    assert_eq!(segment.bytes(), bytes);
    let rows = segment.rows().ok()?;
    assert!(rows.len() <= ROWS_BYTES_MAX);
    let read: Vec<_> = entries(&rows).collect();
    assert!(read.iter().rev().skip(1).all(Result::is_ok), "nothing is read behind damage");
    for entry in read.iter().flatten() {
        assert!(!Printable(entry).to_string().contains(char::is_control), "{entry}");
    }
    let second = segment.head().id.wrapping_add(1);
    if let Ok(Some(halves)) = segment.split(second) {
        let [first, last] = halves.map(|half| {
            let again = Segment::parse(half.bytes().to_vec()).expect("a segment");
            let rows = again.rows().expect("its rows");
            let count = entries(&rows).filter(Result::is_ok).count();
            assert_eq!((again.head(), rows.is_empty()), (half.head(), false));
            (again.head().rows, count)
        });
        assert_eq!(first.0 as usize, first.1);
        assert_eq!(first.1 + last.1, read.len(), "rows were lost");
        assert_eq!(first.0.checked_add(last.0), Some(segment.head().rows));
    }
    Some(read.iter().filter(|row| row.is_ok()).count())
}

/// Checks a segment in a spool.
fn check_spool(folder: &Path, bytes: &[u8], readable: Option<usize>) {
    let id = bytes.get(ID..).and_then(<[u8]>::first_chunk).map_or(0, |id| u64::from_le_bytes(*id));
    let path = folder.join(format!("{id:020}{}", folder::SUFFIX));
    fs::write(&path, bytes).expect("a file");
    let mut shown = 0;
    let count = |_: &_| {
        shown += 1;
        Ok(())
    };
    show::each(folder, &Filter::default(), count, |_, _| {}).expect("no trouble with the disk");
    assert_eq!(shown, readable.unwrap_or(0));

    let ledger = Arc::new(Ledger::default());
    let mut spool = Spool::open(folder, SPOOL, ledger.clone());
    if let Some(first) = spool.first() {
        assert_eq!(first, id);
        if let Some(segment) = spool.read(first)
            && spool.split(&segment)
        {
            assert!(spool.after(first).is_some());
        }
    }
    let sums = ledger.sums();
    assert_eq!(sums.unaccounted(), 0, "{sums:?}");
    while let Some(first) = spool.first() {
        spool.forget(first, |_, _| {});
    }
    assert_eq!(ledger.sums().spool_bytes, 0);
    assert!(folder::list(folder).expect("a folder").is_empty(), "a file is left");
}

fuzz_target!(|data: &[u8]| {
    let [how, bytes @ ..] = data else { return };
    let segment = match how % 3 {
        0 => bytes.to_vec(),
        1 => seal(bytes.to_vec()),
        _ => compressed(bytes),
    };
    let readable = check(&segment);
    FOLDER.with(|folder| check_spool(folder.path(), &segment, readable));
});
