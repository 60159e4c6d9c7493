//! Direct use of processor features. [`Level::best`] detects them once. A burst is then processed
//! by code that was compiled for them ([`Level::run`]): AVX2 and BMI on x86-64 since 2013, plain
//! Rust elsewhere.

use crate::checksum;

/// Number of bytes processed at once.
pub const BLOCK: usize = 32;

/// Block of [`BLOCK`] bytes.
pub type Block = [u8; BLOCK];

/// Bytes of a header that are shuffled at once.
pub type Half = [u8; 16];

/// Prefetches the cache line of `at`, which need not be mapped. The burst's other lookups hide the
/// wait.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch of any address reads nothing and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Number of tags of 16 bits that [`equal`] compares.
pub const TAGS: usize = 10;

/// Returns a bit for each of the first [`TAGS`] words of `block` that equals `tag`. Two comparisons
/// instead of ten.
#[inline(always)]
pub fn equal(block: &Block, tag: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        equal_sse2(block, tag)
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_portable(block, tag)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_sse2(block: &Block, tag: u16) -> u32 {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16};
    let halves: [__m128i; 2] = zerocopy::transmute!(*block);
    let [low, high] = halves.map(|half| _mm_cmpeq_epi16(half, _mm_set1_epi16(tag as i16)));
    // Sixteen times 16 bits become sixteen bytes, and their top bits the mask.
    _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32 & ((1 << TAGS) - 1)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_portable(block: &Block, tag: u16) -> u32 {
    let (words, _) = block.as_chunks::<2>();
    let tags = words.iter().take(TAGS).map(|word| u16::from_ne_bytes(*word));
    tags.enumerate().map(|(slot, have)| u32::from(have == tag) << slot).sum()
}

/// Operations of the fast path.
pub trait Simd: Copy {
    /// Runs `work` in a separate function, compiled for the same processor, so that rare cases do
    /// not take registers from the common one.
    fn apart<W: Work>(self, work: W) -> W::Output;

    /// Returns the number of bytes before the first zero; [`BLOCK`] if there is none.
    fn until_zero(self, block: &Block) -> usize;

    /// Returns the part of a question in the block: the ASCII letters of the name lowercased (RFC 4343:
    /// only they have case), and zeros after the question.
    fn lowered(self, block: &Block, part: Part) -> Block;

    /// Whether the first `len` bytes are the same, at most [`BLOCK`].
    fn same(self, a: &Block, b: &Block, len: usize) -> bool;

    /// Returns the [sum](crate::checksum) of the first `len` bytes, less than 2^32: at most 64 KiB.
    fn sum(self, bytes: &[u8], len: usize) -> u64;

    /// Returns the bytes in another order: at each position the byte that `order` names, or zero
    /// for 0x80.
    fn shuffled(self, half: &Half, order: &Half) -> Half;

    /// Whether two [checksums](crate::checksum) are right: that of `apart`, and that of
    /// `head` together with the question in `tail`, and with `rest`, a sum below 2^28. All are at even
    /// offsets.
    fn are_right(self, apart: Masked<'_>, head: Masked<'_>, tail: &Block, part: Part, rest: u32) -> bool;
}

/// A block, and a mask with ones for the bytes that count.
pub type Masked<'a> = (&'a Block, &'a Block);

/// Most bytes of a name whose question fits in a block.
pub const NAME: usize = BLOCK - 4;

/// Part of a question that is in a block, as masks with ones for the bytes of the name and of the question.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    name: &'static Block,
    question: &'static Block,
}

impl Part {
    /// Part that is all of the name.
    pub const INNER: Part = Part { name: &[0xff; BLOCK], question: &[0xff; BLOCK] };

    /// Returns the whole question, whose name has `name` bytes, from 1 to [`NAME`].
    #[inline(always)]
    pub fn whole(name: usize) -> Self {
        const ONES: [u8; 2 * BLOCK + 4] = {
            let mut ones = [0; 2 * BLOCK + 4];
            let mut at = 0;
            while at < BLOCK {
                ones[at] = 0xff;
                at += 1;
            }
            ones
        };
        // The remainder equals the difference; it saves a bounds check.
        let at = NAME.wrapping_sub(name) % BLOCK;
        match (ONES[at + 4..].first_chunk(), ONES[at..].first_chunk()) {
            (Some(name), Some(question)) => Part { name, question },
            _ => unreachable!("there are two blocks and four bytes"),
        }
    }

    /// Returns the part of a question that `question` bytes of are left to read, with `name` bytes of its
    /// name.
    #[inline(always)]
    pub fn of_rest(name: usize, question: usize) -> Self {
        Part { name: first(name.min(BLOCK)), question: first(question.min(BLOCK)) }
    }
}

