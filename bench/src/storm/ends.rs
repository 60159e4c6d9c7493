//! Frames between the server and the addresses of clients and of the flood.

use ringdns_dataplane::{
    checksum::Checksums,
    packet::{self, Envelope},
};
use std::net::{Ipv4Addr, SocketAddr};

/// Source port of clients, and of the flood.
pub const CLIENT_PORT: u16 = 10_000;
/// Source port of the flood.
pub const FLOOD_PORT: u16 = 10_001;
/// Offset of the message in a frame: Ethernet, IPv4 and UDP headers.
pub const MESSAGE: usize = 42;

/// Sender of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client of this number.
    Client(u32),
    /// A forged address.
    Flood,
}

/// Both ends of the traffic.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The server.
    pub target: SocketAddr,
    /// MAC addresses of the server and of this host.
    pub macs: [[u8; 6]; 2],
    /// First address and number of the clients.
    pub clients: (Ipv4Addr, u32),
    /// First address and number of the forged addresses.
    pub sources: (Ipv4Addr, u32),
}

impl Ends {
    /// Writes a query's frame around the message at [`MESSAGE`], and returns its length. `number`: of
    /// the address within those of the side.
    #[inline]
    pub fn seal(&self, frame: &mut [u8], side: Side, number: u32, len: usize) -> Option<usize> {
        let ((first, _), port) = match side {
            Side::Client(_) => (self.clients, CLIENT_PORT),
            Side::Flood => (self.sources, FLOOD_PORT),
        };
        let source = SocketAddr::from((Ipv4Addr::from_bits(first.to_bits().wrapping_add(number)), port));
        let at = packet::address(frame, source, self.target, len, Checksums::Verify)?;
        frame[..6].copy_from_slice(&self.macs[0]);
        frame[6..12].copy_from_slice(&self.macs[1]);
        Some(at + len)
    }

    /// Returns the message of a frame from the server, and its receiver.
    #[inline]
    pub fn open<'f>(&self, frame: &'f [u8], checksums: Checksums) -> Option<(Side, &'f [u8])> {
        let (envelope, len) = Envelope::open(frame, checksums).ok()?;
        if envelope.client(frame)? != self.target {
            return None;
        }
        let at = envelope.message();
        let message = frame.get(at..at + len)?;
        let port = u16::from_be_bytes(*frame.get(at - 6..)?.first_chunk()?);
        if port == FLOOD_PORT {
            return Some((Side::Flood, message));
        }
        let to = Ipv4Addr::from(*frame[..at - 8].last_chunk::<4>()?);
        let number = to.to_bits().checked_sub(self.clients.0.to_bits())?;
        (port == CLIENT_PORT && number < self.clients.1).then_some((Side::Client(number), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_side() {
        let ends = Ends {
            target: "10.53.0.2:53".parse().unwrap(),
            macs: [[2; 6], [4; 6]],
            clients: (Ipv4Addr::new(10, 54, 0, 0), 200),
            sources: (Ipv4Addr::new(11, 0, 0, 0), 1 << 24),
        };
        let message = *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\0\0\x01\0\x01";
        for (side, number) in [(Side::Client(7), 7), (Side::Client(199), 199), (Side::Flood, 9_999_999)] {
            let mut frame = [0; 256];
            frame[MESSAGE..][..message.len()].copy_from_slice(&message);
            let len = ends.seal(&mut frame, side, number, message.len()).unwrap();
            assert_eq!(ends.open(&frame[..len], Checksums::Verify), None, "a query is from no server");
            // The server swaps source and destination.
            let (envelope, message_len) = Envelope::open(&frame[..len], Checksums::Verify).unwrap();
            let len = envelope.seal(&mut frame, message_len, None);
            assert_eq!(ends.open(&frame[..len], Checksums::Verify), Some((side, &message[..])));
        }
    }
}
