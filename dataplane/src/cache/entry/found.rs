//! Entry as a glance sees it.

use super::{Body, EntryHeader, SIMPLE, SIMPLE_TTL, TABLE_HEAD, WIRE_MAX};
use crate::{
    checksum,
    clock::Secs,
    dns::{
        QUESTION_MAX,
        answer::{Status, View},
        header,
    },
    simd::{BLOCK, Block},
};

/// Entry found by a glance: an answer to copy.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    header: &'a EntryHeader,
    /// The table, and the records that follow it.
    rest: &'a [u8],
}

/// Parts of an answer that a glance writes into the reply.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Part of the header that depends on the answer: see [`header::start`].
    pub start: u64,
    /// Number of additional records, as on the wire.
    pub additional: u16,
    /// Amount by which to raise the checksum of a query packet that holds nothing but the question.
    pub balance: u16,
    /// Offset of each TTL in the message, little-endian.
    pub ttls: &'a [[u8; 2]],
    /// Records in wire format.
    pub wire: &'a [u8],
    /// The records and all that follows them in memory, so that whole blocks can be copied.
    pub memory: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Returns the parts of an answer.
    pub fn of(view: View<'a>) -> Self {
        let View { start, additional, ttls, wire, sum, .. } = view;
        let additional = additional.to_be();
        let change = checksum::add(change_but_records(start, additional, wire.len()), u64::from(sum));
        Parts { start, additional, balance: !checksum::fold_native(change), ttls, wire, memory: wire }
    }

    /// Returns the parts of an answer of this status whose records are too large to send.
    #[inline(always)]
    pub fn truncated(status: Status) -> Self {
        let status = status.truncated();
        let start = header::start(header::QR | header::RA | status.flags(), 0, 0);
        let balance = !checksum::fold_native(change_but_records(start, 0, 0));
        // A block that may be copied, so that the copy of no bytes takes few steps.
        Parts { start, additional: 0, balance, ttls: &[], wire: &[], memory: &[0; BLOCK] }
    }

    /// Returns the parts without AD.
    #[inline(always)]
    pub fn without_ad(self) -> Self {
        let authentic = header::flags(header::AD);
        let balance = checksum::fold_native(u64::from(self.balance) + u64::from(header::AD.to_be()));
        Parts { start: self.start & !authentic, balance, ..self }
    }
}

impl<'a> Found<'a> {
    /// Wraps the entry of a question of `question_len` bytes, less than 64.
    #[inline(always)]
    pub fn new(header: &'a EntryHeader, body: &'a Body, question_len: usize) -> Self {
        // The remainder equals the length; it saves a bounds check.
        Found { header, rest: &body[question_len % 64..] }
    }

    /// Wraps an entry; `body` is the body that follows the header.
    #[inline(always)]
    pub fn of(header: &'a EntryHeader, body: &'a Body) -> Self {
        Found { header, rest: &body[header.question_len()..] }
    }

    /// Whether the answer is positive, complete, the same for every client and of no authority, and one
    /// record of at most [`BLOCK`] bytes whose name is a pointer: most are.
    #[inline(always)]
    pub fn is_simple(&self) -> bool {
        self.header.state & SIMPLE != 0
    }

    /// Returns RCODE, AA and AD.
    pub fn status(&self) -> Status {
        self.header.status()
    }

    /// Returns the time since a fresh answer was received, in seconds.
    #[inline(always)]
    pub fn age(&self, now: Secs) -> Secs {
        // No entry is received later than the time of the clock that asks: see `Cache::insert`.
        now.wrapping_sub(self.header.received())
    }

    /// Returns the block with the record of a [simple](Self::is_simple) answer, and the record's
    /// length. Its TTL is at [`SIMPLE_TTL`].
    #[inline(always)]
    pub fn simple(&self) -> (&'a Block, usize) {
        let record = self.rest.first_chunk().unwrap_or(&[0; BLOCK]);
        (record, usize::from(self.header.wire_len.get()) % (2 * BLOCK))
    }

    /// Returns the length of the records in bytes.
    #[inline(always)]
    pub fn wire_len(&self) -> usize {
        usize::from(self.header.wire_len.get()) % WIRE_MAX
    }

    /// Whether all records are in the answer section, so that none may be left out.
    #[inline(always)]
    pub fn has_only_answers(&self) -> bool {
        let Parts { start, additional, .. } = self.parts();
        let [_, authority] = header::counts(start);
        authority == 0 && additional == 0
    }

    /// Returns the parts of the reply to a question with a [simple](Self::is_simple) answer, without the
    /// record.
    #[inline(always)]
    pub fn head(&self) -> Parts<'a> {
        let balance = self.header.balance.get();
        Parts { start: SIMPLE_START, additional: 0, balance, ttls: &[], wire: &[], memory: &[] }
    }

    /// Returns the parts of the reply.
    #[inline(always)]
    pub fn parts(&self) -> Parts<'a> {
        let (table, memory) = self.rest.split_at(2 * usize::from(self.header.words));
        let wire = &memory[..self.wire_len()];
        let Some((head, ttls)) = table.split_first_chunk::<TABLE_HEAD>() else {
            return Parts { ttls: simple_ttl(self.header.question_len()), wire, memory, ..self.head() };
        };
        let [s0, s1, s2, s3, s4, s5, s6, s7, a0, a1] = *head;
        Parts {
            start: u64::from_ne_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            additional: u16::from_ne_bytes([a0, a1]),
            balance: self.header.balance.get(),
            ttls: ttls.as_chunks::<2>().0,
            wire,
            memory,
        }
    }

    /// Returns the answer, without its note.
    #[inline(always)]
    pub fn view(&self) -> View<'a> {
        let Parts { start, additional, balance, ttls, wire, .. } = self.parts();
        let change = change_but_records(start, additional, wire.len());
        View {
            status: self.status(),
            start,
            additional: u16::from_be(additional),
            ttls,
            wire,
            sum: checksum::fold_native(checksum::change(change, u64::from(!balance))),
            ede: None,
            list: None,
        }
    }
}

/// Start of the header of each [simple](Found::is_simple) answer.
pub(super) const SIMPLE_START: u64 = header::start(header::QR | header::RA, 1, 0);

/// Returns the offset of the TTL of a [simple](Found::is_simple) answer to a question of
/// `question_len` bytes, in the message: what [`Parts::ttls`] has for it.
#[inline(always)]
pub(super) fn simple_ttl(question_len: usize) -> &'static [[u8; 2]] {
    const TTLS: [[u8; 2]; QUESTION_MAX + 1] = {
        let mut ttls = [[0; 2]; QUESTION_MAX + 1];
        let mut len = 0;
        while len <= QUESTION_MAX {
            ttls[len] = ((header::LEN + len + SIMPLE_TTL) as u16).to_le_bytes();
            len += 1;
        }
        ttls
    };
    TTLS.get(question_len).map_or(&[], std::slice::from_ref)
}

/// Returns the change of a packet's sum, without the records, when a query that holds nothing but
/// the question becomes its reply. It covers the header (a query's has only the count of
/// questions), and the length in the UDP header and its pseudo-header.
fn change_but_records(start: u64, additional: u16, wire_len: usize) -> u64 {
    let question = header::start(0, 0, 0);
    let lengths = u64::from((wire_len as u16).to_be());
    checksum::chain(checksum::change(question, start), [u64::from(additional), 2 * lengths])
}
