//! Compact form of an entry.
//!
//! ```text
//! 0       1      2          6       7      8      9
//! ┌───────┬──────┬──────────┬───────┬──────┬──────┬──────┬───────┬──────┬─────────┬─────────────────┐
//! │ marks │ form │ received │ units │ name │ type │ name │ times │ more │ records │ demand, recheck │
//! └───────┴──────┴──────────┴───────┴──────┴──────┴──────┴───────┴──────┴─────────┴─────────────────┘
//! ```
//! `marks` has the key's flags, and the state of the entry. `units` is the length of the entry in
//! units of two bytes; zero if one byte has no room for it: then it is in the two bytes that follow.
//! `name` is the length of the name as it stands here: as [letters], or else in wire format, both
//! without the root's zero. `type` is the type if that is below 256 and the class is IN; otherwise 0,
//! and both are behind the name. `times` are TTL, time as a stale answer, and time of renewal ahead.
//! `more` is there if `form` says so: the status, the TTL of the source, the numbers of records, the
//! extended error. Records leave out what the question or the answer says already: see
//! [`super::records`]. An entry that was asked for again, or whose renewal failed, ends with demand
//! and the time of the next try.

use super::{
    Demand, Entry, letters,
    records::{self, Form},
};
use arrayvec::ArrayVec;
use ringdns_dataplane::{
    clock::Secs,
    dns::{
        CLASS_IN, NAME_MAX, QUESTION_MAX,
        answer::{Answer, Status},
        key::{Asked, Flags},
        rcode,
    },
};
use std::sync::Arc;

/// Unit of lengths and places, in bytes.
pub(super) const UNIT: usize = 2;

const MARKS: usize = 0;
const FORM: usize = 1;
const RECEIVED: usize = 2;
const UNITS: usize = 6;
/// Bytes before the key, or before a length that takes two bytes more.
const HEAD: usize = 7;
/// Bytes of a length that has no room in one.
const LONG: usize = 2;
const _: () = assert!(LONG.is_multiple_of(UNIT), "a length that is added changes no rounding");

/// Bytes of demand and recheck.
const TAIL: usize = 8;

/// Flags of the key, as [`Flags`] has them.
const KEY: u8 = Flags::DO | Flags::CD;
/// The entry is in the index.
const LIVE: u8 = 0x02;
/// The entry ends with demand and recheck.
const TAILED: u8 = 0x04;
/// The name is packed as letters.
const LETTERS: u8 = 0x08;
/// Number of times that the entry was asked for, up to three, in two bits.
const FREQUENCY: u8 = 0x60;
const FREQUENCY_ONE: u8 = 0x20;
/// Marks that follow from the question.
const ASKED: u8 = KEY | LETTERS;
const _: () = assert!(KEY & LETTERS == 0 && ASKED & (LIVE | TAILED | FREQUENCY) == 0, "one meaning a bit");

/// Most times of use that are remembered.
const FREQUENCY_MAX: u8 = FREQUENCY / FREQUENCY_ONE;

/// The TTL of the source is another one.
const SOURCE_TTL: u8 = 0x01;
/// There is an extended error.
const EDE: u8 = 0x02;
/// The number of answer records is given; otherwise there is one.
const COUNT: u8 = 0x04;
/// Records are given as they are, with TTL offsets and their checksum.
const PLAIN: u8 = 0x08;
/// The time of renewal ahead is given in seconds; otherwise in percent of the TTL.
const AHEAD: u8 = 0x10;
/// The status is given; otherwise it is that of [`COMMON_STATUS`].
const STATUS: u8 = 0x20;
/// Records are addresses without marks: see [`Form::Addresses`].
const ADDRESSES: u8 = 0x40;
/// The numbers of authority and additional records are given; otherwise there are none.
const SECTIONS: u8 = 0x80;

/// Status that most answers have: NOERROR with data, not validated.
const COMMON_STATUS: Status = Status(rcode::NOERROR);

/// Units of times, in seconds.
const TIME_UNITS: [Secs; 4] = [1, 60, 3600, 86_400];

/// Bytes of a question.
pub(super) type Question = ArrayVec<u8, QUESTION_MAX>;

/// Key as it stands in entries, to be compared with them.
pub(super) struct PackedKey {
    bytes: ArrayVec<u8, { QUESTION_MAX + 2 }>,
    marks: u8,
}

