//! Writer of pcapng blocks (draft-ietf-opsawg-pcapng), little-endian, with times in nanoseconds.
//!
//! It is written by hand: the crate `pcap-file` has no blocks into a buffer that is sent in parts, and
//! copies each packet once more. The tests read what is written here with that crate.

/// Type of a block.
mod block {
    pub const SECTION: u32 = 0x0a0d_0d0a;
    pub const INTERFACE: u32 = 1;
    pub const STATISTICS: u32 = 5;
    pub const PACKET: u32 = 6;
}

/// Code of an option.
mod option {
    pub const END: u16 = 0;
    pub const COMMENT: u16 = 1;
    pub const SECTION_APPLICATION: u16 = 4;
    pub const INTERFACE_NAME: u16 = 2;
    pub const INTERFACE_DESCRIPTION: u16 = 3;
    pub const INTERFACE_RESOLUTION: u16 = 9;
    pub const PACKET_FLAGS: u16 = 2;
    pub const STATISTICS_START: u16 = 2;
    pub const STATISTICS_END: u16 = 3;
    pub const STATISTICS_RECEIVED: u16 = 4;
    pub const STATISTICS_DROPPED: u16 = 5;
    pub const STATISTICS_ACCEPTED: u16 = 6;
    pub const STATISTICS_UNREAD: u16 = 7;
    pub const STATISTICS_DELIVERED: u16 = 8;
}

/// Number by which readers know the byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Link type Ethernet: LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Decimal digits of a time after the point.
const NANOSECONDS: u8 = 9;
/// Most bytes of a text: an option's length has 16 bits.
const TEXT_MAX: usize = 4096;

/// Direction of a packet, as bits 0 and 1 of its flags have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Packet to this host.
    Inbound = 1,
    /// Packet from this host.
    Outbound = 2,
}

/// Packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the interface in the file.
    pub interface: u32,
    /// Unix time in nanoseconds.
    pub nanos: u64,
    /// Direction.
    pub flow: Flow,
    /// Comment.
    pub comment: &'a str,
    /// Bytes from the Ethernet header on.
    pub bytes: &'a [u8],
}

/// Counters of an interface: `received = dropped + filtered + accepted`,
/// `accepted = unread + delivered`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Begin and end of the capture in Unix nanoseconds.
    pub times: [u64; 2],
    /// Packets that were to be captured.
    pub received: u64,
    /// Packets lost because no memory was free for them.
    pub dropped: u64,
    /// Packets that passed the filter.
    pub accepted: u64,
    /// Packets among them that came beyond the end, or that the reader did not take.
    pub unread: u64,
    /// Packets written.
    pub delivered: u64,
}

/// Appends the header of the file.
pub fn section(to: &mut Vec<u8>, application: &str, comment: &str) {
    append(to, block::SECTION, |to| {
        to.extend_from_slice(&BYTE_ORDER.to_le_bytes());
        // Version 1.0; the length of the section is not known.
        to.extend_from_slice(&1_u16.to_le_bytes());
        to.extend_from_slice(&0_u16.to_le_bytes());
        to.extend_from_slice(&u64::MAX.to_le_bytes());
        text(to, option::COMMENT, comment);
        text(to, option::SECTION_APPLICATION, application);
        end_options(to);
    });
}

/// Appends an interface. The first one has number 0.
pub fn interface(to: &mut Vec<u8>, name: &str, description: &str) {
    append(to, block::INTERFACE, |to| {
        to.extend_from_slice(&u32::from(ETHERNET).to_le_bytes());
        // Packets are whole.
        to.extend_from_slice(&0_u32.to_le_bytes());
        text(to, option::INTERFACE_NAME, name);
        text(to, option::INTERFACE_DESCRIPTION, description);
        option_of(to, option::INTERFACE_RESOLUTION, &[NANOSECONDS]);
        end_options(to);
    });
}

/// Appends a packet.
pub fn packet(to: &mut Vec<u8>, packet: &Packet<'_>) {
    append(to, block::PACKET, |to| {
        to.extend_from_slice(&packet.interface.to_le_bytes());
        to.extend_from_slice(&time(packet.nanos));
        let len = (packet.bytes.len() as u32).to_le_bytes();
        to.extend_from_slice(&len);
        to.extend_from_slice(&len);
        padded(to, packet.bytes);
        text(to, option::COMMENT, packet.comment);
        option_of(to, option::PACKET_FLAGS, &(packet.flow as u32).to_le_bytes());
        end_options(to);
    });
}

