//! Addresses in the parameters of a service (RFC 9460).

use ringdns_dnssec::wire_len;
use std::net::IpAddr;

/// Keys of parameters with addresses (RFC 9460 section 14.3.2).
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;

/// Returns the addresses in the data of a record of type SVCB or HTTPS (RFC 9460 section 2.2).
/// `None`: it cannot be read.
pub fn hints(rdata: &[u8]) -> Option<Vec<IpAddr>> {
    let target = rdata.get(2..)?;
    let mut rest = target.get(wire_len(target)?..)?;
    let mut hints = Vec::new();
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let [key, length] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let (value, after) = tail.split_at_checked(length.into())?;
        match key {
            IPV4_HINT => hints.extend(value.as_chunks::<4>().0.iter().map(|v4| IpAddr::from(*v4))),
            IPV6_HINT => hints.extend(value.as_chunks::<16>().0.iter().map(|v6| IpAddr::from(*v6))),
            _ => {}
        }
        rest = after;
    }
    Some(hints)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns data with the target `t`, and parameters.
    fn data(parameters: &[(u16, &[u8])]) -> Vec<u8> {
        let parameter = |(key, value): &(u16, &[u8])| {
            [&key.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
        };
        let parameters: Vec<u8> = parameters.iter().flat_map(parameter).collect();
        [&[0, 1, 1, b't', 0][..], &parameters].concat()
    }

    #[test]
    fn addresses_are_found_among_other_parameters() {
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2];
        let found = hints(&data(&[(1, b"\x02h2"), (4, &v4), (6, &v6), (7, b"/x")])).unwrap();
        let expected: [IpAddr; 3] =
            ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|text| text.parse().unwrap());
        assert_eq!(found, expected);
        assert_eq!(hints(&[0, 0, 0]), Some(Vec::new()), "an alias has none");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let whole = data(&[(4, &[192, 0, 2, 1])]);
        let ends = [3, 5];
        for end in 0..whole.len() {
            let found = hints(&whole[..end]);
            assert_eq!(found.is_some(), end == ends[1], "{end}: {found:?}");
        }
        // Half an address is none.
        assert_eq!(hints(&data(&[(4, &[192, 0, 2])])), Some(Vec::new()));
    }
}
