//! Frames of all kinds that a query may come in, most of them right but for one thing.

use std::net::{Ipv4Addr, Ipv6Addr};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0x53, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0x53, 2];

/// Addresses of clients that have no socket, so that no kernel takes part.
const CLIENT_V4: &str = "10.53.0.7";
const CLIENT_V6: &str = "fd53::7";
const SERVER_V4: &str = "10.53.0.2";
const SERVER_V6: &str = "fd53::2";

const SOURCES_V4: [&str; 12] = [
    "198.51.100.7",
    "10.53.0.2",
    "10.53.0.4",
    "192.0.2.9",
    "10.53.0.255",
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "10.53.0.1",
];
const SOURCES_V6: [&str; 11] = [
    "2001:db8:99::7",
    "fd53::2",
    "fd53::4",
    "2001:db8:53::9",
    "::",
    "::1",
    "::ffff:10.53.0.7",
    "::10.53.0.7",
    "ff02::1",
    "64:ff9b::a35:7",
    "fd53::1",
];
const DESTINATIONS_V4: [&str; 11] = [
    "10.53.0.4",
    "192.0.2.1",
    "192.0.2.255",
    "10.53.0.99",
    "203.0.113.1",
    "10.53.0.255",
    "255.255.255.255",
    "224.0.0.1",
    "127.0.0.1",
    "0.0.0.0",
    "10.53.0.0",
];
const DESTINATIONS_V6: [&str; 10] = [
    "fd53::4",
    "2001:db8:53::1",
    "fd53::99",
    "2001:db8::1",
    "fd53::",
    "ff02::1",
    "::1",
    "::",
    "::ffff:10.53.0.2",
    "fe80::2",
];
const TAGS: [&[(u16, u16)]; 11] = [
    &[(0x8100, 0)],
    &[(0x8100, 0xe000)],
    &[(0x8100, 7)],
    &[(0x8100, 0xe007)],
    &[(0x8100, 4095)],
    &[(0x88a8, 7)],
    &[(0x88a8, 0)],
    &[(0x8100, 0), (0x8100, 0)],
    &[(0x8100, 0), (0x8100, 7)],
    &[(0x88a8, 7), (0x8100, 8)],
    &[(0x88a8, 1), (0x8100, 2), (0x8100, 3)],
];

/// Random numbers (SplitMix64) that are the same for one seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// Returns a number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    /// Whether an event happens that happens in this many of a hundred cases.
    fn percent(&mut self, chance: usize) -> bool {
        self.roll(100) < chance
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// Returns the frame of a plain query with this ID: over IPv4 or, if `way` is odd, IPv6; in a form
/// that XDP leaves to the kernel if it is above 1.
pub fn plain(id: u16, way: u16) -> Vec<u8> {
    let mut packet = Packet::plain(way & 1 == 1, id);
    if way > 1 {
        packet.extension = Some(if packet.is_v6 { 60 } else { 1 });
    }
    packet.frame(&mut Dice::new(0))
}

/// Returns a frame with a query with this ID.
pub fn crafted(dice: &mut Dice, id: u16) -> Vec<u8> {
    let mut packet = Packet::plain(dice.percent(50), id);
    packet.vary_link(dice);
    packet.vary_addresses(dice);
    packet.vary_headers(dice);
    let mut frame = packet.frame(dice);
    if dice.percent(25) {
        frame.resize(frame.len() + dice.roll(40), 0);
    } else if dice.percent(3) {
        frame.truncate(14 + dice.roll(frame.len() - 14));
    }
    frame
}

/// State of a checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    Right,
    Wrong,
    Zero,
    Partial,
}

/// Parts of a frame.
struct Packet {
    is_v6: bool,
    to_mac: [u8; 6],
    from_mac: [u8; 6],
    tags: &'static [(u16, u16)],
    source: &'static str,
    destination: &'static str,
    ports: (u16, u16),
    /// IPv4: number of words of options. IPv6: type of an extension header.
    extension: Option<u8>,
    /// More-fragments flag, and offset in units of eight bytes.
    fragment: Option<(bool, u16)>,
    hops: u8,
    class: u8,
    /// Differences of the lengths of IP and UDP from the right ones.
    lengths: (i32, i32),
    ip_sum: Sum,
    udp_sum: Sum,
    /// Whether a byte of the headers gets a random value before checksums are computed.
    is_fuzzed: bool,
    message: Vec<u8>,
}

