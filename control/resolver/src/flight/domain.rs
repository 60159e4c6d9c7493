//! Domain of a name: the part of it that has one operator, as far as the name tells.

/// Labels below a country's that are registries of their own: `co.uk`, `com.au`.
const REGISTRIES: [&[u8]; 9] = [b"ac", b"co", b"com", b"edu", b"go", b"gov", b"ne", b"net", b"org"];

/// Returns the domain of a lowercased name in wire format: its last two labels, or three below a
/// registry of a country. Of the reverse trees, an IPv4 /16 and an IPv6 /32.
///
/// A list of all registries would be more exact, and would have to be kept up to date. Deeper names
/// than these do not help an attacker: random labels are in front.
pub fn of(name: &[u8]) -> &[u8] {
    // A name of 255 bytes has at most 127 labels.
    let (mut starts, mut count, mut at) = ([0; 128], 0, 0);
    while let Some(&length) = name.get(at)
        && length > 0
        && count < starts.len()
    {
        (starts[count], count) = (at, count + 1);
        at += 1 + usize::from(length);
    }
    let start = |last: usize| starts[count.saturating_sub(last)];
    let label = |last: usize| {
        let from = start(last);
        name.get(from + 1..from + 1 + usize::from(name[from])).unwrap_or_default()
    };
    let labels = match count {
        0 | 1 => count,
        _ => match (label(2), label(1)) {
            (b"in-addr", b"arpa") => 4,
            (b"ip6", b"arpa") => 10,
            (registry, country) if country.len() == 2 && REGISTRIES.contains(&registry) => 3,
            _ => 2,
        },
    };
    name.get(start(labels)..).unwrap_or_default()
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
}