/// Returns a mask with ones for the first `len` bytes, at most [`BLOCK`].
#[inline(always)]
fn first(len: usize) -> &'static Block {
    const ONES: [u8; 3 * BLOCK] = {
        let mut ones = [0; 3 * BLOCK];
        let mut at = 0;
        while at < BLOCK {
            ones[at] = 0xff;
            at += 1;
        }
        ones
    };
    // The remainder, of a power of two, equals the difference; it saves a bounds check.
    match ONES[BLOCK.wrapping_sub(len) % (2 * BLOCK)..].first_chunk() {
        Some(mask) => mask,
        None => unreachable!("there are three blocks"),
    }
}

/// Returns a mask with ones for the bytes from `start` to before `end`.
pub const fn between(start: usize, end: usize) -> Block {
    let mut mask = [0; BLOCK];
    let mut at = start;
    while at < end {
        mask[at] = 0xff;
        at += 1;
    }
    mask
}

/// Plain Rust, for any processor.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Simd for Portable {
    #[inline(never)]
    fn apart<W: Work>(self, work: W) -> W::Output {
        work.run(self)
    }

    fn until_zero(self, block: &Block) -> usize {
        block.iter().position(|byte| *byte == 0).unwrap_or(BLOCK)
    }

    fn lowered(self, block: &Block, part: Part) -> Block {
        std::array::from_fn(|at| {
            let byte = if part.name[at] == 0 { block[at] } else { block[at].to_ascii_lowercase() };
            byte & part.question[at]
        })
    }

    fn same(self, a: &Block, b: &Block, len: usize) -> bool {
        a[..len] == b[..len]
    }

    fn sum(self, bytes: &[u8], len: usize) -> u64 {
        checksum::fold_native(checksum::sum(&bytes[..len], 0)).into()
    }

    fn shuffled(self, half: &Half, order: &Half) -> Half {
        order.map(|from| if from < 16 { half[usize::from(from)] } else { 0 })
    }

    fn are_right(self, apart: Masked<'_>, head: Masked<'_>, tail: &Block, part: Part, rest: u32) -> bool {
        let of = |(block, mask): Masked<'_>| {
            let masked: Block = std::array::from_fn(|at| block[at] & mask[at]);
            u64::from(checksum::fold_native(checksum::sum(&masked, 0)))
        };
        let with = of(head) + of((tail, part.question)) + u64::from(rest);
        checksum::is_right(of(apart)) && checksum::is_right(with)
    }
}

/// Implementations of [`Simd`] that a processor supports.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// AVX2, BMI1, BMI2, LZCNT, MOVBE and POPCNT.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// No particular feature.
    Portable(Portable),
}

/// Work that is compiled once per level. `run` must be `#[inline(always)]`, or it is compiled for
/// none of them.
pub trait Work {
    /// Result of the work.
    type Output;

