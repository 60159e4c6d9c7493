//! Neighbours of this host, by rtnetlink.

use ringdns_xdp::netlink::{Netlink, attributes};
use std::{io, net::IpAddr};

/// Numbers of Linux `include/uapi/linux/neighbour.h` and `rtnetlink.h`.
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
/// Length in bytes of `struct ndmsg`.
const NEIGHBOUR_HEADER: usize = 12;
/// Place of the state in it.
const STATE: std::ops::Range<usize> = 8..10;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;

/// Neighbour of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Address.
    pub ip: IpAddr,
    /// Whether it was asked for and does not answer.
    pub is_silent: bool,
}

/// Returns the neighbours that the kernel knows.
pub fn neighbours() -> io::Result<Vec<Neighbour>> {
    Netlink::open()?.dump(RTM_GETNEIGH, RTM_NEWNEIGH, &[0; NEIGHBOUR_HEADER], neighbour)
}

fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let (header, rest) = body.split_at_checked(NEIGHBOUR_HEADER)?;
    let state = u16::from_ne_bytes(header.get(STATE)?.try_into().ok()?);
    let (_, address) = attributes(rest).find(|(kind, _)| *kind == NDA_DST)?;
    let ip = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(Neighbour { ip, is_silent: state & (NUD_FAILED | NUD_INCOMPLETE) != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_xdp::netlink::attribute;

    #[test]
    fn a_neighbour_is_read_with_its_state() {
        let mut body = vec![0; NEIGHBOUR_HEADER];
        body[STATE].copy_from_slice(&NUD_FAILED.to_ne_bytes());
        attribute(&mut body, NDA_DST, &[192, 0, 2, 1]);
        let expected = Neighbour { ip: "192.0.2.1".parse().unwrap(), is_silent: true };
        assert_eq!(neighbour(&body), Some(expected));
        body[STATE].copy_from_slice(&2u16.to_ne_bytes());
        assert!(!neighbour(&body).unwrap().is_silent);
        assert_eq!(neighbour(&body[..9]), None);
        assert!(neighbours().is_ok());
    }
}
