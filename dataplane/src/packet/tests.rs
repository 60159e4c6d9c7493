//! Tests: etherparse makes and reads the frames, so that our code is not checked against itself.

use super::*;
use etherparse::{EtherType as Ether, IpNumber, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
use proptest::prelude::*;

const MESSAGE: &[u8] = b"a message of an odd number of bytes";

/// Link header of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link {
    /// Ethernet without a tag.
    Plain,
    /// One VLAN tag.
    Vlan,
    /// Two VLAN tags.
    QinQ,
}

/// Returns the frame of a query as a client would send it.
pub(crate) fn frame(link: Link, v6: bool, message: &[u8]) -> Vec<u8> {
    let client = if v6 { [0xfd; 16].into() } else { [10, 0, 0, 1].into() };
    frame_from(client, link, message)
}

/// Returns the frame of a query from `client`.
pub(crate) fn frame_from(client: IpAddr, link: Link, message: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 7]);
    let vlan = |id| VlanId::try_new(id).unwrap();
    let mut bytes = Vec::new();
    macro_rules! build {
        ($link:expr) => {
            match client {
                IpAddr::V6(client) => {
                    let ip = $link.ipv6(client.octets(), [0xfe; 16], 3);
                    ip.udp(4242, 53).write(&mut bytes, message).unwrap()
                }
                IpAddr::V4(client) => {
                    let ip = $link.ipv4(client.octets(), [10, 0, 0, 2], 3);
                    ip.udp(4242, 53).write(&mut bytes, message).unwrap()
                }
            }
        };
    }
    match link {
        Link::Plain => build!(ethernet),
        Link::Vlan => build!(ethernet.single_vlan(vlan(53))),
        Link::QinQ => build!(ethernet.double_vlan(vlan(99), vlan(53))),
    }
    bytes
}

pub(crate) fn every_kind() -> impl Iterator<Item = (Link, bool)> {
    [Link::Plain, Link::Vlan, Link::QinQ].into_iter().flat_map(|link| [(link, false), (link, true)])
}

