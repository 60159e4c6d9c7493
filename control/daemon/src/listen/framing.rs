//! Messages over TCP: two bytes for the length, then the message (RFC 1035 section 4.2.2).

use std::{io, ops::Range};

/// Capacity of the buffer of an idle connection, in bytes: some forty queries.
const INPUT: usize = 2048;

/// Bytes that a client has sent, and that have not been worked on.
pub struct Input {
    bytes: Vec<u8>,
    /// Index of the first byte of the next message's length.
    at: usize,
}

impl Input {
    /// Returns an empty input.
    pub fn new() -> Self {
        Input { bytes: Vec::with_capacity(INPUT), at: 0 }
    }

    /// Returns the buffer to append to. It grows with what arrives, not with what a client announces.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes the next message, if all of it is there. Returns its place.
    pub fn next(&mut self) -> Option<Range<usize>> {
        let (length, rest) = self.bytes.get(self.at..)?.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        if rest.len() < length {
            return None;
        }
        let start = self.at + 2;
        self.at = start + length;
        Some(start..self.at)
    }

    /// Returns the message at a place.
    pub fn message(&self, place: Range<usize>) -> &[u8] {
        self.bytes.get(place).unwrap_or_default()
    }

    /// Whether part of a message is there.
    pub fn is_begun(&self) -> bool {
        self.at < self.bytes.len()
    }

    /// Forgets the messages that were taken.
    pub fn settle(&mut self) {
        self.bytes.drain(..self.at);
        self.at = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(INPUT);
        }
    }
}

/// Appends two bytes for the length, then a message of at most `room` bytes that begins with `head`.
/// `write` gets its buffer and returns its length; with 0, nothing is appended.
pub fn append(out: &mut Vec<u8>, head: &[u8], room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let start = out.len();
    out.extend([0; 2]);
    out.extend(head);
    out.resize(start + 2 + room.max(head.len()), 0);
    let (length, message) = out[start..].split_at_mut(2);
    let written = write(message).min(message.len());
    length.copy_from_slice(&(written as u16).to_be_bytes());
    out.truncate(if written == 0 { start } else { start + 2 + written });
}

/// Error of a peer that has sent or taken nothing for too long.
pub fn silent() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let mut input = Input::new();
        let sent = [&[0, 3][..], b"one", &[0, 0], &[0, 5], b"three"].concat();
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for byte in sent {
            input.buffer().push(byte);
            while let Some(place) = input.next() {
                taken.push(input.message(place).to_vec());
            }
            input.settle();
        }
        assert_eq!(taken, [&b"one"[..], b"", b"three"]);
        assert!(!input.is_begun());
    }

    #[test]
    fn a_large_message_leaves_no_large_buffer() {
        let mut input = Input::new();
        input.buffer().extend([0xff; 2 + 65_535]);
        input.buffer().push(0);
        assert_eq!(input.next(), Some(2..2 + 65_535));
        assert_eq!(input.next(), None);
        input.settle();
        assert!(input.is_begun() && input.buffer().len() == 1);
        input.buffer().extend([1, 7]);
        assert_eq!(input.next(), Some(2..3));
        input.settle();
        assert_eq!(input.buffer().capacity(), INPUT);
    }

    #[test]
    fn a_message_is_appended_behind_others_or_not_at_all() {
        let mut out = b"before".to_vec();
        append(&mut out, b"question", 20, |message| {
            assert!(message.starts_with(b"question") && message.len() == 20);
            message[8] = b'!';
            9
        });
        append(&mut out, b"dropped", 7, |_| 0);
        assert_eq!(out, b"before\0\x09question!");
    }
}