impl PackedKey {
    /// Packs a question. `None`: it is too long, and no entry answers it.
    pub fn of(asked: Asked<'_>) -> Option<Self> {
        let plain = asked.name();
        let plain = plain.get(..plain.len().saturating_sub(1)).filter(|name| name.len() < NAME_MAX)?;
        let letters = letters::pack(plain);
        let (name, mark) = letters.as_ref().map_or((plain, 0), |letters| (&**letters, LETTERS));
        let code = match (u8::try_from(asked.qtype()), asked.qclass()) {
            (Ok(code), CLASS_IN) => code,
            _ => 0,
        };
        let mut bytes = ArrayVec::new();
        bytes.try_extend_from_slice(&[u8::try_from(name.len()).ok()?, code]).ok()?;
        bytes.try_extend_from_slice(name).ok()?;
        if code == 0 {
            bytes.try_extend_from_slice(asked.question.last_chunk::<4>()?).ok()?;
        }
        Some(PackedKey { bytes, marks: asked.flags.0 & KEY | mark })
    }

    /// Returns the part of the key that is hashed.
    pub fn parts(&self) -> (&[u8], u8) {
        (&self.bytes, self.marks)
    }
}

/// Entry in its compact form.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a>(pub &'a [u8]);

impl<'a> Packed<'a> {
    /// Returns the entry at the start of `bytes`.
    pub fn first(bytes: &'a [u8]) -> Option<Self> {
        let units = match bytes.get(UNITS)? {
            0 => u16::from_le_bytes(*bytes.get(HEAD..)?.first_chunk::<LONG>()?),
            units => u16::from(*units),
        };
        let entry = bytes.get(..usize::from(units) * UNIT)?;
        (entry.len() > HEAD).then_some(Packed(entry))
    }

    fn byte(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// Returns the offset of the key.
    fn key_at(self) -> usize {
        if self.byte(UNITS) == 0 { HEAD + LONG } else { HEAD }
    }

    /// Whether the entry answers the question with this key.
    pub fn is_of(self, key: &PackedKey) -> bool {
        let found = self.0.get(self.key_at()..).is_some_and(|found| found.starts_with(&key.bytes));
        found && self.byte(MARKS) & ASKED == key.marks
    }

    /// Returns the part of the key that is hashed, as [`PackedKey::parts`] does.
    pub fn parts(self) -> (&'a [u8], u8) {
        let key = self.0.get(self.key_at()..).unwrap_or_default();
        let len = match key {
            [name, 0, ..] => 2 + usize::from(*name) + 4,
            [name, ..] => 2 + usize::from(*name),
            [] => 0,
        };
        (key.get(..len).unwrap_or_default(), self.byte(MARKS) & ASKED)
    }

    /// Returns the flags of the key.
    pub fn flags(self) -> Flags {
        Flags(self.byte(MARKS) & KEY)
    }

    /// Returns the question.
    pub fn question(self) -> Question {
        let (key, marks) = self.parts();
        let mut question = Question::new();
        if let [len, code, rest @ ..] = key
            && let Some((name, rest)) = rest.split_at_checked(usize::from(*len))
        {
            let [c1, c0] = CLASS_IN.to_be_bytes();
            let known = [0, *code, c1, c0];
            let tail = rest.first_chunk().unwrap_or(&known);
            // All have room, unless the name is damaged.
            if marks & LETTERS == 0 {
                let _ = question.try_extend_from_slice(name);
            } else {
                letters::unpack(name, &mut question);
            }
            let _ = question.try_push(0);
            let _ = question.try_extend_from_slice(tail);
        }
        question
    }

    /// Whether the entry is in the index.
    pub fn is_live(self) -> bool {
        self.byte(MARKS) & LIVE != 0
    }

    /// Returns the remembered number of times that the entry was asked for.
    pub fn frequency(self) -> u8 {
        (self.byte(MARKS) & FREQUENCY) / FREQUENCY_ONE
    }

    /// Returns the time at which the answer was received.
    fn received(self) -> Secs {
        let bytes = self.0.get(RECEIVED..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| Secs::from_le_bytes(*bytes))
    }

    /// Returns the part that follows the key.
    fn rest(self) -> Reader<'a> {
        let at = self.key_at() + self.parts().0.len();
        Reader(self.0.get(at..).unwrap_or_default())
    }