impl Packet {
    fn plain(is_v6: bool, id: u16) -> Self {
        let mut message = id.to_be_bytes().to_vec();
        message.extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x00\x00\x01\x00\x01");
        Packet {
            is_v6,
            to_mac: SERVER_MAC,
            from_mac: CLIENT_MAC,
            tags: &[],
            source: if is_v6 { CLIENT_V6 } else { CLIENT_V4 },
            destination: if is_v6 { SERVER_V6 } else { SERVER_V4 },
            ports: (4000, 53),
            extension: None,
            fragment: None,
            hops: 64,
            class: 0,
            lengths: (0, 0),
            ip_sum: Sum::Right,
            udp_sum: Sum::Right,
            is_fuzzed: false,
            message,
        }
    }

    fn vary_link(&mut self, dice: &mut Dice) {
        if dice.percent(12) {
            let macs =
                [[2, 0, 0, 0, 0x53, 9], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1], [0; 6]];
            self.to_mac = dice.pick(&macs);
        }
        if dice.percent(6) {
            let macs = [[2, 0, 0, 0, 0x53, 8], [0xff; 6], [3, 0, 0, 0, 0x53, 1], SERVER_MAC];
            self.from_mac = dice.pick(&macs);
        }
        if dice.percent(15) {
            self.tags = dice.pick(&TAGS);
        }
    }

    fn vary_addresses(&mut self, dice: &mut Dice) {
        if dice.percent(20) {
            self.source = if self.is_v6 { dice.pick(&SOURCES_V6) } else { dice.pick(&SOURCES_V4) };
        }
        if dice.percent(25) {
            self.destination =
                if self.is_v6 { dice.pick(&DESTINATIONS_V6) } else { dice.pick(&DESTINATIONS_V4) };
        }
        if dice.percent(8) {
            self.ports = dice.pick(&[(4000, 54), (0, 53), (53, 53), (65535, 53), (53, 4000), (4000, 0)]);
        }
    }

    fn vary_headers(&mut self, dice: &mut Dice) {
        if dice.percent(6) {
            self.extension = Some(if self.is_v6 { dice.pick(&[0, 60]) } else { dice.pick(&[1, 3, 10]) });
        }
        if dice.percent(6) {
            self.fragment = Some(dice.pick(&[(false, 0), (true, 0), (false, 2), (true, 2)]));
        }
        if dice.percent(20) {
            self.hops = dice.pick(&[0, 1, 2, 255]);
            self.class = dice.pick(&[0, 0xb8, 3]);
        }
        if dice.percent(8) {
            self.lengths =
                dice.pick(&[(1, 0), (-1, 0), (0, 1), (0, -1), (4, 4), (-4, -4), (0, -40), (0, -1000)]);
        }
        if dice.percent(12) {
            self.udp_sum = dice.pick(&[Sum::Wrong, Sum::Zero, Sum::Partial]);
        }
        if dice.percent(4) {
            self.ip_sum = dice.pick(&[Sum::Wrong, Sum::Zero]);
        }
        self.is_fuzzed = dice.percent(10);
    }

    fn frame(&self, dice: &mut Dice) -> Vec<u8> {
        let udp_len = 8 + self.message.len() as i32;
        let mut udp = Vec::new();
        let stated = (udp_len + self.lengths.1).max(0) as u16;
        for word in [self.ports.0, self.ports.1, stated, 0] {
            udp.extend(word.to_be_bytes());
        }
        udp.extend(&self.message);
        let (mut packet, at) = if self.is_v6 { self.ipv6(udp_len) } else { self.ipv4(udp_len) };
        packet.extend(udp);
        if self.is_fuzzed {
            let place = dice.roll(at + 8);
            packet[place] = dice.roll(256) as u8;
        }
        if !self.is_v6 {
            seal_header(&mut packet, self.ip_sum);
        }
        seal_udp(&mut packet, at, self.udp_sum);
        let mut frame = [self.to_mac, self.from_mac].concat();
        for (identifier, control) in self.tags {
            frame.extend(identifier.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(if self.is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        frame.extend(packet);
        frame
    }

    /// Returns the header of an IPv4 packet with `len` bytes in it, and its length.
    fn ipv4(&self, len: i32) -> (Vec<u8>, usize) {
        let words = 5 + self.extension.unwrap_or(0);
        let header_len = 4 * usize::from(words);
        let total = (header_len as i32 + len + self.lengths.0).max(0) as u16;
        let bits = self.fragment.map_or(0x4000, |(more, offset)| u16::from(more) << 13 | offset);
        let mut header = vec![0x40 | words, self.class];
        header.extend(total.to_be_bytes());
        header.extend([self.message[0], self.message[1]]);
        header.extend(bits.to_be_bytes());
        header.extend([self.hops, 17, 0, 0]);
        for address in [self.source, self.destination] {
            header.extend(address.parse::<Ipv4Addr>().expect("IPv4").octets());
        }
        // Options that do nothing.
        header.resize(header_len, 1);
        (header, header_len)
    }

    /// Returns the headers of an IPv6 packet with `len` bytes in it, and their length.
    fn ipv6(&self, len: i32) -> (Vec<u8>, usize) {
        let mut chain = Vec::new();
        let mut first = 17;
        if let Some((more, offset)) = self.fragment {
            chain = vec![17, 0];
            chain.extend((offset << 3 | u16::from(more)).to_be_bytes());
            chain.extend([0, 0, self.message[0], self.message[1]]);
            first = 44;
        }
        if let Some(kind) = self.extension {
            // Padding of four bytes.
            chain.splice(0..0, [first, 0, 1, 4, 0, 0, 0, 0]);
            first = kind;
        }
        let payload = (chain.len() as i32 + len + self.lengths.0).max(0) as u16;
        let mut header = vec![0x60 | self.class >> 4, self.class << 4, 0, 0];
        header.extend(payload.to_be_bytes());
        header.extend([first, self.hops]);
        for address in [self.source, self.destination] {
            header.extend(address.parse::<Ipv6Addr>().expect("IPv6").octets());
        }
        header.extend(chain);
        let header_len = header.len();
        (header, header_len)
    }
}

fn seal_header(packet: &mut [u8], state: Sum) {
    let len = (4 * usize::from(packet[0] & 15)).min(packet.len());
    if len < 12 {
        return;
    }
    packet[10..12].fill(0);
    let right = !folded(sum(&packet[..len]));
    let field = if state == Sum::Right {
        right
    } else if state == Sum::Zero {
        0
    } else {
        right ^ 0x0101
    };
    packet[10..12].copy_from_slice(&field.to_be_bytes());
}

/// Writes the checksum of the datagram at `at`.
fn seal_udp(packet: &mut [u8], at: usize, state: Sum) {
    let Some(pseudo) = pseudo(packet, &packet[at..]) else { return };
    let stated = usize::from(u16::from_be_bytes([packet[at + 4], packet[at + 5]]));
    let end = (at + stated).clamp(at + 8, packet.len());
    let right = match !folded(pseudo + sum(&packet[at..end])) {
        0 => 0xffff,
        right => right,
    };
    let field = match state {
        Sum::Right => right,
        Sum::Wrong => right ^ 0x1010,
        Sum::Zero => 0,
        Sum::Partial => folded(pseudo),
    };
    packet[at + 6..at + 8].copy_from_slice(&field.to_be_bytes());
}

/// Returns the sum of a datagram's pseudo-header.
pub fn pseudo(packet: &[u8], udp: &[u8]) -> Option<u32> {
    let addresses = if packet.first()? >> 4 == 6 { packet.get(8..40)? } else { packet.get(12..20)? };
    Some(sum(addresses) + sum(udp.get(4..6)?) + 17)
}

fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

pub fn folded(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}
