//! Sort keys of names: byte strings that sort as the names do canonically (RFC 4034 section 6.1), so
//! that a search among many compares bytes and splits no names.

use crate::name::Name;

/// Byte after each label. It sorts before all bytes of labels.
const END: u8 = 0;
/// First of two bytes for those that [`END`] and this one would be mistaken for.
const ESCAPE: u8 = 1;

/// Returns the sort key of a name: its labels from the right, each with an end.
pub fn sort_key(name: &Name) -> Box<[u8]> {
    let mut labels: Vec<_> = name.labels().collect();
    labels.reverse();
    let mut key = Vec::with_capacity(name.as_wire().len());
    for label in labels {
        for byte in label {
            match *byte {
                END | ESCAPE => key.extend([ESCAPE, byte + 1]),
                byte => key.push(byte),
            }
        }
        key.push(END);
    }
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Names of few short labels of few bytes, so that many pairs share labels and beginnings.
    fn some_name() -> impl Strategy<Value = Name> {
        let byte = prop_oneof![Just(0), Just(1), Just(2), Just(b'a'), Just(b'b'), Just(255), any::<u8>()];
        vec(vec(byte, 1..4), 0..4).prop_map(|labels| {
            labels.iter().fold(Name::root(), |name, label| name.prepend(label).expect("a short name"))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..Default::default() })]
        #[test]
        fn keys_sort_as_names_do(one in some_name(), other in some_name()) {
            prop_assert_eq!(sort_key(&one).cmp(&sort_key(&other)), one.cmp(&other), "{:?} {:?}", one, other);
        }
    }
}