    /// Returns the times after which the answer has expired, and can no longer be served.
    pub fn ends(self) -> Option<(Secs, Secs)> {
        let mut rest = self.rest();
        let expires = self.received().saturating_add(rest.time()?);
        Some((expires, expires.saturating_add(rest.time()?)))
    }

    /// Returns demand and the time of the next try to renew the answer.
    pub fn tail(self) -> (Demand, Secs) {
        let tail = if self.byte(MARKS) & TAILED == 0 { None } else { self.0.last_chunk::<TAIL>() };
        let Some([d0, d1, d2, d3, recheck @ ..]) = tail else { return (Demand::default(), 0) };
        (Demand::from_bits(u32::from_le_bytes([*d0, *d1, *d2, *d3])), Secs::from_le_bytes(*recheck))
    }

    /// Returns the answer to `question`, which is that of the entry.
    fn answer_to(self, question: &[u8]) -> Option<Answer> {
        let (form, received) = (self.byte(FORM), self.received());
        let mut rest = self.rest();
        let (ttl, stale) = (rest.time()?, rest.time()?);
        let ahead = match form & AHEAD {
            0 => percent_of(ttl, rest.byte()?),
            _ => rest.time()?,
        };
        let status = if form & STATUS == 0 { COMMON_STATUS } else { Status(rest.byte()?) };
        let source_ttl = if form & SOURCE_TTL == 0 { ttl } else { rest.time()? };
        let answers = if form & COUNT == 0 { 1 } else { rest.number()? };
        let [authority, additional] =
            if form & SECTIONS == 0 { [0, 0] } else { [rest.number()?, rest.number()?] };
        let counts = [answers, authority, additional];
        let ede = if form & EDE == 0 { None } else { Some(rest.number()?) };
        let records = match form & (PLAIN | ADDRESSES) {
            0 => records::unpack(&mut rest, Form::Marked, question, counts, ttl)?,
            ADDRESSES => records::unpack(&mut rest, Form::Addresses, question, counts, ttl)?,
            _ => records::read_plain(&mut rest)?,
        };
        let records::Records { ttls, wire, sum } = records;
        Some(Answer { status, counts, ttls, wire, sum, received, ttl, source_ttl, stale, ahead, ede })
    }

    /// Returns the answer.
    #[cfg(test)]
    pub fn answer(self) -> Option<Answer> {
        self.answer_to(&self.question())
    }

    /// Returns the entry.
    pub fn entry(self) -> Option<Entry> {
        self.entry_of(&self.question())
    }

    /// Returns the entry of `question`, which a lookup knows and need not unpack.
    pub fn entry_of(self, question: &[u8]) -> Option<Entry> {
        let (demand, recheck) = self.tail();
        Some(Entry { answer: Arc::new(self.answer_to(question)?), demand, recheck })
    }
}

/// Packs an entry. `None`: it is too large to be kept.
pub(super) fn pack(key: &PackedKey, asked: Asked<'_>, answer: &Answer) -> Option<Vec<u8>> {
    let Answer { status, ttl, source_ttl, stale, ahead, counts: [answers, sections @ ..], .. } = *answer;
    let mut to = Vec::with_capacity(HEAD + key.bytes.len() + answer.wire.len() + 16);
    let mut form = 0;
    to.extend_from_slice(&[key.marks | LIVE, 0]);
    to.extend_from_slice(&answer.received.to_le_bytes());
    to.push(0);
    to.extend_from_slice(&key.bytes);
    put_time(&mut to, ttl);
    put_time(&mut to, stale);
    match (0..=u8::MAX).find(|percent| percent_of(ttl, *percent) == ahead) {
        Some(percent) => to.push(percent),
        None => {
            form |= AHEAD;
            put_time(&mut to, ahead);
        }
    }
    if status != COMMON_STATUS {
        form |= STATUS;
        to.push(status.0);
    }
    if source_ttl != ttl {
        form |= SOURCE_TTL;
        put_time(&mut to, source_ttl);
    }
    if answers != 1 {
        form |= COUNT;
        put_number(&mut to, answers.into());
    }
    if sections != [0, 0] {
        form |= SECTIONS;
        sections.iter().for_each(|count| put_number(&mut to, u64::from(*count)));
    }
    if let Some(ede) = answer.ede {
        form |= EDE;
        put_number(&mut to, u64::from(ede));
    }
    let before = to.len();
    let packed = [(Form::Addresses, ADDRESSES), (Form::Marked, 0)].into_iter().find(|(form, _)| {
        to.truncate(before);
        records::pack(&mut to, *form, asked.question, answer).is_some()
    });
    form |= packed.map_or(PLAIN, |(_, form)| form);
    if packed.is_none() {
        to.truncate(before);
        records::put_plain(&mut to, answer);
    }
    *to.get_mut(FORM)? = form;
    finished(to)
}

