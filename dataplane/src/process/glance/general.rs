//! The general look: at a question of one or two blocks in a packet without tags, with any EDNS options.
//! It takes more instructions than the first look, and sees what that one cannot.

use super::{Conditions, Glance, LONG_NAME, Opt, Seen};
use crate::{
    cache::Spot,
    checksum::{self, Checksums},
    dns::{
        OPT_LEN, UDP_MIN,
        cookie::{CLIENT_LEN, Cookie, SERVER_LEN},
        header::{self, LEN},
        key::Flags,
        option::code,
        query::OPTIONS_MAX,
    },
    frame::WINDOW,
    packet::plain::{Plain, Window, bytes},
    simd::{BLOCK, Block, Part, Simd, Work},
};
use std::marker::PhantomData;

/// Options of a query that the reply may answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Place of the first cookie in the packet, and its length in bytes; zero: there is none.
    cookie_at: u16,
    cookie_len: u8,
    /// Whether the client asks for the server's name (RFC 5001), and there is one.
    pub nsid: bool,
}

impl Asked {
    /// Reads the options between two places of the packet, which must fill them. Returns `None` if they do
    /// not, are more than [`OPTIONS_MAX`], or have a cookie of an invalid length. Unknown ones are ignored (RFC
    /// 6891 section 6.1.2).
    #[inline(always)]
    fn read(window: &Window, start: usize, end: usize) -> Option<Self> {
        let (mut asked, mut left) = (Asked::default(), window.get(start..end)?);
        for _ in 0..OPTIONS_MAX {
            let Some((head, rest)) = left.split_first_chunk() else { break };
            // Code and length, in one load.
            let head = u32::from_be_bytes(*head);
            let len = usize::from(head as u16);
            left = rest.get(len..)?;
            match (head >> 16) as u16 {
                // Of several cookies, the first counts (RFC 7873 section 4).
                code::COOKIE if asked.cookie_len == 0 => {
                    if !Cookie::is_length(len) {
                        return None;
                    }
                    (asked.cookie_at, asked.cookie_len) = ((end - rest.len()) as u16, len as u8);
                }
                code::NSID => asked.nsid = true,
                _ => {}
            }
        }
        left.is_empty().then_some(asked)
    }

    /// Whether there are any.
    #[inline(always)]
    pub fn is_some(&self) -> bool {
        self.cookie_len != 0 || self.nsid
    }

    /// Returns the cookie, whose length was checked.
    #[inline(always)]
    pub fn cookie(&self, window: &Window) -> Option<Cookie> {
        if self.cookie_len == 0 {
            return None;
        }
        let data = window.get(usize::from(self.cookie_at)..)?;
        let (client, rest) = data.split_first_chunk()?;
        let is_ours = usize::from(self.cookie_len) == CLIENT_LEN + SERVER_LEN;
        let server = if is_ours { Some(*rest.first_chunk()?) } else { None };
        Some(Cookie { client: *client, server })
    }
}

/// Reads the rest of a message whose OPT record has options, or which is not as usual in another way.
pub struct ReadOptions<'a, 'b, P> {
    pub glance: &'a mut Glance,
    pub window: &'a Window,
    /// Length of the packet.
    pub len: usize,
    /// Place of the records in the message.
    pub records: usize,
    pub conditions: &'a Conditions<'b>,
    pub version: PhantomData<P>,
}

/// Rest of a message that has options, in as many bytes as a register has.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub struct ReadRest {
    /// Sum of the OPT record.
    pub rest: u32,
    /// Length of the message, at most [`SHORT`]; zero: it takes another look.
    pub message_len: u16,
    /// DO of the client.
    pub dnssec_ok: u8,
    /// Whether there are options to answer.
    pub is_asking: bool,
}

/// Longest message whose length a first look can check.
const SHORT: usize = 200;