    /// Does the work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Level {
    /// Returns the best implementation that this processor supports.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = avx2::Avx2::detect() {
            return Level::Avx2(avx2);
        }
        Level::Portable(Portable)
    }

    /// Runs `work`, compiled for this processor.
    #[inline(always)]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(simd) => simd.run(work),
            Level::Portable(simd) => work.run(simd),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, Block, Half, Masked, Part, Portable, Simd, Work, first};
    use std::arch::x86_64::*;
    use zerocopy::transmute;

    /// Proof that the processor has the features that the functions here are compiled for.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx2(());

    impl Avx2 {
        /// Returns the proof; `None` if a feature is missing.
        pub fn detect() -> Option<Self> {
            let there = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("movbe")
                && is_x86_feature_detected!("popcnt");
            there.then_some(Avx2(()))
        }

        /// Runs `work`, compiled for this processor.
        #[inline(always)]
        pub fn run<W: Work>(self, work: W) -> W::Output {
            // SAFETY: `self` is the proof that the features are there.
            unsafe { run(self, work) }
        }
    }

    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn run<W: Work>(simd: Avx2, work: W) -> W::Output {
        work.run(simd)
    }

    /// Marked cold so that its callers keep their registers for the rest; that says nothing about
    /// how often it is called.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
    fn apart<W: Work>(simd: Avx2, work: W) -> W::Output {
        work.run(simd)
    }

    impl Simd for Avx2 {
        #[inline(always)]
        fn apart<W: Work>(self, work: W) -> W::Output {
            // SAFETY: `self` is the proof that the features are there.
            unsafe { apart(self, work) }
        }

        #[inline(always)]
        fn until_zero(self, block: &Block) -> usize {
            // SAFETY: `self` is the proof that AVX2 and BMI1 are there.
            unsafe { until_zero(block) }
        }

        #[inline(always)]
        fn lowered(self, block: &Block, part: Part) -> Block {
            // SAFETY: `self` is the proof that AVX2 is there.
            unsafe { lowered(block, part) }
        }

        #[inline(always)]
        fn same(self, a: &Block, b: &Block, len: usize) -> bool {
            // SAFETY: `self` is the proof that AVX2 and BMI2 are there.
            unsafe { same(a, b, len) }
        }

        #[inline(always)]
        fn sum(self, bytes: &[u8], len: usize) -> u64 {
            // Fewer instructions than `div_ceil`; no slice is so long that the sum wraps.
            match bytes.as_chunks::<BLOCK>().0.get(..len.wrapping_add(BLOCK - 1) / BLOCK) {
                // SAFETY: `self` is the proof that AVX2 is there.
                Some(blocks) => unsafe { sum(blocks, len) },
                None => Portable.sum(bytes, len),
            }
        }

        #[inline(always)]
        fn shuffled(self, half: &Half, order: &Half) -> Half {
            // SAFETY: `self` is the proof that AVX2 is there.
            unsafe { shuffled(half, order) }
        }

        #[inline(always)]
        fn are_right(self, apart: Masked<'_>, head: Masked<'_>, tail: &Block, part: Part, rest: u32) -> bool {
            // SAFETY: `self` is the proof that AVX2 is there.
            unsafe { are_right(apart, head, (tail, part.question), rest) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn until_zero(block: &Block) -> usize {
        let zeros = _mm256_cmpeq_epi8(transmute!(*block), _mm256_setzero_si256());
        (_mm256_movemask_epi8(zeros) as u32).trailing_zeros() as usize
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn lowered(block: &Block, Part { name, question }: Part) -> Block {
        let block: __m256i = transmute!(*block);
        // Signed comparison: this moves 'A'..='Z' to the 26 lowest values.
        let moved = _mm256_add_epi8(block, _mm256_set1_epi8(0x80u8.wrapping_sub(b'A') as i8));
        let other = _mm256_cmpgt_epi8(moved, _mm256_set1_epi8(0x80u8.wrapping_add(25) as i8));
        let case = _mm256_andnot_si256(other, _mm256_set1_epi8(0x20));
        let lowered = _mm256_or_si256(block, _mm256_and_si256(case, transmute!(*name)));
        transmute!(_mm256_and_si256(lowered, transmute!(*question)))
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi2")]
    fn same(a: &Block, b: &Block, len: usize) -> bool {
        let same = _mm256_cmpeq_epi8(transmute!(*a), transmute!(*b));
        (_mm256_movemask_epi8(same) as u32).trailing_ones() >= len as u32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn shuffled(half: &Half, order: &Half) -> Half {
        transmute!(_mm_shuffle_epi8(transmute!(*half), transmute!(*order)))
    }

    /// Returns the words of a block, widened to 32 bits and added in pairs.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn words(block: __m256i) -> __m256i {
        let low = _mm256_blend_epi16::<0xaa>(block, _mm256_setzero_si256());
        _mm256_add_epi32(low, _mm256_srli_epi32::<16>(block))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum(blocks: &[Block], len: usize) -> u64 {
        let Some((last, full)) = blocks.split_last() else { return 0 };
        let rest = first(len - full.len() * BLOCK);
        let mut total = words(_mm256_and_si256(transmute!(*last), transmute!(*rest)));
        for block in full {
            total = _mm256_add_epi32(total, words(transmute!(*block)));
        }
        let half = _mm_add_epi32(_mm256_castsi256_si128(total), _mm256_extracti128_si256::<1>(total));
        let pairs = _mm_add_epi32(half, _mm_srli_si128::<8>(half));
        let both = _mm_cvtsi128_si64(pairs) as u64;
        (both & 0xffff_ffff) + (both >> 32)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn are_right(apart: Masked<'_>, head: Masked<'_>, tail: Masked<'_>, rest: u32) -> bool {
        // Widens the 16-bit words of a block to 32 bits: the sum of all blocks of a packet does not
        // overflow them.
        let words =
            |(block, mask): Masked<'_>| words(_mm256_and_si256(transmute!(*block), transmute!(*mask)));
        let pairs = _mm256_hadd_epi32(_mm256_add_epi32(words(head), words(tail)), words(apart));
        let both = _mm256_hadd_epi32(pairs, pairs);
        let both = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both));
        let both = _mm_add_epi32(both, _mm_cvtsi32_si128(rest as i32));
        // In a multiple of 0xffff below 2^32, the upper half makes up exactly for what the lower
        // half lacks. The upper two sums are the lower ones again, except for `rest`.
        let low = _mm_blend_epi16::<0xaa>(both, _mm_setzero_si128());
        let folded = _mm_add_epi32(low, _mm_srli_epi32::<16>(both));
        _mm_movemask_epi8(_mm_cmpeq_epi32(folded, _mm_set1_epi32(0xffff))) as u8 == 0xff
    }

    const _: () = assert!(BLOCK == size_of::<__m256i>());
}

#[cfg(test)]
mod tests;