/// Returns an entry with this demand and this time of the next try to renew the answer. `None`: it
/// is too large to be kept.
pub(super) fn with_tail(entry: Packed<'_>, demand: Demand, recheck: Secs) -> Option<Vec<u8>> {
    let mut to = Vec::with_capacity(entry.0.len() + TAIL + LONG);
    to.extend_from_slice(entry.0.get(..HEAD)?);
    to.extend_from_slice(entry.0.get(entry.key_at()..)?);
    if entry.byte(MARKS) & TAILED != 0 {
        to.truncate(to.len().saturating_sub(TAIL));
    }
    *to.get_mut(MARKS)? |= TAILED;
    to.extend_from_slice(&demand.bits().to_le_bytes());
    to.extend_from_slice(&recheck.to_le_bytes());
    finished(to)
}

/// Fills the last unit, and writes the length, which takes two bytes more in a long entry.
fn finished(mut entry: Vec<u8>) -> Option<Vec<u8>> {
    entry.resize(entry.len().next_multiple_of(UNIT), 0);
    let units = u8::try_from(entry.len() / UNIT);
    *entry.get_mut(UNITS)? = units.unwrap_or(0);
    if units.is_err() {
        let units = u16::try_from((entry.len() + LONG) / UNIT).ok()?;
        entry.splice(HEAD..HEAD, units.to_le_bytes());
    }
    Some(entry)
}

/// Writes demand and recheck in place. Returns false if the entry has no room for them.
pub(super) fn set_tail(entry: &mut [u8], demand: Demand, recheck: Secs) -> bool {
    let tailed = entry.get(MARKS).is_some_and(|marks| marks & TAILED != 0);
    let tail = entry.last_chunk_mut::<TAIL>().filter(|_| tailed);
    let Some([d0, d1, d2, d3, rest @ ..]) = tail else { return false };
    [*d0, *d1, *d2, *d3] = demand.bits().to_le_bytes();
    *rest = recheck.to_le_bytes();
    true
}

/// Marks an entry as removed.
pub(super) fn kill(entry: &mut [u8]) {
    if let Some(marks) = entry.get_mut(MARKS) {
        *marks &= !LIVE;
    }
}

/// Sets the remembered number of times that the entry was asked for.
pub(super) fn set_frequency(entry: &mut [u8], frequency: u8) {
    if let Some(marks) = entry.get_mut(MARKS) {
        *marks = *marks & !FREQUENCY | (frequency.min(FREQUENCY_MAX) * FREQUENCY_ONE);
    }
}

fn percent_of(ttl: Secs, percent: u8) -> Secs {
    (u64::from(ttl) * u64::from(percent) / 100) as Secs
}

/// Writes a time in the largest unit in which it is a whole number.
pub(super) fn put_time(to: &mut Vec<u8>, secs: Secs) {
    let whole = TIME_UNITS.iter().rposition(|unit| secs > 0 && secs.is_multiple_of(*unit)).unwrap_or(0);
    let number = secs / TIME_UNITS.get(whole).unwrap_or(&1);
    put_number(to, u64::from(number) << 2 | whole as u64);
}

/// Writes a number in seven bits a byte, the lowest first; each byte but the last has the top bit.
pub(super) fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Bytes of an entry that are left to be read.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// Reads a number.
    pub fn number<N: TryFrom<u64>>(&mut self) -> Option<N> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return N::try_from(number).ok();
            }
        }
        None
    }

    /// Reads a time.
    pub fn time(&mut self) -> Option<Secs> {
        let number: u64 = self.number()?;
        let unit = TIME_UNITS.get(number as usize % TIME_UNITS.len())?;
        Secs::try_from((number / TIME_UNITS.len() as u64).checked_mul(u64::from(*unit))?).ok()
    }
}

#[cfg(test)]
mod tests;