/// Appends the counters of an interface.
pub fn statistics(to: &mut Vec<u8>, interface: u32, counts: &Statistics, comment: &str) {
    append(to, block::STATISTICS, |to| {
        to.extend_from_slice(&interface.to_le_bytes());
        to.extend_from_slice(&time(counts.times[1]));
        text(to, option::COMMENT, comment);
        option_of(to, option::STATISTICS_START, &time(counts.times[0]));
        option_of(to, option::STATISTICS_END, &time(counts.times[1]));
        for (code, count) in [
            (option::STATISTICS_RECEIVED, counts.received),
            (option::STATISTICS_DROPPED, counts.dropped),
            (option::STATISTICS_ACCEPTED, counts.accepted),
            (option::STATISTICS_UNREAD, counts.unread),
            (option::STATISTICS_DELIVERED, counts.delivered),
        ] {
            option_of(to, code, &count.to_le_bytes());
        }
        end_options(to);
    });
}

/// Appends a block, whose length stands at both ends.
fn append(to: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = to.len();
    to.extend_from_slice(&kind.to_le_bytes());
    to.extend_from_slice(&[0; 4]);
    body(to);
    let len = ((to.len() - begin + 4) as u32).to_le_bytes();
    to.extend_from_slice(&len);
    if let Some(room) = to.get_mut(begin + 4..begin + 8) {
        room.copy_from_slice(&len);
    }
}

/// Returns a time as blocks have it: the upper half first, in either byte order.
fn time(nanos: u64) -> [u8; 8] {
    nanos.rotate_left(32).to_le_bytes()
}

/// Appends bytes up to the next multiple of four.
fn padded(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(bytes);
    to.resize(to.len() + bytes.len().next_multiple_of(4) - bytes.len(), 0);
}

fn option_of(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    to.extend_from_slice(&code.to_le_bytes());
    to.extend_from_slice(&(value.len() as u16).to_le_bytes());
    padded(to, value);
}

/// Appends a text, unless it is empty.
fn text(to: &mut Vec<u8>, code: u16, text: &str) {
    let cut = text.floor_char_boundary(TEXT_MAX);
    if let Some(text) = text.get(..cut).filter(|text| !text.is_empty()) {
        option_of(to, code, text.as_bytes());
    }
}

fn end_options(to: &mut Vec<u8>) {
    option_of(to, option::END, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};

    #[test]
    fn blocks_are_read_as_they_were_meant() {
        let mut file = Vec::new();
        section(&mut file, "ringdns", "all");
        interface(&mut file, "worker0", "first");
        let bytes: Vec<u8> = (0..61).collect();
        let nanos = 1_700_000_000_123_456_789;
        packet(&mut file, &Packet { interface: 0, nanos, flow: Flow::Outbound, comment: "é", bytes: &bytes });
        let counts =
            Statistics { times: [1, nanos], received: 10, dropped: 1, accepted: 6, unread: 2, delivered: 4 };
        statistics(&mut file, 0, &counts, &"x".repeat(TEXT_MAX + 1));
        let mut reader = PcapNgReader::new(&file[..]).unwrap();
        assert!(format!("{:?}", reader.section().options).contains("ringdns"));
        let mut seen = 0;
        while let Some(read) = reader.next_block() {
            let shown = match read.unwrap() {
                Block::InterfaceDescription(interface) => {
                    assert_eq!(u32::from(interface.linktype), 1);
                    format!("{:?}", interface.options)
                }
                Block::EnhancedPacket(packet) => {
                    assert_eq!((&packet.data[..], packet.timestamp.as_nanos()), (&bytes[..], nanos.into()));
                    format!("{:?}", packet.options)
                }
                Block::InterfaceStatistics(statistics) => {
                    // The crate reads this time as one number, against the format.
                    assert_eq!(statistics.timestamp.rotate_left(32), nanos);
                    format!("{:?}", statistics.options)
                }
                other => panic!("{other:?}"),
            };
            let expected = [
                &["worker0", "first", "IfTsResol(9)"][..],
                &["\"é\"", "Flags(2)"],
                &["IsbIfRecv(10)", "IsbIfDrop(1)", "IsbFilterAccept(6)", "IsbOsDrop(2)", "IsbUsrDeliv(4)"],
            ][seen];
            assert!(expected.iter().all(|part| shown.contains(part)), "{shown}: {expected:?}");
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
