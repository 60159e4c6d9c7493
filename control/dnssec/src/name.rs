//! Domain names in canonical form.

use std::{borrow::Borrow, cmp::Ordering, fmt, ops::Range};

/// Most bytes of a name on the wire, including the root's zero (RFC 1035 section 2.3.4).
pub const NAME_MAX: usize = 255;
/// Most labels of a name, not counting the root.
const LABELS_MAX: usize = 127;

/// A name on the wire, uncompressed and lowercased (RFC 4034 section 6.2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Returns the root.
    pub fn root() -> Self {
        Name(Box::new([0]))
    }

    /// Parses a name, which must take all of the bytes; `None` if it is malformed.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        match wire_len(wire) {
            Some(len) if len == wire.len() => Some(Name(wire.to_ascii_lowercase().into())),
            _ => None,
        }
    }

    /// Returns the name on the wire.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns the labels from the left, without the root's.
    pub fn labels(&self) -> NameLabels<'_> {
        NameLabels(&self.0)
    }

    /// Returns the number of labels, not counting the root.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Whether the leftmost label is an asterisk.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// Returns the name of the rightmost `labels` labels; the whole name if it has fewer.
    pub fn suffix(&self, labels: usize) -> Self {
        let mut rest = self.labels();
        for _ in labels..self.label_count() {
            rest.next();
        }
        Name(rest.0.into())
    }

    /// Returns the name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let mut rest = self.labels();
        rest.next()?;
        Some(Name(rest.0.into()))
    }

    /// Returns the name with a label in front; `None` if it would be too long.
    pub fn prepend(&self, label: &[u8]) -> Option<Self> {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
        let wire = [&[len][..], label, &self.0].concat().to_ascii_lowercase();
        (wire.len() <= NAME_MAX).then(|| Name(wire.into()))
    }

    /// Returns the wildcard directly below; `None` if it would be too long, and so cannot exist.
    pub fn wildcard(&self) -> Option<Self> {
        self.prepend(b"*")
    }

    /// Whether the name is `other` or below it.
    pub fn is_at_or_below(&self, other: &Name) -> bool {
        let mut rest = self.labels();
        while rest.0.len() > other.0.len() {
            rest.next();
        }
        *rest.0 == *other.0
    }

    /// Whether the name is below `other`.
    pub fn is_below(&self, other: &Name) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// Returns the number of rightmost labels that both names share.
    pub fn common_labels(&self, other: &Name) -> usize {
        let [ours, theirs] = [self, other].map(Name::reversed);
        ours.iter().zip(&theirs).take_while(|(our, their)| our == their).count()
    }

    /// Returns the labels from the right.
    fn reversed(&self) -> Vec<&[u8]> {
        let mut labels: Vec<_> = self.labels().collect();
        labels.reverse();
        labels
    }
}

/// Orders names canonically (RFC 4034 section 6.1).
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.reversed().cmp(&other.reversed())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        self.labels().try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

/// Iterator over the labels of a name.
pub struct NameLabels<'a>(&'a [u8]);

impl<'a> NameLabels<'a> {
    /// Returns the labels that are left, as a name on the wire.
    pub fn as_wire(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for NameLabels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*len)).filter(|_| *len > 0)?;
        self.0 = rest;
        Some(label)
    }
}

/// Returns the length of the uncompressed name at the beginning of `wire`; `None` if there is none.
pub fn wire_len(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    for _ in 0..=LABELS_MAX {
        let len = usize::from(*wire.get(at)?);
        at += 1 + len;
        match len {
            0 => return (at <= NAME_MAX).then_some(at),
            64.. => return None,
            _ => {}
        }
    }
    None
}

/// Most compression pointers in a name: no more than it has labels at most.
const POINTERS_MAX: usize = 127;

/// Length in bytes of a message's header. No name begins there, and the reply to a client has other
/// bytes there.
pub(crate) const HEADER: usize = 12;

