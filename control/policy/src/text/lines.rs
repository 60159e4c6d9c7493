//! Lines of a stream, in bounded memory.

use super::SourceError;
use std::io::{self, BufRead, Read};

/// Longest line, in bytes and without its end. Names have at most 255, so that more is a mistake.
pub const LINE_MAX: usize = 1024;

/// Number of bytes from which the format is found out.
const HEAD: u64 = 64 * 1024;

/// Line of a list, without its end.
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    /// Beginning of a line that is longer than [`LINE_MAX`].
    Long(&'a [u8]),
}

impl Line<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        let (Line::Whole(bytes) | Line::Long(bytes)) = self;
        bytes
    }
}

/// Takes the first bytes of a stream.
pub(super) fn head(source: &mut impl Read) -> Result<Vec<u8>, SourceError> {
    let mut head = Vec::new();
    source.take(HEAD).read_to_end(&mut head).map_err(SourceError::Unreadable)?;
    if head.starts_with(b"\xef\xbb\xbf") {
        head.drain(..3);
    }
    Ok(head)
}

/// Hands each line to `each`, with its number, from 1 on. Bytes that no text has are an error.
pub(super) fn each(mut source: impl BufRead, mut each: impl FnMut(u32, Line<'_>)) -> Result<(), SourceError> {
    let mut number = 0u32;
    // Beginning of a line whose end is not read yet, up to a byte more than is allowed, and one for CR.
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let chunk = match source.fill_buf() {
            Ok([]) => break,
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(SourceError::Unreadable(error)),
        };
        let used = chunk.len();
        if let Some(at) = memchr::memchr(0, chunk) {
            let before = chunk.get(..at).unwrap_or_default();
            let ends = u32::try_from(memchr::memchr_iter(b'\n', before).count()).unwrap_or(u32::MAX);
            let line = number.saturating_add(ends).saturating_add(1);
            return Err(SourceError::Binary(format!("line {line} has a NUL byte")));
        }
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            number = number.saturating_add(1);
            let part = chunk.get(from..end).unwrap_or_default();
            from = end + 1;
            if begun.is_empty() {
                each(number, bounded(part));
            } else {
                keep(&mut begun, part);
                each(number, bounded(&begun));
                begun.clear();
            }
        }
        keep(&mut begun, chunk.get(from..).unwrap_or_default());
        source.consume(used);
    }
    if !begun.is_empty() {
        each(number.saturating_add(1), bounded(&begun));
    }
    Ok(())
}

/// Appends as much of a line as is needed to know that it is too long.
fn keep(begun: &mut Vec<u8>, part: &[u8]) {
    let room = (LINE_MAX + 2).saturating_sub(begun.len());
    begun.extend_from_slice(part.get(..room).unwrap_or(part));
}

fn bounded(line: &[u8]) -> Line<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.get(..=LINE_MAX) {
        Some(longer) => Line::Long(longer),
        None => Line::Whole(line),
    }
}