impl<P: Plain> Work for ReadOptions<'_, '_, P> {
    type Output = ReadRest;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> ReadRest {
        let ReadOptions { glance, window, len, records, conditions, .. } = self;
        let rest = glance.read_rest::<S, P>(simd, window, len, records - LEN, conditions);
        match rest {
            Some(Rest { flags, sum, end }) if end - P::MESSAGE <= SHORT => ReadRest {
                rest: sum,
                message_len: (end - P::MESSAGE) as u16,
                dnssec_ok: flags.0 & Flags::DO,
                is_asking: glance.asked.is_some(),
            },
            _ => ReadRest::default(),
        }
    }
}

/// Part of a message after its question.
struct Rest {
    /// Sum of the OPT record.
    sum: u32,
    /// DO and CD.
    flags: Flags,
    /// End of the message in the packet.
    end: usize,
}

impl Glance {
    /// Looks at a packet that [may be a query](may_be_query). Returns the kind of question that was seen; if
    /// the UDP checksum is not right, or the name too long, the kind says so.
    #[inline(always)]
    pub fn look_generally<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &Window,
        len: usize,
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) -> Seen {
        let question: &Block = bytes(window, P::MESSAGE + LEN);
        let beyond: &Block = bytes(window, P::MESSAGE + LEN + BLOCK);
        let mut name_len = simd.until_zero(question) + 1;
        if name_len > BLOCK {
            name_len = BLOCK + simd.until_zero(beyond) + 1;
        }
        if name_len > LONG_NAME {
            return Seen::Wide;
        }
        let question_len = name_len + 4;
        let rest = self.read_rest::<S, P>(simd, window, len, question_len, conditions);
        let Some(Rest { flags, end, .. }) = rest else { return Seen::Nothing };
        self.question_len = question_len as u8;
        self.filed = conditions.filed.with(flags);
        if conditions.checksums != Checksums::Unused && !is_right::<S, P>(simd, window, end) {
            return if P::IS_V6 { Seen::UnsummedV6 } else { Seen::UnsummedV4 };
        }
        self.seek_generally::<S, P>(simd, window, conditions, seek)
    }

    /// Seeks the answer to the question that a general look has seen. Returns the kind of the question.
    #[inline(always)]
    pub fn seek_generally<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &Window,
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) -> Seen {
        let question = [bytes(window, P::MESSAGE + LEN), bytes(window, P::MESSAGE + LEN + BLOCK)];
        self.seek_long(simd, question, conditions, seek);
        match self.asked.is_some() {
            true if P::IS_V6 => Seen::AskingV6,
            true => Seen::AskingV4,
            false => self.kind::<P>(),
        }
    }

    /// Returns the kind of the question, without options to answer.
    #[inline(always)]
    pub fn kind<P: Plain>(&self) -> Seen {
        match (P::IS_V6, self.question_len() > BLOCK) {
            (false, false) => Seen::V4,
            (false, true) => Seen::LongV4,
            (true, false) => Seen::V6,
            (true, true) => Seen::LongV6,
        }
    }

    /// Reads what follows a question of `question_len` bytes, in a packet of `len` bytes.
    #[inline(always)]
    fn read_rest<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &Window,
        len: usize,
        question_len: usize,
        conditions: &Conditions<'_>,
    ) -> Option<Rest> {
        let records = LEN + question_len;
        let mut end = P::MESSAGE + records;
        let mut flags = window[P::MESSAGE + 3] & Flags::CD;
        let (mut largest, mut used, mut sum, mut options_len) = (UDP_MIN, records, 0, 0);
        let additional = u16::from_ne_bytes(*bytes(window, P::MESSAGE + 10));
        if additional != 0 {
            let opt = Opt::read_with_options(window, end).filter(|_| additional == 1u16.to_be());
            let (opt, len) = opt?;
            (sum, options_len) = (opt.sum(records), len);
            flags |= opt.dnssec_ok();
            largest = opt.udp_size().clamp(UDP_MIN, P::largest(&conditions.largest).max(UDP_MIN));
            used += OPT_LEN;
            end += OPT_LEN + options_len;
        }
        if end > len.min(WINDOW) || !P::ends_at(window, end) {
            return None;
        }
        (self.opt, self.asked) = (sum, Asked::default());
        if options_len > 0 {
            let options = end - options_len;
            self.asked = Asked::read(window, options, end)?;
            self.asked.nsid &= conditions.has_name;
            let from = options - 2;
            let wire = checksum::placed(simd.sum(&window[from..], end - from), from - P::MESSAGE);
            sum += u32::from(checksum::fold_native(wire));
            // With the length of the options, which is also in the UDP header and its pseudo-header.
            self.opt = sum + 2 * u32::from((options_len as u16).to_be());
        }
        // The query's OPT record was counted, so there is room for ours. No question is as long as the smallest
        // limit.
        self.room = largest - used as u16;
        Some(Rest { flags: Flags(flags), sum, end })
    }

    /// Looks at a question that is too long for a general look, and writes its blocks after the first to
    /// `beyond`. Returns its length, and whether the UDP checksum is right; `None`: the packet needs a closer
    /// look.
    #[inline(always)]
    pub fn look_far<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        window: &Window,
        len: usize,
        beyond: &mut [Block],
        conditions: &Conditions<'_>,
        seek: impl Fn(u64) -> Spot,
    ) -> Option<(usize, bool)> {
        if !may_be_query::<P>(window, conditions) {
            return None;
        }
        let question = &window[P::MESSAGE + LEN..].as_chunks::<BLOCK>().0[..beyond.len() + 1];
        let ends = question.iter().map(|block| simd.until_zero(block));
        let (nth, end) = ends.enumerate().find(|(_, end)| *end < BLOCK)?;
        let name_len = nth * BLOCK + end + 1;
        let question_len = name_len + 4;
        let Rest { flags, end, .. } = self.read_rest::<S, P>(simd, window, len, question_len, conditions)?;
        self.filed = conditions.filed.with(flags);
        let is_right = conditions.checksums == Checksums::Unused || is_right::<S, P>(simd, window, end);
        let (first, rest) = question.split_first()?;
        self.question = simd.lowered(first, Part::of_rest(name_len, question_len));
        let hash = &conditions.hash;
        let mut state = hash.add(hash.start(flags), &self.question);
        let (mut letters, mut left) = (name_len.saturating_sub(BLOCK), question_len.saturating_sub(BLOCK));
        for (to, from) in beyond.iter_mut().zip(rest) {
            if left == 0 {
                break;
            }
            // Most blocks of a long name have nothing else.
            let part = if letters < BLOCK { Part::of_rest(letters, left) } else { Part::INNER };
            *to = simd.lowered(from, part);
            state = hash.add(state, to);
            (letters, left) = (letters.saturating_sub(BLOCK), left.saturating_sub(BLOCK));
        }
        self.spot = seek(state);
        Some((question_len, is_right))
    }
}

/// Whether a packet is plain but for lengths and checksums, from a client that may ask, and has the header of
/// a query.
#[inline(always)]
pub fn may_be_query<P: Plain>(window: &Window, conditions: &Conditions<'_>) -> bool {
    let start = u64::from_ne_bytes(*bytes(window, P::MESSAGE + 2));
    let may_ask = || {
        P::lets_in(window, conditions.access)
            || conditions.checksums == Checksums::Unused && P::is_allowed(window, conditions.access)
    };
    P::is_udp(window) && P::has_port(window) && header::is_query(start) && may_ask()
}

/// Whether the checksums of a packet that ends at `end` are right.
#[inline(always)]
fn is_right<S: Simd, P: Plain>(simd: S, window: &Window, end: usize) -> bool {
    P::has_right_header(window)
        && *bytes(window, P::MESSAGE - 2) != [0; 2]
        && checksum::is_right(P::sum(simd, window, end))
}