/// Appends the name at `at` of a message, decompressed, and returns the offset after it; `None` if
/// it is malformed. A pointer must lead to a part that ends before the one that contains it begins,
/// and not into the header.
pub fn expand(message: &[u8], at: usize, to: &mut Vec<u8>) -> Option<usize> {
    expand_where(message, at, to, |_| true)
}

/// Expands a name as [`expand`] does, if `permits` holds for each part that a pointer leads to.
pub fn expand_where(
    message: &[u8],
    mut at: usize,
    to: &mut Vec<u8>,
    permits: impl Fn(Range<usize>) -> bool,
) -> Option<usize> {
    let begin = to.len();
    let (mut end, mut part) = (None, at);
    // Bytes that the part may have.
    let mut readable = message;
    let mut pointers = 0..POINTERS_MAX;
    loop {
        let len = *readable.get(at)?;
        match len {
            0..64 => {
                let next = at + 1 + usize::from(len);
                to.extend_from_slice(readable.get(at..next)?);
                if to.len() - begin > NAME_MAX {
                    return None;
                }
                at = next;
                if len == 0 {
                    let permitted = end.is_none() || permits(part..at);
                    return permitted.then_some(end.unwrap_or(at));
                }
            }
            192.. => {
                pointers.next()?;
                if end.is_some() && !permits(part..at + 2) {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = usize::from(u16::from_be_bytes([len & 0x3f, *readable.get(at + 1)?]));
                if !(HEADER..part).contains(&at) {
                    return None;
                }
                readable = &message[..part];
                part = at;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;

    #[test]
    fn names_sort_in_canonical_order() {
        // RFC 4034 section 6.1.
        let order = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let names = order.map(name);
        assert!(names.is_sorted() && names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }

    #[test]
    fn names_know_what_is_above_and_below() {
        let (www, zone) = (name("www.a.example"), name("example"));
        assert!(www.is_below(&zone) && www.is_at_or_below(&www) && !www.is_below(&www));
        assert!(!name("notexample").is_at_or_below(&zone) && zone.is_below(&Name::root()));
        // The name's last bytes are those of the zone, but they do not start at a label.
        assert!(!name("a\\007example").is_at_or_below(&zone));
        assert_eq!((www.label_count(), www.suffix(2), www.suffix(9)), (3, name("a.example"), www.clone()));
        assert_eq!((www.parent(), Name::root().parent()), (Some(name("a.example")), None));
        assert_eq!(www.common_labels(&name("b.a.example")), 2);
        assert_eq!(zone.wildcard(), Some(name("*.example")));
        let longest = [vec![63; 1], vec![b'a'; 63]].concat().repeat(3);
        let longest = Name::from_wire(&[&longest[..], b"\x3d", &[b'a'; 61], b"\x00"].concat()).unwrap();
        assert_eq!(longest.wildcard(), None);
    }

    #[test]
    fn compressed_names_are_expanded_and_circles_are_none() {
        let message =
            [&[0; HEADER], &b"\x07example\x00\x03www\xc0\x0c\xc0\x15\xc0\x1d\x40\xc0\x0b"[..]].concat();
        let expanded = |at| {
            let mut to = Vec::new();
            expand(&message, at, &mut to).map(|end| (to, end))
        };
        let www = b"\x03www\x07example\x00".to_vec();
        assert_eq!(expanded(21), Some((www.clone(), 27)));
        assert_eq!(expanded(27), Some((www, 29)));
        assert_eq!((expanded(29), expanded(31), expanded(32)), (None, None, None));
        assert_eq!(expanded(32), None, "the root, in the header");
        // A label that holds the pointer to it.
        let message = [&[0; HEADER], &b"\x05ab\xc0\x0cx\x00"[..]].concat();
        assert_eq!(expand(&message, 15, &mut Vec::new()), None);
        assert_eq!(wire_len(b"\x01a\x00b"), Some(3));
        assert_eq!((wire_len(b"\x01a"), wire_len(b"\xc0\x00"), wire_len(&[1; 256])), (None, None, None));
    }
}
