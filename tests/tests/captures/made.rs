//! Writes an artificial capture, with every form in which a message can appear.

use std::path::Path;
use std::time::Duration;

use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder, UdpHeader, VlanId,
};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use ringdns_testkit::{Asked, Query, TXT};

/// Numbers of queries in the capture, and of those answered over UDP and over TCP.
pub const HOLDS: (usize, usize, usize) = (9, 4, 4);

const CLIENT: [u8; 4] = [192, 0, 2, 1];
const SERVER: [u8; 4] = [192, 0, 2, 53];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const PORT: u16 = 40_000;

type Frames = Vec<Vec<u8>>;

pub fn write(path: &Path) {
    let mut frames = Frames::new();
    plain(&mut frames);
    over_ipv6_and_a_vlan(&mut frames);
    in_fragments(&mut frames);
    over_tcp(&mut frames);
    let mut file = PcapWriter::new(std::fs::File::create(path).unwrap()).unwrap();
    for (frame, millis) in frames.iter().zip(0..) {
        let length = u32::try_from(frame.len()).unwrap();
        file.write_packet(&PcapPacket::new(Duration::from_millis(millis), length, frame)).unwrap();
    }
}

fn address(query: &Query) -> Vec<u8> {
    Asked(query.wire()).address([198, 51, 100, 7])
}

fn datagram(from_client: bool, message: &[u8]) -> Vec<u8> {
    let ends = if from_client { (CLIENT, SERVER, PORT, 53) } else { (SERVER, CLIENT, 53, PORT) };
    let builder = PacketBuilder::ethernet2(MACS[0], MACS[1]).ipv4(ends.0, ends.1, 64).udp(ends.2, ends.3);
    let mut frame = Vec::new();
    builder.write(&mut frame, message).unwrap();
    frame
}

/// Adds three queries: one with an answer and mixed letter case; one for a name that does not
/// exist; one without an answer.
fn plain(frames: &mut Frames) {
    let www = Query::a("wWw.Example").id(1);
    frames.extend([datagram(true, &www.wire()), datagram(false, &address(&www))]);
    let none = Query::a("none.example").id(2).dnssec(true, false);
    let mut denied = Asked(none.wire()).response(3, &[]);
    denied[9] = 1;
    denied.extend([0xc0, 17, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0, 0, 0, 0, 1]);
    denied.extend([0; 12]);
    denied.extend(60u32.to_be_bytes());
    frames.extend([datagram(true, &none.wire()), datagram(false, &denied)]);
    frames.push(datagram(true, &Query::a("lost.example").id(3).wire()));
    // Padded to the minimum length of Ethernet.
    frames.last_mut().unwrap().resize(100, 0);
}

fn over_ipv6_and_a_vlan(frames: &mut Frames) {
    let query = Query::a("six.example").id(4).edns(1232);
    let (client, server) = ([0xfd; 16], [0xfe; 16]);
    for (message, from, to, ports) in
        [(query.wire(), client, server, (PORT, 53)), (address(&query), server, client, (53, PORT))]
    {
        let builder = PacketBuilder::ethernet2(MACS[0], MACS[1])
            .single_vlan(VlanId::try_new(11).unwrap())
            .ipv6(from, to, 64)
            .udp(ports.0, ports.1);
        let mut frame = Vec::new();
        builder.write(&mut frame, &message).unwrap();
        frames.push(frame);
    }
}

/// Adds a text of 1,500 bytes, in two fragments, the second of which comes first.
fn in_fragments(frames: &mut Frames) {
    let query = Query::of("long.example", TXT).id(5).edns(4096);
    let text = [&[250][..], &[b'x'; 250]].concat().repeat(6);
    let mut record = vec![0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44];
    record.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    record.extend(&text);
    let answer = Asked(query.wire()).response(0, &[record]);
    let header = UdpHeader::without_ipv4_checksum(53, PORT, answer.len()).unwrap();
    let whole = [&header.to_bytes()[..], &answer].concat();
    frames.push(datagram(true, &query.wire()));
    for (at, part, more) in [(1024, &whole[1024..], false), (0, &whole[..1024], true)] {
        let length = u16::try_from(part.len()).unwrap();
        let mut ip = Ipv4Header::new(length, 64, IpNumber::UDP, SERVER, CLIENT).unwrap();
        ip.identification = 4711;
        ip.dont_fragment = false;
        ip.more_fragments = more;
        ip.fragment_offset = IpFragOffset::try_new(at / 8).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        let link = Ethernet2Header { source: MACS[1], destination: MACS[0], ether_type: EtherType::IPV4 };
        frames.push([&link.to_bytes()[..], &ip.to_bytes(), part].concat());
    }
}

/// Adds four queries on one connection: two in one segment; one in three segments, of which the
/// last two are swapped and one is repeated; and one after a hole that contains its length.
fn over_tcp(frames: &mut Frames) {
    let framed =
        |message: &[u8]| [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
    let queries: Vec<Query> =
        (0..4).map(|id| Query::a(&format!("stream{id}.example")).id(100 + id)).collect();
    let sent: Vec<_> = queries.iter().map(|query| framed(&query.wire())).collect();
    let answers: Vec<_> = queries.iter().map(|query| framed(&address(query))).collect();
    let segment = |from_client: bool, sequence: u32, syn: bool, data: &[u8]| {
        let ends = if from_client { (CLIENT, SERVER, PORT, 53) } else { (SERVER, CLIENT, 53, PORT) };
        let mut builder = PacketBuilder::ethernet2(MACS[0], MACS[1])
            .ipv4(ends.0, ends.1, 64)
            .tcp(ends.2, ends.3, sequence, 1000)
            .ack(1);
        if syn {
            builder = builder.syn();
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, data).unwrap();
        frame
    };
    // Sequence numbers wrap around during the connection.
    let first = u32::MAX - 50;
    let [data, said] = [sent.concat(), answers.concat()];
    let [a, b] = [sent[0].len() + sent[1].len(), data.len() - sent[3].len()];
    let at = |offset: usize| first.wrapping_add(1).wrapping_add(u32::try_from(offset).unwrap());
    let piece = |from: usize, to: usize| segment(true, at(from), false, &data[from..to]);
    frames.push(segment(true, first, true, &[]));
    frames.push(segment(false, 7000, true, &[]));
    frames.push(piece(0, a));
    frames.extend([piece(a, a + 1), piece(a + 20, b), piece(a + 1, a + 20), piece(a + 20, b)]);
    frames.push(piece(b + 2, data.len()));
    frames.push(segment(false, 7001, false, &said[..30]));
    frames.push(segment(false, 7031, false, &said[30..]));
}