/// Returns the message of a frame whose checksums are right according to etherparse.
pub(crate) fn received(frame: &[u8]) -> Vec<u8> {
    let parsed = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = &parsed.transport else { panic!("no UDP in the frame") };
    let header = udp.to_header();
    let sum = match parsed.net.clone().unwrap() {
        etherparse::NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            header.calc_checksum_ipv4(&ip, udp.payload()).unwrap()
        }
        etherparse::NetSlice::Ipv6(ip) => {
            header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(header.checksum, sum);
    udp.payload().to_vec()
}

/// Returns the offset of a frame's UDP checksum.
pub(crate) fn checksum_at(link: Link, v6: bool) -> usize {
    let tags = match link {
        Link::Plain => 0,
        Link::Vlan => 4,
        Link::QinQ => 8,
    };
    14 + tags + if v6 { 40 } else { 20 } + 6
}

/// Replaces the UDP checksum by the partial one that Linux leaves for a NIC to complete.
pub(crate) fn leave_partial(frame: &mut [u8], link: Link, v6: bool) {
    let at = checksum_at(link, v6);
    let addresses = at - 6 - if v6 { 32 } else { 8 }..at - 6;
    let length = u32::from(u16::from_be_bytes([frame[at - 2], frame[at - 1]]));
    let pairs = frame[addresses].as_chunks::<2>().0.iter();
    let mut sum = pairs.map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>() + length + 17;
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    frame[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
}

/// Returns the frame of the reply to a query's frame.
fn turned(query: &[u8], reply: &[u8]) -> Vec<u8> {
    let (envelope, _) = Envelope::open(query, Checksums::Verify).unwrap();
    let mut buffer = query.to_vec();
    buffer.resize(2048, 0xee);
    buffer[envelope.message()..][..reply.len()].copy_from_slice(reply);
    let len = envelope.seal(&mut buffer, reply.len(), None);
    buffer.truncate(len);
    buffer
}

#[test]
fn frames_are_opened_where_the_message_begins() {
    for (link, v6) in every_kind() {
        let frame = frame(link, v6, MESSAGE);
        let (envelope, len) = Envelope::open(&frame, Checksums::Verify).unwrap();
        assert_eq!(&frame[envelope.message()..][..len], MESSAGE, "{link:?} v6={v6}");
        let client = envelope.client(&frame).unwrap();
        assert_eq!((client.is_ipv6(), client.port()), (v6, 4242));
    }
}

#[test]
fn replies_go_back_where_the_query_came_from() {
    for (link, v6) in every_kind() {
        let query = frame(link, v6, MESSAGE);
        let reply = turned(&query, b"a longer reply than its query was, and of even length");
        let parsed = SlicedPacket::from_ethernet(&reply).unwrap();
        let ethernet = parsed.link.clone().unwrap().to_header().unwrap().ethernet2().unwrap();
        assert_eq!((ethernet.source, ethernet.destination), ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 9]));
        assert_eq!(parsed.link_exts.len(), SlicedPacket::from_ethernet(&query).unwrap().link_exts.len());
        let Some(TransportSlice::Udp(udp)) = &parsed.transport else { panic!("no UDP in the reply") };
        assert_eq!((udp.source_port(), udp.destination_port()), (53, 4242));
        assert_eq!(udp.payload(), b"a longer reply than its query was, and of even length");
        let header = udp.to_header();
        match parsed.net.clone().unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                let ip = ip.header().to_header();
                assert_eq!((ip.source, ip.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
                assert_eq!((ip.time_to_live, ip.dont_fragment), (HOP_LIMIT, true));
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert_eq!(header.calc_checksum_ipv4(&ip, udp.payload()).unwrap(), header.checksum);
            }
            etherparse::NetSlice::Ipv6(ip) => {
                let ip = ip.header().to_header();
                assert_eq!((ip.source, ip.destination), ([0xfe; 16], [0xfd; 16]));
                assert_eq!(ip.hop_limit, HOP_LIMIT);
                assert_eq!(header.calc_checksum_ipv6(&ip, udp.payload()).unwrap(), header.checksum);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn padding_is_neither_read_nor_sent_on() {
    let mut query = frame(Link::Plain, false, b"tiny");
    query.resize(60, 0xaa);
    assert_eq!(Envelope::open(&query, Checksums::Verify).unwrap().1, 4);
    let reply = turned(&query, b"wee");
    assert_eq!(reply.len(), 60, "frames are padded to the least length");
    assert!(reply[14 + 20 + 8 + 3..].iter().all(|byte| *byte == 0), "with zeros, not with what was there");
}

/// Returns the result of `Envelope::open` for a frame changed by `change`.
fn opened(v6: bool, checksums: Checksums, change: impl FnOnce(&mut Vec<u8>)) -> Option<DropReason> {
    let mut frame = frame(Link::Plain, v6, MESSAGE);
    change(&mut frame);
    Envelope::open(&frame, checksums).err()
}

#[test]
fn what_is_not_plain_udp_is_dropped_under_its_reason() {
    use Checksums::{Trust, Verify};
    let v4 = |change: &dyn Fn(&mut Vec<u8>)| opened(false, Trust, change);
    let v6 = |change: &dyn Fn(&mut Vec<u8>)| opened(true, Trust, change);
    assert_eq!(v4(&|f| f[12..14].copy_from_slice(&Ether::ARP.0.to_be_bytes())), Some(DropReason::NotIp));
    assert_eq!(v4(&|f| f.truncate(13)), Some(DropReason::BadLength));
    assert_eq!(v4(&|f| f.truncate(30)), Some(DropReason::BadLength));
    assert_eq!(v4(&|f| f.truncate(f.len() - 1)), Some(DropReason::BadLength));
    assert_eq!(v4(&|f| f[14] = 0x46), Some(DropReason::NotPlainUdp), "options");
    assert_eq!(v4(&|f| f[20] = 0x20), Some(DropReason::NotPlainUdp), "more fragments");
    assert_eq!(v4(&|f| f[21] = 1), Some(DropReason::NotPlainUdp), "a later fragment");
    assert_eq!(v4(&|f| f[23] = IpNumber::TCP.0), Some(DropReason::NotPlainUdp));
    assert_eq!(v4(&|f| f[17] += 1), Some(DropReason::BadLength), "IP longer than UDP");
    assert_eq!(v4(&|f| f[17] = 10), Some(DropReason::BadLength), "IP shorter than its header");
    assert_eq!(v4(&|f| f[39] -= 1), Some(DropReason::BadLength), "UDP shorter than IP");
    assert_eq!(v4(&|f| f[34..36].fill(0)), Some(DropReason::BadSource), "port 0");
    assert_eq!(v6(&|f| f[14] = 0x40), Some(DropReason::NotPlainUdp));
    assert_eq!(v6(&|f| f[20] = 0), Some(DropReason::NotPlainUdp), "hop-by-hop options");
    assert_eq!(v6(&|f| f[22] = 0xff), Some(DropReason::BadSource), "multicast");
    assert_eq!(v6(&|f| f[22..38].fill(0)), Some(DropReason::BadSource), "unspecified");
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let source: Ipv4Addr = source.parse().unwrap();
        let from = |f: &mut Vec<u8>| f[26..30].copy_from_slice(&source.octets());
        assert_eq!(opened(false, Verify, from), Some(DropReason::BadSource), "{source}");
    }
    for source in ["::1", "::ffff:192.0.2.1", "::192.0.2.1"] {
        let source: Ipv6Addr = source.parse().unwrap();
        let from = |f: &mut Vec<u8>| f[22..38].copy_from_slice(&source.octets());
        assert_eq!(opened(true, Verify, from), Some(DropReason::BadSource), "{source}");
        assert_eq!(opened(true, Trust, from), None, "kernel sockets have such clients");
    }
    for source in ["64:ff9b::192.0.2.1", "::1:0:0:1"] {
        let source: Ipv6Addr = source.parse().unwrap();
        let from = |f: &mut Vec<u8>| f[22..38].copy_from_slice(&source.octets());
        let reason = Some(DropReason::BadChecksum);
        assert_eq!(opened(true, Verify, from), reason, "{source}: RFC 6052; outside ::/80");
    }
    let unspecified = opened(true, Trust, |f| f[22..38].fill(0));
    assert_eq!(unspecified, Some(DropReason::BadSource), "no reply can reach it");
    assert_eq!(opened(false, Verify, |f| f[24] ^= 1), Some(DropReason::BadChecksum), "IP header");
    assert_eq!(opened(false, Verify, |f| f[50] ^= 1), Some(DropReason::BadChecksum), "message");
    assert_eq!(opened(true, Verify, |f| f[70] ^= 1), Some(DropReason::BadChecksum), "message");
    assert_eq!(opened(false, Trust, |f| f[50] ^= 1), None, "not looked at");
    assert_eq!(opened(false, Verify, |f| f[40..42].fill(0)), None, "RFC 768: none was made");
    assert_eq!(opened(true, Verify, |f| f[60..62].fill(0)), Some(DropReason::BadChecksum), "RFC 8200");
}

#[test]
fn a_partial_checksum_is_accepted_in_copy_mode_alone_and_answered_with_a_whole_one() {
    for (link, v6) in every_kind() {
        let mut frame = frame(link, v6, MESSAGE);
        leave_partial(&mut frame, link, v6);
        assert_eq!(Envelope::open(&frame, Checksums::Verify), Err(DropReason::BadChecksum));
        let (envelope, len) = Envelope::open(&frame, Checksums::AllowPartial).unwrap();
        assert!(envelope.is_partial());
        assert_eq!(&frame[envelope.message()..][..len], MESSAGE, "{link:?} v6={v6}");
        // The change of the message's sum is known, but there is no complete checksum to apply it
        // to.
        let change = checksum::change(checksum::sum(MESSAGE, 0), checksum::sum(b"reply", 0));
        frame.resize(256, 0xee);
        frame[envelope.message()..][..5].copy_from_slice(b"reply");
        let reply_len = envelope.seal(&mut frame, 5, Some(change));
        assert_eq!(received(&frame[..reply_len]), b"reply");
    }
}

#[test]
fn all_but_the_udp_checksum_is_checked_of_a_datagram_with_a_partial_one() {
    let partial = |v6: bool, at: usize| {
        opened(v6, Checksums::AllowPartial, |frame| {
            leave_partial(frame, Link::Plain, v6);
            frame[at] ^= 1;
        })
    };
    assert_eq!(partial(false, 50), None, "the message is protected by nothing");
    assert_eq!(partial(false, 24), Some(DropReason::BadChecksum), "IPv4 header");
    assert_eq!(partial(false, 27), Some(DropReason::BadChecksum), "IPv4 source");
    assert_eq!(partial(true, 23), Some(DropReason::BadChecksum), "IPv6 source");
    assert_eq!(partial(true, 61), Some(DropReason::BadChecksum), "checksum");
    let zero = |frame: &mut Vec<u8>| frame[60..62].fill(0);
    assert_eq!(opened(true, Checksums::AllowPartial, zero), Some(DropReason::BadChecksum), "RFC 8200");
}

#[test]
fn three_tags_are_not_ip() {
    let mut frame = frame(Link::QinQ, false, MESSAGE);
    let tag = frame[12..16].to_vec();
    frame.splice(12..12, tag);
    assert_eq!(Envelope::open(&frame, Checksums::Trust).err(), Some(DropReason::NotIp));
}

#[test]
fn addressed_frames_are_what_a_client_would_send() {
    for (client, server) in [("192.0.2.1:999", "192.0.2.2:53"), ("[2001:db8::1]:999", "[2001:db8::2]:53")] {
        let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
        let mut buffer = [0xeeu8; 256];
        let at = if matches!(client, std::net::SocketAddr::V4(_)) { 42 } else { 62 };
        buffer[at..at + MESSAGE.len()].copy_from_slice(MESSAGE);
        assert_eq!(address(&mut buffer, client, server, MESSAGE.len(), Checksums::Verify), Some(at));
        let frame = &buffer[..at + MESSAGE.len()];
        let (envelope, len) = Envelope::open(frame, Checksums::Verify).unwrap();
        assert_eq!(&frame[envelope.message()..][..len], MESSAGE);
        assert_eq!(envelope.client(frame), Some(client));
    }
}

#[test]
fn the_largest_replies_fit_the_link() {
    let largest = |udp_limit, mtu| {
        let LargestReplies { v4, v6 } = LargestReplies::new(udp_limit, mtu);
        (v4, v6)
    };
    assert_eq!(largest(1232, None), (1232, 1232));
    assert_eq!(largest(1232, Some(1280)), (1232, 1232));
    assert_eq!(largest(1400, Some(1280)), (1252, 1232));
    assert_eq!(largest(1232, Some(1000)), (972, 952));
    assert_eq!(largest(1232, Some(u32::MAX)), (1232, 1232));
    // 512 bytes need no leave of anybody.
    assert_eq!((largest(1232, Some(68)), largest(1232, Some(0))), ((512, 512), (512, 512)));
}

proptest! {
    /// Arbitrary bytes cause no panic, and an opened message is within its frame.
    #[test]
    fn any_frame_is_opened_or_dropped(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0usize..12,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        if let Some((link, v6)) = every_kind().nth(kind) {
            bytes = frame(link, v6, &bytes);
        }
        for (at, byte) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
        }
        for checksums in [Checksums::Verify, Checksums::AllowPartial, Checksums::Trust] {
            if let Ok((envelope, len)) = Envelope::open(&bytes, checksums) {
                prop_assert!(envelope.message() + len <= bytes.len());
                prop_assert!(envelope.message() <= HEADERS_MAX);
            }
        }
    }

    /// Of all values of the UDP checksum, only these are accepted: the right one, the partial one
    /// if that is allowed, and zero over IPv4.
    #[test]
    fn a_checksum_is_right_or_partial_or_dropped(
        message in prop::collection::vec(any::<u8>(), 0..100),
        client in prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)],
        choice in 0usize..3,
        any in any::<u16>(),
    ) {
        let (link, v6) = (Link::Plain, client.is_ipv6());
        let mut frame = frame_from(client, link, &message);
        prop_assume!(Envelope::open(&frame, Checksums::Verify).is_ok());
        let field = checksum_at(link, v6)..checksum_at(link, v6) + 2;
        let value = |frame: &[u8]| u16::from_be_bytes([frame[field.start], frame[field.start + 1]]);
        let right = value(&frame);
        leave_partial(&mut frame, link, v6);
        let partial = value(&frame);
        let wanted = [right, partial, any][choice];
        frame[field.clone()].copy_from_slice(&wanted.to_be_bytes());
        // Zero and all ones are the same number in one's complement, of which RFC 768 sends the
        // second.
        let is_right = wanted == right || (right, wanted) == (0xffff, 0) || (!v6 && wanted == 0);
        let is_partial = wanted == partial && !is_right;
        let verify = Envelope::open(&frame, Checksums::Verify);
        let allow = Envelope::open(&frame, Checksums::AllowPartial);
        prop_assert_eq!(verify.is_ok(), is_right && !(v6 && wanted == 0));
        prop_assert_eq!(allow.is_ok(), verify.is_ok() || is_partial);
        prop_assert_eq!(allow.is_ok_and(|(envelope, _)| envelope.is_partial()), is_partial);
        prop_assert!(verify.is_err() || verify == allow, "whatever else is accepted, is seen as before");
    }

    /// The sum of the parts equals RFC 1071's sum of the whole, computed in the plain way.
    #[test]
    fn checksums_are_rfc_1071s(bytes in prop::collection::vec(any::<u8>(), 0..300), start in any::<u16>()) {
        let mut plain = u32::from(start);
        for pair in bytes.chunks(2) {
            plain += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while plain > 0xffff {
            plain = (plain >> 16) + (plain & 0xffff);
        }
        let ours = checksum::fold(checksum::sum(&bytes, checksum::word(start)));
        prop_assert_eq!(u32::from(ours), plain);
    }
}
