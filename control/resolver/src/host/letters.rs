//! Names in two bytes for each three symbols.
//!
//! Nearly all names have lowercase letters, digits, hyphens and underscores only. With the boundary of
//! two labels and the padding of the last two bytes they are 40 symbols, and three of them have room in
//! 16 bits, as in DEC's RADIX-50. A name has one packed form, so packed names are compared and hashed
//! as they are.

use super::packed::Question;
use arrayvec::ArrayVec;
use ringdns_dataplane::dns::NAME_MAX;

/// Number of symbols.
const RADIX: u16 = 40;
const _: () = assert!((RADIX as u32).pow(3) <= 1 << 16, "three symbols have room in two bytes");

/// Padding before the last symbols, if they are not three.
const PADDING: u8 = 0;
/// Boundary of two labels.
const BOUNDARY: u8 = RADIX as u8 - 1;
/// Bytes of the symbols between those two, in their order.
const BYTES: &[u8; RADIX as usize - 2] = b"abcdefghijklmnopqrstuvwxyz0123456789-_";

/// Symbols of bytes; [`PADDING`] for a byte that has none.
const SYMBOLS: [u8; 256] = symbols();

#[expect(clippy::indexing_slicing, reason = "the compiler evaluates it")]
const fn symbols() -> [u8; 256] {
    let mut symbols = [PADDING; 256];
    let mut at = 0;
    while at < BYTES.len() {
        symbols[BYTES[at] as usize] = at as u8 + 1;
        at += 1;
    }
    symbols
}

/// Most bytes of a packed name: the symbols do not include the length of the first label.
const PACKED_MAX: usize = (NAME_MAX - 2).div_ceil(3) * 2;

/// Packed name.
pub(super) type Letters = ArrayVec<u8, PACKED_MAX>;

/// Packs a lowercased wire-format name without the root's zero. `None`: it has other bytes, or is no
/// name.
pub(super) fn pack(name: &[u8]) -> Option<Letters> {
    let mut packed = Letters::new();
    let Some((first, rest)) = name.split_first() else { return Some(packed) };
    // Bytes that are left of a label. One of no bytes would be lost.
    let mut left = Some(*first).filter(|len| *len > 0)?;
    for three in rest.chunks(3) {
        let mut group = 0;
        for byte in three {
            let symbol = if left > 0 {
                left -= 1;
                SYMBOLS.get(usize::from(*byte)).copied().filter(|symbol| *symbol != PADDING)?
            } else {
                left = Some(*byte).filter(|len| *len > 0)?;
                BOUNDARY
            };
            group = group * RADIX + u16::from(symbol);
        }
        packed.try_extend_from_slice(&group.to_be_bytes()).ok()?;
    }
    (left == 0).then_some(packed)
}

/// Appends a name to `to`, in wire format without the root's zero. A damaged one may be no name.
pub(super) fn unpack(packed: &[u8], to: &mut Question) {
    if packed.is_empty() {
        return;
    }
    // Lengths of labels are written when the labels have ended.
    let mut label = to.len();
    let mut push = |to: &mut Question, symbol: u16| {
        let byte = match symbol as u8 {
            PADDING => return,
            BOUNDARY => 0,
            symbol => BYTES.get(usize::from(symbol) - 1).copied().unwrap_or(0),
        };
        // A damaged name may be longer than a question.
        if to.try_push(byte).is_ok() && byte == 0 {
            let at = to.len() - 1;
            set_len(to, label, at);
            label = at;
        }
    };
    let _ = to.try_push(0);
    for group in packed.as_chunks().0 {
        let group = u16::from_be_bytes(*group);
        [group / (RADIX * RADIX), group / RADIX % RADIX, group % RADIX]
            .iter()
            .for_each(|symbol| push(to, *symbol));
    }
    let end = to.len();
    set_len(to, label, end);
}

/// Writes the length of the label that is at `label` and ends before `end`.
fn set_len(name: &mut Question, label: usize, end: usize) {
    if let Some(len) = name.get_mut(label) {
        *len = end.saturating_sub(label + 1) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a name without the root's zero.
    fn name(labels: &[&str]) -> Vec<u8> {
        labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect()
    }

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut name = Question::new();
        unpack(packed, &mut name);
        name.to_vec()
    }

    #[test]
    fn names_chosen_by_hand_come_back() {
        let long = "x".repeat(63);
        let longest = [&long[..], &long, &long, &long[..61]];
        let cases: [(&[&str], usize); 9] = [
            (&[], 0),
            (&["a"], 2),
            (&["com"], 2),
            (&["a", "b"], 2),
            (&["n000000", "rb", "example"], 12),
            (&["_dns", "resolver-1", "arpa"], 14),
            (&["xn--bcher-kva", "example"], 14),
            (&["1", "0", "0", "127", "in-addr", "arpa"], 16),
            (&longest, 170),
        ];
        for (labels, bytes) in cases {
            let name = name(labels);
            let packed = pack(&name).unwrap();
            assert_eq!((packed.len(), unpacked(&packed)), (bytes, name), "{labels:?}");
        }
        assert_eq!(name(&longest).len(), NAME_MAX - 1);
    }

    #[test]
    fn other_names_are_not_packed() {
        for labels in [&["*", "example"][..], &["a.b"], &["A"], &["a b"], &["a\0"], &["0/25", "arpa"]] {
            assert_eq!(pack(&name(labels)), None, "{labels:?}");
        }
        for bytes in [&[0][..], &[1], &[1, b'a', 0], &[2, b'a'], &[1, b'a', 1], &[1, b'a', 0, 1, b'b']] {
            assert_eq!(pack(bytes), None, "{bytes:?} is no name");
        }
        assert_eq!(pack(&name(&["x".repeat(255).as_str(), "yy"])), None, "longer than any name");
    }

    /// Returns bytes of a name: its labels are letters, some have one other byte.
    fn a_name() -> impl Strategy<Value = Vec<u8>> {
        let label = prop_oneof![
            6 => "[a-z0-9_-]{1,12}".prop_map(String::into_bytes),
            1 => "[ab]{1,2}".prop_map(String::into_bytes),
            1 => "[a-z]{60,63}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 1..5),
        ];
        prop::collection::vec(label, 0..5).prop_map(|labels| {
            labels.iter().flat_map(|label| [&[label.len() as u8][..], label].concat()).take(254).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_packed_name_is_the_one_that_was_packed(name in a_name()) {
            let is_other = |byte: &u8| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            let (mut labels, mut rest) = (Vec::new(), &name[..]);
            while let Some((len, after)) = rest.split_first() {
                let Some((label, after)) = after.split_at_checked(usize::from(*len)) else { break };
                labels.push(label);
                rest = after;
            }
            let plain = !rest.is_empty() || labels.iter().any(|label| label.iter().any(is_other));
            match pack(&name) {
                Some(packed) => {
                    prop_assert!(!plain);
                    prop_assert_eq!(packed.len(), name.len().saturating_sub(1).div_ceil(3) * 2);
                    prop_assert_eq!(unpacked(&packed), name);
                }
                None => prop_assert!(plain),
            }
        }

        /// No name is packed in two ways, and no two names in one.
        #[test]
        fn packed_names_are_equal_if_the_names_are(one in a_name(), other in "[ab]{1,2}") {
            let other = [&[other.len() as u8], other.as_bytes()].concat();
            if let (Some(packed), Some(beside)) = (pack(&one), pack(&other)) {
                prop_assert_eq!(packed == beside, one == other);
            }
        }

        #[test]
        fn damaged_names_are_bounded(packed in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(unpacked(&packed).len() <= NAME_MAX + 4);
        }
    }
}
