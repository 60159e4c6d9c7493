use super::*;
use proptest::prelude::*;

#[test]
fn names_are_lowered_like_ascii_what_follows_is_kept_and_nothing_more() {
    for byte in 0..=255u8 {
        for name in 1..=NAME {
            let mut expected = [0; BLOCK];
            expected[..name + 4].fill(byte);
            expected[..name].fill(byte.to_ascii_lowercase());
            assert_eq!(Portable.lowered(&[byte; BLOCK], Part::whole(name)), expected, "{byte}, {name}");
        }
    }
}

/// Checks that the best implementation on this processor agrees with the portable one.
struct Agree {
    a: Block,
    b: Block,
    half: Half,
    order: Half,
    name: usize,
    len: usize,
    rest: u32,
}

impl Work for Agree {
    type Output = Result<(), TestCaseError>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let Agree { a, b, half, order, name, len, rest } = self;
        prop_assert_eq!(simd.until_zero(&a), Portable.until_zero(&a));
        let part = Part::whole(name);
        prop_assert_eq!(simd.lowered(&a, part), Portable.lowered(&a, part));
        for letters in [0, name, len, BLOCK, 2 * BLOCK] {
            let part = Part::of_rest(letters, len);
            prop_assert_eq!(simd.lowered(&a, part), Portable.lowered(&a, part));
        }
        prop_assert_eq!(simd.same(&a, &b, len), Portable.same(&a, &b, len));
        let both = [a, b].concat();
        for len in [0, len, len + BLOCK] {
            let sums = [simd.sum(&both, len), Portable.sum(&both, len)].map(checksum::fold_native);
            prop_assert_eq!(sums[0], sums[1]);
        }
        prop_assert_eq!(simd.shuffled(&half, &order), Portable.shuffled(&half, &order));
        // Two sums, each made right by its last word.
        let (first, all) = (between(0, 20), between(4, BLOCK));
        let mut apart = b;
        let mut head = a;
        for right in [false, true] {
            let agree = simd.are_right((&apart, &first), (&head, &all), &b, part, rest);
            prop_assert_eq!(agree, Portable.are_right((&apart, &first), (&head, &all), &b, part, rest));
            prop_assert!(agree || !right);
            let of = |block: &Block, range: std::ops::Range<usize>| checksum::sum(&block[range], 0);
            let missing = |sum: u64| (!checksum::fold_native(sum)).to_ne_bytes();
            let sum = missing(of(&apart, 0..18));
            apart[18..20].copy_from_slice(&sum);
            let question = checksum::placed(of(&b, 0..name + 4), 0);
            let sum = checksum::chain(of(&head, 4..30), [question, u64::from(rest)]);
            head[30..].copy_from_slice(&missing(sum));
        }
        Ok(())
    }
}

fn block(values: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Block> {
    prop::array::uniform32(values)
}

proptest! {
    #[test]
    fn comparing_agrees(tags in prop::array::uniform16(0u16..4), tag in 0u16..4) {
        let block = zerocopy::transmute!(tags);
        let expected = (0..TAGS).filter(|at| tags[*at] == tag).fold(0, |all, at| all | 1 << at);
        prop_assert_eq!(equal(&block, tag), expected);
        prop_assert_eq!(equal_portable(&block, tag), expected);
    }

    #[test]
    fn all_levels_agree(
        a in prop_oneof![block(0..=255), block(0..=1)],
        b in prop_oneof![block(0..=255), block(0..=1)],
        order in prop::array::uniform16(prop_oneof![0u8..16, Just(0x80)]),
        len in 1..=BLOCK,
        name in 1..=NAME,
        rest in 1u32..1 << 28,
    ) {
        let half = *a.first_chunk().unwrap();
        Level::best().run(Agree { a, b, half, order, name, len, rest })?;
    }
}
