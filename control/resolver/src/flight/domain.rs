//! Domain of a name: the part of it that has one operator, as far as the name tells.

use arrayvec::ArrayVec;

/// Labels below a country's that are registries of their own: `co.uk`, `com.au`.
const REGISTRIES: [&[u8]; 9] = [b"ac", b"co", b"com", b"edu", b"go", b"gov", b"ne", b"net", b"org"];

/// Most zones that a name counts for.
pub const ZONES: usize = 3;

/// Labels of a name.
struct Labels<'a> {
    name: &'a [u8],
    /// Offsets of the labels. A name of 255 bytes has at most 127 of them.
    starts: [u8; 128],
    count: usize,
}

impl<'a> Labels<'a> {
    fn of(name: &'a [u8]) -> Self {
        let (mut starts, mut count, mut at) = ([0; 128], 0, 0);
        while let Some(&length) = name.get(at)
            && length > 0
            && count < starts.len()
            && let Ok(start) = u8::try_from(at)
        {
            (starts[count], count) = (start, count + 1);
            at += 1 + usize::from(length);
        }
        Labels { name, starts, count }
    }

    fn start(&self, last: usize) -> usize {
        usize::from(self.starts[self.count.saturating_sub(last)])
    }

    /// Returns a label, counted from the end.
    fn label(&self, last: usize) -> &'a [u8] {
        let from = self.start(last);
        self.name.get(from + 1..from + 1 + usize::from(self.name[from])).unwrap_or_default()
    }

    /// Returns the last labels of the name.
    fn last(&self, labels: usize) -> &'a [u8] {
        self.name.get(self.start(labels)..).unwrap_or_default()
    }

    /// Returns the number of labels of the domain.
    fn of_domain(&self) -> usize {
        match self.count {
            0 | 1 => self.count,
            _ => match (self.label(2), self.label(1)) {
                (b"in-addr", b"arpa") => 4,
                (b"ip6", b"arpa") => 10,
                (registry, country) if country.len() == 2 && REGISTRIES.contains(&registry) => 3,
                _ => 2,
            },
        }
    }
}

/// Returns the domain of a lowercased name in wire format: its last two labels, or three below a
/// registry of a country. Of the reverse trees, an IPv4 /16 and an IPv6 /32.
///
/// A list of all registries would be more exact, and would have to be kept up to date. Deeper names
/// than these do not help an attacker: random labels are in front.
pub fn of(name: &[u8]) -> &[u8] {
    let labels = Labels::of(name);
    labels.last(labels.of_domain())
}

/// Returns the zones that a question for a lowercased name counts for, the shortest first: parents of
/// its first label, from its domain on. A name of one label counts for the root; other names without
/// a label below their domain count for none.
pub fn zones(name: &[u8]) -> ArrayVec<&[u8], ZONES> {
    let labels = Labels::of(name);
    if labels.count == 1 {
        return ArrayVec::from_iter([&[0][..]]);
    }
    let domain = labels.of_domain();
    (domain..labels.count).take(ZONES).map(|count| labels.last(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::names::name;

    #[test]
    fn a_domain_has_one_operator() {
        for (asked, domain) in [
            (".", "."),
            ("com", "com"),
            ("example.com", "example.com"),
            ("a.b.c.example.com", "example.com"),
            ("www.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("x.co.uk.example", "uk.example"),
            ("www.abc.de", "abc.de"),
            ("4.3.2.1.in-addr.arpa", "2.1.in-addr.arpa"),
            ("f.e.d.c.b.a.8.b.d.0.1.0.0.2.ip6.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"),
            ("2.ip6.arpa", "2.ip6.arpa"),
        ] {
            let asked = name(asked).unwrap();
            assert_eq!(of(&asked), name(domain).unwrap(), "{asked:?}");
        }
        let longest = [&[1, b'a'].repeat(127)[..], &[0]].concat();
        assert_eq!(of(&longest), [1, b'a', 1, b'a', 0]);
        // Nothing that is no name makes it read beyond the end.
        for odd in [&[][..], &[63], &[3, b'a'], &[1, b'a'], &[1, b'a', 9, b'b']] {
            of(odd);
        }
    }

    #[test]
    fn zones_are_parents_of_the_first_label() {
        for (asked, expected) in [
            (".", &[][..]),
            ("com", &["."]),
            ("example.com", &[]),
            ("x.example.com", &["example.com"]),
            ("x.a.example.co.uk", &["example.co.uk", "a.example.co.uk"]),
            ("x.c.b.a.example.com", &["example.com", "a.example.com", "b.a.example.com"]),
        ] {
            let asked = name(asked).unwrap();
            let expected: Vec<_> = expected.iter().map(|zone| name(zone).unwrap()).collect();
            assert_eq!(zones(&asked).to_vec(), expected, "{asked:?}");
        }
        for odd in [&[][..], &[63], &[3, b'a'], &[1, b'a'], &[1, b'a', 9, b'b'], &[0xff; 300]] {
            zones(odd);
        }
    }
}
